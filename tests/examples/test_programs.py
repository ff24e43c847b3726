#!/usr/bin/env python3
"""The examples that run to their end: what they print, and that they end well."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402


def primes_below(end):
    sieve = bytearray([1]) * end
    sieve[0:2] = b"\0\0"
    for n in range(2, int(end ** 0.5) + 1):
        if sieve[n]:
            sieve[n * n::n] = bytes(len(range(n * n, end, n)))
    return sum(sieve)


class Programs(example.Case):
    def test_hello(self):
        self.assertEqual(example.run("pica-hello", workers=self.workers), "hello, world\n")

    def test_sleep_gather(self):
        out = example.run("pica-sleep-gather", "20", "0.05", workers=self.workers)
        lines = out.splitlines()
        self.assertEqual(len(lines), 21)
        for i, line in enumerate(lines[:20], start=1):
            found = re.fullmatch(r"task (\d+) wanted ([\d.]+) s, slept ([\d.]+) s", line)
            self.assertTrue(found, line)
            self.assertEqual(int(found[1]), i)
            self.assertAlmostEqual(float(found[2]), i * 0.05, places=6)
            self.assertGreaterEqual(float(found[3]), float(found[2]))
        found = re.fullmatch(r"20 tasks slept ([\d.]+) s in ([\d.]+) s", lines[20])
        self.assertTrue(found, lines[20])
        # As long as the longest, 1 s; one after the other would be 10.5 s.
        self.assertGreaterEqual(float(found[2]), 1.0)
        self.assertLess(float(found[2]), float(found[1]) / 2)

    def test_sleep_gather_usage(self):
        with self.assertRaisesRegex(AssertionError, "exit code 2"):
            example.run("pica-sleep-gather", "0", workers=self.workers)

    def test_worker_pool(self):
        for count, ranges in ((8, 64), (1, 3), (5, 0), (40, 17)):
            out = example.run("pica-worker-pool", str(count), str(ranges), workers=self.workers)
            end = ranges * 4000
            self.assertEqual(out, f"{primes_below(max(end, 2))} primes below {end}, "
                                  f"found by {count} workers in {ranges} ranges\n")

    def test_cross_thread(self):
        for threads, items in ((4, 1000), (1, 0), (16, 5000)):
            out = example.run("pica-cross-thread", str(threads), str(items), workers=self.workers)
            expected = [f"{threads * items} items, sum {threads * items * (items + 1) // 2}"]
            expected += [f"thread {i} got square {i * i}" for i in range(1, threads + 1)]
            self.assertEqual(out.splitlines(), expected)


if __name__ == "__main__":
    example.main(globals(), "pica-hello", "pica-sleep-gather", "pica-worker-pool",
                 "pica-cross-thread")
