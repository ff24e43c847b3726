/* Time-out scopes: whose limit it was, what is withdrawn at the exit, and that nothing comes later. */
#include <pica.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tests/support/tasks.h"

static int forever(void) {
    return pica_sleep(PICA_FOREVER);
}

/* The body is over, and no trace is left of the scope. */
static void nothing_pends(int count) {
    PT_EQ(pica_task_cancelling(pica_current_task()), count);
    PT_EQ(pica_checkpoint(), 0);
    PT_EQ(pica_yield(), 0);
}

PT_TEST(outside_a_task) {
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 1), PICA_ENOTASK);
    PT_EQ(pica_timeout_enter(&t, 0), PICA_ENOTASK);
}

static void enters_in_callback(void *arg) {
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 1), PICA_ENOTASK);
    signal_future(arg);
}

TASK_TEST(in_a_callback) {
    (void)arg;
    pica_future *told = new_future();
    PT_EQ(pica_call_soon(enters_in_callback, told, NULL), 0);
    PT_EQ(pica_await(told, NULL), 0);
    pica_future_unref(told);
    return 0;
}

TASK_TEST(arguments) {
    (void)arg;
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, NAN), -EINVAL);
    PT_EQ(pica_timeout_enter(&t, 1e3), 0);
    PT_EQ(pica_timeout_reschedule(&t, NAN), -EINVAL);
    PT_EQ(pica_timeout_expired(&t), 0);
    PT_EQ(pica_timeout_exit(&t, 3), 3);
    nothing_pends(0);
    return 0;
}

TASK_TEST(not_reached) {
    (void)arg;
    static const double limits[] = {1e3, 1e12, PICA_FOREVER};
    for (int i = 0; i < 3; i++) {
        pica_timeout t;
        PT_EQ(pica_timeout_enter(&t, limits[i]), 0);
        PT_EQ(pica_timeout_expired(&t), 0);
        PT_EQ(pica_sleep(1e-4), 0);
        PT_EQ(pica_timeout_exit(&t, i - 1), i - 1); /* whatever the body's result is */
        PT_EQ(pica_timeout_expired(&t), 0);
        nothing_pends(0);
        PT_EQ(pica_timeout_enter(&t, limits[i]), 0);
        PT_EQ(pica_timeout_exit(&t, PICA_ECANCELED), PICA_ECANCELED);
        nothing_pends(0);
    }
    return 0;
}

TASK_TEST(reached) {
    (void)arg;
    static const double limits[] = {1e-6, 1e-3, 0.01};
    for (int i = 0; i < 3; i++) {
        pica_timeout t;
        double begin = pica_time();
        PT_EQ(pica_timeout_enter(&t, limits[i]), 0);
        int rc = forever();
        PT_EQ(rc, PICA_ECANCELED);
        PT_CHECK(pica_time() - begin >= limits[i]);
        PT_EQ(pica_task_cancelling(pica_current_task()), 1);
        PT_EQ(pica_timeout_expired(&t), 1);
        PT_EQ(pica_timeout_exit(&t, rc), PICA_ETIMEDOUT);
        PT_EQ(pica_timeout_expired(&t), 1);
        nothing_pends(0);
    }
    return 0;
}

/* It cancels whatever the task waits for, and that alone. */
static int waits(void *arg) {
    return pica_await(arg, NULL);
}

TASK_TEST(reaches_the_awaited) {
    (void)arg;
    for (int how = 0; how < 5; how++) {
        pica_future *f = new_future();
        pica_task *task = spawn(waits, f);
        pica_future *member[2] = {PICA_FUTURE(task), f};
        pica_timeout t;
        PT_EQ(pica_timeout_enter(&t, 0.002), 0);
        int rc = how == 0   ? pica_await(f, NULL)
                 : how == 1 ? pica_await(PICA_FUTURE(task), NULL)
                 : how == 2 ? pica_gather(2, member, PICA_RETURN_EXCEPTIONS)
                 : how == 3 ? pica_shield(PICA_FUTURE(task), NULL)
                            : pica_wait(2, member, PICA_FOREVER, PICA_ALL_COMPLETED);
        PT_EQ(rc, PICA_ECANCELED);
        PT_EQ(pica_timeout_exit(&t, rc), PICA_ETIMEDOUT);
        nothing_pends(0);
        PT_EQ(pica_future_cancelled(f), how < 3);
        (void)pica_future_set_result(f, NULL, NULL);
        PT_EQ(pica_join(task, NULL), how < 3 ? PICA_ECANCELED : 0);
        pica_future_unref(f);
    }
    return 0;
}

