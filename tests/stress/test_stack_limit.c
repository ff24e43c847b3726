/* A limit on stacks of 1, 2, 3 and 8, and far more tasks than that want one. What is promised:
 *  - a task that finds no stack waits unstarted until one is given back;
 *  - when none can ever become free, the oldest such task fails with -ENOMEM, and is reported;
 *  - an await that would need a fresh stack returns -ENOMEM and has consumed nothing;
 *  - nothing crashes, hangs, or is lost. */
#include <pica.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/log_lines.h"
#include "tests/support/pt.h"

enum { TASKS = 100, DEPTH = 100000 };

/* Counted by tasks, read by the main task after it has joined them. */
static atomic_int begun, ended;
static size_t limit;                /* of the present run */
static int order = PICA_ORDER_FREE; /* nothing is run in place in the other */
/* Lines about a task that found no stack, and any other lines. Counted from any thread. */
static atomic_int reports, other_lines;

static void log_hook(void *ctx, int level, const char *text) {
    (void)ctx;
    bool report = level == PICA_LOG_ERROR && strstr(text, "no stack for task") != NULL;
    bool limit_line = strstr(text, "limit of") != NULL || /* the pool says once that it is reached */
                      log_line_of_engine(text);
    atomic_fetch_add(report ? &reports : &other_lines, !limit_line);
}

static void run_with(size_t max_stacks, pica_fn fn, void *arg) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.max_stacks = max_stacks;
    options.order = order;
    options.log = log_hook;
    limit = max_stacks != 0 ? max_stacks : strtoul(getenv("PICA_MAX_STACKS"), NULL, 10);
    atomic_store(&begun, 0);
    atomic_store(&ended, 0);
    atomic_store(&reports, 0);
    PT_EQ(pica_run_opts(fn, arg, &options), 0);
    PT_EQ(atomic_load(&begun), atomic_load(&ended));
    PT_EQ(atomic_load(&other_lines), 0); /* of things that were left over, above all */
}

static void run_with_each_limit(pica_fn fn) {
    static const size_t limits[] = {1, 2, 3, 8};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        unsigned before = pt_failures();
        run_with(limits[i], fn, NULL);
        if (pt_failures() != before) {
            fprintf(stderr, "    (with a limit of %zu stacks)\n", limits[i]);
        }
    }
}

/* After everything: only the main task is left, and no more stacks were made than allowed. */
static void check_end(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
    PT_EQ(stats.tasks_alive, 1);
    PT_CHECK(stats.stacks_live + stats.stacks_idle <= limit);
}

/* Joins all and checks what came of them. The main task holds one stack; with at least one besides,
 * tasks that end of themselves all get their turn, and none may fail. */
static void join_all(pica_task **task, int n) {
    int failed = 0;
    for (int i = 0; i < n; i++) {
        int rc = pica_join(task[i], NULL);
        PT_CHECK(rc == 0 || rc == -ENOMEM);
        failed += rc == -ENOMEM;
    }
    PT_EQ(atomic_load(&reports), failed);
    PT_EQ(atomic_load(&begun) + failed, n);
    if (limit > 1) {
        PT_EQ(failed, 0);
    }
    check_end();
}

/* --- tasks that end of themselves --- */

static int yielding(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_yield(), 0);
    }
    atomic_fetch_add(&ended, 1);
    return 0;
}

static int sleeping(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    PT_EQ(pica_sleep(0.0002), 0);
    atomic_fetch_add(&ended, 1);
    return 0;
}

static int plain(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    atomic_fetch_add(&ended, 1);
    return 0;
}

static pica_task *spawn(pica_fn fn, void *arg, bool pinned, unsigned loop) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_runtime *rt = pica_current_runtime();
    pica_task *task = NULL;
    options.pinned = pinned;
    options.loop = pica_runtime_loop(rt, loop % pica_runtime_workers(rt));
    PT_REQUIRE(pica_create_task_opts(&task, fn, arg, &options) == 0);
    return task;
}

static int mixed_main(void *arg) {
    static const pica_fn fns[] = {yielding, sleeping, plain};
    pica_task *task[TASKS];
    (void)arg;
    for (int i = 0; i < TASKS; i++) {
        task[i] = spawn(fns[i % 3], NULL, i % 4 == 0, (unsigned)i);
    }
    join_all(task, TASKS);
    return 0;
}

PT_TEST_TIMEOUT(mixed, 60) {
    run_with_each_limit(mixed_main);
}

static int pinned_main(void *arg) {
    (void)arg;
    for (int i = 0; i < TASKS; i++) {
        pica_task *task = spawn(i % 2 == 0 ? yielding : sleeping, NULL, true, (unsigned)i);
        int rc = pica_join(task, NULL);
        PT_EQ(rc, limit == 1 ? -ENOMEM : 0);
    }
    PT_EQ(atomic_load(&begun), limit == 1 ? 0 : TASKS);
    check_end();
    return 0;
}

/* One after the other, never in place: each needs a second stack while the main task waits. */
PT_TEST_TIMEOUT(pinned, 60) {
    run_with_each_limit(pinned_main);
}

static int gather_main(void *arg) {
    const unsigned *flags = arg;
    pica_task *task[TASKS];
    for (int i = 0; i < TASKS; i++) {
        task[i] = spawn(i % 2 == 0 ? yielding : sleeping, NULL, false, 0);
    }
    int rc = pica_gather(TASKS, (pica_future *const *)(void *)task, *flags);
    PT_CHECK(rc == 0 || (rc == -ENOMEM && limit == 1 && *flags == 0));
    join_all(task, TASKS);
    return 0;
}

