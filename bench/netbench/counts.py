"""Counts for each request: system calls, user instructions, and where the CPU time goes.

The exact counts come from requests in lockstep on one connection, each (or each batch of pipelined ones)
answered before the next is sent, and one thread of the server. Two runs of different length are made
and their difference is divided by the difference in length, so that all that is not a request cancels out.

What needs a tool that is not installed, or that cannot run a contestant, is None ("n/a").
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from .contestants import Failed, Server

STRACE_RUNS = (200, 1200)  # in batches, like the others
CALLGRIND_WARM_UP = 200
CALLGRIND_RUNS = (500, 2500)
TOOL_S = 30


def strace_totals(load, server, index, requests):
    """System calls by name while so many requests are answered, and a few for the tracing."""
    with tempfile.NamedTemporaryFile("r") as out:
        strace = subprocess.Popen(["strace", "-f", "-c", "-o", out.name, "-p", str(server.pid)],
                                  stderr=subprocess.PIPE, text=True)
        if "attached" not in strace.stderr.readline():
            strace.wait()
            raise Failed("strace cannot attach")
        load.lockstep(index, requests)
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=TOOL_S)
        totals = {}
        for line in out:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
                totals[words[-1]] = int(words[3])
        return totals


def system_calls(load, name, workload, pipeline, options):
    """System calls for each request in lockstep, by name."""
    if shutil.which("strace") is None:
        return None
    server = Server(name, workload, 1, options.build, options.server_cores(1))
    try:
        index = load.open(server.port, workload, 1, pipeline, options.size)
        short, long = (strace_totals(load, server, index, n * pipeline) for n in STRACE_RUNS)
        load.close(index)
    finally:
        server.stop()
    span = (STRACE_RUNS[1] - STRACE_RUNS[0]) * pipeline
    calls = {call: (count - short.get(call, 0)) / span for call, count in long.items()}
    return {call: value for call, value in calls.items() if abs(value) >= 0.0005}


def dump(server, number, out):
    """Has callgrind write, and forget, what it counted since the last time; the total."""
    done = subprocess.run(["vgdb", "--pid=%d" % server.pid, "dump"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=TOOL_S)
    try:
        with open("%s.%d" % (out, number)) as file:
            found = re.search(r"^totals: (\d+)", file.read(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    if done.returncode != 0 or not found:
        raise Failed("callgrind wrote no totals")
    return int(found.group(1))


def user_instructions(load, name, workload, pipeline, options):
    """Instructions in user mode for each request in lockstep.

    Callgrind is asked for its counts while the server lives: it delivers no signal to a process
    that only ever waits in io_uring_enter, so one cannot be ended and read afterwards.
    """
    if shutil.which("vgdb") is None or shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        prefix = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out]
        server = Server(name, workload, 1, options.build, options.server_cores(1), prefix)
        try:
            index = load.open(server.port, workload, 1, pipeline, options.size)
            totals = []
            for number, batches in enumerate((CALLGRIND_WARM_UP,) + CALLGRIND_RUNS, 1):
                load.lockstep(index, batches * pipeline)
                totals.append(dump(server, number, out))
            load.close(index)
        except subprocess.TimeoutExpired:
            raise Failed("callgrind does not answer") from None
        finally:
            server.kill()
    return (totals[2] - totals[1]) / ((CALLGRIND_RUNS[1] - CALLGRIND_RUNS[0]) * pipeline)


def calls_under_load(server, action):
    """System calls a server makes while action runs, by perf's count of entries; None without."""
    if shutil.which("perf") is None:
        return None
    control_read, control_write = os.pipe()
    acknowledge_read, acknowledge_write = os.pipe()
    perf = subprocess.Popen(
        ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", str(server.pid),
         "--delay=-1", "--control", "fd:%d,%d" % (control_read, acknowledge_write)],
        pass_fds=(control_read, acknowledge_write), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    os.close(control_read)
    os.close(acknowledge_write)
    try:
        os.write(control_write, b"enable\n")
        if not os.read(acknowledge_read, 16):
            return None  # perf has ended: it may not count here
        action()
        os.write(control_write, b"disable\n")
        os.read(acknowledge_read, 16)
    except BrokenPipeError:
        return None
    finally:
        os.close(control_write)
        os.close(acknowledge_read)
        if perf.poll() is None:
            perf.send_signal(signal.SIGINT)
        text = perf.communicate(timeout=TOOL_S)[1]
    found = re.search(r"^(\d+),.*sys_enter", text, re.MULTILINE)
    return int(found.group(1)) if found else None


def wait_until_sampling(perf):
    """Waits until perf has mapped its buffers. False: it ended, so it may not sample here.

    Asking it through --control, as above, breaks perf 6.1's record now and then.
    """
    deadline = time.monotonic() + TOOL_S
    while perf.poll() is None and time.monotonic() < deadline:
        with open("/proc/%d/maps" % perf.pid) as file:
            if "perf_event" in file.read():
                return True
        time.sleep(0.01)
    return False


# Where a sample of the stack belongs: the first group with a frame in the stack wins. A send on
# loopback includes the receiving half of the kernel's network stack. "ring" is the rest of waiting
# and submitting; a parser that the compiler inlined into its caller is found under "other".
PARTS = (
    ("send", re.compile(r"(^|_)sys_(sendto|sendmsg|write|writev)\b|^io_send")),
    ("read", re.compile(r"(^|_)sys_(recvfrom|recvmsg|read|readv)\b|^io_recv")),
    ("ring", re.compile(r"(^|_)sys_(io_uring_enter|epoll_wait|epoll_pwait2?)\b")),
    ("parse", re.compile(r"llhttp|httparse|floor_count_heads|memchr")),
)


def classify(frames):
    for part, pattern in PARTS:
        if any(pattern.search(frame) for frame in frames):
            return part
    return "other"


def parts_under_load(server, action):
    """The shares of CPU time by part while action runs, from perf's samples; None without perf."""
    if shutil.which("perf") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "data")
        perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-g",
                                 "-o", out, "-p", str(server.pid)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait_until_sampling(perf):
            action()
            perf.send_signal(signal.SIGINT)
        perf.wait(TOOL_S)
        script = subprocess.run(["perf", "script", "-i", out, "-F", "ip,sym"], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    shares = {}
    for sample in script.stdout.split("\n\n"):
        frames = [line.split(None, 1)[1] for line in sample.splitlines() if len(line.split()) > 1]
        if frames:
            part = classify(frames)
            shares[part] = shares.get(part, 0) + 1
    whole = sum(shares.values())
    return {part: count / whole for part, count in shares.items()} if whole >= 100 else None
