"""Pica in gdb: the tasks of a live process or of a core file, and their backtraces.

    (gdb) source tools/gdb/pica.py
    (gdb) pica tasks            lists them: number, name, state, what it waits for
    (gdb) pica bt ID            the backtrace of a task that is suspended
    (gdb) pica bt RUNTIME.ID    the same in a process with several runtimes

Nothing is changed in the process: `pica bt` has an unwinder continue the newest frame of the selected thread at
the place that the task's fiber saved (runtime/base/context_*.S), prints what gdb then sees, and takes the
unwinder away again. So it works on core files, too. The library needs its debugging information.

Core files that the kernel writes have the stacks (of the first 64 MiB of each pool). gdb's generate-core-file
and gcore leave out what lies behind a guard that was installed inside a mapping: make such a core file of a
process that was started with PICA_DEBUG=without=guard-install.
"""

import re

import gdb
import gdb.unwinder

# The layouts of runtime/base/context_*.S: what lies at the saved stack pointer, from the lowest address.
CONTEXTS = {
    "i386:x86-64": {
        "registers": ("r15", "r14", "r13", "r12", "rbx", "rbp", "rip"), "bytes": 56,
        "pc": "rip", "sp": "rsp"},
    "aarch64": {
        "registers": tuple("x%d" % i for i in range(19, 31)), "bytes": 160, "pc": "x30", "sp": "sp"},
}
# The bits of pica_task.word (runtime/wait.h).
NEW, RUNNING, WAITING, CLAIMED, FIRED, DONE = range(6)
STATE_MASK = 7


def container(link, type_name, *members):
    """The object of a type in which the member (a path) is the given link; link is a pointer."""
    kind = gdb.lookup_type(type_name)
    offset, inner = 0, kind
    for member in members:
        field = next(f for f in inner.strip_typedefs().fields() if f.name == member)
        offset, inner = offset + field.bitpos // 8, field.type
    return gdb.Value(int(link) - offset).cast(kind.pointer())


def links(head):
    """The links of a list, whose head is a struct."""
    link, end = head["next"], int(head.address)
    while int(link) != end:
        yield link
        link = link["next"]


def runtimes():
    found = gdb.lookup_global_symbol("pica__runtimes") or gdb.lookup_static_symbol("pica__runtimes")
    if found is None:
        raise gdb.GdbError("no pica__runtimes: is libpica loaded, with debugging information?")
    for link in links(found.value()["list"]):
        yield container(link, "pica_runtime", "listed")


def tasks_of(rt):
    for i in range(int(rt["workers"])):
        for link in links(rt["loop"][i]["registry"]["tasks"]):
            # The marker of somebody who walks the list has the number 0.
            if int(container(link, "pica__registered", "link")["id"]) != 0:
                yield container(link, "pica_task", "all", "link")


def number(task):
    return int(task["all"]["id"])


def name(task):
    return task["name"].string(errors="replace") if int(task["name"]) else "Task-%d" % number(task)


def state(task):
    return int(task["word"]) & STATE_MASK


def worker_of(task):
    """The worker that runs the task, or None."""
    rt = task["loop"]["rt"]
    for i in range(int(rt["workers"])):
        if int(rt["worker"][i]["current"]) == int(task):
            return rt["worker"][i]
    return None


def target(task):
    """The task that a waiting task awaits, or None."""
    future = task["wait"]["target"]
    return future.cast(gdb.lookup_type("pica_task").pointer()) if int(future) and future["is_task"] else None


def describe(task):
    now = state(task)
    if now == NEW:
        return "new"
    if now == DONE:
        return "ending"
    if now == RUNNING:
        worker = worker_of(task)
        return "ready" if worker is None else "running on worker %d" % int(worker["index"])
    if now == FIRED:
        return "ready"
    text = "waiting: " + task["wait"]["ops"]["what"].string()
    awaited = target(task)
    if awaited is not None:
        text += ", task %d" % number(awaited)
    about = int(task["wait"]["about"])
    if about < 0:
        text += ", descriptor %d" % ~about
    return text


def find(text):
    match = re.fullmatch(r"(?:(\d+)\.)?(\d+)", text.strip())
    if not match:
        raise gdb.GdbError("usage: pica bt ID, or RUNTIME.ID as `pica tasks` shows them")
    for rt in runtimes():
        if match.group(1) is None or int(match.group(1)) == int(rt["serial"]):
            for task in tasks_of(rt):
                if number(task) == int(match.group(2)):
                    return task
    raise gdb.GdbError("no task %s" % text)


