/* Futures: completion, waiters, results. The rules stand in future.h. */
#include "runtime/future.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/transitions.h"
#include "runtime/error.h"
#include "runtime/handle.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/worker.h"

void pica__future_init(pica_future *future, bool is_task, uint32_t refs) {
    atomic_init(&future->refs, refs);
    pica__lock_init(&future->lock);
    atomic_init(&future->state, 0);
    future->code = 0;
    future->is_task = is_task;
    pica__list_init(&future->waiters);
    future->value = NULL;
    future->destroy = NULL;
    future->error = NULL;
    future->calling = false;
}

static void done_callbacks_free(pica__link *list);

void pica__future_fini(pica_future *future) {
    uint32_t state = atomic_load_explicit(&future->state, memory_order_relaxed);
    /* Whoever waits in another way than by a done callback holds a reference. */
    done_callbacks_free(&future->waiters);
    if (future->value != NULL && future->destroy != NULL && (state & PICA__FUTURE_TAKEN) == 0) {
        future->destroy(future->value);
    }
    pica_error_unref(future->error);
}

int pica_future_new(pica_future **out) {
    pica_future *future = pica__alloc(sizeof *future);
    if (future == NULL) {
        return -ENOMEM;
    }
    pica__future_init(future, false, 1);
    *out = future;
    return 0;
}

pica_future *pica_future_ref(pica_future *future) {
    atomic_fetch_add_explicit(&future->refs, 1, memory_order_relaxed);
    return future;
}

void pica_future_unref(pica_future *future) {
    if (future == NULL) {
        return;
    }
    if (future->is_task) {
        pica__task_unref((pica_task *)future);
        return;
    }
    if (atomic_fetch_sub_explicit(&future->refs, 1, memory_order_acq_rel) == 1) {
        /* The completer may borrow its reference from the one that waits, which saw the future done
         * and let go of it: the completer's critical section must be over. */
        pica__lock(&future->lock);
        pica__unlock(&future->lock);
        pica__future_fini(future);
        pica__free(future, sizeof *future);
    }
}

/* Calls the waiters one by one: each is unlinked under the lock, so that a withdrawal that comes
 * first finds it linked, and one that comes later does not. */
static void call_waiters(pica_future *future, pica__link *first) {
    while (first != NULL) {
        pica__waiter *waiter = PICA__CONTAINER_OF(first, pica__waiter, link);
        waiter->done(waiter, future);
        pica__lock(&future->lock);
        first = pica__list_pop_front(&future->waiters);
        future->calling = first != NULL;
        pica__unlock(&future->lock);
    }
}

bool pica__future_complete(pica_future *future, int code, void *value, pica_destroy destroy,
                           pica_error *error, uint32_t flags) {
    pica__lock(&future->lock);
    uint32_t state = atomic_load_explicit(&future->state, memory_order_relaxed);
    if (state & PICA__FUTURE_DONE) {
        pica__unlock(&future->lock);
        return false;
    }
    future->code = code;
    future->value = value;
    future->destroy = destroy;
    future->error = error;
    /* Or, not store: SEEN may be set at any time without the lock. */
    atomic_fetch_or_explicit(&future->state, PICA__FUTURE_DONE | flags, memory_order_release);
    PICA__MOVED(FUTURE, 0, PICA__FUTURE_DONE | (flags & PICA__FUTURE_CANCELLED));
    pica__link *first = pica__list_pop_front(&future->waiters);
    future->calling = first != NULL;
    if (first == NULL) {
        pica__unlock(&future->lock);
        return true;
    }
    /* The first waiter that runs may drop what was the last reference. */
    pica_future_ref(future);
    pica__unlock(&future->lock);
    call_waiters(future, first);
    pica_future_unref(future);
    return true;
}

bool pica__future_wait(pica_future *future, pica__waiter *waiter) {
    pica__lock(&future->lock);
    bool pending =
        (atomic_load_explicit(&future->state, memory_order_relaxed) & PICA__FUTURE_DONE) == 0;
    if (pending) {
        pica__list_push_back(&future->waiters, &waiter->link);
    }
    pica__unlock(&future->lock);
    return pending;
}

bool pica__future_withdraw(pica_future *future, pica__waiter *waiter) {
    pica__lock(&future->lock);
    bool linked = pica__link_linked(&waiter->link);
    if (linked) {
        pica__list_remove(&waiter->link);
    }
    pica__unlock(&future->lock);
    return linked;
}

void pica__future_mark_seen(pica_future *future) {
    /* Load first: the line stays shared when many look at one result. */
    if ((atomic_load_explicit(&future->state, memory_order_relaxed) & PICA__FUTURE_SEEN) == 0) {
        uint32_t old =
            atomic_fetch_or_explicit(&future->state, PICA__FUTURE_SEEN, memory_order_relaxed);
        PICA__MOVED(FUTURE, old & PICA__FUTURE_DONE, PICA__FUTURE_WAS_SEEN);
        (void)old;
    }
}

int pica_future_set_result(pica_future *future, void *value, pica_destroy destroy) {
    if (future->is_task) {
        return -EINVAL;
    }
    return pica__future_complete(future, 0, value, destroy, NULL, 0) ? 0 : PICA_EINVALSTATE;
}

int pica_future_set_exception(pica_future *future, int code, pica_error *error) {
    if (future->is_task || code >= 0) {
        return -EINVAL;
    }
    if (error != NULL) {
        pica_error_ref(error);
    }
    if (pica__future_complete(future, code, NULL, NULL, error, 0)) {
        return 0;
    }
    pica_error_unref(error);
    return PICA_EINVALSTATE;
}

