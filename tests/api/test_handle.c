/* Handles: cancelled or run, never both, whoever asks when. */
#include <pica.h>

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

enum { MANY = 300 };

static void complete(void *arg) {
    signal_future(arg);
}

static void must_not_run(void *arg) {
    (void)arg;
    PT_FAIL("a callback ran that had been cancelled");
}

static void settle(pica_loop *loop) {
    pica_future *f = new_future();
    PT_EQ(pica_call_soon_threadsafe(loop, complete, f, NULL), 0);
    PT_EQ(pica_await(f, NULL), 0);
    pica_future_unref(f);
}

/* The same behind all timers of the loop that are due within `seconds`. A task's own sleep would not
 * do: its timer may be on another loop, and this one's worker may not have had the processor. */
static void settle_timers(pica_loop *loop, double seconds) {
    pica_future *f = new_future();
    PT_EQ(pica_loop_call_later(loop, seconds, complete, f, NULL), 0);
    PT_EQ(pica_await(f, NULL), 0);
    pica_future_unref(f);
}

/* --- before it runs --- */

/* Pinned to the loop: nothing of it runs between two suspensions. */
static int before_main(void *arg) {
    (void)arg;
    pica_loop *loop = pica_current_loop();
    pica_handle *h[6];
    PT_EQ(pica_call_soon(must_not_run, NULL, &h[0]), 0);
    PT_EQ(pica_call_later(0, must_not_run, NULL, &h[1]), 0);
    PT_EQ(pica_call_later(0.001, must_not_run, NULL, &h[2]), 0);
    PT_EQ(pica_call_at(pica_time() + 0.001, must_not_run, NULL, &h[3]), 0);
    PT_EQ(pica_call_soon_threadsafe(loop, must_not_run, NULL, &h[4]), 0);
    PT_EQ(pica_loop_call_at(loop, 0, must_not_run, NULL, &h[5]), 0);
    for (int i = 0; i < 6; i++) {
        PT_CHECK(h[i] != NULL);
        PT_EQ(pica_handle_cancelled(h[i]), 0);
        PT_EQ(pica_handle_cancel(h[i]), 1);
        PT_EQ(pica_handle_cancelled(h[i]), 1);
        PT_EQ(pica_handle_cancel(h[i]), 0);
    }
    PT_EQ(pica_sleep(0.003), 0);
    settle(loop);
    for (int i = 0; i < 6; i++) {
        PT_EQ(pica_handle_cancelled(h[i]), 1);
        pica_handle_unref(h[i]);
    }
    pica_handle_unref(NULL);
    return 0;
}

TASK_TEST(before_it_runs) {
    return pica_join(spawn_pinned(0, before_main, arg), NULL);
}

/* Cancelled by a callback that runs just before it, in the same batch. */
struct pair {
    pica_handle *second, *third;
};

static void cancels_next(void *arg) {
    struct pair *p = arg;
    PT_EQ(pica_handle_cancel(p->second), 1);
    PT_EQ(pica_handle_cancel(p->third), 1);
}

static int same_batch_main(void *arg) {
    (void)arg;
    struct pair p;
    PT_EQ(pica_call_soon(cancels_next, &p, NULL), 0);
    PT_EQ(pica_call_soon(must_not_run, NULL, &p.second), 0);
    PT_EQ(pica_call_later(0, must_not_run, NULL, &p.third), 0);
    settle(pica_current_loop());
    PT_EQ(pica_sleep(0.001), 0);
    pica_handle_unref(p.second);
    pica_handle_unref(p.third);
    return 0;
}

TASK_TEST(in_the_same_batch) {
    return pica_join(spawn_pinned(0, same_batch_main, arg), NULL);
}

/* --- when it has run, or runs --- */

TASK_TEST(after_it_ran) {
    (void)arg;
    pica_handle *h[2];
    pica_future *f[2] = {new_future(), new_future()};
    PT_EQ(pica_call_soon(complete, f[0], &h[0]), 0);
    PT_EQ(pica_call_later(0.001, complete, f[1], &h[1]), 0);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_await(f[i], NULL), 0);
        settle(pica_current_loop()); /* it has returned, too */
        PT_EQ(pica_handle_cancel(h[i]), 0);
        PT_EQ(pica_handle_cancelled(h[i]), 0);
        pica_handle_unref(h[i]);
        pica_future_unref(f[i]);
    }
    return 0;
}

struct self_cancel {
    pica_handle *handle;
    pica_future *told;
    int rc;
};

