/* Runtimes, tasks, futures, callbacks, timers, queues and threads that run short of memory. See nth.h. */
#include "tests/faults/nth.h"

#include <signal.h>
#include <stdatomic.h>

enum { MANY = 40, TIMERS = 100, ITEMS = 300 };

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

/* A result that is no error, and the one that it should be. */
static int three(int rc) {
    PT_CHECK(rc < 0 || rc == 3);
    return rc < 0 ? rc : 0;
}

static void nothing(void *arg) {
    (void)arg;
}

static void counts(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
}

static int fails(void *arg) {
    (void)arg;
    return pica_fail(-EIO, "%s", "some message");
}

static int one_yield(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : (int)(intptr_t)arg;
}

/* --- runtimes --- */

NTH_PLAIN(run, "pica_run", 0) {
    return three(pica_run(code, (void *)3));
}

NTH_PLAIN(run_opts, "pica_run_opts", 0) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.handle_signals = 1;
    options.affinity = 1;
    options.workers = 3;
    return three(pica_run_opts(one_yield, (void *)3, &options));
}

NTH_PLAIN(runtime, "pica_runtime_new pica_run_until_complete pica_run_forever pica_close", 0) {
    pica_runtime *rt = NULL;
    int rc = pica_runtime_new(&rt, NULL);
    if (rc == 0) {
        for (int i = 0; i < 3; i++) {
            NTH_STEP(rc, three(pica_run_until_complete(rt, code, (void *)3)));
        }
        pica_stop(rt);
        NTH_STEP(rc, pica_run_forever(rt));
        PT_EQ(pica_close(rt), 0); /* an end needs no memory */
    }
    return rc;
}

NTH_PLAIN(threads, "pica_run_coroutine_threadsafe", 0) {
    pica_runtime *rt = NULL;
    pica_thread_future *f[MANY] = {NULL};
    int rc = pica_runtime_new(&rt, NULL), made = 0;
    while (rc == 0 && made < MANY) {
        rc = pica_run_coroutine_threadsafe(rt, one_yield, NULL, &f[made]);
        made += rc == 0;
    }
    if (rt != NULL) {
        if (rc == 0) {
            rc = pica_run_until_complete(rt, one_yield, NULL);
        }
        PT_EQ(pica_close(rt), 0);
    }
    for (int i = 0; i < made; i++) {
        PT_EQ(pica_thread_future_wait(f[i], PICA_FOREVER), 1);
        pica_thread_future_free(f[i]);
    }
    return rc;
}

/* --- tasks --- */

