/* Locks, events and queues with cancellations: never two inside, no grant lost, nobody left behind, and a lock's
 * waiters in the order in which they came. */
#include "tests/workloads/workload.h"

enum { TASKS = 8, ROUNDS = 12, TOKENS = 2 };

static pica_lock lock;
static pica_event event;
static pica_queue tokens; /* a semaphore */
static atomic_int inside;
static atomic_int have_token;
static unsigned count;    /* under the lock */

/* Entered under the lock; the cancellation of whoever waits loses no grant. */
static int critical(void) {
    int rc = wl_choose(4) == 0 ? pica_lock_try_acquire(&lock) : pica_lock_acquire(&lock);
    if (rc < 0) {
        return rc == -EBUSY ? 0 : rc;
    }
    WL_EQ(atomic_fetch_add(&inside, 1), 0);
    count++;
    rc = wl_choose(3) == 0 ? pica_sleep(0.0005) : pica_yield();
    WL_EQ(atomic_fetch_sub(&inside, 1), 1);
    WL_EQ(pica_lock_release(&lock), 0);
    return rc;
}

static void put_token(void *token) {
    int rc;
    do {
        rc = pica_queue_put_nowait(&tokens, token);
    } while (wl_lacks(rc));
    WL_EQ(rc, 0);
}

static int with_token(void) {
    void *token;
    int rc = pica_queue_get(&tokens, &token);
    if (rc < 0) {
        return rc;
    }
    WL_CHECK(atomic_fetch_add(&have_token, 1) < TOKENS);
    rc = pica_yield();
    atomic_fetch_sub(&have_token, 1);
    put_token(token);
    return rc;
}

static int user(void *arg) {
    (void)arg;
    int rc = pica_event_wait(&event);
    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        rc = critical();
        rc = rc == 0 ? with_token() : rc;
    }
    return rc;
}

/* --- order --- */

static unsigned order[TASKS];
static unsigned ordered;

static int queues_up(void *arg) {
    WL_EQ(pica_lock_acquire(&lock), 0);
    order[ordered++] = (unsigned)(uintptr_t)arg;
    WL_EQ(pica_lock_release(&lock), 0);
    return 0;
}

static void check_order(void) {
    pica_task *task[TASKS];
    ordered = 0;
    WL_EQ(pica_lock_acquire(&lock), 0);
    for (unsigned i = 0; i < TASKS; i++) {
        task[i] = wl_task(queues_up, (void *)(uintptr_t)i, "waiter");
        while (wl_lacks(pica_sleep(0.05))) { /* it stands in line; on a real machine nearly surely, else surely */
        }
    }
    WL_EQ(pica_lock_release(&lock), 0);
    for (unsigned i = 0; i < TASKS; i++) {
        WL_EQ(wl_join(task[i]), 0);
    }
    for (unsigned i = 0; i < TASKS; i++) {
        WL_EQ(order[i], i);
    }
}

int wl_locks(void *arg) {
    (void)arg;
    pica_task *task[TASKS];
    bool cancelled[TASKS] = {false};
    pica_lock_init(&lock);
    pica_event_init(&event);
    pica_queue_init(&tokens, 0);
    count = 0;
    atomic_store(&inside, 0);
    atomic_store(&have_token, 0);
    for (uintptr_t i = 0; i < TOKENS; i++) {
        put_token((void *)(i + 1));
    }
    for (unsigned i = 0; i < TASKS; i++) {
        task[i] = wl_task(user, NULL, "user");
    }
    pica_event_set(&event);
    for (unsigned i = 0; i < TASKS; i += 3) {
        (void)pica_sleep(0.0005 * wl_choose(4));
        pica_task_cancel(task[i]);
        cancelled[i] = true;
    }
    for (unsigned i = 0; i < TASKS; i++) {
        int rc = wl_join(task[i]);
        WL_CHECK(rc == 0 || (cancelled[i] && rc == PICA_ECANCELED) || wl_lacks(rc));
    }
    WL_EQ(pica_lock_locked(&lock), 0);
    WL_EQ(pica_queue_size(&tokens), TOKENS);
    pica_queue_destroy(&tokens, NULL);
    check_order();
    wl_drain();
    return 0;
}