/* A limit of zero or less: at the next suspension, not before. */
TASK_TEST(already_past) {
    (void)arg;
    static const double limits[] = {0, -1, -PICA_FOREVER};
    pica_future *done = new_future();
    signal_future(done);
    for (int i = 0; i < 3; i++) {
        pica_timeout t;
        PT_EQ(pica_timeout_enter(&t, limits[i]), 0);
        PT_EQ(pica_await(done, NULL), 0); /* no suspension */
        PT_EQ(pica_timeout_expired(&t), 1);
        int rc = i == 0 ? pica_sleep(0) : i == 1 ? forever() : pica_yield();
        PT_EQ(pica_timeout_exit(&t, rc), PICA_ETIMEDOUT);
        nothing_pends(0);
        /* The body did not suspend at all: it has won. */
        PT_EQ(pica_timeout_enter(&t, limits[i]), 0);
        PT_EQ(pica_timeout_exit(&t, 5), 5);
        nothing_pends(0);
        PT_EQ(pica_timeout_enter(&t, limits[i]), 0);
        PT_EQ(pica_timeout_exit(&t, -EIO), -EIO);
        nothing_pends(0);
    }
    pica_future_unref(done);
    return 0;
}

/* The body ends in something else than the cancellation: that stands. */
TASK_TEST(other_results_stand) {
    (void)arg;
    static const int codes[] = {0, 7, -EIO, PICA_ETIMEDOUT, PICA_ECLOSED};
    for (int i = 0; i < 5; i++) {
        pica_timeout t;
        PT_EQ(pica_timeout_enter(&t, 1e-4), 0);
        PT_EQ(forever(), PICA_ECANCELED);
        PT_EQ(pica_timeout_exit(&t, codes[i]), codes[i]);
        nothing_pends(0);
    }
    return 0;
}

TASK_TEST(reschedule) {
    (void)arg;
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 0.001), 0);
    PT_EQ(pica_timeout_reschedule(&t, 1e3), 0);
    PT_EQ(pica_sleep(0.003), 0);
    PT_EQ(pica_timeout_reschedule(&t, PICA_FOREVER), 0);
    PT_EQ(pica_yield(), 0);
    double begin = pica_time();
    PT_EQ(pica_timeout_reschedule(&t, 0.002), 0);
    PT_EQ(forever(), PICA_ECANCELED);
    PT_CHECK(pica_time() - begin >= 0.002);
    PT_EQ(pica_timeout_reschedule(&t, 1), PICA_EINVALSTATE);
    PT_EQ(pica_timeout_exit(&t, PICA_ECANCELED), PICA_ETIMEDOUT);
    nothing_pends(0);

    PT_EQ(pica_timeout_enter(&t, PICA_FOREVER), 0);
    PT_EQ(pica_timeout_reschedule(&t, 0), 0);
    PT_EQ(pica_yield(), PICA_ECANCELED);
    PT_EQ(pica_timeout_exit(&t, PICA_ECANCELED), PICA_ETIMEDOUT);
    nothing_pends(0);
    return 0;
}

/* --- scopes in scopes --- */

/* Expires after `limit`, neither earlier nor much later. */
static void expires_in_time(double limit) {
    pica_timeout t;
    double begin = pica_time();
    PT_EQ(pica_timeout_enter(&t, limit), 0);
    PT_EQ(pica_timeout_exit(&t, forever()), PICA_ETIMEDOUT);
    PT_CHECK(pica_time() - begin >= limit);
    PT_CHECK(pica_time() - begin < limit + 10);
    nothing_pends(0);
}

/* What an earlier scope left behind neither ends a later one too early nor keeps it. */
TASK_TEST(one_after_the_other) {
    (void)arg;
    static const double before[] = {0.02, 1e3, 0.02, 1e3, PICA_FOREVER};
    for (int i = 0; i < 5; i++) {
        pica_timeout t, inner;
        PT_EQ(pica_timeout_enter(&t, before[i]), 0);
        PT_EQ(pica_timeout_enter(&inner, before[4 - i]), 0);
        PT_EQ(pica_timeout_exit(&inner, 1), 1);
        PT_EQ(pica_timeout_exit(&t, 2), 2);
        if (i % 2 == 0) {
            (void)pica_yield(); /* with PICA_DEBUG=migrate, to another loop */
        }
        expires_in_time(0.05);
        PT_EQ(pica_timeout_enter(&t, before[i]), 0);
        PT_EQ(pica_timeout_reschedule(&t, 1e3), 0);
        expires_in_time(0.03);
        PT_EQ(pica_timeout_exit(&t, 3), 3);
        nothing_pends(0);
    }
    return 0;
}

