/* Blocking calls: pools of threads that run plain functions for tasks, which wait without holding up
 * a worker. */
#ifndef PICA_EXECUTOR_H
#define PICA_EXECUTOR_H

#include <pica/base.h>

PICA_BEGIN_DECLS

/* A pool of threads. It belongs to no runtime: tasks of any may use it. */
typedef struct pica_executor pica_executor;

/* Makes a pool of at most max_threads threads; 0: the default, which is 4 more than the process may
 * use processors, and at most 32. Threads are started when a call finds none idle, and stay until the
 * pool is closed; idle ones sleep. They have 1 MiB of stack and block all signals but those that a
 * thread raises by a fault of its own. *out gets the one reference, given back by
 * pica_executor_release. Does not suspend. Any thread. -EINVAL (out is NULL), -ENOMEM. */
PICA_API int pica_executor_new(pica_executor **out, unsigned max_threads);
/* No call is accepted from now on: PICA_ECLOSED. Calls that are queued are refused, their fn never runs,
 * and their tasks get PICA_ECLOSED; those that run end as they would. Idle threads leave. Idempotent.
 * Does not suspend. Any thread. */
PICA_API void pica_executor_close(pica_executor *executor);
/* Waits until the pool is closed, by whomever, and all its threads have ended: no function runs any more.
 * A task suspends, a thread outside of runtimes sleeps; not from a function that the pool itself runs,
 * which would wait for its own end. 0; PICA_ECANCELED (the pool ends all the same); PICA_ENOTASK from a
 * callback of a loop; PICA_EFORKED. */
PICA_API int pica_executor_wait_closed(pica_executor *executor);
/* Closes if that was not done, and gives the reference back; NULL is allowed. Waits for nothing: what
 * still runs goes on, and the last thread frees the pool. Calls that were made before may still be
 * running or queued, none may follow. Does not suspend. Any thread. */
PICA_API void pica_executor_release(pica_executor *executor);

/* Runs fn(arg) on a thread of the pool, NULL: the default pool, and suspends until it has returned;
 * returns its result. Calls of a pool begin in the order in which they were made. fn may block; it runs in
 * no task, so of this library it may call what is marked "any thread", and all that suspends returns
 * PICA_ENOTASK. It must return: no exception, no longjmp, no pthread_exit. What it wrote is seen by the
 * task, and the other way round.
 * The default pool belongs to the runtime, is made by the first call, has the default size of
 * pica_executor_new, and is ended and joined when the runtime closes, after all tasks have ended.
 * Errors, fn has not run: PICA_ENOTASK, -EINVAL (no fn), -ENOMEM, -EAGAIN (the pool has no thread and none
 * could be started; with at least one the call is queued for it), PICA_ECLOSED, PICA_EFORKED.
 * Cancellation: delivered at entry, or as long as the call is queued: PICA_ECANCELED, and fn never runs. A
 * function that runs cannot be stopped: the call waits for it and returns its result, the cancellation
 * stays pending. */
PICA_API int pica_run_in_executor(pica_executor *executor, pica_fn fn, void *arg);
/* The same in the default pool. */
PICA_API int pica_to_thread(pica_fn fn, void *arg);

PICA_END_DECLS
#endif
