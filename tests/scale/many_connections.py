#!/usr/bin/env python3
"""What an idle connection costs a server, with 10,000 of them open at once.

usage: many_connections.py EXAMPLES [--connections N] [--seconds S] [--workers W] [--goal BYTES]

Each connection gets a message of 64 bytes back and then one of 64 KiB, then all are silent for
some seconds. The cost is what resident anonymous memory and page tables have grown by, for each
connection. That of the echo example must stay within the goal; that of the HTTP example is
reported.
"""

import argparse
import random
import sys
import time

import serving


def grown(before, after, count):
    """Bytes for each connection: memory, page tables."""
    return tuple((b - a) / count for a, b in zip(before, after))


def measure(server, exchanges, count, seconds):
    """Gives the cost of a connection that has done the exchanges and is silent."""
    before = server.memory()
    connections = server.connect_all(count)
    fresh = grown(before, server.memory(), count)
    for request, answer in exchanges:
        serving.ask_all(connections, request, answer)
    busy = grown(before, server.memory(), count)
    time.sleep(seconds)
    quiet = grown(before, server.memory(), count)
    serving.ask_all(connections, *exchanges[0])
    for connection in connections:
        connection.close()
    print(f"  bytes each, memory + page tables: connected {fresh[0]:.0f} + {fresh[1]:.0f}, "
          f"after the messages {busy[0]:.0f} + {busy[1]:.0f}, "
          f"after {seconds:g} s of silence {quiet[0]:.0f} + {quiet[1]:.0f}", flush=True)
    return sum(quiet)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", help="the folder of the programs")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--goal", type=float, default=5632)
    options = parser.parse_args()
    serving.want_descriptors(options.connections + 200)
    chance = random.Random(1)
    bodies = chance.randbytes(64), chance.randbytes(64 << 10)
    kinds = (("echo", [(body, body) for body in bodies], options.goal),
             ("http", [(serving.GET, serving.HELLO), serving.post(bodies[1])], None))
    held = True
    for kind, exchanges, goal in kinds:
        path = serving.program(options.examples, f"pica-{kind}-server")
        # Its connections must not end by themselves while all are being asked.
        more = ("--idle", "600") if kind == "http" else ()
        with serving.Server(path, "--grace", "0.1", *more, workers=options.workers) as server:
            cost = measure(server, exchanges, options.connections, options.seconds)
        over = goal is not None and cost > goal
        print(f"{kind}: {options.connections} connections, idle cost {cost:.0f} bytes each"
              + (f", goal {goal:.0f}" if goal is not None else "") + (": TOO MUCH" if over else ""),
              flush=True)
        held = held and not over
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
