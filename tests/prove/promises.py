"""What the library promises, and the tests of ctest that show it.

Each promise: its words, and entries (method, preset, regular expression over the names of tests). A row of the
table is a promise and a method. Tests of the explorer, the workloads, the models and the like also stand behind
promises by their own `prove` programs; what stands here runs in every `tools/dev test`.
"""

API, STRESS, UNIT, EXPLORER, SIM, TSAN, ASAN, EXAMPLES, CONFINED = (
    "API tests", "stress", "unit tests", "explorer", "simulator", "under TSan", "under ASan", "examples",
    "under limits")


def entry(method, names, preset="release"):
    return method, preset, "|".join(f"({name})" for name in names.split())


PROMISES = {
    1: ("No wake-up is lost: what is made ready while a worker goes to sleep is run", [
        entry(EXPLORER, r"explore\.idle explore\.stacks"),
        entry(STRESS, r"stress\.(storm|sync)\.3"),
        entry(TSAN, r"stress\.(storm|sync)\.3", "tsan")]),
    2: ("A task runs once for each time that it is made ready; none is lost or run twice", [
        entry(EXPLORER, r"explore\.deque explore\.inbox explore\.wait"),
        entry(UNIT, r"unit\.deque unit\.deque_small unit\.inbox"),
        entry(TSAN, r"unit\.deque unit\.deque_small stress\.awaits\.3", "tsan")]),
    3: ("A runnable task does not wait, longer than a bound, while a worker sleeps", [
        entry(API, r"api\.balance\.(2|3|8) api\.rescue\.3"),
        entry(EXPLORER, r"explore\.idle")]),
    4: ("Each operation that was submitted ends exactly once, at its owner", [
        entry(EXPLORER, r"explore\.operation"),
        entry(UNIT, r"unit\.engine"),
        entry(SIM, r"workloads\.sim(_good)?")]),
    5: ("What the kernel was given stays until the operation has ended", [
        entry(EXPLORER, r"explore\.(operation|socket)"),
        entry(API, r"api\.sim_world\.3"),
        entry(ASAN, r"api\.(sim_world|file_end|datagram_many)\.3", "asan")]),
    6: ("What came in spite of a cancellation is delivered or disposed of, never leaked", [
        entry(EXPLORER, r"explore\.(operation|socket)"),
        entry(SIM, r"workloads\.sim"),
        entry(API, r"api\.(server|file_end|connect_any)\.3")]),
    7: ("A cancellation is delivered once, where the task waits, as asyncio counts it", [
        entry(EXPLORER, r"explore\.wait"),
        entry(API, r"api\.(cancel|await|gather|order)\.3"),
        entry(STRESS, r"stress\.cancel_chain\.3")]),
    8: ("A time limit and a result are one decision: nothing is lost or swallowed", [
        entry(EXPLORER, r"explore\.(wait|operation)"),
        entry(API, r"api\.(timeout|wait_for)\.3"),
        entry(SIM, r"workloads\.sim")]),
    9: ("What was granted to a waiter that is cancelled is kept or passed on", [
        entry(EXPLORER, r"explore\.sync"),
        entry(STRESS, r"stress\.sync\.3"),
        entry(API, r"api\.(lock|event|queue)\.3")]),
    10: ("Locks and queues serve in the order of arrival", [
        entry(API, r"api\.(lock|queue)\.[1238]"),
        entry(SIM, r"workloads\.sim")]),
    11: ("A queue loses and doubles nothing, keeps each producer's order and its bound; its end wakes all", [
        entry(STRESS, r"stress\.queue\.[1238]"),
        entry(API, r"api\.queue_end\.3"),
        entry(TSAN, r"stress\.queue\.3", "tsan")]),
    12: ("A runnable task, a timer and a callback come within a bounded number of steps", [
        entry(API, r"api\.fairness\.[1238] api\.flood\.3")]),
    13: ("A timer is never early, and late by a bound when the worker is idle", [
        entry(API, r"api\.loop\.[1238]"),
        entry(UNIT, r"unit\.heap"),
        entry(EXPLORER, r"explore\.idle"),
        entry(SIM, r"workloads\.sim")]),
    14: ("After the end nothing is left: no task, no operation, no descriptor, no byte", [
        entry(EXPLORER, r"explore\.(life|executor|socket)"),
        entry(STRESS, r"stress\.cycles\.[1238]"),
        entry(API, r"api\.(run|memory|server)\.3"),
        entry(ASAN, r"stress\.cycles\.3 api\.run\.3", "asan")]),
    15: ("SIGTERM: no new clients, the present ones in time, then the exit status", [
        entry(EXAMPLES, r"examples\.(echo_server|http_server|chat_server)"),
        entry(API, r"api\.signal\.3")]),
    16: ("No descriptor is left behind by a call that fails", [
        entry(API, r"api\.(names|file_end|server_names|server_surface|process)\.3"),
        entry(EXAMPLES, r"examples\.scale_(waves|nofile)")]),
    17: ("Without memory a call says so and leaves everything as it was", [
        entry(API, r"api\.(memory|queue|names|connect_any|datagram_many|file_end)\.3"),
        entry(UNIT, r"unit\.(alloc|process_memory|heap)"),
        entry(ASAN, r"api\.memory\.3 unit\.process_memory", "asan")]),
    18: ("Interruptions, shortages and parts of reads and writes are dealt with, and never spin", [
        entry(EXAMPLES, r"examples\.scale_nofile"),
        entry(STRESS, r"stress\.profiled\.3"),
        entry(SIM, r"workloads\.sim")]),
    19: ("Full queues of the ring lose nothing", [
        entry(UNIT, r"unit\.engine")]),
    20: ("A stack that overflows ends the process with the task's name, and corrupts nothing", [
        entry(UNIT, r"unit\.(overflow|stack|stack_threads)")]),
    21: ("Tasks that nothing can wake any more are told, with what they wait for", [
        entry(API, r"api\.(deadlock|sim)\.3")]),
    22: ("Who keeps a worker too long is named, and the others go on", [
        entry(API, r"api\.(slow|rescue|balance)\.3")]),
    23: ("Calls for any thread work on any; the others refuse, and break nothing", [
        entry(API, r"api\.(threads|thread)\.[1238]"),
        entry(TSAN, r"api\.(threads|thread|async)\.3", "tsan")]),
    24: ("What was written before a spawn, a wake, a put or a set is seen behind the await of it", [
        entry(EXPLORER, r"explore\.(deque|inbox|wait|sync|executor)"),
        entry(TSAN, r"unit\.races api\.(await|future|queue|event|lock)\.3", "tsan")]),
    25: ("No lock of the library is held over user code or a system call, and locks have one order", [
        entry(EXPLORER, r"explore\.(life|socket|wait|sync|executor|idle)")]),
    26: ("In a forked child a runtime of the parent refuses, and a new one works", [
        entry(API, r"api\.fork\.[1238]")]),
    27: ("Signals interrupt nothing, are handled outside of handlers, and SIGPIPE never kills", [
        entry(API, r"api\.signal\.3"),
        entry(STRESS, r"stress\.profiled\.3"),
        entry(UNIT, r"unit\.plain")]),
    28: ("Hostile peers take bounded memory", [
        entry(EXAMPLES, r"examples\.scale_(hostile|many)"),
        entry(API, r"api\.(writer|reader|server_surface)\.3")]),
    29: ("Idleness costs nothing: no wake-up, no time", [
        entry(STRESS, r"stress\.idle\.[1238]")]),
    30: ("Runtimes beside each other do not meet, and leave nothing when they end", [
        entry(API, r"api\.run\.[1238]"),
        entry(STRESS, r"stress\.(cycles|million)\.3"),
        entry(TSAN, r"api\.run\.3", "tsan")]),
    31: ("A simulation's seed decides everything that happens", [
        entry(SIM, r"workloads\.sim"),
        entry(API, r"api\.sim\.[1238]")]),
    32: ("What a task may keep when it moves to another thread is kept, and the rest is documented", [
        entry(STRESS, r"stress\.storm\.3 workloads\.migrate"),
        entry(API, r"api\.fp_control\.3"),
        entry(TSAN, r"stress\.storm\.3 workloads\.migrate", "tsan")]),
}
