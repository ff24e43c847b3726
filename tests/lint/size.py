#!/usr/bin/env python3
"""Keeps functions and files small enough to be read whole. Usage: size.py ROOT

A function over 90 lines or a file over 700 fails; over 70 and 600 warns. An example stays under 150
lines, the HTTP server under 400, the static file server under 250. A function runs from the first line of its signature, in column 0, to
its closing brace in column 0.
"""
import pathlib
import re
import sys

import sources

FUNCTION_WARN, FUNCTION_FAIL = 70, 90
FILE_WARN, FILE_FAIL = 600, 700
EXAMPLE_FAIL = {"examples/http_server.c": 399, "examples/static_file_server.c": 249}
EXAMPLE_DEFAULT = 149

NOT_A_FUNCTION = re.compile(r"^(?:typedef|struct|union|enum|extern\s+\"\")\b[^(]*\{|^[^(]*=\s*\{")
NAME = re.compile(r"([A-Za-z_]\w*(?:\s*\([A-Za-z_]\w*\))?)\s*\(")


def functions(code):
    """Yields (name, first line, length) for each function body that starts and ends in column 0."""
    lines = code.split("\n")
    start = None
    for number, line in enumerate(lines):
        if start is None and re.match(r"[A-Za-z_]", line) and not line.rstrip().endswith(":"):
            start = number
        if start is None or line.startswith("#"):
            continue
        if line.startswith("}"):
            head = " ".join(lines[start:number])
            head = head[:head.index("{") + 1] if "{" in head else ""
            name = NAME.search(head)
            if name and not NOT_A_FUNCTION.match(head):
                yield re.sub(r"\s", "", name.group(1)), start + 1, number - start + 1
            start = None
        elif line.rstrip().endswith(";") and not any("{" in l for l in lines[start:number + 1]):
            start = None  # a declaration


def check_file(path, text):
    """Yields (fatal, message) for one file."""
    length = text.count("\n")
    limit = FILE_FAIL
    if path.startswith("examples/"):
        limit = EXAMPLE_FAIL.get(path, EXAMPLE_DEFAULT)
    if length > limit:
        yield True, f"{path}: {length} lines, at most {limit}"
    elif length > FILE_WARN:
        yield False, f"{path}: {length} lines, better below {FILE_WARN}"
    if path.endswith(".S"):
        return
    for name, line, size in functions(sources.without_comments(text)):
        if size > FUNCTION_WARN:
            fatal = size > FUNCTION_FAIL
            bound = f"at most {FUNCTION_FAIL}" if fatal else f"better below {FUNCTION_WARN}"
            yield fatal, f"{path}:{line}: {name} has {size} lines, {bound}"


def main():
    root = pathlib.Path(sys.argv[1])
    paths = [str(path) for path in sources.files(root)]
    failed = 0
    for path in paths:
        for fatal, message in check_file(path, sources.read(root, path)):
            failed += fatal
            print(("FAIL " if fatal else "warn ") + message)
    print(f"{len(paths)} files, {failed} too long")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
