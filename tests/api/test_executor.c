/* Calls on pools of threads: results, caps, order, cancellation. */
#include <pica.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/gate.h"
#include "tests/support/tasks.h"

/* --- results --- */

static int sees_no_runtime(void *arg) {
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(pica_current_runtime() == NULL);
    PT_CHECK(pica_current_loop() == NULL);
    PT_EQ(pica_yield(), PICA_ENOTASK);
    PT_EQ(pica_to_thread(code, NULL), PICA_ENOTASK);
    sigset_t blocked;
    PT_EQ(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
    PT_EQ(sigismember(&blocked, SIGINT), 1);
    PT_EQ(sigismember(&blocked, SIGALRM), 1);
    PT_EQ(sigismember(&blocked, SIGSEGV), 0);
    *(int *)arg += 1;
    return 5;
}

TASK_TEST(results) {
    (void)arg;
    int plain = 41;
    PT_EQ(pica_to_thread(sees_no_runtime, &plain), 5);
    PT_EQ(plain, 42);
    PT_EQ(pica_run_in_executor(NULL, code, (void *)(intptr_t)-EIO), -EIO);
    PT_EQ(pica_to_thread(code, (void *)(intptr_t)PICA_ECANCELED), PICA_ECANCELED);
    PT_EQ(pica_task_cancelling(pica_current_task()), 0);
    PT_EQ(pica_to_thread(NULL, NULL), -EINVAL);
    pica_executor *ex = NULL;
    PT_EQ(pica_executor_new(NULL, 1), -EINVAL);
    PT_EQ(pica_executor_new(&ex, 1), 0);
    for (int i = 0; i < 100; i++) {
        PT_EQ(pica_run_in_executor(ex, code, (void *)(intptr_t)i), i);
    }
    pica_executor_close(ex);
    PT_EQ(pica_run_in_executor(ex, code, NULL), PICA_ECLOSED);
    PT_EQ(pica_executor_wait_closed(ex), 0);
    pica_executor_close(ex);
    PT_EQ(pica_executor_wait_closed(ex), 0);
    pica_executor_release(ex);
    pica_executor_release(NULL);
    return 0;
}

PT_TEST(outside_of_tasks) {
    pica_executor *ex = NULL;
    PT_EQ(pica_to_thread(code, NULL), PICA_ENOTASK);
    PT_EQ(pica_executor_new(&ex, 0), 0);
    PT_EQ(pica_run_in_executor(ex, code, NULL), PICA_ENOTASK);
    pica_executor_release(ex);
}

/* What runs on a pool may use what any thread may: here it waits for a task of the runtime. */
static int waits_for_a_task(void *arg) {
    pica_thread_future *f = NULL;
    PT_REQUIRE(pica_run_coroutine_threadsafe(arg, code, (void *)9, &f) == 0);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    int rc = pica_thread_future_result(f, NULL);
    pica_thread_future_free(f);
    return rc;
}

TASK_TEST(may_call_the_runtime) {
    (void)arg;
    PT_EQ(pica_to_thread(waits_for_a_task, pica_current_runtime()), 9);
    return 0;
}

/* Workers go on while functions block, and a waiting task holds up nobody. */
TASK_TEST(holds_nobody_up) {
    (void)arg;
    static struct gate gate;
    gate_init(&gate);
    struct through t = {NULL, pass, &gate};
    pica_task *task[4];
    for (int i = 0; i < 4; i++) {
        task[i] = spawn(calls, &t);
    }
    until_entered(&gate, 4);
    for (int i = 0; i < 100; i++) {
        PT_EQ(pica_join(spawn(code, (void *)3), NULL), 3);
    }
    open_gate(&gate, 4);
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 7);
    }
    return 0;
}

/* --- caps --- */

