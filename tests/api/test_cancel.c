/* Cancellation: when it is delivered, that it is delivered once, what it is passed on to, and what
 * happens to values. As in asyncio, with codes for exceptions. */
#include <pica.h>

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

static int forever(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

static int never_runs(void *arg) {
    (void)arg;
    PT_FAIL("a task that was cancelled before its first step ran");
    return 0;
}

static int waits(void *arg) {
    return pica_await(arg, NULL);
}

static int ok(void *arg) {
    (void)arg;
    return 0;
}

static void expect_cancelled(pica_task *task) {
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), PICA_ECANCELED);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 1);
    PT_EQ(pica_future_result(PICA_FUTURE(task), NULL), PICA_ECANCELED);
    PT_CHECK(pica_future_exception(PICA_FUTURE(task)) == NULL);
    PT_EQ(pica_task_cancelling(pica_current_task()), 0); /* it was not us */
    pica_task_unref(task);
}

/* --- requests --- */

TASK_TEST(suspended) {
    (void)arg;
    pica_task *task = spawn(forever, NULL);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_task_cancelling(task), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_task_cancelling(task), 1);
    pica_task_ref(task);
    expect_cancelled(task);
    /* It has ended: no request is recorded, none withdrawn. */
    PT_EQ(pica_task_cancel(task), 0);
    PT_EQ(pica_future_cancel(PICA_FUTURE(task)), 0);
    PT_EQ(pica_task_cancelling(task), 1);
    PT_EQ(pica_task_uncancel(task), 1);
    PT_EQ(pica_task_cancelling(task), 1);
    pica_task_unref(task);
    return 0;
}

TASK_TEST(as_future) {
    (void)arg;
    pica_task *task = spawn(forever, NULL);
    PT_EQ(pica_future_cancel(PICA_FUTURE(task)), 1);
    PT_EQ(pica_task_cancelling(task), 1);
    expect_cancelled(task);
    return 0;
}

TASK_TEST(after_the_end) {
    (void)arg;
    pica_task *task = spawn(ok, NULL);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
    PT_EQ(pica_task_cancel(task), 0);
    PT_EQ(pica_task_cancelling(task), 0);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 0);
    PT_EQ(pica_join(task, NULL), 0);
    return 0;
}

TASK_TEST(at_a_yield) {
    (void)arg;
    pica_task *self = pica_current_task();
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_yield(), PICA_ECANCELED);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_task_uncancel(self), 0);
    return 0;
}

/* Before its first step: the body never runs, however the task comes to its turn. */
FIFO_TEST(before_first_step) {
    (void)arg;
    pica_task *awaited = spawn(never_runs, NULL);
    PT_EQ(pica_task_cancel(awaited), 1);
    PT_EQ(pica_future_done(PICA_FUTURE(awaited)), 0);
    expect_cancelled(awaited);
    pica_task *queued = spawn(never_runs, NULL);
    PT_EQ(pica_task_cancel(queued), 1);
    PT_EQ(pica_task_cancel(queued), 1);
    turn();
    PT_EQ(pica_future_done(PICA_FUTURE(queued)), 1);
    PT_EQ(pica_task_cancelling(queued), 2);
    expect_cancelled(queued);
    return 0;
}

/* On one worker a free task cannot begin before its creator suspends, so this is the await in place. */
TASK_TEST(before_first_step_in_place) {
    (void)arg;
    if (pica_runtime_workers(pica_current_runtime()) != 1) {
        return 0;
    }
    for (int i = 0; i < 200; i++) {
        pica_task *task = spawn(never_runs, NULL);
        PT_EQ(pica_task_cancel(task), 1);
        expect_cancelled(task);
    }
    return 0;
}

