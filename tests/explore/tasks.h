/* Tasks as model threads: the library's own words, waits, futures and cancellation, without its scheduler.
 *
 * A task has two model threads: one for its code, one for the worker that it leaves when it suspends, which
 * runs the commit. So a task may go on elsewhere while its commit still runs, as with real workers. What
 * pica__ready gets comes back as if through a queue: who resumes the task has seen what the caller of
 * pica__ready had seen, and nothing of what the task itself had seen before.
 *
 * Checked always: a task is made ready exactly once for each suspension. */
#ifndef PICA__TESTS_EXPLORE_TASKS_H
#define PICA__TESTS_EXPLORE_TASKS_H

#include "runtime/rt.h"
#include "runtime/task.h"
#include "tests/explore/explore.h"

/* The runtime of this execution, with one loop, the home of all. First in setup. */
pica_runtime *ex_runtime(void);
/* The same where it matters how its tasks are counted. */
pica_runtime *ex_counting_runtime(void);
/* A task whose body is called with it running; it does not end as a task (its word stays RUNNING). */
pica_task *ex_body(const char *name, void (*body)(void *arg), void *arg);
/* A whole task, created, claimed and ended by the library. The caller has a reference. `starters` model
 * threads (1 or more) have its start entry; `starts` is false for one that only an await starts. */
pica_task *ex_task(const char *name, pica_fn fn, void *arg, bool starts);
/* In finish: whether the task is suspended. */
bool ex_suspended(const pica_task *task);
/* The caller is a worker from now on, of the home loop or of another one, and runs no task. */
void ex_be_worker(bool home);
/* The task's commits run on the home loop's worker (home.h); else they run on another one. */
void ex_at_home(const pica_task *task);
/* Whether such a commit is due; run: runs one. */
bool ex_home_commits(bool run);

#endif
