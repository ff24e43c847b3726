#!/usr/bin/env python3
"""tools/pica-shrink on a defect that is planted: of 8 tasks and many faults it leaves a few tasks and hardly any fault.

Usage: test_shrink.py SHRINKER DRIVER
"""
import re
import subprocess
import sys


def main():
    shrinker, driver = sys.argv[1:3]
    for seed in range(1, 100):
        command = [driver, str(seed), "--workload", "planted", "--once"]
        if subprocess.run(command, capture_output=True).returncode != 0:
            break
    else:
        print("no seed finds the planted defect")
        return 1
    done = subprocess.run([sys.executable, shrinker, "--"] + command, capture_output=True, text=True)
    print(f"seed {seed}\n{done.stdout}{done.stderr}")
    found = re.search(r"after (\d+) runs: (\d+) faults, (\d+) parts", done.stdout)
    if done.returncode != 0 or found is None or int(found.group(2)) > 1 or not 2 <= int(found.group(3)) <= 4:
        return 1
    again = subprocess.run(done.stdout.splitlines()[-1], shell=True, capture_output=True, text=True)
    return 0 if again.returncode != 0 and "number is" in again.stderr else 1


if __name__ == "__main__":
    sys.exit(main())
