/* Tasks: results and who owns them, options, names, identity, sleeping, waiting for all. */
#include <pica.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/support/tasks.h"

enum { MANY = 50 };

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static void *code_of(int n) {
    return (void *)(intptr_t)n;
}

static int yields_then_code(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : code(arg);
}

TASK_TEST(results) {
    (void)arg;
    static const int codes[] = {0, 1, 77, INT32_MAX, -EIO, -ETIMEDOUT, PICA_ECLOSED, INT32_MIN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        PT_EQ(pica_join(spawn(code, code_of(codes[i])), NULL), codes[i]);
        PT_EQ(pica_join(spawn(yields_then_code, code_of(codes[i])), NULL), codes[i]);
        pica_task *task = spawn(yields_then_code, code_of(codes[i]));
        PT_EQ(pica_await(PICA_FUTURE(task), NULL), codes[i]);
        PT_EQ(pica_await(PICA_FUTURE(task), NULL), codes[i]);
        PT_EQ(pica_future_result(PICA_FUTURE(task), NULL), codes[i]);
        PT_EQ(pica_future_cancelled(PICA_FUTURE(task)), 0);
        pica_task_unref(task);
    }
    pica_task_unref(NULL);
    return 0;
}

/* --- values --- */

struct give {
    struct value *first, *second;
    bool twice, fail, without_destructor;
};

static int gives(void *arg) {
    struct give *g = arg;
    if (g->twice) {
        PT_EQ(pica_return(g->first, value_destroy), 0);
        PT_EQ(g->first->destroyed, 0);
    }
    PT_EQ(pica_return(g->second, g->without_destructor ? NULL : value_destroy), 0);
    PT_EQ(g->first->destroyed, g->twice);
    PT_EQ(pica_yield(), 0);
    PT_EQ(g->second->destroyed, 0);
    return g->fail ? -EIO : 0;
}

TASK_TEST(value_is_joined) {
    (void)arg;
    struct give g = {value_new(1), value_new(0), .twice = true};
    void *value = NULL;
    PT_EQ(pica_join(spawn(gives, &g), &value), 0);
    PT_CHECK(value == g.second); /* ours now */
    PT_EQ(g.first->destroyed, 1);
    return 0;
}

TASK_TEST(value_is_dropped) {
    (void)arg;
    struct give g[4] = {{value_new(0), value_new(1), .twice = false},
                        {value_new(0), value_new(1), .fail = true},
                        {value_new(0), value_new(0), .without_destructor = true},
                        {value_new(1), value_new(1), .twice = true}};
    void *value = &g;
    PT_EQ(pica_join(spawn(gives, &g[0]), NULL), 0);
    PT_EQ(pica_join(spawn(gives, &g[1]), &value), -EIO);
    PT_CHECK(value == NULL);
    PT_EQ(g[1].second->destroyed, 1); /* a failure has no value: at once */
    PT_EQ(pica_join(spawn(gives, &g[2]), NULL), 0);
    pica_task_unref(spawn(gives, &g[3]));
    PT_EQ(pica_wait_all_tasks(0), 0);
    return 0;
}

TASK_TEST(value_is_borrowed_then_taken) {
    (void)arg;
    struct give g[2] = {{value_new(0), value_new(1), .twice = false},
                        {value_new(0), value_new(0), .twice = false}};
    pica_task *task = spawn(gives, &g[0]);
    void *value = NULL;
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_await(PICA_FUTURE(task), &value), 0);
        PT_CHECK(value == g[0].second);
    }
    PT_EQ(g[0].second->destroyed, 0);
    pica_task_unref(task);

    task = spawn(gives, &g[1]);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
    PT_EQ(pica_future_take(PICA_FUTURE(task), &value), 0);
    PT_CHECK(value == g[1].second);
    PT_EQ(pica_future_take(PICA_FUTURE(task), &value), PICA_EINVALSTATE);
    pica_task_unref(task);
    return 0;
}

/* --- references --- */

TASK_TEST(references) {
    (void)arg;
    pica_task *task = spawn(yields_then_code, code_of(5));
    PT_CHECK(pica_task_ref(task) == task);
    pica_task_unref(task);
    PT_EQ(pica_join(task, NULL), 5);
    return 0;
}

static int counts(void *arg) {
    PT_EQ(pica_yield(), 0);
    atomic_fetch_add((atomic_int *)arg, 1);
    return 0;
}

TASK_TEST(detached) {
    (void)arg;
    atomic_int n = 0;
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_create_task(NULL, counts, &n), 0);
        pica_task_unref(spawn(counts, &n));
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(n, 2 * MANY);
    return 0;
}

