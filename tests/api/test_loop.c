/* Callbacks of a loop: FIFO, one at a time, on their loop; timers never early and in order; from any
 * thread. */
#include <pica.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

enum { MANY = 200, THREADS = 4 };

static void complete(void *arg) {
    signal_future(arg);
}

/* Waits until what was scheduled on the loop before has run. */
static void settle(pica_loop *loop) {
    pica_future *f = new_future();
    PT_EQ(pica_call_soon_threadsafe(loop, complete, f, NULL), 0);
    PT_EQ(pica_await(f, NULL), 0);
    pica_future_unref(f);
}

static void no_call(void *arg) {
    (void)arg;
}

PT_TEST(outside_a_runtime) {
    pica_handle *handle = NULL;
    PT_EQ(pica_call_soon(no_call, NULL, &handle), PICA_ENOTASK);
    PT_EQ(pica_call_later(0, no_call, NULL, &handle), PICA_ENOTASK);
    PT_EQ(pica_call_at(0, no_call, NULL, &handle), PICA_ENOTASK);
    PT_CHECK(handle == NULL);
    PT_CHECK(pica_current_loop() == NULL);
    double a = pica_time();
    double b = pica_time();
    PT_CHECK(b >= a);
}

TASK_TEST(arguments) {
    (void)arg;
    pica_loop *loop = pica_current_loop();
    PT_EQ(pica_call_later(NAN, no_call, NULL, NULL), -EINVAL);
    PT_EQ(pica_call_at(NAN, no_call, NULL, NULL), -EINVAL);
    PT_EQ(pica_loop_call_later(loop, NAN, no_call, NULL, NULL), -EINVAL);
    PT_EQ(pica_loop_call_at(loop, NAN, no_call, NULL, NULL), -EINVAL);
    return 0;
}

TASK_TEST(identity) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    unsigned workers = pica_runtime_workers(rt);
    for (unsigned i = 0; i < workers; i++) {
        pica_loop *loop = pica_runtime_loop(rt, i);
        PT_CHECK(loop != NULL);
        PT_EQ(pica_loop_index(loop), i);
        PT_CHECK(pica_loop_runtime(loop) == rt);
    }
    PT_CHECK(pica_runtime_loop(rt, workers) == NULL);
    PT_CHECK(pica_runtime_loop(rt, UINT32_MAX) == NULL);
    return 0;
}

/* --- call_soon --- */

struct sequence {
    pica_loop *loop;
    pthread_t thread;
    int next;           /* on the loop only */
    atomic_int running; /* callbacks of the loop that run now */
    pica_future *last;
};

struct item {
    struct sequence *s;
    int number;
};

static void in_sequence(void *arg) {
    struct item *i = arg;
    struct sequence *s = i->s;
    PT_EQ(atomic_fetch_add(&s->running, 1), 0);
    if (s->next == 0) {
        s->thread = pthread_self();
    }
    PT_EQ(s->next, i->number);
    s->next++;
    PT_CHECK(pica_current_loop() == s->loop);
    PT_CHECK(pica_current_runtime() == pica_loop_runtime(s->loop));
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(pthread_equal(s->thread, pthread_self()));
    atomic_fetch_sub(&s->running, 1);
    if (i->number == MANY - 1) {
        signal_future(s->last);
    }
}

/* Also when the task that schedules moves between workers in between. */
TASK_TEST(soon_is_fifo) {
    (void)arg;
    struct sequence s = {.loop = pica_current_loop(), .last = new_future()};
    struct item item[MANY];
    for (int i = 0; i < MANY; i++) {
        item[i] = (struct item){&s, i};
        PT_EQ(pica_call_soon(in_sequence, &item[i], NULL), 0);
        if (i % 7 == 0) {
            PT_EQ(pica_yield(), 0);
        }
    }
    PT_EQ(pica_await(s.last, NULL), 0);
    PT_EQ(s.next, MANY);
    pica_future_unref(s.last);
    return 0;
}

struct nested {
    struct trace trace;
    pica_future *told;
};

static void third(void *arg) {
    struct nested *n = arg;
    trace_add(&n->trace, "3");
    signal_future(n->told);
}

