#!/usr/bin/env python3
"""What each request of a stream runs lies in three pages. Usage: pages.py --readelf R --library SO ROOT

The functions that the sources call PICA__EACH stand behind the context switch, which begins a page, and end before
the fourth: the linker has sorted them, and none has grown out of it (docs/ENGINE_CHOICES.md, 7). One that was
put in line everywhere has no address and takes part where it was put.
"""
import argparse
import pathlib
import re
import sys

import elf
import sources

PAGE = 4096
PAGES = 3
FIRST = "pica__context_switch"
MARKED = re.compile(r"^(?!#).*\bPICA__EACH\b[^;{(]*?\b(\w+)\s*\(", re.M)


def marked(root):
    """The names of the functions that are marked."""
    return {name for path in sources.files(root, ("runtime", "io", "sync"))
            for name in MARKED.findall(sources.without_comments(sources.read(root, path)))}


def functions(readelf, library):
    """All functions of the library, as (name without what compilers append, address, size)."""
    for name, kind, address, size in elf.symbols(readelf, "--syms", library):
        if kind == "FUNC":
            yield re.split(r"[.@]", name)[0], address, size


def faults_of(names, found):
    places = {}
    for name, address, size in found:
        places.setdefault(name, []).append((address, size))
    begin = places.get(FIRST, [(0, 0)])[0][0]
    if begin == 0 or begin % PAGE != 0:
        yield f"{FIRST} does not begin a page"
        return
    present = {name for name in names if name in places}
    if len(present) < len(names) / 2 or not names:
        yield f"of {len(names)} marked functions the library has {len(present)}"
    for name in sorted(present):
        # A static function elsewhere may have the same name.
        if not any(begin <= at and at + size <= begin + PAGES * PAGE for at, size in places[name]):
            at, size = places[name][0]
            yield f"{name} at {at:#x} of {size} bytes is not within {PAGES} pages from {begin:#x} on"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readelf", default="readelf")
    parser.add_argument("--library", required=True)
    parser.add_argument("root", type=pathlib.Path)
    args = parser.parse_args()
    faults = list(faults_of(marked(args.root), functions(args.readelf, args.library)))
    print("\n".join(faults))
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