/* --- options --- */

static void arg_ended(void *arg) {
    value_destroy(arg);
}

static int uses_arg(void *arg) {
    struct value *v = arg;
    PT_EQ(v->destroyed, 0);
    PT_EQ(pica_yield(), 0);
    PT_EQ(v->destroyed, 0);
    return 0;
}

static int never_runs(void *arg) {
    (void)arg;
    PT_FAIL("a task that was cancelled before its first step ran");
    return 0;
}

static int is_cancelled(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

FIFO_TEST(arg_destroy_if_never_started) {
    (void)arg;
    struct value v = {0};
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.arg_destroy = arg_ended;
    pica_task *task = NULL;
    PT_EQ(pica_create_task_opts(&task, never_runs, &v, &options), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    PT_EQ(v.destroyed, 1);
    return 0;
}

TASK_TEST(arg_destroy) {
    (void)arg;
    struct value v[4] = {{0}};
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.arg_destroy = arg_ended;
    pica_task *task = NULL;
    PT_EQ(pica_create_task_opts(&task, uses_arg, &v[0], &options), 0);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
    PT_EQ(v[0].destroyed, 1); /* when it has ended, not when the last reference goes */
    pica_task_unref(task);
    PT_EQ(v[0].destroyed, 1);

    /* Also when it was cancelled, at whatever point. */
    PT_EQ(pica_create_task_opts(&task, is_cancelled, &v[1], &options), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    PT_EQ(v[1].destroyed, 1);

    /* Not when it was not created. */
    options.size++;
    PT_EQ(pica_create_task_opts(&task, never_runs, &v[2], &options), -EINVAL);
    PT_EQ(v[2].destroyed, 0);
    return 0;
}

TASK_TEST(bad_options) {
    (void)arg;
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task = NULL;
    options.size = 0;
    PT_EQ(pica_create_task_opts(&task, never_runs, NULL, &options), -EINVAL);
    options.size = sizeof options + 8;
    PT_EQ(pica_create_task_opts(&task, never_runs, NULL, &options), -EINVAL);
    options.size = sizeof options;
    options.stack_size = 1;
    PT_EQ(pica_create_task_opts(&task, never_runs, NULL, &options), -EINVAL);
    options.stack_size = SIZE_MAX;
    PT_EQ(pica_create_task_opts(&task, never_runs, NULL, &options), -EINVAL);
    PT_CHECK(task == NULL);
    PT_EQ(pica_create_task_opts(&task, code, code_of(4), NULL), 0);
    PT_EQ(pica_join(task, NULL), 4);
    return 0;
}

static int knows_its_loop(void *arg) {
    pica_loop *home = pica_task_loop(pica_current_task());
    for (int i = 0; i < 20; i++) {
        PT_CHECK(pica_task_loop(pica_current_task()) == home);
        PT_CHECK(pica_current_loop() == home);
        PT_EQ(pica_yield(), 0);
    }
    PT_CHECK(arg == NULL || home == arg);
    return 0;
}

TASK_TEST(home_loop) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    PT_CHECK(pica_current_loop() == pica_runtime_loop(rt, 0)); /* main's */
    pica_task *task[2 * 8];
    unsigned n = pica_runtime_workers(rt) > 8 ? 8 : pica_runtime_workers(rt);
    for (unsigned i = 0; i < n; i++) {
        struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
        options.loop = pica_runtime_loop(rt, i);
        PT_EQ(pica_create_task_opts(&task[2 * i], knows_its_loop, options.loop, &options), 0);
        PT_CHECK(pica_task_loop(task[2 * i]) == options.loop);
        task[2 * i + 1] = spawn(knows_its_loop, pica_current_loop()); /* the creator's */
    }
    for (unsigned i = 0; i < 2 * n; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 0;
}

static int stays(void *arg) {
    pthread_t thread = pthread_self();
    for (int i = 0; i < 50; i++) {
        PT_EQ(i % 10 == 9 ? pica_sleep(1e-4) : pica_yield(), 0);
        PT_CHECK(pthread_equal(thread, pthread_self()));
    }
    *(pthread_t *)arg = thread;
    return 0;
}

/* All that is pinned to one loop shares its thread, and different loops have different threads. */
TASK_TEST(pinned) {
    (void)arg;
    enum { LOOPS = 8, EACH = 3 };
    pthread_t thread[LOOPS * EACH];
    pica_task *task[LOOPS * EACH];
    for (unsigned i = 0; i < LOOPS * EACH; i++) {
        task[i] = spawn_pinned(i % LOOPS, stays, &thread[i]);
    }
    for (unsigned i = 0; i < LOOPS * EACH; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    unsigned workers = pica_runtime_workers(pica_current_runtime());
    for (unsigned i = 0; i < LOOPS * EACH; i++) {
        for (unsigned j = 0; j < i; j++) {
            bool same = (i % LOOPS) % workers == (j % LOOPS) % workers;
            PT_EQ(pthread_equal(thread[i], thread[j]) != 0, same);
        }
    }
    return 0;
}

/* A pinned task runs what it awaits on its own stack or waits for it: either way it stays. */
static int pinned_awaits(void *arg) {
    pthread_t thread = pthread_self();
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_join(spawn(yields_then_code, code_of(1)), NULL), 1);
        PT_EQ(pica_join(spawn(code, code_of(2)), NULL), 2);
        PT_CHECK(pthread_equal(thread, pthread_self()));
    }
    (void)arg;
    return 0;
}

TASK_TEST(pinned_awaiting) {
    return pica_join(spawn_pinned(2, pinned_awaits, arg), NULL);
}

static int uses_stack(void *arg) {
    size_t size = *(size_t *)arg;
    volatile char *block = __builtin_alloca(size);
    for (size_t i = 0; i < size; i += 4096) {
        block[i] = (char)i;
    }
    PT_EQ(pica_yield(), 0);
    int sum = 0;
    for (size_t i = 0; i < size; i += 4096) {
        sum += block[i] == (char)i;
    }
    return sum;
}

TASK_TEST(stack_size) {
    (void)arg;
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task[4];
    size_t size = 6 * 1024 * 1024;
    options.stack_size = 8 * 1024 * 1024;
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_create_task_opts(&task[i], uses_stack, &size, &options), 0);
    }
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), (int)(size / 4096));
    }
    return 0;
}

