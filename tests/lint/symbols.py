#!/usr/bin/env python3
"""The shared library shows exactly its public functions, under the version node.

Usage: symbols.py --readelf R --headers INCLUDE LIBRARY. Fails on a symbol that is not pica_..., on one
without the version PICA_0, and on a function that the headers declare with PICA_API and the library lacks,
or that the library shows and no header declares.
"""
import argparse
import pathlib
import re
import sys

import elf
import sources

VERSION = "PICA_0"
DECLARATION = re.compile(r"\bPICA_API\b[^;{]*?\b(pica_\w+)\s*\(", re.S)


def exported(readelf, library):
    """The dynamic symbols that the library defines, as (name, version)."""
    for shown, *_ in elf.symbols(readelf, "--dyn-syms", library):
        name, _, version = shown.partition("@")
        yield name, version.lstrip("@")


def declared(include):
    names = set()
    for header in sorted(include.rglob("*.h")):
        code = sources.without_comments(header.read_text(encoding="utf-8"))
        code = re.sub(r"^[ \t]*#.*(?:\\\n.*)*$", "", code, flags=re.M)
        names.update(DECLARATION.findall(code))
    return names


def faults_of(symbols, names):
    shown = set()
    for name, version in symbols:
        if name == VERSION:
            continue
        shown.add(name)
        if not re.match(r"pica_[a-z]", name):
            yield f"{name} is shown and is not public"
        elif version != VERSION:
            yield f"{name} has version '{version}', not {VERSION}"
    if not shown:
        yield "the library shows nothing"
    if not names:
        yield "the headers declare nothing"
    for name in sorted(names - shown):
        yield f"{name} is declared and not defined"
    for name in sorted(shown - names):
        yield f"{name} is defined and not declared"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readelf", default="readelf")
    parser.add_argument("--headers", type=pathlib.Path, required=True)
    parser.add_argument("library")
    args = parser.parse_args()
    symbols = list(exported(args.readelf, args.library))
    faults = list(faults_of(symbols, declared(args.headers)))
    print("\n".join(faults))
    print(f"{len(symbols)} symbols, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
