/* A whole runtime as model threads: the library's own start, run, stop and close (runtime.c, worker_life.c) on
 * threads of the model (threads.h), with its own worker loops, queues, tasks and handles, and an engine that only
 * sleeps and is woken. All of it lies in memory of the execution, so that whoever touches a runtime, a loop or an
 * engine that has gone is found.
 *
 * A task has a model thread of its own, its seat, which runs while its worker waits for it to suspend or to end. It
 * goes on with what the worker that resumes it has seen, and nothing of what it had seen itself.
 *
 * Time stands still: what is not woken sleeps for ever. Not modelled: stacks (there are always some), a worker on
 * the controlling thread, signals, the watch for slow steps. */
#ifndef PICA__TESTS_EXPLORE_LIFE_H
#define PICA__TESTS_EXPLORE_LIFE_H

#include "runtime/rt.h"
#include "runtime/task.h"
#include "tests/explore/explore.h"

/* First in setup: the runtime that pica_runtime_new will make has n workers; at most `seats` tasks begin. */
void ex_life(unsigned workers, unsigned seats);
/* In setup: the last worker cannot start, with this error. */
void ex_life_refuse(int error);
/* In finish: nothing that the runtime had is left, no thread and no engine. */
void ex_life_over(const pica_runtime *rt);

#endif
