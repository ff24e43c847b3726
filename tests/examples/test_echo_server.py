#!/usr/bin/env python3
"""The echo server: what is sent comes back, over TCP, IPv6 and Unix sockets, and SIGTERM ends it."""
import hashlib
import os
import pathlib
import random
import signal
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402


def have_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
        return True
    except OSError:
        return False


class Echo(example.Case):
    def server(self, *arguments, **options):
        return example.Server("pica-echo-server", *arguments, workers=self.workers, **options)

    def check(self, sock, chance):
        data = chance.randbytes(chance.randrange(1, 20000))
        sock.sendall(data)
        self.assertEqual(example.read_exactly(sock, len(data)), data)

    def test_several_clients(self):
        chance = random.Random(1)
        with self.server() as server:
            socks = [server.connect() for _ in range(20)]
            for _ in range(300):
                self.check(chance.choice(socks), chance)
            for sock in socks:
                # Half-closed by the client: the rest still comes, then the end.
                sock.sendall(b"the last words")
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(example.read_all(sock), b"the last words")
                sock.close()

    def test_ipv6(self):
        if not have_ipv6():
            self.skipTest("no IPv6 here")
        with self.server(host="::1") as server, server.connect() as sock:
            self.check(sock, random.Random(2))

    def test_unix(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "echo")
            with self.server("--unix", path) as server:
                self.assertEqual(server.listening, path)
                socks = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(5)]
                for sock in socks:
                    sock.settimeout(example.LIMIT)
                    sock.connect(path)
                for sock in socks:
                    self.check(sock, random.Random(3))
                    sock.close()
            self.assertFalse(os.path.exists(path))

    def test_100_megabytes_both_ways(self):
        base = os.urandom(1 << 20)
        blocks = [base[i:] + base[:i] for i in range(100)]  # each differs from the others
        wanted = hashlib.sha256(b"".join(blocks)).hexdigest()

        def send(sock):
            for block in blocks:
                sock.sendall(block)
            sock.shutdown(socket.SHUT_WR)

        with self.server() as server, server.connect() as sock:
            sender = threading.Thread(target=send, args=(sock,), daemon=True)
            sender.start()
            found, size = hashlib.sha256(), 0
            while part := sock.recv(1 << 18):
                found.update(part)
                size += len(part)
            sender.join(example.LIMIT)
            self.assertEqual(size, 100 << 20)
            self.assertEqual(found.hexdigest(), wanted)

    def test_back_pressure(self):
        """A client that sends and does not read is stopped, and gets everything when it reads."""
        block = os.urandom(1 << 16)
        with self.server() as server, server.connect() as sock:
            sock.setblocking(False)
            sent, still = bytearray(), 0
            while len(sent) < 64 << 20 and still < 5:
                try:
                    sent += block[:sock.send(block)]
                    still = 0
                except BlockingIOError:
                    time.sleep(0.1)
                    still += 1
            # The kernel's buffers of both sides, and 64 KiB of the server's own.
            self.assertLess(len(sent), 64 << 20)
            with server.connect() as other:
                self.check(other, random.Random(4))
            sock.settimeout(example.LIMIT)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(hashlib.sha256(example.read_all(sock)).digest(),
                             hashlib.sha256(sent).digest())

    def test_reset(self):
        """A client that goes away with a reset harms nobody else."""
        with self.server() as server, server.connect() as good:
            for _ in range(20):
                bad = server.connect(size=4096)
                bad.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                bad.sendall(bytes(200000))
                bad.close()
            self.check(good, random.Random(5))

    def test_port_in_use(self):
        with self.server() as server:
            with self.assertRaisesRegex(AssertionError, "no 'listening'"):
                self.server("--port", str(server.port))

    def test_ends_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.server("--grace", "30") as server:
                with server.connect() as sock:
                    self.check(sock, random.Random(6))
                server.term(number)
                self.assertLess(server.wait(), 10)

    def test_ends_within_the_grace(self):
        with self.server("--grace", "2") as server, server.connect() as sock:
            self.check(sock, random.Random(7))
            server.term()
            with self.assertRaises(ConnectionRefusedError):
                while True:
                    server.connect().close()
                    time.sleep(0.05)  # the pace of asking
            # Within the grace an open connection goes on.
            self.check(sock, random.Random(8))
            self.assertLess(server.wait(), 10)
            self.assertEqual(sock.recv(1), b"")


if __name__ == "__main__":
    example.main(globals(), "pica-echo-server")
