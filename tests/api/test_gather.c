/* pica_gather and pica_wait: conditions, first failures, duplicates, cancellation. */
#include <pica.h>

#include <math.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

enum { MANY = 20 }; /* more than find room on the waiter's stack */

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static void *code_of(int n) {
    return (void *)(intptr_t)n;
}

static int waits(void *arg) {
    return pica_await(arg, NULL);
}

static int yields_then(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : code(arg);
}

PT_TEST(outside_a_task) {
    pica_future *f = new_future();
    PT_EQ(pica_gather(1, &f, 0), PICA_ENOTASK);
    PT_EQ(pica_gather(0, NULL, 0), PICA_ENOTASK);
    PT_EQ(pica_gather(1, &f, PICA_RETURN_EXCEPTIONS), PICA_ENOTASK);
    PT_EQ(pica_wait(1, &f, 1, PICA_ALL_COMPLETED), PICA_ENOTASK);
    pica_future_unref(f);
}

/* --- gather --- */

static void spawn_all(pica_fn fn, pica_future *futures[], int n) {
    for (int i = 0; i < n; i++) {
        futures[i] = PICA_FUTURE(spawn(fn, code_of(i)));
    }
}

static void unref_all(pica_future *futures[], int n) {
    for (int i = 0; i < n; i++) {
        pica_future_unref(futures[i]);
    }
}

TASK_TEST(gather_all) {
    (void)arg;
    PT_EQ(pica_gather(0, NULL, 0), 0);
    PT_EQ(pica_gather(0, NULL, PICA_RETURN_EXCEPTIONS), 0);
    for (int n = 1; n <= MANY; n++) {
        for (unsigned flags = 0; flags < 2; flags++) {
            pica_future *f[MANY];
            spawn_all(n % 2 == 0 ? code : yields_then, f, n);
            if (n % 3 == 0) {
                PT_EQ(pica_yield(), 0);
            }
            PT_EQ(pica_gather((size_t)n, f, flags), 0);
            PT_EQ(pica_gather((size_t)n, f, flags), 0); /* all are done by now */
            for (int i = 0; i < n; i++) {
                PT_EQ(pica_future_result(f[i], NULL), i);
            }
            unref_all(f, n);
        }
    }
    return 0;
}

TASK_TEST(gather_duplicates) {
    (void)arg;
    pica_future *a = PICA_FUTURE(spawn(yields_then, code_of(1)));
    pica_future *b = PICA_FUTURE(spawn(yields_then, code_of(2)));
    pica_future *f[MANY];
    for (int i = 0; i < MANY; i++) {
        f[i] = i % 3 == 0 ? b : a;
    }
    PT_EQ(pica_gather(MANY, f, 0), 0);
    PT_EQ(pica_gather(MANY, f, PICA_RETURN_EXCEPTIONS), 0);
    pica_future_unref(a);
    pica_future_unref(b);
    return 0;
}

/* The first failure ends the wait at once, and it is the first in time, not in place. */
TASK_TEST(gather_first_failure) {
    (void)arg;
    pica_future *f[MANY];
    for (int n = 2; n <= MANY; n += MANY - 2) {
        for (int i = 0; i < n; i++) {
            f[i] = new_future();
        }
        PT_EQ(pica_future_set_exception(f[n - 1], -EPIPE, NULL), 0);
        PT_EQ(pica_gather((size_t)n, f, 0), -EPIPE);
        PT_EQ(pica_future_done(f[0]), 0); /* the others go on */
        PT_EQ(pica_future_set_result(f[0], NULL, NULL), 0);
        PT_EQ(pica_gather((size_t)n, f, 0), -EPIPE);
        unref_all(f, n);
    }
    return 0;
}

struct gatherer {
    pica_future **futures;
    size_t n;
    unsigned flags;
    pica_future *begun;
    int rc;
    int pending; /* of a checkpoint behind it */
};

static int gathers(void *arg) {
    struct gatherer *g = arg;
    signal_future(g->begun);
    g->rc = pica_gather(g->n, g->futures, g->flags);
    g->pending = pica_checkpoint();
    return 0;
}

static struct gatherer gatherer_of(pica_future *futures[], size_t n, unsigned flags) {
    return (struct gatherer){futures, n, flags, new_future(), 1, 1};
}

