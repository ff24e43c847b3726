#!/usr/bin/env python3
"""System calls of the real binary fail, by strace's injection: usage: inject.py BUILD [--seconds S] [--seed N]

The programs: the workloads on the real engines (they know what must come out), the echo and the HTTP example with
clients. A transient error (`exact`) must change nothing: right results, status 0. After one that says that something
is not to be had (`refused`) a program may end with a status above 0 and a line on stderr, and a connection may be
lost, but no byte is wrong. Never: a signal, a hang, a processor spent on trying. EAGAIN is not injected where it
promises an event that the kernel, which knows better, does not send (recv, send, accept).
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import faults
from faults import serving

LIMIT = 60.0
# Processor seconds of program and tracer together, far above what anything needs, far below LIMIT.
CPU_LIMIT = 30.0
BUSY = 0.25  # of a processor, of an idle server whose calls fail

# Calls, errors, engine (None: both), what may come of it. `when` is drawn: one call, or every so-manieth from one on.
TRANSIENT = [
    ("io_uring_enter", "EINTR EAGAIN EBUSY ENOMEM", "uring", "18"),
    ("epoll_wait,epoll_pwait,epoll_pwait2", "EINTR", None, "18 27"),
    ("epoll_pwait2", "ENOSYS", "epoll", "18"),
    ("recvfrom,recvmsg", "EINTR", None, "18 27"),
    ("sendto,sendmsg", "EINTR", None, "18 27"),
    ("accept4", "EINTR ECONNABORTED", "epoll", "18"),
    ("accept4", "EMFILE ENFILE ENOBUFS ENOMEM", "epoll", "16 18"),
    ("getrandom", "EINTR EAGAIN ENOSYS", None, "18"),
    ("madvise", "ENOMEM EINVAL EAGAIN", None, "18"),
]
REFUSED = [
    ("io_uring_setup", "EPERM ENOSYS ENOMEM EMFILE EINVAL", None, "17 18"),
    ("io_uring_register", "ENOMEM EINVAL EPERM EBUSY", "uring", "17 18"),
    ("epoll_create1", "EMFILE ENOMEM", None, "16 17 18"),
    ("epoll_ctl", "ENOMEM ENOSPC", None, "17 18"),
    ("eventfd2", "EMFILE ENFILE ENOMEM", None, "16 18"),
    ("mmap", "ENOMEM", None, "17"),
    ("mprotect", "ENOMEM", None, "17"),
    ("clone3,clone", "EAGAIN", None, "17 18"),
    ("socket,socketpair,pipe2", "EMFILE ENOBUFS", None, "16 18"),
    ("openat", "EMFILE ENFILE ENOMEM EINTR", None, "16 18"),
    ("recvfrom,recvmsg", "ENOMEM ECONNRESET", None, "18"),
    ("sendto,sendmsg", "ENOMEM ENOBUFS EPIPE", None, "18"),
]
# A server waits until there are descriptors again; pica_accept, which some workloads call, tells its caller. EPIPE
# promises that nothing more comes of the peer, so who reads there waits for that; in a server the client goes.
SERVERS_ONLY = {("accept4", "EMFILE"), ("accept4", "ENFILE"), ("accept4", "ENOBUFS"), ("accept4", "ENOMEM"),
                ("sendto,sendmsg", "EPIPE")}
# The examples are linked with jemalloc, which does not survive that it gets no memory when it starts.
WORKLOADS_ONLY = {"mmap", "mprotect"}
SERVERS = ("pica-echo-server", "pica-http-server")


class Injection:
    """One call, one error, and when."""

    def __init__(self, run, entry, error, exact, loader):
        """loader: how many calls of a kind the dynamic loader makes, which is not under test."""
        calls, _, engine, _ = entry
        chance = run.chance
        self.calls, self.error, self.exact = calls, error, exact
        self.engine = engine or run.engine()
        first = chance.choice((1, 2, 3, chance.randrange(1, 60)))
        # Without the last, once. An error in every single call for ever is no transient one.
        steps = ("", f"+{chance.choice((2, 3, 7))}") + (() if exact else ("+",))
        if exact and self.error == "ENOSYS":
            first, steps = 1, ("+",)  # a kernel has a call or has it not
        first += loader.get(calls, 0)
        self.when = f"{first}{chance.choice(steps)}"
        self.file = tempfile.NamedTemporaryFile(prefix="pica-inject-")

    def prefix(self):
        # -D: the tracer is a grandchild, so the program is the child of whoever starts it.
        return ["strace", "-D", "-f", "-qq", "-o", self.file.name, "-e", "trace=" + self.calls, "-e",
                f"inject={self.calls}:error={self.error}:when={self.when}", "-e", "signal=none"]

    def count(self):
        with open(self.file.name, "rb") as text:
            return text.read().count(b"(INJECTED)")

    def __str__(self):
        return f"{self.calls} {self.error} when={self.when} on {self.engine}"


def loader_calls(run):
    """How many calls a program makes until it tells its usage, of those that the loader needs."""
    found = {}
    for call in (*WORKLOADS_ONLY, "openat"):
        with tempfile.NamedTemporaryFile(prefix="pica-inject-") as file:
            subprocess.run(["strace", "-qq", "-o", file.name, "-e", "trace=" + call, run.build / "tests/pica-sim", "-"],
                           stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            found[call] = file.read().count(b"\n")
    return found


def judge(injection, code, errors):
    """What is wrong with how a program ended."""
    if injection.exact:
        return [] if code == 0 else [f"ended with {code}: {errors[-300:]}"]
    return [] if faults.ended_clearly(code, errors) else [f"ended with {code}: {errors[-300:] or 'without a word'}"]


def run_workloads(run, injection):
    """All workloads, or one of them."""
    command = [*injection.prefix(), str(run.build / "tests/pica-sim")]
    if injection.calls in WORKLOADS_ONLY:
        command += ["--workload", run.chance.choice(faults.INDEPENDENT)]
    elif injection.when.endswith("+") or run.chance.random() < 0.8:
        # Not all for ever: who hears datagrams goes on after an error, and would do so as long.
        names = "chat echo files locks pool proxy rpc startstop timers".split()
        command += ["--workload", run.chance.choice(names)]
    command += ["--real", injection.engine]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = dict(os.environ, PICA_WORKERS=run.chance.choice("123"), PICA_LOG="warn")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, env=env)
    try:
        text, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        return [f"hangs: {process.communicate()[0][-300:]}"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime
    wrong = judge(injection, process.returncode, text)
    return wrong + ([f"{used:.1f} s of processor time"] if used > CPU_LIMIT else [])


def run_server(run, injection):
    name = run.chance.choice(SERVERS)
    with tempfile.TemporaryFile("w+") as errors:
        try:
            server = serving.Server(run.example(name), workers=run.chance.choice((1, 2, 3)), prefix=injection.prefix(),
                                    environment={"PICA_ENGINE": injection.engine}, errors=errors)
        except AssertionError:
            errors.seek(0)
            text = errors.read()
            return ["did not start"] if injection.exact or not text.strip() else []
        return talk_to_server(run, injection, name, server, errors)


def talk_to_server(run, injection, name, server, errors):
    flows = [faults.FLOWS[name](run.chance, run.chance.choice((10, 3000, 200000))) for _ in range(6)]
    allowed = (faults.DONE,) if injection.exact else (faults.DONE, faults.LOST)
    # Where everything is refused for ever, nobody is served; nothing may come that is wrong.
    for_ever = injection.when.endswith("+") and not injection.exact
    wrong = faults.wrongs(faults.converse(server.address, flows, 2.0 if for_ever else faults.PATIENCE),
                          allowed + ((faults.HUNG,) if for_ever else ()))
    if server.process.poll() is None:
        busy = server.cpu_share(0.1)
        wrong += [f"{busy:.0%} of a processor for nothing"] if busy > BUSY else []
        server.process.terminate()
    try:
        code = server.process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        server.process.kill()
        return wrong + [f"does not end ({server.process.wait()})"]
    finally:
        server.process.stdout.close()
    errors.seek(0)
    return wrong + judge(injection, code, errors.read())


def possible():
    """Whether strace can inject here: None, or why not."""
    if shutil.which("strace") is None:
        return "no strace on PATH"
    tried = subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=getrandom", "-e",
                            "inject=getrandom:error=EINTR:when=1", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"strace: {tried.stderr.strip()[-80:]}"


def possible_here(run, entry):
    return "uring" in run.engines or "uring" not in (entry[2] or entry[0])


def in_turn(run):
    """Every call with every error: each call once before any has its second error."""
    chance, rounds = run.chance, []
    for table, exact in ((TRANSIENT, True), (REFUSED, False)):
        for entry in (entry for entry in table if possible_here(run, entry)):
            errors = entry[1].split()
            chance.shuffle(errors)
            rounds += [(turn, chance.random(), entry, error, exact) for turn, error in enumerate(errors)]
    return [fault[2:] for fault in sorted(rounds, key=lambda fault: fault[:2])]


def main():
    run = faults.Run(__doc__, 60)
    why = possible()
    loader = loader_calls(run) if why is None else {}
    while why is None and run.time_left() > 0:
        for entry, error, exact in in_turn(run):
            injection = Injection(run, entry, error, exact, loader)
            row = run.row(f"{entry[3]} errors of system calls",
                          f"strace {entry[0]}: {entry[1].replace(' ', ',')}")
            start = time.monotonic()
            servers = (injection.calls, injection.error) in SERVERS_ONLY or run.chance.random() < 0.5
            runs = run_server if servers and entry[0] not in WORKLOADS_ONLY else run_workloads
            wrong = runs(run, injection)
            done = injection.count()
            faults.log(f"{injection}, {runs.__name__}: {done} injected, {time.monotonic() - start:.1f} s")
            run.count(row, done, wrong, f"{injection}, {runs.__name__}")
            if run.time_left() <= 0:
                break
    for entry in TRANSIENT + REFUSED:
        key = f"{entry[3]} errors of system calls", f"strace {entry[0]}: {entry[1].replace(' ', ',')}"
        if why is not None:
            run.skip(*key, why)
        elif not possible_here(run, entry):
            run.skip(*key, "io_uring is not permitted here")
        elif run.rows.get(key, [0])[0] == 0 and not run.rows.get(key, [0, 0])[1]:
            run.skip(*key, "the time was too short for it to occur")
    run.finish()


if __name__ == "__main__":
    sys.exit(main())
