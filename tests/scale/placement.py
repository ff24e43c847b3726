#!/usr/bin/env python3
"""Connections are spread evenly over the workers.

usage: placement.py EXAMPLES [--connections N] [--rounds N] [--workers W,...]

64 connections to the echo example send the same number of messages, one at a time. The steps of
each worker's tasks, divided by those of one connection, tell how many connections it serves: no
two workers may differ by more than two of them from an even share.
"""

import argparse
import sys

import serving

SLACK = 2.0
MESSAGE = b"m" * 64


def settled(server):
    """The steps, once they stand still."""
    before = server.served()
    while (now := server.served()) != before:
        before = now
    return now


def check(server, workers, options):
    connections = server.connect_all(options.connections)
    serving.ask_all(connections, MESSAGE, MESSAGE, together=1)
    before = settled(server)
    for _ in range(options.rounds):
        serving.ask_all(connections, MESSAGE, MESSAGE, together=1)
    steps = [b - a for a, b in zip(before, settled(server))]
    share = [n * options.connections / max(1, sum(steps)) for n in steps]
    for connection in connections:
        connection.close()
    even = options.connections / workers
    held = len(share) == workers and all(abs(n - even) <= SLACK for n in share)
    print(f"{workers} workers, {options.connections} connections, {options.rounds} messages each: "
          f"{sum(steps) / options.connections / options.rounds:.2f} steps a message, "
          f"connections of each worker {' '.join(f'{n:.2f}' for n in share)}, "
          f"even {even:.2f}{'' if held else ': UNEVEN'}", flush=True)
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", help="the folder of the programs")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", default="2,3")
    options = parser.parse_args()
    path = serving.program(options.examples, "pica-echo-server")
    held = True
    for workers in (int(word) for word in options.workers.split(",")):
        with serving.Server(path, workers=workers) as server:
            held = check(server, workers, options) and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
