/* Calls on pools of threads: results, caps, cancellation, the end of a pool and of a runtime. */
#include <pica.h>

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

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

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

/* A blocking function that tests let go, and that counts who is in it. */
struct gate {
    sem_t entered;
    sem_t go;
    atomic_int inside;
    atomic_int most;
    atomic_int calls;
};

static void gate_init(struct gate *g) {
    memset(g, 0, sizeof *g);
    PT_REQUIRE(sem_init(&g->entered, 0, 0) == 0);
    PT_REQUIRE(sem_init(&g->go, 0, 0) == 0);
}

static void gate_wait(sem_t *sem) {
    while (sem_wait(sem) != 0) {
    }
}

static int pass(void *arg) {
    struct gate *g = arg;
    int now = atomic_fetch_add(&g->inside, 1) + 1;
    int most = atomic_load(&g->most);
    while (now > most && !atomic_compare_exchange_weak(&g->most, &most, now)) {
    }
    atomic_fetch_add(&g->calls, 1);
    PT_EQ(sem_post(&g->entered), 0);
    gate_wait(&g->go);
    atomic_fetch_sub(&g->inside, 1);
    return 7;
}

/* In a task, without holding up its worker. */
static void until_entered(struct gate *g, int times) {
    while (times > 0) {
        if (sem_trywait(&g->entered) == 0) {
            times--;
        } else {
            PT_REQUIRE(pica_sleep(0.0005) == 0);
        }
    }
}

static void open_gate(struct gate *g, int times) {
    for (int i = 0; i < times; i++) {
        PT_EQ(sem_post(&g->go), 0);
    }
}

struct through {
    pica_executor *executor;
    pica_fn fn;
    void *arg;
};

static int calls(void *arg) {
    struct through *t = arg;
    return pica_run_in_executor(t->executor, t->fn, t->arg);
}

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

static int threads_named(const char *name) {
    DIR *dir = opendir("/proc/self/task");
    PT_REQUIRE(dir != NULL);
    int count = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[300], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        if (f != NULL) {
            count += fgets(comm, sizeof comm, f) != NULL && strcmp(comm, name) == 0;
            fclose(f);
        }
    }
    closedir(dir);
    return count;
}

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
    PT_EQ(threads_named("pica-pool\n"), cap);
    open_gate(&gate, n);
    for (int i = 0; i < n; i++) {
        PT_EQ(pica_join(task[i], NULL), 7);
    }
    PT_EQ(atomic_load(&gate.most), cap);
    PT_EQ(atomic_load(&gate.calls), n);
    PT_EQ(threads_named("pica-pool\n"), cap);
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
    PT_EQ(threads_named("pica-pool\n"), 0); /* joined */
}

static int fills_own(void *arg) {
    (void)arg;
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 3) == 0);
    fill(ex, 3, 10);
    pica_executor_close(ex);
    PT_EQ(pica_executor_wait_closed(ex), 0);
    PT_EQ(threads_named("pica-pool\n"), 0);
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
    PT_EQ(threads_named("pica-pool\n"), 1);
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
    PT_EQ(threads_named("pica-pool\n"), 0);
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
    while (threads_named("pica-pool\n") != 0) {
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
    PT_EQ(threads_named("pica-pool\n"), 0);
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
        PT_EQ(threads_named("pica-pool\n"), 0);
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

/* --- want --- */

static atomic_long fail_in;

static bool fails(void) {
    return atomic_load(&fail_in) > 0 && atomic_fetch_sub(&fail_in, 1) == 1;
}
static void *test_alloc(void *ctx, size_t size) {
    (void)ctx;
    return fails() ? NULL : malloc(size);
}
static void *test_realloc(void *ctx, void *p, size_t old, size_t size) {
    (void)ctx;
    (void)old;
    return fails() ? NULL : realloc(p, size);
}
static void test_free(void *ctx, void *p, size_t size) {
    (void)ctx;
    (void)size;
    free(p);
}

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
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    struct pica_allocator allocator = {test_alloc, test_realloc, test_free, NULL};
    options.allocator = &allocator;
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
    pica_executor *ex = NULL;
    PT_REQUIRE(pica_executor_new(&ex, 1) == 0);
    PT_EQ(pica_run(forks, ex), 0);
    pica_executor_close(ex);
    PT_EQ(pica_executor_wait_closed(ex), 0);
    pica_executor_release(ex);
}

PT_MAIN()
