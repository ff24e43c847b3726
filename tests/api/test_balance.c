/* Work conservation: what a worker makes runnable and then computes on is run by another one that sleeps, within a
 * bound. Wherever it lies: created last, woken last, or queued behind others. The bound here is for machines that are
 * busy with other things; that the protocol needs no more than two looks of a watcher shows tests/explore. */
#include <math.h>
#include <stdio.h>

#include "tests/support/tasks.h"

enum { ROUNDS = 60, CROWD = 40 };

struct round {
    atomic_int left;      /* that have not run */
    _Atomic double ended; /* when the last one ran */
    pica_event event;
};

static double bound(void) {
    return 1.0 * pt_time_scale();
}

static int runs(void *arg) {
    struct round *r = arg;
    if (atomic_fetch_sub(&r->left, 1) == 1) {
        atomic_store(&r->ended, pica_time());
    }
    return 0;
}

static int runs_when_woken(void *arg) {
    struct round *r = arg;
    PT_EQ(pica_event_wait(&r->event), 0);
    return runs(r);
}

/* Computes until all have run, which nobody on this worker can do; how long that took. */
static double compute(struct round *r, double begin) {
    double end = begin + 10 * bound();
    while (atomic_load(&r->left) != 0 && pica_time() < end) {
    }
    PT_EQ(atomic_load(&r->left), 0);
    return atomic_load(&r->left) == 0 ? atomic_load(&r->ended) - begin : INFINITY;
}

/* n tasks, created or woken, in a round that begins with the others asleep, or not. */
static double one_round(int number, int n, bool wake) {
    struct round r = {.left = n, .event = PICA_EVENT_INIT};
    pica_task *tasks[CROWD];
    PT_REQUIRE(n <= CROWD);
    for (int i = 0; wake && i < n; i++) {
        tasks[i] = spawn(runs_when_woken, &r);
    }
    PT_EQ(number % 2 == 0 ? pica_sleep(0.005) : pica_yield(), 0);
    double begin = pica_time();
    for (int i = 0; !wake && i < n; i++) {
        tasks[i] = spawn(runs, &r);
    }
    if (wake) {
        pica_event_set(&r.event);
    }
    double took = compute(&r, begin);
    for (int i = 0; i < n; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    return took;
}

static void rounds(int n, bool wake) {
    double longest = 0;
    if (pica_runtime_workers(pica_current_runtime()) == 1) {
        PT_SKIP("one worker: there is nobody else");
    }
    for (int i = 0; i < ROUNDS && pt_failures() == 0; i++) {
        longest = fmax(longest, one_round(i, n, wake));
    }
    printf("    longest wait beside a sleeping worker: %.3f ms\n", longest * 1e3);
    PT_CHECK(longest < bound());
}

static int created_main(void *arg) {
    (void)arg;
    rounds(1, false);
    return 0;
}

static int woken_main(void *arg) {
    (void)arg;
    rounds(1, true);
    return 0;
}

static int crowd_created_main(void *arg) {
    (void)arg;
    rounds(CROWD, false);
    return 0;
}

static int crowd_woken_main(void *arg) {
    (void)arg;
    rounds(CROWD, true);
    return 0;
}

PT_TEST_TIMEOUT(created, 60) {
    tasks_run(created_main, PICA_ORDER_FREE, NULL);
}

PT_TEST_TIMEOUT(woken, 60) {
    tasks_run(woken_main, PICA_ORDER_FREE, NULL);
}

PT_TEST_TIMEOUT(a_crowd_created, 60) {
    tasks_run(crowd_created_main, PICA_ORDER_FREE, NULL);
}

PT_TEST_TIMEOUT(a_crowd_woken, 60) {
    tasks_run(crowd_woken_main, PICA_ORDER_FREE, NULL);
}

PT_MAIN()