/* Withdrawn before it was delivered: the task goes on as if nothing had been. */
FIFO_TEST(uncancel_before_delivery) {
    (void)arg;
    pica_task *task = spawn(ok, NULL);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_task_uncancel(task), 1);
    PT_EQ(pica_task_uncancel(task), 0);
    PT_EQ(pica_task_uncancel(task), 0); /* never below */
    PT_EQ(pica_join(task, NULL), 0);

    pica_task *self = pica_current_task();
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_task_uncancel(self), 1); /* one request is left, and its delivery pending */
    PT_EQ(pica_checkpoint(), PICA_ECANCELED);
    PT_EQ(pica_task_uncancel(self), 0);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_task_uncancel(self), 0);
    PT_EQ(pica_checkpoint(), 0);
    turn();
    return 0;
}

/* --- self-cancel --- */

/* Each suspending call delivers it, once; what does not suspend does not. */
TASK_TEST(delivered_by_every_call) {
    (void)arg;
    pica_task *self = pica_current_task();
    for (int i = 0; i < 10; i++) {
        pica_future *pending = new_future();
        pica_future *done = new_future();
        pica_task *other = spawn(ok, NULL);
        pica_future *of_other = PICA_FUTURE(other);
        signal_future(done);
        PT_EQ(pica_task_cancel(self), 1);
        PT_EQ(pica_task_cancelling(self), 1);
        /* No suspension, no delivery. */
        PT_EQ(pica_await(done, NULL), 0);
        PT_EQ(pica_shield(done, NULL), 0);
        PT_EQ(pica_wait_for(done, 1.0, NULL), 0);
        PT_EQ(pica_task_cancelling(self), 1);
        int rc = -1;
        switch (i) {
        case 0:
            rc = pica_yield();
            break;
        case 1:
            rc = pica_sleep(1e3);
            break;
        case 2:
            rc = pica_sleep(0);
            break;
        case 3:
            rc = pica_await(pending, NULL);
            PT_EQ(pica_future_cancelled(pending), 1); /* it was passed on */
            break;
        case 4:
            rc = pica_shield(pending, NULL);
            PT_EQ(pica_future_done(pending), 0);
            break;
        case 5:
            rc = pica_wait_for(pending, 1e3, NULL);
            PT_EQ(pica_future_cancelled(pending), 1);
            break;
        case 6:
            rc = pica_gather(1, &pending, 0);
            PT_EQ(pica_future_cancelled(pending), 1);
            break;
        case 7:
            rc = pica_wait(1, &pending, 1e3, PICA_ALL_COMPLETED);
            PT_EQ(pica_future_done(pending), 0);
            break;
        case 8:
            rc = pica_wait_all_tasks(0);
            break;
        default:
            rc = pica_checkpoint();
        }
        PT_EQ(rc, PICA_ECANCELED);
        PT_EQ(pica_checkpoint(), 0);
        PT_EQ(pica_yield(), 0);
        PT_EQ(pica_task_cancelling(self), 1); /* caught, not withdrawn */
        PT_EQ(pica_task_uncancel(self), 0);
        PT_EQ(pica_await(of_other, NULL), 0);
        pica_task_unref(other);
        pica_future_unref(pending);
        pica_future_unref(done);
    }
    return 0;
}

struct ending {
    struct value *value;
    int code;
    bool suspend;
};

static int cancels_itself_and_ends(void *arg) {
    struct ending *e = arg;
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_return(e->value, value_destroy), 0);
    if (e->suspend) {
        PT_EQ(pica_yield(), PICA_ECANCELED);
    }
    return e->code;
}

/* Asked to end and never having noticed: a normal end becomes a cancelled one, an error stays. */
TASK_TEST(never_delivered) {
    (void)arg;
    struct ending e[3] = {{value_new(1), .code = 0},
                          {value_new(1), .code = 9},
                          {value_new(1), .code = -EIO}};
    void *value = &e;
    expect_cancelled(spawn(cancels_itself_and_ends, &e[0]));
    PT_EQ(e[0].value->destroyed, 1);
    PT_EQ(pica_join(spawn(cancels_itself_and_ends, &e[1]), &value), PICA_ECANCELED);
    PT_CHECK(value == NULL);
    PT_EQ(e[1].value->destroyed, 1);
    pica_task *task = spawn(cancels_itself_and_ends, &e[2]);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), -EIO);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 0);
    PT_EQ(e[2].value->destroyed, 1);
    pica_task_unref(task);
    return 0;
}

