/* Switching between tasks: yields. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "bench/micro/cases.h"

/* --- two tasks in turns: one operation is a switch there and a switch back --- */

struct partner {
    _Atomic int stop; /* the main task writes, the partner reads; orders nothing */
    int64_t turns;
};

static int take_turns(void *arg) {
    struct partner *p = arg;
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        p->turns++;
        BM_MUST(pica_yield());
    }
    return 0;
}

/* With one worker the two alternate strictly; with more, each may have a worker to itself, and a yield
 * then finds nobody to switch to. */
static int switch_pair(bm_state *state) {
    enum { BATCH = 1000 };
    struct partner partner = {0, 0};
    pica_task *task;
    BM_MUST(pica_create_task(&task, take_turns, &partner));
    int64_t turns = 0;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            BM_MUST(pica_yield());
        }
        turns += BATCH;
    }
    atomic_store_explicit(&partner.stop, 1, memory_order_relaxed);
    BM_MUST(pica_join(task, NULL));
    bool alternated = llabs(partner.turns - turns) <= 1;
    return bm_workers(state) > 1 || alternated ? 0 : BM_WRONG;
}

/* --- n tasks that do nothing but yield: one operation is one yield --- */

enum { YIELDS = 100000, TASKS_MAX = 100 };

static int yield_often(void *arg) {
    const int64_t *times = arg;
    for (int64_t i = 0; i < *times; i++) {
        BM_MUST(pica_yield());
    }
    return 0;
}

static int yield_in_tasks(bm_state *state, int pinned) {
    int64_t n = bm_param(state);
    int64_t times = YIELDS / n;
    pica_task *tasks[TASKS_MAX];
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.pinned = pinned;
    while (bm_next(state, YIELDS)) {
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_create_task_opts(&tasks[i], yield_often, &times, &options));
        }
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_join(tasks[i], NULL));
        }
    }
    return 0;
}

static int yield_free(bm_state *state) {
    return yield_in_tasks(state, 0);
}

/* Pinned tasks take turns with the callbacks of their loop, through the loop. */
static int yield_pinned(bm_state *state) {
    return yield_in_tasks(state, 1);
}

const struct bm_case switch_cases[] = {
    {.name = "switch_pair", .task = switch_pair},
    {"yield", yield_free, NULL, "tasks", {1, 2, 100}, 3},
    {"yield_pinned", yield_pinned, NULL, "tasks", {1, 2, 100}, 3},
    {0},
};
