"""Runs SPIN and GenMC over the scenarios of model_table.py. See run and prove."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import model_table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HELD, FOUND = "holds", "found"


class Result:
    """Of one scenario, or of one with a defect. seen: HELD, FOUND, or what went wrong; count: states or executions;
    how: what was found."""

    def __init__(self, tool, scenario, defect, promise, what):
        self.tool, self.scenario, self.defect, self.promise = tool, scenario, defect, promise
        self.expected = FOUND if defect else HELD
        begun = time.monotonic()
        self.seen, self.count, self.how = what()
        self.seconds = time.monotonic() - begun
        self.good = self.seen == self.expected

    def __str__(self):
        name = self.scenario + (f", {self.defect}" if self.defect else "")
        kind = "states" if self.tool == "spin" else "executions"
        verdict = "" if self.good else f"   NOT AS EXPECTED: {self.expected}"
        return (f"{self.tool:5}  {name:60}  {self.count:>9} {kind:10}  {self.seen:6} {self.seconds:7.1f} s"
                f"  {self.how}{verdict}")


def missing():
    """What is not there: one line for each tool."""
    lines = []
    if shutil.which("spin") is None or shutil.which("cc") is None:
        lines.append(f"skipped: {'cc' if shutil.which('spin') else 'spin'} is not on PATH")
    if shutil.which("genmc") is None:
        lines.append("skipped: genmc is not on PATH")
    return lines


def command(words, seconds, **options):
    """Its output, or None if it took longer."""
    try:
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=seconds, check=False, **options).stdout
    except subprocess.TimeoutExpired:
        return None


# --- SPIN ---

class Verifier:
    """The verifiers of one model, built when they are needed."""

    FLAGS = {"safety": ("-DSAFETY", "-DNOCLAIM"), "liveness": ("-DNFAIR=3",)}
    OPTIONS = {"safety": (), "liveness": ("-a", "-f")} # acceptance cycles under weak fairness

    def __init__(self, model, folder):
        self.model, self.folder, self.programs = model, folder, {}
        text = (HERE / model).read_text(encoding="utf-8")
        self.defects = dict(re.findall(r"#define DEFECT_(\w+) (\d+)", text))

    def program(self, kind):
        if kind not in self.programs:
            self.folder.mkdir(exist_ok=True)
            if not self.programs:
                for source in HERE.glob("*.pml"):
                    shutil.copy(source, self.folder)
                subprocess.run(["spin", "-a", self.model], cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["cc", "-O1", "-w", "-DCOLLAPSE", *self.FLAGS[kind], "-o", kind, "pan.c"],
                           cwd=self.folder, check=True)
            self.programs[kind] = self.folder / kind
        return self.programs[kind]

    def verify(self, kind, environment, defect, seconds):
        environment = {name: str(value) for name, value in environment.items()}
        if defect:
            environment["DEFECT"] = self.defects[defect]
        output = command([self.program(kind), "-n", "-m1000000", "-w22", *self.OPTIONS[kind]], seconds,
                         cwd=self.folder, env={**os.environ, **environment})
        if output is None:
            return "too long", 0, ""
        states = re.search(r"(\d+) states, stored", output)
        errors = re.search(r"errors: (\d+)", output)
        if states is None or errors is None or "too small" in output or "out of memory" in output:
            return output[-400:], 0, ""
        how = re.search(r"^pan:1: (acceptance cycle|assertion violated|invalid end state)", output, re.MULTILINE)
        if errors.group(1) != "0" and how is None:
            return output[-400:], 0, ""
        return FOUND if how else HELD, int(states.group(1)), how.group(1) if how else ""


    def first_found(self, kinds, environment, defect, seconds):
        for kind in kinds:
            result = self.verify(kind, environment, defect, seconds)
            if result[0] != HELD:
                break
        return result


def run_spin(short, seconds):
    """seconds(): what is left for one run."""
    with tempfile.TemporaryDirectory(prefix="pica-models-") as scratch:
        verifiers = {}
        for name, model, environment, live, is_short, promise, defects in model_table.SPIN:
            if short and not is_short:
                continue
            if model not in verifiers:
                verifiers[model] = Verifier(model, pathlib.Path(scratch) / model)
            verifier = verifiers[model]
            for kind in ("safety", "liveness") if live == "always" else ("safety",):
                verifier.program(kind) # built outside the time of a run
            for defect in (None, *defects):
                kinds = ("safety", "liveness") if defect and live == "always" else ("safety",)
                yield Result("spin", name, defect, promise,
                             lambda: verifier.first_found(kinds, environment, defect, seconds()))
            if live == "always" or (live and not short):
                verifier.program("liveness")
                yield Result("spin", f"{name}, liveness", None, promise,
                             lambda: verifier.verify("liveness", environment, None, seconds()))


# --- GenMC ---

def changed(path, edits):
    """The text of a source with edits, each of which must fit in one place."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for old, new in edits:
        if text.count(old) != 1:
            raise ValueError(f"occurs {text.count(old)} times in {path}:\n{old}")
        text = text.replace(old, new)
    return text


def overlay(folder, path, edits):
    """Changed sources, in a folder that is searched before the tree."""
    every = {name: list(plain) for name, plain in model_table.PLAIN.items()}
    if path:
        every[path] = every.get(path, []) + list(edits)
    for name, all_edits in every.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(changed(name, all_edits), encoding="utf-8")


# No estimate before, no warnings; and a lock that is tried again by an exchange is no fault (unordered writes).
# Without debug information: version 0.11 ends on that of some types.
GENMC = ("genmc", "--disable-estimation", "--v1", "--disable-ipr")
COMPILER = ("-g0", "-std=c11", "-w", "-D_GNU_SOURCE", "-DPICA__MODEL=1", "-DPICA__DEBUG=0")


def genmc(file, macros, options, folder, seconds):
    output = command([*GENMC, *options, "--", *COMPILER, *(f"-D{macro}" for macro in macros),
                      f"-I{folder}", f"-I{ROOT}", f"-I{ROOT}/include", str(HERE / file)], seconds)
    if output is None:
        return "too long", 0, ""
    count = re.search(r"complete executions explored: (\d+)", output)
    executions = int(count.group(1)) if count else 0
    how = re.search(r"^Error: (.*violation|.*race|Attempt to .*)", output, re.MULTILINE)
    if how and "Verification unsuccessful" in output:
        return FOUND, executions, how.group(1)
    if "No errors were detected" in output and executions > 0:
        return HELD, executions, ""
    return output[-400:], 0, ""


def run_genmc(seconds):
    for name, file, macros, options, promise, defects in model_table.GENMC:
        for defect, path, edits in ((None, None, ()), *defects):
            with tempfile.TemporaryDirectory(prefix="pica-models-") as scratch:
                folder = pathlib.Path(scratch)
                overlay(folder, path, edits)
                yield Result("genmc", name, defect, promise,
                             lambda: genmc(file, macros, options, folder, seconds()))


def faults():
    """Defects, and other changes, that do not fit the sources any more."""
    planted = [(path, edits) for *_, defects in model_table.GENMC for _, path, edits in defects]
    for path, edits in (*planted, *((path, []) for path in model_table.PLAIN)):
        try:
            changed(path, [*model_table.PLAIN.get(path, []), *edits])
        except ValueError as error:
            yield str(error)


def run_all(short, only, seconds):
    if only != "genmc" and shutil.which("spin") and shutil.which("cc"):
        yield from run_spin(short, seconds)
    if only != "spin" and not short and shutil.which("genmc"):
        yield from run_genmc(seconds)