/* Each argument is released once, by the task or, without one, by whoever would have made it. */
NTH(tasks, "pica_create_task pica_create_task_opts pica_join pica_task_set_name", 0) {
    static atomic_int released;
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task[MANY] = {NULL};
    int rc = 0, made = 0;
    atomic_store(&released, 0);
    options.arg_destroy = counts;
    for (int i = 0; i < MANY && rc >= 0; i++) {
        options.name = i % 2 != 0 ? "a name of some length" : NULL;
        options.pinned = i % 3 == 0;
        options.stack_size = i % 5 == 0 ? 128 << 10 : 0;
        rc = pica_create_task_opts(&task[i], fails, &released, &options);
        made += rc == 0;
    }
    NTH_STEP(rc, pica_task_set_name(pica_current_task(), "another name"));
    for (int i = 0; i < made; i++) {
        int ended = pica_join(task[i], NULL);
        if (ended == -ENOMEM) { /* kept: no stack was to be had */
            pica_task_unref(task[i]);
        }
        PT_CHECK(ended == -EIO || ended == -ENOMEM);
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(atomic_load(&released), made);
    pica_task *last = NULL;
    NTH_STEP(rc, pica_create_task(&last, one_yield, NULL));
    return nth_join(rc, last);
}

NTH(errors, "pica_error_new pica_fail", 0) {
    pica_error *cause = pica_error_new(-EIO, NULL, "%s", "the cause");
    pica_error *error = pica_error_new(-EIO, cause, "%*s", 2000, "long");
    int rc = cause == NULL || error == NULL ? -ENOMEM : 0;
    pica_error_unref(cause);
    pica_error_unref(error);
    PT_EQ(pica_fail(-EIO, "%s", "first"), -EIO);
    PT_EQ(pica_fail(-EIO, "%s", "second"), -EIO);
    return rc;
}

/* --- futures --- */

static void on_done(pica_future *future, void *arg) {
    (void)future;
    counts(arg);
}

NTH(futures, "pica_future_new pica_future_add_done_callback pica_await pica_shield pica_wait_for",
    0) {
    static atomic_int called;
    pica_future *f = NULL;
    pica_task *task = NULL;
    int rc = pica_future_new(&f), added = 0;
    atomic_store(&called, 0);
    for (int i = 0; i < MANY && rc == 0; i++) {
        rc = pica_future_add_done_callback(f, NULL, on_done, &called);
        added += rc == 0;
    }
    NTH_STEP(rc, pica_create_task(&task, one_yield, NULL));
    NTH_STEP(rc, pica_wait_for(PICA_FUTURE(task), 60, NULL));
    NTH_STEP(rc, pica_shield(PICA_FUTURE(task), NULL));
    if (f != NULL) {
        PT_EQ(pica_future_set_result(f, NULL, NULL), 0);
        PT_EQ(pica_await(f, NULL), 0);
        while (atomic_load(&called) < added) { /* what was accepted is called, without memory */
            PT_EQ(pica_yield(), 0);
        }
    }
    pica_future_unref(f);
    return nth_join(rc, task);
}

NTH(gather, "pica_gather pica_wait", 0) {
    pica_task *task[MANY] = {NULL};
    pica_future *f[MANY];
    int rc = 0, made = 0;
    while (made < MANY && (rc = pica_create_task(&task[made], one_yield, NULL)) == 0) {
        f[made] = PICA_FUTURE(task[made]);
        made++;
    }
    rc = rc == 0 ? pica_wait((size_t)made, f, 60, PICA_FIRST_COMPLETED) : rc;
    rc = rc > 0 ? pica_gather((size_t)made, f, 0) : rc;
    rc = rc == 0 ? pica_gather((size_t)made, f, PICA_RETURN_EXCEPTIONS) : rc;
    for (int i = 0; i < made; i++) {
        rc = nth_join(rc, task[i]);
    }
    return rc;
}

/* --- callbacks --- */

static void set_event(void *arg) {
    pica_event_set(arg);
}

NTH(callbacks,
    "pica_call_soon pica_call_later pica_call_at pica_call_soon_threadsafe pica_loop_call_later pica_loop_call_at",
    0) {
    static atomic_int called;
    pica_loop *loop = pica_current_loop();
    int rc = 0, made = 0;
    atomic_store(&called, 0);
    for (int i = 0; i < MANY && rc == 0; i++) {
        pica_handle *h = NULL;
        double in = 1e-5 * i, at = pica_time() + in;
        rc = i % 6 == 0   ? pica_call_soon(counts, &called, &h)
             : i % 6 == 1 ? pica_call_later(in, counts, &called, &h)
             : i % 6 == 2 ? pica_call_at(at, counts, &called, &h)
             : i % 6 == 3 ? pica_call_soon_threadsafe(loop, counts, &called, &h)
             : i % 6 == 4 ? pica_loop_call_later(loop, in, counts, &called, &h)
                          : pica_loop_call_at(loop, at, counts, &called, &h);
        PT_CHECK((rc == 0) == (h != NULL));
        made += rc == 0;
        pica_handle_unref(h);
    }
    while (atomic_load(&called) < made) {
        PT_EQ(pica_yield(), 0);
    }
    return rc;
}

NTH(asyncs, "pica_async_new", 0) {
    pica_event set = PICA_EVENT_INIT;
    pica_async *async[4] = {NULL};
    int rc = 0;
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = pica_async_new(&async[i], pica_current_loop(), set_event, &set);
    }
    if (rc == 0) {
        pica_async_send(async[3]);
        rc = pica_event_wait(&set);
    }
    for (int i = 0; i < 4 && async[i] != NULL; i++) {
        pica_async_free(async[i]);
    }
    return rc;
}

