/* Scenarios over runtime/executor.c: jobs are handed to threads that come, sleep and leave. Threads are model
 * threads (threads.h). */
#include <errno.h>

#include "runtime/executor.h"
#include "tests/explore/tasks.h"
#include "tests/explore/threads.h"

static pica_executor *pool;
static pica_task *user[2];
static int result[2];
static unsigned ran[2];

static int job(void *arg) {
    unsigned who = (unsigned)(uintptr_t)arg;
    ran[who]++;
    return 5 + (int)who;
}

/* The user is sure of the pool until it has called; told by something outside. */
static bool user_is_done;
static ex_edge after_user;

__attribute__((no_sanitize("thread"))) static bool user_done(void *arg) {
    (void)arg;
    return user_is_done;
}

__attribute__((no_sanitize("thread"))) static void tell_done(bool done) {
    user_is_done = done;
}

static void runs_job(void *arg) {
    unsigned who = (unsigned)(uintptr_t)arg;
    result[who] = pica__executor_run(pool, job, arg);
    EX_CHECK(result[who] < 0 || ran[who] == 1); /* what the job wrote is seen */
}

static void runs_last_job(void *arg) {
    runs_job(arg);
    ex_event(&after_user);
    ex_give(&after_user);
    tell_done(true);
}

static void closer(void *arg) {
    (void)arg;
    pica_executor_close(pool);
    ex_wait(&after_user, user_done, NULL);
    ex_take(&after_user);
    pica_executor_release(pool);
}

static void canceller(void *arg) {
    EX_CHECK(pica_task_cancel(*(pica_task **)arg) == 1);
}

static void setup_users_of(unsigned users, unsigned threads, unsigned max, void (*body)(void *arg)) {
    (void)ex_runtime();
    ex_threads(threads);
    EX_CHECK(pica_executor_new(&pool, max) == 0);
    tell_done(false);
    ex_edge_init(&after_user);
    for (unsigned i = 0; i < users; i++) {
        ran[i] = 0;
        result[i] = -1;
        user[i] = ex_body(i == 0 ? "user 1" : "user 2", body, (void *)(uintptr_t)i);
    }
}

static void setup_users(unsigned users, unsigned threads, unsigned max) {
    setup_users_of(users, threads, max, runs_job);
}

/* One thread, so that a job waits, or the thread sleeps and is woken. */
static void setup_one(void) {
    setup_users(2, 1, 1);
}

static void setup_two(void) {
    setup_users(2, 2, 2);
}

static void finish_both(void) {
    EX_CHECK(result[0] == 5 && result[1] == 6 && ran[0] == 1 && ran[1] == 1);
}

/* The pool goes while a job is queued or runs. */
static void setup_close(void) {
    setup_users_of(1, 1, 1, runs_last_job);
    ex_thread("closer", closer, NULL, false);
}

static void finish_close(void) {
    EX_CHECK(result[0] == (ran[0] == 1 ? 5 : PICA_ECLOSED));
    EX_CHECK(ex_is_freed(pool) && ex_threads_left() == 0);
}

static void setup_cancel(void) {
    setup_users(1, 1, 1);
    ex_thread("canceller", canceller, &user[0], false);
}

/* A job that did not run was withdrawn; one that runs is waited for. */
static void finish_cancel(void) {
    EX_CHECK(result[0] == (ran[0] == 1 ? 5 : PICA_ECANCELED));
    uint32_t word = atomic_load_explicit(&user[0]->word, memory_order_relaxed);
    EX_CHECK(pica__cancel_pending(word) == (ran[0] == 1));
}

/* No thread can be had: nobody waits for one. */
static void setup_refused(void) {
    setup_users(2, 0, 2);
}

static void finish_refused(void) {
    EX_CHECK(result[0] == -EAGAIN && result[1] == -EAGAIN);
}

const struct ex_scenario ex_scenarios[] = {
    {"executor.one", "two jobs, one thread", setup_one, finish_both, NULL, {1, 0}, {1, 1}, {1, 1}, NULL},
    {"executor.two", "two jobs, two threads", setup_two, finish_both, NULL, {1, 0}, {1, 0}, {1, 1}, NULL},
    {"executor.close", "a job meets the end of the pool", setup_close, finish_close, NULL, {2, 0}, {1, 1},
     {2, 1}, NULL},
    {"executor.cancel", "a job meets a cancel", setup_cancel, finish_cancel, NULL, {2, 0}, {1, 1}, {2, 1},
     NULL},
    {"executor.refused", "there are no threads", setup_refused, finish_refused, NULL, {2, 0}, {1, 1}, {2, 1},
     NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
