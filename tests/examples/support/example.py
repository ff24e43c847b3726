"""What the tests of the examples share: running a program, or a server, of the build.

A test file ends with `example.main(globals())`; its cases are methods of classes made from
example.Case. It is called as `test_x.py DIRECTORY [CASE...]`, where DIRECTORY holds the programs. Each
case runs with the worker counts of WORKERS, or with the one in PICA_WORKERS.
"""
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77
WORKERS = ("1", "3")
LIMIT = 60.0  # seconds after which something hangs; far beyond what anything needs
directory = None
prefix = []  # what runs the programs, as valgrind


def program(name):
    return str(directory / name)


def sanitized(path):
    """Whether a sanitizer is built into a program: it keeps memory that was freed, and bears no valgrind."""
    code = pathlib.Path(path).read_bytes()
    return b"__asan_init" in code or b"__tsan_init" in code


def environment(path, workers):
    """For a program. ThreadSanitizer keeps a signal back until the context that it hit makes a call that it knows, and
    forgets it if that was a task which ends: so signals are to hit a thread that runs no tasks."""
    debug = [os.environ["PICA_DEBUG"]] if os.environ.get("PICA_DEBUG") else []
    if b"__tsan_init" in pathlib.Path(path).read_bytes():
        debug.append("unhosted")
    return dict(os.environ, PICA_WORKERS=workers, **({"PICA_DEBUG": ",".join(debug)} if debug else {}))


def complaints(text):
    """What a program wrote to its standard error, without the line that says why epoll is used: that is no fault."""
    return "".join(line for line in text.splitlines(True) if not line.rstrip().endswith("; using epoll"))


def run(name, *arguments, workers):
    """Runs a program to its end; gives its standard output."""
    done = subprocess.run([*prefix, program(name), *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LIMIT, check=False,
                          env=environment(program(name), workers))
    if done.returncode != 0 or complaints(done.stderr):
        raise AssertionError(f"{name} {arguments}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


# Runs a program with a descriptor as the first that systemd would pass to it.
INHERIT = """import os, sys
fd = int(sys.argv[1])
if fd != 3:
    os.dup2(fd, 3)
    os.close(fd)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])"""


class Server:
    """A server of the examples; leaving the context ends it and checks how it ended. listener: it inherits that."""

    def __init__(self, name, *arguments, workers, host="127.0.0.1", listener=None):
        self.host = host
        self.errors = tempfile.TemporaryFile()
        passed = () if listener is None else (listener.fileno(),)
        first = [sys.executable, "-c", INHERIT, str(passed[0])] if passed else []
        self.process = subprocess.Popen(
            [*first, *prefix, program(name), "--host", host, *arguments], stdin=subprocess.DEVNULL, pass_fds=passed,
            stdout=subprocess.PIPE, stderr=self.errors, env=environment(program(name), workers))
        self.listening = self._first_line()

    def _first_line(self):
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT)
        line = self.process.stdout.readline().decode() if ready else ""
        if not line.startswith("listening "):
            self.process.kill()
            raise AssertionError(f"no 'listening' but {line!r}\n{self.error_text()}")
        return line.split(maxsplit=1)[1].strip()

    @property
    def port(self):
        return int(self.listening)

    def error_text(self):
        self.errors.seek(0)
        return complaints(self.errors.read().decode(errors="replace"))

    def connect(self, size=None):
        """A connected socket; size: of its receive buffer."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(LIMIT)
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        sock.connect((self.host, self.port))
        return sock

    def term(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        """Waits for the end; gives the seconds that it took."""
        start = time.monotonic()
        code = self.process.wait(LIMIT)
        if code != 0:
            raise AssertionError(f"the server ended with {code}\n{self.error_text()}")
        return time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                if self.process.poll() is None:
                    self.term()
                self.wait()
                if self.error_text():
                    raise AssertionError(f"the server wrote:\n{self.error_text()}")
            elif self.process.poll() is not None:
                print(f"the server ended with {self.process.returncode}", file=sys.stderr)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if kind is not None:
                print(self.error_text(), file=sys.stderr)
            self.process.stdout.close()
            self.errors.close()


def read_all(sock):
    """Everything up to the end of the stream."""
    data = bytearray()
    while True:
        part = sock.recv(1 << 16)
        if not part:
            return bytes(data)
        data += part


def read_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise AssertionError(f"the stream ended after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


class Case(unittest.TestCase):
    workers = None  # set in the classes that main makes


def main(names, *programs):
    """Runs the cases of a test file, once for each worker count."""
    global directory
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY [CASE...]")
    directory = pathlib.Path(sys.argv.pop(1)).resolve()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    for name in programs:
        if not pathlib.Path(program(name)).exists():
            print(f"{name} was not built")
            sys.exit(SKIPPED)
    counts = (os.environ["PICA_WORKERS"],) if os.environ.get("PICA_WORKERS") else WORKERS
    suite = unittest.TestSuite()
    for case in [c for c in list(names.values()) if isinstance(c, type) and issubclass(c, Case)]:
        for count in counts:
            made = type(f"{case.__name__}_{count}_workers", (case,), {"workers": count})
            for test in unittest.defaultTestLoader.getTestCaseNames(made):
                if len(sys.argv) == 1 or test in sys.argv[1:]:
                    suite.addTest(made(test))
    if suite.countTestCases() == 0:
        sys.exit(f"no such case: {sys.argv[1:]}")
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    sys.exit(not result.wasSuccessful())
