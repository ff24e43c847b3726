"""The servers that are compared: where their programs are, and a running one."""

import os
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.dirname(HERE)
FLOORS = ("uring_recv", "uring_poll", "epoll")
ENGINES = {"pica": "uring", "pica-epoll": "epoll"}  # the same program, and its PICA_ENGINE
NAMES = tuple(ENGINES) + FLOORS + ("epoll_llhttp", "tokio", "libuv")
USUAL = {  # who is compared when nobody is named
    "uring": ("pica",) + FLOORS + ("tokio",),
    "epoll": ("pica-epoll", "epoll", "epoll_llhttp", "tokio", "libuv"),
}
WORKLOADS = ("echo", "http", "udp")
UDP_PROGRAMS = {"pica": "examples/pica-udp-echo", "pica-epoll": "examples/pica-udp-echo",
                "uring_recv": "bench/pica-floor-udp-recv",
                "uring_poll": "bench/pica-floor-udp-poll"}
READY_S = 30
STOP_S = 10
ANSWER_S = 2
CONTROL = "control"  # the name under which the second instance of the reference is recorded


class Failed(Exception):
    """A contestant or the load did something that makes its figures worthless."""


def tokio_program(build):
    return os.path.join(build, "bench", "tokio", "release", "pica-peer-tokio")


def build_tokio(build):
    """Builds the Tokio contestant. Returns None, or why it cannot be run."""
    if shutil.which("cargo") is None:
        return "cargo is not installed"
    environment = dict(os.environ, CARGO_TARGET_DIR=os.path.join(build, "bench", "tokio"))
    done = subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"],
                          cwd=os.path.join(BENCH, "peers", "tokio"), env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        return "cargo build failed: " + done.stdout.strip()[-300:]
    return None


def takes_part(name, workload):
    if name == "epoll_llhttp":
        return workload == "http"
    return workload != "udp" or name in UDP_PROGRAMS


def program(name, workload, build):
    if workload == "udp":
        return os.path.join(build, UDP_PROGRAMS[name])
    if name in ENGINES:
        return os.path.join(build, "examples", "pica-%s-server" % workload)
    if name == "tokio":
        return tokio_program(build)
    if name == "libuv":
        return os.path.join(build, "bench", "pica-peer-libuv")
    return os.path.join(build, "bench", "pica-floor-" + name.replace("_", "-"))


def command(name, workload, threads, build):
    """The command line and the environment that start a contestant on a port of its choice."""
    line = [program(name, workload, build), "--port", "0"]
    environment = dict(os.environ)
    if name in ENGINES:
        environment["PICA_WORKERS"] = str(threads)
        environment["PICA_ENGINE"] = ENGINES[name]
    else:
        line += ["--threads", str(threads)]
        line += [] if workload == "udp" else ["--mode", workload]
    return line, environment


def parent(cores):
    """What a child does before it becomes the program: stay on these cores, open many files."""
    def prepare():
        os.sched_setaffinity(0, cores)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return prepare


def thread_times(pid):
    times = {}
    for thread in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as file:
                times[int(thread)] = [int(word) for word in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that has just ended
    return times


class Server:
    """A running contestant. prefix is a command that runs it, such as valgrind's."""

    def __init__(self, name, workload, threads, build, cores, prefix=()):
        line, environment = command(name, workload, threads, build)
        self.name = name
        self.buffer = b""
        self.tells = True
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(list(prefix) + line, env=environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.log, preexec_fn=parent(cores))
        self.pid = self.process.pid
        try:
            self.port = int(self.line_starting("listening", READY_S).split()[1])
        except Failed:
            self.stop()
            raise

    def line_starting(self, word, seconds):
        """The next line of output that starts with word."""
        deadline = time.monotonic() + seconds
        out = self.process.stdout
        while True:
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                if line.split(b" ")[0] == word.encode():
                    return line.decode()
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise Failed("%s did not print '%s'" % (self.name, word))
            got = os.read(out.fileno(), 4096)
            if not got:
                raise Failed("%s ended: %s" % (self.name, self.last_words()))
            self.buffer += got

    def last_words(self):
        self.log.seek(0)
        return self.log.read()[-400:].decode(errors="replace").strip() or "no message"

    def times(self):
        """{thread id: [ns on a CPU, ns ready but waiting for one, times on a CPU]}, all so far."""
        if self.process.poll() is not None:
            raise Failed("%s ended: %s" % (self.name, self.last_words()))
        return thread_times(self.pid)

    def handles_usr1(self):
        """Whether SIGUSR1 would reach a handler, or wait to be read, instead of ending it."""
        bit = 1 << (signal.SIGUSR1 - 1)
        with open("/proc/%d/status" % self.pid) as file:
            masks = dict(line.split(":\t") for line in file if line.startswith("Sig"))
        return any(int(masks[key], 16) & bit for key in ("SigCgt", "SigBlk"))

    def served(self):
        """What each thread served so far (bytes or requests), or None if it does not tell."""
        if not self.tells or not self.handles_usr1():
            return None
        os.kill(self.pid, signal.SIGUSR1)
        try:
            return [int(word) for word in self.line_starting("served", ANSWER_S).split()[1:]]
        except Failed:
            self.tells = False
            return None

    def stop(self):
        """Ends it, and returns its status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        return self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        return self.process.returncode
