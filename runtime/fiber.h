/* The fiber: a stack, a saved context, and what was current on it. It lies at the top of its own
 * stack, so that a parked task costs no page beside the one that its frames are in.
 *
 * A fiber is in exactly one place: running (worker->fiber), suspended with a task (task->fiber),
 * standing (worker->standing: idle, ready to start a task), or the loop's own. One that is no longer
 * needed gives its stack back in the commit of the switch that left it.
 *
 * Who switches: only pica__fiber_switch, or the same in line (fiber_switch.h). The context that is entered
 * first runs the commit that the one which was left handed over (worker->commit): see pica__fiber_arrive there.
 */
#ifndef PICA__RUNTIME_FIBER_H
#define PICA__RUNTIME_FIBER_H

#include <stdbool.h>
#include <stddef.h>

#include <pica/task.h>

#include "runtime/alarm.h"
#include "runtime/base/compiler.h"
#include "runtime/base/context.h"
#include "runtime/base/stack.h"

struct pica__worker;

typedef struct pica__fiber {
    pica__context context;
    pica__stack stack;      /* whole usable range; the fiber itself lies at its top */
    pica_task *start;       /* the task to start when this idle fiber is switched to */
    bool own_stack;         /* mapped for one task: unmapped, not pooled */
    void *eh_globals[2];    /* libstdc++'s exception state of this stack */
    struct pica__task_alarm alarm; /* of a task that runs on it, from its first time-out scope on (task->alarm) */
#if PICA__ASAN
    void *fake_stack;
#endif
} pica__fiber;

/* Runs on the context that was switched to, before anything else. worker: the present one. */
typedef void (*pica__commit_fn)(struct pica__worker *worker, void *arg);

/* A fiber on a pooled stack; it will run entry(fiber). NULL without a stack. */
pica__fiber *pica__fiber_new(struct pica__worker *worker, void (*entry)(void *fiber));
/* A fiber on a stack of its own size, not pooled. */
pica__fiber *pica__fiber_new_sized(size_t size, void (*entry)(void *fiber));
/* Gives the stack back; the fiber must not be running. worker: the present one, or NULL. */
void pica__fiber_free(struct pica__worker *worker, pica__fiber *fiber);

/* Leaves the running fiber for `to`; commit runs over there. Returns when somebody
 * switches back, perhaps on another worker. In the runtime's context (san.h). */
void pica__fiber_switch(struct pica__worker *worker, pica__fiber *to, pica__commit_fn commit,
                        void *arg);
/* By a worker's thread, before its first switch. */
void pica__fiber_thread_init(struct pica__worker *worker);
/* Bytes left on the stack of the fiber that runs on worker. */
size_t pica__fiber_room(const struct pica__worker *worker);

#endif