/* A failure that comes while it waits, of a member that is a task: the siblings go on. */
TASK_TEST(gather_failure_while_waiting) {
    (void)arg;
    pica_future *go[3] = {new_future(), new_future(), new_future()};
    pica_future *f[3];
    for (int i = 0; i < 3; i++) {
        f[i] = PICA_FUTURE(spawn(waits, go[i]));
    }
    struct gatherer g = gatherer_of(f, 3, 0);
    pica_task *task = spawn(gathers, &g);
    PT_EQ(pica_await(g.begun, NULL), 0);
    PT_EQ(pica_future_set_exception(go[1], -EPERM, NULL), 0);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(g.rc, -EPERM);
    PT_EQ(g.pending, 0);
    PT_EQ(pica_future_done(f[0]), 0);
    PT_EQ(pica_future_done(f[2]), 0);
    PT_EQ(pica_task_cancelling((pica_task *)f[0]), 0);
    signal_future(go[0]);
    signal_future(go[2]);
    PT_EQ(pica_await(f[0], NULL), 0);
    PT_EQ(pica_await(f[2], NULL), 0);
    unref_all(f, 3);
    unref_all(go, 3);
    pica_future_unref(g.begun);
    return 0;
}

TASK_TEST(gather_return_exceptions) {
    (void)arg;
    for (int n = 3; n <= MANY; n += MANY - 3) {
        pica_future *f[MANY];
        spawn_all(yields_then, f, n);
        pica_future_unref(f[0]);
        pica_future_unref(f[2]);
        f[0] = PICA_FUTURE(spawn(yields_then, code_of(-EIO)));
        f[2] = new_future();
        PT_EQ(pica_future_cancel(f[2]), 1);
        PT_EQ(pica_gather((size_t)n, f, PICA_RETURN_EXCEPTIONS), 0);
        PT_EQ(pica_future_result(f[0], NULL), -EIO);
        PT_EQ(pica_future_result(f[1], NULL), 1);
        PT_EQ(pica_future_result(f[2], NULL), PICA_ECANCELED);
        unref_all(f, n);
    }
    return 0;
}

/* A member that was cancelled is a failure of that member; nobody cancelled the caller. */
TASK_TEST(gather_member_cancelled) {
    (void)arg;
    pica_future *f[2] = {new_future(), new_future()};
    struct gatherer g = gatherer_of(f, 2, 0);
    pica_task *task = spawn(gathers, &g);
    PT_EQ(pica_await(g.begun, NULL), 0);
    PT_EQ(pica_future_cancel(f[1]), 1);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
    PT_EQ(g.rc, PICA_ECANCELED);
    PT_EQ(g.pending, 0);
    PT_EQ(pica_task_cancelling(task), 0);
    PT_EQ(pica_future_done(f[0]), 0);
    pica_task_unref(task);
    unref_all(f, 2);
    pica_future_unref(g.begun);
    return 0;
}

/* --- gather, cancelled --- */

struct member {
    pica_future *begun;
    pica_future *go; /* NULL: it ends at once when it is cancelled */
    struct value ended;
    int rc;
};

static int member_main(void *arg) {
    struct member *m = arg;
    signal_future(m->begun);
    m->rc = pica_sleep(PICA_FOREVER);
    if (m->go != NULL) {
        PT_EQ(pica_shield(m->go, NULL), 0);
    }
    value_destroy(&m->ended);
    return m->rc;
}

static void members_init(struct member m[], int n) {
    for (int i = 0; i < n; i++) {
        m[i] = (struct member){.begun = new_future(), .rc = 1};
    }
}

static void members_end(struct member m[], int n) {
    for (int i = 0; i < n; i++) {
        pica_future_unref(m[i].begun);
        pica_future_unref(m[i].go);
    }
}

/* Every member that is not done is cancelled and waited for, in both modes; the result is the
 * cancellation, once. The members have begun before the gather. */
TASK_TEST(gather_cancelled) {
    (void)arg;
    for (int n = 1; n <= MANY; n += n < 3 ? 1 : MANY - 3) {
        for (unsigned flags = 0; flags < 2; flags++) {
            struct member m[MANY];
            pica_future *f[MANY];
            members_init(m, n);
            for (int i = 0; i < n; i++) {
                f[i] = PICA_FUTURE(spawn(member_main, &m[i]));
                PT_EQ(pica_await(m[i].begun, NULL), 0);
            }
            struct gatherer g = gatherer_of(f, (size_t)n, flags);
            pica_task *task = spawn(gathers, &g);
            PT_EQ(pica_await(g.begun, NULL), 0);
            PT_EQ(pica_task_cancel(task), 1);
            PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
            PT_EQ(g.rc, PICA_ECANCELED);
            PT_EQ(g.pending, 0);
            PT_EQ(pica_task_cancelling(task), 1);
            for (int i = 0; i < n; i++) {
                PT_EQ(pica_future_done(f[i]), 1);
                PT_EQ(pica_future_result(f[i], NULL), PICA_ECANCELED);
                PT_EQ(m[i].ended.destroyed, 1);
                PT_EQ(pica_task_cancelling((pica_task *)f[i]), 1);
            }
            pica_task_unref(task);
            unref_all(f, n);
            members_end(m, n);
            pica_future_unref(g.begun);
        }
    }
    return 0;
}

