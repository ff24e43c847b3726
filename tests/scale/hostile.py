#!/usr/bin/env python3
"""What hostile clients can do to a server that sets limits: not much.

usage: hostile.py EXAMPLES [--seconds S] [--attackers N] [--idle S] [--workers W] [--report]

The HTTP example runs with a small --idle. 16 well-behaved clients ask it 40 times a second each, all
the time. Kind by kind, N attackers each come again every second, for S seconds; before each kind there
is nobody else for as long. For each kind: the server must end every connection within its limits, and
the memory that it takes at most meanwhile must stay within 2 MiB for each attacker.

Over all kinds the 99th percentile of the well-behaved clients must be within 20 % of what it was
without attackers. Quiet times and attacks take turns, since machines change from minute to minute. It is
only reported if the two halves of the quiet times differ by more than that, or if the same attacks on
another server of this machine (the second control) hold the clients back as much: then it is the
processors that are short; or with --report.
"""

import argparse
import os
import pickle
import random
import select
import selectors
import socket
import sys
import threading
import time

import serving

CLIENTS, PACE = 16, 0.025
AGAIN, SLACK, EACH = 1.0, 1.2, 2 << 20
BEGIN = b"GET / HTTP/1.1\r\nHost: x\r\n"

# What is sent is made once, before anything is measured: the attackers' own work is not what the server is to be
# judged by, and here they share its processors.
HEADERS = BEGIN + b"".join(b"X-Header-%d: %s\r\n" % (i, b"y" * 50) for i in range(50000))
REQUESTS = serving.GET * 100000
LONGER = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n" + b"z" * (1 << 20)
GARBAGE = random.Random(1).randbytes(4 << 20)


# The attackers. Each gets a connection and returns when it sees that it was ended.


def ended(sock):
    """Waits for the end without reading what comes before it."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    poll.poll(serving.LIMIT * 1000)


def drain(sock):
    while sock.recv(1 << 16):
        pass


def one_byte_a_second(sock, _):
    sock.settimeout(1.0)
    for i in range(int(serving.LIMIT)):
        sock.sendall(b"GET / HTTP/1.1\r\nX: "[i:i + 1] or b"y")
        try:
            drain(sock)
            return
        except TimeoutError:
            pass
    raise TimeoutError


def headers_without_end(sock, _):
    """More than the server takes of any request by far."""
    sock.sendall(HEADERS)


def requests_without_reading(sock, _):
    """100,000 of them. What the server does not take stays in the kernel."""
    sock.settimeout(serving.LIMIT)
    sock.sendall(REQUESTS)
    ended(sock)


def longer_body(sock, _):
    """Announces 10 bytes; sends a MiB."""
    sock.sendall(LONGER)
    drain(sock)


def garbage(sock, chance):
    begin = chance.randrange(len(GARBAGE) // 2)
    sock.sendall(memoryview(GARBAGE)[begin:])
    drain(sock)


def slow_after_refusal(sock, _):
    """The server has answered, and would give the peer time to read that."""
    sock.sendall(b"nonsense\r\n\r\n")
    for _ in range(int(4 * serving.LIMIT)):
        time.sleep(0.25)
        sock.sendall(b"x")
    raise TimeoutError


def silence(sock, _):
    drain(sock)


KINDS = (one_byte_a_second, headers_without_end, requests_without_reading, longer_body, garbage,
         slow_after_refusal, silence)


class Attackers:
    """Of one kind, each again and again, until a point in time."""

    def __init__(self, server, kind, options):
        self.server, self.kind = server, kind
        self.end = time.monotonic() + options.seconds
        self.longest = 0.0  # seconds until a connection was ended
        self.count = 0
        self.threads = [threading.Thread(target=self.live, args=(i / options.attackers,),
                                         daemon=True) for i in range(options.attackers)]
        for thread in self.threads:
            thread.start()

    def live(self, offset):
        chance = random.Random(offset)
        # Not all in the same moment, but each at least once.
        start = time.monotonic() + offset * min(AGAIN, 0.9 * (self.end - time.monotonic()))
        while start < self.end:
            time.sleep(max(0.0, start - time.monotonic()))
            start = time.monotonic()
            self.attack(chance)
            self.longest = max(self.longest, time.monotonic() - start)
            self.count += 1
            start += AGAIN

    def attack(self, chance):
        """One connection, to its end. A reset is one too."""
        # Little room here, so that answers which are not read soon are the server's burden.
        with self.server.connect(receive_buffer=4096) as sock:
            try:
                self.kind(sock, chance)
            except TimeoutError:
                self.longest = serving.LIMIT
            except OSError:
                pass

    def wait(self, before):
        """Until the server has no connection of theirs."""
        end = self.end + serving.LIMIT
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
        # A descriptor that is closed is a connection that has ended.
        if self.server.wait_descriptors(before) > before:
            self.longest = serving.LIMIT


# The well-behaved clients.


def open_behaved(address):
    sock = socket.create_connection(address, serving.LIMIT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(sock, data):
    """Receives a part of the answer; whether it is complete. None: the connection has ended."""
    try:
        part = sock.recv(4096)
    except ConnectionError:
        return None
    data += part
    assert serving.HELLO.startswith(data), f"wrong answer {bytes(data)!r}"
    return data == serving.HELLO if part else None


def behave(address, stop, idle):
    """Asks at a steady pace; gives (when, how long it took) of each answer. On a machine that is
    so busy that a client rested for the server's limit, it was cut rightly, and comes again."""
    seen, waiting = [], 0
    selector = selectors.DefaultSelector()
    now = time.monotonic()
    # When to ask, the connection, when it got its last answer.
    due = [(now + PACE * i / CLIENTS, open_behaved(address), now) for i in range(CLIENTS)]
    while not select.select([stop], [], [], 0)[0] or waiting:
        while due and due[0][0] <= time.monotonic():
            at, sock, last = due.pop(0)
            start = time.monotonic()
            try:
                sock.sendall(serving.GET)
            except ConnectionError:
                pass  # receiving tells it, too
            selector.register(sock, selectors.EVENT_READ, (at, start, last, bytearray()))
            waiting += 1
        for key, _ in selector.select(max(0.0, due[0][0] - time.monotonic()) if due else 1.0):
            at, start, last, data = key.data
            done, now, sock = exchange(key.fileobj, data), time.monotonic(), key.fileobj
            if done is False:
                continue
            selector.unregister(sock)
            waiting -= 1
            if done:
                seen.append((start, now - start))
            else:
                assert now - last >= 0.8 * idle, f"cut {now - last:.2f} s after its last answer"
                sock.close()
                sock = open_behaved(address)
            due.append((max(at + PACE, now), sock, now))
            due.sort(key=lambda entry: entry[0])
    return seen