/* --- names --- */

static int renames_itself(void *arg) {
    pica_task *self = pica_current_task();
    PT_STR_EQ(pica_task_name(self), "worker 1");
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_task_set_name(self, "other"), 0);
    PT_STR_EQ(pica_task_name(self), "other");
    (void)arg;
    return 0;
}

TASK_TEST(names) {
    (void)arg;
    char name[] = "worker 1";
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task = NULL;
    PT_STR_EQ(pica_task_name(pica_current_task()), "main");
    options.name = name;
    PT_EQ(pica_create_task_opts(&task, renames_itself, NULL, &options), 0);
    memset(name, 'x', sizeof name - 1); /* it was copied */
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
    PT_STR_EQ(pica_task_name(task), "other");
    pica_task_unref(task);

    pica_task *a = spawn(code, NULL);
    pica_task *b = spawn(code, NULL);
    const char *name_a = pica_task_name(a);
    PT_EQ(strncmp(name_a, "Task-", 5), 0);
    PT_EQ(strncmp(pica_task_name(b), "Task-", 5), 0);
    PT_CHECK(strcmp(name_a, pica_task_name(b)) != 0);
    PT_CHECK(pica_task_name(a) == name_a);
    PT_EQ(pica_join(a, NULL), 0);
    PT_EQ(pica_join(b, NULL), 0);
    return 0;
}

/* --- who is current --- */

static int is_itself(void *arg) {
    pica_task *const *me = arg;
    pica_task *self = pica_current_task();
    pica_runtime *rt = pica_current_runtime();
    for (int i = 0; i < 20; i++) {
        PT_CHECK(pica_current_task() == self);
        PT_CHECK(pica_current_runtime() == rt);
        PT_EQ(i % 5 == 4 ? pica_sleep(1e-5) : pica_yield(), 0);
        /* Also around a task that runs on this stack. */
        PT_EQ(pica_join(spawn(yields_then_code, code_of(3)), NULL), 3);
    }
    PT_CHECK(self == *me);
    return 0;
}

TASK_TEST(current_task) {
    (void)arg;
    pica_task *task[MANY];
    pica_task *self = pica_current_task();
    for (int i = 0; i < MANY; i++) {
        /* Written before the task can begin: see pica_create_task. */
        PT_REQUIRE(pica_create_task(&task[i], is_itself, &task[i]) == 0);
    }
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_await(PICA_FUTURE(task[i]), NULL), 0);
        PT_CHECK(pica_current_task() == self);
    }
    for (int i = 0; i < MANY; i++) {
        pica_task_unref(task[i]);
    }
    return 0;
}

/* --- sleeping --- */

