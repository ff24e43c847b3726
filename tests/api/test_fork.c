/* A forked child has none of its parent's threads: what belongs to a runtime of the parent is refused
 * there, and a runtime of its own works. */
#include <pica.h>

#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/machine.h"
#include "tests/support/tasks.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREADS_AFTER_FORK 0 /* the sanitizer cannot follow threads of a forked child */
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define THREADS_AFTER_FORK 0
#endif
#if !defined(THREADS_AFTER_FORK)
#define THREADS_AFTER_FORK 1
#endif

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static int yields_then(void *arg) {
    int rc = pica_sleep(1e-4);
    return rc < 0 ? rc : code(arg);
}

static void nothing(void *arg) {
    (void)arg;
}

/* Runs fn in a child; its failed checks are counted here too. */
static void in_child(void (*fn)(void *arg), void *arg) {
    pid_t child = fork();
    PT_REQUIRE(child >= 0);
    if (child == 0) {
        unsigned before = pt_failures();
        fn(arg);
        _exit(pt_failures() != before);
    }
    int status = -1;
    PT_EQ(waitpid(child, &status, 0), child);
    PT_CHECK(WIFEXITED(status));
    PT_EQ(WEXITSTATUS(status), 0);
}

static void uses_parents_runtime(void *arg) {
    pica_runtime *rt = arg;
    pica_loop *loop = pica_runtime_loop(rt, 0);
    pica_thread_future *f = NULL;
    pica_handle *handle = NULL;
    pica_async *async = NULL;
    PT_EQ(pica_run_until_complete(rt, code, NULL), PICA_EFORKED);
    PT_EQ(pica_run_forever(rt), PICA_EFORKED);
    PT_EQ(pica_close(rt), PICA_EFORKED);
    PT_EQ(pica_call_soon_threadsafe(loop, nothing, NULL, &handle), PICA_EFORKED);
    PT_EQ(pica_loop_call_later(loop, 0, nothing, NULL, &handle), PICA_EFORKED);
    PT_EQ(pica_loop_call_at(loop, 0, nothing, NULL, &handle), PICA_EFORKED);
    PT_EQ(pica_run_coroutine_threadsafe(rt, code, NULL, &f), PICA_EFORKED);
    PT_EQ(pica_run_coroutine_threadsafe(rt, code, NULL, NULL), PICA_EFORKED);
    PT_EQ(pica_async_new(&async, loop, nothing, NULL), PICA_EFORKED);
    PT_CHECK(f == NULL && handle == NULL && async == NULL);
    pica_stop(rt); /* harmless */
}

static void runs_its_own(void *arg) {
    (void)arg;
    for (int i = 0; i < 3 * THREADS_AFTER_FORK; i++) {
        PT_EQ(pica_run(yields_then, (void *)5), 5);
    }
}

static void need_threads(void) {
    if (THREADS_AFTER_FORK) {
        need_threads_after_fork();
    }
}

PT_TEST(idle_runtime) {
    need_threads();
    pica_runtime *rt = NULL;
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    in_child(uses_parents_runtime, rt);
    in_child(runs_its_own, rt);
    PT_EQ(pica_run_until_complete(rt, yields_then, (void *)1), 1);
    in_child(uses_parents_runtime, rt);
    in_child(runs_its_own, rt);
    PT_EQ(pica_run_until_complete(rt, yields_then, (void *)2), 2); /* ours is as it was */
    PT_EQ(pica_close(rt), 0);
}

static int waits(void *arg) {
    return pica_await(arg, NULL);
}

/* Forked by another thread while the workers run. */
PT_TEST(running_runtime) {
    need_threads();
    pica_runtime *rt = NULL;
    pica_thread_future *f = NULL;
    pica_future *go = new_future();
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    PT_EQ(pica_run_coroutine_threadsafe(rt, waits, go, &f), 0);
    PT_EQ(pica_run_until_complete(rt, yields_then, (void *)1), 1);
    in_child(uses_parents_runtime, rt);
    in_child(runs_its_own, NULL);
    signal_future(go);
    while (pica_thread_future_wait(f, 0) == 0) {
        PT_EQ(pica_run_until_complete(rt, yields_then, (void *)1), 1);
    }
    pica_thread_future_free(f);
    PT_EQ(pica_close(rt), 0);
    pica_future_unref(go);
}

/* Futures belong to no runtime, in a child as elsewhere. */
static void uses_futures(void *arg) {
    (void)arg;
    pica_future *f = new_future();
    signal_future(f);
    PT_EQ(pica_future_result(f, NULL), 0);
    pica_future_unref(f);
}

PT_TEST(futures) {
    in_child(uses_futures, NULL);
}

/* In a child that was forked from inside of a task there is no task any more: it may end, execute
 * another program, or run a runtime of its own. */
static void no_task_any_more(void *arg) {
    pica_future *f = arg;
    pica_task *task = NULL;
    PT_EQ(pica_yield(), PICA_ENOTASK);
    PT_EQ(pica_sleep(0.01), PICA_ENOTASK);
    PT_EQ(pica_await(f, NULL), PICA_ENOTASK);
    PT_EQ(pica_create_task(&task, code, NULL), PICA_ENOTASK);
    PT_EQ(pica_call_soon(nothing, NULL, NULL), PICA_ENOTASK);
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(pica_current_runtime() == NULL);
    runs_its_own(NULL);
}

static int forks(void *arg) {
    (void)arg;
    pica_future *f = new_future();
    pica_runtime *rt = pica_current_runtime();
    in_child(no_task_any_more, f);
    in_child(uses_parents_runtime, rt);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_join(spawn(yields_then, (void *)3), NULL), 3);
    pica_future_unref(f);
    return 0;
}

PT_TEST(forked_by_a_task) {
    need_threads();
    PT_EQ(pica_run(forks, NULL), 0);
}

PT_MAIN()
