"""The parts of bench/net, the network bench."""
