#!/usr/bin/env python3
"""Busy processes beside a server, on its only processor: usage: hog.py BUILD [--seconds S] [--seed N]

The HTTP example, its clients and some processes that only compute share one processor. Every request is answered (no
worker sleeps while there is work, for none of these waits would ever end), the slowest within a bound; a silent client
is ended by a timer, never early and late by no more than that bound. The same for the workloads on the real engines,
whose own checks say what must come out. The longest times are told on stderr.
"""

import os
import subprocess
import sys
import time

import faults
from faults import serving

HTTP = "pica-http-server"
IDLE = 0.3
BOUND = 3.0  # seconds; the hogs take turns of milliseconds, other tests may take part of the rest


class Hogs:
    """Processes that compute, on this process's processor."""

    def __init__(self, count):
        self.processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def ask(server, count):
    """One request after the other; gives the longest time for one."""
    longest = 0.0
    with server.connect() as sock:
        for _ in range(count):
            start = time.monotonic()
            sock.sendall(serving.GET)
            data = b""
            while len(data) < len(serving.HELLO):
                part = sock.recv(4096)
                assert part, "the server closed a connection that asks"
                data += part
            assert data == serving.HELLO, "wrong answer"
            longest = max(longest, time.monotonic() - start)
    return longest


def silence(server):
    """How long after its limit a silent connection was ended; negative: before."""
    start = time.monotonic()  # before: this process, too, may have to wait for the processor
    with server.connect() as sock:
        assert sock.recv(1) == b"", "an answer to nothing"
        return time.monotonic() - start - IDLE


def serve(run, count):
    row = run.row("3 13 processor taken", f"1 to 4 busy processes on one processor, {HTTP}")
    with serving.Server(run.example(HTTP), "--idle", str(IDLE), workers=run.chance.choice((1, 2, 3)),
                        environment={"PICA_ENGINE": run.engine()}) as server, Hogs(count):
        before = server.descriptors()
        late = [silence(server) for _ in range(3)]
        longest = ask(server, 30)
        flows = [faults.http_flow(run.chance, 50000) for _ in range(8)]
        # A client that the processor does not get to for the limit is ended rightly: none of these rests so long.
        outcomes = faults.converse(server.address, flows)
        wrong = faults.wrongs(outcomes, (faults.DONE, faults.LOST))
        wrong += [f"a timer fired {-min(late):.4f} s early"] if min(late) < 0 else []
        wrong += [f"a timer was {max(late):.2f} s late"] if max(late) > BOUND else []
        wrong += [f"an answer took {longest:.2f} s"] if longest > BOUND else []
        faults.log(f"{count} hogs: timers late by {1e3 * max(late):.1f} ms at most, "
                   f"answers within {1e3 * longest:.1f} ms, {dict(outcomes)}")
        run.count(row, count, wrong + faults.settled(server, before), f"{count} hogs")


def workloads(run, count):
    row = run.row("3 13 processor taken", "1 to 4 busy processes on one processor, workloads")
    with Hogs(count):
        command = [str(run.build / "tests/pica-sim"), "--workload",
                   run.chance.choice(("pool", "timers", "locks", "rpc")), "--real",
                   run.engine()]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=serving.LIMIT,
                             check=False, env=dict(os.environ, PICA_WORKERS=run.chance.choice("123")))
        run.count(row, count, [] if ran.returncode == 0 else [ran.stdout + ran.stderr], " ".join(command))


def main():
    run = faults.Run(__doc__, 20)
    os.sched_setaffinity(0, {run.chance.choice(sorted(os.sched_getaffinity(0)))})
    while True:
        serve(run, run.chance.randrange(1, 5))
        workloads(run, run.chance.randrange(1, 5))
        if run.time_left() < run.options.seconds / 2:
            break
    run.finish()


if __name__ == "__main__":
    sys.exit(main())