static void second(void *arg) {
    trace_add(&((struct nested *)arg)->trace, "2");
}

static void first(void *arg) {
    struct nested *n = arg;
    PT_EQ(pica_call_soon(third, n, NULL), 0);
    trace_add(&n->trace, "1");
}

/* What a callback schedules comes behind what is there. */
static int nested_main(void *arg) {
    struct nested n = {.told = new_future()};
    (void)arg;
    PT_EQ(pica_call_soon(first, &n, NULL), 0);
    PT_EQ(pica_call_soon(second, &n, NULL), 0);
    PT_STR_EQ(n.trace.text, ""); /* never inline */
    PT_EQ(pica_await(n.told, NULL), 0);
    PT_STR_EQ(n.trace.text, "1 2 3");
    pica_future_unref(n.told);
    return 0;
}

TASK_TEST(nested) {
    return pica_join(spawn_pinned(0, nested_main, arg), NULL);
}

/* A callback that always schedules itself again holds nothing up. */
struct again {
    atomic_bool stop;
};

static void calls_itself(void *arg) {
    struct again *a = arg;
    if (!atomic_load(&a->stop)) {
        PT_EQ(pica_call_soon(calls_itself, a, NULL), 0);
    }
}

TASK_TEST(endless_callbacks_starve_nobody) {
    (void)arg;
    struct again a = {false};
    PT_EQ(pica_call_soon(calls_itself, &a, NULL), 0);
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_yield(), 0);
        PT_EQ(pica_sleep(1e-4), 0);
    }
    pica_future *later = new_future();
    PT_EQ(pica_call_later(0.001, complete, later, NULL), 0);
    PT_EQ(pica_await(later, NULL), 0);
    atomic_store(&a.stop, true);
    settle(pica_current_loop());
    pica_future_unref(later);
    return 0;
}

/* --- from other threads --- */

struct sender {
    pica_loop *loop;
    struct sequence *s;
    struct item item[MANY];
    pthread_t thread;
};

static void *sender_main(void *arg) {
    struct sender *me = arg;
    for (int i = 0; i < MANY; i++) {
        me->item[i] = (struct item){me->s, i};
        PT_EQ(pica_call_soon_threadsafe(me->loop, in_sequence, &me->item[i], NULL), 0);
    }
    return NULL;
}

TASK_TEST(threadsafe_is_in_order) {
    (void)arg;
    static struct sender sender[THREADS];
    pica_runtime *rt = pica_current_runtime();
    struct sequence s[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        pica_loop *loop = pica_runtime_loop(rt, i % pica_runtime_workers(rt));
        s[i] = (struct sequence){.loop = loop, .last = new_future()};
        sender[i].loop = loop;
        sender[i].s = &s[i];
        PT_REQUIRE(pthread_create(&sender[i].thread, NULL, sender_main, &sender[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        PT_EQ(pica_await(s[i].last, NULL), 0);
        PT_EQ(s[i].next, MANY);
        pthread_join(sender[i].thread, NULL);
        pica_future_unref(s[i].last);
    }
    return 0;
}

/* Calls that happen one after the other, but on different threads, run in that order. */
struct relay {
    struct sequence *s;
    struct item item[MANY];
    int turn; /* passed on by joining threads */
};

static void *relay_main(void *arg) {
    struct relay *r = arg;
    int i = r->turn;
    r->item[i] = (struct item){r->s, i};
    PT_EQ(pica_call_soon_threadsafe(r->s->loop, in_sequence, &r->item[i], NULL), 0);
    return NULL;
}

TASK_TEST(happens_before_is_kept) {
    (void)arg;
    struct sequence s = {.loop = pica_current_loop(), .last = new_future()};
    static struct relay r;
    r.s = &s;
    for (r.turn = 0; r.turn < MANY; r.turn++) {
        if (r.turn % 3 == 0) {
            (void)relay_main(&r); /* from here, perhaps from the loop's own worker */
        } else {
            pthread_t thread;
            PT_REQUIRE(pthread_create(&thread, NULL, relay_main, &r) == 0);
            pthread_join(thread, NULL);
        }
    }
    PT_EQ(pica_await(s.last, NULL), 0);
    PT_EQ(s.next, MANY);
    pica_future_unref(s.last);
    return 0;
}

/* A sleeping loop is woken, and nothing else has to happen for that. */
struct thread_call {
    pica_loop *loop;
    pica_future *told;
    double delay;
};

static void *thread_call_main(void *arg) {
    struct thread_call *c = arg;
    if (c->delay < 0) {
        PT_EQ(pica_call_soon_threadsafe(c->loop, complete, c->told, NULL), 0);
    } else {
        PT_EQ(pica_loop_call_later(c->loop, c->delay, complete, c->told, NULL), 0);
    }
    return NULL;
}

TASK_TEST(wakes_a_sleeping_loop) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    for (unsigned i = 0; i < 30; i++) {
        struct thread_call c = {pica_runtime_loop(rt, i % pica_runtime_workers(rt)), new_future(),
                                i % 3 == 0 ? -1 : i % 3 == 1 ? 0 : 0.001};
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, thread_call_main, &c) == 0);
        PT_EQ(pica_await(c.told, NULL), 0);
        pthread_join(thread, NULL);
        pica_future_unref(c.told);
    }
    return 0;
}

