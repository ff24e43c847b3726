"""What the commands of tests/scale/ that run a server of the examples share.

A command starts the program in a process of its own, reads the port that it prints, and looks at
it from outside: memory, descriptors and time of the processor from /proc, steps by SIGUSR1. Every
wait has a limit, and whatever the command does, the server is ended with it.

Exit status of a command: 0 all held, 1 not, 77 not possible here.
"""

import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time

LIMIT = 60.0  # seconds after which something hangs
SKIPPED = 77
HELLO = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
         b"Hello, World!")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def program(build, name):
    """The path of an example, or the end of the command if it was not built."""
    path = os.path.join(build, name)
    if not os.path.exists(path):
        print(f"skipped: {path} was not built")
        sys.exit(SKIPPED)
    return path


def want_descriptors(count):
    """Raises this process's limit, or ends the command if that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        print(f"skipped: needs {count} descriptors, the limit is {hard}")
        sys.exit(SKIPPED)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class Server:
    """A running example. descriptors: its limit of them, else that of this process. prefix: what starts it, and is
    then that very process. environment: variables besides. errors: a file for its stderr."""

    def __init__(self, path, *arguments, workers=2, descriptors=None, prefix=(), environment=None,
                 errors=None):
        def limit():
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))

        self.process = subprocess.Popen(
            [*prefix, path, "--port", "0", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=errors, env=dict(os.environ, PICA_WORKERS=str(workers), **(environment or {})),
            preexec_fn=None if descriptors is None else limit)
        words = self._line()
        if words[:1] != ["listening"]:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server did not say that it listens")
        self.address = ("127.0.0.1", int(words[1]))

    def _line(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            ready = selector.select(LIMIT)
        return self.process.stdout.readline().decode().split() if ready else []

    def memory(self):
        """Bytes: anonymous memory that is resident, and page tables."""
        found = {}
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name in ("RssAnon", "VmPTE"):
                    found[name] = int(value.split()[0]) << 10
        return found["RssAnon"], found["VmPTE"]

    def resident(self):
        return self.memory()[0]

    def peak_begin(self):
        """Begins to count the peak anew; gives the memory that is resident now, for peak_end."""
        try:
            with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as refs:
                refs.write("5")
        except OSError:
            pass  # a kernel without: then the peak is that of all its life
        return self.status("VmRSS")

    def peak_end(self, begun):
        """How much more than at peak_begin it had at most since. The kernel keeps that, so nobody looks meanwhile."""
        return max(0, self.status("VmHWM") - begun)

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) << 10
        raise AssertionError(f"no {name}")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu(self):
        """Seconds that its threads have run so far."""
        total = 0
        for tid in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{tid}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
        return total / 1e9

    def cpu_share(self, seconds):
        """The part of one processor that it takes in the time to come."""
        start, before = time.monotonic(), self.cpu()
        time.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - start)

    def served(self):
        """Steps of each worker's tasks so far."""
        self.process.send_signal(signal.SIGUSR1)
        words = self._line()
        assert words[:1] == ["served"], f"no 'served' but {words}"
        return [int(word) for word in words[1:]]

    def wait_descriptors(self, count):
        """Until no more than count are open; gives how many are."""
        end = time.monotonic() + LIMIT
        while (now := self.descriptors()) > count and time.monotonic() < end:
            time.sleep(0.02)
        return now

    def connect(self, receive_buffer=None, source=None):
        sock = socket.socket()
        sock.settimeout(LIMIT)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def connect_all(self, count):
        """From several addresses of the loopback network, so that ports suffice."""
        return [self.connect(source=f"127.0.0.{2 + i // 10000}") for i in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        """A server that is not there any more, or does not end, or not with 0, is a fault."""
        code = self.process.poll()
        if code is None:
            self.process.terminate()
            try:
                code = self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = self.process.wait()
        self.process.stdout.close()
        if kind is None and code != 0:
            raise AssertionError(f"the server ended with {code}")


def ask_all(connections, request, answer, together=100):
    """Sends the request over each connection and reads the answer, over so many at a time."""
    selector = selectors.DefaultSelector()
    waiting = list(reversed(connections))
    missing = 0

    def begin(connection):
        connection.setblocking(False)
        # What is left to send, what has come.
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE,
                          [memoryview(request), bytearray()])

    while waiting or missing:
        while waiting and missing < together:
            begin(waiting.pop())
            missing += 1
        ready = selector.select(LIMIT)
        assert ready, f"{missing} connections got no answer"
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                key.data[0] = key.data[0][key.fileobj.send(key.data[0]):]
                if not key.data[0]:
                    selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
            if events & selectors.EVENT_READ:
                data = key.fileobj.recv(1 << 16)
                assert data, "the server closed a connection"
                key.data[1].extend(data)
                if len(key.data[1]) >= len(answer):
                    assert key.data[1] == answer, "wrong answer"
                    selector.unregister(key.fileobj)
                    key.fileobj.settimeout(LIMIT)
                    missing -= 1
    selector.close()


def post(body):
    """A request to the HTTP example for the body, and its answer."""
    return (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body)
