#!/usr/bin/env python3
"""Little of what the system gives: usage: limits.py BUILD [--seconds S] [--seed N]

The echo and the HTTP example run with few descriptors, little locked memory, few threads, little address space, and
without io_uring, each at several values. Either the server starts, and then serves; or it ends with status 1 and a
line that says what was not to be had. Never a signal, a hang, or silence. With few descriptors clients wait, and are
served one after the other as others go; if there is none at all for them, the server rests.
"""

import os
import resource
import subprocess
import sys
import tempfile

import faults
from faults import serving

CONFINED = str(faults.HERE.parent / "confined/run")
SERVERS = ("pica-echo-server", "pica-http-server")
START = 30.0


def ended(process, text, works):
    """What is wrong with a server that did not start."""
    code = process.wait(START)
    line = text.strip()
    if code == 77:
        return None
    if works:
        return [f"did not start, though this is enough: {line[-200:]}"]
    clear = code > 0 and faults.ended_clearly(code, line)
    return [] if clear else [f"ended with {code}: {line[-200:] or 'without a word'}"]


def ticks_of(process):
    """Processor time so far, in hundredths of a second (proc(5): utime and stime)."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        return sum(int(n) for n in stat.read().rsplit(")", 1)[1].split()[11:13])


def talk(run, name, process, port, most):
    """What is wrong with the service. most: the descriptors that the server may have, None: enough."""
    flows = [faults.FLOWS[name](run.chance, 20000) for _ in range(6)]
    if most is None or len(os.listdir(f"/proc/{process.pid}/fd")) < most:
        return faults.wrongs(faults.converse(("127.0.0.1", port), flows))
    before = ticks_of(process)
    wrong = faults.wrongs(faults.converse(("127.0.0.1", port), flows, 1.0), (faults.HUNG,))
    ticks = ticks_of(process) - before
    return wrong + ([f"{ticks} hundredths of a second of processor time for nothing"] if ticks > 20 else [])


def serve(run, name, prefix=(), environment=None, works=False, most=None):
    """What is wrong with a server under a limit that prefix makes; None: this machine does not permit it. works: the
    limit leaves enough, it must serve."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*prefix, run.example(name), "--port", "0"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=errors, text=True,
                                   env=dict(os.environ, **(environment or {})))
        try:
            line = process.stdout.readline()
            if not line.startswith("listening "):
                errors.seek(0)
                return ended(process, errors.read(), works)
            wrong = talk(run, name, process, int(line.split()[1]), most)
            process.terminate()
            code = process.wait(serving.LIMIT)
            return wrong + ([f"ended with {code}"] if code != 0 else [])
        except subprocess.TimeoutExpired:
            return ["does not end"]
        finally:
            process.stdout.close()
            if process.poll() is None:
                process.kill()
                process.wait()


def descriptors(run, engine):
    """Every limit from too few on. From the first with which it starts it must serve."""
    row = run.row("16 17 18 no descriptors", f"RLIMIT_NOFILE 3 to 40, on {engine}")
    name = run.chance.choice(SERVERS)
    for count in range(3, 41, 6 if run.short else 1):
        wrong = serve(run, name, ["prlimit", f"--nofile={count}:{count}"],
                      {"PICA_ENGINE": engine, "PICA_WORKERS": run.chance.choice("123")}, count >= 30, count)
        run.count(row, 1, wrong, f"{name}, {count} descriptors, on {engine}")


def confined(run, promise, text, values, environment=None):
    """values: pairs of arguments for tests/confined/run (or a program that confines) and whether that is enough."""
    row = run.row(promise, text)
    for prefix, works in values:
        for name in [run.chance.choice(SERVERS)] if run.short else SERVERS:
            wrong = serve(run, name, prefix, dict({"PICA_WORKERS": run.chance.choice("123")}, **(environment or {})),
                          works)
            if wrong is None:
                run.skip(promise, text, "this machine does not permit it")
                return
            run.count(row, 1, wrong, f"{name}, {' '.join(prefix)}")


def address_space(run):
    """By the workloads: jemalloc, which the examples are linked with, ends by a signal if there is too little."""
    row = run.row("17 no address space", "RLIMIT_AS 2 to 512 MiB, workloads")
    for size in (8, 24, 64, 512) if run.short else (2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 48, 64, 128, 256, 512):
        command = ["prlimit", f"--as={size << 20}", str(run.build / "tests/pica-sim"), "--workload",
                   run.chance.choice(faults.INDEPENDENT), "--real", run.engine()]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, timeout=serving.LIMIT, check=False)
        clear = faults.ended_clearly(ran.returncode, ran.stdout)
        run.count(row, 1, [] if clear else [f"ended with {ran.returncode}: {ran.stdout[-200:]}"], " ".join(command))


def main():
    run = faults.Run(__doc__, 20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        for engine in run.engines:
            descriptors(run, engine)
        locked = [0, 8 << 20] if run.short else [0, 4096, 65536, 1 << 20, 8 << 20]
        confined(run, "17 18 no locked memory", "RLIMIT_MEMLOCK 0 to 8 MiB, user 65534",
                 [([CONFINED, "--user", f"--memlock={size}", "--"], size == locked[-1]) for size in locked])
        confined(run, "17 18 no locked memory", "RLIMIT_MEMLOCK 0 to 8 MiB, user 65534, on epoll",
                 [([CONFINED, "--user", f"--memlock={size}", "--"], True) for size in locked],
                 {"PICA_ENGINE": "epoll"})
        confined(run, "18 no io_uring", "seccomp: EPERM, ENOSYS",
                 [([CONFINED, limit, "--"], True) for limit in ("--no-uring", "--no-uring=ENOSYS")])
        confined(run, "18 no io_uring", "seccomp: EPERM, ENOSYS, io_uring or nothing",
                 [([CONFINED, limit, "--"], False) for limit in ("--no-uring", "--no-uring=ENOSYS")],
                 {"PICA_ENGINE": "uring"})
        address_space(run)
        confined(run, "17 18 no threads", "RLIMIT_NPROC 0, user 65534",
                 [([CONFINED, "--user", "--", "prlimit", "--nproc=0"], False)])
        if run.time_left() < run.options.seconds / 2:
            break
    run.finish()


if __name__ == "__main__":
    sys.exit(main())
