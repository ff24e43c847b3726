#!/usr/bin/env python3
"""What the linker and the kernel are promised. Usage: elf.py --readelf R --library SO --assembly OBJECT...

- Each object from assembly says that it needs no executable stack, and promises landing pads but not to
  work with a shadow stack (the context switch changes stacks without telling the shadow one).
- The library promises no shadow stack either, has a stack that is not executable, no text
  relocations, the SONAME libpica.so.N, and needs no run-time library of C++ or of exceptions.
"""
import argparse
import pathlib
import re
import subprocess
import sys


def readelf(tool, flags, path):
    return subprocess.run([tool, "--wide", *flags, path],
                          check=True, text=True, capture_output=True).stdout


def symbols(tool, table, path):
    """What a symbol table ("--syms", "--dyn-syms") of a file defines, as (name, type, address, size)."""
    for line in readelf(tool, [table], path).splitlines():
        # Num: Value Size Type Bind Vis Ndx Name
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit() and fields[6] != "UND":
            yield fields[7], fields[3], int(fields[1], 16), int(fields[2], 0)


def promises_shadow_stack(notes):
    return re.search(r"\b(SHSTK|GCS)\b", notes) is not None


def object_faults(name, sections, notes):
    stack = re.search(r"\.note\.GNU-stack\s+\S+\s+(.*)$", sections, re.M)
    if not stack:
        yield f"{name}: no .note.GNU-stack, the linker would make stacks executable"
    elif re.search(r"\bW?A?X\b", stack.group(1)):
        yield f"{name}: asks for an executable stack"
    if promises_shadow_stack(notes):
        yield f"{name}: promises to work with a shadow stack"
    if not re.search(r"\b(IBT|BTI)\b", notes):
        yield f"{name}: does not promise landing pads"


def library_faults(segments, notes, dynamic):
    stack = re.search(r"^\s*GNU_STACK\s.*$", segments, re.M)
    if not stack:
        yield "library: no GNU_STACK segment"
    elif re.search(r"\sRWE\s", stack.group(0)):
        yield "library: executable stack"
    if promises_shadow_stack(notes):
        yield "library: promises to work with a shadow stack"
    if "TEXTREL" in dynamic:
        yield "library: text relocations"
    if not re.search(r"\(SONAME\).*\[libpica\.so\.\d+\]", dynamic):
        yield "library: SONAME is not libpica.so.N"
    for needed in re.findall(r"\(NEEDED\).*\[((?:libgcc_s|libstdc\+\+|libc\+\+)\S*)\]", dynamic):
        yield f"library: needs {needed}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readelf", default="readelf")
    parser.add_argument("--library", required=True)
    parser.add_argument("--assembly", required=True, nargs="+")
    args = parser.parse_args()
    faults = []
    for path in args.assembly:
        faults += object_faults(pathlib.PurePath(path).name, readelf(args.readelf, ["-S"], path),
                                readelf(args.readelf, ["-n"], path))
    faults += library_faults(readelf(args.readelf, ["-l"], args.library),
                             readelf(args.readelf, ["-n"], args.library),
                             readelf(args.readelf, ["-d"], args.library))
    print("\n".join(faults))
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