class Behaved:
    """The well-behaved clients, in a process of their own."""

    def __init__(self, address, idle):
        stop, self.stop = os.pipe()
        self.result, result = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.stop)
                os.close(self.result)
                with os.fdopen(result, "wb") as out:
                    pickle.dump(behave(address, stop, idle), out)
                os._exit(0)
            except BaseException as error:  # the other process must see it, and nothing else
                print(f"a well-behaved client: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
        os.close(stop)
        os.close(result)

    def end(self):
        """Gives what they saw."""
        os.close(self.stop)
        with os.fdopen(self.result, "rb") as result:
            data = result.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert code == 0, "a well-behaved client was not served"
        return pickle.loads(data)


def p99(seen, spans):
    """Milliseconds, of the answers to questions asked in the spans."""
    times = sorted(took for start, took in seen if any(a <= start < b for a, b in spans))
    return 1000 * times[len(times) * 99 // 100] if times else float("nan")


def attack(server, kind, before, options, held):
    """One kind; gives its span. held, if given, gets whether the server kept its limits; before: its descriptors
    without attackers."""
    # The time for a head or for the next bytes; for the last answer; and a busy machine.
    patience = 2 * options.idle + 1.0 + 2.0
    begin = time.monotonic()
    begun = server.peak_begin()
    attackers = Attackers(server, kind, options)
    attackers.wait(before)
    more = server.peak_end(begun)
    if held is not None:
        good = attackers.longest <= patience and more <= EACH * options.attackers
        held.append(good)
        print(f"  {kind.__name__}: {attackers.count} times, ended within {attackers.longest:.2f} s "
              f"(limit {patience:.1f}), memory +{more >> 10} KiB at most "
              f"(limit {EACH * options.attackers >> 10}){'' if good else ': FAILED'}", flush=True)
    return begin, time.monotonic()


def attack_all(server, other, options, held):
    """All kinds; gives the spans: quiet ones, of attacks on other, of those on server."""
    before, alone = server.descriptors(), other.descriptors()
    memory = server.resident()
    quiet, elsewhere, spans = [], [], []
    for kind in KINDS:
        begin = time.monotonic()
        time.sleep(options.seconds)
        quiet.append((begin, time.monotonic()))
        if not options.report:
            elsewhere.append(attack(other, kind, alone, options, None))
        spans.append(attack(server, kind, before, options, held))
    left = server.wait_descriptors(before)
    held.append(left == before)
    print(f"  memory {memory >> 10} KiB before, {server.resident() >> 10} KiB after all; "
          f"descriptors {before} before, {left} after", flush=True)
    return quiet, elsewhere, spans


def judge(seen, quiet, elsewhere, spans, report):
    """Whether the well-behaved were served as before."""
    halves = [p99(seen, quiet[i::2]) for i in range(2)]
    control = max(halves) / min(halves)
    before, other, during = p99(seen, quiet), p99(seen, elsewhere), p99(seen, spans)
    for what, times in (("before each kind", quiet), ("during the same on another server", elsewhere),
                        ("during these", spans)):
        if times:
            print(f"  p99 {what}: " + " ".join(f"{p99(seen, [span]):.2f}" for span in times) + " ms")
    print(f"p99 of {len(seen)} requests: {before:.2f} ms in quiet times (halves {halves[0]:.2f} and "
          f"{halves[1]:.2f}, ratio {control:.2f}), {during:.2f} ms during the attacks, ratio "
          f"{during / before:.2f}" + (f"; {other:.2f} ms during the same on another server"
                                        if elsewhere else ""), flush=True)
    if during <= SLACK * before:
        return True
    if report or control > SLACK or during <= SLACK * other:
        print("  only reported: " + ("as asked" if report else "the control differs as much"
                                     if control > SLACK else "the processors are short"))
        return True
    print("  FAILED: the well-behaved clients were held back")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", help="the folder of the programs")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--attackers", type=int, default=8)
    parser.add_argument("--idle", type=float, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    path = serving.program(options.examples, "pica-http-server")
    held = []
    limits = "--idle", str(options.idle)
    with serving.Server(path, *limits, workers=options.workers) as server, \
            serving.Server(path, *limits, workers=options.workers) as other:
        behaved = Behaved(server.address, options.idle)
        os.nice(10)  # the attackers are this process: elsewhere, they would be other machines
        time.sleep(min(1.0, options.seconds))
        try:
            quiet, elsewhere, spans = attack_all(server, other, options, held)
        finally:
            seen = behaved.end()
    held.append(judge(seen, quiet, elsewhere, spans, options.report))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
