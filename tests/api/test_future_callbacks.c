/* Done callbacks of futures: never inline, in order, once each, removable until they are scheduled. */
#include <string.h>
#include <pica.h>

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

enum { MANY = 20 };

struct log {
    struct trace trace;     /* written on one loop only */
    pica_future *future;    /* what callbacks expect; NULL: not checked */
    pica_loop *loop;
    pica_future *finished;  /* completed by the step "end" */
};

struct step {
    struct log *log;
    const char *name;
};

static void note(struct log *log, const char *name) {
    trace_add(&log->trace, name);
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(pica_current_loop() == log->loop);
}

static void on_done(pica_future *future, void *arg) {
    struct step *s = arg;
    PT_CHECK(s->log->future == NULL || future == s->log->future);
    PT_EQ(pica_future_done(future), 1);
    note(s->log, s->name);
}

static void on_soon(void *arg) {
    struct step *s = arg;
    note(s->log, s->name);
    if (s->name[0] == '!') {
        signal_future(s->log->finished);
    }
}

static void add(pica_future *future, struct step *s) {
    PT_EQ(pica_future_add_done_callback(future, NULL, on_done, s), 0);
}

static void soon(struct step *s) {
    PT_EQ(pica_call_soon(on_soon, s, NULL), 0);
}

/* What was scheduled before this on the caller's loop has run when it returns. */
static void finish(struct log *log) {
    struct step end = {log, "!"};
    log->finished = new_future();
    soon(&end);
    PT_EQ(pica_await(log->finished, NULL), 0);
    pica_future_unref(log->finished);
}

static struct log log_new(pica_future *future) {
    return (struct log){.future = future, .loop = pica_current_loop()};
}

/* asyncio's order: FIFO with call_soon, in the order of registration, and for a future that is done
 * behind what is scheduled already. */
TASK_TEST(order) {
    (void)arg;
    pica_future *f = new_future();
    struct log log = log_new(f);
    struct step a = {&log, "a"}, b = {&log, "b"}, c = {&log, "c"}, one = {&log, "1"},
                two = {&log, "2"}, three = {&log, "3"};
    add(f, &one);
    add(f, &two);
    add(f, &three);
    add(f, &one);
    soon(&a);
    signal_future(f);
    soon(&b);
    add(f, &c);
    finish(&log);
    PT_STR_EQ(log.trace.text, "a 1 2 3 1 b c !");
    pica_future_unref(f);
    return 0;
}

/* Between two suspensions of a task that is pinned to the loop no callback of the loop can run, so an
 * inline call would be seen. */
static int not_inline(void *arg) {
    pica_future *f = new_future();
    struct log log = log_new(f);
    struct step one = {&log, "1"}, two = {&log, "2"};
    (void)arg;
    add(f, &one);
    signal_future(f);
    PT_STR_EQ(log.trace.text, "");
    add(f, &two);
    PT_STR_EQ(log.trace.text, "");
    finish(&log);
    PT_STR_EQ(log.trace.text, "1 2 !");
    pica_future_unref(f);
    return 0;
}

TASK_TEST(never_inline) {
    return pica_join(spawn_pinned(0, not_inline, arg), NULL);
}

TASK_TEST(remove) {
    (void)arg;
    pica_future *f = new_future();
    struct log log = log_new(f);
    struct step one = {&log, "1"}, two = {&log, "2"}, three = {&log, "3"};
    add(f, &one);
    add(f, &two);
    add(f, &one);
    add(f, &three);
    add(f, &one);
    PT_EQ(pica_future_remove_done_callback(f, on_done, &log), 0);
    PT_EQ(pica_future_remove_done_callback(f, on_done, &one), 3);
    PT_EQ(pica_future_remove_done_callback(f, on_done, &one), 0);
    add(f, &one);
    signal_future(f);
    /* Scheduled: too late, and they still run. */
    PT_EQ(pica_future_remove_done_callback(f, on_done, &two), 0);
    finish(&log);
    PT_STR_EQ(log.trace.text, "2 3 1 !");
    PT_EQ(pica_future_remove_done_callback(f, on_done, &one), 0);
    pica_future_unref(f);
    return 0;
}

static void removes_others(pica_future *future, void *arg) {
    PT_EQ(pica_future_remove_done_callback(future, on_done, arg), 0);
    PT_EQ(pica_future_add_done_callback(future, NULL, on_done, arg), 0);
}

