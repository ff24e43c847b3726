#!/usr/bin/env python3
"""Every public call is run short of memory, or it is written down why it need not be. Usage: coverage.py ROOT

The calls are those of include/pica/*.h. A scenario of nth_*.c (NTH, NTH_PLAIN) names the calls that it is there for,
and must make each of them; no_memory_needed.txt has the others, under their reasons. A call whose own comment
speaks of -ENOMEM (or whose result is NULL without memory) is not excused, save those of the simulator.
"""
import pathlib
import re
import sys

CALL = re.compile(r"PICA_API[^;{]*?\b(pica_\w+)\(")
SCENARIO = re.compile(r"^NTH(?:_PLAIN)?\((\w+),\s*((?:\"[^\"]*\"\s*)+),", re.M)


def public(root):
    """The calls, each with the comment before it."""
    calls = {}
    for path in sorted((root / "include/pica").glob("*.h")):
        text = path.read_text(encoding="utf-8")
        comment = ""
        for part in re.finditer(r"/\*.*?\*/|PICA_API[^;{]*;", text, re.S):
            if part.group().startswith("/*"):
                comment = part.group()
            elif found := CALL.match(part.group()):
                calls[found.group(1)] = comment
                comment = ""
    return calls


def scenarios(folder):
    """Yields (where, calls named, text of the file) for each."""
    for path in sorted(folder.glob("nth_*.c")):
        text = path.read_text(encoding="utf-8")
        for found in SCENARIO.finditer(text):
            names = " ".join(re.findall(r'"([^"]*)"', found.group(2))).split()
            # Without the strings, the names in the table are no calls.
            yield f"{path.name}: {found.group(1)}", names, re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)


def excused(path):
    """Yields (reason, call)."""
    reason = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            reason = line.strip("[]")
        elif not line.startswith("#"):
            for name in line.split():
                yield reason, name


def check(root):
    folder = root / "tests/faults"
    calls = public(root)
    faults, covered = [], set()
    for where, names, text in scenarios(folder):
        for name in names:
            if name not in calls:
                faults.append(f"{where} names {name}, which is no public call")
            if not re.search(rf"\b{name}\(", text):
                faults.append(f"{where} names {name}, but does not call it")
            covered.add(name)
    reasons = {}
    for reason, name in excused(folder / "no_memory_needed.txt"):
        if reason is None or name in reasons:
            faults.append(f"no_memory_needed.txt: {name} stands there twice, or without a reason")
        reasons[name] = reason or ""
        if name not in calls:
            faults.append(f"no_memory_needed.txt: {name} is no public call")
        elif "ENOMEM" in calls[name] and not name.startswith("pica_sim_"):
            faults.append(f"no_memory_needed.txt: the comment of {name} speaks of -ENOMEM")
    faults += [f"{name} stands in a scenario and in no_memory_needed.txt" for name in covered & set(reasons)]
    faults += [f"{name} has no scenario in nth_*.c and no reason in no_memory_needed.txt"
               for name in sorted(set(calls) - covered - set(reasons))]
    if len(calls) < 100 or not covered:
        faults.append(f"only {len(calls)} public calls and {len(covered)} in scenarios were found")
    return faults, len(calls), len(covered)


def main():
    faults, calls, covered = check(pathlib.Path(sys.argv[1]))
    for fault in faults:
        print(fault)
    print(f"{calls} public calls, {covered} in scenarios")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
