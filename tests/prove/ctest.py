"""The tests of a build tree: what ctest knows of them, running them, and what a run of ctest has written."""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import time
import xml.etree.ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


def executions(output):
    """How much a test has run, by what it prints: executions of the explorer, seeds, or cases."""
    explored = [int(n) for n in re.findall(r"(\d+) executions", output)]
    if explored:
        return sum(explored)
    seeds = re.search(r"(\d+) seeds, ", output)
    if seeds:
        return int(seeds.group(1))
    cases = re.search(r"^(\d+) passed, \d+ failed", output, re.M)
    return int(cases.group(1)) if cases else 1


class Test:
    """One test, as ctest would run it."""

    def __init__(self, description):
        self.name = description["name"]
        self.command = description.get("command")  # None: it is not built
        properties = {p["name"]: p["value"] for p in description.get("properties", [])}
        self.folder = properties.get("WORKING_DIRECTORY", ".")
        self.limit = float(properties.get("TIMEOUT", 600))
        self.skip = int(properties.get("SKIP_RETURN_CODE", -1))
        self.environment = dict(e.split("=", 1) for e in properties.get("ENVIRONMENT", []) if "=" in e)

    def run(self):
        """The verdict, and what it printed."""
        with subprocess.Popen(self.command, cwd=self.folder, env={**os.environ, **self.environment},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              start_new_session=True) as process:
            try:
                output = process.communicate(timeout=self.limit)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return FAILED, process.communicate()[0].decode(errors="replace") + "\ntimed out\n"
        if process.returncode == self.skip:
            return SKIPPED, output
        return (PASSED if process.returncode == 0 else FAILED), output


def tests(build):
    """name: Test, of a build tree; {} if it is none."""
    if not (build / "CTestTestfile.cmake").is_file():
        return {}
    out = subprocess.run(["ctest", "--test-dir", str(build), "--show-only=json-v1"], stdout=subprocess.PIPE,
                         check=True).stdout
    return {t["name"]: Test(t) for t in json.loads(out)["tests"]}


def run(chosen, deadline, jobs):
    """Runs tests in turn until the deadline (the first is run anyway); yields (key, verdict, output)."""
    def one(item):
        key, test, first = item
        if not first and time.monotonic() >= deadline:
            return key, None, ""
        return (key, *test.run())

    items = [(key, test, i == 0) for i, (key, test) in enumerate(chosen)]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, items)


def results(build):
    """name: (verdict, output), of what `tools/dev test` has run in this build tree; None if it has not."""
    path = pathlib.Path(build) / "tests.xml"
    if not path.is_file():
        return None
    found = {}
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        verdict = PASSED if status == "run" else SKIPPED if status in ("notrun", "disabled") else FAILED
        found[case.get("name")] = verdict, case.findtext("system-out") or ""
    return found
