/* Millions of create and await in one task: in place, so without a stack, a queue entry or a visit
 * to the loop of their own. What could go wrong: dead queue entries pile up, records leak, the
 * stack creeps, or the loop never gets its turn.
 *
 * A timer beside it must stay on time. On one worker that is counted in awaits between the moment
 * when it was due and its call, which no load of the machine can change. With several workers the
 * timer's loop may sleep in the kernel while the task runs elsewhere, so there its lateness is
 * compared to that of a plain thread that sleeps equally long. */
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "runtime/base/compiler.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"

#define SANITIZED (PICA__TSAN || PICA__ASAN)
#define TICK 0.010

/* A worker looks at its timers at least every 64 steps, and a task that yields in between may add a
 * turn; twice that. */
enum { LATENESSES = 4096, BEHIND_MAX = 256 };

/* A timer that calls itself again and notes how late it was. Written by its loop; read by the test
 * after the run. */
struct ticker {
    /* Written by the loop, read by the main task: when it is due next. */
    _Atomic double due;
    double late[LATENESSES];
    unsigned count;
    atomic_bool stop;
    /* Awaits since it became due; written by the main task, read and zeroed by the loop. */
    atomic_uint behind;
    unsigned most_behind;
};

/* What the machine does to a thread that only sleeps. */
struct control {
    pthread_t thread;
    atomic_bool stop;
    double worst;
};

struct awaits {
    struct ticker ticker;
    long n;
    long sum;
    long rss_early, rss_late;
    double seconds;
    unsigned workers;
    struct pica_runtime_stats stats;
    int (*one)(long i);
};

static void tick(void *arg) {
    struct ticker *t = arg;
    double now = pica_time();
    unsigned behind = atomic_exchange(&t->behind, 0);
    if (atomic_load(&t->stop)) {
        return;
    }
    t->most_behind = behind > t->most_behind ? behind : t->most_behind;
    if (t->count < LATENESSES) {
        t->late[t->count++] = now - atomic_load(&t->due);
    }
    atomic_store(&t->due, now + TICK);
    int rc = pica_call_at(now + TICK, tick, t, NULL);
    PT_CHECK(rc == 0 || rc == PICA_ECLOSED);
}

static void *control_main(void *arg) {
    struct control *c = arg;
    const struct timespec pause = {0, (long)(TICK * 1e9)};
    while (!atomic_load(&c->stop)) {
        double due = pica_time() + TICK;
        nanosleep(&pause, NULL);
        double late = pica_time() - due;
        c->worst = late > c->worst ? late : c->worst;
    }
    return NULL;
}

static int child(void *arg) {
    return (int)((uintptr_t)arg & 1);
}

static int yielding_child(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : child(arg);
}

static int create_and_join(long i, pica_fn fn) {
    pica_task *task = NULL;
    int rc = pica_create_task(&task, fn, (void *)(uintptr_t)i);
    return rc < 0 ? rc : pica_join(task, NULL);
}

static int one_plain(long i) {
    return create_and_join(i, child);
}

/* Every thousandth suspends: then the stack that both share is parked, and comes back. */
static int one_mixed(long i) {
    return create_and_join(i, i % 1000 == 999 ? yielding_child : child);
}

/* Two created, the older awaited first: its entry is no longer the youngest and stays behind, dead.
 */
static int one_crossed(long i) {
    pica_task *older = NULL;
    pica_task *younger = NULL;
    PT_EQ(pica_create_task(&older, child, (void *)(uintptr_t)i), 0);
    PT_EQ(pica_create_task(&younger, child, (void *)(uintptr_t)i), 0);
    int rc = pica_join(older, NULL);
    PT_EQ(pica_join(younger, NULL), rc);
    return rc;
}

static int awaits_main(void *arg) {
    struct awaits *a = arg;
    double due = pica_time() + TICK;
    atomic_store(&a->ticker.due, due);
    PT_EQ(pica_call_at(due, tick, &a->ticker, NULL), 0);
    double begin = pica_time();
    for (long i = 0; i < a->n; i++) {
        if (i == a->n / 10) {
            a->rss_early = procfs_bytes("RssAnon");
        }
        int rc = a->one(i);
        if (rc < 0) {
            return rc;
        }
        a->sum += rc;
        if (pica_time() >= atomic_load_explicit(&a->ticker.due, memory_order_relaxed)) {
            atomic_fetch_add(&a->ticker.behind, 1);
        }
    }
    a->rss_late = procfs_bytes("RssAnon");
    a->seconds = pica_time() - begin;
    a->workers = pica_runtime_workers(pica_current_runtime());
    atomic_store(&a->ticker.stop, true);
    a->stats.size = sizeof a->stats;
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &a->stats), 0);
    return 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_ticks(const struct awaits *a, double median, double control) {
    unsigned ticks = a->ticker.count;
    PT_CHECK(ticks == 0 || a->ticker.late[0] >= 0);
    if (a->workers == 1) {
        PT_CHECK(a->ticker.most_behind <= BEHIND_MAX);
    } else {
        PT_CHECK(median < 0.002 * pt_time_scale() + 2 * control);
    }
    /* Half of the ticks that fit in, less what the machine took. */
    double fit = a->seconds / (TICK + control);
    PT_CHECK(ticks >= LATENESSES || (double)ticks + 2 >= 0.5 * fit);
}

static void report(const struct awaits *a, double median, double control) {
    printf("    %ld awaits, %.0f ns each, %.1f %% in place; RssAnon %+ld KiB\n", a->n,
           a->seconds * 1e9 / (double)a->n,
           100.0 * (double)a->stats.tasks_inplace / (double)(a->stats.tasks_created - 1),
           (a->rss_late - a->rss_early) / 1024);
    printf("    %u ticks, late by %.3f ms (median) and at most %u awaits; "
           "a sleeping thread at worst %.3f ms\n",
           a->ticker.count, median * 1e3, a->ticker.most_behind, control * 1e3);
}

static void run(long n, int (*one)(long i)) {
    static struct awaits a;
    struct control control = {.worst = 0};
    a.n = n;
    a.one = one;
    PT_REQUIRE(pthread_create(&control.thread, NULL, control_main, &control) == 0);
    PT_EQ(pica_run(awaits_main, &a), 0);
    atomic_store(&control.stop, true);
    pthread_join(control.thread, NULL);
    qsort(a.ticker.late, a.ticker.count, sizeof a.ticker.late[0], by_value);
    double median = a.ticker.late[a.ticker.count / 2];
    report(&a, median, control.worst);
    PT_EQ(a.sum, n / 2);
    PT_EQ(a.stats.tasks_alive, 1);
    PT_CHECK(a.stats.tasks_inplace >= (uint64_t)n / 2);
    check_ticks(&a, median, control.worst);
    if (!SANITIZED) {
        PT_CHECK(a.rss_late - a.rss_early < 256 * 1024);
    }
}

enum { SHORT = SANITIZED ? 30000 : 1000000, FULL = 10000000 };

PT_TEST_TIMEOUT(plain, 60) {
    run(SHORT, one_plain);
}

PT_TEST_TIMEOUT(some_suspend, 60) {
    run(SHORT, one_mixed);
}

PT_TEST_TIMEOUT(crossed, 60) {
    run(SHORT, one_crossed);
}

PT_TEST_HIDDEN(full, 300) {
    run(FULL, one_plain);
}

PT_TEST_HIDDEN(full_crossed, 300) {
    run(FULL, one_crossed);
}

PT_MAIN()
