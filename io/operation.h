/* One kernel operation of one task: submitted, waited for, cancelled with the task. See operation.c. */
#ifndef PICA__IO_OPERATION_H
#define PICA__IO_OPERATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/task.h>

#include "io/engine/engine.h"
#include "runtime/executor.h"
#include "runtime/loop.h"
#include "runtime/wait.h"

/* The wait for one operation, on the stack of the task that waits. */
typedef struct pica__operation {
    pica__wait wait;
    pica__op *op;
    pica_loop *loop;   /* whose engine has the operation; written before the state becomes IDLE */
    pica__call cancel;
    pica__job job;       /* where the engine has no files */
    pica_executor *pool; /* NULL: the engine has it. Written before the state becomes IDLE */
    int result;
    bool shielded;     /* set after init: no cancellation ends it */
    bool refused;      /* it did not get into the engine, or the pool */
    /* See operation.c. Compare-and-swapped by whoever asks for the end, and once by the commit; exchanged by
     * the owner; acq_rel. */
    _Atomic uint32_t state;
    /* The object that it is about was closed. Written by pica__operation_abort before it changes the state
     * (relaxed: the change orders it), read by the owner. */
    _Atomic bool aborted;
} pica__operation;

/* Runs op (initialised, one-shot; its `complete` is set here) on the present worker's engine and suspends
 * task, the current one, until its terminal completion has come, so whatever op points to may lie on the
 * stack. Returns the operation's result; PICA_ECANCELED if the task was cancelled before the kernel took
 * it or the kernel ended it for that; a result that beat the cancellation is returned, and the
 * cancellation stays pending. -ENOMEM. A pending cancellation is not looked for before: see
 * pica__operation_begin. */
int pica__operation_run(pica_task *task, pica__op *op);

/* The same in two steps, for operations that others than the task may end. */
void pica__operation_init(pica__operation *operation, pica_task *task, pica__op *op);
int pica__operation_wait(pica__operation *operation);
/* Between init and the end of the wait: asks for the end as a cancellation does, but the result is then
 * PICA_ECLOSED. By somebody who keeps the operation from going meanwhile. Any thread. */
void pica__operation_abort(pica__operation *operation);

/* The entry of every kernel operation: PICA_ENOTASK outside a task, PICA_ECANCELED for a cancellation that
 * was pending (it is consumed), else 0 and *task. */
int pica__operation_begin(pica_task **task);

#endif
