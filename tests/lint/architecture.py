#!/usr/bin/env python3
"""Checks that what ARCHITECTURE.md and README.md name exists. Usage: architecture.py ROOT

In both: links to files of the tree. In ARCHITECTURE.md, in backticks: paths (anything with a slash, or a
name with an extension of the tree) and names that start with pica_, PICA_ or pica__.
"""
import pathlib
import re
import sys

import sources

SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
SYMBOL = re.compile(r"^((?:pica|PICA)_\w+?)(\*?)(?:\(.*\))?$")
PATH = re.compile(r"^[\w.*/-]+$")
EXTENSIONS = {".c", ".h", ".S", ".cc", ".py", ".md", ".cmake", ".txt", ".json", ".sh", ".map"}


def words_of(root):
    found = set()
    for path in sources.files(root):
        found.update(re.findall(r"\b(?:pica|PICA)_\w+", sources.read(root, path)))
    return found


def fault_of(root, span, words):
    """What is wrong with one span of code, or None; also says whether it was checked at all."""
    symbol = SYMBOL.match(span)
    if symbol:
        name, star = symbol.groups()
        found = any(w.startswith(name) for w in words) if star else name in words
        return True, None if found else f"`{span}` is nowhere in the sources"
    if PATH.match(span) and not span.startswith(("/", "-")):
        if "/" in span or pathlib.PurePath(span).suffix in EXTENSIONS:
            if span.split("/")[0] == "build":
                return False, None
            found = any(root.glob(span)) if "*" in span else (root / span).exists()
            return True, None if found else f"`{span}` does not exist"
    return False, None


def without_fences(text):
    """The text with fenced blocks blanked, every line where it was."""
    lines, fenced = [], False
    for line in text.split("\n"):
        mark = line.lstrip().startswith("```")
        lines.append("" if fenced or mark else line)
        fenced ^= mark
    return "\n".join(lines)


def check_document(root, name, words, spans):
    """All faults of one document, and how many names in it were checked."""
    path = root / name
    if not path.is_file():
        return [f"{name} is missing"], 0
    faults, checked = [], 0
    for number, line in enumerate(without_fences(path.read_text(encoding="utf-8")).split("\n"), 1):
        for target in LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            checked += 1
            if not (path.parent / target).exists():
                faults.append(f"{name}:{number}: the link to {target} leads nowhere")
        for span in SPAN.findall(line) if spans else ():
            seen, fault = fault_of(root, span, words)
            checked += seen
            if fault:
                faults.append(f"{name}:{number}: {fault}")
    return faults, checked


def main():
    root = pathlib.Path(sys.argv[1])
    words = words_of(root)
    faults, checked = check_document(root, "ARCHITECTURE.md", words, spans=True)
    if not faults and checked == 0:
        faults = ["ARCHITECTURE.md names nothing that could be checked"]
    faults += check_document(root, "README.md", words, spans=False)[0]
    print("\n".join(faults))
    print(f"{checked} names checked, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
