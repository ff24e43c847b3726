"""What is printed, and what surrounds the figures in the JSON."""

import os
import platform
import re
import subprocess

from .contestants import BENCH, CONTROL


def first_line(*command):
    """The first line a program prints, or None when it cannot be run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    lines = done.stdout.splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def field(path, pattern):
    """The first match of pattern in a file, or None."""
    try:
        with open(path) as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None


def crate_version(name):
    lock = os.path.join(BENCH, "peers", "tokio", "Cargo.lock")
    return field(lock, r'name = "%s"\nversion = "([^"]+)"' % name)


def surroundings(build):
    """Machine, kernel, compilers, versions and commit."""
    cache = os.path.join(build, "CMakeCache.txt")
    compiler = field(cache, r"^CMAKE_C_COMPILER:\w+=(.+)$") or "cc"
    return {
        "machine": {
            "architecture": platform.machine(), "cores": os.cpu_count(),
            "processor": field("/proc/cpuinfo", r"^model name\s*: (.+)$"),
            "memory_kib": field("/proc/meminfo", r"^MemTotal:\s+(\d+)"),
            "hypervisor": "hypervisor" in (field("/proc/cpuinfo", r"^flags\s*: (.+)$") or ""),
        },
        "kernel": {
            "release": platform.release(), "version": platform.version(),
            "congestion_control": field("/proc/sys/net/ipv4/tcp_congestion_control", r"^(.+)$"),
        },
        "versions": {
            "compiler": first_line(compiler, "--version"),
            "build_type": field(cache, r"^CMAKE_BUILD_TYPE:\w+=(.+)$"),
            "c_flags": field(cache, r"^CMAKE_C_FLAGS:\w+=(.+)$"),
            "liburing": first_line("pkg-config", "--modversion", "liburing"),
            "libuv": first_line("pkg-config", "--modversion", "libuv"),
            "rustc": first_line("rustc", "--version"),
            "tokio": crate_version("tokio"), "httparse": crate_version("httparse"),
            "valgrind": first_line("valgrind", "--version"),
            "strace": first_line("strace", "--version"),
            "python": platform.python_version(),
        },
        "commit": first_line("git", "-C", BENCH, "rev-parse", "HEAD"),
        "uncommitted_changes": first_line("git", "-C", BENCH, "status", "--porcelain") is not None,
        "load_average": list(os.getloadavg()),
    }


def number(value, form="%.2f"):
    return "n/a" if value is None else form % value


def print_columns(lines):
    """Prints rows of words, the first column to the left and the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        words = [word.rjust(width) for word, width in zip(line, widths)]
        words[0] = line[0].ljust(widths[0])
        print("  " + "  ".join(words).rstrip())


def title(table):
    message = "GET" if table["workload"] == "http" else "%d bytes" % table["size"]
    threads = table["threads"]
    where = "server on core %s, load on core %s" % (
        ",".join(map(str, table["server_cores"])), table["load_core"])
    return "%s, %s, %d connection%s, %d pipelined, %d thread%s (%s), %d slices of %d ms" % (
        table["workload"], message, table["connections"], "s" * (table["connections"] != 1),
        table["pipeline"], threads, "s" * (threads != 1), where, table["slices"],
        table["slice_ms"])


def shown_name(key, table):
    return "%s (again)" % table["reference"] if key == CONTROL else key


def shares(threads):
    """In percent, the greatest first; threads that did next to nothing are left out."""
    parts = [share for share in sorted(threads["shares"], reverse=True) if share >= 0.005]
    return "/".join("%.1f" % (100 * share) for share in parts) + " " + threads["by"]


def print_row(summary, table):
    rate = "%d requests/s offered" % summary["rate"] if summary["rate"] else "saturation"
    for key, why in summary["failed"].items():
        print("  %s: failed: %s" % (shown_name(key, table), why))
    if not summary["reported"]:
        print("%s: NOT REPORTED: %s" % (rate, summary["why_not"]))
        return
    kept = min(figures["slices"] for figures in summary["contestants"].values())
    print("%s: %s against itself %.3f, at least %d undisturbed slices" % (
        rate, table["reference"], summary["control"], kept))
    many = table["threads"] > 1
    lines = [["", "CPU us/req", "vs floor", "+-", "requests/s", "p50 us", "p99 us", "p99.9 us",
              "calls/req", "busy %", "load %"] + ["threads, % of"] * many]
    for key, figures in summary["contestants"].items():
        rate_text = "%.0f" % figures["requests_per_s"] + ("" if figures["reached"] else " !")
        lines.append([
            shown_name(key, table), number(figures["cpu_us"]), number(figures["ratio"], "%.3f"),
            number(figures["ratio_off"], "%.3f"), rate_text, number(figures["p50"], "%.1f"),
            number(figures["p99"], "%.1f"), number(figures["p99.9"], "%.1f"),
            number(figures["calls"]), number(100 * figures["server_busy"], "%.0f"),
            number(100 * figures["load_busy"], "%.0f")] + [shares(figures["threads"])] * many)
    print_columns(lines)
    print_parts(summary, table)


def print_parts(summary, table):
    """CPU time of the parts, where perf could tell them apart."""
    having = {key: figures for key, figures in summary["contestants"].items() if figures["parts"]}
    if not having:
        return
    names = ("read", "parse", "send", "ring", "other")
    lines = [["ns of CPU a request in"] + list(names)]
    for key, figures in having.items():
        lines.append([shown_name(key, table)] + [
            "%.0f" % (1e3 * figures["cpu_us"] * figures["parts"].get(name, 0)) for name in names])
    print_columns(lines)


def print_counts(counts, workload, pipeline):
    print("\n%s, %s at a time on one connection, 1 thread: counts for each request" % (
        workload, "one request" if pipeline == 1 else "%d requests" % pipeline))
    lines = [["", "system calls", "user instructions", "which calls"]]
    for name, found in counts.items():
        calls = found["calls"]
        which = "" if not calls else ", ".join(
            "%s %.2f" % item for item in sorted(calls.items(), key=lambda item: -item[1]))
        lines.append([name, number(sum(calls.values()) if calls else None),
                      number(found["instructions"], "%.0f"), which])
    print_columns(lines)
    for name, found in counts.items():
        for why in found["failures"]:
            print("  %s: n/a: %s" % (name, why))