/* A task that is awaited before it began runs on the stack of the one that awaits it: each has limits of its own. */
static int limits_within(void *arg) {
    int depth = *(const int *)arg;
    pica_timeout t;
    for (int i = 0; i < 2 && depth > 0; i++) { /* with a scope before the other task's, around it and behind it */
        int less = depth - 1;
        double begin = pica_time();
        double limit = depth == 1 ? 0.1 : 0.6; /* longer than the other task takes */
        PT_EQ(pica_timeout_enter(&t, limit), 0);
        PT_EQ(pica_join(spawn(limits_within, &less), NULL), 0);
        PT_EQ(pica_timeout_exit(&t, forever()), PICA_ETIMEDOUT);
        PT_CHECK(pica_time() - begin >= limit);
        expires_in_time(0.01);
    }
    PT_EQ(pica_timeout_enter(&t, 1e3), 0);
    PT_EQ(pica_timeout_reschedule(&t, 0.01), 0);
    PT_EQ(pica_timeout_exit(&t, forever()), PICA_ETIMEDOUT);
    expires_in_time(0.01);
    return 0;
}

TASK_TEST(tasks_on_one_stack) {
    (void)arg;
    for (int depth = 0; depth < 3; depth++) {
        PT_EQ(pica_join(spawn(limits_within, &depth), NULL), 0);
    }
    return 0;
}

/* The end of a scope that was not reached wakes nobody: one sleep is one sleep. */
static void sleeps_once(void) {
    struct pica_runtime_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    if (pica_runtime_workers(pica_current_runtime()) != 1) {
        return; /* others sleep and wake, too */
    }
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &before), 0);
    PT_EQ(before.timers, 0);
    PT_EQ(pica_sleep(0.1), 0);
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &after), 0);
    PT_EQ(after.parks - before.parks, 1);
}

TASK_TEST(nobody_wakes_for_a_scope_that_was_left) {
    (void)arg;
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 0.05), 0);
    PT_EQ(pica_timeout_exit(&t, 0), 0);
    sleeps_once();
    return 0;
}

/* So many scopes, one after the other, that the loop does not ask the clock for each: their limit must neither end
 * early nor much later, and what they leave behind wakes nobody. */
static void be_busy(double limit, bool reschedule) {
    pica_timeout t;
    double begin = pica_time();
    PT_EQ(pica_timeout_enter(&t, limit), 0);
    for (int i = 0; i < 2000 || pica_time() - begin < 0.005; i++) {
        if (reschedule) {
            PT_EQ(pica_timeout_reschedule(&t, limit), 0);
        } else {
            PT_EQ(pica_timeout_exit(&t, i), i);
            PT_EQ(pica_timeout_enter(&t, limit), 0);
        }
        if (i % 100 == 0) {
            PT_EQ(pica_yield(), 0);
        }
    }
    PT_EQ(pica_timeout_exit(&t, 7), 7);
}

TASK_TEST(long_limits_of_a_busy_loop) {
    (void)arg;
    for (int reschedule = 0; reschedule < 2; reschedule++) {
        be_busy(1.0, reschedule != 0);
        expires_in_time(1.0);
        be_busy(1.5, reschedule != 0);
        expires_in_time(0.05); /* a shorter one than the loop is used to */
        be_busy(2.0, reschedule != 0);
        expires_in_time(1.0);
    }
    return 0;
}

TASK_TEST(nobody_wakes_for_busy_scopes_that_were_left) {
    (void)arg;
    be_busy(2.0, false); /* the look would come after 1/64 of it */
    sleeps_once();
    return 0;
}

struct pokes {
    pica_loop *loop;
    pica_event *end;
};

static void poked(void *arg) {
    (void)arg;
}

static void *poke_often(void *arg) {
    struct pokes *pokes = arg;
    for (int i = 0; i < 12; i++) {
        usleep(3000); /* so that the loop sleeps in between */
        PT_EQ(pica_call_soon_threadsafe(pokes->loop, poked, NULL, NULL), 0);
    }
    pica_event_set(pokes->end);
    return NULL;
}

