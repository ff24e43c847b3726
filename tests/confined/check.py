#!/usr/bin/env python3
"""Whether each limit of tests/confined/run holds, and what the library makes of it.

usage: check.py PROBE LIMIT [KEY=VALUE...]

Runs PROBE with the limit: it must print each KEY=VALUE. log=TEXT: exactly one line of its log has TEXT. Runs it
without, too, and says what is the same then, and so shows nothing on this machine. Exit status 77: the limit is
not permitted here.
"""
import os
import pathlib
import subprocess
import sys

RUN = str(pathlib.Path(__file__).parent / "run")


def probe(command):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PICA_")}
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=env)
    print("$", *command, "->", ran.returncode)
    print(ran.stdout + ran.stderr, end="", flush=True)
    facts = dict(line.split("=", 1) for line in ran.stdout.splitlines())
    facts["log"] = ran.stderr.splitlines()
    return ran.returncode, facts


def holds(facts, key, value):
    if key == "log":
        return len([line for line in facts["log"] if value in line]) == 1
    return facts.get(key) == value


def main():
    program, limit, expected = sys.argv[1], sys.argv[2], sys.argv[3:]
    status, confined = probe([RUN, *limit.split(), "--", program])
    if status == 77:
        return 77
    _, free = probe([program])
    wrong = [] if status == 0 else [f"exit status {status}"]
    for text in expected:
        key, value = text.split("=", 1)
        if not holds(confined, key, value):
            wrong.append(f"confined, {key} is not {value}")
        if key != "close" and holds(free, key, value):
            print(f"{key} is {value} without the limit too")
    for line in wrong:
        print("FAIL:", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
