#!/usr/bin/env python3
"""The parallel command runner."""
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402


class RunCommands(example.Case):
    def call(self, *arguments, **more):
        environment = dict(example.os.environ, PICA_WORKERS=str(self.workers))
        return subprocess.run([example.program("pica-run-commands"), *arguments], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=example.LIMIT, **more)

    def test_order_and_codes(self):
        done = self.call("--jobs", "3", "sleep 0.2; echo one", "echo two >&2; exit 3", "kill -9 $$", "echo four")
        self.assertEqual(done.stdout, "=== sleep 0.2; echo one\none\n--- exit code 0\n"
                                      "=== echo two >&2; exit 3\ntwo\n--- exit code 3\n"
                                      "=== kill -9 $$\n--- signal 9\n"
                                      "=== echo four\nfour\n--- exit code 0\n")
        self.assertEqual(done.returncode, 1)

    def test_all_well(self):
        done = self.call("--jobs", "8", *["true"] * 100)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("--- exit code 0\n"), 100)

    def test_at_the_same_time(self):
        begin = time.monotonic()
        done = self.call("--jobs", "16", *["sleep 1"] * 16)
        self.assertEqual(done.returncode, 0)
        self.assertLess(time.monotonic() - begin, 8)  # one after the other: 16

    def test_usage(self):
        self.assertEqual(self.call().returncode, 2)
        self.assertEqual(self.call("--jobs", "0", "true").returncode, 2)

    def test_interrupted(self):
        environment = dict(example.os.environ, PICA_WORKERS=str(self.workers))
        process = subprocess.Popen(
            [example.program("pica-run-commands"), "--jobs", "1", "exec sleep 100", "echo never"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        tasks = pathlib.Path(f"/proc/{process.pid}/task")
        while not any(path.read_text().split() for path in tasks.glob("*/children")):
            time.sleep(0.01)  # the pace of asking
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=example.LIMIT)
        self.assertEqual(process.returncode, 1)
        self.assertNotIn("\nnever\n", out)
        self.assertEqual(out.count("--- not run to its end"), 2)


if __name__ == "__main__":
    example.main(globals(), "pica-run-commands")