/* Waits that ended before their limit may have left that to the kernel; a loop that does not wait any more must look
 * at the clock itself. */
TASK_TEST(expires_while_the_loop_never_waits) {
    (void)arg;
    pica_event end = PICA_EVENT_INIT;
    struct pokes pokes = {pica_current_loop(), &end};
    pica_timeout t;
    pthread_t thread;
    PT_EQ(pica_timeout_enter(&t, 0.3), 0);
    PT_EQ(pthread_create(&thread, NULL, poke_often, &pokes), 0);
    PT_EQ(pica_timeout_exit(&t, pica_event_wait(&end)), 0);
    PT_EQ(pthread_join(thread, NULL), 0);
    PT_EQ(pica_timeout_enter(&t, 0.4), 0);
    double patience = pica_time() + 20;
    int rc = 0;
    while (rc == 0 && pica_time() < patience) {
        rc = pica_yield();
    }
    PT_EQ(pica_timeout_exit(&t, rc), PICA_ETIMEDOUT);
    nothing_pends(0);
    return 0;
}

TASK_TEST(inner_expires) {
    (void)arg;
    pica_timeout outer, inner;
    PT_EQ(pica_timeout_enter(&outer, 1e3), 0);
    PT_EQ(pica_timeout_enter(&inner, 1e-4), 0);
    int rc = pica_timeout_exit(&inner, forever());
    PT_EQ(rc, PICA_ETIMEDOUT);
    PT_EQ(pica_timeout_expired(&outer), 0);
    PT_EQ(pica_sleep(1e-4), 0);
    PT_EQ(pica_timeout_exit(&outer, 1), 1);
    nothing_pends(0);
    return 0;
}

TASK_TEST(outer_expires) {
    (void)arg;
    pica_timeout outer, inner;
    PT_EQ(pica_timeout_enter(&outer, 1e-4), 0);
    PT_EQ(pica_timeout_enter(&inner, 1e3), 0);
    int rc = pica_timeout_exit(&inner, forever());
    PT_EQ(rc, PICA_ECANCELED);
    PT_EQ(pica_timeout_expired(&inner), 0);
    PT_EQ(pica_timeout_exit(&outer, rc), PICA_ETIMEDOUT);
    nothing_pends(0);
    return 0;
}

/* Both have expired before the body notices: as in asyncio it is the outer one that converts. */
TASK_TEST(both_expire) {
    (void)arg;
    pica_timeout outer, inner;
    PT_EQ(pica_timeout_enter(&outer, 0), 0);
    PT_EQ(pica_timeout_enter(&inner, 0), 0);
    int rc = pica_timeout_exit(&inner, pica_yield());
    PT_EQ(pica_timeout_expired(&inner), 1);
    PT_EQ(pica_timeout_exit(&outer, rc), PICA_ETIMEDOUT);
    nothing_pends(0);

    /* The outer one expires only when the inner one has been noticed. */
    PT_EQ(pica_timeout_enter(&outer, 1e3), 0);
    PT_EQ(pica_timeout_enter(&inner, 0), 0);
    rc = pica_yield();
    PT_EQ(pica_timeout_reschedule(&outer, 0), 0);
    rc = pica_timeout_exit(&inner, rc);
    PT_EQ(rc, PICA_ECANCELED);
    PT_EQ(pica_timeout_exit(&outer, rc), PICA_ETIMEDOUT);
    nothing_pends(0);

    /* The inner scope has returned its time-out when the outer one expires: a new cancellation. */
    PT_EQ(pica_timeout_enter(&outer, 1e3), 0);
    PT_EQ(pica_timeout_enter(&inner, 0), 0);
    PT_EQ(pica_timeout_exit(&inner, pica_yield()), PICA_ETIMEDOUT);
    PT_EQ(pica_timeout_reschedule(&outer, 0), 0);
    PT_EQ(pica_yield(), PICA_ECANCELED);
    PT_EQ(pica_timeout_exit(&outer, PICA_ECANCELED), PICA_ETIMEDOUT);
    nothing_pends(0);
    return 0;
}

