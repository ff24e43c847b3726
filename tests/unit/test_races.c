/* What ThreadSanitizer sees of tasks. Each task is a thread to it, also when two of them run one
 * after the other on one worker, or on one stack. So a race between tasks is reported even if one
 * worker runs them all; and what is ordered by the library's own means is not.
 *
 * A racing program cannot be run in this process: its report would fail the test. So a hidden case
 * holds it, this program runs itself with that case, and looks for the report. Without the
 * sanitizer all is skipped. */
#include <errno.h>
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "tests/support/pt.h"

enum { REPORTED = 66 };

/* --- running this program again --- */

static void need_sanitizer(void) {
    if (!PICA__TSAN) {
        PT_SKIP("needs ThreadSanitizer");
    }
}

static void child_exec(const char *name, int out) {
    dup2(out, STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    setenv("TSAN_OPTIONS", "exitcode=66:halt_on_error=0:report_thread_leaks=0", 1);
    execl("/proc/self/exe", "test-unit-races", "--here", name, (char *)NULL);
    _exit(127);
}

/* Runs a case in a program of its own; its exit status, and the first part of what it wrote. */
static int run_again(const char *name, char *text, size_t size) {
    int ends[2];
    PT_REQUIRE(pipe(ends) == 0);
    pid_t pid = fork();
    PT_REQUIRE(pid >= 0);
    if (pid == 0) {
        child_exec(name, ends[1]);
    }
    close(ends[1]);
    size_t used = 0;
    char rest[4096];
    for (;;) {
        bool room = used < size - 1;
        ssize_t n =
            room ? read(ends[0], text + used, size - 1 - used) : read(ends[0], rest, sizeof rest);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        used += room ? (size_t)n : 0;
    }
    text[used] = 0;
    close(ends[0]);
    int status = 0;
    PT_REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static char output[64 * 1024];

static void expect_report(const char *name) {
    need_sanitizer();
    int status = run_again(name, output, sizeof output);
    if (!PT_EQ(status, REPORTED) ||
        !PT_CHECK(strstr(output, "WARNING: ThreadSanitizer: data race") != NULL) ||
        !PT_CHECK(strstr(output, "racy_write") != NULL)) {
        fputs(output, stderr);
    }
}

static void expect_silence(const char *name) {
    need_sanitizer();
    int status = run_again(name, output, sizeof output);
    if (!PT_EQ(status, 0) || !PT_CHECK(strstr(output, "ThreadSanitizer") == NULL)) {
        fputs(output, stderr);
    }
}

/* --- what they race for --- */

static long plain_word;

__attribute__((noinline)) static void racy_write(void) {
    plain_word++;
}

static int writer(void *arg) {
    (void)arg;
    racy_write();
    return 0;
}

static void run_on(unsigned workers, pica_fn fn) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = workers;
    options.order = PICA_ORDER_FREE;
    PT_EQ(pica_run_opts(fn, NULL, &options), 0);
}

static pica_task *spawn(pica_fn fn, void *arg) {
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task(&task, fn, arg) == 0);
    return task;
}

/* Two tasks that know nothing of each other; no result is looked at in between. */
static int both_main(pica_fn first, pica_fn second) {
    pica_task *task[2] = {spawn(first, NULL), spawn(second, NULL)};
    PT_EQ(pica_gather(2, (pica_future *const *)(void *)task, 0), 0);
    pica_task_unref(task[0]);
    pica_task_unref(task[1]);
    return 0;
}

/* Its child writes, as a call on its stack. That it was one is seen from the addresses of their
 * frames: the library's counters would need a look that orders things. */
static int writer_below(void *arg) {
    uintptr_t above = (uintptr_t)arg;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    PT_CHECK(here < above && above - here < 16 * 1024);
    return writer(NULL);
}

static int parent_of_writer(void *arg) {
    (void)arg;
    PT_EQ(pica_join(spawn(writer_below, __builtin_frame_address(0)), NULL), 0);
    return 0;
}

static int after_yield(void *arg) {
    PT_EQ(pica_yield(), 0);
    return writer(arg);
}

static int after_sleep(void *arg) {
    PT_EQ(pica_sleep(0.001), 0);
    return writer(arg);
}

/* --- races --- */

static int two_tasks_main(void *arg) {
    (void)arg;
    return both_main(writer, writer);
}