/* --- timers --- */

struct timed {
    double due;
    double late;
    int number;
    struct order *order;
    pica_loop *loop;
};

struct order {
    int called; /* on one loop */
    int n;
    pica_future *all;
    int seen[MANY];
};

static void timed_call(void *arg) {
    struct timed *t = arg;
    t->late = pica_time() - t->due;
    PT_CHECK(t->late >= 0); /* never early */
    PT_CHECK(t->loop == NULL || pica_current_loop() == t->loop);
    t->order->seen[t->order->called++] = t->number;
    if (t->order->called == t->order->n) {
        signal_future(t->order->all);
    }
}

/* Deadlines in a scrambled order of registration. Pinned to the loop, so it cannot look before all are
 * there. */
static int scrambled_main(void *arg) {
    (void)arg;
    struct order o = {.n = 40, .all = new_future()};
    struct timed t[40];
    double now = pica_time();
    for (int i = 0; i < 40; i++) {
        int k = i * 17 % 40;
        t[k] = (struct timed){now + 0.002 + 0.0005 * k, 0, k, &o, pica_current_loop()};
        PT_EQ(pica_call_at(t[k].due, timed_call, &t[k], NULL), 0);
    }
    PT_EQ(pica_await(o.all, NULL), 0);
    for (int i = 0; i < 40; i++) {
        PT_EQ(o.seen[i], i);
    }
    pica_future_unref(o.all);
    return 0;
}

TASK_TEST(later_in_order_of_time) {
    return pica_join(spawn_pinned(0, scrambled_main, arg), NULL);
}

/* Equal times: in the order of registration, also when the time has passed meanwhile. */
static int equal_times_main(void *arg) {
    (void)arg;
    struct order o = {.n = 40, .all = new_future()};
    struct timed t[40];
    double when = pica_time() + 0.002;
    for (int i = 0; i < 40; i++) {
        t[i] = (struct timed){when, 0, i, &o, pica_current_loop()};
        if (i == 20) {
            while (pica_time() <= when) { /* the loop cannot look in between: we are pinned to it */
            }
        }
        PT_EQ(pica_call_at(when, timed_call, &t[i], NULL), 0);
    }
    PT_EQ(pica_await(o.all, NULL), 0);
    for (int i = 0; i < 40; i++) {
        PT_EQ(o.seen[i], i);
    }
    pica_future_unref(o.all);
    return 0;
}

TASK_TEST(equal_times) {
    return pica_join(spawn_pinned(0, equal_times_main, arg), NULL);
}

