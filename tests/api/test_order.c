/* PICA_ORDER=fifo: what runs when is what asyncio's loop does. The expected lines were printed by the
 * same programs in Python (CPython 3.11, asyncio): task steps and callbacks share one FIFO, a wake-up
 * takes its place at its end, timers that are due come behind what is ready. */
#include <pica.h>


#include "tests/support/tasks.h"

static struct trace trace;

static void note(void *arg) {
    trace_add(&trace, arg);
}

static void soon(const char *step) {
    PT_EQ(pica_call_soon(note, (void *)(uintptr_t)step, NULL), 0);
}

static void on_done(pica_future *future, void *arg) {
    (void)future;
    note(arg);
}

static void add_done(pica_future *future, const char *step) {
    PT_EQ(pica_future_add_done_callback(future, NULL, on_done, (void *)(uintptr_t)step), 0);
}

/* A task that awaits a future and then says its name. */
struct waiter {
    pica_future *future;
    const char *name;
};

static int waiter_main(void *arg) {
    struct waiter *w = arg;
    int rc = pica_await(w->future, NULL);
    note((void *)(uintptr_t)w->name);
    return rc;
}

/* --- tasks and callbacks --- */

struct stepper {
    const char *steps[3], *calls[3];
};

static int steps_main(void *arg) {
    struct stepper *s = arg;
    for (int i = 0; i < 3; i++) {
        note((void *)(uintptr_t)s->steps[i]);
        soon(s->calls[i]);
        PT_EQ(pica_sleep(0), 0);
    }
    return 0;
}

FIFO_TEST(tasks_and_callbacks) {
    (void)arg;
    struct stepper sa = {{"a0", "a1", "a2"}, {"a0'", "a1'", "a2'"}};
    struct stepper sb = {{"b0", "b1", "b2"}, {"b0'", "b1'", "b2'"}};
    pica_task *a = spawn(steps_main, &sa);
    soon("x");
    pica_task *b = spawn(steps_main, &sb);
    soon("y");
    PT_EQ(pica_join(a, NULL), 0);
    trace_add(&trace, "A");
    PT_EQ(pica_join(b, NULL), 0);
    trace_add(&trace, "B");
    PT_STR_EQ(trace.text, "a0 x b0 y a0' a1 b0' b1 a1' a2 b1' b2 a2' b2' A B");
    return 0;
}

/* --- a future's callbacks and waiters --- */

FIFO_TEST(callbacks_and_waiters) {
    (void)arg;
    pica_future *f = new_future();
    struct waiter w = {f, "w"}, u = {f, "u"}, v = {f, "v"};
    add_done(f, "1");
    pica_task *tw = spawn_and_turn(waiter_main, &w);
    add_done(f, "2");
    pica_task *tu = spawn_and_turn(waiter_main, &u);
    soon("x");
    signal_future(f);
    soon("y");
    add_done(f, "3");
    pica_task *tv = spawn(waiter_main, &v);
    PT_EQ(pica_join(tw, NULL), 0);
    PT_EQ(pica_join(tu, NULL), 0);
    PT_EQ(pica_join(tv, NULL), 0);
    trace_add(&trace, "end");
    PT_STR_EQ(trace.text, "x 1 w 2 u y 3 v end");
    pica_future_unref(f);
    return 0;
}

/* --- timers without delay --- */

static void complete(void *arg) {
    signal_future(arg);
}

static void nest(void *arg) {
    trace_add(&trace, "n");
    soon("n1");
    PT_EQ(pica_call_later(0, note, (void *)(uintptr_t) "n2", NULL), 0);
    soon("n3");
    PT_EQ(pica_call_later(0.01, complete, arg, NULL), 0);
}

FIFO_TEST(timers_without_delay) {
    (void)arg;
    pica_future *done = new_future();
    PT_EQ(pica_call_later(0, note, (void *)(uintptr_t) "l1", NULL), 0);
    soon("s1");
    PT_EQ(pica_call_later(0, note, (void *)(uintptr_t) "l2", NULL), 0);
    soon("s2");
    PT_EQ(pica_call_later(-1, note, (void *)(uintptr_t) "m", NULL), 0);
    PT_EQ(pica_call_soon(nest, done, NULL), 0);
    PT_EQ(pica_await(done, NULL), 0);
    PT_STR_EQ(trace.text, "s1 s2 n m l1 l2 n1 n3 n2");
    pica_future_unref(done);
    return 0;
}

/* --- the end of a task --- */

static int ends(void *arg) {
    (void)arg;
    trace_add(&trace, "t0");
    PT_EQ(pica_sleep(0), 0);
    soon("x");
    trace_add(&trace, "t1");
    return 0;
}

FIFO_TEST(end_of_a_task) {
    (void)arg;
    pica_task *a = spawn(ends, NULL);
    add_done(PICA_FUTURE(a), "cb1");
    struct waiter j1 = {PICA_FUTURE(a), "j1"}, j2 = {PICA_FUTURE(a), "j2"};
    pica_task *t1 = spawn(waiter_main, &j1);
    pica_task *t2 = spawn(waiter_main, &j2);
    turn();
    add_done(PICA_FUTURE(a), "cb2");
    PT_EQ(pica_join(t1, NULL), 0);
    trace_add(&trace, "J1");
    PT_EQ(pica_join(t2, NULL), 0);
    trace_add(&trace, "J2");
    PT_STR_EQ(trace.text, "t0 t1 x cb1 j1 j2 cb2 J1 J2");
    pica_task_unref(a);
    return 0;
}