TASK_TEST(sleep) {
    (void)arg;
    static const double times[] = {1e-9, 1e-6, 1e-4, 0.001, 0.0123};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        double begin = pica_time();
        PT_EQ(pica_sleep(times[i]), 0);
        PT_CHECK(pica_time() - begin >= times[i]);
    }
    PT_EQ(pica_sleep(0), 0);
    PT_EQ(pica_sleep(-1), 0);
    PT_EQ(pica_sleep(-PICA_FOREVER), 0);
    PT_EQ(pica_sleep(NAN), -EINVAL);
    return 0;
}

/* As in asyncio: a sleep of 0 is one bare yield, not a timer. */
struct ping {
    struct trace trace;
    const char *name;
    struct ping *to;
    bool sleep;
};

static int pings(void *arg) {
    struct ping *p = arg;
    for (int i = 0; i < 3; i++) {
        trace_add(&p->to->trace, p->name);
        PT_EQ(p->sleep ? pica_sleep(0) : pica_yield(), 0);
    }
    return 0;
}

FIFO_TEST(yield_alternates) {
    (void)arg;
    struct ping a = {.name = "a", .to = &a};
    struct ping b = {.name = "b", .to = &a, .sleep = true};
    pica_task *ta = spawn(pings, &a);
    pica_task *tb = spawn(pings, &b);
    PT_STR_EQ(a.trace.text, ""); /* no task begins before its creator suspends */
    PT_EQ(pica_join(ta, NULL), 0);
    PT_EQ(pica_join(tb, NULL), 0);
    PT_STR_EQ(a.trace.text, "a b a b a b");
    return 0;
}

/* A task that only yields holds nobody up. */
static int spins_until(void *arg) {
    int rc = 0;
    while (!pica_future_done(arg)) {
        rc = pica_yield();
        if (rc < 0) {
            return rc;
        }
    }
    return rc;
}

static void complete(void *arg) {
    signal_future(arg);
}

TASK_TEST(yield_lets_callbacks_and_timers_run) {
    (void)arg;
    pica_future *soon = new_future();
    pica_future *later = new_future();
    pica_task *a = spawn(spins_until, soon);
    pica_task *b = spawn(spins_until, later);
    PT_EQ(pica_call_soon(complete, soon, NULL), 0);
    PT_EQ(pica_call_later(0.005, complete, later, NULL), 0);
    PT_EQ(pica_join(a, NULL), 0);
    PT_EQ(pica_join(b, NULL), 0);
    pica_future_unref(soon);
    pica_future_unref(later);
    return 0;
}

/* --- waiting for all --- */

static int waits(void *arg) {
    return pica_await(arg, NULL);
}

TASK_TEST(wait_all) {
    (void)arg;
    atomic_int n = 0;
    PT_EQ(pica_wait_all_tasks(0), 0);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_create_task(NULL, counts, &n), 0);
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(n, MANY);
    PT_EQ(pica_wait_all_tasks(1), 0);
    PT_EQ(pica_task_cancelling(pica_current_task()), 0); /* it spares the caller */
    return 0;
}

TASK_TEST(wait_all_cancels) {
    (void)arg;
    pica_future *never = new_future();
    pica_task *task[MANY];
    for (int i = 0; i < MANY; i++) {
        task[i] = spawn(waits, never);
    }
    PT_EQ(pica_wait_all_tasks(1), 0);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_future_done(PICA_FUTURE(task[i])), 1);
        PT_EQ(pica_future_cancelled(PICA_FUTURE(task[i])), 1);
        pica_task_unref(task[i]);
    }
    pica_future_unref(never);
    return 0;
}

static int waits_for_all(void *arg) {
    int rc = pica_wait_all_tasks(0);
    atomic_fetch_add((atomic_int *)arg, 1);
    return rc;
}

/* Several may wait at once: they do not wait for each other. */
TASK_TEST(wait_all_together) {
    (void)arg;
    for (int round = 0; round < 20; round++) {
        atomic_int ended = 0;
        atomic_int n = 0;
        for (int i = 0; i < 3; i++) {
            PT_EQ(pica_create_task(NULL, waits_for_all, &ended), 0);
            PT_EQ(pica_create_task(NULL, counts, &n), 0);
        }
        PT_EQ(pica_wait_all_tasks(0), 0);
        PT_EQ(n, 3);
        while (atomic_load(&ended) < 3) {
            PT_EQ(pica_yield(), 0);
        }
    }
    return 0;
}

TASK_TEST(wait_all_is_cancelled) {
    (void)arg;
    atomic_int ended = 0;
    pica_future *go = new_future();
    pica_task *other = spawn(waits, go);
    pica_task *waiter = spawn(waits_for_all, &ended);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_task_cancel(waiter), 1);
    (void)pica_join(waiter, NULL);
    PT_EQ(pica_future_done(PICA_FUTURE(other)), 0);
    signal_future(go);
    PT_EQ(pica_join(other, NULL), 0);
    pica_future_unref(go);
    return 0;
}