static int begins_or_not(void *arg) {
    struct member *m = arg;
    signal_future(m->begun);
    m->rc = pica_sleep(PICA_FOREVER);
    return m->rc;
}

/* The same with members that nobody has started: those that have begun are cancelled where they wait,
 * the others never begin. Nothing may be left that waits for ever. */
TASK_TEST(gather_of_unstarted_cancelled) {
    (void)arg;
    for (int round = 0; round < 40; round++) {
        int n = 2 + round % 4;
        struct member m[MANY];
        pica_future *f[MANY];
        members_init(m, n);
        for (int i = 0; i < n; i++) {
            f[i] = PICA_FUTURE(spawn(begins_or_not, &m[i]));
        }
        struct gatherer g = gatherer_of(f, (size_t)n, round % 2 == 0 ? PICA_RETURN_EXCEPTIONS : 0);
        pica_task *task = spawn(gathers, &g);
        PT_EQ(pica_await(g.begun, NULL), 0);
        if (round % 8 < 4) {
            while (!pica_future_done(m[0].begun) && !pica_future_done(m[n - 1].begun)) {
                PT_EQ(pica_yield(), 0);
            }
        }
        PT_EQ(pica_task_cancel(task), 1);
        PT_EQ(pica_join(task, NULL), 0);
        PT_EQ(g.rc, PICA_ECANCELED);
        PT_EQ(g.pending, 0);
        for (int i = 0; i < n; i++) {
            PT_EQ(pica_future_result(f[i], NULL), PICA_ECANCELED);
        }
        unref_all(f, n);
        members_end(m, n);
        pica_future_unref(g.begun);
    }
    return 0;
}

/* Cancelled before it has begun to wait: nothing of it begins. */
TASK_TEST(gather_with_pending_cancel) {
    (void)arg;
    for (unsigned flags = 0; flags < 2; flags++) {
        pica_task *self = pica_current_task();
        struct member m[3];
        pica_future *f[3];
        members_init(m, 3);
        for (int i = 0; i < 3; i++) {
            f[i] = PICA_FUTURE(spawn(begins_or_not, &m[i]));
        }
        PT_EQ(pica_task_cancel(self), 1);
        PT_EQ(pica_gather(3, f, flags), PICA_ECANCELED);
        PT_EQ(pica_checkpoint(), 0);
        PT_EQ(pica_task_uncancel(self), 0);
        for (int i = 0; i < 3; i++) {
            PT_EQ(pica_future_result(f[i], NULL), PICA_ECANCELED);
        }
        unref_all(f, 3);
        members_end(m, 3);
    }
    return 0;
}

static int ignores_once(void *arg) {
    struct member *m = arg;
    signal_future(m->begun);
    m->rc = pica_sleep(PICA_FOREVER);
    return 4;
}

