/* Waiting for several futures: gather, wait.
 *
 * One group on the caller's stack, one entry per future in an array beside it. Completers count down
 * and fire the group once, when its condition holds; the group's lock decides between that and a
 * canceller's withdrawal. Entries that are still linked when the group is left are withdrawn from
 * their futures; an entry that is being called just then is waited for, by the count of calls.
 *
 * Lock order: the group's lock is a leaf; it is never held together with a future's.
 */
#include <math.h>
#include <pica/timeout.h>

#include "runtime/base/alloc.h"
#include "runtime/base/lock.h"
#include "runtime/base/relax.h"
#include "runtime/future.h"
#include "runtime/task.h"
#include "runtime/wait.h"

enum { ENTRIES_ON_STACK = 8 };

struct group;

struct entry {
    pica__waiter waiter;
    struct group *group;
};

struct group {
    pica__wait wait;
    pica__lock_t lock;
    bool linked;         /* under lock: the task waits, and nobody has fired or withdrawn it */
    size_t pending;      /* under lock: futures not done */
    size_t target;       /* satisfied when pending <= target */
    bool stop_on_error;
    bool stop_on_cancel; /* a cancelled future counts as an error (gather), or not (wait) */
    int error;           /* under lock: the first failure */
    /* Entries whose completer has not left yet. Counted down by completers (release), as their very
     * last act; the task waits for it (acquire) before its frame goes. */
    _Atomic size_t calls;
};

static bool satisfied(const struct group *g) {
    return g->pending <= g->target || (g->stop_on_error && g->error < 0);
}

static bool is_error(const struct group *g, const pica_future *future) {
    return future->code < 0 && (g->stop_on_cancel || !pica_future_cancelled(future));
}

/* One future is done. Returns true if the group is to be fired. */
static bool count_done(struct group *g, const pica_future *future) {
    g->pending--;
    if (g->error == 0 && is_error(g, future)) {
        g->error = future->code;
    }
    bool fire = g->linked && satisfied(g);
    if (fire) {
        g->linked = false;
    }
    return fire;
}

static void entry_done(pica__waiter *waiter, pica_future *future) {
    struct group *g = PICA__CONTAINER_OF(waiter, struct entry, waiter)->group;
    pica__lock(&g->lock);
    bool fire = count_done(g, future);
    pica__unlock(&g->lock);
    if (fire) {
        /* The count keeps the frame until the line after next. */
        pica__wait_fire(&g->wait, 0);
    }
    atomic_fetch_sub_explicit(&g->calls, 1, memory_order_release);
}

static bool group_withdraw(pica__wait *wait) {
    struct group *g = PICA__CONTAINER_OF(wait, struct group, wait);
    pica__lock(&g->lock);
    bool linked = g->linked;
    g->linked = false;
    pica__unlock(&g->lock);
    return linked;
}

static bool group_commit(pica__wait *wait) {
    struct group *g = PICA__CONTAINER_OF(wait, struct group, wait);
    bool waits = false;
    pica__lock(&g->lock);
    if (satisfied(g)) {
        wait->task->outcome = 0;
    } else if (pica__wait_publish(wait)) {
        g->linked = true;
        waits = true;
    }
    pica__unlock(&g->lock);
    return waits;
}

static const struct pica__wait_ops group_ops = {"gather", group_withdraw};

static void group_enter(struct group *g, size_t n, pica_future *const futures[],
                        struct entry *entries) {
    pica__lock_init(&g->lock);
    g->linked = false;
    g->pending = n;
    g->error = 0;
    atomic_init(&g->calls, 0);
    for (size_t i = 0; i < n; i++) {
        entries[i].waiter.done = entry_done;
        entries[i].group = g;
        atomic_fetch_add_explicit(&g->calls, 1, memory_order_relaxed);
        if (!pica__future_wait(futures[i], &entries[i].waiter)) {
            atomic_fetch_sub_explicit(&g->calls, 1, memory_order_relaxed);
            entries[i].group = NULL; /* it was never linked */
            pica__lock(&g->lock);
            (void)count_done(g, futures[i]);
            pica__unlock(&g->lock);
        }
    }
}

static void group_leave(struct group *g, size_t n, pica_future *const futures[],
                        struct entry *entries) {
    pica__lock(&g->lock);
    g->linked = false;
    size_t pending = g->pending;
    pica__unlock(&g->lock);
    for (size_t i = 0; pending != 0 && i < n; i++) {
        if (entries[i].group != NULL && pica__future_withdraw(futures[i], &entries[i].waiter)) {
            atomic_fetch_sub_explicit(&g->calls, 1, memory_order_relaxed);
        }
    }
    pica__backoff backoff = {0};
    while (atomic_load_explicit(&g->calls, memory_order_acquire) != 0) {
        pica__relax(&backoff);
    }
}