static void cancels_itself(void *arg) {
    struct self_cancel *s = arg;
    s->rc = pica_handle_cancel(s->handle);
    PT_EQ(pica_handle_cancelled(s->handle), 0);
    signal_future(s->told);
}

static int from_itself_main(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        struct self_cancel s = {NULL, new_future(), -1};
        PT_EQ(i == 0   ? pica_call_soon(cancels_itself, &s, &s.handle)
              : i == 1 ? pica_call_later(0.001, cancels_itself, &s, &s.handle)
                       : pica_call_later(0, cancels_itself, &s, &s.handle),
              0);
        PT_EQ(pica_await(s.told, NULL), 0);
        PT_EQ(s.rc, 0); /* from the loop itself never "busy" */
        settle(pica_current_loop());
        PT_EQ(pica_handle_cancel(s.handle), 0);
        pica_handle_unref(s.handle);
        pica_future_unref(s.told);
    }
    return 0;
}

TASK_TEST(from_itself) {
    return pica_join(spawn_pinned(0, from_itself_main, arg), NULL);
}

/* From another thread while it runs: busy, and the callback is held until that was asked. */
struct busy {
    pica_handle *handle;
    atomic_bool begun, asked;
    pica_future *told;
};

static void is_slow(void *arg) {
    struct busy *b = arg;
    atomic_store(&b->begun, true);
    while (!atomic_load(&b->asked)) {
    }
    signal_future(b->told);
}

static void *asks_main(void *arg) {
    struct busy *b = arg;
    while (!atomic_load(&b->begun)) {
    }
    PT_EQ(pica_handle_cancel(b->handle), -EBUSY);
    PT_EQ(pica_handle_cancelled(b->handle), 0);
    atomic_store(&b->asked, true);
    return NULL;
}

static int busy_main(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        struct busy b = {.told = new_future()};
        pthread_t thread;
        PT_EQ(i == 0   ? pica_call_soon(is_slow, &b, &b.handle)
              : i == 1 ? pica_call_later(0.001, is_slow, &b, &b.handle)
                       : pica_call_later(0, is_slow, &b, &b.handle),
              0);
        PT_REQUIRE(pthread_create(&thread, NULL, asks_main, &b) == 0);
        PT_EQ(pica_await(b.told, NULL), 0);
        pthread_join(thread, NULL);
        pica_handle_unref(b.handle);
        pica_future_unref(b.told);
    }
    return 0;
}

TASK_TEST(while_it_runs) {
    return pica_join(spawn_pinned(0, busy_main, arg), NULL);
}

/* --- references and times --- */

TASK_TEST(references) {
    (void)arg;
    pica_future *f = new_future();
    pica_handle *h = NULL;
    PT_EQ(pica_call_later(0.001, complete, f, &h), 0);
    PT_CHECK(pica_handle_ref(h) == h);
    pica_handle_unref(h);
    pica_handle_unref(h); /* dropping it does not cancel */
    PT_EQ(pica_await(f, NULL), 0);
    pica_future_unref(f);
    return 0;
}

TASK_TEST(when) {
    (void)arg;
    pica_handle *h[3];
    pica_future *f = new_future();
    double before = pica_time();
    PT_EQ(pica_call_later(100, must_not_run, NULL, &h[0]), 0);
    double after = pica_time();
    PT_EQ(pica_call_at(before + 200, must_not_run, NULL, &h[1]), 0);
    PT_EQ(pica_call_soon(complete, f, &h[2]), 0);
    PT_CHECK(pica_handle_when(h[0]) >= before + 100 - 1e-6);
    PT_CHECK(pica_handle_when(h[0]) <= after + 100 + 1e-6);
    PT_CHECK(pica_handle_when(h[1]) >= before + 200 - 1e-6);
    PT_CHECK(pica_handle_when(h[1]) <= before + 200 + 1e-6);
    PT_CHECK(pica_handle_when(h[2]) >= 0 && pica_handle_when(h[2]) <= 0); /* it has no time */
    PT_EQ(pica_await(f, NULL), 0);
    for (int i = 0; i < 3; i++) {
        (void)pica_handle_cancel(h[i]);
        pica_handle_unref(h[i]);
    }
    pica_future_unref(f);
    return 0;
}

/* The time stays readable when it has run. */
TASK_TEST(when_after) {
    (void)arg;
    pica_future *f = new_future();
    pica_handle *h = NULL;
    double when = pica_time() + 0.001;
    PT_EQ(pica_call_at(when, complete, f, &h), 0);
    PT_EQ(pica_await(f, NULL), 0);
    PT_CHECK(pica_handle_when(h) >= when - 1e-6 && pica_handle_when(h) <= when + 1e-6);
    pica_handle_unref(h);
    pica_future_unref(f);
    return 0;
}

