"""The method: living contestants, visited in random order in short slices, compared in pairs.

Whole runs one after the other drift too much to compare (a server against itself gave ratios from
0.63 to 0.99). So all contestants stay alive, a round visits each once in random order, and what is
reported is the median over the rounds of the ratio within a round. The reference runs twice; its
second instance is a contestant like the others, and its ratio shows what the method is worth.

A slice in which other processes took the server's or the load's core is disturbed: it is repeated a
few times at once, and one that stays disturbed is kept in the raw data and counts for nothing. It is
told by the time that server and load were ready to run and did not; the figures have no say in it.
With more than one server thread server and load share cores, and nothing can be told that way.
"""

import statistics

from . import histogram
from .contestants import CONTROL, FLOORS, Failed, Server, thread_times

WARM_UP_MS = 100
CONTROL_LOW, CONTROL_HIGH = 0.97, 1.03
DISTURBED = 0.05  # the share of a slice spent waiting for a core that makes it disturbed
SWITCH_NS = 2000  # what getting onto an idle core may take each time, not counted as waiting
ATTEMPTS = 4      # visits in place of one, while they are disturbed
REACHED = 0.98  # an offered rate that was not reached to this share is marked


class Entrant:
    """A contestant of a table: its server, and its connections at the load."""

    def __init__(self, key, server):
        self.key = key
        self.server = server
        self.index = None
        self.failure = None


def start(names, reference, workload, threads, build, cores):
    """Starts all contestants and the second instance of the reference."""
    entrants = []
    keys = [(name, name) for name in names]
    if reference is not None:
        keys.append((CONTROL, reference))
    try:
        for key, name in keys:
            entrants.append(Entrant(key, Server(name, workload, threads, build, cores)))
    except Failed:
        stop(entrants)
        raise
    return entrants


def stop(entrants):
    for entrant in entrants:
        entrant.server.stop()


def connect(entrants, load, options, workload, connections):
    for entrant in entrants:
        if entrant.failure is None:
            entrant.index = load.open(entrant.server.port, workload, connections,
                                      options.pipeline_of(workload), options.size)


def disconnect(entrants, load):
    for entrant in entrants:
        if entrant.index is not None:
            load.close(entrant.index)
            entrant.index = None


def spent(before, after):
    """What each thread used of the CPU between two readings, and how long all waited for one."""
    used, waited = {}, 0
    for thread, times in after.items():
        was = before.get(thread, [0, 0, 0])
        on_cpu, ready, switches = (now - then for now, then in zip(times, was))
        if on_cpu > 0:
            used[str(thread)] = on_cpu
        waited += max(0, ready - SWITCH_NS * switches)
    return used, waited


def visit(entrant, load, rate, ms):
    """One slice. The server has answered everything when it ends, so its CPU time is all there."""
    load_before, before = thread_times(load.process.pid), entrant.server.times()
    result = load.slice(entrant.index, rate, ms)
    after, load_after = entrant.server.times(), thread_times(load.process.pid)
    result["cpu_ns"], result["waited_ns"] = spent(before, after)
    result["load_waited_ns"] = spent(load_before, load_after)[1]
    if result["done"] == 0:
        raise Failed("no request was answered")
    if result["errors"] or result["mismatch"]:
        raise Failed("%(errors)d errors, %(mismatch)d wrong bytes" % result)
    return result


def is_disturbed(result, ms):
    return max(result["waited_ns"], result["load_waited_ns"]) > DISTURBED * ms * 1e6


def visits(entrant, load, rate, options, threads):
    """Visits until one is undisturbed, or there were enough; all of them."""
    results = []
    for _ in range(1 if options.quick else ATTEMPTS):
        result = visit(entrant, load, rate, options.slice_ms)
        result["disturbed"] = threads == 1 and is_disturbed(result, options.slice_ms)
        results.append(result)
        if not result["disturbed"]:
            break
    return results


def attempt(entrant, action):
    """Runs action on a contestant that has not failed; a failure puts it out of the bench."""
    if entrant.failure is None:
        try:
            return action()
        except Failed as failure:
            entrant.failure = str(failure)
    return None


def slim(result):
    """What of a slice is kept in the JSON: all but the histogram, which is merged into its row."""
    return {key: value for key, value in result.items() if key != "hist"}


def served_delta(before, after):
    if before is None or after is None:
        return None
    return [b - a for a, b in zip(before, after)]


