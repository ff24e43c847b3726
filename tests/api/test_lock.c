/* pica_lock: order, hand-over, cancellation. */
#include <pica.h>

#include <pthread.h>

#include "tests/support/parked.h"
#include "tests/support/pt.h"

enum { MANY = 13 };

/* One task that takes the lock once. */
struct taker {
    pica_lock *lock;
    int id;
    int rc;      /* of its acquire */
    int pending; /* of a checkpoint behind it */
    /* Where it notes that it had the lock: written by whoever holds it. */
    int *order;
    int *taken;
};

static int take(void *arg) {
    struct taker *t = arg;
    t->rc = pica_lock_acquire(t->lock);
    t->pending = pica_checkpoint();
    if (t->rc == 0) {
        t->order[(*t->taken)++] = t->id;
        PT_EQ(pica_lock_release(t->lock), 0);
    }
    return 0;
}

/* As take, but keeps the lock. */
static int take_and_keep(void *arg) {
    struct taker *t = arg;
    t->rc = pica_lock_acquire(t->lock);
    t->pending = pica_checkpoint();
    return 0;
}

PT_TEST(without_runtime) {
    pica_lock lock = PICA_LOCK_INIT;
    pica_lock other;
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_EQ(pica_lock_release(&lock), -EINVAL);
    PT_EQ(pica_lock_acquire(&lock), PICA_ENOTASK);
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_EQ(pica_lock_try_acquire(&lock), 0);
    PT_EQ(pica_lock_locked(&lock), 1);
    PT_EQ(pica_lock_try_acquire(&lock), -EBUSY);
    PT_EQ(pica_lock_acquire(&lock), PICA_ENOTASK);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_EQ(pica_lock_release(&lock), -EINVAL);
    PT_EQ(pica_lock_try_acquire(&lock), 0);
    pica_lock_init(&other);
    PT_EQ(pica_lock_try_acquire(&other), 0);
}

PARKED_TEST(uncontended) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_lock_acquire(&lock), 0);
        PT_EQ(pica_lock_locked(&lock), 1);
        PT_EQ(pica_lock_try_acquire(&lock), -EBUSY);
        PT_EQ(pica_lock_release(&lock), 0);
        PT_EQ(pica_lock_locked(&lock), 0);
    }
    return 0;
}

static void in_callback(void *arg) {
    pica_lock *lock = arg;
    PT_EQ(pica_lock_acquire(lock), PICA_ENOTASK);
    PT_EQ(pica_lock_release(lock), 0);
    PT_EQ(pica_lock_try_acquire(lock), 0);
}

PARKED_TEST(callback_may_not_wait) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    PT_EQ(pica_lock_acquire(&lock), 0);
    PT_EQ(pica_call_soon(in_callback, &lock, NULL), 0);
    parked_settle(0);
    PT_EQ(pica_lock_release(&lock), 0);
    return 0;
}

/* Waiters on all loops get the lock in the order in which they came. */
PARKED_TEST(first_come_first_served) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    struct taker t[MANY];
    pica_task *task[MANY];
    int order[MANY];
    int taken = 0;
    PT_EQ(pica_lock_acquire(&lock), 0);
    for (int i = 0; i < MANY; i++) {
        t[i] = (struct taker){&lock, i, 1, 1, order, &taken};
        task[i] = parked((unsigned)i, take, &t[i]);
    }
    PT_EQ(taken, 0);
    PT_EQ(pica_lock_release(&lock), 0);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(t[i].rc, 0);
    }
    PT_EQ(taken, MANY);
    for (int i = 0; i < taken; i++) {
        PT_EQ(order[i], i);
    }
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_EQ(pica_lock_release(&lock), -EINVAL);
    return 0;
}

/* A released lock that somebody waits for is never free, and who comes later stands behind. */
PARKED_TEST(no_barging) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    int order[2];
    int taken = 0;
    struct taker t = {&lock, 7, 1, 1, order, &taken};
    PT_EQ(pica_lock_acquire(&lock), 0);
    pica_task *task = parked(0, take, &t);
    PT_EQ(pica_lock_release(&lock), 0);
    /* The waiter is pinned to this loop: it has not run yet. */
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    PT_EQ(pica_lock_locked(&lock), 1);
    PT_EQ(pica_lock_try_acquire(&lock), -EBUSY);
    PT_EQ(pica_lock_acquire(&lock), 0);
    PT_EQ(taken, 1);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_join(task, NULL), 0);
    return 0;
}

