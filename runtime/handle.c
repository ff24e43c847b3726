/* Handles: callbacks that the user schedules, soon or at a time, and triggers for signal handlers.
 *
 * State of a handle: PENDING -> RUNNING -> RAN, or PENDING -> CANCELLED, each by one compare-and-swap,
 * so exactly one of "it runs" and "it was cancelled" is true. References: the schedule's (until it ran
 * or was found cancelled) and the user's.
 */
#include <math.h>
#include <stdatomic.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/handle.h"
#include "runtime/base/transitions.h"
#include "runtime/loop.h"
#include "runtime/rt.h"

enum { PENDING, RUNNING, RAN, CANCELLED };

struct pica_handle {
    pica__call call;
    pica__timer timer;
    bool timed;
    int64_t when;          /* ns; timed handles */
    _Atomic uint32_t refs; /* added relaxed, dropped acq_rel by any holder */
    /* Compare-and-swapped by the loop and by cancellers, acq_rel. */
    _Atomic uint32_t state;
    pica_callback fn;
    void *arg;
};

pica_handle *pica_handle_ref(pica_handle *handle) {
    atomic_fetch_add_explicit(&handle->refs, 1, memory_order_relaxed);
    return handle;
}

void pica_handle_unref(pica_handle *handle) {
    if (handle != NULL &&
        atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) == 1) {
        pica__free(handle, sizeof *handle);
    }
}

static bool handle_move(pica_handle *handle, uint32_t from, uint32_t to) {
    if (!atomic_compare_exchange_strong_explicit(&handle->state, &from, to, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        return false;
    }
    PICA__MOVED(HANDLE, from, to);
    return true;
}

static void handle_run(pica__call *call) {
    pica_handle *handle = PICA__CONTAINER_OF(call, pica_handle, call);
    if (handle_move(handle, PENDING, RUNNING)) {
        handle->fn(handle->arg);
        PICA__MOVED(HANDLE, RUNNING, RAN);
        atomic_store_explicit(&handle->state, RAN, memory_order_release);
    }
    pica_handle_unref(handle);
}

/* A due timer takes its place behind the callbacks that are ready. */
static void handle_due(pica__timer *timer) {
    pica_handle *handle = PICA__CONTAINER_OF(timer, pica_handle, timer);
    pica__call_soon(timer->loop, &handle->call);
}

static pica_handle *handle_new(pica_loop *loop, pica_callback fn, void *arg, bool keep) {
    pica_handle *handle = pica__alloc(sizeof *handle);
    if (handle == NULL) {
        return NULL;
    }
    pica__call_init_user(&handle->call, handle_run);
    pica__timer_init(&handle->timer, handle_due);
    handle->timer.loop = loop; /* also of handles that are not timed: where it runs */
    handle->timed = false;
    handle->when = 0;
    atomic_init(&handle->refs, keep ? 2 : 1);
    atomic_init(&handle->state, PENDING);
    handle->fn = fn;
    handle->arg = arg;
    return handle;
}

static int loop_check(const pica_loop *loop) {
    int rc = pica__runtime_check(loop->rt);
    return rc < 0 ? rc : pica__phase(loop->rt) >= PICA__CLOSING ? PICA_ECLOSED : 0;
}

int pica_call_soon_threadsafe(pica_loop *loop, pica_callback fn, void *arg, pica_handle **out) {
    int rc = loop_check(loop);
    if (rc < 0) {
        return rc;
    }
    pica_handle *handle = handle_new(loop, fn, arg, out != NULL);
    if (handle == NULL) {
        return -ENOMEM;
    }
    if (out != NULL) {
        *out = handle;
    }
    pica__call_soon(loop, &handle->call);
    return 0;
}

/* when: ns of pica__now. */
static int call_at(pica_loop *loop, int64_t when, pica_callback fn, void *arg, pica_handle **out) {
    int rc = loop_check(loop);
    if (rc < 0) {
        return rc;
    }
    pica_handle *handle = handle_new(loop, fn, arg, out != NULL);
    if (handle == NULL) {
        return -ENOMEM;
    }
    handle->timed = true;
    handle->when = when;
    if (out != NULL) {
        *out = handle;
    }
    /* Also if that has passed: an equal time that was registered before it must come first. */
    rc = pica__timer_arm(loop, &handle->timer, when);
    if (rc < 0) {
        pica__free(handle, sizeof *handle);
        if (out != NULL) {
            *out = NULL;
        }
    }
    return rc;
}

int pica_loop_call_later(pica_loop *loop, double delay, pica_callback fn, void *arg,
                         pica_handle **out) {
    return isnan(delay) ? -EINVAL : call_at(loop, pica__deadline(delay), fn, arg, out);
}

int pica_loop_call_at(pica_loop *loop, double when, pica_callback fn, void *arg,
                      pica_handle **out) {
    if (isnan(when)) {
        return -EINVAL;
    }
    double ns = pica__round_up(when * 1e9);
    return call_at(loop, ns >= 9.2e18 ? INT64_MAX : ns < 0 ? 0 : (int64_t)ns, fn, arg, out);
}

int pica_call_soon(pica_callback fn, void *arg, pica_handle **out) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : pica_call_soon_threadsafe(loop, fn, arg, out);
}

int pica_call_later(double delay, pica_callback fn, void *arg, pica_handle **out) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : pica_loop_call_later(loop, delay, fn, arg, out);
}

int pica_call_at(double when, pica_callback fn, void *arg, pica_handle **out) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : pica_loop_call_at(loop, when, fn, arg, out);
}

int pica_handle_cancel(pica_handle *handle) {
    if (!handle_move(handle, PENDING, CANCELLED)) {
        return atomic_load_explicit(&handle->state, memory_order_acquire) == RUNNING &&
                       !pica__loop_is_mine(handle->timer.loop)
                   ? -EBUSY
                   : 0;
    }
    if (handle->timed && pica__timer_cancel(&handle->timer)) {
        pica_handle_unref(handle); /* the schedule's: it will not be called */
    }
    return 1;
}

int pica_handle_cancelled(const pica_handle *handle) {
    return atomic_load_explicit(&((pica_handle *)(uintptr_t)handle)->state,
                                memory_order_acquire) == CANCELLED;
}

double pica_handle_when(const pica_handle *handle) {
    return handle->timed ? (double)handle->when * 1e-9 : 0;
}

/* What a closing loop does with calls that will not run. */
bool pica__handle_drop(pica__call *call) {
    if (call->fn != handle_run) {
        return false;
    }
    pica_handle *handle = PICA__CONTAINER_OF(call, pica_handle, call);
    (void)handle_move(handle, PENDING, CANCELLED);
    pica_handle_unref(handle);
    return true;
}

void pica__handle_drop_timer(pica__timer *timer) {
    if (timer->fire == handle_due) {
        (void)pica__handle_drop(&PICA__CONTAINER_OF(timer, pica_handle, timer)->call);
    }
}