/* A scope inside code that cleans up after another one. */
TASK_TEST(in_cleanup) {
    (void)arg;
    pica_timeout outer, inner;
    PT_EQ(pica_timeout_enter(&outer, 0), 0);
    int rc = pica_yield();
    PT_EQ(pica_timeout_enter(&inner, 1e-4), 0);
    PT_EQ(pica_timeout_exit(&inner, forever()), PICA_ETIMEDOUT);
    PT_EQ(pica_timeout_enter(&inner, 1e3), 0);
    PT_EQ(pica_sleep(1e-4), 0);
    PT_EQ(pica_timeout_exit(&inner, 0), 0);
    PT_EQ(pica_timeout_exit(&outer, rc), PICA_ETIMEDOUT);
    nothing_pends(0);
    return 0;
}

/* --- against cancellations of others --- */

TASK_TEST(foreign_cancel) {
    (void)arg;
    pica_task *self = pica_current_task();
    pica_timeout t;
    /* The limit was not reached. */
    PT_EQ(pica_timeout_enter(&t, 1e3), 0);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_timeout_exit(&t, pica_yield()), PICA_ECANCELED);
    PT_EQ(pica_timeout_expired(&t), 0);
    nothing_pends(1);
    PT_EQ(pica_task_uncancel(self), 0);

    /* It was reached as well: the cancellation stands, and the scope withdraws its own request. */
    for (int first = 0; first < 2; first++) {
        PT_EQ(pica_timeout_enter(&t, first == 0 ? 0 : 1e3), 0);
        PT_EQ(pica_task_cancel(self), 1);
        if (first == 1) {
            PT_EQ(pica_timeout_reschedule(&t, 0), 0);
        }
        PT_EQ(pica_task_cancelling(self), 2);
        PT_EQ(pica_timeout_exit(&t, pica_yield()), PICA_ECANCELED);
        nothing_pends(1);
        PT_EQ(pica_task_uncancel(self), 0);
    }

    /* A foreign one that the body never met is still pending behind the scope. */
    PT_EQ(pica_timeout_enter(&t, 0), 0);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_timeout_exit(&t, 2), 2);
    PT_EQ(pica_yield(), PICA_ECANCELED);
    nothing_pends(1);
    PT_EQ(pica_task_uncancel(self), 0);
    return 0;
}

/* A task that was cancelled and went on has a count already: a scope goes by what it found. */
TASK_TEST(after_a_cancellation) {
    (void)arg;
    pica_task *self = pica_current_task();
    pica_timeout t;
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_yield(), PICA_ECANCELED);
    PT_EQ(pica_timeout_enter(&t, 1e-4), 0);
    PT_EQ(pica_timeout_exit(&t, forever()), PICA_ETIMEDOUT);
    nothing_pends(1);
    PT_EQ(pica_timeout_enter(&t, 0), 0);
    PT_EQ(pica_timeout_exit(&t, 2), 2); /* never met */
    nothing_pends(1);
    /* The body's code is that of a cancellation, but not of ours, which it never met. */
    PT_EQ(pica_timeout_enter(&t, 0), 0);
    PT_EQ(pica_timeout_exit(&t, PICA_ECANCELED), PICA_ETIMEDOUT);
    nothing_pends(1);
    PT_EQ(pica_task_uncancel(self), 0);

    /* A pending one from before the scope does not become a time-out, */
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_timeout_enter(&t, 0), 0);
    PT_EQ(pica_timeout_exit(&t, pica_yield()), PICA_ECANCELED);
    nothing_pends(1);
    PT_EQ(pica_task_uncancel(self), 0);
    /* nor is it dropped with the scope's own. */
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_timeout_enter(&t, 0), 0);
    PT_EQ(pica_timeout_exit(&t, 2), 2);
    PT_EQ(pica_yield(), PICA_ECANCELED);
    nothing_pends(1);
    PT_EQ(pica_task_uncancel(self), 0);
    return 0;
}

struct victim {
    pica_future *begun;
    int rc;
    int count;
};

static int is_cancelled_in_scope(void *arg) {
    struct victim *v = arg;
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 1e3), 0);
    signal_future(v->begun);
    v->rc = pica_timeout_exit(&t, forever());
    v->count = pica_task_cancelling(pica_current_task());
    return v->rc;
}

