#!/usr/bin/env python3
"""The static file server: the right bytes, nothing from outside, and clients that behave badly."""
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


def digest(data):
    return hashlib.sha256(data).hexdigest()


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
            status = b"200 OK" if data is not None else b"404 Not Found"
            wanted += b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data or b""), data or b"")
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


if __name__ == "__main__":
    example.main(globals(), "pica-static-file-server")
