#!/usr/bin/env python3
"""Checks the layers: an include points downward only, and each seam has one file.

Layers from the top: io/ and sync/ (which do not know each other), runtime/, io/engine/,
runtime/base/, include/. Programs (tests/api, tests/examples, examples, bench) see public headers only.
The seams (clock, chance, parking, relaxing, ring) are what a simulator replaces: a call around
them would be a wait or a value that it cannot see. Usage: layers.py ROOT
"""
import pathlib
import re
import sys

import sources

# Longest prefix first: io/engine/ is below io/.
LAYERS = (("include/", 0), ("runtime/base/", 1), ("io/engine/", 2), ("runtime/", 3),
          ("io/", 4), ("sync/", 4))
PROGRAMS = ("tests/api/", "tests/examples/", "examples/", "bench/")
LIBRARY = ("include/", "runtime/", "io/", "sync/")

# A file may do what its seam is for: name of the seam, its words, the files that may use them.
WAITS = ("nanosleep", "clock_nanosleep", "usleep", "sleep", "SYS_futex", "__NR_futex",
         "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "sem_wait",
         "sem_timedwait", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select",
         "pselect", "pause", "sigwaitinfo", "sigtimedwait", "pthread_barrier_wait")
SEAMS = (
    ("clock", ("clock_gettime", "gettimeofday", "time", "clock"), ("runtime/base/clock.c",)),
    ("chance", ("getrandom", "getentropy", "rand", "random", "rand_r", "arc4random"),
     ("runtime/base/random.c",)),
    ("relax", ("sched_yield", "pthread_yield", "__builtin_ia32_pause", "_mm_pause", "__yield"),
     ("runtime/base/relax.c",)),
    ("parking", WAITS, ("runtime/base/relax.c", "runtime/base/park.c", "runtime/park.c",
                        "runtime/base/sys_epoll.c", "io/engine/")),
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)
# A call of the C library: not a member (x.poll(), x->poll()), not a longer name.
CALL = r"(?<![\w.>])(?:{})(?![\w])(?=\s*[(,)])"


def layer_of(path):
    for prefix, rank in sorted(LAYERS, key=lambda item: -len(item[0])):
        if path.startswith(prefix):
            return prefix, rank
    return None, None


def check_include(root, path, quoted, angled):
    """Yields what is wrong with one include of one file."""
    target = quoted
    if angled is not None:
        if angled == "pica.h" or angled.startswith("pica/"):
            target = "include/" + angled
        else:
            yield from check_system_include(path, angled)
            return
    elif quoted == "pica.h" or quoted.startswith("pica/"):
        yield f'public headers are included as <{quoted}>'
        return
    if not (root / target).is_file():
        yield f'"{target}" is no file of the tree; includes are relative to its root'
        return
    if path.startswith(PROGRAMS):
        folder = path.split("/")[0] + "/"
        allowed = ("include/", "tests/support/") if folder == "tests/" else ("include/", folder)
        if not target.startswith(allowed):
            yield f'"{target}" is internal; a program sees public headers only'
        return
    mine, my_rank = layer_of(path)
    theirs, their_rank = layer_of(target)
    if mine is None:
        return
    if theirs is None:
        yield f'"{target}" is outside the library'
    elif their_rank > my_rank:
        yield f'"{target}" points upward, from {mine} to {theirs}'
    elif their_rank == my_rank and theirs != mine:
        yield f'"{target}": {mine} and {theirs} do not know each other'


def check_system_include(path, name):
    if name == "liburing.h" or name.startswith("liburing/"):
        if path.startswith(LIBRARY) and not path.startswith("io/engine/"):
            yield f"<{name}>: only io/engine/ knows the ring"
    if name == "stdatomic.h" and path.startswith("include/"):
        yield f"<{name}> is not C++"


def check_seams(path, code):
    """Yields (line, text) for each call around a seam."""
    if not path.startswith(LIBRARY) or path.endswith(".S"):
        return
    for seam, words, owners in SEAMS:
        if path.startswith(owners):
            continue
        for match in re.finditer(CALL.format("|".join(words)), code):
            after = code[match.end():].lstrip()
            # Only functions are called; the constants of system calls also stand alone.
            if not after.startswith("(") and not match.group(0).startswith(("SYS_", "__NR_")):
                continue
            line = code.count("\n", 0, match.start()) + 1
            yield line, f"{match.group(0)} goes around the {seam} seam ({', '.join(owners)})"


def check_tree(root):
    """Every fault of the tree as "path:line: text", and how many files were read."""
    faults = []
    paths = [str(path) for path in sources.files(root)]
    for path in paths:
        text = sources.read(root, path)
        code = sources.without_comments(text, keep_strings=True)
        for match in INCLUDE.finditer(code):
            line = code.count("\n", 0, match.start()) + 1
            if match.group(0).startswith("\n"):
                line += 1
            for fault in check_include(root, path, match.group(1), match.group(2)):
                faults.append(f"{path}:{line}: {fault}")
        for line, fault in check_seams(path, sources.without_comments(text)):
            faults.append(f"{path}:{line}: {fault}")
    return faults, len(paths)


def main():
    root = pathlib.Path(sys.argv[1])
    faults, count = check_tree(root)
    print("\n".join(faults))
    print(f"{count} files, {len(faults)} faults")
    return 1 if faults or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
