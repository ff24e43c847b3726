#!/usr/bin/env python3
"""The reverse proxy, in front of the HTTP example and of backends that are played by the test."""
import asyncio
import hashlib
import http.client
import os
import pathlib
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402

MIB = 1 << 20
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
VIA = b"Via: 1.1 pica\r\n"
HELLO = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n" + VIA +
         b"\r\nHello, World!")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_SEEN = OK.replace(b"\r\n\r\n", b"\r\n" + VIA + b"\r\n")


def error(status):
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def post(path, body, *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunks(body, chance):
    out = bytearray()
    while body:
        size = min(len(body), chance.randrange(1, 50000))
        out += b"%x;ext=1\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return bytes(out + b"0\r\nA-Trailer: x\r\n\r\n")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


class Played:
    """A backend whose connections a function serves, each in a thread: play(sock, number)."""

    def __init__(self, play):
        self.play = play
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.count = 0
        self.errors = []
        self.threads = []

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            thread = threading.Thread(target=self.serve, args=(sock, self.count), daemon=True)
            self.threads.append(thread)
            thread.start()

    def serve(self, sock, number):
        with sock:
            sock.settimeout(example.LIMIT)
            try:
                self.play(sock, number)
            except Exception as reason:  # told by the test's own thread
                self.errors.append(reason)

    def __enter__(self):
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()
        return self

    def __exit__(self, kind, value, trace):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in [self.acceptor, *self.threads]:
            thread.join(example.LIMIT)
            if thread.is_alive() and kind is None:
                raise AssertionError("a connection to the backend did not end")
        if self.errors and kind is None:
            raise self.errors[0]


def read_head(sock):
    """Up to the empty line; b"" at the end of the stream."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        part = sock.recv(1)
        if not part:
            return data
        data += part
    return data


class ProxyCase(example.Case):
    def backend(self, *arguments):
        return example.Server("pica-http-server", *arguments, workers=self.workers)

    def proxy(self, port, *arguments):
        return example.Server("pica-reverse-proxy", "--backend", f"127.0.0.1:{port}", *arguments,
                              workers=self.workers)

    def exchange(self, proxy, data):
        """Sends data, and gives all that comes until the proxy closes."""
        with proxy.connect() as sock:
            sock.sendall(data)
            return example.read_all(sock)

    def get(self, sock, answer, request=GET):
        sock.sendall(request)
        self.assertEqual(example.read_exactly(sock, len(answer)), answer)

    def wait_descriptors(self, server, count):
        """Closing happens a little after the peer sees it."""
        end = time.monotonic() + 15
        while descriptors(server) != count and time.monotonic() < end:
            time.sleep(0.01)  # the pace of asking
        self.assertEqual(descriptors(server), count)


class WithServer(ProxyCase):
    def test_get(self):
        with self.backend() as backend, self.proxy(backend.port) as proxy:
            with proxy.connect() as sock:
                for _ in range(20):
                    self.get(sock, HELLO)
                self.get(sock, HELLO[:-13], GET.replace(b"GET", b"HEAD"))
                self.get(sock, HELLO)
            self.assertEqual(self.exchange(proxy, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
                             HELLO.replace(VIA, VIA + b"Connection: close\r\n"))
            old = self.exchange(proxy, b"GET / HTTP/1.0\r\n\r\n")
            self.assertTrue(old.startswith(b"HTTP/1.1 200 OK\r\n") and old.endswith(b"\r\n\r\nHello, World!"))

    def test_bodies(self):
        body, chance = os.urandom(MIB), random.Random(1)
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.backend() as backend, self.proxy(backend.port) as proxy, proxy.connect() as sock:
            for request in (post("/echo", body), head + chunks(body, chance), post("/echo", b""),
                            head + b"0\r\n\r\n", post("/echo", body)):
                size = 0 if len(request) < 200 else MIB
                sock.sendall(request)
                self.assertIn(b"Content-Length: %d\r\n" % size, read_head(sock))
                self.assertEqual(sha(example.read_exactly(sock, size)), sha(body[:size]))

    def test_pipelined(self):
        with self.backend() as backend, self.proxy(backend.port) as proxy, proxy.connect() as sock:
            count = 2000  # more than a reader holds
            sender = threading.Thread(target=sock.sendall, args=((GET + post("/echo", b"ab")) * count,))
            sender.start()
            echoed = (b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                      b"Content-Length: 2\r\n" + VIA + b"\r\nab")
            wanted = (HELLO + echoed) * count
            self.assertEqual(sha(example.read_exactly(sock, len(wanted))), sha(wanted))
            sender.join(example.LIMIT)

    def test_backend_restarted(self):
        with self.backend() as backend:
            port = backend.port
        with self.proxy(port) as proxy, proxy.connect() as sock:
            for _ in range(3):
                with example.Server("pica-http-server", "--port", str(port), workers=self.workers):
                    self.get(sock, HELLO)
                    self.get(sock, HELLO.replace(b"text/plain", b"application/octet-stream"),
                             post("/echo", b"Hello, World!"))
                self.assertEqual(self.exchange(proxy, GET), error("502 Bad Gateway"))

    def test_50_clients(self):
        async def client(port, number):
            chance = random.Random(number)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(6):
                body = chance.randbytes(chance.randrange(100000))
                if chance.random() < 0.5:
                    writer.write(post("/echo", body))
                else:
                    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                 chunks(body, chance))
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                self.assertIn(b"Content-Length: %d\r\n" % len(body), head)
                self.assertEqual(sha(await reader.readexactly(len(body))), sha(body))
                writer.write(GET)
                self.assertEqual(await reader.readexactly(len(HELLO)), HELLO)
            writer.close()
            await writer.wait_closed()

        async def clients(port):
            await asyncio.wait_for(asyncio.gather(*(client(port, i) for i in range(50))), example.LIMIT)

        with self.backend() as backend, self.proxy(backend.port, "--keep", "1") as proxy:
            before = descriptors(proxy)
            asyncio.run(clients(proxy.port))
            self.assertLessEqual(descriptors(proxy), before + 50 + 64)
            self.wait_descriptors(proxy, before)  # also the pool's, after its time

    def test_slow_client(self):
        with self.backend() as backend, self.proxy(backend.port, "--timeout", "1.5") as proxy:
            body = b"0123456789"
            request = post("/echo", body)
            with proxy.connect() as sock, proxy.connect() as other:
                sock.sendall(request[:-10])
                for i in range(10):  # 2 s in all, each piece within its time
                    time.sleep(0.2)  # the client's pace
                    sock.sendall(body[i:i + 1])
                    self.get(other, HELLO)
                self.assertIn(b"200 OK", read_head(sock))
                self.assertEqual(example.read_exactly(sock, 10), body)
            for start in (b"GET / HTTP/1.1\r\nHo", post("/echo", b"12345")[:-2]):
                self.assertEqual(self.exchange(proxy, start), error("408 Request Timeout"))

    def test_early_answer(self):
        """An answer that does not wait for the body: it arrives, and the connection ends."""
        with self.backend() as backend, self.proxy(backend.port) as proxy:
            with proxy.connect() as sock:
                sock.sendall(post("/echo", bytes(MIB + 1))[:100000])
                self.assertIn(b"HTTP/1.1 413 Content Too Large\r\n", example.read_all(sock))

    def test_curl(self):
        if shutil.which("curl") is None:
            self.skipTest("no curl here")
        with self.backend() as backend, self.proxy(backend.port) as proxy, \
                tempfile.TemporaryDirectory() as folder:
            url = f"http://127.0.0.1:{proxy.port}/echo"
            path = os.path.join(folder, "body")
            body = os.urandom(MIB)
            pathlib.Path(path).write_bytes(body)
            for more in ((), ("-H", "Transfer-Encoding: chunked"), ("-0",),
                         ("-H", "Expect: 100-continue", "--expect100-timeout", "50")):
                with self.subTest(more=more):
                    got = subprocess.run(["curl", "-sS", "--data-binary", f"@{path}", *more, url],
                                         stdin=subprocess.DEVNULL, capture_output=True,
                                         timeout=example.LIMIT, check=True).stdout
                    self.assertEqual(sha(got), sha(body))


class Strict(ProxyCase):
    def test_refused(self):
        bad = (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX : 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\nX: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\rX: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
            b"\0\r\n\r\n",
            b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
            b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
            b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
            b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999\r\n\r\n",
        )
        chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        bodies = (b"\r\n", b"x\r\n", b"0x1\r\n", b" 1\r\n", b"-1\r\n", b"1234567890abcdef0\r\n",
                  b"1\r\naXX")

        def swallow(sock, _number):
            example.read_all(sock)

        with Played(swallow) as backend, self.proxy(backend.port) as proxy:
            for request in bad:
                with self.subTest(request=request):
                    self.assertEqual(self.exchange(proxy, request), error("400 Bad Request"))
            self.assertEqual(backend.count, 0)
            self.assertEqual(self.exchange(proxy, GET[:-2] + b"X: " + b"y" * (16 << 10)),
                             error("431 Request Header Fields Too Large"))
            for body in bodies:
                with self.subTest(body=body):
                    self.assertEqual(self.exchange(proxy, chunked + body), error("400 Bad Request"))

    def test_bad_answers(self):
        bad = (b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 20 OK\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
               b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20000)

        def play(sock, number):
            read_head(sock)
            sock.sendall(bad[number - 1])
            sock.shutdown(socket.SHUT_WR)
            try:
                example.read_all(sock)
            except ConnectionResetError:
                pass  # what the proxy had not read

        with Played(play) as backend, self.proxy(backend.port) as proxy:
            for answer in bad:
                with self.subTest(answer=answer[:50]):
                    self.assertEqual(self.exchange(proxy, GET), error("502 Bad Gateway"))

    def test_headers(self):
        """Those of the connection stay, the others go on; framing cannot be talked away."""
        seen = []

        def play(sock, _number):
            while head := read_head(sock):
                seen.append(head + example.read_exactly(sock, 2))
                sock.sendall(b"HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nX-B: 2\r\nConnection: X-B\r\n"
                             b"Content-Length: 2\r\n\r\nok")

        with Played(play) as backend, self.proxy(backend.port) as proxy:
            with proxy.connect() as sock:
                self.get(sock, OK_SEEN, b"\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:2 \r\nX-A: 1\r\nTE: y\r\n"
                         b"Upgrade: h2c\r\nX-C: keep me\r\nconnection: x-a, Content-Length,upgrade\r\n\r\nhi")
        self.assertEqual(seen, [b"POST /a?b HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:2 \r\nX-C: keep me\r\n" + VIA +
                                b"\r\nhi"])


class WithPlayed(ProxyCase):
    def test_chunked_answer(self):
        """Chunks flow as they come; a connection that only ends is an end, too."""
        chance, body = random.Random(2), os.urandom(3 * MIB)

        def play(sock, _number):
            read_head(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            gate.wait(example.LIMIT)
            sock.sendall(chunks(body, chance))
            read_head(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)

        gate = threading.Event()
        with Played(play) as backend, self.proxy(backend.port) as proxy:
            client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=example.LIMIT)
            client.request("GET", "/")
            answer = client.getresponse()
            self.assertEqual(answer.read(5), b"first")
            gate.set()
            self.assertEqual(sha(answer.read()), sha(body))
            client.request("GET", "/")
            answer = client.getresponse()
            self.assertEqual(answer.getheader("Connection"), "close")
            self.assertEqual(sha(answer.read()), sha(body))
            client.close()
            self.assertEqual(backend.count, 1)

    def test_kept_connection_ends_late(self):
        """The backend takes a request on a kept connection and ends it: repeated if that is harmless."""
        requests = []

        def play(sock, number):
            while head := read_head(sock):
                requests.append((number, head[:4]))
                if len(requests) % 2 == 0:
                    return
                sock.sendall(OK)

        with Played(play) as backend, self.proxy(backend.port) as proxy:
            with proxy.connect() as sock:
                self.get(sock, OK_SEEN)
                self.get(sock, OK_SEEN)
                sock.sendall(post("/", b""))
                self.assertEqual(example.read_all(sock), error("502 Bad Gateway"))
        self.assertEqual(requests, [(1, b"GET "), (1, b"GET "), (2, b"GET "), (2, b"POST")])

    def test_unasked_bytes(self):
        """What a backend says on a kept connection is nobody's answer."""
        said = threading.Event()

        def play(sock, number):
            read_head(sock)
            sock.sendall(OK)
            if number == 1:
                time.sleep(0.2)  # until the connection lies in the pool; else it would not be put there
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                said.set()
            example.read_all(sock)

        with Played(play) as backend, self.proxy(backend.port) as proxy, proxy.connect() as sock:
            self.get(sock, OK_SEEN)
            self.assertTrue(said.wait(example.LIMIT))
            self.get(sock, OK_SEEN)
            self.assertEqual(backend.count, 2)
            sock.close()
            proxy.term()  # else the kept connection would stay for its time
            proxy.wait()

    def test_time_out(self):
        def play(sock, _number):
            example.read_all(sock)

        with Played(play) as backend, self.proxy(backend.port, "--timeout", "0.5") as proxy:
            start = time.monotonic()
            self.assertEqual(self.exchange(proxy, GET), error("504 Gateway Timeout"))
            self.assertGreaterEqual(time.monotonic() - start, 0.5)

    def test_no_stack_for_the_body(self):
        """The task that would pass the body on finds no stack: the request ends in time, and the next is served."""
        def play(sock, _number):
            if read_head(sock).startswith(b"GET "):
                sock.sendall(OK)
            example.read_all(sock)

        few = {"PICA_MAX_STACKS": "3", "PICA_LOG": "error"}  # of the program itself, the pool and the client
        with unittest.mock.patch.dict(os.environ, few), Played(play) as backend, \
                self.proxy(backend.port, "--timeout", "0.5") as proxy:
            self.assertEqual(self.exchange(proxy, post("/", b"body")), error("504 Gateway Timeout"))
            with proxy.connect() as sock:
                self.get(sock, OK_SEEN)

    def test_body_not_taken(self):
        """A backend that does not read is late, not the client."""
        def play(_sock, _number):
            end.wait(example.LIMIT)

        end = threading.Event()
        with Played(play) as backend, self.proxy(backend.port, "--timeout", "0.5") as proxy, \
                proxy.connect() as sock:
            request = post("/", bytes(64 * MIB))
            sock.setblocking(False)
            sent = 0
            while select.select([sock], [sock], [])[0] == []:
                sent += sock.send(request[sent:sent + MIB])
            sock.setblocking(True)
            self.assertLess(sent, len(request))
            self.assertEqual(read_head(sock), error("504 Gateway Timeout"))
            end.set()

    def test_client_goes_away(self):
        """With its end, or a reset, while the backend thinks or speaks: its request ends there, too."""
        asked, ends = threading.Semaphore(0), []

        def play(sock, number):
            read_head(sock)
            if number % 2 == 0:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")
            asked.release()
            try:
                ends.append(sock.recv(1))
            except ConnectionResetError:
                ends.append(b"")

        with Played(play) as backend, self.proxy(backend.port) as proxy:
            before = descriptors(proxy)
            for number in range(8):
                sock = proxy.connect()
                sock.sendall(GET)
                self.assertTrue(asked.acquire(timeout=example.LIMIT))
                if number % 4 < 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            self.wait_descriptors(proxy, before)
        self.assertEqual(ends, [b""] * 8)

    def test_back_pressure(self):
        """Neither direction is read faster than the other side takes it."""
        size, taken, uploaded = 128 * MIB, [], []

        def play(sock, number):
            read_head(sock)
            if number == 2:
                stuck.wait(example.LIMIT)  # reads nothing of the body until then
                uploaded.append(sha(example.read_exactly(sock, size)))
                sock.sendall(OK)
                return
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            sock.settimeout(1)
            try:
                while sum(taken) < size:
                    taken.append(sock.send(bytes(MIB)))
            except socket.timeout:
                stuck.set()
            sock.settimeout(example.LIMIT)
            try:
                sock.recv(1)
            except ConnectionResetError:
                pass

        def resident():
            for line in pathlib.Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) << 10
            return 0

        stuck = threading.Event()
        allowed = 4 * MIB if not example.sanitized(example.program("pica-reverse-proxy")) else size
        with Played(play) as backend, self.proxy(backend.port) as proxy:
            with proxy.connect(size=4096) as sock:
                before = resident()
                sock.sendall(GET)
                self.assertTrue(stuck.wait(example.LIMIT))
                self.assertLess(resident() - before, allowed)
                self.assertLess(sum(taken), size // 2)
            stuck.clear()
            with proxy.connect() as sock:
                block, sent = os.urandom(MIB), 0
                sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
                sock.settimeout(1)
                with self.assertRaises(socket.timeout):
                    while sent < size:
                        sent += sock.send(block[sent % MIB:])
                self.assertLess(resident() - before, allowed)
                self.assertLess(sent, size // 2)
                stuck.set()
                sock.settimeout(example.LIMIT)
                while sent < size:
                    sent += sock.send(block[sent % MIB:])
                self.assertEqual(example.read_exactly(sock, len(OK_SEEN)), OK_SEEN)
                self.assertEqual(uploaded, [sha(block * (size // MIB))])

    def test_end(self):
        """What is under way is answered within the grace; the connection then ends."""
        gate = threading.Event()

        def play(sock, _number):
            read_head(sock)
            asked.set()
            gate.wait(example.LIMIT)
            sock.sendall(OK)
            example.read_all(sock)

        asked = threading.Event()
        with Played(play) as backend, self.proxy(backend.port) as proxy:
            with proxy.connect() as sock:
                sock.sendall(GET)
                self.assertTrue(asked.wait(example.LIMIT))
                proxy.term()
                with self.assertRaises(ConnectionRefusedError):
                    while True:
                        proxy.connect().close()
                        time.sleep(0.02)  # the pace of asking
                gate.set()
                self.assertEqual(example.read_all(sock), OK_SEEN.replace(VIA, VIA + b"Connection: close\r\n"))
            self.assertLess(proxy.wait(), 10)


if __name__ == "__main__":
    example.main(globals(), "pica-reverse-proxy", "pica-http-server")