def holds(fiber, address):
    return int(fiber["stack"]["lo"]) <= address < int(fiber["stack"]["hi"])


def saved_fiber(task):
    """The fiber on which the task's frames stand, saved.

    A task that awaits another in place has no fiber of its own: its frames lie below those of the other one,
    on the same stack, and are shown together with them.
    """
    place = int(task["wait"]) if state(task) in (WAITING, CLAIMED) else None
    while True:
        now = state(task)
        if now == NEW:
            raise gdb.GdbError("task %d was not started yet: it has no frames" % number(task))
        worker = worker_of(task)
        if now == DONE or worker is not None:
            where = "" if worker is None else " on worker %d: look at the thread pica-w%04d" % (
                int(worker["index"]), int(worker["index"]))
            raise gdb.GdbError("task %d runs%s" % (number(task), where))
        awaited = target(task) if now in (WAITING, CLAIMED) else None
        if awaited is not None and state(awaited) != NEW:
            # In place? Then the awaiter's node lies on the stack where the awaited one stands.
            worker = worker_of(awaited)
            fiber = worker["fiber"] if worker is not None else awaited["fiber"]
            if int(fiber) and holds(fiber, place):
                task = awaited
                continue
        if not int(task["fiber"]):
            raise gdb.GdbError("task %d is about to start" % number(task))
        return task["fiber"]


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class TaskUnwinder(gdb.unwinder.Unwinder):
    """Says that the newest frame of the selected thread was called from where a fiber is suspended."""

    def __init__(self):
        super().__init__("pica-task")
        self.saved = None
        self.enabled = False

    def arm(self, fiber):
        frame = gdb.newest_frame()
        layout = CONTEXTS.get(frame.architecture().name())
        if layout is None:
            raise gdb.GdbError("unknown architecture " + frame.architecture().name())
        self.layout = layout
        self.here = (int(frame.read_register(layout["sp"])), frame.pc())
        base = fiber["context"]["sp"]
        words = base.cast(gdb.lookup_type("long").pointer())
        self.saved = {register: words[i] for i, register in enumerate(layout["registers"])}
        self.sp = base
        self.enabled = True
        gdb.invalidate_cached_frames()

    def disarm(self):
        self.enabled = False
        gdb.invalidate_cached_frames()

    def __call__(self, pending):
        sp = pending.read_register(self.layout["sp"])
        pc = pending.read_register("pc")
        if (int(sp), int(pc)) != self.here:
            return None
        # An address inside the fiber's saved part: below its first frame, so that gdb sees no stack that
        # grows the wrong way.
        info = pending.create_unwind_info(FrameId(self.sp, pc))
        for register, value in self.saved.items():
            info.add_saved_register(register, value)
        info.add_saved_register(self.layout["sp"],
                                gdb.Value(int(self.sp) + self.layout["bytes"]).cast(sp.type))
        if self.layout["pc"] != "rip":
            info.add_saved_register("pc", self.saved[self.layout["pc"]])
        return info


UNWINDER = TaskUnwinder()


class Pica(gdb.Command):
    """Tasks of Pica: `pica tasks`, `pica bt ID`."""

    def __init__(self):
        super().__init__("pica", gdb.COMMAND_STACK, prefix=True)


class PicaTasks(gdb.Command):
    """Lists the tasks of all runtimes: number, name, state, and what it waits for."""

    def __init__(self):
        super().__init__("pica tasks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for rt in runtimes():
            print("runtime %d: %d workers" % (int(rt["serial"]), int(rt["workers"])))
            for task in tasks_of(rt):
                print("%5d '%s': %s" % (number(task), name(task), describe(task)))


class PicaBacktrace(gdb.Command):
    """Shows the backtrace of a suspended task: pica bt ID."""

    def __init__(self):
        super().__init__("pica bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        task = find(argument)
        fiber = saved_fiber(task)
        UNWINDER.arm(fiber)
        try:
            text = gdb.execute("backtrace", to_string=True)
        finally:
            UNWINDER.disarm()
        print("task %d '%s': %s" % (number(task), name(task), describe(task)))
        # Frame 0 is the selected thread's own; the fiber's begin behind it.
        frames = re.split(r"^(?=#\d)", text, flags=re.MULTILINE)
        for i, frame in enumerate(f for f in frames if re.match(r"#[1-9]", f)):
            print(re.sub(r"^#\d+ *", "#%-3d" % i, frame), end="")


gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)
Pica()
PicaTasks()
PicaBacktrace()
