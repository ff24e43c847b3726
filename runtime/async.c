/* pica_async: a callback that a signal handler may trigger. Nothing is allocated by a send: the call
 * lies in the object and is queued at most once at a time; sends meanwhile are merged.
 *
 * State: IDLE -> QUEUED (send) -> RUNNING (loop) -> IDLE, or RUNNING -> AGAIN (send meanwhile) ->
 * QUEUED. FREED from any state: whoever sees it last frees the memory.
 */
#include <stdatomic.h>

#include "runtime/base/alloc.h"
#include "runtime/base/transitions.h"
#include "runtime/handle.h"
#include "runtime/loop.h"
#include "runtime/rt.h"

enum { IDLE, QUEUED, RUNNING, AGAIN, FREED };

struct pica_async {
    pica__call call;
    pica_loop *loop;
    /* Compare-and-swapped by senders, the loop and pica_async_free; acq_rel: what was written before
     * a send is seen by the callback. */
    _Atomic uint32_t state;
    pica_callback fn;
    void *arg;
};

static void async_run(pica__call *call) {
    pica_async *async = PICA__CONTAINER_OF(call, pica_async, call);
    uint32_t expected = QUEUED;
    if (!atomic_compare_exchange_strong(&async->state, &expected, RUNNING)) {
        pica__free(async, sizeof *async); /* FREED while queued */
        return;
    }
    PICA__MOVED(ASYNC, QUEUED, RUNNING);
    async->fn(async->arg);
    expected = RUNNING;
    if (atomic_compare_exchange_strong(&async->state, &expected, IDLE)) {
        PICA__MOVED(ASYNC, RUNNING, IDLE);
        return;
    }
    expected = AGAIN;
    if (atomic_compare_exchange_strong(&async->state, &expected, QUEUED)) {
        PICA__MOVED(ASYNC, AGAIN, QUEUED);
        pica__call_soon(async->loop, &async->call);
    } else {
        pica__free(async, sizeof *async);
    }
}

int pica_async_new(pica_async **out, pica_loop *loop, pica_callback fn, void *arg) {
    int rc = pica__runtime_check(loop->rt);
    if (rc < 0) {
        return rc;
    }
    if (pica__phase(loop->rt) >= PICA__CLOSING) {
        return PICA_ECLOSED;
    }
    pica_async *async = pica__alloc(sizeof *async);
    if (async == NULL) {
        return -ENOMEM;
    }
    pica__call_init_user(&async->call, async_run);
    async->loop = loop;
    atomic_init(&async->state, IDLE);
    async->fn = fn;
    async->arg = arg;
    *out = async;
    return 0;
}

void pica_async_send(pica_async *async) {
    pica_loop *loop = async->loop;
    bool visiting = pica__visit(loop->rt);
    uint32_t old = atomic_load_explicit(&async->state, memory_order_relaxed);
    for (;;) {
        uint32_t new = old == IDLE ? QUEUED : old == RUNNING ? AGAIN : old;
        if (atomic_compare_exchange_weak(&async->state, &old, new)) {
            if (new != old) {
                PICA__MOVED(ASYNC, old, new);
            }
            break;
        }
    }
    if (old == IDLE) {
        /* Always by the inbox: a signal handler may have interrupted the owner in its own FIFO. */
        pica__inbox_push(&loop->inbox, &async->call.work.node);
        pica__worker_wake(loop->worker);
    }
    pica__visit_end(loop->rt, visiting);
}

void pica_async_free(pica_async *async) {
    if (async == NULL) {
        return;
    }
    uint32_t old = atomic_exchange(&async->state, FREED);
    PICA__MOVED(ASYNC, old, FREED);
    if (old == IDLE) {
        pica__free(async, sizeof *async);
    }
}

/* What a closing loop does with a trigger that is still queued. */
bool pica__async_drop(pica__call *call) {
    if (call->fn != async_run) {
        return false;
    }
    pica_async *async = PICA__CONTAINER_OF(call, pica_async, call);
    uint32_t expected = QUEUED;
    if (atomic_compare_exchange_strong(&async->state, &expected, IDLE)) {
        PICA__MOVED(ASYNC, QUEUED, IDLE);
    } else {
        pica__free(async, sizeof *async);
    }
    return true;
}
