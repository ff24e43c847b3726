/* Tasks: coroutines that the runtime runs. A task is a future (pica_task_future). A task has no
 * stack until it suspends for the first time. Free tasks may run on any worker and move between
 * workers at every suspension; pinned ones stay on their home loop's worker.
 *
 * Thread-locals, errno, pthread_self and pthread mutexes do not survive a suspension of a free
 * task. Floating-point control (fesetround, traps, flush to zero, x87 precision) belongs to the thread and
 * is not saved for any task: who changes it restores it before suspending, awaiting or ending. The workers
 * have what the thread had that made the runtime. Debug builds of the library abort on a difference, naming
 * the task. Callbacks restore it before they return. */
#ifndef PICA_TASK_H
#define PICA_TASK_H

#include <pica/base.h>
#include <pica/future.h>

PICA_BEGIN_DECLS

typedef struct pica_task pica_task;

/* A task is a future: the same object, seen as one. Borrowed. */
static inline pica_future *pica_task_future(pica_task *task) {
    return (pica_future *)task;
}
#define PICA_FUTURE(task) pica_task_future(task)

struct pica_task_options {
    size_t size;             /* sizeof(struct pica_task_options) */
    const char *name;        /* copied; NULL: "Task-N" */
    pica_loop *loop;         /* home loop; NULL: the creator's */
    int pinned;              /* never leaves the worker of its home loop */
    size_t stack_size;       /* bytes; 0: the runtime's. Another size gets a stack of its own */
    pica_destroy arg_destroy; /* called with arg when the task has ended, also if never started */
};
#define PICA_TASK_OPTIONS_INIT { sizeof(struct pica_task_options), NULL, NULL, 0, 0, NULL }

/* Creates a task that runs fn(arg). *out (may be NULL: detached) gets a reference, released with
 * pica_task_unref. The task may start on another worker before this returns. The runtime holds its
 * own reference until the task has ended. Does not suspend. Runtime.
 * Errors: -ENOMEM; PICA_ENOTASK outside a runtime; PICA_ECLOSED if the runtime is closing. */
PICA_API int pica_create_task(pica_task **out, pica_fn fn, void *arg);
/* The same with options (may be NULL). -EINVAL for a bad option or a loop of another runtime. */
PICA_API int pica_create_task_opts(pica_task **out, pica_fn fn, void *arg,
                                   const struct pica_task_options *options);
PICA_API pica_task *pica_task_ref(pica_task *task);
/* NULL is allowed. A task whose references are all gone goes on running: it is detached, and an
 * error that nobody looked at is reported through the runtime's task_error hook. */
PICA_API void pica_task_unref(pica_task *task);

/* Awaits the task, moves its value out (value may be NULL: destroyed with the task) and drops the
 * caller's reference. Otherwise as pica_await. On -ENOMEM and PICA_ENOTASK the reference is
 * kept. */
PICA_API int pica_join(pica_task *task, void **value);

/* Sets the value of the current task, released by destroy if nobody takes it, and returns 0. A
 * value set earlier is destroyed. PICA_ENOTASK outside a task (the value stays the caller's). */
PICA_API int pica_return(void *value, pica_destroy destroy);

/* Asks a task to end: counts the request and delivers PICA_ECANCELED once, at the next suspension
 * point or kernel operation of the task; what it waits for is cancelled now. A task that was not
 * started never runs. Returns 1 if recorded, 0 if the task had ended. Does not suspend. Any
 * thread. */
PICA_API int pica_task_cancel(pica_task *task);
/* Cancel requests that were not withdrawn. Any thread. */
PICA_API int pica_task_cancelling(const pica_task *task);
/* Withdraws one request, to be called by whoever made it; at zero a cancellation that was not
 * delivered yet is dropped. Returns the requests left. Any thread. */
PICA_API int pica_task_uncancel(pica_task *task);

/* The current task, borrowed; NULL in callbacks and on other threads. */
PICA_API pica_task *pica_current_task(void);
/* Borrowed until the name is changed. */
PICA_API const char *pica_task_name(const pica_task *task);
/* Copies name. -ENOMEM. Only before anybody else may read it: by the creator or the task. */
PICA_API int pica_task_set_name(pica_task *task, const char *name);
/* The home loop. Any thread. */
PICA_API pica_loop *pica_task_loop(const pica_task *task);

/* Lets other tasks, callbacks and I/O run, then goes on. 0, PICA_ECANCELED, PICA_ENOTASK. */
PICA_API int pica_yield(void);
/* Suspends for at least seconds; <= 0 is pica_yield. 0, PICA_ECANCELED (the time was cut short),
 * PICA_ENOTASK, -EINVAL for NaN, -ENOMEM. */
PICA_API int pica_sleep(double seconds);
/* Delivers a pending cancellation: PICA_ECANCELED or 0. Does not suspend. Task. */
PICA_API int pica_checkpoint(void);

/* Waits until all other tasks of the runtime have ended, after cancelling them if cancel is not
 * zero: what pica_run does at its end. Suspends. 0, PICA_ECANCELED, PICA_ENOTASK. */
PICA_API int pica_wait_all_tasks(int cancel);

PICA_END_DECLS
#endif
