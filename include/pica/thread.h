/* From plain threads into a runtime. */
#ifndef PICA_THREAD_H
#define PICA_THREAD_H

#include <pica/base.h>
#include <pica/error.h>
#include <pica/runtime.h>

PICA_BEGIN_DECLS

typedef struct pica_thread_future pica_thread_future;

/* Creates a task that runs fn(arg) on rt, from any thread. *out gets a handle, freed with
 * pica_thread_future_free; NULL: detached. Options as of pica_create_task_opts are not needed
 * here: home is loop 0. -ENOMEM, PICA_ECLOSED. The task starts when rt runs. */
PICA_API int pica_run_coroutine_threadsafe(pica_runtime *rt, pica_fn fn, void *arg,
                                           pica_thread_future **out);
/* Blocks the calling thread until the task has ended or limit seconds have passed
 * (PICA_FOREVER: no limit). Returns 1 if done, 0 if the time passed; -EDEADLK on a worker of the
 * task's runtime; -EINVAL for NaN. Any number of threads may wait. */
PICA_API int pica_thread_future_wait(pica_thread_future *future, double limit);
/* Asks the task to end; 1 if recorded, 0 if it had ended. Any thread. */
PICA_API int pica_thread_future_cancel(pica_thread_future *future);
/* The result code, and the value, borrowed until the handle is freed; PICA_EINVALSTATE if not
 * done. Any thread. */
PICA_API int pica_thread_future_result(pica_thread_future *future, void **value);
/* Borrowed until the handle is freed; NULL if there is none. */
PICA_API pica_error *pica_thread_future_exception(pica_thread_future *future);
/* NULL is allowed. The task goes on. Must not run beside another call on the same handle. */
PICA_API void pica_thread_future_free(pica_thread_future *future);

PICA_END_DECLS
#endif
