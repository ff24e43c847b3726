/* Plain threads that run a coroutine in a runtime and wait for it: the handle is a waiter of the task's
 * future, and a word to sleep on.
 *
 * The waiter may be called while the handle is being freed: `refs` counts the user and the waiter.
 */
#include <math.h>
#include <pica/thread.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/base/park.h"
#include "runtime/rt.h"
#include "runtime/task.h"

struct pica_thread_future {
    pica_task *task;       /* a reference */
    pica__waiter waiter;
    /* 1 once the task has ended. Written by the completer (release), read by waiters (acquire), who
     * sleep on it. */
    _Atomic uint32_t done;
    /* The user, and the waiter until it was called or withdrawn. Dropped acq_rel by both. */
    _Atomic uint32_t refs;
};

static void thread_future_drop(pica_thread_future *f) {
    if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1) {
        pica__task_unref(f->task);
        pica__free(f, sizeof *f);
    }
}

static void thread_future_done(pica__waiter *waiter, pica_future *future) {
    pica_thread_future *f = PICA__CONTAINER_OF(waiter, pica_thread_future, waiter);
    (void)future;
    atomic_store_explicit(&f->done, 1, memory_order_release);
    pica__park_wake(&f->done);
    thread_future_drop(f);
}

int pica_run_coroutine_threadsafe(pica_runtime *rt, pica_fn fn, void *arg,
                                  pica_thread_future **out) {
    int rc = pica__runtime_check(rt);
    if (rc < 0) {
        return rc;
    }
    if (out == NULL) {
        return pica__task_create(NULL, &rt->loop[0], fn, arg, NULL);
    }
    pica_thread_future *f = pica__zalloc(sizeof *f);
    if (f == NULL) {
        return -ENOMEM;
    }
    rc = pica__task_create(&f->task, &rt->loop[0], fn, arg, NULL);
    if (rc < 0) {
        pica__free(f, sizeof *f);
        return rc;
    }
    atomic_init(&f->done, 0);
    atomic_init(&f->refs, 2);
    f->waiter.done = thread_future_done;
    if (!pica__future_wait(&f->task->future, &f->waiter)) {
        thread_future_done(&f->waiter, &f->task->future);
    }
    *out = f;
    return 0;
}

int pica_thread_future_wait(pica_thread_future *f, double limit) {
    if (isnan(limit)) {
        return -EINVAL;
    }
    pica__worker *worker = pica__self();
    if (worker != NULL && worker->rt == f->task->loop->rt) {
        return -EDEADLK;
    }
    int64_t deadline = pica__deadline(limit);
    while (atomic_load_explicit(&f->done, memory_order_acquire) == 0) {
        if (deadline != INT64_MAX && pica__now() >= deadline) {
            return 0;
        }
        pica__park_wait(&f->done, 0, deadline);
    }
    return 1;
}

int pica_thread_future_cancel(pica_thread_future *f) {
    return pica_task_cancel(f->task);
}

int pica_thread_future_result(pica_thread_future *f, void **value) {
    return pica_future_result(&f->task->future, value);
}

pica_error *pica_thread_future_exception(pica_thread_future *f) {
    return pica_future_exception(&f->task->future);
}

void pica_thread_future_free(pica_thread_future *f) {
    if (f == NULL) {
        return;
    }
    if (pica__future_withdraw(&f->task->future, &f->waiter)) {
        thread_future_drop(f);
    }
    thread_future_drop(f);
}
