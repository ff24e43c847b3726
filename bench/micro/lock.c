/* Locks: n tasks that take one lock by turns. One operation is an acquire and a release. */
#include "bench/micro/cases.h"

enum { TIMES = 100000, TASKS_MAX = 100 };

struct shared {
    pica_lock lock;
    int64_t counter; /* under lock: shows that it excludes */
    int64_t times;   /* of each task */
    int yields;      /* the holder suspends, so that others find the lock taken */
};

static int take_often(void *arg) {
    struct shared *s = arg;
    for (int64_t i = 0; i < s->times; i++) {
        BM_MUST(pica_lock_acquire(&s->lock));
        int64_t seen = s->counter;
        if (s->yields) {
            BM_MUST(pica_yield());
        }
        s->counter = seen + 1;
        BM_MUST(pica_lock_release(&s->lock));
    }
    return 0;
}

static int lock_in_tasks(bm_state *state, int yields) {
    int64_t n = bm_param(state);
    struct shared shared = {PICA_LOCK_INIT, 0, TIMES / n, yields};
    pica_task *tasks[TASKS_MAX];
    while (bm_next(state, TIMES)) {
        shared.counter = 0;
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_create_task(&tasks[i], take_often, &shared));
        }
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_join(tasks[i], NULL));
        }
        if (shared.counter != TIMES) {
            return BM_WRONG;
        }
    }
    return 0;
}

static int lock_short(bm_state *state) {
    return lock_in_tasks(state, 0);
}

static int lock_across_yield(bm_state *state) {
    return lock_in_tasks(state, 1);
}

const struct bm_case lock_cases[] = {
    {"lock", lock_short, NULL, "tasks", {1, 2, 100}, 3},
    {"lock_across_yield", lock_across_yield, NULL, "tasks", {1, 2, 100}, 3},
    {0},
};