/* No delay, or one that has passed: as soon as possible, behind the callbacks that are ready. */
static int no_delay_main(void *arg) {
    (void)arg;
    struct nested n = {.told = new_future()};
    PT_EQ(pica_call_soon(second, &n, NULL), 0);
    PT_EQ(pica_call_later(0, third, &n, NULL), 0);
    PT_EQ(pica_await(n.told, NULL), 0);
    PT_STR_EQ(n.trace.text, "2 3");
    pica_future_unref(n.told);
    static const double past[] = {-1, -PICA_FOREVER, -0.0};
    for (int i = 0; i < 3; i++) {
        n.told = new_future();
        PT_EQ(i == 2 ? pica_call_at(0, complete, n.told, NULL)
                     : pica_call_later(past[i], complete, n.told, NULL),
              0);
        PT_EQ(pica_await(n.told, NULL), 0);
        pica_future_unref(n.told);
    }
    return 0;
}

TASK_TEST(no_delay) {
    return pica_join(spawn_pinned(0, no_delay_main, arg), NULL);
}

/* On each loop, from each loop: a deadline nearer than the one it sleeps for wakes it. */
struct on_loop {
    struct order order;
    struct timed timed[3];
};

static int arms_everywhere(void *arg) {
    pica_runtime *rt = pica_current_runtime();
    (void)arg;
    unsigned n = pica_runtime_workers(rt);
    for (unsigned i = 0; i < n; i++) {
        struct on_loop l = {.order = {.n = 3, .all = new_future()}};
        double now = pica_time();
        for (int k = 2; k >= 0; k--) { /* each nearer than the one before */
            l.timed[k] = (struct timed){now + 0.001 * (k + 1), 0, k, &l.order,
                                        pica_runtime_loop(rt, i)};
            PT_EQ(pica_loop_call_at(l.timed[k].loop, l.timed[k].due, timed_call, &l.timed[k],
                                    NULL),
                  0);
        }
        bool in_time = pica_time() < l.timed[0].due; /* all were armed when the first was due */
        PT_EQ(pica_await(l.order.all, NULL), 0);
        for (int k = 0; k < 3 && in_time; k++) {
            PT_EQ(l.order.seen[k], k);
        }
        pica_future_unref(l.order.all);
    }
    return 0;
}

TASK_TEST(timers_on_every_loop) {
    (void)arg;
    pica_task *task[8];
    for (unsigned i = 0; i < 8; i++) {
        task[i] = spawn_pinned(i, arms_everywhere, NULL);
    }
    for (unsigned i = 0; i < 8; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 0;
}

/* A delay of years is no reason to wait now, nor to forget the others. */
TASK_TEST(huge_delays) {
    (void)arg;
    static const double delays[] = {1e6, 1e10, 1e18, 1e300, PICA_FOREVER};
    pica_handle *handle[5];
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_call_later(delays[i], no_call, NULL, &handle[i]), 0);
    }
    PT_EQ(pica_sleep(0.001), 0);
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_handle_cancel(handle[i]), 1);
        pica_handle_unref(handle[i]);
    }
    return 0;
}

/* Those that are still to come when the runtime ends are dropped: the run does not wait for them. */
static int leaves_timers(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_call_later(1e3 + i, no_call, NULL, NULL), 0);
    }
    return 0;
}

PT_TEST(dropped_at_close) {
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_run(leaves_timers, NULL), 0);
    }
}

/* --- a storm --- */

struct storm {
    pica_runtime *rt;
    atomic_int called;
    pica_future *all;
};

static void storm_call(void *arg) {
    struct storm *s = arg;
    if (atomic_fetch_add(&s->called, 1) == THREADS * 1000 - 1) {
        signal_future(s->all);
    }
}

static void *storm_main(void *arg) {
    struct storm *s = arg;
    unsigned workers = pica_runtime_workers(s->rt);
    for (unsigned i = 0; i < 1000; i++) {
        PT_EQ(pica_call_soon_threadsafe(pica_runtime_loop(s->rt, i % workers), storm_call, s, NULL),
              0);
    }
    return NULL;
}

TASK_TEST(no_call_is_lost) {
    (void)arg;
    struct storm s = {.rt = pica_current_runtime(), .all = new_future()};
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, storm_main, &s) == 0);
    }
    PT_EQ(pica_await(s.all, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    PT_EQ(s.called, THREADS * 1000);
    pica_future_unref(s.all);
    return 0;
}

PT_MAIN()
