/* pica_event: who is woken by a set, and who is not. */
#include <pica.h>

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/parked.h"
#include "tests/support/pt.h"

enum { MANY = 13 };

struct waiter {
    pica_event *event;
    int id;
    int rc;      /* of its wait; 1 as long as it waits */
    int pending; /* of a checkpoint behind it */
    int *order;  /* may be NULL */
    atomic_int *woken;
};

static int wait_once(void *arg) {
    struct waiter *w = arg;
    w->rc = pica_event_wait(w->event);
    w->pending = pica_checkpoint();
    if (w->order != NULL) {
        w->order[atomic_fetch_add(w->woken, 1)] = w->id;
    }
    return 0;
}

PT_TEST(without_runtime) {
    pica_event event = PICA_EVENT_INIT;
    pica_event other;
    PT_EQ(pica_event_is_set(&event), 0);
    pica_event_clear(&event);
    PT_EQ(pica_event_is_set(&event), 0);
    PT_EQ(pica_event_wait(&event), PICA_ENOTASK);
    pica_event_set(&event);
    pica_event_set(&event);
    PT_EQ(pica_event_is_set(&event), 1);
    PT_EQ(pica_event_wait(&event), PICA_ENOTASK);
    pica_event_clear(&event);
    PT_EQ(pica_event_is_set(&event), 0);
    pica_event_init(&other);
    PT_EQ(pica_event_is_set(&other), 0);
}

/* A wait for a set flag does not suspend, so it delivers no cancellation either. */
PARKED_TEST(wait_on_set) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    pica_task *self = pica_current_task();
    pica_event_set(&event);
    PT_EQ(pica_event_wait(&event), 0);
    PT_EQ(pica_event_wait(&event), 0);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_event_wait(&event), 0);
    PT_EQ(pica_checkpoint(), PICA_ECANCELED);
    PT_EQ(pica_task_uncancel(self), 0);
    return 0;
}

PARKED_TEST(set_wakes_all) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    struct waiter w[MANY];
    pica_task *task[MANY];
    for (int i = 0; i < MANY; i++) {
        w[i] = (struct waiter){&event, i, 1, 1, NULL, NULL};
        task[i] = parked((unsigned)i, wait_once, &w[i]);
    }
    PT_EQ(pica_event_is_set(&event), 0);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_task_cancelling(task[i]), 0);
        PT_EQ(pica_future_done(PICA_FUTURE(task[i])), 0);
    }
    pica_event_set(&event);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(w[i].rc, 0);
    }
    PT_EQ(pica_event_is_set(&event), 1);
    return 0;
}

PARKED_TEST(woken_in_order) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    struct waiter w[MANY];
    pica_task *task[MANY];
    int order[MANY];
    atomic_int woken = 0;
    for (int i = 0; i < MANY; i++) {
        w[i] = (struct waiter){&event, i, 1, 1, order, &woken};
        task[i] = parked(0, wait_once, &w[i]);
    }
    pica_event_set(&event);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    PT_EQ(woken, MANY);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(order[i], i);
    }
    return 0;
}

/* Those that wait at the moment of the set are woken, though none of them has run when the flag is
 * cleared; one that comes then is not. */
PARKED_TEST(set_then_clear) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    for (int round = 0; round < 3; round++) {
        struct waiter w[MANY];
        pica_task *task[MANY];
        for (int i = 0; i < MANY; i++) {
            w[i] = (struct waiter){&event, i, 1, 1, NULL, NULL};
            task[i] = parked((unsigned)i, wait_once, &w[i]);
        }
        pica_event_set(&event);
        pica_event_clear(&event);
        struct waiter late = {&event, 0, 1, 1, NULL, NULL};
        pica_task *late_task = parked(0, wait_once, &late);
        for (int i = 0; i < MANY; i++) {
            PT_EQ(pica_join(task[i], NULL), 0);
            PT_EQ(w[i].rc, 0);
        }
        PT_EQ(late.rc, 1);
        PT_EQ(pica_event_is_set(&event), 0);
        pica_event_set(&event);
        PT_EQ(pica_join(late_task, NULL), 0);
        PT_EQ(late.rc, 0);
        pica_event_clear(&event);
    }
    return 0;
}