/* --- many --- */

/* Timers that are cancelled in any order while others fire. */
struct counted {
    atomic_int ran;
};

static void counts(void *arg) {
    atomic_fetch_add(&((struct counted *)arg)->ran, 1);
}

TASK_TEST(many_cancelled) {
    (void)arg;
    static pica_handle *h[MANY];
    struct counted c = {0};
    int cancelled = 0;
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_call_later(1e-5 * (i * 7 % 100), counts, &c, &h[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        int k = i * 11 % MANY;
        if (k % 3 != 0) {
            int rc = pica_handle_cancel(h[k]);
            PT_CHECK(rc == 1 || rc == 0 || rc == -EBUSY);
            cancelled += rc == 1;
        }
        if (i % 50 == 0) {
            PT_EQ(pica_yield(), 0);
        }
    }
    settle_timers(pica_current_loop(), 0.002);
    for (int i = 0; i < MANY; i++) {
        pica_handle_unref(h[i]);
    }
    PT_EQ(c.ran + cancelled, MANY);
    return 0;
}

/* From several threads at once: exactly one gets the 1, and then it does not run. */
enum { THREADS = 4 };

struct race {
    pica_loop *loop;
    pthread_barrier_t start;
    pica_handle *handle;
    atomic_int won;
    atomic_int ran;
    atomic_bool stop;
};

static void *canceller_main(void *arg) {
    struct race *r = arg;
    for (;;) {
        pthread_barrier_wait(&r->start);
        if (atomic_load(&r->stop)) {
            return NULL;
        }
        int rc = pica_handle_cancel(r->handle);
        PT_CHECK(rc == 1 || rc == 0 || rc == -EBUSY);
        atomic_fetch_add(&r->won, rc == 1);
        pthread_barrier_wait(&r->start);
    }
}

static void race_call(void *arg) {
    atomic_fetch_add(&((struct race *)arg)->ran, 1);
}

TASK_TEST_TIMEOUT(cancelled_by_many, 60) {
    (void)arg;
    struct race r = {.loop = pica_current_loop()};
    pthread_t thread[THREADS];
    PT_REQUIRE(pthread_barrier_init(&r.start, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, canceller_main, &r) == 0);
    }
    int cancelled = 0;
    for (int i = 0; i < 100; i++) {
        atomic_store(&r.won, 0);
        atomic_store(&r.ran, 0);
        PT_EQ(i % 2 == 0 ? pica_call_soon_threadsafe(r.loop, race_call, &r, &r.handle)
                         : pica_loop_call_later(r.loop, 1e-6 * (i % 10), race_call, &r, &r.handle),
              0);
        if (i % 4 >= 2) {
            PT_EQ(pica_yield(), 0);
        }
        pthread_barrier_wait(&r.start);
        pthread_barrier_wait(&r.start);
        settle(r.loop);
        if (i % 2 != 0) {
            settle_timers(r.loop, 1e-4);
        }
        PT_EQ(r.won + r.ran, 1);
        cancelled += r.won;
        pica_handle_unref(r.handle);
    }
    atomic_store(&r.stop, true);
    pthread_barrier_wait(&r.start);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    pthread_barrier_destroy(&r.start);
    PT_CHECK(cancelled > 0);
    return 0;
}

/* --- at the end of the runtime --- */

static pica_handle *kept[3];

static int keeps_handles(void *arg) {
    (void)arg;
    PT_EQ(pica_call_later(1e3, must_not_run, NULL, &kept[0]), 0);
    PT_EQ(pica_call_later(PICA_FOREVER, must_not_run, NULL, &kept[1]), 0);
    pica_runtime *rt = pica_current_runtime();
    pica_loop *last = pica_runtime_loop(rt, pica_runtime_workers(rt) - 1);
    PT_EQ(pica_loop_call_later(last, 1e3, must_not_run, NULL, &kept[2]), 0);
    PT_EQ(pica_loop_call_later(last, 1e3, must_not_run, NULL, NULL), 0);
    return 0;
}

/* A dropped callback counts as cancelled, and its handle stays valid. */
PT_TEST(dropped_at_close) {
    PT_EQ(pica_run(keeps_handles, NULL), 0);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_handle_cancelled(kept[i]), 1);
        PT_EQ(pica_handle_cancel(kept[i]), 0);
        pica_handle_unref(kept[i]);
    }
}

PT_MAIN()
