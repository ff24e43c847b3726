"""What the external model checkers are asked: scenarios that must hold, and defects of each that must be found.

SPIN: name, model, environment of the verifier (the model says what it means), whether liveness is checked in the long
form ("always": in the short one, too, and defects may show there only), whether it belongs to the short form, promises,
and the defects: names of the model's own.

GenMC: name, file, macros, options ("--imm": the memory model of hardware, where a load may see a store that comes
later; RC11, the usual one, excludes that), promises, and the defects: what to change in the library's sources. Each:
name, file, and pairs of what stands there (exactly once) and what is to stand there.

Promises: the numbers of what a defect would break, and words.
"""

IDLE = ("1,3", "no lost wake-up, no work beside sleepers")

SPIN = [
    ("idle.alone", "idle.pml", {"WORKERS": 1, "SUBMITTERS": 1, "POSTERS": 1, "TOGETHER": 1}, True, True, IDLE,
     ["NO_FENCE_ENTER", "NO_FENCE_NOTIFY", "NO_FENCE_WAKE", "NO_RECHECK"]),
    ("idle.inbox", "idle.pml", {"WORKERS": 2, "POSTERS": 1, "TOGETHER": 1}, True, True, IDLE,
     ["NO_FENCE_ENTER", "NO_FENCE_WAKE", "NO_RECHECK"]),
    ("idle.shared", "idle.pml", {"WORKERS": 2, "SUBMITTERS": 1, "TOGETHER": 1}, False, False, IDLE,
     ["NO_FENCE_NOTIFY", "NO_RECHECK", "LIST_BEFORE_STATE", "NO_CHOSEN"]),
    ("idle.shared_two", "idle.pml", {"WORKERS": 2, "SUBMITTERS": 2, "TOGETHER": 2, "AT_ONCE": 1}, False, False, IDLE,
     ["NO_NEXT", "NO_SEARCH_ON"]),
    ("watch.chain", "watch.pml", {"WORKERS": 3, "CHAIN": 3}, "always", True,
     ("3,12", "work behind a stuck worker is taken over"),
     ["NO_WATCH", "NO_CALL", "NO_RELIEF", "KEEP_DUTY", "NO_LIFO", "NO_CHOSEN"]),
]

# --- GenMC ---

# GenMC 0.11 cannot interpret what LLVM makes of a choice between two constants in some places (`freeze`). These say the
# same with an `if`.
PLAIN = {
    "runtime/cancel.c": [("""        uint32_t new = (old & ~(uint32_t)PICA__TASK_STATE) |
                       (uint32_t)(resume ? PICA__TASK_RUNNING : PICA__TASK_WAITING);
""", """        uint32_t new = old & ~(uint32_t)PICA__TASK_STATE;
        if (resume) {
            new |= (uint32_t)PICA__TASK_RUNNING;
        } else {
            new |= (uint32_t)PICA__TASK_WAITING;
        }
""")],
    "runtime/starved.c": [("""    atomic_store_explicit(&worker->doze, pends ? PICA__DOZE_PENDS : PICA__DOZE_QUIET,
                          memory_order_seq_cst);""", """    uint32_t doze = PICA__DOZE_QUIET;
    if (pends) {
        doze = PICA__DOZE_PENDS;
    }
    atomic_store_explicit(&worker->doze, doze, memory_order_seq_cst);""")],
}

QUEUE = ("2,24", "each task runs once, and sees what came before")
INBOX = ("1,2,24", "each message comes once, in order")
WAITS = ("7,8,9", "completion or cancellation: one decision, nothing granted is lost")
FUTURE = ("8,24", "a future: one result, seen whole, no use after free")
STACKS = ("1,3", "a stack that comes back meets the task that misses it")

DEQUE = "runtime/deque.h"
TAIL_IN_STEAL = "    uint64_t tail = atomic_load_explicit(&d->tail, memory_order_acquire);\n    if (tail <= head)"
COPY = """    for (uint64_t i = 0; i < n; i++) {
        out[i] = atomic_load_explicit(&d->slot[(head + i) % PICA__DEQUE_CAPACITY],
                                      memory_order_relaxed);
    }
"""
STEAL = """    if (!atomic_compare_exchange_strong_explicit(&d->head, &head, head + n, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        return 0;
    }
"""
TAKE = """        if (atomic_compare_exchange_weak_explicit(&d->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return entry;
        }"""