int pica_future_cancel(pica_future *future) {
    pica__future_mark_seen(future);
    if (future->is_task) {
        return pica_task_cancel((pica_task *)future);
    }
    return pica__future_complete(future, PICA_ECANCELED, NULL, NULL, NULL, PICA__FUTURE_CANCELLED);
}

int pica_future_done(const pica_future *future) {
    return pica__future_is_done(future);
}

int pica_future_cancelled(const pica_future *future) {
    pica_future *f = (pica_future *)(uintptr_t)future;
    return (atomic_load_explicit(&f->state, memory_order_acquire) & PICA__FUTURE_CANCELLED) != 0;
}

int pica_future_result(pica_future *future, void **value) {
    if (!pica__future_is_done(future)) {
        return PICA_EINVALSTATE;
    }
    if (future->code < 0) {
        pica__future_mark_seen(future);
    }
    if (value != NULL) {
        uint32_t state = atomic_load_explicit(&future->state, memory_order_relaxed);
        *value = state & PICA__FUTURE_TAKEN ? NULL : future->value;
    }
    return future->code;
}

int pica_future_take(pica_future *future, void **value) {
    if (!pica__future_is_done(future)) {
        return PICA_EINVALSTATE;
    }
    pica__future_mark_seen(future);
    *value = NULL;
    if (future->value != NULL) {
        uint32_t old =
            atomic_fetch_or_explicit(&future->state, PICA__FUTURE_TAKEN, memory_order_acq_rel);
        if (old & PICA__FUTURE_TAKEN) {
            return PICA_EINVALSTATE;
        }
        PICA__MOVED(FUTURE, PICA__FUTURE_DONE, PICA__FUTURE_WAS_TAKEN);
        *value = future->value;
    }
    return future->code;
}

pica_error *pica_future_exception(pica_future *future) {
    if (!pica__future_is_done(future)) {
        return NULL;
    }
    pica__future_mark_seen(future);
    return future->error;
}

/* --- done callbacks --- */

/* A waiter that becomes a callback of a loop. Freed after it ran, or when it is removed. */
struct done_callback {
    pica__waiter waiter;
    pica__call call;
    pica_loop *loop;
    pica_future *future; /* a reference, from the completion on */
    pica_done_callback fn;
    void *arg;
};

static void done_callback_run(pica__call *call) {
    struct done_callback *cb = PICA__CONTAINER_OF(call, struct done_callback, call);
    cb->fn(cb->future, cb->arg);
    pica_future_unref(cb->future);
    pica__free(cb, sizeof *cb);
}

bool pica__done_callback_drop(pica__call *call) {
    if (call->fn != done_callback_run) {
        return false;
    }
    struct done_callback *cb = PICA__CONTAINER_OF(call, struct done_callback, call);
    pica_future_unref(cb->future);
    pica__free(cb, sizeof *cb);
    return true;
}

static void done_callback_schedule(pica__waiter *waiter, pica_future *future) {
    struct done_callback *cb = PICA__CONTAINER_OF(waiter, struct done_callback, waiter);
    cb->future = pica_future_ref(future);
    pica__call_soon(cb->loop, &cb->call);
}

/* Of callbacks that will not be scheduled any more. */
static void done_callbacks_free(pica__link *list) {
    for (pica__link *l; (l = pica__list_pop_front(list)) != NULL;) {
        pica__waiter *waiter = PICA__CONTAINER_OF(l, pica__waiter, link);
        PICA__CHECK(waiter->done == done_callback_schedule);
        pica__free(PICA__CONTAINER_OF(waiter, struct done_callback, waiter),
                   sizeof(struct done_callback));
    }
}

int pica_future_add_done_callback(pica_future *future, pica_loop *loop, pica_done_callback fn,
                                  void *arg) {
    if (loop == NULL) {
        loop = pica_current_loop();
    }
    if (loop == NULL || fn == NULL) {
        return -EINVAL;
    }
    struct done_callback *cb = pica__zalloc(sizeof *cb);
    if (cb == NULL) {
        return -ENOMEM;
    }
    cb->waiter.done = done_callback_schedule;
    pica__call_init_user(&cb->call, done_callback_run);
    cb->loop = loop;
    cb->fn = fn;
    cb->arg = arg;
    pica__lock(&future->lock);
    /* While the completer is still scheduling those that came before, this one goes behind them. */
    bool listed = future->calling || !pica__future_is_done(future);
    if (listed) {
        pica__list_push_back(&future->waiters, &cb->waiter.link);
    }
    pica__unlock(&future->lock);
    if (!listed) {
        done_callback_schedule(&cb->waiter, future);
    }
    return 0;
}

int pica_future_remove_done_callback(pica_future *future, pica_done_callback fn, void *arg) {
    int removed = 0;
    pica__link found;
    pica__list_init(&found);
    pica__lock(&future->lock);
    /* Those of a future that is done are as good as scheduled. */
    pica__link *next =
        pica__future_is_done(future) ? &future->waiters : future->waiters.next;
    for (pica__link *l = next; l != &future->waiters; l = next) {
        next = l->next;
        pica__waiter *waiter = PICA__CONTAINER_OF(l, pica__waiter, link);
        if (waiter->done != done_callback_schedule) {
            continue;
        }
        struct done_callback *cb = PICA__CONTAINER_OF(waiter, struct done_callback, waiter);
        if (cb->fn == fn && cb->arg == arg) {
            pica__list_remove(l);
            pica__list_push_back(&found, l);
            removed++;
        }
    }
    pica__unlock(&future->lock);
    done_callbacks_free(&found);
    return removed;
}
