/* pica_wait_for: results, expiry, ignored cancellations, inner errors, cancellation from outside. */
#include <pica.h>

#include <math.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

static int forever(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static int yields_then(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : code(arg);
}

static void *code_of(int n) {
    return (void *)(intptr_t)n;
}

static void nothing_pends(void) {
    PT_EQ(pica_task_cancelling(pica_current_task()), 0);
    PT_EQ(pica_checkpoint(), 0);
    PT_EQ(pica_yield(), 0);
}

PT_TEST(outside_a_task) {
    pica_future *f = new_future();
    PT_EQ(pica_wait_for(f, 1, NULL), PICA_ENOTASK);
    PT_EQ(pica_wait_for(f, 0, NULL), PICA_ENOTASK);
    PT_EQ(pica_future_done(f), 0);
    signal_future(f);
    PT_EQ(pica_wait_for(f, 1, NULL), PICA_ENOTASK);
    pica_future_unref(f);
}

TASK_TEST(results) {
    (void)arg;
    static const double limits[] = {1e3, PICA_FOREVER};
    struct value v = {0};
    void *value = NULL;
    for (int i = 0; i < 2; i++) {
        pica_task *task = spawn(yields_then, code_of(9));
        PT_EQ(pica_wait_for(PICA_FUTURE(task), limits[i], NULL), 9);
        PT_EQ(pica_wait_for(PICA_FUTURE(task), 0, NULL), 9); /* done: its result, whatever the limit */
        PT_EQ(pica_wait_for(PICA_FUTURE(task), -1, NULL), 9);
        pica_task_unref(task);
        task = spawn(yields_then, code_of(-EIO));
        PT_EQ(pica_wait_for(PICA_FUTURE(task), limits[i], NULL), -EIO);
        pica_task_unref(task);
        pica_future *f = new_future();
        PT_EQ(pica_future_set_result(f, &v, value_destroy), 0);
        PT_EQ(pica_wait_for(f, limits[i], &value), 0);
        PT_CHECK(value == &v);
        pica_future_unref(f);
        f = new_future();
        PT_EQ(pica_future_cancel(f), 1);
        PT_EQ(pica_wait_for(f, limits[i], &value), PICA_ECANCELED);
        pica_future_unref(f);
        nothing_pends();
    }
    PT_EQ(v.destroyed, 2);
    return 0;
}

TASK_TEST(not_a_number) {
    (void)arg;
    pica_future *f = new_future();
    PT_EQ(pica_wait_for(f, NAN, NULL), -EINVAL);
    PT_EQ(pica_future_done(f), 0);
    signal_future(f);
    PT_EQ(pica_wait_for(f, NAN, NULL), -EINVAL);
    pica_future_unref(f);
    return 0;
}

TASK_TEST(expiry) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        pica_future *f = i == 0 ? new_future() : PICA_FUTURE(spawn(forever, NULL));
        double begin = pica_time();
        PT_EQ(pica_wait_for(f, 0.003, NULL), PICA_ETIMEDOUT);
        PT_CHECK(pica_time() - begin >= 0.003);
        PT_EQ(pica_future_cancelled(f), 1);
        nothing_pends();
        pica_future_unref(f);
    }
    return 0;
}

/* --- a limit of zero or less --- */

static int never_runs(void *arg) {
    (void)arg;
    PT_FAIL("a task that was cancelled before its first step ran");
    return 0;
}

FIFO_TEST(no_time_at_all) {
    (void)arg;
    static const double limits[] = {0, -1};
    for (int i = 0; i < 2; i++) {
        pica_future *f = new_future();
        PT_EQ(pica_wait_for(f, limits[i], NULL), PICA_ETIMEDOUT);
        PT_EQ(pica_future_cancelled(f), 1);
        pica_future_unref(f);
        pica_task *task = spawn(never_runs, NULL);
        PT_EQ(pica_wait_for(PICA_FUTURE(task), limits[i], NULL), PICA_ETIMEDOUT);
        PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 1);
        pica_task_unref(task);
        task = spawn_and_turn(forever, NULL);
        PT_EQ(pica_wait_for(PICA_FUTURE(task), limits[i], NULL), PICA_ETIMEDOUT);
        PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
        nothing_pends();
    }
    return 0;
}

TASK_TEST(no_time_at_all_free) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        pica_task *task = spawn(forever, NULL);
        PT_EQ(pica_wait_for(PICA_FUTURE(task), 0, NULL), PICA_ETIMEDOUT);
        PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
        nothing_pends();
    }
    return 0;
}

/* --- what the inner task does with it --- */

struct inner {
    pica_future *cancelled, *go;
    int code;
    bool ended;
    struct value *value;
};

static int ends_its_way(void *arg) {
    struct inner *i = arg;
    PT_EQ(forever(NULL), PICA_ECANCELED);
    signal_future(i->cancelled);
    PT_EQ(pica_await(i->go, NULL), 0);
    PT_EQ(pica_return(i->value, value_destroy), 0);
    i->ended = true;
    return i->code;
}