/* More calls than threads: exactly `cap` are in, the others wait their turn, and all run. */
static void fill(pica_executor *ex, int cap, int extra) {
    static struct gate gate;
    gate_init(&gate);
    struct through t = {ex, pass, &gate};
    int n = cap + extra;
    pica_task **task = calloc((size_t)n, sizeof(pica_task *));
    PT_REQUIRE(task != NULL);
    for (int i = 0; i < n; i++) {
        task[i] = spawn(calls, &t);
    }
    until_entered(&gate, cap);
    for (int i = 0; i < 100; i++) {
        PT_EQ(pica_yield(), 0);
    }
    PT_EQ(atomic_load(&gate.calls), cap);
    PT_EQ(procfs_threads_named("pica-pool"), cap);
    open_gate(&gate, n);
    for (int i = 0; i < n; i++) {
        PT_EQ(pica_join(task[i], NULL), 7);
    }
    PT_EQ(atomic_load(&gate.most), cap);
    PT_EQ(atomic_load(&gate.calls), n);
    PT_EQ(procfs_threads_named("pica-pool"), cap);
    free(task);
}

static int default_cap(void) {
    cpu_set_t set;
    PT_REQUIRE(sched_getaffinity(0, sizeof set, &set) == 0);
    int n = CPU_COUNT(&set) + 4;
    return n < 32 ? n : 32;
}

static int fills_default(void *arg) {
    int cap = default_cap();
    (void)arg;
    fill(NULL, cap, 20);
    fill(NULL, cap, 20); /* and with the threads that are there */
    return 0;
}

PT_TEST(default_pool_grows_to_its_cap) {
    PT_EQ(pica_run(fills_default, NULL), 0);
    PT_EQ(procfs_threads_left("pica-pool", 0), 0); /* joined */
}

static int fills_own(void *arg) {
    (void)arg;
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 3) == 0);
    fill(ex, 3, 10);
    pica_executor_close(ex);
    PT_EQ(pica_executor_wait_closed(ex), 0);
    PT_EQ(procfs_threads_left("pica-pool", 0), 0);
    pica_executor_release(ex);
    return 0;
}

PT_TEST(own_pool_grows_to_its_cap) {
    PT_EQ(pica_run(fills_own, NULL), 0);
}

/* One after the other needs one thread. */
static int one_by_one(void *arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        PT_EQ(pica_to_thread(code, (void *)(intptr_t)i), i);
    }
    PT_EQ(procfs_threads_named("pica-pool"), 1);
    return 0;
}

PT_TEST(no_more_threads_than_needed) {
    PT_EQ(pica_run(one_by_one, NULL), 0);
}

/* Calls begin in order. */
static int order[50];
static atomic_int ordered;

static int notes_order(void *arg) {
    order[atomic_fetch_add(&ordered, 1)] = code(arg);
    return 0;
}

FIFO_TEST(calls_begin_in_order) {
    (void)arg;
    static struct gate gate;
    gate_init(&gate);
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 1) == 0);
    struct through first = {ex, pass, &gate};
    static struct through t[50];
    pica_task *task[50], *busy = spawn_pinned(0, calls, &first);
    until_entered(&gate, 1);
    for (int i = 0; i < 50; i++) {
        t[i] = (struct through){ex, notes_order, (void *)(intptr_t)i};
        task[i] = spawn_pinned(0, calls, &t[i]);
    }
    PT_EQ(pica_join(spawn_pinned(0, code, NULL), NULL), 0); /* all are queued */
    open_gate(&gate, 1);
    for (int i = 0; i < 50; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(order[i], i);
    }
    PT_EQ(pica_join(busy, NULL), 7);
    pica_executor_release(ex);
    return 0;
}

/* --- cancellation --- */

static int cancelled_at_entry(void *arg) {
    struct gate *g = arg;
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_to_thread(pass, g), PICA_ECANCELED);
    return pica_checkpoint();
}

static int keeps_pending(void *arg) {
    struct through *t = arg;
    int rc = pica_run_in_executor(t->executor, t->fn, t->arg);
    PT_EQ(pica_checkpoint(), PICA_ECANCELED); /* it arrives here */
    PT_EQ(pica_checkpoint(), 0);
    return rc;
}

