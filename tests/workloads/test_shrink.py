#!/usr/bin/env python3
"""Follows the walk-through of docs/TESTING.md: a planted defect is found, comes again, and is made smaller.

Usage: test_shrink.py SHRINKER DRIVER DOCUMENT
"""
import pathlib
import re
import subprocess
import sys

SEED = "build/release/tests/pica-sim"


def run(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    print(f"$ {command}\n{done.stdout}{done.stderr}")
    return done


def main():
    shrinker, driver, document = sys.argv[1:4]
    lines = [line.strip() for line in pathlib.Path(document).read_text(encoding="utf-8").splitlines()
             if line.startswith("    ") and "--workload planted" in line]
    lines = [line.replace("tools/pica-shrink", f"{sys.executable} {shrinker}").replace(SEED, driver) for line in lines]
    if len(lines) != 3:
        print("the walk-through has other commands than this test expects")
        return 1
    found, shrink, small = lines
    message = re.compile(r"number is \d+, expected 8")
    first = run(found)
    replay = re.search(r"replay: (.*--workload planted)$", first.stderr, re.M)
    if first.returncode == 0 or replay is None or message.search(first.stderr) is None:
        return 1
    again = run(replay.group(1))
    if again.returncode == 0 or message.search(again.stderr).group(0) != message.search(first.stderr).group(0):
        return 1
    done = run(shrink)
    left = re.search(r"after (\d+) runs: (\d+) faults, (\d+) parts", done.stdout)
    if done.returncode != 0 or left is None or int(left.group(2)) > 1 or not 2 <= int(left.group(3)) <= 4:
        return 1
    for command in (done.stdout.splitlines()[-1], small):
        last = run(command)
        if last.returncode == 0 or "number is" not in last.stderr:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
