#!/usr/bin/env python3
"""Clients that die in waves leave nothing behind in a server.

usage: waves.py EXAMPLES [--seconds S] [--clients N] [--connections N] [--rest S] [--slack PART]
       [--workers W]

Five waves against the echo and then the HTTP example, in S seconds for each. In a wave processes
with 200 connections each send and receive at random. Some are killed by SIGKILL at random times,
in the middle of whatever they do, and replaced; one stays and resets its connections (SO_LINGER
with 0) at random. A server keeps the stacks of its busiest moment, so each wave begins with the
same burst, which is larger than what comes after it. The allocator is told to keep nothing, and a
few requests at the end make it look again (it gives up where threads meet). After each wave the
server must have the descriptors that it had before, its memory after waves 2 to 5 must be within
2 % of that after the first, and it must not use the processor.
"""

import argparse
import os
import random
import selectors
import signal
import socket
import struct
import sys
import time

import serving

WAVES = 5
DIE_MIN, DIE_MAX = 0.1, 1.5  # how old a process gets
RESET = struct.pack("ii", 1, 0)
CPU_SLACK = 0.005


class Clients:
    """The life of a client process."""

    def __init__(self, address, requests, count, resets, seed):
        self.address, self.requests, self.resets = address, requests, resets
        self.chance = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        for _ in range(count):
            self.open()

    def open(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self.address)
        self.selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE,
                               memoryview(self.chance.choice(self.requests)))

    def send(self, key):
        left = key.data[key.fileobj.send(key.data[:self.chance.randrange(1, 40000)]):]
        events = selectors.EVENT_READ
        if not left:
            left = memoryview(self.chance.choice(self.requests))
        if self.chance.random() < 0.7:
            events |= selectors.EVENT_WRITE
        self.selector.modify(key.fileobj, events, left)

    def step(self, key, events):
        if self.resets and self.chance.random() < 0.02:
            reset(key.fileobj)
            raise ConnectionError
        if events & selectors.EVENT_READ:
            if self.chance.random() < 0.8 and not key.fileobj.recv(1 << 16):
                raise ConnectionError
            self.selector.modify(key.fileobj, selectors.EVENT_READ | selectors.EVENT_WRITE,
                                 key.data)
        elif events & selectors.EVENT_WRITE:
            self.send(key)

    def live(self):
        """Until it is killed."""
        while True:
            for key, events in self.selector.select():
                try:
                    self.step(key, events)
                except BlockingIOError:
                    pass
                except OSError:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.open()


def spawn(server, requests, count, resets, seed):
    """Starts a client process; it ends by a signal, and not later than this process."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(600)
            os.nice(5)
            if os.getppid() == parent:
                Clients(server.address, requests, count, resets, seed).live()
        finally:
            os._exit(1)
    return pid


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == -signal.SIGKILL, f"a client process ended with {code} by itself"


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def burst(server, exchange, options):
    """More connections than the client processes have, each with a large message, then reset."""
    sockets = server.connect_all((options.clients + 3) * options.connections)
    serving.ask_all(sockets, *exchange, together=len(sockets))
    for sock in sockets:
        reset(sock)


def wave(server, requests, options, chance, seconds):
    """Gives how many processes were killed."""
    def start(resets):
        pid = spawn(server, requests, options.connections, resets, chance.random())
        return pid, time.monotonic() + chance.uniform(DIE_MIN, DIE_MAX)

    end = time.monotonic() + seconds
    lives = [start(False) for _ in range(options.clients)]
    resetter = start(True)[0]
    killed = 0
    try:
        while (now := time.monotonic()) < end:
            time.sleep(max(0.0, min(end, *(dies for _, dies in lives)) - now))
            for i, (pid, dies) in enumerate(lives):
                if time.monotonic() >= dies:
                    kill(pid)
                    killed += 1
                    lives[i] = start(False)
    finally:
        for pid in [pid for pid, _ in lives] + [resetter]:
            kill(pid)
    return killed + len(lives) + 1


def settle(server, exchange, before):
    """A few requests when nobody else is there any more; they must still be answered."""
    server.wait_descriptors(before)
    sockets = server.connect_all(16)
    for _ in range(4):
        serving.ask_all(sockets, *exchange, together=1)
    for sock in sockets:
        sock.close()


def check(server, kind, requests, exchange, options):
    """All waves against one server."""
    chance = random.Random(kind)
    before = server.descriptors()
    first, held = None, True
    for number in range(1, WAVES + 1):
        burst(server, exchange, options)
        killed = wave(server, requests, options, chance, options.seconds / WAVES)
        settle(server, exchange, before)
        left = server.wait_descriptors(before)
        busy = server.cpu_share(options.rest)
        memory = server.resident()
        first = memory if first is None else first
        drift = memory / first - 1
        good = left == before and abs(drift) <= options.slack and busy <= CPU_SLACK
        held = held and good
        print(f"  {kind}, wave {number}: {killed} processes killed; descriptors {before} before, "
              f"{left} after; memory {memory >> 10} KiB ({drift:+.2%}); "
              f"then idle with {busy:.2%} of a processor{'' if good else ': FAILED'}", flush=True)
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", help="the folder of the programs")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--rest", type=float, default=1, help="seconds to look at it idle")
    parser.add_argument("--slack", type=float, default=0.02, help="of memory")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    serving.want_descriptors(4 * (options.clients + 1) * options.connections + 200)
    body = random.Random(1).randbytes(1 << 16)
    post = serving.post(body)
    kinds = {"echo": ([body[:64], body[:4096], body], (body, body)),
             "http": ([serving.GET, serving.GET * 16, post[0]], post)}
    os.environ["MALLOC_CONF"] = "dirty_decay_ms:0,muzzy_decay_ms:0,tcache:false"
    held = True
    for kind, (requests, exchange) in kinds.items():
        path = serving.program(options.examples, f"pica-{kind}-server")
        with serving.Server(path, workers=options.workers) as server:
            held = check(server, kind, requests, exchange, options) and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