TASK_TEST(cancelled) {
    (void)arg;
    static struct gate gate;
    gate_init(&gate);
    PT_EQ(pica_join(spawn(cancelled_at_entry, &gate), NULL), 0);
    PT_EQ(atomic_load(&gate.calls), 0);

    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 1) == 0);
    struct through t = {ex, pass, &gate};
    pica_task *running = spawn(keeps_pending, &t);
    until_entered(&gate, 1);
    pica_task *queued = spawn(calls, &t);
    PT_EQ(pica_sleep(0.002), 0);
    PT_EQ(pica_task_cancel(running), 1);
    PT_EQ(pica_task_cancel(queued), 1);
    PT_EQ(pica_join(queued, NULL), PICA_ECANCELED); /* at once, while the other still runs */
    PT_EQ(pica_future_done(PICA_FUTURE(running)), 0);
    open_gate(&gate, 1);
    PT_EQ(pica_join(running, NULL), 7);
    PT_EQ(atomic_load(&gate.calls), 1);
    pica_executor_release(ex);
    return 0;
}

/* A function that runs has won, whenever it is that the cancellation comes: here from the function itself,
 * often before its task has even suspended. */
static int cancels_its_task(void *arg) {
    PT_EQ(pica_task_cancel(arg), 1);
    usleep(300); /* so that it may suspend meanwhile; both orders are right */
    return 3;
}

static int cancelled_by_its_function(void *arg) {
    PT_EQ(pica_run_in_executor(arg, cancels_its_task, pica_current_task()), 3);
    PT_EQ(pica_checkpoint(), PICA_ECANCELED);
    return 0;
}

TASK_TEST(running_functions_win) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        pica_executor *ex = NULL;
        PT_REQUIRE(pica_executor_new(&ex, 2) == 0); /* a new thread may run before its maker goes on */
        PT_EQ(pica_join(spawn(cancelled_by_its_function, ex), NULL), 0);
        pica_executor_close(ex);
        PT_EQ(pica_executor_wait_closed(ex), 0);
        pica_executor_release(ex);
    }
    return 0;
}

/* A thousand calls, cancelled from everywhere while they are made, queued and run: each either ran and
 * returned its result, or never ran. */
enum { STORM = 1000 };

static atomic_int ran[STORM];

static int storms(void *arg) {
    atomic_fetch_add(&ran[code(arg)], 1);
    return code(arg);
}

struct storm {
    pica_executor *executor;
    int i;
};

static int storm_task(void *arg) {
    struct storm *s = arg;
    int rc = pica_run_in_executor(s->executor, storms, (void *)(intptr_t)s->i);
    int times = atomic_load(&ran[s->i]);
    if (rc == PICA_ECANCELED) {
        PT_EQ(times, 0);
    } else {
        PT_EQ(rc, s->i);
        PT_EQ(times, 1);
    }
    return rc;
}

static int cancels(void *arg) {
    pica_task **task = arg;
    for (int i = 0; i < STORM; i += 2) {
        (void)pica_task_cancel(task[i]);
        if (i % 64 == 0) {
            (void)pica_yield();
        }
    }
    return 0;
}

static int storm_main(void *arg) {
    (void)arg;
    static struct storm s[STORM];
    static pica_task *task[STORM];
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 3) == 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < STORM; i++) {
            atomic_store(&ran[i], 0);
            s[i] = (struct storm){ex, i};
            task[i] = spawn(storm_task, &s[i]);
        }
        pica_task *canceller = spawn(cancels, task);
        PT_EQ(pica_join(canceller, NULL), 0);
        for (int i = 0; i < STORM; i++) {
            int rc = pica_join(task[i], NULL);
            PT_CHECK(rc == i || (rc == PICA_ECANCELED && i % 2 == 0));
        }
    }
    pica_executor_release(ex);
    return 0;
}

PT_TEST(storm_of_cancellations) {
    PT_EQ(pica_run(storm_main, NULL), 0);
}

PT_MAIN()
