/* Event: a flag that tasks wait for.
 *
 *     0 --set--> SET --clear--> 0                     no guard
 *     0 --commit of a wait--> WAITERS                 under the guard, the node is then linked
 *     WAITERS --set--> SET                            under the guard: all nodes are taken out
 *     WAITERS --withdraw of the last--> 0             under the guard
 *
 * WAITERS is set exactly as long as the list is not empty, as seen under the guard, and never
 * together with SET. Every change of the word is a read-modify-write, so that sets and clears have
 * one order: a task that clears, looks for work and waits cannot miss a set in between, also one
 * that found the flag set already.
 *
 * A set takes the whole list at once. Thus it wakes exactly those that wait at that moment, even if
 * a clear follows before all are fired: those that come after the clear are in a list of their own.
 *
 * The event's memory may go as soon as a wait that saw the flag has returned and nobody else waits:
 * after taking the nodes a set touches nothing but them, and who sees the flag lets the set that is
 * just leaving the guard go first (is_set).
 *
 * Order: guard, then nothing; waiters are fired after it.
 */
#include <pica/sync.h>

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/lock.h"
#include "runtime/base/transitions.h"
#include "sync/waiters.h"

enum { SET = 1, WAITERS = 2 };

struct __attribute__((may_alias)) event {
    /* See above. Changed by everybody, acq_rel; read with acquire by who waits: what was written
     * before a set is seen after the wait that it ends. */
    _Atomic uint32_t state;
    pica__lock_t guard; /* of waiters and of the WAITERS bit */
    pica__waiters waiters;
};
_Static_assert(sizeof(struct event) <= sizeof(pica_event), "pica_event is too small");

struct event_wait {
    pica__waiting node;
    struct event *event;
};

static struct event *event_of(const pica_event *event) {
    return (struct event *)(void *)(uintptr_t)event;
}

void pica_event_init(pica_event *event) {
    *event = (pica_event)PICA_EVENT_INIT;
}

/* A flag that was seen may be the caller's leave to free the event; so a set that has published the
 * flag but not yet left the guard is waited for. It held the guard before it set the flag, hence
 * who sees the flag also sees the guard held, or given back. */
static bool is_set(struct event *e) {
    if ((atomic_load_explicit(&e->state, memory_order_acquire) & SET) == 0) {
        return false;
    }
    if (PICA__UNLIKELY(atomic_load_explicit(&e->guard.held, memory_order_relaxed) != 0)) {
        pica__lock(&e->guard);
        pica__unlock(&e->guard);
    }
    return true;
}

/* Under the guard: the bit follows the list. */
static void drop_waiters_bit(struct event *e) {
    if (pica__waiters_empty(&e->waiters)) {
        atomic_fetch_and_explicit(&e->state, ~(uint32_t)WAITERS, memory_order_acq_rel);
        PICA__MOVED(EVENT, WAITERS, 0);
    }
}

/* Under the guard: true if the flag is set, else the WAITERS bit is from now on, which leads the
 * next set to the guard. */
static bool set_or_mark(struct event *e) {
    uint32_t old = atomic_load_explicit(&e->state, memory_order_acquire);
    for (;;) {
        if (old != 0) {
            return (old & SET) != 0;
        }
        if (atomic_compare_exchange_weak_explicit(&e->state, &old, WAITERS, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            PICA__MOVED(EVENT, 0, WAITERS);
            return false;
        }
    }
}

static bool event_commit(pica__wait *wait) {
    struct event_wait *w = PICA__CONTAINER_OF(wait, struct event_wait, node.wait);
    struct event *e = w->event;
    bool waits = false;
    pica__lock(&e->guard);
    if (set_or_mark(e)) {
        pica__waiting_at_once(&w->node, 0);
    } else if (pica__wait_publish(wait)) {
        pica__waiters_push(&e->waiters, &w->node);
        waits = true;
    } else {
        drop_waiters_bit(e);
    }
    pica__unlock(&e->guard);
    return waits;
}

static bool event_withdraw(pica__wait *wait) {
    struct event_wait *w = PICA__CONTAINER_OF(wait, struct event_wait, node.wait);
    struct event *e = w->event;
    pica__lock(&e->guard);
    bool withdrawn = pica__waiters_withdraw(&e->waiters, &w->node);
    if (withdrawn) {
        drop_waiters_bit(e);
    }
    pica__unlock(&e->guard);
    return withdrawn;
}

static const struct pica__wait_ops event_ops = {.what = "event", .cancel = event_withdraw};

int pica_event_wait(pica_event *event) {
    struct event *e = event_of(event);
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (is_set(e)) {
        return 0;
    }
    struct event_wait w = {.node = {.wait = {&event_ops, task, NULL, 0}}, .event = e};
    int rc = pica__waiting_suspend(&w.node, event_commit, &e->guard);
    /* Observation: nothing was taken, so a cancellation that came after the set still wins. */
    return rc == 0 && pica__cancel_take(task) ? PICA_ECANCELED : rc;
}

void pica_event_set(pica_event *event) {
    struct event *e = event_of(event);
    uint32_t old = atomic_load_explicit(&e->state, memory_order_relaxed);
    while ((old & WAITERS) == 0) {
        if (atomic_compare_exchange_weak_explicit(&e->state, &old, SET, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            if (old == 0) {
                PICA__MOVED(EVENT, 0, SET);
            }
            return;
        }
    }
    pica__lock(&e->guard);
    pica__waiting *chain = pica__waiters_take_all(&e->waiters);
    old = atomic_exchange_explicit(&e->state, SET, memory_order_acq_rel);
    if (old != SET) {
        PICA__MOVED(EVENT, old, SET);
    }
    pica__unlock(&e->guard);
    pica__waiters_fire_all(chain, 0);
}

void pica_event_clear(pica_event *event) {
    uint32_t old =
        atomic_fetch_and_explicit(&event_of(event)->state, ~(uint32_t)SET, memory_order_acq_rel);
    if ((old & SET) != 0) {
        PICA__MOVED(EVENT, SET, 0);
    }
}

int pica_event_is_set(const pica_event *event) {
    return is_set(event_of(event));
}
