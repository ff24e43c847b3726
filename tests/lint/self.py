#!/usr/bin/env python3
"""Tests the lint scripts themselves: each rule must find the fault planted for it, and only that."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import architecture  # noqa: E402
import elf  # noqa: E402
import layers  # noqa: E402
import pages  # noqa: E402
import size  # noqa: E402
import symbols  # noqa: E402

CLEAN = {
    "include/pica.h": "#include <pica/base.h>\n",
    "include/pica/base.h": "#include <stddef.h>\n",
    "runtime/base/lock.h": "",
    "runtime/base/clock.c": "int64_t pica__now(void) { clock_gettime(1, &t); }\n",
    "runtime/base/relax.c": '#include "runtime/base/lock.h"\nvoid f(void) { sched_yield(); }\n',
    "io/engine/engine.h": '#include "runtime/base/lock.h"\n#include <liburing.h>\n',
    "runtime/task.h": '#include "io/engine/engine.h"\n#include <pica.h>\n',
    "io/socket.c": '#include "runtime/task.h"\n#include "io/socket.h"\n',
    "io/socket.h": "",
    "sync/queue.c": '#include "sync/queue.h"\n/* sleep(1) and "clock_gettime()" in words */\n',
    "sync/queue.h": "int f(void) { return e->poll(e) + e.select(1) + pica_sleep(1.0); }\n",
    "tests/api/test_a.c": '#include <pica.h>\n#include "tests/support/pt.h"\n',
    "tests/support/pt.h": "",
    "tests/unit/test_b.c": '#include "runtime/base/lock.h"\n',
    "bench/floor/epoll.c": "#include <liburing.h>\nint main(void) { epoll_wait(1, e, 1, 1); }\n",
}


class LayersTest(unittest.TestCase):
    def faults(self, changes):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in {**CLEAN, **changes}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            return layers.check_tree(root)[0]

    def assert_fault(self, path, text, expected):
        faults = self.faults({path: text})
        self.assertEqual(len(faults), 1, faults)
        self.assertIn(expected, faults[0])

    def test_clean(self):
        self.assertEqual(self.faults({}), [])

    def test_line(self):
        faults = self.faults({"io/x.c": '\n\n#include "sync/queue.h"\n\nvoid f(void) { usleep(1); }\n'})
        self.assertEqual([f.split(" ")[0] for f in faults], ["io/x.c:3:", "io/x.c:5:"])

    def test_upward(self):
        self.assert_fault("runtime/base/x.c", '#include "runtime/task.h"\n', "upward")
        self.assert_fault("io/engine/x.c", '#include "runtime/task.h"\n', "upward")
        self.assert_fault("io/engine/x.c", '#include "io/socket.h"\n', "upward")
        self.assert_fault("runtime/x.c", '#include "sync/queue.h"\n', "upward")
        self.assert_fault("include/pica/x.h", '#include "runtime/base/lock.h"\n', "upward")

    def test_siblings(self):
        self.assert_fault("io/x.c", '#include "sync/queue.h"\n', "do not know each other")
        self.assert_fault("sync/x.c", '#include "io/socket.h"\n', "do not know each other")

    def test_not_of_the_tree(self):
        self.assert_fault("runtime/x.c", '#include "task.h"\n', "relative to its root")
        self.assert_fault("runtime/x.c", '#include "tests/support/pt.h"\n', "outside the library")
        self.assert_fault("runtime/x.c", '#include "pica/base.h"\n', "included as <")

    def test_programs(self):
        self.assert_fault("tests/api/test_x.c", '#include "runtime/task.h"\n', "internal")
        self.assert_fault("examples/x.c", '#include "runtime/base/lock.h"\n', "internal")
        self.assert_fault("bench/micro/x.c", '#include "runtime/base/lock.h"\n', "internal")

    def test_system_headers(self):
        self.assert_fault("runtime/x.c", "#include <liburing.h>\n", "io/engine")
        self.assert_fault("include/pica/x.h", "#include <stdatomic.h>\n", "not C++")

    def test_seams(self):
        self.assert_fault("runtime/x.c", "void f(void) { clock_gettime(1, &t); }\n", "clock seam")
        self.assert_fault("io/x.c", "void f(void) { getrandom(p, 8, 0); }\n", "chance seam")
        self.assert_fault("sync/x.c", "void f(void) { sched_yield(); }\n", "relax seam")
        self.assert_fault("sync/x.c", "void f(void) { syscall(SYS_futex, p); }\n", "parking seam")
        self.assert_fault("runtime/x.c", "void f(void) { nanosleep (&t, 0); }\n", "parking seam")


class SizeTest(unittest.TestCase):
    @staticmethod
    def function(lines):
        return "static int\nlong_one(int a,\n         int b) {\n" + "    a++;\n" * (lines - 4) + "}\n"

    def test_lengths(self):
        self.assertEqual(list(size.check_file("a.c", self.function(70))), [])
        fatal, text = next(size.check_file("a.c", "int x;\n\n" + self.function(71)))
        self.assertFalse(fatal)
        self.assertIn("a.c:3: long_one has 71 lines", text)
        self.assertTrue(next(size.check_file("a.c", self.function(91)))[0])

    def test_not_functions(self):
        data = "static const int table[] = {\n" + "    1,\n" * 200 + "};\n"
        record = "struct x {\n" + "    int (*f)(void);\n" * 200 + "};\n"
        self.assertEqual(list(size.check_file("a.c", data + record + "int f(int);\n")), [])

    def test_files(self):
        self.assertTrue(next(size.check_file("a.c", "int x;\n" * 701))[0])
        self.assertFalse(next(size.check_file("a.c", "int x;\n" * 601))[0])
        self.assertTrue(next(size.check_file("examples/hello.c", "int x;\n" * 250))[0])
        self.assertEqual(list(size.check_file("examples/http_server.c", "int x;\n" * 399)), [])


class ArchitectureTest(unittest.TestCase):
    def faults(self, text):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "runtime").mkdir()
            (root / "runtime/task.c").write_text("int pica__task_start(void);\n")
            (root / "ARCHITECTURE.md").write_text(text)
            words = architecture.words_of(root)
            return architecture.check_document(root, "ARCHITECTURE.md", words, spans=True)

    def test_found(self):
        faults, checked = self.faults(
            "`runtime/` `runtime/*.c` `pica__task_start()` `pica__task_*` [x](runtime/task.c) `int`\n")
        self.assertEqual((faults, checked), ([], 5))

    def test_missing(self):
        for text in ("`runtime/no.c`", "`no.c`", "`pica__no`", "`pica_no()`", "`pica__no_*`", "`runtime/*.h`",
                     "[x](no.md)"):
            faults, _ = self.faults(f"\n{text}\n")
            self.assertEqual(len(faults), 1, text)
            self.assertTrue(faults[0].startswith("ARCHITECTURE.md:2:"), faults)


class SymbolsTest(unittest.TestCase):
    GOOD = ("pica_run", "PICA_0")

    def test_clean(self):
        self.assertEqual(list(symbols.faults_of([self.GOOD, ("PICA_0", "PICA_0")], {"pica_run"})), [])

    def test_faults(self):
        for shown, names, expected in (
                ([self.GOOD, ("pica__x", "PICA_0")], {"pica_run", "pica__x"}, "not public"),
                ([self.GOOD, ("pica_x", "")], {"pica_run", "pica_x"}, "version"),
                ([self.GOOD], {"pica_run", "pica_x"}, "not defined"),
                ([self.GOOD], {"pica_x", "pica_run"}, "not defined"),
                ([self.GOOD, ("pica_x", "PICA_0")], {"pica_run"}, "not declared")):
            faults = list(symbols.faults_of(shown, names))
            self.assertEqual(len(faults), 1, faults)
            self.assertIn(expected, faults[0])

    def test_declarations(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "a.h").write_text(
                "#define PICA_API __attribute__((visibility(\"default\")))\n"
                "/* PICA_API int pica_in_words(void); */\n"
                "PICA_API const char *pica_a(int x);\nPICA_API PICA_MUST_CHECK int\npica_b(void);\n"
                "PICA_API int pica_c(const char *f, ...) PICA_PRINTF(1, 2);\n"
                "static inline int pica_d(void) { return 0; }\n")
            self.assertEqual(symbols.declared(root), {"pica_a", "pica_b", "pica_c"})


class ElfTest(unittest.TestCase):
    STACK = "  [ 5] .note.GNU-stack   PROGBITS  0 00 000000 00 {} 0   0  1\n"
    SEGMENT = "  GNU_STACK 0x0 0x0 0x0 0x000000 0x000000 {} 0x10\n"
    DYNAMIC = " 0x0e (SONAME) Library soname: [libpica.so.0]\n"
    SHADOW = "      Properties: x86 feature: IBT, SHSTK\n"

    def test_object(self):
        good, pads = self.STACK.format("  "), "x86 feature: IBT"
        self.assertEqual(list(elf.object_faults("a.o", good, pads)), [])
        for sections, notes in (("", pads), (self.STACK.format(" X"), pads), (good, self.SHADOW),
                                (good, "")):
            self.assertEqual(len(list(elf.object_faults("a.o", sections, notes))), 1)

    def test_library(self):
        good = self.SEGMENT.format("RW ")
        self.assertEqual(list(elf.library_faults(good, "", self.DYNAMIC)), [])
        for segments, notes, dynamic in (
                ("", "", self.DYNAMIC), (self.SEGMENT.format("RWE"), "", self.DYNAMIC),
                (good, self.SHADOW, self.DYNAMIC), (good, "", ""),
                (good, "", self.DYNAMIC + " (TEXTREL) 0x0\n"),
                (good, "", self.DYNAMIC + " 0x01 (NEEDED) Shared library: [libgcc_s.so.1]\n")):
            self.assertEqual(len(list(elf.library_faults(segments, notes, dynamic))), 1)


class PagesTest(unittest.TestCase):
    FIRST = ("pica__context_switch", 0x4000, 5)

    def faults(self, *found, names=("f",)):
        return list(pages.faults_of(set(names), found))

    def test_marked(self):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "runtime/a.c"
            source.parent.mkdir()
            source.write_text("#define PICA__EACH x(y)\n/* PICA__EACH void no(void) */\n"
                              "static PICA__EACH void\nf(int a) { g(a); }\nPICA__NO_TSAN PICA__EACH int *h(void);\n")
            self.assertEqual(pages.marked(pathlib.Path(folder)), {"f", "h"})

    def test_within(self):
        self.assertEqual(self.faults(self.FIRST, ("f", 0x4005, 0x2ffb)), [])
        self.assertEqual(self.faults(self.FIRST, ("f", 0x9000, 1), ("f", 0x4010, 1)), [])
        self.assertEqual(self.faults(self.FIRST, ("f", 0x4010, 1), names=("f", "inlined")), [])

    def test_faults(self):
        for found in (((*self.FIRST[:1], 0x4010, 5), ("f", 0x4020, 1)), (("f", 0x4020, 1),), (self.FIRST,),
                      (self.FIRST, ("f", 0x3fff, 1)), (self.FIRST, ("f", 0x4005, 0x2ffc))):
            self.assertEqual(len(self.faults(*found)), 1, found)


if __name__ == "__main__":
    unittest.main()
