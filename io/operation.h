/* One kernel operation of one task: submitted, waited for, cancelled with the task. See operation.c. */
#ifndef PICA__IO_OPERATION_H
#define PICA__IO_OPERATION_H

#include <pica/task.h>

#include "io/engine/engine.h"

/* Runs op (initialised, one-shot; its `complete` is set here) on the present worker's engine and suspends
 * task, the current one, until its terminal completion has come, so whatever op points to may lie on the
 * stack. Returns the operation's result; PICA_ECANCELED if the task was cancelled before the kernel took
 * it or the kernel ended it for that; a result that beat the cancellation is returned, and the
 * cancellation stays pending. -ENOMEM. A pending cancellation is not looked for before: see
 * pica__operation_begin. */
int pica__operation_run(pica_task *task, pica__op *op);

/* The entry of every kernel operation: PICA_ENOTASK outside a task, PICA_ECANCELED for a cancellation that
 * was pending (it is consumed), else 0 and *task. */
int pica__operation_begin(pica_task **task);

#endif