/* --- counters --- */

TASK_TEST(stats) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    struct pica_runtime_stats before = {.size = sizeof before};
    struct pica_runtime_stats after = {.size = sizeof after};
    struct pica_runtime_stats wrong = {.size = sizeof wrong - 1};
    PT_EQ(pica_runtime_get_stats(rt, &wrong), -EINVAL);
    PT_EQ(pica_runtime_get_stats(rt, &before), 0);
    PT_EQ(before.tasks_alive, 1);
    PT_EQ(before.tasks_created, 1);
    pica_future *go = new_future();
    pica_task *task[MANY];
    for (int i = 0; i < MANY; i++) {
        task[i] = spawn(waits, go);
    }
    PT_EQ(pica_runtime_get_stats(rt, &after), 0);
    PT_EQ(after.tasks_alive, 1 + MANY);
    signal_future(go);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(pica_runtime_get_stats(rt, &after), 0);
    PT_EQ(after.tasks_alive, 1);
    PT_EQ(after.tasks_created, 1 + MANY);
    PT_CHECK(after.steps >= before.steps);
    uint64_t steps = 0;
    for (unsigned i = 0; i < pica_runtime_workers(rt); i++) {
        steps += pica_runtime_worker_steps(rt, i);
    }
    PT_CHECK(steps >= after.steps);
    PT_EQ(pica_runtime_worker_steps(rt, pica_runtime_workers(rt)), 0);
    pica_future_unref(go);
    return 0;
}

/* --- outside of tasks --- */

PT_TEST(outside) {
    struct value v = {0};
    pica_task *task = NULL;
    PT_EQ(pica_create_task(&task, code, NULL), PICA_ENOTASK);
    PT_EQ(pica_create_task(NULL, code, NULL), PICA_ENOTASK);
    PT_CHECK(task == NULL);
    PT_EQ(pica_return(&v, value_destroy), PICA_ENOTASK);
    PT_EQ(v.destroyed, 0);
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(pica_current_loop() == NULL);
    PT_CHECK(pica_current_runtime() == NULL);
    PT_EQ(pica_yield(), PICA_ENOTASK);
    PT_EQ(pica_sleep(0.1), PICA_ENOTASK);
    PT_EQ(pica_sleep(0), PICA_ENOTASK);
    PT_EQ(pica_checkpoint(), PICA_ENOTASK);
    PT_EQ(pica_wait_all_tasks(0), PICA_ENOTASK);
    PT_EQ(pica_wait_all_tasks(1), PICA_ENOTASK);
}

static void in_callback(void *arg) {
    pica_future *told = arg;
    struct value v = {0};
    pica_task *task = NULL;
    pica_future *f = new_future();
    void *value = &v;
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(pica_current_runtime() != NULL);
    PT_EQ(pica_return(&v, value_destroy), PICA_ENOTASK);
    PT_EQ(pica_yield(), PICA_ENOTASK);
    PT_EQ(pica_sleep(0.1), PICA_ENOTASK);
    PT_EQ(pica_sleep(-0.1), PICA_ENOTASK);
    PT_EQ(pica_checkpoint(), PICA_ENOTASK);
    PT_EQ(pica_wait_all_tasks(0), PICA_ENOTASK);
    PT_EQ(pica_await(f, &value), PICA_ENOTASK);
    PT_EQ(pica_shield(f, &value), PICA_ENOTASK);
    PT_EQ(pica_wait_for(f, 1.0, &value), PICA_ENOTASK);
    PT_EQ(pica_gather(1, &f, 0), PICA_ENOTASK);
    PT_EQ(pica_wait(1, &f, 1.0, PICA_ALL_COMPLETED), PICA_ENOTASK);
    PT_EQ(v.destroyed, 0);
    /* A callback may create tasks, though not wait for them. */
    PT_EQ(pica_create_task(&task, code, code_of(1)), 0);
    PT_CHECK(pica_task_loop(task) == pica_current_loop());
    PT_EQ(pica_join(task, NULL), PICA_ENOTASK);
    pica_task_unref(task); /* the reference was kept */
    pica_future_unref(f);
    signal_future(told);
}

TASK_TEST(in_a_callback) {
    (void)arg;
    pica_future *told = new_future();
    PT_EQ(pica_call_soon(in_callback, told, NULL), 0);
    PT_EQ(pica_await(told, NULL), 0);
    pica_future_unref(told);
    return 0;
}

PT_MAIN()