/* The one in the middle gives up: the others keep their places. */
PARKED_TEST(cancel_while_waiting) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    struct taker t[3];
    pica_task *task[3];
    for (int gone = 0; gone < 3; gone++) {
        int order[3] = {-1, -1, -1};
        int taken = 0;
        PT_EQ(pica_lock_acquire(&lock), 0);
        for (int i = 0; i < 3; i++) {
            t[i] = (struct taker){&lock, i, 1, 1, order, &taken};
            task[i] = parked((unsigned)i, take, &t[i]);
        }
        PT_EQ(pica_task_cancel(task[gone]), 1);
        PT_EQ(pica_join(task[gone], NULL), 0);
        PT_EQ(t[gone].rc, PICA_ECANCELED);
        PT_EQ(t[gone].pending, 0);
        PT_EQ(pica_lock_locked(&lock), 1);
        PT_EQ(pica_lock_release(&lock), 0);
        for (int i = 0; i < 3; i++) {
            if (i != gone) {
                PT_EQ(pica_join(task[i], NULL), 0);
                PT_EQ(t[i].rc, 0);
            }
        }
        PT_EQ(taken, 2);
        PT_EQ(order[0], gone == 0 ? 1 : 0);
        PT_EQ(order[1], gone == 2 ? 1 : 2);
        PT_EQ(pica_lock_locked(&lock), 0);
    }
    return 0;
}

/* After its only waiter has gone the lock is as before. */
PARKED_TEST(cancel_the_only_waiter) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    struct taker t = {&lock, 0, 1, 1, NULL, NULL};
    PT_EQ(pica_lock_acquire(&lock), 0);
    pica_task *task = parked(1, take, &t);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(t.rc, PICA_ECANCELED);
    PT_EQ(pica_lock_locked(&lock), 1);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_EQ(pica_lock_acquire(&lock), 0);
    PT_EQ(pica_lock_release(&lock), 0);
    return 0;
}

/* Granted, then cancelled before it could run: it has the lock, and is still to be cancelled. */
PARKED_TEST(cancel_after_the_grant) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    struct taker t = {&lock, 0, 1, 1, NULL, NULL};
    PT_EQ(pica_lock_acquire(&lock), 0);
    pica_task *task = parked(0, take_and_keep, &t);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(t.rc, 0);
    PT_EQ(t.pending, PICA_ECANCELED);
    PT_EQ(pica_lock_locked(&lock), 1);
    PT_EQ(pica_lock_release(&lock), 0);
    return 0;
}

/* Cancelled, then released before it could run: the lock goes to the next. */
PARKED_TEST(cancel_before_the_grant) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    int order[2];
    int taken = 0;
    struct taker t[2];
    pica_task *task[2];
    PT_EQ(pica_lock_acquire(&lock), 0);
    for (int i = 0; i < 2; i++) {
        t[i] = (struct taker){&lock, i, 1, 1, order, &taken};
        task[i] = parked(0, take, &t[i]);
    }
    PT_EQ(pica_task_cancel(task[0]), 1);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_join(task[0], NULL), 0);
    PT_EQ(pica_join(task[1], NULL), 0);
    PT_EQ(t[0].rc, PICA_ECANCELED);
    PT_EQ(t[1].rc, 0);
    PT_EQ(taken, 1);
    PT_EQ(order[0], 1);
    PT_EQ(pica_lock_locked(&lock), 0);
    return 0;
}

/* A cancellation that is pending does not spoil a free lock, and ends the wait for a held one. */
PARKED_TEST(cancel_before_the_call) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    pica_task *self = pica_current_task();
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_lock_acquire(&lock), 0);
    PT_EQ(pica_lock_acquire(&lock), PICA_ECANCELED);
    PT_EQ(pica_checkpoint(), 0);
    PT_EQ(pica_lock_locked(&lock), 1);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_lock_try_acquire(&lock), 0);
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_task_uncancel(self), 0);
    return 0;
}

PARKED_TEST(time_limit) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    pica_timeout timeout;
    PT_EQ(pica_timeout_enter(&timeout, 60), 0);
    PT_EQ(pica_timeout_exit(&timeout, pica_lock_acquire(&lock)), 0);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_timeout_enter(&timeout, i * 0.01), 0);
        PT_EQ(pica_timeout_exit(&timeout, pica_lock_acquire(&lock)), PICA_ETIMEDOUT);
        PT_EQ(pica_lock_locked(&lock), 1);
    }
    PT_EQ(pica_lock_release(&lock), 0);
    PT_EQ(pica_lock_acquire(&lock), 0);
    PT_EQ(pica_lock_release(&lock), 0);
    return 0;
}

static void *release_in_thread(void *arg) {
    PT_EQ(pica_lock_try_acquire(arg), -EBUSY);
    PT_EQ(pica_lock_release(arg), 0);
    return NULL;
}

/* A plain thread hands the lock to a task. */
PARKED_TEST(release_by_a_thread) {
    (void)arg;
    pica_lock lock = PICA_LOCK_INIT;
    struct taker t = {&lock, 0, 1, 1, NULL, NULL};
    PT_EQ(pica_lock_acquire(&lock), 0);
    for (unsigned i = 0; i < 8; i++) {
        pica_task *task = parked(i, take_and_keep, &t);
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, release_in_thread, &lock) == 0);
        PT_EQ(pica_join(task, NULL), 0);
        PT_EQ(t.rc, 0);
        PT_EQ(pthread_join(thread, NULL), 0);
        PT_EQ(pica_lock_locked(&lock), 1);
    }
    PT_EQ(pica_lock_release(&lock), 0);
    return 0;
}

PT_MAIN()