/* A member that swallows it changes nothing for the others. */
TASK_TEST(gather_cancelled_member_ignores) {
    (void)arg;
    struct member m[3];
    pica_future *f[3];
    members_init(m, 3);
    for (int i = 0; i < 3; i++) {
        f[i] = PICA_FUTURE(spawn(i == 1 ? ignores_once : member_main, &m[i]));
        PT_EQ(pica_await(m[i].begun, NULL), 0);
    }
    struct gatherer g = gatherer_of(f, 3, PICA_RETURN_EXCEPTIONS);
    pica_task *task = spawn(gathers, &g);
    PT_EQ(pica_await(g.begun, NULL), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(g.rc, PICA_ECANCELED);
    PT_EQ(pica_future_result(f[1], NULL), 4);
    PT_EQ(pica_future_result(f[2], NULL), PICA_ECANCELED);
    unref_all(f, 3);
    members_end(m, 3);
    pica_future_unref(g.begun);
    return 0;
}

/* It returns only when the slowest member has ended. */
FIFO_TEST(gather_cancelled_waits_for_all) {
    (void)arg;
    struct member m[2];
    pica_future *f[2];
    members_init(m, 2);
    m[1].go = new_future();
    for (int i = 0; i < 2; i++) {
        f[i] = PICA_FUTURE(spawn(member_main, &m[i]));
    }
    struct gatherer g = gatherer_of(f, 2, 0);
    pica_task *task = spawn_and_turn(gathers, &g);
    PT_EQ(pica_task_cancel(task), 1);
    for (int i = 0; i < 5; i++) {
        turn();
    }
    PT_EQ(pica_future_done(f[0]), 1);
    PT_EQ(pica_future_done(f[1]), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    signal_future(m[1].go);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(g.rc, PICA_ECANCELED);
    PT_EQ(m[1].ended.destroyed, 1);
    unref_all(f, 2);
    members_end(m, 2);
    pica_future_unref(g.begun);
    return 0;
}

/* --- wait --- */

TASK_TEST(wait_arguments) {
    (void)arg;
    pica_future *f = new_future();
    PT_EQ(pica_wait(0, &f, 1, PICA_ALL_COMPLETED), -EINVAL);
    PT_EQ(pica_wait(1, &f, NAN, PICA_ALL_COMPLETED), -EINVAL);
    PT_EQ(pica_wait(1, &f, 1, 0), -EINVAL);
    PT_EQ(pica_wait(1, &f, 1, 4), -EINVAL);
    PT_EQ(pica_wait(1, &f, 1, -1), -EINVAL);
    PT_EQ(pica_future_done(f), 0);
    pica_future_unref(f);
    return 0;
}

/* Time is no error, and nothing is cancelled by it. */
TASK_TEST(wait_limit) {
    (void)arg;
    pica_future *f[MANY];
    for (int n = 2; n <= MANY; n += MANY - 2) {
        for (int i = 0; i < n; i++) {
            f[i] = new_future();
        }
        signal_future(f[1]);
        double begin = pica_time();
        PT_EQ(pica_wait((size_t)n, f, 0.005, PICA_ALL_COMPLETED), 1);
        PT_CHECK(pica_time() - begin >= 0.005);
        PT_EQ(pica_wait((size_t)n, f, 0, PICA_ALL_COMPLETED), 1);
        PT_EQ(pica_wait((size_t)n, f, -1, PICA_ALL_COMPLETED), 1);
        PT_EQ(pica_task_cancelling(pica_current_task()), 0);
        PT_EQ(pica_yield(), 0);
        PT_EQ(pica_future_done(f[0]), 0);
        for (int i = 0; i < n; i++) {
            (void)pica_future_set_result(f[i], NULL, NULL);
        }
        PT_EQ(pica_wait((size_t)n, f, 0, PICA_ALL_COMPLETED), n);
        PT_EQ(pica_wait((size_t)n, f, PICA_FOREVER, PICA_ALL_COMPLETED), n);
        unref_all(f, n);
    }
    return 0;
}

struct wait_case {
    pica_future *f[3];
    pica_future *same[3]; /* with one of them twice */
    pica_future *begun;
    int when;
    int rc;
};

static int waits_for_case(void *arg) {
    struct wait_case *w = arg;
    signal_future(w->begun);
    w->rc = pica_wait(3, w->same[0] != NULL ? w->same : w->f, PICA_FOREVER, w->when);
    return 0;
}

static void wait_case_init(struct wait_case *w, int when) {
    *w = (struct wait_case){.begun = new_future(), .when = when, .rc = -1};
    for (int i = 0; i < 3; i++) {
        w->f[i] = new_future();
    }
}

static void wait_case_end(struct wait_case *w, pica_task *task, int expected) {
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(w->rc, expected);
    pica_future_unref(w->begun);
    for (int i = 0; i < 3; i++) {
        pica_future_unref(w->f[i]);
    }
}

/* After each event: has the waiter been woken? */
FIFO_TEST(wait_conditions) {
    (void)arg;
    struct wait_case w;
    wait_case_init(&w, PICA_FIRST_COMPLETED);
    pica_task *task = spawn_and_turn(waits_for_case, &w);
    PT_EQ(pica_future_cancel(w.f[2]), 1); /* a cancelled one is completed too */
    wait_case_end(&w, task, 1);

    wait_case_init(&w, PICA_FIRST_EXCEPTION);
    task = spawn_and_turn(waits_for_case, &w);
    signal_future(w.f[0]);
    PT_EQ(pica_future_cancel(w.f[1]), 1); /* but it is no exception */
    turn();
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    PT_EQ(pica_future_set_exception(w.f[2], -EIO, NULL), 0);
    wait_case_end(&w, task, 3);

    wait_case_init(&w, PICA_FIRST_EXCEPTION);
    task = spawn_and_turn(waits_for_case, &w);
    PT_EQ(pica_future_set_exception(w.f[1], -EIO, NULL), 0);
    wait_case_end(&w, task, 1);

    wait_case_init(&w, PICA_FIRST_EXCEPTION);
    task = spawn_and_turn(waits_for_case, &w);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
        signal_future(w.f[i]);
        turn();
    }
    wait_case_end(&w, task, 3);

    wait_case_init(&w, PICA_ALL_COMPLETED);
    task = spawn_and_turn(waits_for_case, &w);
    PT_EQ(pica_future_set_exception(w.f[0], -EIO, NULL), 0);
    turn();
    PT_EQ(pica_future_cancel(w.f[1]), 1);
    turn();
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    signal_future(w.f[2]);
    wait_case_end(&w, task, 3);
    return 0;
}

/* What holds already needs no waiting; one that comes while the waiter is being woken is counted. */
FIFO_TEST(wait_counts) {
    (void)arg;
    struct wait_case w;
    wait_case_init(&w, PICA_FIRST_COMPLETED);
    pica_task *task = spawn_and_turn(waits_for_case, &w);
    signal_future(w.f[0]);
    signal_future(w.f[1]);
    wait_case_end(&w, task, 2);

    wait_case_init(&w, PICA_FIRST_COMPLETED);
    signal_future(w.f[1]);
    PT_EQ(pica_wait(3, w.f, PICA_FOREVER, PICA_FIRST_COMPLETED), 1);
    PT_EQ(pica_future_set_exception(w.f[0], -EIO, NULL), 0);
    PT_EQ(pica_wait(3, w.f, PICA_FOREVER, PICA_FIRST_EXCEPTION), 2);
    task = spawn_and_turn(waits_for_case, &w);
    wait_case_end(&w, task, 2);

    wait_case_init(&w, PICA_ALL_COMPLETED);
    w.same[0] = w.same[1] = w.f[0];
    w.same[2] = w.f[1];
    task = spawn_and_turn(waits_for_case, &w);
    signal_future(w.f[0]);
    turn();
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    signal_future(w.f[1]);
    wait_case_end(&w, task, 3);
    return 0;
}

TASK_TEST(wait_cancelled) {
    (void)arg;
    for (int when = PICA_FIRST_COMPLETED; when <= PICA_ALL_COMPLETED; when++) {
        struct wait_case w;
        wait_case_init(&w, when);
        pica_task *task = spawn(waits_for_case, &w);
        PT_EQ(pica_await(w.begun, NULL), 0);
        PT_EQ(pica_task_cancel(task), 1);
        (void)pica_await(PICA_FUTURE(task), NULL);
        PT_EQ(pica_task_cancelling(task), 1);
        for (int i = 0; i < 3; i++) {
            PT_EQ(pica_future_done(w.f[i]), 0); /* they go on */
        }
        wait_case_end(&w, task, PICA_ECANCELED);
    }
    return 0;
}

/* --- many at once --- */

static int completes(void *arg) {
    (void)pica_yield();
    signal_future(arg);
    return 0;
}

/* Members that end all over the place while the waiter comes and goes. */
TASK_TEST_TIMEOUT(races, 60) {
    (void)arg;
    for (int round = 0; round < 300; round++) {
        int n = 1 + round % MANY;
        pica_future *f[MANY];
        for (int i = 0; i < n; i++) {
            f[i] = new_future();
            pica_task_unref(spawn_pinned((unsigned)(round + i), completes, f[i]));
        }
        int kind = round % 5;
        if (kind == 0) {
            PT_EQ(pica_gather((size_t)n, f, 0), 0);
        } else if (kind == 1) {
            PT_EQ(pica_gather((size_t)n, f, PICA_RETURN_EXCEPTIONS), 0);
        } else {
            int rc = pica_wait((size_t)n, f, kind == 4 ? 1e-5 : 1e3, PICA_FIRST_COMPLETED);
            PT_CHECK(rc >= (kind == 4 ? 0 : 1) && rc <= n);
        }
        PT_EQ(pica_wait((size_t)n, f, PICA_FOREVER, PICA_ALL_COMPLETED), n);
        unref_all(f, n);
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    return 0;
}

PT_MAIN()
