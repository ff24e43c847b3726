#!/usr/bin/env python3
"""The static file server: the right bytes, nothing from outside, and clients that behave badly."""
import email.utils
import hashlib
import http.client
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402

BIG = 100 << 20


# When the files were changed, and that in the three ways in which HTTP may write it.
CHANGED = 784111777
DATES = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


class Files(example.Case):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        outer = pathlib.Path(cls.temporary.name)
        cls.root = outer / "www"
        (cls.root / "sub").mkdir(parents=True)
        (outer / "secret").write_text("secret")
        base = os.urandom(1 << 20)
        cls.files = {"empty": b"", "one": b"1", "index.html": b"<p>hello", "sub/a b": os.urandom(70001),
                     "middle": os.urandom(3 << 20),
                     "big": b"".join(base[i:] + base[:i] for i in range(BIG >> 20))}
        for name, data in cls.files.items():
            (cls.root / name).write_bytes(data)
            os.utime(cls.root / name, (CHANGED, CHANGED))
        (cls.root / "leak").symlink_to("../secret")
        (cls.root / "far").symlink_to("/etc/passwd")
        os.mkfifo(cls.root / "fifo")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def server(self, *arguments, **options):
        return example.Server("pica-static-file-server", *arguments, str(self.root), workers=self.workers,
                              **options)

    def descriptors(self, server):
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    def assert_descriptors(self, server, before):
        limit = time.monotonic() + example.LIMIT
        while self.descriptors(server) != before:
            self.assertLess(time.monotonic(), limit, f"{self.descriptors(server)} descriptors, not {before}")
            time.sleep(0.02)  # the pace of looking

    def exchange(self, server, data):
        """The status and the body of each answer, until the server closes."""
        with server.connect() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return example.read_all(sock)

    def test_bytes(self):
        with self.server() as server:
            before = self.descriptors(server)
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=example.LIMIT)
            for _ in range(2):  # on one connection
                for name, data in self.files.items():
                    client.request("GET", "/" + name.replace(" ", "%20"))
                    answer = client.getresponse()
                    body = answer.read()
                    self.assertEqual((answer.status, len(body)), (200, len(data)))
                    self.assertEqual(digest(body), digest(data))
                    client.request("HEAD", "/" + name.replace(" ", "%20"))
                    answer = client.getresponse()
                    self.assertEqual(answer.getheader("Content-Length"), str(len(data)))
                    self.assertEqual(answer.read(), b"")
            client.request("GET", "/?a=b")
            self.assertEqual(client.getresponse().read(), b"<p>hello")
            client.close()
            self.assert_descriptors(server, before)

    def test_refused(self):
        cases = (("/none", 404), ("/sub", 404), ("/one/", 404), ("/fifo", 404), ("/sub/../one", 200),
                 ("/../secret", 403), ("/%2e%2e/secret", 403), ("/sub/..%2f../secret", 403),
                 ("//etc/passwd", 404), ("/%2fetc/passwd", 404), ("/leak", 403), ("/far", 403),
                 ("/one%00", 400), ("/%zz", 400), ("/%", 400), ("one", 400), ("/" + "x" * 2000, 414),
                 ("/" + "x" * 9000, 431))
        with self.server() as server:
            for path, status in cases:
                answer = self.exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                self.assertEqual(answer.split(b" ", 2)[1], str(status).encode(), path)
                self.assertNotIn(b"secret", answer)
                self.assertNotIn(b"root:", answer)
            for request, status in ((b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
                                    (b"\r\n\r\n", b"400"), (b"GET /\r\n\r\n", b"400"),
                                    (b"GET / HTTP/2\r\n\r\n", b"400"), (b" \r\n\r\n", b"400")):
                self.assertEqual(self.exchange(server, request).split(b" ", 2)[1], status, request)

    def test_pipelined(self):
        names = ["one", "middle", "empty", "sub/a%20b", "none", "middle"] * 3
        request = b"".join(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in names)
        wanted = b""
        for name in names:
            data = self.files.get(name.replace("%20", " "))
            if data is None:
                wanted += b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            else:
                wanted += (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nLast-Modified: %b\r\n"
                           b"Accept-Ranges: bytes\r\n\r\n%b" % (len(data), DATES[0].encode(), data))
        with self.server() as server:
            self.assertEqual(digest(self.exchange(server, request)), digest(wanted))

    def test_curl(self):
        curl = shutil.which("curl")
        if curl is None:
            self.skipTest("no curl")
        with self.server() as server:
            got = subprocess.run([curl, "-sS", "--http1.1", f"http://127.0.0.1:{server.port}/big"],
                                 capture_output=True, timeout=example.LIMIT, check=True).stdout
            self.assertEqual(digest(got), digest(self.files["big"]))

    def ask(self, client, name, **headers):
        """The answer's status, headers and body; headers: with _ for -."""
        method = headers.pop("method", "GET")
        client.request(method, "/" + name, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()

    def test_range(self):
        data, size = self.files["middle"], len(self.files["middle"])
        parts = (("0-0", 0, 1), ("0-", 0, size), ("5-9", 5, 10), (f"{size - 1}-", size - 1, size), ("-1", size - 1, size),
                 ("-70000", size - 70000, size), (f"-{size + 5}", 0, size), ("1048570-2097160", 1048570, 2097161),
                 (f"7-{size}", 7, size), ("9-" + "9" * 30, 9, size), ("-" + "9" * 30, 0, size))
        with self.server() as server:
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=example.LIMIT)
            client.connect()
            first = client.sock
            for text, begin, end in parts:
                with self.subTest(range=text):
                    status, headers, body = self.ask(client, "middle", Range=f"bytes={text}")
                    self.assertEqual((status, len(body)), (206, end - begin))
                    self.assertEqual(digest(body), digest(data[begin:end]))
                    self.assertEqual(headers["Content-Range"], f"bytes {begin}-{end - 1}/{size}")
                    self.assertEqual(headers["Last-Modified"], DATES[0])
            for text in (f"{size}-", f"{size}-{size + 5}", "-0", "9" * 30 + "-"):
                with self.subTest(range=text):
                    status, headers, body = self.ask(client, "middle", Range=f"bytes={text}")
                    self.assertEqual((status, body), (416, b""))
                    self.assertEqual(headers["Content-Range"], f"bytes */{size}")
            # What cannot be read, or need not be given: all of it.
            for value in ("bytes=", "bytes=-", "bytes=9-5", "bytes=a-5", "bytes=1-x", "bytes=1-5,7-9", "lines=1-5",
                          "bytes 1-5", "bytes=1", "bytes=1-5 6"):
                with self.subTest(value=value):
                    status, headers, body = self.ask(client, "sub/a%20b", Range=value)
                    self.assertEqual((status, digest(body)), (200, digest(self.files["sub/a b"])))
                    self.assertNotIn("Content-Range", headers)
            self.assertEqual(self.ask(client, "one", method="HEAD", Range="bytes=0-0")[0], 200)
            self.assertEqual(self.ask(client, "empty", Range="bytes=-5")[0], 200)
            self.assertEqual(self.ask(client, "empty", Range="bytes=0-")[0], 416)
            self.assertEqual(self.ask(client, "none", Range="bytes=0-")[0], 404)
            self.assertIs(client.sock, first)
            client.close()
            two = self.exchange(server, b"GET /one HTTP/1.1\r\nRange: bytes=0-0\r\nRange: bytes=0-0\r\n\r\n")
            self.assertTrue(two.startswith(b"HTTP/1.1 200 ") and two.endswith(b"\r\n\r\n1"))

    def test_if_range(self):
        with self.server() as server:
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=example.LIMIT)
            for value, status in ((DATES[0], 206), (DATES[1], 206), (date(CHANGED + 1), 200), (date(CHANGED - 1), 200),
                                  ('"tag"', 200), ("x", 200)):
                got = self.ask(client, "middle", Range="bytes=1-2", If_Range=value)
                self.assertEqual(got[0], status, value)
            fresh = self.root / "fresh"
            fresh.write_bytes(b"0123")
            os.utime(fresh, (time.time() + 60, time.time() + 60))
            status, headers, _ = self.ask(client, "fresh")
            changed = email.utils.parsedate_to_datetime(headers["Last-Modified"]).timestamp()
            self.assertLessEqual(changed, time.time())
            self.assertEqual(status, 200)
            # It may change again without another date.
            got = self.ask(client, "fresh", Range="bytes=1-2", If_Range=headers["Last-Modified"])
            self.assertEqual(got[0], 200)
            client.close()

    def test_if_modified_since(self):
        with self.server() as server:
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=example.LIMIT)
            client.connect()
            first = client.sock
            for method in ("GET", "HEAD"):
                for value in (*DATES, date(CHANGED + 1000)):
                    status, headers, body = self.ask(client, "middle", method=method, If_Modified_Since=value)
                    self.assertEqual((status, body), (304, b""), value)
                    self.assertEqual(headers["Last-Modified"], DATES[0])
                    self.assertNotIn("Content-Length", headers)
                for value in (date(CHANGED - 1), "yesterday", "", DATES[0] + "x", "x" * 500):
                    status, headers, _ = self.ask(client, "one", method=method, If_Modified_Since=value)
                    self.assertEqual(status, 200, value)
                    self.assertEqual(headers["Content-Length"], "1")
            got = self.ask(client, "one", If_Modified_Since=DATES[0], Range="bytes=0-0")
            self.assertEqual(got[0], 304)
            got = self.ask(client, "one", If_Modified_Since=date(CHANGED - 1), Range="bytes=0-0")
            self.assertEqual(got[0], 206)
            # A tag is asked for instead, and files have none.
            got = self.ask(client, "one", If_Modified_Since=DATES[0], If_None_Match='"x"')
            self.assertEqual(got[0], 200)
            got = self.ask(client, "one", If_None_Match="*", If_Modified_Since=date(CHANGED - 1))
            self.assertEqual(got[0], 304)
            self.assertEqual(self.ask(client, "none", If_Modified_Since=DATES[0])[0], 404)
            self.assertIs(client.sock, first)
            client.close()

    def test_curl_ranges_and_dates(self):
        curl = shutil.which("curl")
        if curl is None:
            self.skipTest("no curl")
        with self.server() as server, tempfile.TemporaryDirectory() as folder:
            url, out = f"http://127.0.0.1:{server.port}/big", pathlib.Path(folder) / "out"

            def get(*arguments):
                return subprocess.run([curl, "-sS", "--http1.1", "-o", str(out), "-w", "%{http_code}", *arguments, url],
                                      capture_output=True, text=True, timeout=example.LIMIT, check=True).stdout

            data = self.files["big"]
            self.assertEqual(get("-r", "1000-2000999"), "206")
            self.assertEqual(digest(out.read_bytes()), digest(data[1000:2001000]))
            self.assertEqual(get("-r", "-77"), "206")
            self.assertEqual(out.read_bytes(), data[-77:])
            self.assertEqual(get("-r", f"{BIG}-"), "416")
            out.write_bytes(data[:12345678])  # a download that was cut, and goes on
            self.assertEqual(get("-C", "-"), "206")
            self.assertEqual(digest(out.read_bytes()), digest(data))
            self.assertEqual(get("-R"), "200")  # takes the file's date over
            self.assertEqual(out.stat().st_mtime, CHANGED)
            self.assertEqual(get("-z", str(out)), "304")
            self.assertEqual(get("-z", DATES[0]), "304")
            self.assertEqual(get("-z", date(CHANGED - 1)), "200")

    def test_bad_clients(self):
        """Slow ones get everything, ones that go away leave nothing behind, and others are served."""
        with self.server() as server:
            before = self.descriptors(server)
            slow = server.connect(size=4096)
            slow.sendall(b"GET /middle HTTP/1.0\r\n\r\n")
            for i in range(20):
                gone = server.connect(size=4096)
                gone.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
                gone.recv(1 + 5000 * i)
                if i % 2:
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                gone.close()
            answer = self.exchange(server, b"GET /one HTTP/1.0\r\n\r\n")
            self.assertTrue(answer.endswith(b"\r\n\r\n1"))
            body = example.read_all(slow).split(b"\r\n\r\n", 1)[1]
            self.assertEqual(digest(body), digest(self.files["middle"]))
            slow.close()
            self.assert_descriptors(server, before)

    def test_many(self):
        wanted = digest(self.files["middle"])
        found = []

        def get(port):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=example.LIMIT)
            for _ in range(3):
                client.request("GET", "/middle")
                found.append(digest(client.getresponse().read()))
            client.close()

        with self.server() as server:
            before = self.descriptors(server)
            threads = [threading.Thread(target=get, args=(server.port,)) for _ in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(example.LIMIT)
            self.assertEqual(found, [wanted] * 96)
            self.assert_descriptors(server, before)

    def test_ends_with_a_client_that_does_not_read(self):
        with self.server("--grace", "0.2") as server, server.connect(size=4096) as sock:
            sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(sock.recv(1))
            server.term()
            self.assertLess(server.wait(), 10)

    def test_restart_under_load(self):
        """Each server inherits the listener, and the one before ends: whoever connects is served by one or the other."""
        clients, restarts, each = 4, 5, 50  # each: requests served by a server before the next one comes
        served, errors, over = [], [], threading.Event()

        def get(port):
            while not over.is_set() and not errors:
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=example.LIMIT)
                try:
                    client.request("GET", "/one")
                    answer = client.getresponse()
                    served.append((answer.status, answer.read()))
                except OSError as reason:
                    errors.append(reason)
                client.close()

        def wait_served(count):
            limit = time.monotonic() + example.LIMIT
            while len(served) < count and not errors:
                self.assertLess(time.monotonic(), limit)
                time.sleep(0.005)  # the pace of looking

        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            port = listener.getsockname()[1]
            threads = [threading.Thread(target=get, args=(port,)) for _ in range(clients)]
            server = self.server(listener=listener)
            for thread in threads:
                thread.start()
            try:
                for _ in range(restarts):
                    wait_served(len(served) + each)
                    before, server = server, self.server(listener=listener)
                    with before:
                        pass
                wait_served(len(served) + each)
            finally:
                over.set()
                for thread in threads:
                    thread.join(example.LIMIT)
                with server:
                    pass
        self.assertEqual(errors, [])
        self.assertEqual(set(served), {(200, b"1")})


if __name__ == "__main__":
    example.main(globals(), "pica-static-file-server")
