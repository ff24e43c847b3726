#!/usr/bin/env python3
"""The HTTP server: answers, bodies, pipelining, limits, and clients that other people wrote."""
import asyncio
import http.client
import os
import pathlib
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402

HELLO = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
         b"Hello, World!")
HELLO_CLOSE = HELLO.replace(b"13\r\n", b"13\r\nConnection: close\r\n")
NOT_FOUND = (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"
             b"Not Found\n")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD_MAX = 16 << 10  # from the path to the empty line
MIB = 1 << 20


def error(status):
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def post(path, body, *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(path, body, chance):
    out = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    while body:
        size = min(len(body), chance.randrange(1, 5000))
        out += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return out + b"0\r\n\r\n"


def echoed(body):
    return (b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


class HttpCase(example.Case):
    def server(self, *arguments, **options):
        return example.Server("pica-http-server", *arguments, workers=self.workers, **options)

    def send_cut(self, sock, data, cut):
        """Sends data so that the server reads it in two pieces (more if they are large): the first
        comes with a request, and when that is answered it has been read."""
        sock.sendall(GET + data[:cut])
        self.assertEqual(example.read_exactly(sock, len(HELLO)), HELLO)
        sock.sendall(data[cut:])

    def exchange(self, server, data):
        """Sends data, and gives all that comes until the server closes."""
        with server.connect() as sock:
            sock.sendall(data)
            return example.read_all(sock)


class Answers(HttpCase):
    def test_raw(self):
        """The answer's bytes, one case for each kind of request."""
        cases = (
            (GET, HELLO),
            (b"\r\n\r\n" + GET, HELLO),
            (b"GET /?a=b HTTP/1.1\r\nHost: x\r\n\r\n", HELLO),
            (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO[:-13]),
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", HELLO_CLOSE),
            (b"GET / HTTP/1.0\r\n\r\n", HELLO_CLOSE),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
             HELLO.replace(b"13\r\n", b"13\r\nConnection: keep-alive\r\n")),
            (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND),
            (b"HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND[:-10]),
            (b"GET /echoes HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND),
            (b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
             b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"),
            (post("/", b"ignored"),
             b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Length: 0\r\n\r\n"),
            (post("/echo", b""), echoed(b"")),
            (post("/echo?x", b"body"), echoed(b"body")),
            # No other protocol is spoken: the request to change is not heard.
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", HELLO),
            (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND),
        )
        with self.server() as server:
            for request, answer in cases:
                with self.subTest(request=request):
                    with server.connect() as sock:
                        sock.sendall(request)
                        sock.shutdown(socket.SHUT_WR)
                        self.assertEqual(example.read_all(sock), answer)

    def test_keep_alive(self):
        with self.server() as server:
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=example.LIMIT)
            client.connect()
            first = client.sock
            for i in range(50):
                body = os.urandom(i * 100)
                client.request("POST", "/echo", body)
                self.assertEqual(client.getresponse().read(), body)
                client.request("HEAD", "/")
                response = client.getresponse()
                self.assertEqual((response.status, response.read()), (200, b""))
                client.request("GET", "/")
                self.assertEqual(client.getresponse().read(), b"Hello, World!")
                client.request("GET", "/none")
                response = client.getresponse()
                self.assertEqual((response.status, response.read()), (404, b"Not Found\n"))
                self.assertIs(client.sock, first)
            client.close()

    def test_pipelining(self):
        """100 requests of every kind, cut anywhere; the last one says close."""
        for seed in range(8):
            chance = random.Random(seed)
            requests, answers = [], []
            for _ in range(99):
                body = chance.randbytes(chance.choice((0, 1, 30, 3000, 20000)))
                kind = chance.randrange(4)
                requests.append((GET, GET, post("/echo", body),
                                 chunked("/echo", body, chance))[kind])
                answers.append((HELLO, HELLO, echoed(body), echoed(body))[kind])
            requests.append(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answers.append(HELLO_CLOSE)
            data = b"".join(requests)
            cuts = sorted(chance.randrange(len(data)) for _ in range(150))
            with self.subTest(seed=seed), self.server() as server, server.connect() as sock:
                got = self.send_in_pieces(sock, data, cuts)
                self.assertEqual(got, b"".join(answers))

    def send_in_pieces(self, sock, data, cuts):
        """Each piece is a segment of its own (TCP_NODELAY); reads between, so that nobody waits."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = bytearray()
        for begin, end in zip([0] + cuts, cuts + [len(data)]):
            sock.sendall(data[begin:end])
            if select.select([sock], [], [], 0)[0]:
                got += sock.recv(1 << 20)
        return bytes(got) + example.read_all(sock)

    def test_byte_by_byte(self):
        request = post("/echo", b"0123456789") + chunked("/echo", b"abcdef", random.Random(1)) + GET
        with self.server() as server, server.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(request)):
                sock.sendall(request[i:i + 1])
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(example.read_all(sock), echoed(b"0123456789") + echoed(b"abcdef") + HELLO)

    def test_one_send_for_a_batch(self):
        """50 requests in one segment are answered in one piece, also around bodies of any size."""
        batches = [(GET * 50, HELLO * 50)]
        for size, before, after in ((900, 17, 16), (1, 16, 30), (1500, 1, 0), (1500, 0, 10)):
            body = os.urandom(size)
            batches.append((GET * before + post("/echo", body) + GET * after,
                            HELLO * before + echoed(body) + HELLO * after))
        with self.server() as server, server.connect() as sock:
            for requests, answers in batches * 5:
                self.assertLess(len(requests), 2048)  # one read
                sock.sendall(requests)
                # The wait for all of it is the kernel's; one recv then shows one segment's worth.
                first = sock.recv(1 << 20)
                self.assertEqual(first, answers)

    def check_expect(self, sock, head, body, cut=None):
        """The head alone brings "100 Continue", the body the answer."""
        if cut is None:
            sock.sendall(head)
        else:
            self.send_cut(sock, head, cut)
        self.assertEqual(example.read_exactly(sock, len(GO_ON)), GO_ON)
        sock.sendall(body)
        self.assertEqual(example.read_exactly(sock, len(echoed(body))), echoed(body))

    def test_expect(self):
        body = os.urandom(5000)
        head = post("/echo", body, "eXPECT: 100-continue")[:-len(body)]
        with self.server() as server, server.connect() as sock:
            for data in (head, head.replace(b"Host: x", b"X-Expect: x\r\nExpected: y\r\nEmpty:"),
                         head.replace(b"Host", b"Expec"), head.replace(b"Host: x", b"expect:"),
                         head.replace(b"Content-Length: 5000", b"Transfer-Encoding: chunked")):
                with self.subTest(data=data):
                    sent = chunked("", body, random.Random(1)).split(b"\r\n\r\n", 1)[1]
                    sock.sendall(data)
                    self.assertEqual(example.read_exactly(sock, len(GO_ON)), GO_ON)
                    sock.sendall(sent if b"chunked" in data else body)
                    self.assertEqual(example.read_exactly(sock, len(echoed(body))), echoed(body))

    def test_expect_in_two_reads(self):
        """The head is cut before each of its bytes."""
        body = b"0123456789"
        head = post("/echo", body, "A: b", "EXPect: 100-continue", "C:")[:-len(body)]
        with self.server() as server, server.connect() as sock:
            for cut in range(len(head)):
                with self.subTest(cut=cut):
                    self.check_expect(sock, head, body, cut)

    def test_expect_nothing(self):
        """Names that only begin or end like it, and its name in other places, ask for nothing."""
        body = b"Expect: x\r\n\nExpect: y\r\n"
        plain = post("/echo", body)
        asking = post("/echo", body, "Expect: 100-continue")
        answer = echoed(body)
        cases = [(asking.replace(b"\nExpect", b"\n" + name, 1), answer)
                 for name in (b"Expec", b"Expected", b"X-Expect", b"A:\r\n Expect")]
        cases += [
            (plain, answer),
            (plain.replace(b"/echo", b"/echo?expect:"), answer),
            (asking.replace(b"/1.1", b"/1.0"),
             answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)),
            (post("/echo", b"", "Expect: 100-continue"), echoed(b"")),
            # It is that of the request before.
            (GET.replace(b"Host: x", b"Expect: 100-continue") + plain, HELLO + answer),
        ]
        with self.server() as server:
            for data, wanted in cases:
                size = len(data.replace(body, b""))
                for cut in (None, *range(0, size, 3), size - 1):
                    with self.subTest(data=data, cut=cut), server.connect() as sock:
                        if cut is None:
                            sock.sendall(data)
                        else:
                            self.send_cut(sock, data, cut)
                        sock.shutdown(socket.SHUT_WR)
                        self.assertEqual(example.read_all(sock), wanted)


class Limits(HttpCase):
    def test_bad_request(self):
        cases = (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nx",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        with self.server() as server:
            for data in cases:
                with self.subTest(data=data):
                    self.assertEqual(self.exchange(server, data), error("400 Bad Request"))
            # What came before it is answered.
            self.assertEqual(self.exchange(server, GET + b"nonsense\r\n\r\n" + GET),
                             HELLO + error("400 Bad Request"))

    def test_head_too_large(self):
        too_large = error("431 Request Header Fields Too Large")
        start = b"GET / HTTP/1.1\r\nHost: x\r\n"
        heads = {
            "one value": start + b"X: " + b"x" * 20000 + b"\r\n\r\n",
            "many": start + b"X: y\r\n" * 4000 + b"\r\n",
            "one name": start + b"x" * 20000 + b": y\r\n\r\n",
            "path alone": b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
            "before the path": b"GET" + b" " * 40000 + b"/ HTTP/1.1\r\n\r\n",
            "path": b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            "without end": start + b"X: " + b"x" * 20000,
            "far too large": start + b"X: " + b"x" * 1000000 + b"\r\n\r\n",
        }
        with self.server() as server:
            for name, data in heads.items():
                with self.subTest(name):
                    self.assertEqual(self.exchange(server, data), too_large)
                with self.subTest(name + ", in pieces"), server.connect() as sock:
                    for begin in (0, 7000, 14000):
                        sock.sendall(data[begin:begin + 7000])
                        time.sleep(0.05)  # so that they are most likely read one by one
                    sock.sendall(data[21000:])
                    self.assertEqual(example.read_all(sock), too_large)
            # The limit is on one request, not on what comes in one read, and 15 KiB are within.
            fits = start + b"X: " + b"x" * 15000 + b"\r\n\r\n"
            with server.connect() as sock:
                sock.sendall(GET * 2000 + fits * 20)
                self.assertEqual(example.read_exactly(sock, len(HELLO) * 2020), HELLO * 2020)

    def test_head_limit(self):
        """Exactly so much, and one byte more, wherever reads cut it and whatever comes before."""
        body = random.Random(1).randbytes(50000)
        bodies = {"": (b"", HELLO), "with a body": (body, echoed(body))}
        too_large = error("431 Request Header Fields Too Large")
        for name, (body, answer) in bodies.items():
            start = (f"POST /echo HTTP/1.1\r\nContent-Length: {len(body)}" if body
                     else "GET / HTTP/1.1").encode() + b"\r\nX: "
            fill = HEAD_MAX - len(start[start.index(b"/"):] + b"\r\n\r\n")
            fits = start + b"x" * fill + b"\r\n\r\n"
            more = fits.replace(b"X: ", b"X: x")
            cuts = (1, 4, 5, 6, 1000, 8192, *range(len(fits) - 4, len(fits)))
            with self.server() as server, server.connect() as sock:
                for before in (0, 1, 2, 300, 600):
                    with self.subTest(name + ", one read", before=before):
                        sock.sendall(GET * before + (fits + body) * 2 + GET)
                        wanted = HELLO * before + answer * 2 + HELLO
                        self.assertEqual(example.read_exactly(sock, len(wanted)), wanted)
                        self.assertEqual(self.exchange(server, GET * before + more),
                                         HELLO * before + too_large)
                for cut in cuts:
                    with self.subTest(name + ", two reads", cut=cut):
                        self.send_cut(sock, fits + body + GET, cut)
                        wanted = answer + HELLO
                        self.assertEqual(example.read_exactly(sock, len(wanted)), wanted)
                        with server.connect() as other:
                            self.send_cut(other, more, cut)
                            self.assertEqual(example.read_all(other), too_large)
                for cut in (1, 3, 4):
                    with self.subTest(name + ", first request", cut=cut), server.connect() as first:
                        first.sendall(fits[:cut])
                        time.sleep(0.05)  # so that it is most likely a read of its own
                        first.sendall(fits[cut:] + body)
                        self.assertEqual(example.read_exactly(first, len(answer)), answer)

    def test_body_too_large(self):
        too_large = error("413 Content Too Large")
        chance = random.Random(1)
        body = chance.randbytes(MIB)
        with self.server() as server, server.connect() as sock:
            for request in (post("/echo", body), chunked("/echo", body, chance)):
                sock.sendall(request)
                self.assertEqual(example.read_exactly(sock, len(echoed(body))), echoed(body))
            for path in ("/echo", "/"):
                for request in (post(path, body + b"x"), chunked(path, body + b"x", chance),
                                b"POST /echo HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"):
                    with self.subTest(path=path, size=len(request)):
                        self.assertEqual(self.exchange(server, request), too_large)

    def timed_exchange(self, server, data):
        start = time.monotonic()
        return self.exchange(server, data), time.monotonic() - start

    def test_idle(self):
        """Cut after --idle seconds: before a request, in a head, in a body, between requests."""
        cases = ((b"", b""), (b"GET / HT", b""), (post("/echo", b"abc")[:-1], b""), (GET, HELLO),
                 (GET + b"GET", HELLO))
        with self.server("--idle", "0.3") as server:
            for data, answer in cases:
                with self.subTest(data=data):
                    got, seconds = self.timed_exchange(server, data)
                    self.assertEqual(got, answer)
                    self.assertGreaterEqual(seconds, 0.29)
                    self.assertLess(seconds, 10)

    def dribble(self, server, data, pause):
        """Sends byte by byte; gives what came, and how many bytes were sent until the end."""
        with server.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                try:
                    sock.sendall(data[i:i + 1])
                    sock.settimeout(pause)
                    if sock.recv(1, socket.MSG_PEEK) == b"":
                        return b"", i
                    break
                except TimeoutError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    return b"", i
            sock.settimeout(example.LIMIT)
            sock.shutdown(socket.SHUT_WR)
            return example.read_all(sock), i

    def test_dribbling(self):
        """A head has --idle seconds in all; of a body each read has."""
        with self.server("--idle", "1.5") as server:
            for start in (b"GET / HTTP/1.1\r\nX: ", b"GET"):
                got, sent = self.dribble(server, start + b" " * 100, 0.2)
                self.assertEqual(got, b"")
                self.assertLess(sent, 50)
            body = b"0123456789"
            data = post("/echo", body)
            with server.connect() as sock:
                sock.sendall(data[:10])
                time.sleep(0.2)  # the client's pace, 2 s for the body
                sock.sendall(data[10:-len(body)])
                for i in range(len(body)):
                    time.sleep(0.2)
                    sock.sendall(body[i:i + 1])
                self.assertEqual(example.read_exactly(sock, len(echoed(body))), echoed(body))

    def test_client_that_does_not_read(self):
        """Cut when it has not read for --idle seconds; the server stops reading from it before."""
        with self.server("--idle", "0.5") as server, server.connect(size=4096) as sock:
            sock.settimeout(10)
            sent = 0
            with self.assertRaises((ConnectionResetError, BrokenPipeError)):
                while sent < 256 << 20:
                    sent += sock.send(GET * 1000)
            self.assertLess(sent, 256 << 20)
            with server.connect() as other:
                other.sendall(GET)
                self.assertEqual(example.read_exactly(other, len(HELLO)), HELLO)


class Draining(HttpCase):
    def test_nothing_open(self):
        with self.server("--grace", "30") as server:
            server.term()
            self.assertLess(server.wait(), 10)

    def test_idle_connections_end(self):
        with self.server("--grace", "30") as server:
            socks = [server.connect() for _ in range(20)]
            for sock in socks[:10]:
                sock.sendall(GET)
                self.assertEqual(example.read_exactly(sock, len(HELLO)), HELLO)
            server.term()
            for sock in socks:
                self.assertEqual(sock.recv(1), b"")
                sock.close()
            self.assertLess(server.wait(), 10)

    def test_request_in_flight(self):
        """Requests begun before the signal are answered, with Connection: close."""
        body = os.urandom(100000)
        request = post("/echo", body)
        closing = echoed(body).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        with self.server("--grace", "30") as server:
            socks = [server.connect() for _ in range(8)]
            marker = server.connect()
            for i, sock in enumerate(socks):
                # Answers one first, so that the server has surely seen it; the half of the next
                # comes in the same segment.
                sock.sendall(GET + request[:20 + i * 10000])
                self.assertEqual(example.read_exactly(sock, len(HELLO)), HELLO)
            server.term()
            # An idle connection ends: from here on the server surely drains.
            self.assertEqual(marker.recv(1), b"")
            marker.close()
            with self.assertRaises(ConnectionRefusedError):
                server.connect()
            for i, sock in enumerate(socks):
                sock.sendall(request[20 + i * 10000:] + GET)
                self.assertEqual(example.read_all(sock), closing)
                sock.close()
            self.assertLess(server.wait(), 10)

    def test_grace_ends(self):
        """A request that is never completed, and a client that never reads, do not hold the end."""
        with self.server("--grace", "0.5") as server:
            half, deaf = server.connect(), server.connect(size=4096)
            half.sendall(GET + b"GET / HTTP/1.1\r\n")
            self.assertEqual(example.read_exactly(half, len(HELLO)), HELLO)
            deaf.setblocking(False)
            try:
                while True:
                    deaf.send(GET * 1000)
            except BlockingIOError:
                pass
            server.term()
            self.assertLess(server.wait(), 10)
            self.assertEqual(half.recv(1), b"")
            half.close()
            deaf.close()


class Clients(HttpCase):
    def tool(self, *command):
        if shutil.which(command[0]) is None:
            self.skipTest(f"no {command[0]} here")
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=example.LIMIT, check=True).stdout

    def test_curl(self):
        with self.server() as server, tempfile.TemporaryDirectory() as folder:
            url = f"http://127.0.0.1:{server.port}"
            path = os.path.join(folder, "body")
            body = os.urandom(MIB)
            pathlib.Path(path).write_bytes(body)
            self.assertEqual(self.tool("curl", "-sS", f"{url}/"), b"Hello, World!")
            self.assertEqual(self.tool("curl", "-sS", "--http2", f"{url}/"), b"Hello, World!")
            for more in ((), ("-H", "Transfer-Encoding: chunked"), ("-0",),
                         ("-H", "Expect: 100-continue", "--expect100-timeout", "50")):
                with self.subTest(more=more):
                    got = self.tool("curl", "-sS", "--data-binary", f"@{path}", *more, f"{url}/echo")
                    self.assertEqual(got, body)
            with open(path, "ab") as file:
                file.write(b"x")
            got = self.tool("curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "--data-binary",
                            f"@{path}", f"{url}/echo")
            self.assertEqual(got, b"413")

    def test_ab(self):
        with self.server() as server:
            url = f"http://127.0.0.1:{server.port}/"
            for more in (("-k",), ()):
                count = "10000" if more else "1000"
                out = self.tool("ab", "-q", *more, "-n", count, "-c", "50", url).decode()
                self.assertRegex(out, rf"Complete requests: +{count}\n")
                self.assertRegex(out, r"Failed requests: +0\n")
                self.assertNotIn("Non-2xx", out)
                if more:
                    self.assertRegex(out, rf"Keep-Alive requests: +{count}\n")

    def test_wrk(self):
        with self.server() as server:
            out = self.tool("wrk", "-t1", "-c64", "-d2s",
                            f"http://127.0.0.1:{server.port}/").decode()
            self.assertNotIn("Socket errors", out)
            self.assertNotIn("Non-2xx", out)
            self.assertGreater(int(re.search(r"(\d+) requests in", out)[1]), 100)

    def test_asyncio(self):
        async def client(port, number):
            chance = random.Random(number)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(10):
                body = chance.randbytes(chance.randrange(30000))
                writer.write(GET + chunked("/echo", body, chance))
                await writer.drain()
                wanted = HELLO + echoed(body)
                self.assertEqual(await reader.readexactly(len(wanted)), wanted)
            writer.close()
            await writer.wait_closed()

        async def clients(port):
            await asyncio.wait_for(asyncio.gather(*(client(port, i) for i in range(100))),
                                   example.LIMIT)

        with self.server() as server:
            asyncio.run(clients(server.port))


if __name__ == "__main__":
    example.main(globals(), "pica-http-server")