PT_TEST_TIMEOUT(gather, 60) {
    unsigned flags = 0;
    for (size_t n = 1; n <= 8; n *= 2) {
        run_with(n, gather_main, &flags);
    }
}

/* This gather runs its members in place, so it gets along with the main task's stack. */
PT_TEST_TIMEOUT(gather_all, 60) {
    unsigned flags = PICA_RETURN_EXCEPTIONS;
    for (size_t n = 1; n <= 8; n *= 2) {
        run_with(n, gather_main, &flags);
    }
}

/* --- tasks that wait for each other --- */

static int waiting(void *arg) {
    atomic_fetch_add(&begun, 1);
    int rc = pica_event_wait(arg);
    atomic_fetch_add(&ended, 1);
    return rc;
}

static int setting(void *arg) {
    pica_event_set(arg);
    return 0;
}

/* Enough stacks: nobody fails. The setter is pinned, so that it needs a stack of its own. */
static int just_enough_main(void *arg) {
    pica_event event = PICA_EVENT_INIT;
    enum { WAITERS = 4 };
    pica_task *task[WAITERS];
    (void)arg;
    for (int i = 0; i < WAITERS; i++) {
        task[i] = spawn(waiting, &event, false, 0);
        PT_EQ(pica_yield(), 0);
    }
    pica_task *setter = spawn(setting, &event, true, 0);
    PT_EQ(pica_join(setter, NULL), 0);
    join_all(task, WAITERS);
    return 0;
}

/* All stacks are held by tasks that wait for what the main task does after the first failure. */
static int too_few_main(void *arg) {
    pica_event event = PICA_EVENT_INIT;
    pica_task *task[TASKS];
    int failed = 0;
    (void)arg;
    for (int i = 0; i < TASKS; i++) {
        task[i] = spawn(waiting, &event, false, 0);
    }
    /* Fewer stacks than tasks: the main task is resumed when the first has failed. */
    PT_EQ(pica_gather(TASKS, (pica_future *const *)(void *)task, 0), -ENOMEM);
    pica_event_set(&event);
    for (int i = 0; i < TASKS; i++) {
        int rc = pica_join(task[i], NULL);
        PT_CHECK(rc == 0 || rc == -ENOMEM);
        failed += rc == -ENOMEM;
    }
    PT_CHECK(failed >= 1);
    PT_EQ(atomic_load(&reports), failed);
    PT_EQ(atomic_load(&begun) + failed, TASKS);
    check_end();
    return 0;
}

PT_TEST_TIMEOUT(just_enough, 60) {
    run_with(6, just_enough_main, NULL);
}

PT_TEST_TIMEOUT(too_few, 60) {
    run_with_each_limit(too_few_main);
}

/* --- in place, deeper than a stack --- */

static atomic_int refused, retried;

static int deep(void *arg) {
    uintptr_t depth = (uintptr_t)arg;
    atomic_fetch_add(&begun, 1);
    int rc = 0;
    if (depth < DEPTH) {
        pica_task *task = NULL;
        PT_REQUIRE(pica_create_task(&task, deep, (void *)(depth + 1)) == 0);
        rc = pica_join(task, NULL);
        if (rc == -ENOMEM && atomic_fetch_add(&refused, 1) == 0) {
            /* Nothing was consumed: the reference is ours, and the task is as it was. */
            PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
            PT_EQ(pica_task_cancel(task), 1);
            PT_EQ(pica_join(task, NULL), -ENOMEM);
            pica_task_unref(task);
            atomic_fetch_add(&retried, 1);
        }
    }
    atomic_fetch_add(&ended, 1);
    return rc;
}

static int deep_main(void *arg) {
    (void)arg;
    atomic_store(&refused, 0);
    atomic_store(&retried, 0);
    int rc = deep((void *)(uintptr_t)0);
    PT_EQ(rc, -ENOMEM);
    PT_EQ(atomic_load(&retried), 1);
    PT_CHECK(atomic_load(&begun) > 10);
    check_end();
    return 0;
}

PT_TEST_TIMEOUT(deep_awaits, 60) {
    run_with(1, deep_main, NULL);
}

/* --- the environment, and a task with a stack of its own --- */

static int sized_main(void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    (void)arg;
    options.stack_size = 64 * 1024;
    for (int i = 0; i < 20; i++) {
        pica_task *task = NULL;
        PT_REQUIRE(pica_create_task_opts(&task, yielding, NULL, &options) == 0);
        PT_EQ(pica_join(task, NULL), 0); /* its stack is not one of those that are limited */
    }
    check_end();
    return 0;
}

PT_TEST_TIMEOUT(own_stacks_beside, 60) {
    run_with_each_limit(sized_main);
}

PT_TEST_TIMEOUT(fifo_order, 60) {
    order = PICA_ORDER_FIFO;
    run_with_each_limit(mixed_main);
    run_with_each_limit(pinned_main);
    run_with_each_limit(too_few_main);
}

PT_TEST_TIMEOUT(by_environment, 60) {
    static const char *const limits[] = {"1", "2", "8"};
    for (int i = 0; i < 3; i++) {
        setenv("PICA_MAX_STACKS", limits[i], 1);
        run_with(0, gather_main, &(unsigned){PICA_RETURN_EXCEPTIONS});
    }
}

PT_MAIN()