DEQUE_DEFECTS = [
    ("push: release>relaxed", DEQUE,
     [("atomic_store_explicit(&d->tail, tail + 1, memory_order_release)",
       "atomic_store_explicit(&d->tail, tail + 1, memory_order_relaxed)")]),
    ("steal: acquire>relaxed", DEQUE, [(TAIL_IN_STEAL, TAIL_IN_STEAL.replace("acquire", "relaxed"))]),
    ("steal: reads after it took", DEQUE,
     [(COPY + STEAL, "    uint64_t first = head;\n" + STEAL + COPY.replace("head", "first"))]),
    ("steal: takes by a store", DEQUE,
     [(STEAL, "    atomic_store_explicit(&d->head, head + n, memory_order_release);\n")]),
    ("take: by a store", DEQUE,
     [(TAKE, "        atomic_store_explicit(&d->head, head + 1, memory_order_release);\n        return entry;")]),
    ("push: overwrites the last slot", DEQUE,
     [("if (tail - head >= PICA__DEQUE_CAPACITY)", "if (tail - head > PICA__DEQUE_CAPACITY)")]),
]

GENMC = [
    ("deque.steal", "deque.c", ["PUSHES=4", "THIEVES=1"], (), QUEUE, DEQUE_DEFECTS),
    # Load buffering: what the explorer, and RC11, cannot show.
    ("deque.steal, IMM", "deque.c", ["PUSHES=4", "THIEVES=1"], ("--imm",), QUEUE, [
        ("steal: acq_rel>acquire", DEQUE, [(STEAL, STEAL.replace("acq_rel", "acquire"))]),
    ]),
    ("deque.two_thieves", "deque.c", ["PUSHES=3", "THIEVES=2"], (), QUEUE, [DEQUE_DEFECTS[3]]),
    ("overflow", "overflow.c", ["PUSHES=4"], (), QUEUE, [
        ("unlock: release>relaxed", "runtime/base/lock.h",
         [("atomic_store_explicit(&l->held, 0, memory_order_release)",
           "atomic_store_explicit(&l->held, 0, memory_order_relaxed)")]),
        ("lock: acquire>relaxed", "runtime/base/lock.h",
         [("atomic_exchange_explicit(&l->held, 1, memory_order_acquire)",
           "atomic_exchange_explicit(&l->held, 1, memory_order_relaxed)")]),
        ("half is dropped", "runtime/ready.c",
         [("            shared_push_entry(worker->rt, entry);\n        }\n    }\n}",
           "            (void)shared_push_entry;\n        }\n    }\n}")]),
    ]),
    ("inbox", "inbox.c", ["PUSHERS=2"], (), INBOX, [
        ("push: release>relaxed", "runtime/base/inbox.h",
         [("&old, node, memory_order_release,", "&old, node, memory_order_relaxed,")]),
        ("take: acquire>relaxed", "runtime/base/inbox.h",
         [("&box->newest, NULL, memory_order_acquire)", "&box->newest, NULL, memory_order_relaxed)")]),
        ("take: by a store", "runtime/base/inbox.h",
         [("atomic_exchange_explicit(&box->newest, NULL, memory_order_acquire);",
           "atomic_load_explicit(&box->newest, memory_order_acquire);\n"
           "    atomic_store_explicit(&box->newest, NULL, memory_order_release);")]),
    ]),
    ("wait", "wait.c", ["FIRERS=2", "CANCELLERS=1"], ("--check-liveness",), WAITS, [
        ("a fire overlooks the claim", "runtime/wait.c",
         [("PICA__LIKELY(state == PICA__TASK_WAITING) ? PICA__TASK_RUNNING : PICA__TASK_FIRED;", "PICA__TASK_RUNNING;")]),
        ("a canceller does not deliver what came", "runtime/cancel.c",
         [("bool resume = withdrawn || state == PICA__TASK_FIRED;", "bool resume = withdrawn;")]),
        ("the claim by a store", "runtime/cancel.c",
         [("""        if (atomic_compare_exchange_weak_explicit(&task->word, &old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            if (state != PICA__TASK_WAITING) {
                return RECORDED;
            }
            PICA__MOVED(TASK, PICA__TASK_WAITING, PICA__TASK_CLAIMED);
            return CLAIMED;
        }""", """        atomic_store_explicit(&task->word, new, memory_order_seq_cst);
        return state == PICA__TASK_WAITING ? CLAIMED : RECORDED;""")]),
        ("request: acq_rel>release", "runtime/cancel.c",
         [("""&old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            if (state""", """&old, new, memory_order_release,
                                                  memory_order_relaxed)) {
            if (state""")]),
    ]),
    ("future.cancel", "future.c", ["COMPLETERS=1", "CANCELLERS=1"], ("--check-liveness",), FUTURE, [
        ("the waiters before the result", "runtime/future.c",
         [("    future->code = code;\n    future->value = value;\n", ""),
          ("    future->calling = first != NULL;\n    if (first == NULL) {",
           "    future->calling = first != NULL;\n    future->code = code;\n    future->value = value;\n"
           "    if (first == NULL) {")]),
    ]),
    ("future.two", "future.c", ["COMPLETERS=2", "CANCELLERS=0"], ("--check-liveness",), FUTURE, [
        ("two results", "runtime/future.c",
         [("    if (state & PICA__FUTURE_DONE) {\n        pica__unlock(&future->lock);\n"
           "        return false;\n    }\n    future->code",
           "    (void)state;\n    future->code")]),
    ]),
    ("future.unref", "future.c", ["COMPLETERS=1", "CANCELLERS=0", "UNREF"], ("--check-liveness",), FUTURE, [
        ("done: release>relaxed", "runtime/future.c",
         [("PICA__FUTURE_DONE | flags, memory_order_release)",
           "PICA__FUTURE_DONE | flags, memory_order_relaxed)")]),
        ("the last one does not wait for the completer", "runtime/future.c",
         [("        pica__lock(&future->lock);\n        pica__unlock(&future->lock);\n        pica__future_fini",
           "        pica__future_fini")]),
    ]),
    ("idle.one", "idle.c", ["WORKERS=1", "SUBMITTERS=1", "TOGETHER=1"], ("--check-liveness",), IDLE, [
        ("no fence before the second look", "runtime/idle.c",
         [("    /* Store before load: what follows looks at the queues once more. */\n"
           "    atomic_thread_fence(memory_order_seq_cst);", "")]),
        ("a wake without a fence", "runtime/idle.c",
         [("    atomic_thread_fence(memory_order_seq_cst);\n    wake_if_sleeping(worker);",
           "    wake_if_sleeping(worker);")]),
        ("no second look", "runtime/worker.c", [("PICA__UNLIKELY(anything(worker) || (doze", "PICA__UNLIKELY((doze")]),
    ]),
    ("idle.listed", "idle.c", ["WORKERS=2", "RUNNING=1", "SUBMITTERS=1", "TOGETHER=1", "SEARCHING"],
     ("--check-liveness",), IDLE, [
        ("no fence before the second look", "runtime/idle.c",
         [("    /* Store before load: what follows looks at the queues once more. */\n"
           "    atomic_thread_fence(memory_order_seq_cst);", "")]),
        ("a wake without a fence", "runtime/idle.c",
         [("    atomic_thread_fence(memory_order_seq_cst);\n    if (atomic_load_explicit(&idle->searching",
           "    if (atomic_load_explicit(&idle->searching")]),
        ("no second look", "runtime/worker.c", [("PICA__UNLIKELY(anything(worker) || (doze", "PICA__UNLIKELY((doze")]),
    ]),
    ("stacks", "stacks.c", [], ("--check-liveness",), STACKS, [
        # Its fence is not among these: here, as in the library, the lock of the pool orders the two besides.
        ("a stack comes back in silence", "runtime/starved.c",
         [("    if (any_starved(rt)) {\n        pica__idle_notify(rt);\n    }\n}", "}")]),
        ("no look for a stack before sleep", "runtime/worker.c",
         [("(PICA__UNLIKELY(pica__may_starve(rt)) && pica__starved_can_run(worker)) ||", "")]),
    ]),
]
