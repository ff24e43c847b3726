#!/usr/bin/env python3
"""The runner of proofs (run): parts that pass, fail, break off, say nothing or cannot run, and what is read of tests."""
import importlib.machinery
import importlib.util
import io
import contextlib
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import ctest


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, str(HERE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


runner = load("run")


class Parts(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.root, runner.ROOT = runner.ROOT, self.folder
        (self.folder / "tests/x").mkdir(parents=True)

    def tearDown(self):
        runner.ROOT = self.root
        self.scratch.cleanup()

    def call(self, script, limit=20):
        part = self.folder / "tests/x/prove"
        part.write_text("#!/bin/sh\n" + script, encoding="utf-8")
        part.chmod(0o755)
        self.assertEqual(runner.parts(), [part])
        with contextlib.redirect_stderr(io.StringIO()):
            return runner.call(part, self.folder, "1", limit)

    def test_rows(self):
        rows, remark = self.call(r"printf '4\tseeds\t20\t0\n'")
        self.assertEqual((rows, remark), ([(4, "seeds", 20, 0, True)], None))

    def test_failed_rows_are_told(self):
        rows, _ = self.call(r"printf '4\tseeds\t20\t3\n'; exit 1")
        self.assertEqual(rows, [(4, "seeds", 20, 3, True)])

    def test_rows_of_several_promises(self):
        rows, _ = self.call(r"printf '4,6-7 no memory\tn-th\t20\t0\n- other\tx\tskipped: no clang\t0\n'")
        self.assertEqual(rows, [(4, "no memory (n-th)", 20, 0, True), (6, "no memory (n-th)", 20, 0, False),
                                (7, "no memory (n-th)", 20, 0, False),
                                (0, "other (x), skipped: no clang", 0, 0, True)])

    def test_a_status_without_a_failed_row_fails(self):
        self.assertEqual(self.call(r"printf '4\tseeds\t20\t0\n'; exit 1")[1][0], "failed")

    def test_silence_fails(self):
        self.assertEqual(self.call("exit 0")[1][0], "failed")

    def test_what_hangs_fails(self):
        self.assertEqual(self.call("sleep 60", limit=0.5)[1][0], "failed")

    def test_what_is_no_row_fails(self):
        self.assertEqual(sum(row[3] for row in self.call("echo hello")[0]), 1)

    def test_skipped_says_why(self):
        self.assertEqual(self.call("echo no tool >&2; exit 77"), ([], ("skipped", "no tool")))

    def test_the_table_names_what_is_not_shown(self):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            missing = runner.table([(4, "seeds", 20, 0, True), (4, "seeds", 5, 1, True), (5, "cases", 0, 0, True)])
        self.assertNotIn(4, missing)
        self.assertIn(5, missing)
        self.assertRegex(out.getvalue(), r"seeds +25 +1\n")


class Tests(unittest.TestCase):
    def test_executions(self):
        self.assertEqual(ctest.executions("a sc 1/0 30 executions 1 s\na c11 12 executions"), 42)
        self.assertEqual(ctest.executions("6000 seeds, 5990 of them count, 0 failed"), 6000)
        self.assertEqual(ctest.executions("ok a\nok b\n2 passed, 0 failed\n"), 2)
        self.assertEqual(ctest.executions("whatever"), 1)

    def test_results(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIsNone(ctest.results(folder))
            (pathlib.Path(folder) / "tests.xml").write_text(
                '<testsuite><testcase name="a" status="run"><system-out>3 passed, 0 failed</system-out></testcase>'
                '<testcase name="b" status="fail"><system-out/></testcase>'
                '<testcase name="c" status="notrun"/></testsuite>', encoding="utf-8")
            self.assertEqual(ctest.results(folder), {"a": ("passed", "3 passed, 0 failed"), "b": ("failed", ""),
                                                     "c": ("skipped", "")})


if __name__ == "__main__":
    unittest.main()
