/* PICA_DEBUG=slow: whoever keeps a worker for too long is named, with the place, while at it and afterwards;
 * nobody else is. */
#include <pica.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/log_lines.h"
#include "tests/support/pt.h"

/* --- the log --- */

enum { LINES = 256 };
static char lines[LINES][512];
static atomic_uint used;

static void keep_line(void *ctx, int level, const char *text) {
    (void)ctx;
    (void)level;
    if (log_line_of_engine(text)) {
        return;
    }
    unsigned i = atomic_fetch_add(&used, 1);
    if (i < LINES) {
        snprintf(lines[i], sizeof lines[i], "%s", text);
    }
}

/* The index of the first line from `from` on that holds both; LINES without one. */
static unsigned find(unsigned from, const char *a, const char *b) {
    unsigned n = atomic_load(&used);
    for (unsigned i = from; i < n && i < LINES; i++) {
        if (strstr(lines[i], a) != NULL && strstr(lines[i], b) != NULL) {
            return i;
        }
    }
    return LINES;
}

static void show_lines(void) {
    for (unsigned i = 0; i < atomic_load(&used) && i < LINES; i++) {
        fprintf(stderr, "    %s\n", lines[i]);
    }
}

static void run(pica_fn fn, const char *debug) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = keep_line;
    PT_REQUIRE(setenv("PICA_DEBUG", debug, 1) == 0);
    PT_EQ(pica_run_opts(fn, NULL, &options), 0);
}

/* The report of `who`, its frames naming `function`, and the end with a duration from ms on. */
static void expect_report(const char *who, const char *function, double ms) {
    unsigned at = find(0, who, "without a suspension:");
    unsigned frame = find(at, "  #", function);
    unsigned over = find(at, who, "has given worker");
    double duration = -1;
    if (over < LINES) {
        const char *after = strstr(lines[over], "back after ");
        PT_CHECK(after != NULL && sscanf(after, "back after %lf ms", &duration) == 1);
    }
    /* The place was taken while the step lasted. */
    if (!PT_CHECK(at < LINES) || !PT_CHECK(frame < over) || !PT_CHECK(over < LINES) ||
        !PT_CHECK(duration >= ms)) {
        show_lines();
    }
}

/* --- culprits --- */

/* The computation goes on until it is reported: on a busy machine the watcher may come late. */
static bool awaited;

__attribute__((noinline)) static void burns_for(double seconds) {
    volatile unsigned sum = 0;
    double until = pica_time() + seconds;
    while (pica_time() < until || (awaited && atomic_load(&used) == 0)) {
        for (unsigned i = 0; i < 1000; i++) {
            sum = sum + i;
        }
    }
}

static int culprit(void *arg) {
    (void)arg;
    PT_EQ(pica_sleep(0.02), 0); /* on a stack of its own, resumed */
    burns_for(0.3);
    return 0;
}

static pica_task *named(const char *name, pica_fn fn) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = name;
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task_opts(&task, fn, NULL, &options) == 0);
    return task;
}

static int culprit_main(void *arg) {
    (void)arg;
    pica_task *task = named("the culprit", culprit);
    PT_EQ(pica_join(task, NULL), 0);
    return 0;
}

PT_TEST(a_task) {
    awaited = true;
    run(culprit_main, "slow=60ms");
    expect_report("task 'the culprit'", "burns_for+0x", 60);
    PT_CHECK(find(0, "  #", "culprit+0x") < LINES); /* its caller too, through to the bottom */
}

static void slow_callback(void *arg) {
    burns_for(0.3);
    PT_EQ(pica_future_set_result(arg, NULL, NULL), 0);
}

static int callback_main(void *arg) {
    (void)arg;
    pica_future *done;
    PT_REQUIRE(pica_future_new(&done) == 0);
    PT_REQUIRE(pica_call_soon_threadsafe(pica_current_loop(), slow_callback, done, NULL) == 0);
    PT_EQ(pica_await(done, NULL), 0);
    pica_future_unref(done);
    return 0;
}

PT_TEST(a_callback) {
    awaited = true;
    run(callback_main, "slow=60ms");
    expect_report("a callback", "burns_for+0x", 60);
    PT_CHECK(find(0, "  #", "slow_callback+0x") < LINES);
}

/* --- no culprits ---
 * Time is the clock's, so a step of a millisecond is slow where its thread has to wait long enough for a
 * processor: the limit here is far above what a busy machine does to a thread. */

static int innocent(void *arg) {
    (void)arg;
    for (int i = 0; i < 700; i++) {
        burns_for(0.001);
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

static int idle_main(void *arg) {
    (void)arg;
    PT_EQ(pica_sleep(1.2), 0);
    pica_task *task = named("innocent", innocent);
    PT_EQ(pica_join(task, NULL), 0);
    return 0;
}

PT_TEST(nobody) {
    run(idle_main, "slow=500ms");
    if (!PT_EQ(atomic_load(&used), 0)) {
        show_lines();
    }
}

static int quick_main(void *arg) {
    (void)arg;
    return pica_sleep(0.01);
}

PT_TEST(not_while_paused) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = keep_line;
    PT_REQUIRE(setenv("PICA_DEBUG", "slow=500ms", 1) == 0);
    pica_runtime *rt;
    PT_REQUIRE(pica_runtime_new(&rt, &options) == 0);
    for (int i = 0; i < 2; i++) {
        usleep(1200000);
        PT_EQ(pica_run_until_complete(rt, quick_main, NULL), 0);
    }
    usleep(1200000);
    PT_EQ(pica_close(rt), 0);
    if (!PT_EQ(atomic_load(&used), 0)) {
        show_lines();
    }
}

PT_TEST(not_without_the_switch) {
    run(culprit_main, "");
    PT_EQ(atomic_load(&used), 0);
}

/* --- signals --- */

static atomic_uint urgent;

static void on_urgent(int signal) {
    (void)signal;
    atomic_fetch_add(&urgent, 1);
}

/* The program's handler still gets its signals, and has its place back in the end; a program that blocks all
 * signals is watched all the same. */
PT_TEST(the_programs_own_handler) {
    struct sigaction action, now;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_urgent;
    PT_REQUIRE(sigaction(SIGURG, &action, NULL) == 0);
    sigset_t all;
    sigfillset(&all);
    PT_REQUIRE(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = keep_line;
    PT_REQUIRE(setenv("PICA_DEBUG", "slow=60ms", 1) == 0);
    pica_runtime *rt;
    PT_REQUIRE(pica_runtime_new(&rt, &options) == 0);
    awaited = true;
    PT_EQ(pica_run_until_complete(rt, culprit_main, NULL), 0);
    PT_EQ(atomic_load(&urgent), 0);
    PT_REQUIRE(pthread_sigmask(SIG_UNBLOCK, &all, NULL) == 0);
    PT_EQ(raise(SIGURG), 0);
    PT_EQ(atomic_load(&urgent), 1);
    PT_EQ(pica_close(rt), 0);
    PT_REQUIRE(sigaction(SIGURG, NULL, &now) == 0);
    PT_CHECK(now.sa_handler == on_urgent);
    expect_report("task 'the culprit'", "burns_for+0x", 60);
}

PT_MAIN()