/* --- time --- */

static int sleeps(void *arg) {
    double *limit = arg;
    pica_timeout t;
    int rc = pica_timeout_enter(&t, 1e3);
    if (rc == 0) {
        NTH_STEP(rc, pica_timeout_reschedule(&t, 2e3));
        NTH_STEP(rc, pica_sleep(*limit));
        rc = pica_timeout_exit(&t, rc);
    }
    return rc;
}

NTH(timers, "pica_sleep pica_timeout_enter pica_timeout_reschedule", 0) {
    static double limit = 1e-4;
    pica_task *task[TIMERS] = {NULL};
    int rc = 0;
    for (int i = 0; i < TIMERS && rc == 0; i++) {
        rc = pica_create_task(&task[i], sleeps, &limit);
    }
    for (int i = 0; i < TIMERS; i++) {
        rc = nth_join(rc, task[i]);
    }
    return rc;
}

/* --- queues --- */

static int takes(void *arg) {
    int rc = 0;
    for (long i = 0; rc == 0; i++) {
        void *item = NULL;
        rc = pica_queue_get(arg, &item);
        PT_CHECK(rc < 0 || (intptr_t)item == i + 1); /* in order, none lost, none twice */
    }
    return rc == PICA_ESHUTDOWN ? 0 : rc;
}

NTH(queues, "pica_queue_init pica_queue_put pica_queue_put_nowait", 0) {
    static pica_queue queue;
    pica_task *taker = NULL;
    pica_queue_init(&queue, 0);
    int rc = pica_create_task(&taker, takes, &queue);
    for (intptr_t i = 1; i <= ITEMS && rc == 0; i++) {
        rc = i % 2 != 0 ? pica_queue_put(&queue, (void *)i)
                        : pica_queue_put_nowait(&queue, (void *)i);
    }
    pica_queue_shutdown(&queue, 0, NULL);
    rc = nth_join(rc, taker);
    pica_queue_destroy(&queue, NULL);
    return rc;
}

/* --- pools of threads --- */

static int in_pool(void *arg) {
    return three(pica_run_in_executor(arg, code, (void *)3));
}

NTH(executors, "pica_executor_new pica_run_in_executor pica_to_thread", -EAGAIN) {
    pica_executor *ex = NULL;
    pica_task *task[4] = {NULL};
    int rc = pica_executor_new(&ex, 2);
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = pica_create_task(&task[i], in_pool, ex);
    }
    NTH_STEP(rc, three(pica_to_thread(code, (void *)3)));
    for (int i = 0; i < 4; i++) {
        rc = nth_join(rc, task[i]);
    }
    if (ex != NULL) {
        pica_executor_close(ex);
        PT_EQ(pica_executor_wait_closed(ex), 0);
    }
    pica_executor_release(ex);
    return rc;
}

/* --- the process --- */

NTH(signals, "pica_add_signal_handler", 0) {
    pica_event set = PICA_EVENT_INIT;
    int rc = pica_add_signal_handler(SIGUSR1, set_event, &set);
    NTH_STEP(rc, pica_add_signal_handler(SIGUSR2, nothing, NULL));
    if (rc == 0) {
        PT_EQ(raise(SIGUSR1), 0);
        rc = pica_event_wait(&set);
    }
    (void)pica_remove_signal_handler(SIGUSR1);
    (void)pica_remove_signal_handler(SIGUSR2);
    return rc;
}

PT_MAIN()
