#!/usr/bin/env python3
"""The admin server: what it tells, what it calls on threads, and the descriptors that it watches."""
import os
import pathlib
import pwd
import re
import select
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402


def owner(path):
    try:
        return pwd.getpwuid(os.stat(path).st_uid).pw_name
    except KeyError:
        return "(none)"


class Admin(example.Case):
    def server(self, *arguments):
        return example.Server("pica-admin-server", *arguments, workers=self.workers)

    def read_answer(self, sock):
        data = b""
        while not (data == b".\n" or data.endswith(b"\n.\n")):
            part = sock.recv(1 << 16)
            self.assertTrue(part, data)
            data += part
        return data[:-2].decode()

    def ask(self, sock, line):
        sock.sendall(line.encode() + b"\n")
        return self.read_answer(sock)

    def wait_waiting(self, sock):
        """Until another task than main, which does so always, waits for an event."""
        limit = time.monotonic() + example.LIMIT
        while self.ask(sock, "tasks").count("waiting: event") < 2:
            self.assertLess(time.monotonic(), limit)

    def test_tells(self):
        with self.server() as server, server.connect() as sock:
            stats = self.ask(sock, "stats")
            self.assertIn(f"pica_workers {self.workers}\n", stats)
            self.assertRegex(stats, r"(?m)^pica_worker_steps_total\{worker=\"0\"\} \d+$")
            tasks = self.ask(sock, "tasks")
            limit = time.monotonic() + example.LIMIT
            while "\ntask 1 'main': running" in tasks and time.monotonic() < limit:  # it listens, and waits next
                tasks = self.ask(sock, "tasks")
            self.assertRegex(tasks, r"(?m)^task 1 'main': waiting: event$")
            self.assertTrue(re.search(r"end: 2 tasks\n$", tasks), tasks)
            self.assertEqual(self.ask(sock, "nothing"), "error: Invalid argument\n")

    def test_threads(self):
        with self.server() as server, server.connect() as sock, server.connect() as other:
            first = self.ask(sock, "hash some text")
            self.assertRegex(first, r"^[0-9a-f]{16}\n$")
            self.assertEqual(self.ask(sock, "hash some text"), first)
            self.assertNotEqual(self.ask(sock, "hash some other text"), first)
            self.assertEqual(self.ask(sock, f"owner {__file__}"), owner(__file__) + "\n")
            self.assertEqual(self.ask(sock, "owner /no/such/file"), "error: No such file or directory\n")
            # Longer than the answer of another client takes, who is not held up.
            sock.sendall(b"hash " + b"x" * 200 + b"\n")
            other.sendall(b"stats\n")
            ready, _, _ = select.select([sock, other], [], [], example.LIMIT)
            self.assertIn(other, ready)
            self.assertRegex(self.read_answer(sock), r"^[0-9a-f]{16}\n$")

    def test_watches(self):
        with tempfile.TemporaryDirectory() as folder:
            watched, fifo = os.path.join(folder, "watched"), os.path.join(folder, "fifo")
            pathlib.Path(watched).write_text("1")
            os.mkfifo(fifo)
            with self.server("--watch", watched) as server, server.connect() as sock, server.connect() as other:
                for _ in range(3):
                    sock.sendall(b"wait\n")
                    self.wait_waiting(other)
                    pathlib.Path(watched).write_text("2")
                    self.assertEqual(self.read_answer(sock), "changed\n")
                sock.sendall(f"next {fifo}\n".encode())
                with open(fifo, "w", encoding="ascii") as out:  # waits for the reader
                    out.write("news\n")
                    out.flush()
                    self.assertEqual(self.read_answer(sock), "news\n")
                self.assertEqual(self.ask(sock, "next /no/such/fifo"), "error: No such file or directory\n")
            with self.server() as server, server.connect() as sock:
                self.assertEqual(self.ask(sock, "wait"), "error: No such file or directory\n")


if __name__ == "__main__":
    example.main(globals(), "pica-admin-server")
