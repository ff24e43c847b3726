#!/usr/bin/env python3
"""Programs with several workers run to their end under valgrind, and it finds nothing.

It runs one thread at a time, and lets go of it only in system calls of which it knows that they block: a
worker that sleeps in one of which it does not would stop the process.
"""
import pathlib
import random
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402


class Memcheck(example.Case):
    def test_sleep_gather(self):
        out = example.run("pica-sleep-gather", "10", "0.01", workers=self.workers)
        self.assertEqual(len(out.splitlines()), 11)

    def test_echo(self):
        chance = random.Random(1)
        with example.Server("pica-echo-server", workers=self.workers) as server:
            socks = [server.connect() for _ in range(5)]
            for sock in socks * 3:
                data = chance.randbytes(chance.randrange(1, 20000))
                sock.sendall(data)
                self.assertEqual(example.read_exactly(sock, len(data)), data)
            for sock in socks:
                sock.close()


if __name__ == "__main__":
    VALGRIND = shutil.which("valgrind")
    if VALGRIND is None:
        print("skipped: there is no valgrind here")
        sys.exit(example.SKIPPED)
    ECHO = pathlib.Path(sys.argv[1], "pica-echo-server") if len(sys.argv) > 1 else None
    if ECHO is not None and ECHO.exists() and example.sanitized(ECHO):
        print("skipped: built for a sanitizer")
        sys.exit(example.SKIPPED)
    # An error is the exit code; with -q nothing else is written.
    example.prefix = [VALGRIND, "-q", "--error-exitcode=9", "--leak-check=full"]
    example.WORKERS = ("1", "2", "3")
    example.main(globals(), "pica-sleep-gather", "pica-echo-server")