/* --- cancellation --- */

struct cancelled {
    pica_future *future; /* NULL: it sleeps */
    const char *first, *second;
};

static int cancelled_main(void *arg) {
    struct cancelled *c = arg;
    int rc = c->future != NULL ? pica_await(c->future, NULL) : pica_sleep(100);
    PT_EQ(rc, PICA_ECANCELED);
    note((void *)(uintptr_t)c->first);
    PT_EQ(pica_sleep(0), 0);
    note((void *)(uintptr_t)c->second);
    return rc;
}

FIFO_TEST(cancelled_tasks) {
    (void)arg;
    pica_future *f = new_future();
    struct cancelled ca = {f, "tc", "td"}, cb = {NULL, "sc", "sd"};
    pica_task *a = spawn(cancelled_main, &ca);
    pica_task *b = spawn_and_turn(cancelled_main, &cb);
    soon("x");
    PT_EQ(pica_task_cancel(b), 1);
    soon("y");
    PT_EQ(pica_task_cancel(a), 1);
    soon("z");
    struct waiter ja = {PICA_FUTURE(a), "ja"}, jb = {PICA_FUTURE(b), "jb"};
    pica_task *ta = spawn(waiter_main, &ja);
    pica_task *tb = spawn(waiter_main, &jb);
    PT_EQ(pica_join(ta, NULL), PICA_ECANCELED);
    PT_EQ(pica_join(tb, NULL), PICA_ECANCELED);
    PT_STR_EQ(trace.text, "x sc y tc z sd td jb ja");
    pica_task_unref(a);
    pica_task_unref(b);
    pica_future_unref(f);
    return 0;
}

static int says_name(void *arg) {
    note(arg);
    return 0;
}

FIFO_TEST(cancelled_before_the_first_step) {
    (void)arg;
    pica_task *a = spawn(says_name, (void *)(uintptr_t) "never");
    pica_task *b = spawn(says_name, (void *)(uintptr_t) "u");
    add_done(PICA_FUTURE(a), "done");
    PT_EQ(pica_task_cancel(a), 1);
    soon("x");
    turn();
    trace_add(&trace, "m1");
    turn();
    trace_add(&trace, "m2");
    PT_STR_EQ(trace.text, "u x m1 done m2");
    pica_task_unref(a);
    pica_task_unref(b);
    return 0;
}

/* Each callback schedules the next: how far they have come tells how many rounds have gone by. */
static const char *const ticks[] = {"0", "1", "2", "3", "4", "5", "6"};

static void tick(void *arg) {
    const char *const *t = arg;
    trace_add(&trace, *t);
    if (t < ticks + 6) {
        PT_EQ(pica_call_soon(tick, (void *)(uintptr_t)(t + 1), NULL), 0);
    }
}

static void ticks_begin(void) {
    PT_EQ(pica_call_soon(tick, (void *)(uintptr_t)ticks, NULL), 0);
}

FIFO_TEST(cancelled_chain) {
    (void)arg;
    pica_future *f = new_future();
    struct waiter wi = {f, "inner"};
    pica_task *i = spawn(waiter_main, &wi);
    struct waiter wm = {PICA_FUTURE(i), "mid"};
    pica_task *m = spawn(waiter_main, &wm);
    struct waiter wo = {PICA_FUTURE(m), "outer"};
    pica_task *o = spawn(waiter_main, &wo);
    turn();
    turn();
    ticks_begin();
    PT_EQ(pica_task_cancel(o), 1);
    PT_EQ(pica_join(o, NULL), PICA_ECANCELED);
    trace_add(&trace, "main");
    for (int k = 0; k < 6; k++) {
        turn();
    }
    PT_STR_EQ(trace.text, "0 inner 1 mid 2 outer 3 main 4 5 6");
    pica_task_unref(i);
    pica_task_unref(m);
    pica_future_unref(f);
    return 0;
}

/* Rounds from the completion to the wake-up. */
static int waits_for(void *arg) {
    struct waiter *w = arg;
    int rc = pica_wait_for(w->future, 100, NULL);
    note((void *)(uintptr_t)w->name);
    return rc;
}

FIFO_TEST(rounds_to_wake_up) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        pica_future *f = new_future();
        struct waiter w = {f, "w"};
        pica_task *task = spawn_and_turn(i == 0 ? waiter_main : waits_for, &w);
        trace.length = 0;
        signal_future(f);
        ticks_begin();
        PT_EQ(pica_join(task, NULL), 0);
        for (int k = 0; k < 8; k++) {
            turn();
        }
        PT_STR_EQ(trace.text, "w 0 1 2 3 4 5 6");
        pica_future_unref(f);
    }
    return 0;
}

PT_MAIN()