/* Caught: the task goes on and ends as it likes; the count tells that it was asked. */
TASK_TEST(swallowed) {
    (void)arg;
    struct ending e[2] = {{value_new(1), .code = 6, .suspend = true},
                          {value_new(1), .code = -EIO, .suspend = true}};
    pica_task *task = spawn(cancels_itself_and_ends, &e[0]);
    void *value = NULL;
    PT_EQ(pica_await(PICA_FUTURE(task), &value), 6);
    PT_CHECK(value == e[0].value);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 0);
    PT_EQ(pica_task_cancelling(task), 1);
    PT_EQ(e[0].value->destroyed, 0);
    pica_task_unref(task);
    PT_EQ(pica_join(spawn(cancels_itself_and_ends, &e[1]), NULL), -EIO);
    PT_EQ(e[1].value->destroyed, 1);
    return 0;
}

static int fails_when_cancelled(void *arg) {
    PT_EQ(pica_await(arg, NULL), PICA_ECANCELED);
    return -EPIPE;
}

TASK_TEST(error_during_cancel) {
    (void)arg;
    pica_future *never = new_future();
    pica_task *task = spawn(fails_when_cancelled, never);
    while (!pica_future_done(never)) { /* until it waits, a cancel would keep it from running */
        PT_EQ(pica_yield(), 0);
        PT_EQ(pica_future_cancel(never), 1);
    }
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), -EPIPE);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 0);
    pica_task_unref(task);
    pica_future_unref(never);
    return 0;
}

/* The code alone makes a task a cancelled one, with no request. */
static int says_cancelled(void *arg) {
    (void)arg;
    return PICA_ECANCELED;
}

TASK_TEST(code_without_request) {
    (void)arg;
    pica_task *task = spawn(says_cancelled, NULL);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), PICA_ECANCELED);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 1);
    PT_EQ(pica_task_cancelling(task), 0);
    pica_task_unref(task);
    return 0;
}

struct catcher {
    pica_future *first, *second;
    int rc[3];
    int count;
};

static int catches_and_goes_on(void *arg) {
    struct catcher *c = arg;
    c->rc[0] = pica_shield(c->first, NULL);
    c->count = pica_task_cancelling(pica_current_task());
    c->rc[1] = pica_checkpoint();
    c->rc[2] = pica_shield(c->second, NULL);
    return 3;
}

/* Several requests before the task runs again: one delivery. A later one is delivered again. */
FIFO_TEST(several_requests) {
    (void)arg;
    struct catcher c = {new_future(), new_future(), {1, 1, 1}, 0};
    pica_task *task = spawn_and_turn(catches_and_goes_on, &c);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_task_cancel(task), 1);
    turn();
    PT_EQ(c.rc[0], PICA_ECANCELED);
    PT_EQ(c.count, 3);
    PT_EQ(c.rc[1], 0);
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    PT_EQ(pica_task_cancel(task), 1);
    turn();
    PT_EQ(c.rc[2], PICA_ECANCELED);
    PT_EQ(pica_task_cancelling(task), 4);
    PT_EQ(pica_join(task, NULL), 3);
    pica_future_unref(c.first);
    pica_future_unref(c.second);
    return 0;
}

/* --- cancel and completion, who comes first --- */

struct observer {
    pica_future *future;
    int how;
    int rc;
    int pending;
};

static int observes(void *arg) {
    struct observer *o = arg;
    switch (o->how) {
    case 0:
        o->rc = pica_await(o->future, NULL);
        break;
    case 1:
        o->rc = pica_shield(o->future, NULL);
        break;
    case 2:
        o->rc = pica_wait_for(o->future, 1e3, NULL);
        break;
    case 3:
        o->rc = pica_gather(1, &o->future, 0);
        break;
    case 4:
        o->rc = pica_gather(1, &o->future, PICA_RETURN_EXCEPTIONS);
        break;
    default:
        o->rc = pica_wait(1, &o->future, 1e3, PICA_FIRST_COMPLETED);
    }
    o->pending = pica_checkpoint();
    return 0;
}

