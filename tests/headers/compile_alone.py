#!/usr/bin/env python3
"""Compiles each public header alone, as strict C11 and as C++17, with warnings as errors.

Included twice, so that a missing guard shows too. Usage: compile_alone.py --c CC [--cxx CXX] INCLUDE
"""
import argparse
import pathlib
import subprocess
import sys

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wundef", "-Wconversion", "-Werror"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--c", required=True)
    parser.add_argument("--cxx")
    parser.add_argument("include", type=pathlib.Path)
    args = parser.parse_args()

    ways = [("C11", [args.c, "-x", "c", "-std=c11", "-pedantic-errors", "-Wstrict-prototypes"])]
    if args.cxx:
        ways.append(("C++17", [args.cxx, "-x", "c++", "-std=c++17", "-pedantic-errors"]))
    headers = sorted(args.include.rglob("*.h"))
    if not headers:
        sys.exit(f"no header under {args.include}")
    failed = 0
    for header in headers:
        name = header.relative_to(args.include)
        source = f"#include <{name}>\n#include <{name}>\nextern int pica_unit_is_not_empty;\n"
        for way, command in ways:
            run = subprocess.run(
                [*command, *WARNINGS, f"-I{args.include}", "-fsyntax-only", "-"],
                input=source, text=True, capture_output=True)
            if run.returncode != 0:
                failed += 1
                print(f"{name} does not compile alone as {way}:\n{run.stderr}")
    print(f"{len(headers)} headers, {len(ways)} languages, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
