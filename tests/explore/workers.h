/* Workers as model threads: the library's own loops (runtime/worker.c, ready.c, idle.c, loop.c), with an engine
 * that only sleeps and is woken, and with what a task does given by the scenario.
 *
 * Time stands still, so a sleep with a deadline lasts until somebody ends it: a lost wake-up is not hidden by
 * somebody who looks again later. A scenario that is about that lets time pass (ex_time_passes). */
#ifndef PICA__TESTS_EXPLORE_WORKERS_H
#define PICA__TESTS_EXPLORE_WORKERS_H

#include "runtime/rt.h"
#include "runtime/task.h"
#include "tests/explore/explore.h"

/* The runtime of this execution, with n workers. First in setup. */
pica_runtime *ex_workers(unsigned n);
/* The same with a limit on stacks. The scenario defines pica__worker_stand and pica__fiber_free. */
pica_runtime *ex_workers_on_stacks(unsigned n, size_t max_stacks);
/* A task: run(arg) is called once, on the worker that comes to it, which is busy until it returns. unstarted:
 * it is for pica__ready_unstarted, else for pica__ready. */
pica_task *ex_work(const char *name, void (*run)(void *arg), void *arg, bool unstarted);
/* Whether it has been run. For ex_wait: arg is the task. */
bool ex_has_run(void *task);
bool ex_has_begun(void *task);
/* For a scenario's idle: who sleeps with a deadline wakes, at most so many times; true if there was one. */
bool ex_time_passes(unsigned most);
/* In finish: all work is done, all workers sleep and the books are right. */
void ex_check_asleep(void);
/* Until when worker i sleeps. */
int64_t ex_deadline(unsigned i);

#endif