/* Waiting for a future takes nothing: a cancellation that finds the task before it runs again wins,
 * even if the future was done first, and the future keeps its value. */
FIFO_TEST(completion_then_cancel) {
    (void)arg;
    for (int how = 0; how < 6; how++) {
        struct value v = {0};
        struct observer o = {new_future(), how, 1, 1};
        pica_task *task = spawn_and_turn(observes, &o);
        PT_EQ(pica_future_set_result(o.future, &v, value_destroy), 0);
        PT_EQ(pica_task_cancel(task), 1);
        PT_EQ(pica_join(task, NULL), 0);
        PT_EQ(o.rc, PICA_ECANCELED);
        PT_EQ(o.pending, 0);
        PT_EQ(pica_future_result(o.future, NULL), 0);
        PT_EQ(v.destroyed, 0);
        pica_future_unref(o.future);
        PT_EQ(v.destroyed, 1);
    }
    return 0;
}

/* The other way round: what was delivered is not lost because the future is done when it arrives. */
FIFO_TEST(cancel_then_completion) {
    (void)arg;
    for (int how = 0; how < 6; how++) {
        struct observer o = {new_future(), how, 1, 1};
        pica_task *task = spawn_and_turn(observes, &o);
        PT_EQ(pica_task_cancel(task), 1);
        (void)pica_future_set_result(o.future, NULL, NULL); /* those that pass it on cancelled it */
        PT_EQ(pica_join(task, NULL), 0);
        PT_EQ(o.rc, PICA_ECANCELED);
        PT_EQ(o.pending, 0);
        pica_future_unref(o.future);
    }
    return 0;
}

/* The task that waits and what it waits for are cancelled at once: one delivery. */
FIFO_TEST(both_cancelled) {
    (void)arg;
    for (int how = 0; how < 6; how++) {
        for (int first = 0; first < 2; first++) {
            struct observer o = {new_future(), how, 1, 1};
            pica_task *task = spawn_and_turn(observes, &o);
            if (first == 0) {
                PT_EQ(pica_future_cancel(o.future), 1);
            }
            PT_EQ(pica_task_cancel(task), 1);
            (void)pica_future_cancel(o.future);
            PT_EQ(pica_join(task, NULL), 0);
            PT_EQ(o.rc, PICA_ECANCELED);
            PT_EQ(o.pending, 0);
            pica_future_unref(o.future);
        }
    }
    return 0;
}

/* A task that wakes up to a cancelled future was not cancelled itself. */
TASK_TEST(awaited_future_is_cancelled) {
    (void)arg;
    pica_future *f = new_future();
    pica_task *task = spawn(waits, f);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_future_cancel(f), 1);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), PICA_ECANCELED);
    PT_EQ(pica_task_cancelling(task), 0);
    PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 1);
    pica_task_unref(task);
    pica_future_unref(f);
    return 0;
}

/* A join that is cancelled when the task has ended already gives no value out, and loses none. */
struct joiner {
    pica_task *task;
    void *value;
    int rc;
};

static int gives_value(void *arg) {
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_return(arg, value_destroy), 0);
    return 0;
}

static int joins(void *arg) {
    struct joiner *j = arg;
    j->rc = pica_join(j->task, &j->value);
    return 0;
}

FIFO_TEST(cancelled_join) {
    (void)arg;
    struct value v = {0};
    struct joiner j = {spawn(gives_value, &v), NULL, 1};
    pica_task *task = spawn_and_turn(joins, &j);
    while (!pica_future_done(PICA_FUTURE(j.task))) {
        turn();
    }
    PT_EQ(j.rc, 1); /* it has been woken and not run yet */
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(j.rc, PICA_ECANCELED);
    PT_CHECK(j.value == NULL);
    PT_EQ(v.destroyed, 1);
    return 0;
}

/* --- from anywhere --- */