PT_TEST_HIDDEN(racy_two_tasks, 60) {
    run_on(1, two_tasks_main);
}

PT_TEST_TIMEOUT(two_tasks_on_one_worker, 120) {
    expect_report("racy_two_tasks");
}

static int in_place_main(void *arg) {
    (void)arg;
    return both_main(parent_of_writer, writer);
}

PT_TEST_HIDDEN(racy_in_place, 60) {
    run_on(1, in_place_main);
}

PT_TEST_TIMEOUT(one_in_place, 120) {
    expect_report("racy_in_place");
}

static int in_place_twice_main(void *arg) {
    (void)arg;
    return both_main(parent_of_writer, parent_of_writer);
}

PT_TEST_HIDDEN(racy_in_place_twice, 60) {
    run_on(1, in_place_twice_main);
}

PT_TEST_TIMEOUT(both_in_place, 120) {
    expect_report("racy_in_place_twice");
}

/* A yield lets the other go first, but promises nothing about what is seen. */
static int yield_main(void *arg) {
    (void)arg;
    return both_main(after_yield, writer);
}

PT_TEST_HIDDEN(racy_yield, 60) {
    run_on(1, yield_main);
}

PT_TEST_TIMEOUT(a_yield_orders_nothing, 120) {
    expect_report("racy_yield");
}

/* The creator goes on beside its child. */
static int creator_main(void *arg) {
    (void)arg;
    pica_task *task = spawn(writer, NULL);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_yield(), 0);
    racy_write();
    PT_EQ(pica_join(task, NULL), 0);
    return 0;
}

PT_TEST_HIDDEN(racy_creator, 60) {
    run_on(1, creator_main);
}

PT_TEST_TIMEOUT(a_creator_and_its_child, 120) {
    expect_report("racy_creator");
}

/* A callback runs in its loop, a task beside it. */
static void racy_callback(void *arg) {
    (void)arg;
    racy_write();
}

static int callback_main(void *arg) {
    (void)arg;
    PT_EQ(pica_call_soon(racy_callback, NULL, NULL), 0);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_yield(), 0);
    racy_write();
    return 0;
}

PT_TEST_HIDDEN(racy_callback, 60) {
    run_on(1, callback_main);
}

PT_TEST_TIMEOUT(a_callback_and_a_task, 120) {
    expect_report("racy_callback");
}

/* --- what is ordered --- */

static pica_event event = PICA_EVENT_INIT;
static pica_lock lock = PICA_LOCK_INIT;
static pica_queue queue;
static pica_future *future;

static int set_after_write(void *arg) {
    (void)arg;
    racy_write();
    pica_event_set(&event);
    PT_EQ(pica_future_set_result(future, NULL, NULL), 0);
    return pica_queue_put(&queue, &plain_word);
}

static int write_after_event(void *arg) {
    PT_EQ(pica_event_wait(&event), 0);
    return writer(arg);
}

static int write_after_future(void *arg) {
    PT_EQ(pica_await(future, NULL), 0);
    return writer(arg);
}

static int write_after_get(void *arg) {
    void *item = NULL;
    PT_EQ(pica_queue_get(&queue, &item), 0);
    return writer(arg);
}

static int write_under_lock(void *arg) {
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_lock_acquire(&lock), 0);
        racy_write();
        PT_EQ(pica_yield(), 0);
        racy_write();
        PT_EQ(pica_lock_release(&lock), 0);
    }
    (void)arg;
    return 0;
}

static int nested_in_place(void *arg) {
    uintptr_t depth = (uintptr_t)arg;
    racy_write();
    if (depth > 0) {
        PT_EQ(pica_join(spawn(nested_in_place, (void *)(depth - 1)), NULL), 0);
        racy_write();
    }
    return 0;
}

static int suspended_in_place(void *arg) {
    racy_write();
    PT_EQ(pica_join(spawn(after_sleep, NULL), NULL), 0);
    return writer(arg);
}

static void write_in_callback(void *arg) {
    racy_write();
    PT_EQ(pica_future_set_result(arg, NULL, NULL), 0);
}

