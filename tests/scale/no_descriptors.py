#!/usr/bin/env python3
"""A server without free descriptors waits quietly, and accepts again once there are some.

usage: no_descriptors.py EXAMPLES [--clients N] [--spare N] [--seconds S] [--workers W]

The echo example may open 50 descriptors more than it needs, and 200 clients come. Those that it
has accepted get their answers and stay; while the others wait it must use less than 5 % of a
processor. Then the clients end, each once it has been answered, and every one must be answered.
"""

import argparse
import selectors
import sys
import time

import serving

CPU_SLACK = 0.05
MESSAGE = bytes(range(64))


def ask(sockets):
    """Sends the message over each; gives a selector of those that wait for the answer."""
    selector = selectors.DefaultSelector()
    for sock in sockets:
        sock.sendall(MESSAGE)
        selector.register(sock, selectors.EVENT_READ, bytearray())
    return selector


def answered(selector, patience):
    """Those that get their answer now; none, if patience seconds go by."""
    done = []
    for key, _ in selector.select(patience):
        data = key.fileobj.recv(len(MESSAGE))
        assert data, "the server closed a connection that waited"
        key.data.extend(data)
        if len(key.data) == len(MESSAGE):
            assert key.data == MESSAGE, "wrong answer"
            selector.unregister(key.fileobj)
            done.append(key.fileobj)
    return done


def check(server, options, before):
    sockets = server.connect_all(options.clients)
    selector = ask(sockets)
    served = []
    while done := answered(selector, 1.0):
        served += done
    waiting = options.clients - len(served)
    # As many as it had descriptors for, and it is at its limit now.
    exact = len(served) == options.spare and server.descriptors() == before + options.spare
    busy = server.cpu_share(options.seconds)
    print(f"{options.workers} workers: {len(served)} of {options.clients} clients served with "
          f"{options.spare} descriptors to spare, {waiting} wait; {busy:.2%} of a processor in "
          f"{options.seconds:g} s", flush=True)
    start = time.monotonic()
    longest = 0.0
    for sock in served:
        sock.close()
    while waiting:
        last = time.monotonic()
        done = answered(selector, serving.LIMIT)
        longest = max(longest, time.monotonic() - last)
        assert done, f"{waiting} clients are not served though descriptors are free"
        waiting -= len(done)
        for sock in done:
            sock.close()
    took = time.monotonic() - start
    left = server.wait_descriptors(before)
    print(f"  all served within {took:.2f} s, the longest pause {longest:.2f} s; descriptors "
          f"{before} before, {left} after", flush=True)
    return exact and busy < CPU_SLACK and left == before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", help="the folder of the programs")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--spare", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    path = serving.program(options.examples, "pica-echo-server")
    with serving.Server(path, workers=options.workers) as server:
        need = server.descriptors()
    with serving.Server(path, workers=options.workers, descriptors=need + options.spare) as server:
        return 0 if check(server, options, need) else 1


if __name__ == "__main__":
    sys.exit(main())
