"""What `run` and `prove` share: the fuzz build, its targets, and one target's turn under libFuzzer."""
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Per target: options of libFuzzer, and what it stands for in the report: numbers of promises, in words.
# What the simulator carries reaches thousands of edges in each run, on which libFuzzer's energy schedule
# would spend half of the time.
SIMULATED = ["-entropic=0", "-len_control=0"]
TARGETS = {
    "reader": (["-max_len=1024"], "14,17,18 reads at any split: no byte lost or changed"),
    "stream": ([*SIMULATED, "-max_len=400"], "8,14 reads and time-outs over a stream pair"),
    "env": (["-max_len=600"], "- environment parser against a second one"),
    "heap": (["-max_len=2048"], "13,17 timer heap: order"),
    "lists": (["-max_len=1024"], "2 deque, lists, FIFO, inbox: each entry once, in order"),
    "queue": ([*SIMULATED, "-max_len=400"], "9,10,11 queue: order, grants, cancellation, shutdown"),
    "http": ([*SIMULATED, "-max_len=1024"], "15,28 HTTP example under any input"),
    "choices": ([*SIMULATED, "-max_len=4096"], "1-14,18,21 workloads, schedule and faults by the fuzzer"),
}
MEMORY = ["-rss_limit_mb=2048", "-malloc_limit_mb=64", "-timeout=60"]


@dataclasses.dataclass
class Turn:
    """What came of a target's turn. crash: the file, or None; executions: without those of the corpus."""
    target: str
    executions: int
    failed: bool
    crash: pathlib.Path
    command: str
    log: pathlib.Path


def why_not():
    """Why nothing can be fuzzed here, or None."""
    clang = shutil.which("clang")
    if clang is None:
        return "clang is not here"
    probe = "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *d, size_t n) { return d == NULL && n > 0; }\n"
    done = subprocess.run([clang, "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", "/dev/null"],
                          input=probe, text=True, capture_output=True)
    return None if done.returncode == 0 else "this clang has no libFuzzer (Debian: libclang-rt-dev)"


def is_fuzz_build(build):
    cache = build / "CMakeCache.txt"
    return cache.is_file() and re.search(r"^PICA_FUZZ:\w+=ON$", cache.read_text(), re.M) is not None


def make(build):
    """Builds the targets in `build`, which is made if it is not there."""
    if not is_fuzz_build(build):
        subprocess.run(["cmake", "--preset", "fuzz", "-B", build], cwd=ROOT, check=True, stdout=sys.stderr)
    jobs = os.environ.get("PICA_JOBS", str(os.cpu_count() or 1))
    subprocess.run(["cmake", "--build", build, "--target", "fuzz", "--parallel", jobs], check=True, stdout=sys.stderr)


def program(build, target):
    return build / "tests/fuzz" / f"fuzz-{target}"


def launcher():
    """The sanitizers of older compilers fail at start under high-entropy address randomization."""
    setarch = shutil.which("setarch")
    if setarch and subprocess.run([setarch, "-R", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return [setarch, "-R"]
    return []


def environment():
    env = dict(os.environ)
    env.setdefault("ASAN_OPTIONS", "detect_stack_use_after_return=0:quarantine_size_mb=8")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    return env


def run(build, target, seconds):
    """Fuzzes one target, from what is kept in the tree and what earlier turns have found."""
    folder = build / "fuzz" / target
    found, crashes, log = folder / "corpus", folder / "crashes", folder / "log"
    found.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    options, _ = TARGETS[target]
    dictionary = HERE / f"{target}.dict"
    command = [*launcher(), str(program(build, target)), *options, *MEMORY, f"-max_total_time={max(1, int(seconds))}",
               f"-artifact_prefix={crashes}/", "-print_final_stats=1",
               *([f"-dict={dictionary}"] if dictionary.is_file() else []),
               str(found), str(HERE / "corpus" / target)]
    before = time.time()
    with open(log, "w", encoding="utf-8") as out:
        # It ends by itself; the limit is for one that no longer looks at its clock.
        try:
            status = subprocess.run(command, stdout=out, stderr=out, env=environment(), timeout=seconds * 2 + 300).returncode
        except subprocess.TimeoutExpired:
            status = -1
    text = log.read_text(encoding="utf-8", errors="replace")
    units = re.findall(r"^stat::number_of_executed_units:\s*(\d+)", text, re.M)
    numbers = [int(n) for n in re.findall(r"^#(\d+)\s", text, re.M)]
    fresh = [p for p in crashes.iterdir() if p.stat().st_mtime >= before - 1 and not p.name.startswith("slow-unit-")]
    crash = fresh[0] if fresh else None
    replay = " ".join([*launcher(), str(program(build, target)), str(crash)]) if crash else ""
    if crash:
        (crash.parent / "replay").open("a", encoding="utf-8").write(
            f"ASAN_OPTIONS={environment()['ASAN_OPTIONS']} {replay}\n")
    return Turn(target, int(units[-1]) if units else max(numbers, default=0), status != 0, crash, replay, log)


def available(build):
    """The targets of this build; without llhttp there is no HTTP example."""
    return [t for t in TARGETS if program(build, t).is_file()]
