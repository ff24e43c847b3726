"""Defects to plant: what to change in the sources, and what is to notice it.

Each: name, file, (old, new) pairs that must each occur exactly once, where the idea comes from (a published
defect, a defect that this library had, or "" for one that suggests itself), and the programs that are to
notice: NAME for explore-NAME, FOLDER.NAME for a program of the tests, for what only a run of the library shows.
"""

DEFECTS = [
    # --- deque ---
    ("steal reads the entries after it took them", "runtime/deque.h",
     [("""    for (uint64_t i = 0; i < n; i++) {
        out[i] = atomic_load_explicit(&d->slot[(head + i) % PICA__DEQUE_CAPACITY],
                                      memory_order_relaxed);
    }
    if (!atomic""", "    uint64_t first = head;\n    if (!atomic"),
      ("""        return 0;
    }
    return (size_t)n;""", """        return 0;
    }
    for (uint64_t i = 0; i < n; i++) {
        out[i] = atomic_load_explicit(&d->slot[(first + i) % PICA__DEQUE_CAPACITY],
                                      memory_order_relaxed);
    }
    return (size_t)n;""")],
     "ssbl deque issue 2", ["deque"]),
    ("the owner takes by a plain store", "runtime/deque.h",
     [("""        if (atomic_compare_exchange_weak_explicit(&d->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return entry;
        }""", """        atomic_store_explicit(&d->head, head + 1, memory_order_release);
        return entry;""")],
     "crossbeam-deque RUSTSEC-2021-0093 (a task popped twice)", ["deque"]),
    ("a push overwrites a slot that is not free", "runtime/deque.h",
     [("if (tail - head >= PICA__DEQUE_CAPACITY)", "if (tail - head > PICA__DEQUE_CAPACITY)")],
     "tokio issue 2382 (slots overwritten before they were released)", ["deque"]),
    ("a push publishes before it writes", "runtime/deque.h",
     [("    atomic_store_explicit(&d->slot[tail % PICA__DEQUE_CAPACITY], entry, memory_order_relaxed);\n"
       "    atomic_store_explicit(&d->tail, tail + 1, memory_order_release);",
       "    atomic_store_explicit(&d->tail, tail + 1, memory_order_release);\n"
       "    atomic_store_explicit(&d->slot[tail % PICA__DEQUE_CAPACITY], entry, memory_order_relaxed);")],
     "", ["deque"]),
    ("a push publishes without order", "runtime/deque.h",
     [("atomic_store_explicit(&d->tail, tail + 1, memory_order_release)",
       "atomic_store_explicit(&d->tail, tail + 1, memory_order_relaxed)")],
     "crossbeam RUSTSEC-2022-0029 (orders too weak)", ["deque"]),
    ("the head wraps while a thief sleeps", "runtime/deque.h",
     [("""&d->head, &head, head + 1, memory_order_acq_rel,""",
       """&d->head, &head, (head + 1) % 4, memory_order_acq_rel,"""),
      ("atomic_store_explicit(&d->tail, tail + 1, memory_order_release)",
       "atomic_store_explicit(&d->tail, (tail + 1) % 4, memory_order_release)"),
      ("if (tail - head >= PICA__DEQUE_CAPACITY)", "if ((tail - head) % 4 >= PICA__DEQUE_CAPACITY)"),
      ("    if (tail <= head) { /*", "    if (tail == head) { /*"),
      ("    uint64_t n = tail - head;", "    uint64_t n = (tail - head) % 4;"),
      ("    return tail > head ? (size_t)(tail - head) : 0;", "    return (tail - head) % 4;"),
      ("&d->head, &head, head + n, memory_order_acq_rel,",
       "&d->head, &head, (head + n) % 4, memory_order_acq_rel,")],
     "tokio issue 5041 (16-bit head wraps while a thief sleeps)", ["deque"]),
    # --- inbox and lock ---
    ("the inbox is emptied by a load and a store", "runtime/base/inbox.h",
     [("pica__fifo_node *n = atomic_exchange_explicit(&box->newest, NULL, memory_order_acquire);",
       "pica__fifo_node *n = atomic_load_explicit(&box->newest, memory_order_acquire);\n"
       "    atomic_store_explicit(&box->newest, NULL, memory_order_relaxed);")],
     "", ["inbox"]),
    ("the inbox keeps its order reversed", "runtime/base/inbox.h",
     [("""        n->next = oldest;
        oldest = n;
        n = next;""", """        if (oldest == NULL) {
            oldest = n;
        }
        n = next;""")],
     "", ["inbox"]),
    ("a pusher reads its node after it is published", "runtime/base/inbox.h",
     [("    return was_empty;", "    return was_empty && node->next == NULL;")],
     "", ["inbox"]),
    ("the lock is given back without order", "runtime/base/lock.h",
     [("atomic_store_explicit(&l->held, 0, memory_order_release)",
       "atomic_store_explicit(&l->held, 0, memory_order_relaxed)")],
     "spin RUSTSEC-2019-0013 (relaxed unlock)", ["inbox"]),
    ("the lock is taken by a load and a store", "runtime/base/lock.h",
     [("    return atomic_exchange_explicit(&l->held, 1, memory_order_acquire) == 0;",
       "    bool free = atomic_load_explicit(&l->held, memory_order_acquire) == 0;\n"
       "    atomic_store_explicit(&l->held, 1, memory_order_relaxed);\n    return free;")],
     "", ["inbox"]),
    # --- idle ---
    ("no fence before the look at a sleeper", "runtime/idle.c",
     [("""     * look sees our message. */
    atomic_thread_fence(memory_order_seq_cst);""", "     * look sees our message. */")],
     "tokio issue 525 (lost wake-ups)", ["idle"]),
    ("no fence between going to sleep and the second look", "runtime/idle.c",
     [("""    /* Store before load: what follows looks at the queues once more. */
    atomic_thread_fence(memory_order_seq_cst);""", "")],
     "tokio issue 525 (lost wake-ups)", ["idle"]),
    ("no second look at the inbox", "runtime/worker.c",
     [("(unsigned)!pica__fifo_empty(&loop->ready) | (unsigned)!pica__inbox_empty(&loop->inbox) |",
       "(unsigned)!pica__fifo_empty(&loop->ready) |")],
     "libevpl PR 162 (a completion with nobody to wake)", ["idle"]),
    ("no second look at the shared queue", "runtime/worker.c",
     [("                   (unsigned)(atomic_load_explicit(&rt->shared.count, memory_order_acquire) != 0) |\n", "")],
     "Go issue 45867 (work and an idle worker at the same time)", ["idle"]),
    ("a sleeper is listed before it says that it sleeps", "runtime/idle.c",
     [("    atomic_store_explicit(&worker->sleep, PICA__SLEEPING, memory_order_relaxed);\n", ""),
      ("    /* Store before load: what",
       "    atomic_store_explicit(&worker->sleep, PICA__SLEEPING, memory_order_relaxed);\n"
       "    /* Store before load: what")],
     "this library", ["idle"]),
    ("a searcher runs what it found before it leaves the search", "runtime/worker.c",
     [("pica__work *work) {\n    stop_searching(worker, true);", "pica__work *work) {")],
     "this library", ["idle"]),
    ("a searcher whose second look finds something does not search on", "runtime/worker.c",
     [(" || (searched && pica__idle_begin_search(rt))", ""),
      ("    bool searched = worker->searching;\n", "")],
     "this library", ["idle"]),
    ("the last searcher wakes nobody", "runtime/worker.c",
     [("""        /* The last searcher: producers relied on it, so somebody else must come for the rest. */
        pica__idle_notify(worker->rt);""", "")],
     "Go issue 45867", ["idle"]),
    ("who is woken is not counted as a searcher", "runtime/idle.c",
     [("        atomic_fetch_add_explicit(&idle->searching, 1, memory_order_seq_cst);\n    }\n    pica__unlock",
       "    }\n    pica__unlock")],
     "tokio PR 8372 (the count of searchers underflows)", ["idle"]),
    ("a worker that was taken off the list forgets that it searches", "runtime/worker.c",
     [("    if (pica__idle_leave(worker)) {\n        worker->searching = true;\n    }\n    if (!worker->alone) {",
       "    (void)pica__idle_leave(worker);\n    if (!worker->alone) {")],
     "tokio PR 8372", ["idle"]),
    ("nobody watches", "runtime/worker.c",
     [("worker->alone ? NO_DUTY : begin_duty(worker);", "NO_DUTY;\n    (void)begin_duty;")],
     "tokio issues 4730 and 5854 (others sleep while a worker is stuck)", ["idle"]),
    ("a watcher that takes work wakes nobody to watch in its stead", "runtime/worker.c",
     [("        call_watcher(worker); /* who watched is busy now, too */\n", "")],
     "this library", ["idle"]),
    ("a watcher does not look at the LIFO slot", "runtime/worker.c",
     [("entry = entry == 0 ? steal_from(worker, victim, true) : entry;",
       "entry = entry == 0 ? steal_from(worker, victim, false) : entry;")],
     "tokio PR 7431 (a LIFO slot that cannot be stolen)", ["idle"]),
    ("a wake is counted but not made", "runtime/idle.c",
     [("        pica__engine_wake(worker->loop->engine);", "        (void)worker->loop;")],
     "", ["idle"]),
    ("who finds nothing wakes the next, which finds nothing", "runtime/worker.c",
     [("        if (!pica__may_starve(worker->rt) || !pica__starved_can_run(worker)) {",
       "        if (!pica__may_starve(worker->rt)) {")],
     "aether issue 1517 (idle workers that never rest)", ["stacks"]),
    ("a stack that comes back wakes nobody", "runtime/starved.c",
     [("    if (any_starved(rt)) {\n        pica__idle_notify(rt);\n    }\n", "")],
     "", ["stacks"]),
    ("a worker sleeps with a stack that others miss", "runtime/starved.c",
     [("    if (rt->config.max_stacks != 0 || any_starved(rt)) {\n        give_standing_back(worker);",
       "    if (any_starved(rt)) {\n        give_standing_back(worker);")],
     "", ["stacks"]),
    # --- timers ---
    ("an earlier timer of another thread wakes nobody", "runtime/loop.c",
     [("    if (earliest) {\n        pica__timer_wake(loop);", "    if (false) {\n        pica__timer_wake(loop);")],
     "", ["idle"]),
    ("the deadline is read before the worker says that it sleeps", "runtime/worker.c",
     [("    pica__idle_enter(worker);\n    if (PICA__UNLIKELY(worker->simulated",
       "    int64_t deadline = pica__loop_deadline(worker->loop);\n    pica__idle_enter(worker);\n    if (PICA__UNLIKELY(worker->simulated"),
      ("    int64_t timer = pica__loop_deadline_to_sleep(worker->loop);\n    int64_t deadline = timer;",
       "    int64_t timer = deadline;")],
     "", ["idle"]),
    ("a timer fires early", "runtime/loop.c",
     [("&& first->when <= now) {", "&& first->when <= now + 5000) {"),
      ("        if (due <= now) {", "        if (due <= now + 5000) {")],
     "", ["idle"]),
    ("an alarm that was moved fires at its old time", "runtime/loop.c",
     [("        if (due <= now) {", "        if (timer->node.when <= now) {")], "", ["idle"]),
    ("an alarm that rests fires", "runtime/loop.c",
     [("        if (pica__timer_rests(timer)) {\n            continue;\n        }\n", ""),
      ("int64_t due = timer->due < 0 ?", "int64_t due = pica__timer_rests(timer) ? now : timer->due < 0 ?")], "", ["idle"]),
    ("an alarm that was moved still counts as one that rests", "runtime/alarm.c",
     [("    pica__timer_uncount(loop, alarm);\n    alarm->due = when;", "    alarm->due = when;")], "", ["idle"]),
    ("a limit that was noted counts from when its alarm joined the look", "runtime/alarm.c",
     [("    alarm->due = now - due;\n", "    alarm->due = alarm->node.when;\n")], "", ["idle"]),
    ("the look leaves a limit that was noted as it is", "runtime/alarm.c",
     [("    alarm->due = now - due;\n", "    alarm->due = due;\n")], "", ["idle"]),
    ("an alarm that was noted and rests fires", "runtime/alarm.c",
     [("    if (pica__timer_rests(alarm)) {\n        alarm->due = pica__timer_resting(now + loop->timers.look.least); /* it was set lately */\n        return INT64_MAX;\n    }\n", "")], "", ["idle"]),
    ("an alarm that stays for the next look has none", "runtime/alarm.c",
     [("        look_arm(loop, now, least);\n    }\n    pica__unlock", "        look->least = least;\n    }\n    pica__unlock")], "", ["idle"]),
    ("alarms that are set often leave the look", "runtime/alarm.c",
     [("if (look->busy && limit != INT64_MAX) {", "if (look->busy && limit < 0) {")], "", ["idle"]),
    ("a timer that was cancelled fires", "runtime/loop.c",
     [("    if (in) {\n        pica__timer_take_out(loop, timer);\n    }\n    pica__unlock(&loop->timers.lock);\n    return in;",
       "    pica__unlock(&loop->timers.lock);\n    return in;")],
     "", ["idle"]),
    # --- waits and cancellation ---
    ("a fire overwrites the word", "runtime/wait.c",
     [("""        if (atomic_compare_exchange_weak_explicit(&task->word, &old,
                                                  (old & ~(uint32_t)PICA__TASK_STATE) | next,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
            PICA__MOVED(TASK, state, next);
            if (next == PICA__TASK_RUNNING) {
                pica__ready(task);
            }
            return;
        }""", """        atomic_store_explicit(&task->word, (old & ~(uint32_t)PICA__TASK_STATE) | next,
                              memory_order_release);
        if (next == PICA__TASK_RUNNING) {
            pica__ready(task);
        }
        return;""")],
     "", ["wait", "sync"]),
    ("a publish does not look at the cancellation", "runtime/wait.c",
     [("bool cancelled = PICA__UNLIKELY(pica__cancel_pending(old));", "bool cancelled = false;")],
     "asyncio bpo-42130 (a cancellation is swallowed)", ["wait", "sync"]),
    ("a cancel resumes also who was granted", "sync/lock.c",
     [("    return withdrawn;\n}\n\nstatic const", "    return true;\n}\n\nstatic const")],
     "asyncio bpo-27585, gh-90155 (a woken waiter is cancelled)", ["sync"]),
    ("a lock that was handed over is lost to a cancel", "sync/lock.c",
     [("    return pica__waiting_suspend(&w.node, acquire_commit, &l->guard);",
       "    int rc = pica__waiting_suspend(&w.node, acquire_commit, &l->guard);\n"
       "    return rc == 0 && pica__cancel_take(task) ? PICA_ECANCELED : rc;")],
     "asyncio issue 270, anyio PR 1145 (the permit is lost)", ["sync"]),
    ("an item that was given is lost to a cancel", "sync/queue.c",
     [("    rc = pica__waiting_suspend(&w.node, get_commit, &q->guard);\n    if (rc == 0) {",
       "    rc = pica__waiting_suspend(&w.node, get_commit, &q->guard);\n"
       "    if (rc == 0 && pica__cancel_take(task)) {\n        rc = PICA_ECANCELED;\n    }\n    if (rc == 0) {")],
     "asyncio issue 343 (wait_for loses an item)", ["sync"]),
    ("a release does not leave the WAITERS bit right", "sync/lock.c",
     [("        if (first != NULL) {\n            drop_waiters_bit(l);\n", "        if (first != NULL) {\n")],
     "", ["sync"]),
    ("the commit of a wait for an event does not look again", "sync/event.c",
     [("        if (old != 0) {\n            return (old & SET) != 0;\n        }",
       "        if (old != 0) {\n            return false;\n        }")],
     "glibc bug 25847 (a waiter that nobody wakes)", ["sync"]),
    ("the commit of an await does not look again", "runtime/await.c",
     [("    if (atomic_load_explicit(&future->state, memory_order_relaxed) & PICA__FUTURE_DONE) {\n"
       "        wait->task->outcome = 0;\n    } else if", "    if")],
     "", ["wait"]),
    ("a future goes while its completer is inside", "runtime/future.c",
     [("        pica__lock(&future->lock);\n        pica__unlock(&future->lock);\n        pica__future_fini",
       "        pica__future_fini")],
     "tokio RUSTSEC-2021-0124 (oneshot: use after close)", ["wait"]),
    ("a future is completed twice", "runtime/future.c",
     [("    if (state & PICA__FUTURE_DONE) {\n        pica__unlock(&future->lock);\n        return false;",
       "    if (state & PICA__FUTURE_TAKEN) {\n        pica__unlock(&future->lock);\n        return false;")],
     "", ["wait"]),
    ("a claim that met a fire is given back without resuming", "runtime/cancel.c",
     [("bool resume = withdrawn || state == PICA__TASK_FIRED;", "bool resume = withdrawn;")],
     "", ["wait", "sync"]),
    ("a cancel is told twice", "runtime/wait.c",
     [("cancelled ? old & ~(uint32_t)PICA__TASK_CANCEL", "cancelled ? old"),
      ("        (void)pica__cancel_take(wait->task); /* what was requested since is delivered with it */\n", "")],
     "", ["wait", "sync"]),
    ("a cancel of an awaiter is not passed on", "runtime/cancel.c",
     [("        r = request(next);", "        r = RECORDED;")],
     "", ["wait"]),
    ("a task is started without a claim", "runtime/task.c",
     [("""        if (atomic_compare_exchange_weak_explicit(&task->word, &old,
                                                  old | (uint32_t)PICA__TASK_RUNNING,
                                                  memory_order_acquire, memory_order_relaxed)) {
            PICA__MOVED(TASK, PICA__TASK_NEW, PICA__TASK_RUNNING);
            return true;
        }""", """        atomic_store_explicit(&task->word, old | (uint32_t)PICA__TASK_RUNNING, memory_order_release);
        return true;""")],
     "tokio RUSTSEC-2021-0072 (a task is in two hands)", ["wait"]),
    ("an awaiter comes back to its stack while a canceller looks at it", "runtime/await.c",
     [("    while (pica__task_state(old) == PICA__TASK_WAITING) {\n        if",
       "    for (;;) {\n        if")],
     "", ["wait"]),
    # --- operations ---
    ("a cancel ends the wait before the kernel lets go", "io/operation.c",
     [("    return false; /* it ends by its completion */", "    return true;")],
     "rio RUSTSEC-2020-0021, foyer issue 1286 (buffer freed while the kernel writes)", ["operation"]),
    ("a late success is thrown away", "io/operation.c",
     [("    if (asked && (result == -EINTR || result == -ECANCELED)) {", "    if (asked) {")],
     "tokio issue 7979, monoio PR 318, compio PR 315 (descriptor leaked by a cancelled accept)",
     ["operation"]),
    ("the owner cancels what has completed", "io/operation.c",
     [("    if (!atomic_compare_exchange_strong_explicit(&w->state, &expected, CANCELLING, memory_order_acq_rel,\n"
       "                                                 memory_order_acquire)) {",
       "    if (atomic_exchange_explicit(&w->state, CANCELLING, memory_order_acq_rel) == 99 || !expected) {")],
     "glommio PR 104 (use after free in cancellation)", ["operation"]),
    ("a completion that met a cancel fires at once", "io/operation.c",
     [("    if (old != ASKED) {", "    if (old != NEW) {")],
     "mio RUSTSEC-2024-0019 (a token delivered after its end)", ["operation"]),
    ("a cancel before the submit is forgotten", "io/operation.c",
     [("        pica__wait_fire(wait, result_of(w, PICA_ECANCELED, true));\n        return true;", "")],
     "", ["operation"]),
    # --- pools of threads ---
    ("an idle thread is taken off the list and not woken", "runtime/executor.c",
     [("    if (idler != NULL) {\n        idler_wake(idler);\n    } else if (grow) {",
       "    if (idler == NULL && grow) {")],
     "glibc bug 25847 (a signal that wakes nobody)", ["executor"]),
    ("who cannot start a thread leaves the queue alone", "runtime/executor.c",
     [("    pica__unlock(&ex->lock);\n    refuse_queued(ex, rc);\n", "    pica__unlock(&ex->lock);\n    (void)rc;\n")],
     "", ["executor"]),
    ("a job that runs is cancelled", "runtime/executor.c",
     [("    if (!job->queued) {\n        return false;\n    }\n    PICA__MOVED(JOB",
       "    if (!job->queued) {\n        return true;\n    }\n    PICA__MOVED(JOB")],
     "rio RUSTSEC-2020-0021 (memory goes while it is used)", ["executor"]),
    ("a pool that closes leaves its idle threads asleep", "runtime/executor.c",
     [("        idler = idle_pop(ex);\n        pica__unlock(&ex->lock);\n        if (idler != NULL) {\n"
       "            idler_wake(idler);\n        }\n",
       "        idler = idle_pop(ex);\n        pica__unlock(&ex->lock);\n")],
     "", ["executor"]),
    # --- sockets ---
    ("a wait does not look at readiness again", "io/socket_side.c",
     [("PICA__UNLIKELY((state & PICA__SIDE_READY) != 0 && state != side->drained)", "false")],
     "", ["socket"]),
    ("a worker receives for a task whose wait has failed", "runtime/wait.c",
     [("    if (ahead != NULL && task->outcome == 0) {", "    if (ahead != NULL) {")],
     "", ["api.reader"]),
    ("an empty receive forgets an event that came meanwhile", "io/socket_side.c",
     [("        socket->rd.drained = seen & ~(uint32_t)PICA__SIDE_LOCKED;",
       "        socket->rd.drained =\n"
       "            atomic_load_explicit(&socket->rd.state, memory_order_relaxed) &\n"
       "            ~(uint32_t)PICA__SIDE_LOCKED;")],
     "", ["socket"]),
    ("an event does not count", "io/socket_side.c",
     [("(state + PICA__SIDE_TICK) | PICA__SIDE_READY", "state | PICA__SIDE_READY")],
     "", ["socket"]),
    ("a try that found nothing forgets an event that came meanwhile", "io/socket_side.c",
     [("        if (atomic_compare_exchange_strong_explicit(&side->state, &seen,\n"
       "                                                    seen & ~(uint32_t)PICA__SIDE_READY,\n"
       "                                                    memory_order_acq_rel, memory_order_relaxed)) {",
       "        if (atomic_fetch_and_explicit(&side->state, ~(uint32_t)PICA__SIDE_READY, "
       "memory_order_acq_rel) != 0) {")],
     "", ["socket"]),
    ("a request to the home loop is lost", "io/socket_side.c",
     [("    (void)atomic_exchange_explicit(&socket->posted, false, memory_order_acq_rel);\n", ""),
      ("    if (is_closed(socket)) {\n        close_at_home(socket);\n    }\n    pica__socket_unref",
       "    if (is_closed(socket)) {\n        close_at_home(socket);\n    }\n"
       "    (void)atomic_exchange_explicit(&socket->posted, false, memory_order_acq_rel);\n"
       "    pica__socket_unref")],
     "", ["socket"]),
    ("the poll is not armed again", "io/socket_side.c",
     [("    side->armed = more;\n", "    side->armed = true;\n")],
     "", ["socket"]),
    ("a close wakes nobody", "io/socket_side.c",
     [("    tell(socket, reader, false, PICA_ECLOSED);\n", "    (void)reader;\n")],
     "", ["socket"]),
    ("a close does not wait for the polls", "io/socket_side.c",
     [("    side->armed = true;\n    atomic_fetch_add_explicit(&socket->use, PICA__SOCKET_USE, "
       "memory_order_relaxed);", "    side->armed = true;"),
      ("    if (PICA__UNLIKELY(!more)) {\n        pica__socket_end(socket, 0);\n    }\n", "")],
     "TigerBeetle PR 2430 (I/O not drained before the end)", ["socket"]),
    ("a close does not end the polls", "io/socket_side.c",
     [("    if (pica__op_in_flight(&socket->rd_op)) {\n", "    if (false) {\n")],
     "", ["socket"]),
    ("a cancelled reader's wait stays linked", "io/socket_side.c",
     [("    if (linked) {\n        w->side->waiter = NULL;\n    }\n", "")],
     "mio RUSTSEC-2024-0019 (use after deregistration)", ["socket"]),
    ("two read at once", "io/socket.c",
     [("        if (PICA__UNLIKELY((old & flag) != 0)) {\n            return -EBUSY;\n        }\n", "")],
     "", ["socket"]),
    # --- listeners ---
    ("a connection that is accepted while the listener ends is nobody's", "io/listener.c",
     [("    if (result >= 0) {\n        take(l, result);", "    if (result >= 0 && !l->stopping) {\n        take(l, result);")],
     "tokio issue 7979, monoio PR 318 (descriptor leaked by a cancelled accept)", ["socket"]),
    ("a multishot accept that has ended is not armed again", "io/listener.c",
     [("               result == -EAGAIN) {\n        arm(l);", "               result == -EAGAIN) {")],
     "", ["socket"]),
    ("a listener goes while another worker looks at it", "io/listener.c",
     [("    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);\n", "    (void)l;\n"),
      ("    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {\n"
       "        pica__call_soon(l->socket->home, &l->rescued_call);\n    }\n", "")],
     "", ["socket"]),
    ("a listener that stops does not wait for its accept", "io/listener.c",
     [("        pica__engine_cancel(l->socket->home->engine, &l->op);\n    } else {\n        finish(l);\n    }",
       "        pica__engine_cancel(l->socket->home->engine, &l->op);\n    }\n    finish(l);")],
     "liburing issue 733, TigerBeetle PR 2430 (memory freed before the last completion)", ["socket"]),
    # --- the life of a runtime ---
    ("a runtime ends while a thread that woke it is still inside", "runtime/runtime.c",
     [("    while (atomic_load_explicit(&rt->visitors, memory_order_acquire) != 0) {",
       "    while (atomic_load_explicit(&rt->visitors, memory_order_acquire) == UINT32_MAX) {")],
     "tokio RUSTSEC-2021-0124 (the other side is still inside when it is freed)", ["life"]),
    ("a stop that comes before the run is forgotten", "runtime/runtime.c",
     [("    /* Stopped already: the workers go",
       "    atomic_store_explicit(&rt->stop_requested, 0, memory_order_relaxed);\n"
       "    /* Stopped already: the workers go")],
     "", ["life"]),
    ("who closes looks how many are left before it looks at the word it will sleep on", "runtime/runtime.c",
     [("""        uint32_t seen = atomic_load_explicit(&rt->drained, memory_order_acquire);
        if (left(rt) == 0) {
            return true;
        }
""", """        if (left(rt) == 0) {
            return true;
        }
        uint32_t seen = atomic_load_explicit(&rt->drained, memory_order_acquire);
""")],
     "glibc bug 25847 (a waiter that nobody wakes)", ["life"]),
    ("who ends the last task wakes nobody", "runtime/registry.c",
     [("""    if (pica__runtime_alive(rt) == 0) {
        atomic_fetch_add_explicit(&rt->drained, 1, memory_order_release);
        pica__control_wake(rt, &rt->drained);
    }
}

void pica__socket_gone""", """}

void pica__socket_gone""")],
     "", ["life"]),
    ("a phase is changed and no worker woken", "runtime/runtime.c",
     [("            pica__worker_wake(&rt->worker[i]);\n", "            (void)rt->worker[i];\n")],
     "", ["life"]),
    ("a worker takes its engine down while others may still wake it", "runtime/worker_life.c",
     [("""    pica__park_wake(&rt->stopped);
    while (atomic_load_explicit(&rt->phase, memory_order_acquire) == now) {
        pica__park_wait(&rt->phase, now, INT64_MAX);
    }
""", "    pica__park_wake(&rt->stopped);\n")],
     "TigerBeetle PR 2430 (freed before all have ended)", ["life"]),
    ("a closed runtime's memory goes though tasks are still referred to", "runtime/runtime.c",
     [("        shares += left == 0;", "        shares += 1 + 0 * left;")],
     "crossbeam RUSTSEC-2018-0009 (a double free)", ["life"]),
    ("a callback is run with a lock held", "runtime/worker.c",
     [("            pica__lock_none(\"a callback\");\n            call->fn(call);\n",
       "            pica__lock(&worker->loop->timers.lock);\n            pica__lock_none(\"a callback\");\n"
       "            call->fn(call);\n            pica__unlock(&worker->loop->timers.lock);\n")],
     "", ["idle"]),
    ("two locks are taken in both orders", "runtime/idle.c",
     [("    bool chosen = !worker->idle_listed;\n",
       "    pica__lock(&worker->rt->starved.lock);\n    pica__unlock(&worker->rt->starved.lock);\n"
       "    bool chosen = !worker->idle_listed;\n")],
     "Go (three deadlocks were found when locks got ranks)", ["stacks"]),
    # --- what only a run of the library shows ---
    ("tasks that wake each other keep all others from running", "runtime/ready.c",
     [("    if (worker->lifo_streak < LIFO_STREAK && (task", "    if (worker->lifo_streak + LIFO_STREAK != 0 && (task")],
     "tokio issue 8065 (a LIFO slot that hides others)", ["api.fairness"]),
    ("nobody looks for work behind a busy worker", "runtime/idle.c",
     [("    if (atomic_load_explicit(&idle->searching, memory_order_relaxed) != 0 ||\n"
       "        atomic_load_explicit(&idle->sleeping, memory_order_relaxed) == 0) {",
       "    if (atomic_load_explicit(&idle->sleeping, memory_order_relaxed) != UINT32_MAX) {")],
     "Go issue 45867 (work and an idle worker at the same time)", ["idle", "api.balance"]),
    ("a path that is too long is cut", "io/address.c",
     [("    if (length + !abstract > UNIX_PATH_MAX) {\n        return -ENAMETOOLONG;\n    }\n",
       "    length = length + !abstract > UNIX_PATH_MAX ? UNIX_PATH_MAX - !abstract : length;\n")],
     "libuv CVE-2024-24806 (a host name that is cut)", ["api.address"]),
    ("a writer that is full lets its task go on", "io/writer.c",
     [("                       atomic_load_explicit(&writer->high, memory_order_relaxed))) {",
       "                       SIZE_MAX - 1)) {")],
     "CVE-2024-12254 (asyncio: memory without bound)", ["api.writer"]),
    ("a time limit takes a cancellation from outside for its own", "runtime/sleep.c",
     [("    bool ours = pica_task_uncancel(t->task) <= t->entry_count && !t->entry_pending;",
       "    bool ours = pica_task_uncancel(t->task) >= 0;")],
     "asyncio bpo-42130 (wait_for swallows a cancellation)", ["api.timeout"]),
    ("a worker that is held up for a moment loses all its clients", "io/server_clients.c",
     [("    bool fits = least_place(place_here(server), listener)->connections <= listener->connections;\n",
       "    bool fits = least_place(place_here(server), listener)->connections <= SIZE_MAX - 1;\n")],
     "", ["api.rescue"]),
]