/* Callbacks that change the list: what was scheduled runs, what is added comes behind. */
TASK_TEST(callback_changes_list) {
    (void)arg;
    pica_future *f = new_future();
    struct log log = log_new(f);
    struct step one = {&log, "1"}, two = {&log, "2"};
    PT_EQ(pica_future_add_done_callback(f, NULL, removes_others, &two), 0);
    add(f, &one);
    add(f, &two);
    signal_future(f);
    finish(&log);
    finish(&log); /* the one that was added comes behind the first end */
    /* The loop may run on another worker than this task: then the addition can come before the end. */
    PT_CHECK(strcmp(log.trace.text, "1 2 ! 2 !") == 0 || strcmp(log.trace.text, "1 2 2 ! !") == 0);
    pica_future_unref(f);
    return 0;
}

TASK_TEST(every_outcome) {
    (void)arg;
    pica_future *f[3] = {new_future(), new_future(), new_future()};
    struct log log = log_new(NULL);
    struct step s[3] = {{&log, "result"}, {&log, "exception"}, {&log, "cancel"}};
    for (int i = 0; i < 3; i++) {
        add(f[i], &s[i]);
    }
    PT_EQ(pica_future_cancel(f[2]), 1);
    PT_EQ(pica_future_set_exception(f[1], -EIO, NULL), 0);
    PT_EQ(pica_future_set_result(f[0], NULL, NULL), 0);
    finish(&log);
    PT_STR_EQ(log.trace.text, "cancel exception result !");
    for (int i = 0; i < 3; i++) {
        pica_future_unref(f[i]);
    }
    return 0;
}

/* The future lives until its callbacks have run, whoever let go of it. */
static void reads_value(pica_future *future, void *arg) {
    void *value = NULL;
    PT_EQ(pica_future_result(future, &value), 0);
    PT_CHECK(value == arg);
    PT_EQ(((struct value *)value)->destroyed, 0);
}

TASK_TEST(keeps_future) {
    (void)arg;
    struct value v = {0};
    struct log log = log_new(NULL);
    pica_future *f = new_future();
    PT_EQ(pica_future_add_done_callback(f, NULL, reads_value, &v), 0);
    PT_EQ(pica_future_set_result(f, &v, value_destroy), 0);
    pica_future_unref(f);
    finish(&log);
    PT_EQ(v.destroyed, 1);
    return 0;
}

static void must_not_run(pica_future *future, void *arg) {
    (void)future;
    (void)arg;
    PT_FAIL("a callback of a future that was never completed");
}

/* A pending future that nobody holds any more takes its callbacks with it. */
TASK_TEST(dropped_pending) {
    (void)arg;
    struct log log = log_new(NULL);
    pica_future *f = new_future();
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_future_add_done_callback(f, NULL, must_not_run, NULL), 0);
    }
    pica_future_unref(f);
    finish(&log);
    return 0;
}

static void tells(pica_future *future, void *arg) {
    (void)future;
    signal_future(arg);
}

static void adds_from_callback(void *arg) {
    struct step *s = arg;
    add(s->log->future, s);
    PT_EQ(pica_future_add_done_callback(s->log->future, NULL, tells, s->log->finished), 0);
    signal_future(s->log->future);
}

TASK_TEST(from_callback) {
    (void)arg;
    pica_future *f = new_future();
    struct log log = log_new(f);
    struct step one = {&log, "1"};
    log.finished = new_future();
    PT_EQ(pica_call_soon(adds_from_callback, &one, NULL), 0);
    PT_EQ(pica_await(log.finished, NULL), 0);
    PT_STR_EQ(log.trace.text, "1");
    pica_future_unref(log.finished);
    pica_future_unref(f);
    return 0;
}

static int ends_with_3(void *arg) {
    int rc = pica_await(arg, NULL);
    return rc < 0 ? rc : 3;
}

static void task_ended(pica_future *future, void *arg) {
    PT_EQ(pica_future_result(future, NULL), 3);
    signal_future(arg);
}

TASK_TEST(of_a_task) {
    (void)arg;
    pica_future *go = new_future();
    pica_future *told = new_future();
    pica_task *task = spawn(ends_with_3, go);
    PT_EQ(pica_future_add_done_callback(PICA_FUTURE(task), NULL, task_ended, told), 0);
    pica_task_unref(task); /* detached; the callback is given its future all the same */
    signal_future(go);
    PT_EQ(pica_await(told, NULL), 0);
    pica_future_unref(go);
    pica_future_unref(told);
    return 0;
}

