#!/usr/bin/env python3
"""SIGTERM at random points of the HTTP example's life: usage: signals.py BUILD [--seconds S] [--seed N]

The signal comes between the start of the process and long after it began to listen, with clients that connect, ask,
pipeline, send a body slowly or only begin a request at that moment. Before the server has its handler the signal may
end it. From "listening" on it must end with status 0, within --grace and the time for last answers; and each client
must have got a whole number of answers, each right: what was begun is completed, and what had been asked is answered.
Where no client lags, with a request that it does not complete, the end must not take until --grace is over. Half of
the servers work on epoll.
"""

import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import faults
from faults import serving

NAME = "pica-http-server"
GRACE, LONG_GRACE = 0.5, 4.0  # with clients that lag, without
# The last look at idle connections, the last answers to be read, and a busy machine.
SLACK = 0.1 + 1.0 + 3.0
LAGGARDS = "begun", "trickle"
HEAD = re.compile(rb"HTTP/1\.1 (\d+) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")


class Asker:
    """A client that asks until it is told that this was the last answer, or the connection ends."""

    def __init__(self, run, address, lag):
        self.chance = run.chance
        self.kind = run.chance.choice(("pipeline", "one", "body", "idle", *(LAGGARDS if lag else ())))
        self.body = run.chance.randbytes(run.chance.choice((10, 5000, 200000)))
        self.sock = socket.socket()
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.request = self.next_request()
        self.data = bytearray()
        self.answers = self.asked = 0
        self.owed = 0    # answers to what was asked for before the signal
        self.end = None  # "end" or "reset"
        self.wrong = None

    def next_request(self):
        if self.kind in ("body", "trickle"):
            return memoryview(serving.post(self.body)[0])
        return memoryview({"pipeline": serving.GET * 16, "one": serving.GET, "begun": serving.GET[:9], "idle": b""}
                          [self.kind])

    def step(self):
        """One small step, without waiting."""
        try:
            if self.request:
                most = 50 if self.kind == "trickle" else 1 << 16
                self.request = self.request[self.sock.send(self.request[:most]):]
        except BlockingIOError:
            pass
        except OSError:
            self.request = memoryview(b"")  # what is there may still be read
        try:
            data = self.sock.recv(1 << 16)
            self.data += data
            self.end = self.end or (None if data else "end")
        except BlockingIOError:
            pass
        except OSError:
            self.end = "reset"
        self.take()
        if self.end is not None:
            self.sock.close()
        elif not self.request and self.answers >= self.asked and self.kind not in ("begun", "idle"):
            self.asked = self.answers + (16 if self.kind == "pipeline" else 1)
            self.request = self.next_request() if self.asked > 1 else self.request

    def note_signal(self):
        """What is sent by now is in flight, and to be answered. (Of a pipeline the first is, as the last.)"""
        if self.kind in ("one", "body"):
            self.owed = self.asked - (1 if self.request and self.asked > 0 else 0)

    def take(self):
        """Takes whole answers off what came."""
        while found := HEAD.match(self.data):
            status, size = int(found.group(1)), int(found.group(2))
            if len(self.data) < found.end() + size:
                return
            body = bytes(self.data[found.end():found.end() + size])
            right = self.body if self.kind in ("body", "trickle") else b"Hello, World!"
            if status != 200 or body != right:
                self.wrong = f"{self.kind}: status {status}, {len(body)} bytes, {'right' if body == right else 'wrong'}"
            self.answers += 1
            del self.data[:found.end() + size]

    def judge(self):
        """What is wrong at the end: a list."""
        if self.wrong:
            return [self.wrong]
        if self.answers < self.owed:
            return [f"{self.kind}: {self.answers} answers to {self.owed} requests ({self.end})"]
        if self.data:
            return [f"{self.kind}: an answer was cut after {len(self.data)} bytes ({self.end})"]
        return []


def start(run, grace):
    return subprocess.Popen([run.example(NAME), "--port", "0", "--grace", str(grace), "--idle", "30"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=dict(faults.os.environ, PICA_WORKERS=run.chance.choice("123"),
                                     PICA_ENGINE=run.engine(), PICA_LOG="error"))


def finish(process, deadline, what):
    """Waits for the end: the status, and what is wrong."""
    try:
        process.wait(deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return [f"{what}: did not end within {deadline:.1f} s"]
    text = process.stderr.read().decode(errors="replace")
    return [f"{what}: wrote {text[-200:]}"] if text else []


def at_start(run, row):
    """Before anybody has connected: from the first instruction on."""
    with start(run, GRACE) as process:
        time.sleep(run.chance.uniform(0, 0.03))
        process.send_signal(signal.SIGTERM)
        wrong = finish(process, GRACE + SLACK, "at its start")
        listening = b"listening" in process.stdout.read()
        if process.returncode != 0 and (listening or process.returncode != -signal.SIGTERM):
            wrong.append(f"at its start: ended with {process.returncode}, listening: {listening}")
        run.count(row, 1, wrong, "SIGTERM")


def come_and_go(run, address, askers, lag):
    """New clients, and a few that reset their connection."""
    if run.chance.random() < 0.05 and len(askers) < 40:
        try:
            askers.append(Asker(run, address, lag))
        except OSError:
            pass  # nobody listens any more
    if run.chance.random() < 0.01 and askers:
        gone = askers.pop(run.chance.randrange(len(askers)))
        gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sock.close()


def under_load(run, row):
    lag = run.chance.random() < 0.5
    grace = GRACE if lag else LONG_GRACE
    with start(run, grace) as process:
        ready = select.select([process.stdout], [], [], serving.LIMIT)[0]
        line = process.stdout.readline() if ready else b""
        address = ("127.0.0.1", int(line.split()[1]))
        askers = [Asker(run, address, lag) for _ in range(run.chance.randrange(0, 24))]
        at = time.monotonic() + run.chance.choice((0, 0.001, 0.01, 0.1)) * run.chance.random()
        sent = None
        while process.poll() is None and (sent is None or time.monotonic() < sent + grace + SLACK):
            for asker in askers:
                if asker.end is None:
                    asker.step()
            if sent is None:
                come_and_go(run, address, askers, lag)
                if time.monotonic() >= at:
                    for asker in askers:
                        asker.note_signal()
                    process.send_signal(signal.SIGTERM)
                    sent = time.monotonic()
        took = time.monotonic() - (sent or at)
        wrong = finish(process, 0.1, "under load")
        if process.returncode != 0:
            wrong.append(f"under load: ended with {process.returncode}")
        if not lag and took >= grace:
            wrong.append(f"under load: took {took:.1f} s though nobody lagged")
        wrong += judge(askers)
        answers = sum(asker.answers for asker in askers)
        faults.log(f"SIGTERM with {len(askers)} clients, {answers} answers; ended after {took:.2f} s")
        run.count(row, 1, wrong, "SIGTERM")


def judge(askers):
    """Reads what is left, and looks at each client's end."""
    wrong = []
    for asker in askers:
        end = time.monotonic() + 5.0
        while asker.end is None and time.monotonic() < end:
            asker.request = memoryview(b"")
            asker.step()
        wrong += asker.judge()
        wrong += [f"{asker.kind}: the connection does not end"] if asker.end is None else []
        asker.sock.close()
    return wrong


def main():
    run = faults.Run(__doc__, 20)
    early = run.row("15 SIGTERM", "at a random point of the start")
    late = run.row("15 14 SIGTERM", "at a random point under load")
    while True:
        for _ in range(5):
            at_start(run, early)
        under_load(run, late)
        if run.time_left() <= 0:
            break
    run.finish()


if __name__ == "__main__":
    sys.exit(main())
