/* The end of pools of threads, of runtimes that have some, and what happens in want. */
#include <pica.h>

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/gate.h"
#include "tests/support/machine.h"
#include "tests/support/procfs.h"
#include "tests/support/short_memory.h"
#include "tests/support/tasks.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#endif
#if !defined(TSAN)
#define TSAN 0
#endif
#if !defined(ASAN)
#define ASAN 0
#endif

/* --- the end of a pool --- */

static int waits_for_end(void *arg) {
    return pica_executor_wait_closed(arg);
}

TASK_TEST(close_refuses_what_is_queued) {
    (void)arg;
    static struct gate gate;
    gate_init(&gate);
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 2) == 0);
    struct through t = {ex, pass, &gate};
    pica_task *running[2], *queued[20];
    for (int i = 0; i < 2; i++) {
        running[i] = spawn(calls, &t);
    }
    until_entered(&gate, 2);
    for (int i = 0; i < 20; i++) {
        queued[i] = spawn(calls, &t);
    }
    PT_EQ(pica_sleep(0.002), 0);
    pica_executor_close(ex);
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_join(queued[i], NULL), PICA_ECLOSED);
    }
    PT_EQ(atomic_load(&gate.calls), 2);
    pica_task *waiter = spawn(waits_for_end, ex);
    PT_EQ(pica_sleep(0.002), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(waiter)), 0);
    pica_task *gives_up = spawn(waits_for_end, ex);
    PT_EQ(pica_sleep(0.002), 0);
    PT_EQ(pica_task_cancel(gives_up), 1);
    PT_EQ(pica_join(gives_up, NULL), PICA_ECANCELED);
    open_gate(&gate, 2);
    PT_EQ(pica_join(waiter, NULL), 0);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_join(running[i], NULL), 7);
    }
    PT_EQ(procfs_threads_left("pica-pool", 0), 0);
    pica_executor_release(ex);
    return 0;
}

/* Released while functions run: the last thread frees it. */
TASK_TEST(released_while_it_runs) {
    (void)arg;
    static struct gate gate;
    gate_init(&gate);
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 4) == 0);
    struct through t = {ex, pass, &gate};
    pica_task *task[4];
    for (int i = 0; i < 4; i++) {
        task[i] = spawn(calls, &t);
    }
    until_entered(&gate, 4);
    pica_executor_release(ex);
    open_gate(&gate, 4);
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 7);
    }
    while (procfs_threads_named("pica-pool") != 0) {
        PT_EQ(pica_sleep(0.001), 0);
    }
    return 0;
}

/* Pools closed by threads outside, which sleep until the end. */
struct closer {
    pica_executor *executor;
    atomic_bool closed;
};

static void *closes(void *arg) {
    struct closer *c = arg;
    pica_executor_close(c->executor);
    PT_EQ(pica_executor_wait_closed(c->executor), 0);
    atomic_store(&c->closed, true);
    return NULL;
}

static int closed_from_outside(void *arg) {
    (void)arg;
    static struct gate gate;
    gate_init(&gate);
    struct closer c = {.executor = NULL};
    PT_REQUIRE(pica_executor_new(&c.executor, 2) == 0);
    struct through t = {c.executor, pass, &gate};
    pica_task *task = spawn(calls, &t);
    until_entered(&gate, 1);
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, closes, &c) == 0);
    }
    while (pica_run_in_executor(c.executor, code, NULL) != PICA_ECLOSED) {
        PT_EQ(pica_sleep(0.0005), 0);
    }
    PT_CHECK(!atomic_load(&c.closed));
    open_gate(&gate, 1);
    PT_EQ(pica_join(task, NULL), 7);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pthread_join(thread[i], NULL), 0);
    }
    PT_CHECK(atomic_load(&c.closed));
    pica_executor_release(c.executor);
    return 0;
}

PT_TEST(closed_by_other_threads) {
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_run(closed_from_outside, NULL), 0);
    }
}

/* --- the end of a runtime --- */