def row(entrants, load, rate, threads, options, random):
    """Measures all contestants at one rate. "raw" are all slices, "slices" the undisturbed."""
    data = {e.key: {"raw": [], "slices": [], "latency": {}} for e in entrants if e.failure is None}
    served = {}
    for entrant in entrants:
        attempt(entrant, lambda: visit(entrant, load, rate, WARM_UP_MS))
        served[entrant.key] = attempt(entrant, entrant.server.served)
    for number in range(options.slices):
        order = entrants[:]
        random.shuffle(order)
        for entrant in order:
            results = attempt(entrant, lambda: visits(entrant, load, rate, options, threads))
            for result in results or ():
                result["round"] = number
                data[entrant.key]["raw"].append(slim(result))
                if not result["disturbed"]:
                    histogram.merge(data[entrant.key]["latency"], result["hist"])
                    data[entrant.key]["slices"].append(data[entrant.key]["raw"][-1])
    for entrant in entrants:
        if entrant.key in data:
            now = attempt(entrant, entrant.server.served)
            data[entrant.key]["served"] = served_delta(served[entrant.key], now)
            data[entrant.key]["failure"] = entrant.failure
    return data


def cost_us(result):
    return sum(result["cpu_ns"].values()) / 1e3 / result["done"]


def ratios(mine, other):
    """The ratios of CPU per request within each round that both took part in."""
    costs = {result["round"]: cost_us(result) for result in other}
    return [cost_us(result) / costs[result["round"]] for result in mine
            if costs.get(result["round"], 0) > 0]


def centre(values):
    """The median and how far it may be off: half the width of a box plot's notch."""
    if not values:
        return None, None
    if len(values) < 4:
        return statistics.median(values), None
    low, _, high = statistics.quantiles(values, n=4)
    return statistics.median(values), 1.57 * (high - low) / len(values) ** 0.5


def thread_shares(data):
    """What each thread did of the whole: by requests where the server tells, else by CPU time."""
    if data.get("served"):
        kind, parts = "requests", data["served"]
    else:
        total = {}
        for result in data["slices"]:
            for thread, spent in result["cpu_ns"].items():
                total[thread] = total.get(thread, 0) + spent
        kind, parts = "cpu", [total[thread] for thread in sorted(total, key=int)]
    whole = sum(parts) or 1
    return {"by": kind, "shares": [part / whole for part in parts]}


def why_not_reported(data, finished, reference, control, wanted):
    """None if the row can be reported."""
    for key, value in data.items():
        kept = len(value["slices"])
        if not value["failure"] and 2 * kept < wanted:
            return "the machine was busy: %d slices of %d undisturbed" % (kept, wanted)
    if reference not in finished or CONTROL not in finished:
        return "the reference did not finish"
    if control is None or not CONTROL_LOW <= control <= CONTROL_HIGH:
        return "%s against itself gave %s, outside %.2f-%.2f" % (
            reference, "nothing" if control is None else "%.3f" % control, CONTROL_LOW, CONTROL_HIGH)
    return None


def summarise(data, reference, rate, wanted):
    """The figures of a row, of which wanted slices of each contestant were to be had."""
    finished = {key: value for key, value in data.items()
                if value["slices"] and not value["failure"]}
    best, control = None, None
    if reference in finished:
        relative = {key: centre(ratios(value["slices"], finished[reference]["slices"]))[0]
                    for key, value in finished.items()}
        control = relative.get(CONTROL)
        floors = [key for key in finished if key in FLOORS and relative[key] is not None]
        best = min(floors, key=relative.get) if floors else None
    why_not = why_not_reported(data, finished, reference, control, wanted)
    summary = {"rate": rate, "best_floor": best, "control": control, "reported": why_not is None,
               "why_not": why_not, "contestants": {}}
    for key, value in finished.items():
        slices = value["slices"]
        done = sum(s["done"] for s in slices)
        elapsed = sum(s["elapsed_us"] for s in slices) / 1e6
        ratio, off = (None, None) if best is None else centre(
            ratios(slices, finished[best]["slices"]))
        summary["contestants"][key] = {
            "cpu_us": centre([cost_us(s) for s in slices])[0], "ratio": ratio, "ratio_off": off,
            "slices": len(slices), "requests_per_s": done / elapsed,
            "reached": rate == 0 or done / elapsed >= REACHED * rate,
            "p50": histogram.percentile_us(value["latency"], 0.50),
            "p99": histogram.percentile_us(value["latency"], 0.99),
            "p99.9": histogram.percentile_us(value["latency"], 0.999),
            "server_busy": sum(sum(s["cpu_ns"].values()) for s in slices) / 1e9 / elapsed,
            "load_busy": sum(s["load_cpu_us"] for s in slices) / 1e6 / elapsed,
            "threads": thread_shares(value),
            "calls": value.get("calls"), "parts": value.get("parts"),
        }
    summary["failed"] = {key: value["failure"] for key, value in data.items() if value["failure"]}
    return summary
