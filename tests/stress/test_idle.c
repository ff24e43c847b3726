/* A runtime with nothing to do does nothing: after a load, no thread of the process wakes any more.
 * The kernel counts for each thread how often it went to sleep; the counts must stand still. 3
 * seconds in every run of the tests; `idle full` watches for 60. */
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "runtime/base/compiler.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"

enum { TASKS = 200, STEPS = 50 };

struct idle {
    unsigned workers;
    double seconds;
    pica_event never;   /* what the parked tasks wait for */
    pica_event watched; /* set when the watcher is done */
    struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool loaded;
    } load;
};

/* --- load --- */

static int leaf(void *arg) {
    (void)arg;
    return 1;
}

static int busy_task(void *arg) {
    uintptr_t i = (uintptr_t)arg;
    for (int step = 0; step < STEPS; step++) {
        pica_task *task = NULL;
        PT_REQUIRE(pica_create_task(&task, leaf, NULL) == 0);
        PT_EQ(pica_join(task, NULL), 1);
        PT_EQ((i + (uintptr_t)step) % 8 == 0 ? pica_sleep(0.0005) : pica_yield(), 0);
    }
    return 0;
}

static int parked_task(void *arg) {
    PT_EQ(pica_event_wait(arg), PICA_ECANCELED);
    return 0;
}

static int idle_main(void *arg) {
    struct idle *idle = arg;
    pica_task *task[TASKS];
    for (int i = 0; i < TASKS; i++) {
        PT_REQUIRE(pica_create_task(&task[i], busy_task, (void *)(uintptr_t)i) == 0);
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_REQUIRE(pica_create_task(NULL, parked_task, &idle->never) == 0);
    }
    pthread_mutex_lock(&idle->load.lock);
    idle->load.loaded = true;
    pthread_cond_signal(&idle->load.changed);
    pthread_mutex_unlock(&idle->load.lock);
    return pica_event_wait(&idle->watched);
}

/* --- watching --- */

static void pause_for(double seconds) {
    struct timespec t = {(time_t)seconds, 0};
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

/* Until the counts stood still for a fifth of a second: the last steps of the load are over. */
static bool settle(struct procfs_switches *out) {
    struct procfs_switches before;
    double end = pica_time() + 20 * pt_time_scale();
    procfs_switches(&before);
    while (pica_time() < end) {
        pause_for(0.2);
        procfs_switches(out);
        if (procfs_switches_equal(&before, out)) {
            return true;
        }
        before = *out;
    }
    return false;
}

static void *watcher(void *arg) {
    struct idle *idle = arg;
    pthread_mutex_lock(&idle->load.lock);
    while (!idle->load.loaded) {
        pthread_cond_wait(&idle->load.changed, &idle->load.lock);
    }
    pthread_mutex_unlock(&idle->load.lock);
    static struct procfs_switches before, after;
    PT_CHECK(settle(&before));
    pause_for(idle->seconds);
    procfs_switches(&after);
    PT_CHECK(before.count >= (int)idle->workers); /* one worker may be the thread that runs */ /* the thread that called pica_run, too */
    PT_EQ(after.count, before.count);
    for (int i = 0; i < before.count && i < after.count; i++) {
        PT_EQ(after.tid[i], before.tid[i]);
        PT_EQ(after.voluntary[i], before.voluntary[i]);
    }
    pica_event_set(&idle->watched);
    return NULL;
}

static void run(unsigned workers, double seconds) {
    struct idle idle = {
        .workers = workers,
        .seconds = seconds,
        .load = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false},
    };
    if (PICA__TSAN) {
        PT_SKIP("the sanitizer's own thread wakes all the time");
    }
    pica_event_init(&idle.never);
    pica_event_init(&idle.watched);
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, watcher, &idle) == 0);
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = workers;
    PT_EQ(pica_run_opts(idle_main, &idle, &options), 0);
    pthread_join(thread, NULL);
}

static unsigned workers_of_environment(void) {
    const char *s = getenv("PICA_WORKERS");
    return s == NULL ? 1 : (unsigned)strtoul(s, NULL, 10);
}

PT_TEST_TIMEOUT(after_a_load, 60) {
    run(workers_of_environment(), 3);
}

/* A runtime that was never asked to run, and one that is between two runs. */
PT_TEST_TIMEOUT(not_running, 60) {
    static struct procfs_switches before, after;
    pica_runtime *rt = NULL;
    if (PICA__TSAN) {
        PT_SKIP("the sanitizer's own thread wakes all the time");
    }
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    PT_CHECK(settle(&before));
    pause_for(1);
    procfs_switches(&after);
    PT_CHECK(procfs_switches_equal(&before, &after));
    PT_EQ(pica_run_until_complete(rt, leaf, NULL), 1);
    PT_CHECK(settle(&before));
    pause_for(1);
    procfs_switches(&after);
    PT_CHECK(procfs_switches_equal(&before, &after));
    PT_EQ(pica_close(rt), 0);
}

PT_TEST_HIDDEN(full, 300) {
    run(workers_of_environment(), 60);
}

PT_MAIN()