/* The function's task is cancelled by the end of the runtime, which waits for it. */
static struct gate end_gate;

static void *opens_later(void *arg) {
    (void)arg;
    gate_wait(&end_gate.entered);
    usleep(20000); /* so that the end is well under way; nothing depends on it */
    open_gate(&end_gate, 1);
    return NULL;
}

static int leaves_a_call(void *arg) {
    static struct through t = {NULL, pass, &end_gate};
    (void)arg;
    pica_task_unref(spawn(calls, &t));
    while (atomic_load(&end_gate.calls) == 0) {
        PT_EQ(pica_sleep(0.0005), 0);
    }
    return 0;
}

PT_TEST(runtime_ends_while_a_function_runs) {
    pthread_t thread;
    gate_init(&end_gate);
    PT_REQUIRE(pthread_create(&thread, NULL, opens_later, NULL) == 0);
    PT_EQ(pica_run(leaves_a_call, NULL), 0);
    PT_EQ(atomic_load(&end_gate.inside), 0);
    PT_EQ(procfs_threads_left("pica-pool", 0), 0);
    PT_EQ(pthread_join(thread, NULL), 0);
}

static int leaves_queued_calls(void *arg) {
    static struct through t = {NULL, code, (void *)1};
    (void)arg;
    for (int i = 0; i < 200; i++) {
        pica_task_unref(spawn(calls, &t));
    }
    PT_EQ(pica_to_thread(code, NULL), 0);
    return 0;
}

PT_TEST(runtime_ends_while_calls_are_queued) {
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_run(leaves_queued_calls, NULL), 0);
        PT_EQ(procfs_threads_left("pica-pool", 0), 0);
    }
}

/* Between two runs of a runtime a function goes on; its task learns of it in the next. */
PT_TEST(across_runs) {
    pica_runtime *rt = NULL;
    struct gate gate;
    gate_init(&gate);
    struct through t = {NULL, pass, &gate};
    pica_thread_future *f = NULL;
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    PT_EQ(pica_run_coroutine_threadsafe(rt, calls, &t, &f), 0);
    while (atomic_load(&gate.calls) == 0) {
        PT_EQ(pica_run_until_complete(rt, code, (void *)1), 1);
    }
    open_gate(&gate, 1);
    while (pica_thread_future_wait(f, 0) == 0) {
        PT_EQ(pica_run_until_complete(rt, code, (void *)1), 1);
    }
    PT_EQ(pica_thread_future_result(f, NULL), 7);
    pica_thread_future_free(f);
    PT_EQ(pica_close(rt), 0);
}

/* Idle threads sleep: not one wakes. */
static int uses_both(void *arg) {
    struct through t = {arg, code, (void *)1};
    pica_task *task[4];
    for (int i = 0; i < 4; i++) {
        task[i] = spawn(calls, &t);
    }
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 1);
    }
    return pica_to_thread(code, (void *)1);
}

PT_TEST(idle_threads_sleep) {
    static struct procfs_switches before, after;
    pica_runtime *rt = NULL;
    pica_executor *ex = NULL;
    if (TSAN) {
        PT_SKIP("the sanitizer has a thread of its own that wakes");
    }
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    PT_REQUIRE(pica_executor_new(&ex, 4) == 0);
    PT_EQ(pica_run_until_complete(rt, uses_both, ex), 1);
    do { /* until the last steps of that are over */
        procfs_switches(&before);
        usleep(200000);
        procfs_switches(&after);
    } while (!procfs_switches_equal(&before, &after));
    usleep(1000000);
    procfs_switches(&after);
    PT_CHECK(procfs_switches_equal(&before, &after));
    PT_CHECK(procfs_threads_named("pica-pool") >= 2);
    PT_EQ(pica_close(rt), 0);
    pica_executor_release(ex);
    while (procfs_threads_named("pica-pool") != 0) {
        usleep(1000);
    }
}

/* --- want --- */

