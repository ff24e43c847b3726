#!/usr/bin/env python3
"""Bad peers of the echo and the HTTP example: usage: peers.py BUILD [--seconds S] [--seed N]

Behind a proxy (proxy.py) whose connections come in pieces of a byte, late, with stalls, and some of which are cut or
reset; clients that read slowly; clients that say nothing, or only the beginning. Streams that were not cut must
arrive byte for byte, and no cut one may have a wrong byte. The HTTP example must be rid of the silent within its
limits, meanwhile others are served; afterwards a server has the descriptors that it had before.
"""

import sys
import time

import faults
import proxy
from faults import serving

IDLE = 0.5
BEGINNINGS = (b"", b"G", b"GET / HTTP/1.1\r\nHost", b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
ECHO, HTTP = "pica-echo-server", "pica-http-server"


def server_of(run, name):
    # Stalls are shorter than the limit, but a busy machine adds to them.
    limits = ("--idle", "10") if name == HTTP else ()
    return serving.Server(run.example(name), *limits, workers=run.chance.choice((1, 2, 3)),
                          environment={"PICA_ENGINE": run.engine()})


def through_proxy(run, name):
    row = run.row("4 5 14 16 18 delays and cuts", f"proxy, {name}")
    with server_of(run, name) as server:
        before = server.descriptors()
        with proxy.Proxy(server.address, run.chance.random()) as bad:
            count, most = (12, 4000) if run.short else (24, 20000)
            flows = [faults.FLOWS[name](run.chance, run.chance.choice((100, 3000, most))) for _ in range(count)]
            outcomes = faults.converse(bad.address, flows)
            faults.log(f"{name}: {bad.connections} through the proxy, {bad.cuts} cut: {dict(outcomes)}")
            wrong = faults.wrongs(outcomes, (faults.DONE, faults.LOST))
            if outcomes[faults.LOST] > bad.cuts:
                wrong.append(f"{outcomes[faults.LOST]} lost, but only {bad.cuts} cut")
        run.count(row, bad.connections, wrong + faults.settled(server, before), f"{name}, proxy")


class Slow(faults.Flow):
    """Reads a little, now and then."""

    def __init__(self, flow, chance):
        super().__init__(flow.left, flow.answer)
        self.pause = chance.uniform(0.001, 0.02)
        self.due = 0.0

    def step(self, sock, events):
        if time.monotonic() < self.due:
            events &= ~faults.selectors.EVENT_READ
        if events & faults.selectors.EVENT_READ:
            self.due = time.monotonic() + self.pause
        super().step(sock, events)


def slow_readers(run, name):
    row = run.row("14 18 28 slow peers", f"slow readers, {name}")
    with server_of(run, name) as server:
        before = server.descriptors()
        flows = [Slow(faults.FLOWS[name](run.chance, 500000 if run.short else 2000000), run.chance) for _ in range(8)]
        quick = [faults.FLOWS[name](run.chance, 2000) for _ in range(8)]
        outcomes = faults.converse(server.address, flows + quick)
        faults.log(f"{name}: slow readers: {dict(outcomes)}")
        run.count(row, len(flows), faults.wrongs(outcomes) + faults.settled(server, before), f"{name}, slow readers")


def silent(run):
    row = run.row("13 14 28 silent peers", f"--idle {IDLE}, {HTTP}")
    with serving.Server(run.example(HTTP), "--idle", str(IDLE), workers=run.chance.choice((1, 2, 3)),
                        environment={"PICA_ENGINE": run.engine()}) as server:
        before = server.descriptors()
        start = time.monotonic()
        socks = server.connect_all(32)
        for i, sock in enumerate(socks):
            sock.sendall(BEGINNINGS[i % len(BEGINNINGS)])
        begun = time.monotonic()
        outcomes = faults.converse(server.address, [faults.http_flow(run.chance, 1000) for _ in range(8)])
        early = 0
        for sock in socks:
            while sock.recv(1000):  # an answer may say why
                pass
            early += time.monotonic() - start < IDLE
            sock.close()
        took = time.monotonic() - begun
        wrong = faults.wrongs(outcomes) + ([f"{early} ended early"] if early else [])
        wrong += [f"the last was ended after {took:.1f} s"] if took > 4 * IDLE + 3.0 else []
        faults.log(f"{HTTP}: rid of {len(socks)} silent peers after {took:.2f} s")
        run.count(row, len(socks), wrong + faults.settled(server, before), "silent peers")


def main():
    run = faults.Run(__doc__, 30)
    while True:
        for name in (ECHO, HTTP):
            through_proxy(run, name)
            slow_readers(run, name)
        silent(run)
        if run.time_left() < run.options.seconds / 2:
            break
    run.finish()


if __name__ == "__main__":
    sys.exit(main())
