#!/usr/bin/env python3
"""The example HTTP server, unchanged, under the simulator with faults and simulated clients.

Each seed runs twice, in two processes: both must do and say the same. The scenario (tests/scenarios/http.c) checks
every byte that the clients get; the server must end well, unless chance left it without descriptors at its start.
Usage: test_simulated.py FOLDER [FROM TO]   FOLDER: the programs of the examples
"""
import os
import pathlib
import subprocess
import sys


def run(program, scenario, seed):
    environment = dict(os.environ, PICA_ENGINE="sim", PICA_SIM_SEED=str(seed), PICA_LOG="info",
                       PICA_SIM_SCENARIO=str(scenario))
    environment.pop("PICA_WORKERS", None)
    return subprocess.run([program, "--port", "8080"], env=environment, capture_output=True, text=True, timeout=120)


def main():
    folder = pathlib.Path(sys.argv[1])
    program = folder / "pica-http-server"
    scenario = folder.parent / "tests" / "scenarios" / "http.so"
    if not program.exists():
        print("skipped: no HTTP server in this build")
        return 77
    first, last = (int(a) for a in sys.argv[2:4]) if len(sys.argv) > 3 else (1, 25)
    if "PICA_ENGINE=sim: Function not implemented" in run(program, scenario, first).stderr:
        print("skipped: a build with ThreadSanitizer, which knows no simulated threads")
        return 77
    served = faults = 0
    for seed in range(first, last + 1):
        one, two = run(program, scenario, seed), run(program, scenario, seed)
        if (one.returncode, one.stdout, one.stderr) != (two.returncode, two.stdout, two.stderr):
            print(f"seed {seed} went two ways:\n{one.stderr}\n{two.stderr}")
            return 1
        line = one.stderr.split("simulated: ")[1]
        faults += int(line.split(" faults")[0].split()[-1])
        started = "Too many open files\n" not in one.stderr.split("simulated: ")[1]
        if "simulation failed" in one.stderr or (started and one.returncode != 0):
            print(f"seed {seed}: status {one.returncode}\n{one.stderr}")
            return 1
        served += started
    print(f"{served} of {last - first + 1} servers served, {faults} faults")
    return 0 if served > 0 and faults > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
