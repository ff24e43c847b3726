/* Futures: a result that arrives once. Any thread may complete one; exactly one completion wins.
 * A future is reference-counted; its value carries a destructor and belongs to the future until
 * somebody takes it. A task is a future too (pica_task_future). */
#ifndef PICA_FUTURE_H
#define PICA_FUTURE_H

#include <pica/base.h>
#include <pica/error.h>

PICA_BEGIN_DECLS

typedef struct pica_future pica_future;
typedef struct pica_loop pica_loop;

/* Makes a pending future with one reference for the caller. -ENOMEM. Any thread. */
PICA_API int pica_future_new(pica_future **out);
PICA_API pica_future *pica_future_ref(pica_future *future);
/* NULL is allowed. The last reference destroys a value that nobody took. */
PICA_API void pica_future_unref(pica_future *future);

/* Completes with a value; destroy (may be NULL) releases it if nobody takes it. Returns 0, or
 * PICA_EINVALSTATE if the future is done already (the value stays with the caller), -EINVAL for a
 * task. What was written before is visible to whoever sees the future done. Any thread. */
PICA_API int pica_future_set_result(pica_future *future, void *value, pica_destroy destroy);
/* Completes with an error. code: negative. error: may be NULL; the future takes a reference of its
 * own. Results as pica_future_set_result. Any thread. */
PICA_API int pica_future_set_exception(pica_future *future, int code, pica_error *error);
/* Cancels: a pending future becomes cancelled at once; a task is asked to end (pica_task_cancel).
 * Returns 1 if the request was recorded, 0 if it was done already. Any thread. */
PICA_API int pica_future_cancel(pica_future *future);

/* 1 or 0. Any thread. */
PICA_API int pica_future_done(const pica_future *future);
PICA_API int pica_future_cancelled(const pica_future *future);
/* The result code, and the value, borrowed until the last reference goes (value may be NULL).
 * PICA_EINVALSTATE if not done. Marks an error as seen. Any thread. */
PICA_API int pica_future_result(pica_future *future, void **value);
/* As pica_future_result, but the value is moved out to the caller, who releases it. The second
 * taker gets PICA_EINVALSTATE if there was a value. Any thread. */
PICA_API int pica_future_take(pica_future *future, void **value);
/* The error object, borrowed as long as the caller holds its reference to the future; NULL if
 * there is none or the future is not done. Marks an error as seen. Any thread. */
PICA_API pica_error *pica_future_exception(pica_future *future);

typedef void (*pica_done_callback)(pica_future *future, void *arg);
/* Calls fn(future, arg) on a loop once the future is done: the caller's home loop if the caller is
 * a task or callback, else loop (which must then not be NULL: -EINVAL). Never called inline.
 * Callbacks of one future on one loop run in the order of their registration. -ENOMEM. Any
 * thread. */
PICA_API int pica_future_add_done_callback(pica_future *future, pica_loop *loop,
                                           pica_done_callback fn, void *arg);
/* Removes all entries with this fn and arg that were not scheduled yet; returns how many. */
PICA_API int pica_future_remove_done_callback(pica_future *future, pica_done_callback fn,
                                              void *arg);

/* Waits until the future is done and returns its result code; *value (value may be NULL) is
 * borrowed from the future. A task that was not started yet may run in place, on the caller's
 * stack. Suspends unless done; task only.
 * Errors: PICA_ENOTASK; -EDEADLK if a task awaits itself; -ENOMEM if the future is an unstarted
 * task that needs a stack and none can be had (nothing was consumed; it may be awaited again);
 * else the future's own code.
 * Cancellation: cancelling the awaiting task cancels the awaited future or task, and the await
 * returns when that has ended. */
PICA_API int pica_await(pica_future *future, void **value);
/* As pica_await, but cancelling the caller leaves the future alone: the call then returns
 * PICA_ECANCELED at once and the future goes on. */
PICA_API int pica_shield(pica_future *future, void **value);
/* As pica_await with a limit in seconds. When it passes, the future is cancelled, the call waits
 * until it has ended, and returns PICA_ETIMEDOUT; if the awaited task ignored the cancel and
 * returned a value, that value is returned. limit <= 0: a future that is not done is cancelled at
 * once. PICA_FOREVER: no limit. -EINVAL for NaN. */
PICA_API int pica_wait_for(pica_future *future, double limit, void **value);

enum { PICA_RETURN_EXCEPTIONS = 1 };
/* Waits for n futures or tasks. flags 0: returns 0 when all have succeeded, or the code of the
 * first failure as soon as it happens; the others keep running. PICA_RETURN_EXCEPTIONS: waits for
 * all and returns 0; the codes are read from the futures. n may be 0; duplicates are allowed.
 * Suspends; task only. Errors: PICA_ENOTASK, -ENOMEM.
 * Cancellation: cancels every future that is not done, waits for all of them, and returns
 * PICA_ECANCELED. */
PICA_API int pica_gather(size_t n, pica_future *const futures[], unsigned flags);

enum { PICA_FIRST_COMPLETED = 1, PICA_FIRST_EXCEPTION = 2, PICA_ALL_COMPLETED = 3 };
/* Waits until the condition holds or limit seconds have passed, and returns how many of the n
 * futures are done. Cancels nothing. Errors: -EINVAL for n == 0, a bad condition or NaN;
 * PICA_ENOTASK; -ENOMEM. Cancellation: returns PICA_ECANCELED, the futures go on. */
PICA_API int pica_wait(size_t n, pica_future *const futures[], double limit, int return_when);

PICA_END_DECLS
#endif