static int has_no_memory(void *arg) {
    pica_executor *ex = NULL;
    (void)arg;
    atomic_store(&fail_in, 1);
    PT_EQ(pica_executor_new(&ex, 1), -ENOMEM);
    atomic_store(&fail_in, 1);
    PT_EQ(pica_to_thread(code, (void *)3), -ENOMEM);
    PT_EQ(pica_to_thread(code, (void *)3), 3);
    atomic_store(&fail_in, 1);
    PT_EQ(pica_to_thread(code, (void *)3), 3); /* a call needs none */
    atomic_store(&fail_in, 0);
    return 0;
}

PT_TEST(no_memory) {
    struct pica_runtime_options options = short_of_memory();
    PT_EQ(pica_run_opts(has_no_memory, NULL, &options), 0);
}

/* Not a thread to be had: said to the caller, and to all that are queued; with one, calls wait for it.
 * Address space is what can be limited without the rights and the users of the whole system. */
static void limit_address_space(bool limited) {
    static struct rlimit old;
    if (limited) {
        PT_REQUIRE(getrlimit(RLIMIT_AS, &old) == 0);
        struct rlimit none = {4096, old.rlim_max};
        PT_REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
    } else {
        PT_REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
    }
}

static int has_no_threads(void *arg) {
    static struct gate gate;
    (void)arg;
    gate_init(&gate);
    limit_address_space(true);
    int rc[3];
    for (int i = 0; i < 3; i++) {
        rc[i] = pica_to_thread(code, (void *)3);
    }
    limit_address_space(false);
    for (int i = 0; i < 3; i++) {
        PT_CHECK(rc[i] == -EAGAIN || rc[i] == -ENOMEM);
    }
    struct through t = {NULL, pass, &gate};
    pica_task *busy = spawn(calls, &t);
    until_entered(&gate, 1);
    struct through second = {NULL, code, (void *)4};
    limit_address_space(true);
    pica_task *waits = spawn(calls, &second);
    for (int i = 0; i < 100; i++) {
        PT_EQ(pica_sleep(0.0002), 0); /* it is queued by now, behind the only thread */
    }
    limit_address_space(false);
    PT_EQ(pica_future_done(PICA_FUTURE(waits)), 0);
    open_gate(&gate, 1);
    PT_EQ(pica_join(busy, NULL), 7);
    PT_EQ(pica_join(waits, NULL), 4);
    return 0;
}

PT_TEST(no_threads) {
    if (ASAN || TSAN) {
        PT_SKIP("sanitizers need address space");
    }
    need_limit_of_address_space();
    PT_EQ(pica_run(has_no_threads, NULL), 0);
}

/* In a forked child a pool has no threads: it says so. */
static int after_fork(void *arg) {
    pica_executor *ex = arg;
    PT_EQ(pica_run_in_executor(ex, code, NULL), PICA_EFORKED);
    PT_EQ(pica_executor_wait_closed(ex), PICA_EFORKED);
    pica_executor_close(ex);
    return 0;
}

static int forks(void *arg) {
    PT_EQ(pica_run_in_executor(arg, code, (void *)1), 1);
    pid_t child = fork();
    PT_REQUIRE(child >= 0);
    if (child == 0) {
        unsigned before = pt_failures();
        if (!TSAN) { /* it cannot follow threads of a forked child */
            PT_EQ(pica_run(after_fork, arg), 0);
        }
        pica_executor_release(arg);
        _exit(pt_failures() != before);
    }
    int status = -1;
    PT_EQ(waitpid(child, &status, 0), child);
    PT_EQ(status, 0);
    PT_EQ(pica_run_in_executor(arg, code, (void *)2), 2);
    return 0;
}

PT_TEST(forked) {
    if (!TSAN) {
        need_threads_after_fork();
    }
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 1) == 0);
    PT_EQ(pica_run(forks, ex), 0);
    pica_executor_close(ex);
    PT_EQ(pica_executor_wait_closed(ex), 0);
    pica_executor_release(ex);
}

PT_MAIN()