static void release(void *arg) {
    signal_future(arg);
}

static void cancelled_seen(pica_future *future, void *arg) {
    struct inner *i = arg;
    (void)future;
    PT_EQ(pica_call_later(0.002, release, i->go, NULL), 0);
}

/* It returns when the inner task has ended, however long that takes; its own result stands, unless it
 * is the cancellation. */
TASK_TEST(inner_decides) {
    (void)arg;
    static const int codes[] = {PICA_ECANCELED, 0, 6, -EPIPE, PICA_ETIMEDOUT};
    static const int expected[] = {PICA_ETIMEDOUT, 0, 6, -EPIPE, PICA_ETIMEDOUT};
    for (int k = 0; k < 5; k++) {
        struct inner i = {.cancelled = new_future(), .go = new_future(), .code = codes[k]};
        i.value = value_new(1);
        PT_EQ(pica_future_add_done_callback(i.cancelled, NULL, cancelled_seen, &i), 0);
        pica_task *task = spawn(ends_its_way, &i);
        PT_EQ(pica_yield(), 0);
        void *value = NULL;
        PT_EQ(pica_wait_for(PICA_FUTURE(task), 0.002, &value), expected[k]);
        PT_EQ(i.ended, 1);
        PT_CHECK(codes[k] < 0 || value == i.value);
        nothing_pends();
        PT_EQ(pica_join(task, NULL), codes[k]);
        pica_future_unref(i.cancelled);
        pica_future_unref(i.go);
    }
    return 0;
}

/* --- cancelled from outside --- */

struct outer {
    pica_future *begun;
    pica_future *future;
    int rc;
};

static int waits_for(void *arg) {
    struct outer *o = arg;
    signal_future(o->begun);
    o->rc = pica_wait_for(o->future, 1e3, NULL);
    PT_EQ(pica_checkpoint(), 0);
    return o->rc;
}

TASK_TEST(cancelled) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct outer o = {new_future(), i == 0 ? new_future() : PICA_FUTURE(spawn(forever, NULL)),
                          1};
        pica_task *task = spawn(waits_for, &o);
        PT_EQ(pica_await(o.begun, NULL), 0);
        PT_EQ(pica_task_cancel(task), 1);
        PT_EQ(pica_await(PICA_FUTURE(task), NULL), PICA_ECANCELED);
        PT_EQ(o.rc, PICA_ECANCELED);
        PT_EQ(pica_task_cancelling(task), 1);
        PT_EQ(pica_future_cancelled(o.future), 1);
        pica_task_unref(task);
        pica_future_unref(o.future);
        pica_future_unref(o.begun);
    }
    return 0;
}

/* A shield inside: the inner task survives the limit. */
static int shields(void *arg) {
    return pica_shield(arg, NULL);
}

TASK_TEST(shielded) {
    (void)arg;
    pica_future *f = new_future();
    pica_task *task = spawn(shields, f);
    PT_EQ(pica_wait_for(PICA_FUTURE(task), 0.001, NULL), PICA_ETIMEDOUT);
    PT_EQ(pica_future_done(f), 0);
    pica_task_unref(task);
    pica_future_unref(f);
    return 0;
}

/* --- completion against expiry --- */

static void completes(void *arg) {
    (void)pica_future_set_result(arg, NULL, NULL);
    pica_future_unref(arg);
}

/* The value is never lost: the call says time-out if and only if the future was cancelled. */
TASK_TEST_TIMEOUT(against_completion, 60) {
    (void)arg;
    int expired = 0;
    int done = 0;
    uint32_t seed = 5;
    for (int i = 0; i < 500; i++) {
        pica_future *f = new_future();
        seed = seed * 1664525 + 1013904223;
        double delay = (double)(seed >> 8) / (1 << 24) * 2e-4;
        PT_EQ(pica_call_later(delay, completes, pica_future_ref(f), NULL), 0);
        int rc = pica_wait_for(f, 1e-4, NULL);
        PT_EQ(rc, pica_future_cancelled(f) ? PICA_ETIMEDOUT : 0);
        PT_EQ(pica_checkpoint(), 0);
        PT_EQ(pica_task_cancelling(pica_current_task()), 0);
        expired += rc != 0;
        done += rc == 0;
        pica_future_unref(f);
    }
    PT_CHECK(expired > 0);
    PT_CHECK(done > 0);
    /* All of them have run when the last of them has: what the end of the run drops keeps its future. */
    pica_future *last = new_future();
    PT_EQ(pica_call_later(2e-4, completes, pica_future_ref(last), NULL), 0);
    PT_EQ(pica_await(last, NULL), 0);
    pica_future_unref(last);
    return 0;
}

PT_MAIN()