PARKED_TEST(cancel_while_waiting) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    for (int gone = 0; gone < 3; gone++) {
        struct waiter w[3];
        pica_task *task[3];
        for (int i = 0; i < 3; i++) {
            w[i] = (struct waiter){&event, i, 1, 1, NULL, NULL};
            task[i] = parked((unsigned)i, wait_once, &w[i]);
        }
        PT_EQ(pica_task_cancel(task[gone]), 1);
        PT_EQ(pica_join(task[gone], NULL), 0);
        PT_EQ(w[gone].rc, PICA_ECANCELED);
        PT_EQ(w[gone].pending, 0);
        pica_event_set(&event);
        for (int i = 0; i < 3; i++) {
            if (i != gone) {
                PT_EQ(pica_join(task[i], NULL), 0);
                PT_EQ(w[i].rc, 0);
            }
        }
        pica_event_clear(&event);
    }
    /* Nothing of a waiter is left behind when the last one goes. */
    struct waiter w = {&event, 0, 1, 1, NULL, NULL};
    pica_task *task = parked(0, wait_once, &w);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    pica_event_set(&event);
    PT_EQ(pica_event_wait(&event), 0);
    return 0;
}

/* Waiting takes nothing, so the cancellation is not put off. */
PARKED_TEST(cancel_after_the_set) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    struct waiter w = {&event, 0, 1, 1, NULL, NULL};
    pica_task *task = parked(0, wait_once, &w);
    pica_event_set(&event);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(w.rc, PICA_ECANCELED);
    PT_EQ(w.pending, 0);
    return 0;
}

PARKED_TEST(cancel_before_the_call) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    pica_task *self = pica_current_task();
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_event_wait(&event), PICA_ECANCELED);
    PT_EQ(pica_checkpoint(), 0);
    pica_event_set(&event);
    PT_EQ(pica_event_wait(&event), 0);
    PT_EQ(pica_task_uncancel(self), 0);
    return 0;
}

PARKED_TEST(time_limit) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    pica_timeout timeout;
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_timeout_enter(&timeout, i * 0.01), 0);
        PT_EQ(pica_timeout_exit(&timeout, pica_event_wait(&event)), PICA_ETIMEDOUT);
    }
    pica_event_set(&event);
    PT_EQ(pica_timeout_enter(&timeout, 60), 0);
    PT_EQ(pica_timeout_exit(&timeout, pica_event_wait(&event)), 0);
    return 0;
}

static void *set_in_thread(void *arg) {
    pica_event_set(arg);
    pica_event_clear(arg);
    return NULL;
}

PARKED_TEST(set_by_a_thread) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    for (int round = 0; round < 4; round++) {
        struct waiter w[MANY];
        pica_task *task[MANY];
        pthread_t thread;
        for (int i = 0; i < MANY; i++) {
            w[i] = (struct waiter){&event, i, 1, 1, NULL, NULL};
            task[i] = parked((unsigned)i, wait_once, &w[i]);
        }
        PT_REQUIRE(pthread_create(&thread, NULL, set_in_thread, &event) == 0);
        for (int i = 0; i < MANY; i++) {
            PT_EQ(pica_join(task[i], NULL), 0);
            PT_EQ(w[i].rc, 0);
        }
        PT_EQ(pthread_join(thread, NULL), 0);
    }
    return 0;
}

static void set_in_callback(void *arg) {
    PT_EQ(pica_event_wait(arg), PICA_ENOTASK);
    pica_event_set(arg);
    PT_EQ(pica_event_wait(arg), PICA_ENOTASK);
}

PARKED_TEST(set_by_a_callback) {
    (void)arg;
    pica_event event = PICA_EVENT_INIT;
    PT_EQ(pica_call_later(0.001, set_in_callback, &event, NULL), 0);
    PT_EQ(pica_event_wait(&event), 0);
    return 0;
}

static int wait_for_it(void *arg) {
    return pica_event_wait(arg);
}

/* More than the queues of the workers hold. */
PARKED_TEST(thousands_wait) {
    (void)arg;
    enum { THOUSANDS = 3000 };
    static pica_task *task[THOUSANDS];
    pica_event event = PICA_EVENT_INIT;
    for (unsigned i = 0; i < THOUSANDS; i++) {
        task[i] = parked_spawn(i, wait_for_it, &event);
    }
    for (unsigned i = 0; i < parked_workers(); i++) {
        parked_settle(i);
    }
    pica_event_set(&event);
    pica_event_clear(&event);
    for (int i = 0; i < THOUSANDS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 0;
}

PT_MAIN()
