#!/usr/bin/env python3
"""What the linker and the kernel are promised. Usage: elf.py --readelf R --library SO --context OBJECT

- The object of the context switch says that it needs no executable stack, and does not promise to work
  with a shadow stack (it changes stacks without telling the shadow one).
- The library promises no shadow stack either, has a stack that is not executable, no text
  relocations, and the SONAME libpica.so.N.
"""
import argparse
import re
import subprocess
import sys


def readelf(tool, flags, path):
    return subprocess.run([tool, "--wide", *flags, path],
                          check=True, text=True, capture_output=True).stdout


def promises_shadow_stack(notes):
    return re.search(r"\b(SHSTK|GCS)\b", notes) is not None


def object_faults(sections, notes):
    stack = re.search(r"\.note\.GNU-stack\s+\S+\s+(.*)$", sections, re.M)
    if not stack:
        yield "context switch: no .note.GNU-stack, the linker would make stacks executable"
    elif re.search(r"\bW?A?X\b", stack.group(1)):
        yield "context switch: asks for an executable stack"
    if promises_shadow_stack(notes):
        yield "context switch: promises to work with a shadow stack"


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readelf", default="readelf")
    parser.add_argument("--library", required=True)
    parser.add_argument("--context", required=True)
    args = parser.parse_args()
    faults = list(object_faults(readelf(args.readelf, ["-S"], args.context),
                                readelf(args.readelf, ["-n"], args.context)))
    faults += library_faults(readelf(args.readelf, ["-l"], args.library),
                             readelf(args.readelf, ["-n"], args.library),
                             readelf(args.readelf, ["-d"], args.library))
    print("\n".join(faults))
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
