"""What the fault runs share: rows of a report, time, and clients that know what they must receive.

A script is called as `NAME.py BUILD [--seconds S] [--seed N]`, runs faults for about S seconds, writes what happened
to stderr and one row for each kind of fault to stdout, separated by tabs: promise (the numbers in the reference on
reliability), method, faults injected, failures. Exit status: 0 no failures, 1 some, 77 nothing could be run.
"""

import argparse
import collections
import ctypes
import os
import pathlib
import random
import selectors
import socket
import sys
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scale"))
import serving  # noqa: E402  (its folder is known only now)

DONE, LOST, HUNG, WRONG = "done", "lost", "hung", "wrong"
# Workloads whose tasks do not wait for others that may have got no stack: they end, whatever is refused.
INDEPENDENT = "startstop", "files"
PATIENCE = 20.0  # seconds after which a client that gets nothing hangs


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def usable_engines():
    """What PICA_ENGINE may demand here: io_uring may be forbidden, by seccomp or a sysctl."""
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(425, 1, ctypes.create_string_buffer(120))  # io_uring_setup, on every processor
    if ring < 0:
        return ("epoll",)
    os.close(ring)
    return ("uring", "epoll")


class Run:
    """The arguments of a script, its chance, its time and its rows."""

    def __init__(self, text, seconds):
        parser = argparse.ArgumentParser(description=text.splitlines()[0])
        parser.add_argument("build", help="a build folder with tests and examples")
        parser.add_argument("--seconds", type=float, default=seconds)
        parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
        self.options = parser.parse_args()
        self.build = pathlib.Path(self.options.build).resolve()
        self.chance = random.Random(self.options.seed)
        self.end = time.monotonic() + self.options.seconds
        self.rows = collections.OrderedDict()
        self.engines = usable_engines()
        log(f"{pathlib.Path(sys.argv[0]).name}: seed {self.options.seed}")

    @property
    def short(self):
        """Whether there is time for a sample of each kind only."""
        return self.options.seconds < 10

    def example(self, name):
        return serving.program(str(self.build / "examples"), name)

    def engine(self):
        return self.chance.choice(self.engines)

    def time_left(self):
        return self.end - time.monotonic()

    def row(self, promise, method):
        """The row's figures: [faults, failures]."""
        return self.rows.setdefault((promise, method), [0, 0])

    def count(self, row, faults, failures, what=""):
        """failures: what was wrong, a list; empty if nothing."""
        row[0] += faults
        row[1] += bool(failures)
        for failure in failures:
            log(f"FAILED: {what}: {failure}")

    def skip(self, promise, method, why):
        log(f"skipped: {method}: {why}")
        self.rows[promise, method] = [f"skipped: {why}", 0]

    def finish(self):
        failures = 0
        for (promise, method), (faults, failed) in self.rows.items():
            if faults == 0:  # a check that did not happen proves nothing
                log(f"FAILED: {method}: no fault was injected")
                failed += 1
            print(promise, method, faults, failed, sep="\t", flush=True)
            failures += failed
        if failures:
            log(f"repeat with --seed {self.options.seed}")
        if all(isinstance(faults, str) for faults, _ in self.rows.values()):
            sys.exit(serving.SKIPPED)
        sys.exit(failures != 0)


def ended_clearly(code, text):
    """Whether a program that was refused something ended as it may: with a status of its own and a word about it. A
    workload that cannot begin its work gives up by abort, after such a word; so does the dynamic loader, with 127."""
    own = 0 <= code < 124 or (code == 127 and "error while loading shared libraries" in text)
    gave_up = code == -6 and "tests/workloads/" in text
    return (own or gave_up) and (code == 0 or bool(text.strip()))


# --- clients ---


class Flow:
    """What a client sends and what it must receive. pieces: it sends so many bytes at once at most."""

    def __init__(self, request, answer, piece=1 << 16):
        self.left, self.answer, self.piece = memoryview(request), memoryview(answer), piece
        self.got = 0
        self.outcome = None
        self.last = time.monotonic()

    def wants(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.left else 0)

    def step(self, sock, events):
        """Moves what it can; sets the outcome at the end."""
        if events & selectors.EVENT_READ:
            data = sock.recv(1 << 16)
            if not data:
                self.outcome = LOST
            elif self.answer[self.got:self.got + len(data)] != data:
                self.outcome = WRONG
            self.got += len(data)
            if self.got == len(self.answer) and self.outcome is None:
                self.outcome = DONE
            self.last = time.monotonic()
        if events & selectors.EVENT_WRITE and self.left:
            self.left = self.left[sock.send(self.left[:self.piece]):]
            self.last = time.monotonic()


def echo_flow(chance, size):
    data = chance.randbytes(size)
    return Flow(data, data, chance.choice((100, 5000, 1 << 16)))


def http_flow(chance, size):
    if chance.random() < 0.5:
        count = chance.randrange(1, 40)
        return Flow(serving.GET * count, serving.HELLO * count, chance.choice((10, 1 << 16)))
    return Flow(*serving.post(chance.randbytes(min(size, 1 << 20))), chance.choice((1000, 1 << 16)))


FLOWS = {"pica-echo-server": echo_flow, "pica-http-server": http_flow}


def open_flow(address):
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(address)
    return sock


def converse(address, flows, patience=PATIENCE, meanwhile=None):
    """Runs each flow over a connection of its own, and gives how often each outcome was. meanwhile is called now and
    then; it ends the run by returning True."""
    selector = selectors.DefaultSelector()
    for flow in flows:
        flow.last = time.monotonic()
        selector.register(open_flow(address), flow.wants(), flow)
    while selector.get_map():
        for key, events in selector.select(0.05):
            flow = key.data
            try:
                flow.step(key.fileobj, events)
            except BlockingIOError:
                pass
            except OSError as error:
                flow.outcome = LOST
                flow.error = error
            if flow.outcome is None:
                selector.modify(key.fileobj, flow.wants(), flow)
        for key in list(selector.get_map().values()):
            flow = key.data
            if flow.outcome is None and time.monotonic() - flow.last > patience:
                flow.outcome = HUNG
            if flow.outcome is not None:
                selector.unregister(key.fileobj)
                key.fileobj.close()
        if meanwhile is not None and meanwhile():
            break
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    selector.close()
    return collections.Counter(flow.outcome for flow in flows)


def wrongs(outcomes, allowed=(DONE,)):
    """What is wrong with outcomes: a list for Run.count."""
    return [f"{count} connections {outcome}" for outcome, count in outcomes.items() if outcome not in allowed]


def settled(server, before):
    """What a server has more than before once its clients are gone: a list for Run.count."""
    left = server.wait_descriptors(before)
    return [] if left <= before else [f"{left} descriptors, {before} before"]
