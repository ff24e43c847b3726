/* Switching between tasks and the loop: see run.c. The parts that every request takes are in line, for the reason
 * that fiber_switch.h gives. */
#ifndef PICA__RUNTIME_RUN_H
#define PICA__RUNTIME_RUN_H

#include "runtime/base/compiler.h"
#include "runtime/fiber_switch.h"
#include "runtime/fpcheck.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/worker.h"

/* The fiber on which an unstarted task begins, as pica__entry_fiber. */
pica__fiber *pica__start_fiber(pica__worker *worker, uintptr_t entry);
/* What comes next on this worker: a fiber to switch to, NULL for the loop's. */
pica__fiber *pica__next_queued(pica__worker *worker);

/* The fiber on which an entry's task goes on, ready to be switched to, with worker->current set. NULL
 * if there is nothing to do after all, or no stack (then the entry went back to the queues). */
static PICA__INLINE pica__fiber *pica__entry_fiber(pica__worker *worker, uintptr_t entry) {
    if (PICA__UNLIKELY((entry & PICA__ENTRY_START) != 0)) {
        return pica__start_fiber(worker, entry);
    }
    pica_task *task = pica__entry_task(entry);
    worker->current = task;
    pica__worker_step(worker);
    pica__wait_ahead(task, worker->tsan);
    return task->fiber;
}

#if PICA__MODEL
/* What a test puts in the place of the functions below. */
void pica__leave_task(pica__worker *worker, pica__commit_fn commit, void *arg);
#define pica__leave_task_here pica__leave_task
#define pica__run_entry_here pica__run_entry
#else

/* From the current task's stack (its word already set) to whatever is next. */
PICA__NO_TSAN static PICA__INLINE void pica__leave_task_here(pica__worker *worker, pica__commit_fn commit,
                                                            void *arg) {
    pica__fp_check("suspended");
    pica__fiber *to = pica__worker_any_queued(worker) ? pica__next_queued(worker) : NULL;
    if (to == NULL) {
        worker->current = NULL;
        to = worker->loop_fiber;
    }
    pica__fiber_switch_here(worker, to, commit, arg);
}

/* As pica__run_entry. */
PICA__NO_TSAN static PICA__INLINE void pica__run_entry_here(pica__worker *worker, uintptr_t entry) {
    pica__fp_check("ended");
    pica__fiber *fiber = pica__entry_fiber(worker, entry);
    if (PICA__LIKELY(fiber != NULL)) {
        pica__fiber_switch_here(worker, fiber, NULL, NULL);
    }
}

#endif

#endif
