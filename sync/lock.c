/* Lock: mutual exclusion between tasks, first come, first served.
 *
 * The state word decides who has the lock; without contention it is all that is touched:
 *
 *     0 --try/acquire--> LOCKED --release--> 0
 *     LOCKED --commit of an acquire--> LOCKED|WAITERS     under the guard, the node is then linked
 *     LOCKED|WAITERS --release--> the same, or LOCKED     under the guard: the first waiter has it
 *     LOCKED|WAITERS --withdraw of the last--> LOCKED     under the guard
 *
 * WAITERS is set exactly as long as the list is not empty, as seen under the guard. It is never set
 * without LOCKED: a lock with waiters is handed over, not freed, so nobody can come in between. The
 * compare-and-swaps from and to 0 therefore need no guard.
 *
 * The lock's memory may go as soon as an acquire that followed has returned: a release does not
 * touch it after it has handed the lock over (the waiter is fired last) or freed it (which is done
 * without the guard).
 *
 * Order: guard, then nothing; waiters are fired after it.
 */
#include <pica/sync.h>

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/lock.h"
#include "runtime/base/transitions.h"
#include "sync/waiters.h"

enum { LOCKED = 1, WAITERS = 2 };

struct __attribute__((may_alias)) lock {
    /* See above. Compare-and-swapped by everybody: what takes the lock is an acquire, its partner
     * is the release that freed it. A hand-over is ordered by the fire instead. */
    _Atomic uint32_t state;
    pica__lock_t guard; /* of waiters and of the WAITERS bit */
    pica__waiters waiters;
};
_Static_assert(sizeof(struct lock) <= sizeof(pica_lock), "pica_lock is too small");

struct lock_wait {
    pica__waiting node;
    struct lock *lock;
};

static struct lock *lock_of(const pica_lock *lock) {
    return (struct lock *)(void *)(uintptr_t)lock;
}

/* Under the guard: the bit follows the list. */
static void drop_waiters_bit(struct lock *l) {
    if (pica__waiters_empty(&l->waiters)) {
        /* Relaxed: the bit only leads to the guard, which orders. */
        atomic_fetch_and_explicit(&l->state, ~(uint32_t)WAITERS, memory_order_relaxed);
        PICA__MOVED(LOCK, LOCKED | WAITERS, LOCKED);
    }
}

void pica_lock_init(pica_lock *lock) {
    *lock = (pica_lock)PICA_LOCK_INIT;
}

/* 0 -> LOCKED. */
static bool take_free(struct lock *l) {
    uint32_t expected = 0;
    if (!atomic_compare_exchange_strong_explicit(&l->state, &expected, LOCKED,
                                                 memory_order_acquire, memory_order_relaxed)) {
        return false;
    }
    PICA__MOVED(LOCK, 0, LOCKED);
    return true;
}

/* Under the guard: takes the lock if it is free (true), else makes sure that it has the WAITERS
 * bit, so that it cannot be freed any more without the guard. */
static bool take_or_mark(struct lock *l) {
    uint32_t old = atomic_load_explicit(&l->state, memory_order_relaxed);
    for (;;) {
        if ((old & WAITERS) != 0) {
            return false;
        }
        uint32_t new = old == 0 ? LOCKED : LOCKED | WAITERS;
        if (atomic_compare_exchange_weak_explicit(&l->state, &old, new, memory_order_acquire,
                                                  memory_order_relaxed)) {
            PICA__MOVED(LOCK, old, new);
            return old == 0;
        }
    }
}

static bool acquire_commit(pica__wait *wait) {
    struct lock_wait *w = PICA__CONTAINER_OF(wait, struct lock_wait, node.wait);
    struct lock *l = w->lock;
    bool waits = false;
    pica__lock(&l->guard);
    if (take_or_mark(l)) {
        pica__waiting_at_once(&w->node, 0);
    } else if (pica__wait_publish(wait)) {
        pica__waiters_push(&l->waiters, &w->node);
        waits = true;
    } else {
        drop_waiters_bit(l);
    }
    pica__unlock(&l->guard);
    return waits;
}

static bool acquire_withdraw(pica__wait *wait) {
    struct lock_wait *w = PICA__CONTAINER_OF(wait, struct lock_wait, node.wait);
    struct lock *l = w->lock;
    pica__lock(&l->guard);
    bool withdrawn = pica__waiters_withdraw(&l->waiters, &w->node);
    if (withdrawn) {
        drop_waiters_bit(l);
    }
    pica__unlock(&l->guard);
    return withdrawn;
}

static const struct pica__wait_ops acquire_ops = {.what = "lock", .cancel = acquire_withdraw};

int pica_lock_acquire(pica_lock *lock) {
    struct lock *l = lock_of(lock);
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (PICA__LIKELY(take_free(l))) {
        return 0;
    }
    struct lock_wait w = {.node = {.wait = {&acquire_ops, task, NULL, 0}}, .lock = l};
    /* Handed over, taken at once, or not at all. A cancellation that came after the hand-over stays
     * pending. */
    return pica__waiting_suspend(&w.node, acquire_commit, &l->guard);
}

int pica_lock_try_acquire(pica_lock *lock) {
    return take_free(lock_of(lock)) ? 0 : -EBUSY;
}

int pica_lock_release(pica_lock *lock) {
    struct lock *l = lock_of(lock);
    for (;;) {
        uint32_t expected = LOCKED;
        if (PICA__LIKELY(atomic_compare_exchange_strong_explicit(
                &l->state, &expected, 0, memory_order_release, memory_order_relaxed))) {
            PICA__MOVED(LOCK, LOCKED, 0);
            return 0;
        }
        if (expected == 0) {
            return -EINVAL;
        }
        pica__lock(&l->guard);
        pica__waiting *first = pica__waiters_pop(&l->waiters);
        if (first != NULL) {
            drop_waiters_bit(l);
            if (!pica__waiters_empty(&l->waiters)) {
                PICA__MOVED(LOCK, LOCKED | WAITERS, LOCKED | WAITERS);
            }
        }
        pica__unlock(&l->guard);
        if (first != NULL) {
            pica__wait_fire(&first->wait, 0);
            return 0;
        }
        /* The last waiter was cancelled meanwhile: the lock is to be freed after all, which is done
         * without the guard, or the next owner could free it under our unlock. */
    }
}

int pica_lock_locked(const pica_lock *lock) {
    return (atomic_load_explicit(&lock_of(lock)->state, memory_order_relaxed) & LOCKED) != 0;
}
