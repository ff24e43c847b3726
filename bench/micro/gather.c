/* Gathering n tasks. One operation is one task: created, run, gathered, released. */
#include "bench/micro/cases.h"

enum { TASKS_MAX = 1000 };

static int nothing(void *arg) {
    (void)arg;
    return 1;
}

static int gather_with(bm_state *state, unsigned flags) {
    static pica_future *futures[TASKS_MAX];
    size_t n = (size_t)bm_param(state);
    int64_t wrong = 0;
    while (bm_next(state, (int64_t)n)) {
        for (size_t i = 0; i < n; i++) {
            pica_task *task;
            BM_MUST(pica_create_task(&task, nothing, NULL));
            futures[i] = pica_task_future(task);
        }
        BM_MUST(pica_gather(n, futures, flags));
        for (size_t i = 0; i < n; i++) {
            wrong += pica_future_result(futures[i], NULL) != 1;
            pica_future_unref(futures[i]);
        }
    }
    return wrong == 0 ? 0 : BM_WRONG;
}

/* Ends early if one fails, so the gathering task has to suspend. */
static int gather(bm_state *state) {
    return gather_with(state, 0);
}

/* Waits for all in any case, so they may run on the gathering task's stack. */
static int gather_all(bm_state *state) {
    return gather_with(state, PICA_RETURN_EXCEPTIONS);
}

const struct bm_case gather_cases[] = {
    {"gather", gather, NULL, "tasks", {10, 1000}, 2},
    {"gather_all", gather_all, NULL, "tasks", {10, 1000}, 2},
    {0},
};