static int via_callback(void *arg) {
    pica_future *done = NULL;
    PT_REQUIRE(pica_future_new(&done) == 0);
    racy_write();
    PT_EQ(pica_call_soon(write_in_callback, done, NULL), 0);
    PT_EQ(pica_await(done, NULL), 0);
    racy_write();
    pica_future_unref(done);
    PT_REQUIRE(pica_future_new(&done) == 0);
    PT_EQ(pica_call_later(0.001, write_in_callback, done, NULL), 0);
    PT_EQ(pica_await(done, NULL), 0);
    pica_future_unref(done);
    return writer(arg);
}

static void *write_in_thread(void *arg) {
    racy_write();
    PT_EQ(pica_future_set_result(arg, NULL, NULL), 0);
    return NULL;
}

static int via_thread(void *arg) {
    pica_future *done = NULL;
    pthread_t thread;
    PT_REQUIRE(pica_future_new(&done) == 0);
    racy_write();
    PT_REQUIRE(pthread_create(&thread, NULL, write_in_thread, done) == 0);
    PT_EQ(pica_await(done, NULL), 0);
    racy_write();
    pthread_join(thread, NULL);
    pica_future_unref(done);
    return writer(arg);
}

/* What a cancelled task wrote is seen by who awaited its end. */
static int write_and_wait(void *arg) {
    pica_event *began = arg;
    static pica_event never = PICA_EVENT_INIT;
    racy_write();
    pica_event_set(began);
    PT_EQ(pica_event_wait(&never), PICA_ECANCELED);
    return writer(NULL);
}

static int via_cancel(void *arg) {
    pica_event began = PICA_EVENT_INIT;
    pica_task *task = spawn(write_and_wait, &began);
    PT_EQ(pica_event_wait(&began), 0);
    racy_write();
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    return writer(arg);
}

/* Frames of tasks that know nothing of each other, one after the other at the same addresses: each
 * has its own memory there, whoever had it before. */
__attribute__((noinline)) static long fill_frame(void) {
    char frame[4096];
    memset(frame, 1, sizeof frame);
    __asm__ volatile("" : : "r"(frame) : "memory");
    return frame[17];
}

static int with_a_frame(void *arg) {
    (void)arg;
    PT_EQ(fill_frame(), 1);
    PT_EQ(pica_yield(), 0);
    PT_EQ(fill_frame(), 1);
    return 0;
}

static int parent_with_a_frame(void *arg) {
    PT_EQ(fill_frame(), 1);
    PT_EQ(pica_join(spawn(with_a_frame, NULL), NULL), 0);
    PT_EQ(fill_frame(), 1);
    return with_a_frame(arg);
}

static int ordered_main(void *arg) {
    static const pica_fn waiters[] = {write_after_event, write_after_future, write_after_get};
    for (unsigned i = 0; i < 3; i++) {
        pica_event_clear(&event);
        pica_queue_init(&queue, 0);
        PT_REQUIRE(pica_future_new(&future) == 0);
        PT_EQ(both_main(waiters[i], set_after_write), 0);
        /* Once more, with the writer first: the waiter finds it done. */
        pica_future_unref(future);
        PT_REQUIRE(pica_future_new(&future) == 0);
        pica_event_clear(&event);
        PT_EQ(both_main(set_after_write, waiters[i]), 0);
        pica_future_unref(future);
        pica_queue_destroy(&queue, NULL);
    }
    PT_EQ(both_main(write_under_lock, write_under_lock), 0);
    PT_EQ(both_main(with_a_frame, with_a_frame), 0);
    PT_EQ(both_main(parent_with_a_frame, with_a_frame), 0);
    PT_EQ(both_main(parent_with_a_frame, parent_with_a_frame), 0);
    racy_write();
    PT_EQ(nested_in_place((void *)(uintptr_t)5), 0);
    PT_EQ(suspended_in_place(NULL), 0);
    PT_EQ(via_callback(NULL), 0);
    PT_EQ(via_thread(NULL), 0);
    PT_EQ(via_cancel(NULL), 0);
    (void)arg;
    return 0;
}

PT_TEST_HIDDEN(ordered_1, 60) {
    run_on(1, ordered_main);
}

PT_TEST_HIDDEN(ordered_3, 60) {
    run_on(3, ordered_main);
}

PT_TEST_TIMEOUT(ordered_on_one_worker, 120) {
    expect_silence("ordered_1");
}

PT_TEST_TIMEOUT(ordered_on_three_workers, 120) {
    expect_silence("ordered_3");
}

PT_MAIN()