static void cancels(void *arg) {
    PT_EQ(pica_task_cancel(arg), 1);
}

TASK_TEST(from_callbacks) {
    (void)arg;
    pica_task *a = spawn(forever, NULL);
    pica_task *b = spawn(forever, NULL);
    PT_EQ(pica_call_soon(cancels, a, NULL), 0);
    PT_EQ(pica_call_later(0.002, cancels, b, NULL), 0);
    expect_cancelled(a);
    expect_cancelled(b);
    return 0;
}

enum { CANCELLERS = 4, ROUNDS = 200 };

struct storm {
    pica_task *task;
    pica_future *future, *begun;
    pthread_barrier_t start;
    atomic_int recorded;
    int deliveries; /* by the task only */
    int count;
};

static void *cancel_main(void *arg) {
    struct storm *s = arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&s->start);
        atomic_fetch_add(&s->recorded, pica_task_cancel(s->task));
        pthread_barrier_wait(&s->start);
    }
    return NULL;
}

static int counts_deliveries(void *arg) {
    struct storm *s = arg;
    signal_future(s->begun);
    while (pica_shield(s->future, NULL) == PICA_ECANCELED) {
        s->deliveries++;
    }
    s->count = pica_task_cancelling(pica_current_task());
    return 0;
}

/* Requests of several threads at once: each is counted, and none is delivered more than once. */
TASK_TEST_TIMEOUT(from_threads_at_once, 60) {
    (void)arg;
    struct storm s = {.future = new_future(), .begun = new_future()};
    pthread_t thread[CANCELLERS];
    PT_REQUIRE(pthread_barrier_init(&s.start, NULL, CANCELLERS) == 0);
    s.task = spawn(counts_deliveries, &s);
    PT_EQ(pica_await(s.begun, NULL), 0);
    for (int i = 0; i < CANCELLERS; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, cancel_main, &s) == 0);
    }
    while (atomic_load(&s.recorded) < CANCELLERS * ROUNDS) {
        PT_EQ(pica_sleep(1e-4), 0);
    }
    signal_future(s.future);
    int rc = pica_join(s.task, NULL);
    PT_CHECK(rc == 0 || rc == PICA_ECANCELED); /* the last request may have come too late */
    PT_EQ(s.count, CANCELLERS * ROUNDS);
    PT_CHECK(s.deliveries >= 1 && s.deliveries <= CANCELLERS * ROUNDS);
    for (int i = 0; i < CANCELLERS; i++) {
        pthread_join(thread[i], NULL);
    }
    pthread_barrier_destroy(&s.start);
    pica_future_unref(s.future);
    pica_future_unref(s.begun);
    return 0;
}

/* Completion against cancel, decided anew each time: exactly one of them is what the waiter sees, and
 * a cancellation that was recorded is seen at last by the checkpoint behind it. */
static int completes(void *arg) {
    (void)pica_future_set_result(arg, NULL, NULL);
    return 0;
}

TASK_TEST_TIMEOUT(against_completion, 60) {
    (void)arg;
    int cancelled = 0;
    for (int i = 0; i < 1500; i++) {
        struct observer o = {new_future(), i % 6, 1, 1};
        pica_task *task = spawn(observes, &o);
        if (i % 3 != 0) {
            PT_EQ(pica_yield(), 0);
        }
        pica_task *other = spawn_pinned((unsigned)i, completes, o.future);
        if (i % 4 == 3) {
            PT_EQ(pica_yield(), 0);
        }
        int recorded = pica_task_cancel(task);
        int rc = pica_join(task, NULL);
        PT_EQ(pica_join(other, NULL), 0);
        int seen = o.rc == PICA_ECANCELED || o.pending == PICA_ECANCELED || rc == PICA_ECANCELED;
        PT_EQ(seen, recorded);
        PT_CHECK(o.rc != PICA_ECANCELED || o.pending == 0);
        cancelled += seen;
        pica_future_unref(o.future);
    }
    PT_CHECK(cancelled > 0);
    return 0;
}

PT_MAIN()