/* --- other threads, other loops --- */

struct on_loop {
    pica_loop *loop;
    atomic_int next; /* written on the loop only */
};

static void in_turn(pica_future *future, void *arg) {
    struct on_loop *o = arg;
    (void)future;
    PT_CHECK(pica_current_loop() == o->loop);
    atomic_fetch_add(&o->next, 1);
}

struct loop_and_future {
    struct on_loop on;
    pica_future *told;
};

static void told_in_turn(pica_future *future, void *arg) {
    struct loop_and_future *l = arg;
    (void)future;
    PT_CHECK(pica_current_loop() == l->on.loop);
    PT_EQ(atomic_load(&l->on.next), MANY);
    signal_future(l->told);
}

static void *registers_and_completes(void *arg) {
    struct loop_and_future *l = arg;
    pica_future *f = new_future();
    PT_EQ(pica_future_add_done_callback(f, NULL, in_turn, &l->on), -EINVAL);
    PT_EQ(pica_future_add_done_callback(f, l->on.loop, NULL, &l->on), -EINVAL);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_future_add_done_callback(f, l->on.loop, in_turn, &l->on), 0);
    }
    PT_EQ(pica_future_add_done_callback(f, l->on.loop, told_in_turn, l), 0);
    signal_future(f);
    pica_future_unref(f);
    return NULL;
}

TASK_TEST(from_plain_thread_on_each_loop) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    for (unsigned i = 0; i < pica_runtime_workers(rt); i++) {
        struct loop_and_future l = {.on = {.loop = pica_runtime_loop(rt, i)}, .told = new_future()};
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, registers_and_completes, &l) == 0);
        PT_EQ(pica_await(l.told, NULL), 0);
        pthread_join(thread, NULL);
        PT_EQ(atomic_load(&l.on.next), MANY);
        pica_future_unref(l.told);
    }
    return 0;
}

/* --- a race: registering against completing; each callback is called exactly once --- */

struct race {
    pica_future *future;
    atomic_int called;
    pica_future *all;
};

static void race_called(pica_future *future, void *arg) {
    struct race *r = arg;
    (void)future;
    if (atomic_fetch_add(&r->called, 1) == MANY - 1) {
        signal_future(r->all);
    }
}

static int completes(void *arg) {
    signal_future(((struct race *)arg)->future);
    return 0;
}

TASK_TEST(registered_while_completing) {
    (void)arg;
    for (int round = 0; round < 200; round++) {
        struct race r = {.future = new_future(), .all = new_future()};
        pica_task *task = spawn_pinned((unsigned)round, completes, &r);
        for (int i = 0; i < MANY; i++) {
            PT_EQ(pica_future_add_done_callback(r.future, NULL, race_called, &r), 0);
        }
        PT_EQ(pica_await(r.all, NULL), 0);
        PT_EQ(pica_join(task, NULL), 0);
        PT_EQ(atomic_load(&r.called), MANY);
        pica_future_unref(r.future);
        pica_future_unref(r.all);
    }
    return 0;
}

/* --- callbacks that nobody waits for when the runtime ends --- */

static atomic_int late_calls;

static void late_call(pica_future *future, void *arg) {
    (void)future;
    (void)arg;
    atomic_fetch_add(&late_calls, 1);
}

static int leaves_callbacks_behind(void *arg) {
    pica_runtime *rt = pica_current_runtime();
    for (unsigned i = 0; i < MANY; i++) {
        pica_future *f = new_future();
        PT_EQ(pica_future_add_done_callback(
                  f, pica_runtime_loop(rt, i % pica_runtime_workers(rt)), late_call, NULL),
              0);
        PT_EQ(pica_future_set_result(f, arg, value_destroy), 0);
        pica_future_unref(f);
    }
    return 0;
}

PT_TEST(dropped_at_close) {
    struct value v = {0};
    for (int round = 0; round < 50; round++) {
        atomic_store(&v.destroyed, 0);
        PT_EQ(pica_run(leaves_callbacks_behind, &v), 0);
        PT_EQ(v.destroyed, MANY);
    }
    PT_CHECK(atomic_load(&late_calls) <= 50 * MANY);
}

PT_MAIN()