static struct entry *entries_get(struct entry *local, size_t n) {
    if (n <= ENTRIES_ON_STACK) {
        return local;
    }
    size_t size;
    return __builtin_mul_overflow(n, sizeof(struct entry), &size) ? NULL : pica__alloc(size);
}

static void entries_put(struct entry *local, struct entry *entries, size_t n) {
    if (entries != local) {
        pica__free(entries, n * sizeof(struct entry));
    }
}

static void cancel_undone(size_t n, pica_future *const futures[]) {
    for (size_t i = 0; i < n; i++) {
        if (!pica_future_done(futures[i])) {
            (void)pica_future_cancel(futures[i]);
        }
    }
}

/* With all results wanted nothing can end the wait early but its last member, so unstarted tasks may
 * run here one after the other, as long as no thief has taken them. */
static bool run_in_place(pica_task *self, size_t n, pica_future *const futures[]) {
    for (size_t i = n; i-- > 0;) {
        if (pica__cancel_take(self)) {
            return true;
        }
        pica_future *future = futures[i];
        int rc;
        if (future->is_task && future != &self->future &&
            pica__task_state(atomic_load_explicit(&((pica_task *)future)->word,
                                                  memory_order_relaxed)) == PICA__TASK_NEW &&
            pica__await_in_place(self, (pica_task *)future, true, &rc) && rc == PICA_ECANCELED) {
            return true;
        }
    }
    return false;
}

/* Returns true if the caller was cancelled, then or before. */
static bool gather_wait(pica_task *self, struct group *g, size_t n, pica_future *const futures[],
                        bool cancelled) {
    for (;;) {
        if (cancelled) {
            pica__lock(&g->lock);
            bool done = g->pending == 0;
            g->stop_on_error = false; /* a cancelled gather waits for all its members */
            pica__unlock(&g->lock);
            if (done) {
                return true;
            }
            cancel_undone(n, futures);
        }
        int rc = pica__suspend(&g->wait, group_commit);
        bool again = rc == PICA_ECANCELED || pica__cancel_take(self);
        if (!cancelled && !again) {
            return false;
        }
        cancelled = true;
    }
}

int pica_gather(size_t n, pica_future *const futures[], unsigned flags) {
    pica_task *self = pica__current();
    if (self == NULL) {
        return PICA_ENOTASK;
    }
    bool all = (flags & PICA_RETURN_EXCEPTIONS) != 0;
    struct entry local[ENTRIES_ON_STACK];
    struct entry *entries = entries_get(local, n);
    if (entries == NULL) {
        return -ENOMEM;
    }
    bool cancelled = pica__cancel_take(self) || (all && run_in_place(self, n, futures));
    struct group g = {.wait = {&group_ops, self, NULL, 0}, .target = 0, .stop_on_error = !all,
                      .stop_on_cancel = true};
    group_enter(&g, n, futures, entries);
    cancelled = gather_wait(self, &g, n, futures, cancelled);
    int rc = cancelled ? PICA_ECANCELED : all ? 0 : g.error;
    group_leave(&g, n, futures, entries);
    entries_put(local, entries, n);
    for (size_t i = 0; i < n && !all; i++) {
        if (pica_future_done(futures[i])) {
            pica__future_mark_seen(futures[i]); /* later failures of a failed gather are dropped */
        }
    }
    return rc;
}

static size_t count_finished(size_t n, pica_future *const futures[]) {
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        done += (size_t)pica_future_done(futures[i]);
    }
    return done;
}

static int wait_group(pica_task *self, size_t n, pica_future *const futures[], int return_when) {
    struct entry local[ENTRIES_ON_STACK];
    struct entry *entries = entries_get(local, n);
    if (entries == NULL) {
        return -ENOMEM;
    }
    struct group g = {.wait = {&group_ops, self, NULL, 0},
                      .target = return_when == PICA_FIRST_COMPLETED ? n - 1 : 0,
                      .stop_on_error = return_when == PICA_FIRST_EXCEPTION,
                      .stop_on_cancel = false};
    group_enter(&g, n, futures, entries);
    int rc = pica__suspend(&g.wait, group_commit);
    group_leave(&g, n, futures, entries);
    entries_put(local, entries, n);
    return rc == 0 && pica__cancel_take(self) ? PICA_ECANCELED : rc;
}

int pica_wait(size_t n, pica_future *const futures[], double limit, int return_when) {
    pica_task *self = pica__current();
    if (self == NULL) {
        return PICA_ENOTASK;
    }
    if (n == 0 || n > INT32_MAX || isnan(limit) || return_when < PICA_FIRST_COMPLETED ||
        return_when > PICA_ALL_COMPLETED) {
        return -EINVAL;
    }
    pica_timeout timeout;
    int rc = pica_timeout_enter(&timeout, limit);
    if (rc < 0) {
        return rc;
    }
    rc = pica_timeout_exit(&timeout, wait_group(self, n, futures, return_when));
    return rc == 0 || rc == PICA_ETIMEDOUT ? (int)count_finished(n, futures) : rc;
}
