/* From task to task: what a worker does when the running task suspends or ends, without going back to
 * its loop. The picture:
 *
 *     loop fiber --pica__run_entry--> task --pica__leave_task_here--> task ... --> loop fiber
 *
 * Suspended tasks are switched to. Unstarted ones begin on an idle stack: the one that the worker
 * stands on when a task has just ended there (no switch at all), else worker->standing. When a
 * started task suspends it keeps the stack; when a task ends on a stack, that becomes the worker's
 * standing stack, or goes back if there is one already.
 *
 * All of this runs in the runtime's context (san.h).
 */
#include "runtime/run.h"

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/fiber_switch.h"
#include "runtime/fpcheck.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/worker.h"

bool pica__worker_stand(pica__worker *worker) {
    if (worker->standing == NULL) {
        worker->standing = pica__fiber_new(worker, pica__runner);
    }
    return worker->standing != NULL;
}

/* Drops a start entry whose task was started elsewhere. */
static bool entry_is_dead(uintptr_t entry) {
    pica_task *task = pica__entry_task(entry);
    if (pica__task_state(atomic_load_explicit(&task->word, memory_order_relaxed)) == PICA__TASK_NEW) {
        return false;
    }
    pica__task_unref(task);
    return true;
}

/* Claims the task of a start entry and drops the entry's reference (the runtime's own keeps it). */
static bool entry_claim(pica_task *task) {
    bool claimed = pica__task_claim(task);
    pica__task_unref(task);
    return claimed;
}

PICA__NOINLINE pica__fiber *pica__start_fiber(pica__worker *worker, uintptr_t entry) {
    pica_task *task = pica__entry_task(entry);
    if (entry_is_dead(entry)) {
        return NULL;
    }
    bool own_stack = task->own_stack; /* after a lost claim the task may be gone */
    pica__fiber *fiber;
    if (own_stack) {
        fiber = pica__fiber_new_sized(task->stack_pages * PICA__STACK_UNIT, pica__runner);
    } else {
        (void)pica__worker_stand(worker);
        fiber = worker->standing;
    }
    if (fiber == NULL) {
        pica__starved_put(worker, task);
        return NULL;
    }
    if (!entry_claim(task)) {
        if (own_stack) {
            pica__fiber_free(worker, fiber);
        }
        return NULL;
    }
    if (fiber == worker->standing) {
        worker->standing = NULL;
    }
    fiber->start = task;
    worker->current = NULL;
    pica__worker_step(worker);
    return fiber;
}

PICA__HOT PICA__NOINLINE pica__fiber *pica__next_queued(pica__worker *worker) {
    uintptr_t entry;
    while ((entry = pica__worker_pick_queued(worker)) != 0) {
        pica__fiber *fiber = pica__entry_fiber(worker, entry);
        if (PICA__LIKELY(fiber != NULL)) {
            return fiber;
        }
    }
    return NULL;
}

#if !PICA__MODEL
PICA__NO_TSAN PICA__NOINLINE void pica__run_entry(pica__worker *worker, uintptr_t entry) {
    pica__run_entry_here(worker, entry);
}
#endif

/* An idle fiber was left: it becomes the standing one, or its stack goes back. */
static void idle_commit(pica__worker *worker, void *arg) {
    pica__fiber *fiber = arg;
    if (!fiber->own_stack && worker->standing == NULL) {
        worker->standing = fiber;
    } else {
        pica__fiber_free(worker, fiber);
    }
}

/* A task has ended on `fiber`, which is idle now. Returns with fiber->start set when this worker, or
 * another one to which the fiber came, has a task to start on it. */
PICA__NO_TSAN static void runner_next(pica__fiber *fiber) {
    pica__worker *worker = pica__self();
    pica__fiber *to = worker->loop_fiber;
    uintptr_t entry;
    while ((entry = pica__worker_pick(worker)) != 0) {
        pica_task *task = pica__entry_task(entry);
        if ((entry & PICA__ENTRY_START) != 0 && !task->own_stack && !fiber->own_stack) {
            if (entry_claim(task)) {
                fiber->start = task;
                pica__worker_step(worker);
                return;
            }
            continue;
        }
        pica__fiber *next = pica__entry_fiber(worker, entry);
        if (next != NULL) {
            to = next;
            break;
        }
    }
    if (to == worker->loop_fiber) {
        worker->current = NULL;
    }
    pica__fiber_switch(worker, to, idle_commit, fiber);
}

/* The frame under every started task. It keeps nothing of the worker: the task may end on another. */
PICA__NO_TSAN void pica__runner(void *arg) {
    pica__fiber *fiber = arg;
    pica__fiber_arrive();
    for (;;) {
        pica_task *task = fiber->start;
        fiber->start = NULL;
        pica__task_execute(task);
        runner_next(fiber);
    }
}