TASK_TEST(cancelled_from_outside) {
    (void)arg;
    struct victim v = {new_future(), 1, -1};
    pica_task *task = spawn(is_cancelled_in_scope, &v);
    PT_EQ(pica_await(v.begun, NULL), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    PT_EQ(v.rc, PICA_ECANCELED);
    PT_EQ(v.count, 1);
    pica_future_unref(v.begun);
    return 0;
}

/* --- expiry against exit --- */

enum { SCOPES = 400, TASKS = 6 };

struct racer {
    uint32_t seed;
    int expired, ended;
};

static double jitter(struct racer *r) {
    r->seed = r->seed * 1664525 + 1013904223;
    return (double)(r->seed >> 8) / (1 << 24) * 2e-4;
}

/* The limit lies close to the body's end: either may come first, and after the exit nothing does. */
static int races(void *arg) {
    struct racer *r = arg;
    for (int i = 0; i < SCOPES; i++) {
        pica_timeout outer, inner;
        double limit = jitter(r);
        double body = jitter(r);
        PT_EQ(pica_timeout_enter(&outer, 1e3), 0);
        PT_EQ(pica_timeout_enter(&inner, limit), 0);
        int rc = pica_sleep(body);
        if (i % 4 == 0) {
            (void)pica_timeout_reschedule(&inner, jitter(r));
        }
        PT_CHECK(rc == 0 || rc == PICA_ECANCELED);
        int result = pica_timeout_exit(&inner, rc);
        PT_EQ(result, rc == 0 ? 0 : PICA_ETIMEDOUT);
        PT_EQ(pica_checkpoint(), 0);
        PT_EQ(i % 3 == 0 ? pica_sleep(1e-6) : pica_yield(), 0);
        PT_EQ(pica_timeout_exit(&outer, result), result);
        PT_EQ(pica_task_cancelling(pica_current_task()), 0);
        r->expired += result != 0;
        r->ended += result == 0;
    }
    return 0;
}

TASK_TEST_TIMEOUT(expiry_against_exit, 60) {
    (void)arg;
    struct racer r[TASKS];
    pica_task *task[TASKS];
    int expired = 0;
    int ended = 0;
    for (unsigned i = 0; i < TASKS; i++) {
        r[i] = (struct racer){.seed = 17 * i + 1};
        task[i] = i % 2 == 0 ? spawn(races, &r[i]) : spawn_pinned(i, races, &r[i]);
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        expired += r[i].expired;
        ended += r[i].ended;
    }
    PT_CHECK(expired > 0);
    PT_CHECK(ended > 0);
    return 0;
}

/* The same while a plain thread cancels too: each of its requests is met exactly once, and the scope's
 * never behind its exit. */
struct hunted {
    pica_task *task;
    atomic_int sent;
    atomic_bool stop;
    int met;
};

static void *hunts(void *arg) {
    struct hunted *h = arg;
    while (!atomic_load(&h->stop)) {
        if (atomic_load(&h->sent) == 0) {
            PT_EQ(pica_task_cancel(h->task), 1);
            atomic_store(&h->sent, 1);
        }
    }
    return NULL;
}

static int is_hunted(void *arg) {
    struct hunted *h = arg;
    pthread_t thread;
    pica_task *self = pica_current_task();
    struct racer r = {.seed = 99};
    h->task = self;
    PT_REQUIRE(pthread_create(&thread, NULL, hunts, h) == 0);
    for (int i = 0; i < SCOPES || h->met < 20; i++) { /* the thread may need a while to begin */
        pica_timeout t;
        PT_EQ(pica_timeout_enter(&t, jitter(&r)), 0);
        int rc = pica_timeout_exit(&t, pica_sleep(jitter(&r)));
        PT_CHECK(rc == 0 || rc == PICA_ECANCELED || rc == PICA_ETIMEDOUT);
        bool met = rc == PICA_ECANCELED;
        /* What is still pending behind the exit is the thread's. */
        if (!met) {
            met = pica_checkpoint() == PICA_ECANCELED;
        }
        if (met) {
            while (atomic_load(&h->sent) == 0) {
                (void)pica_yield(); /* it is about to say so */
            }
            h->met++;
            PT_EQ(pica_task_cancelling(self), 1);
            PT_EQ(pica_task_uncancel(self), 0);
            PT_EQ(pica_checkpoint(), 0);
            atomic_store(&h->sent, 0);
        }
    }
    atomic_store(&h->stop, true);
    pthread_join(thread, NULL);
    if (pica_task_cancelling(self) == 1) {
        PT_EQ(pica_task_uncancel(self), 0);
    }
    return 0;
}

TASK_TEST_TIMEOUT(expiry_against_cancel, 60) {
    struct hunted h = {.met = 0};
    (void)arg;
    return pica_join(spawn_pinned(1, is_hunted, &h), NULL);
}

PT_MAIN()
