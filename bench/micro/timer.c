/* Timers: arming and taking back, with few and with many others armed; sleeping. */
#include <stdlib.h>

#include "bench/micro/cases.h"

enum { BATCH = 1000, FAR_AWAY = 1000 /* seconds */ };

static void never(void *arg) {
    (void)arg;
    abort();
}

/* --- others: n timers that do not fire meanwhile, at mixed times --- */

static pica_handle **arm_others(int64_t n) {
    pica_handle **handles = malloc(((size_t)n + 1) * sizeof(pica_handle *));
    BM_MUST(handles == NULL ? -ENOMEM : 0);
    unsigned random = 1;
    for (int64_t i = 0; i < n; i++) {
        random = random * 1103515245U + 12345U;
        BM_MUST(pica_call_later(FAR_AWAY + (double)(random >> 16), never, NULL, &handles[i]));
    }
    return handles;
}

static void disarm_others(pica_handle **handles, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        BM_MUST(pica_handle_cancel(handles[i]));
        pica_handle_unref(handles[i]);
    }
    free(handles);
}

/* --- a scope that is left in time: what each read with a time-out pays --- */

static int timeout_scope(bm_state *state) {
    int64_t armed = bm_param(state);
    pica_handle **others = arm_others(armed);
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            pica_timeout timeout;
            BM_MUST(pica_timeout_enter(&timeout, 5.0));
            BM_MUST(pica_timeout_exit(&timeout, 0));
        }
    }
    disarm_others(others, armed);
    return 0;
}

/* --- call_later, cancelled --- */

static int call_later_cancel(bm_state *state) {
    int64_t armed = bm_param(state);
    pica_handle **others = arm_others(armed);
    int64_t cancelled = 0;
    int64_t made = 0;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            pica_handle *handle;
            BM_MUST(pica_call_later(FAR_AWAY, never, NULL, &handle));
            cancelled += pica_handle_cancel(handle);
            pica_handle_unref(handle);
        }
        made += BATCH;
    }
    disarm_others(others, armed);
    return cancelled == made ? 0 : BM_WRONG;
}

/* --- n tasks that sleep for a microsecond: one operation is one sleep of one task --- */

enum { SLEEPS = 1000, TASKS_MAX = 1000 };

static int sleep_often(void *arg) {
    const int64_t *times = arg;
    for (int64_t i = 0; i < *times; i++) {
        BM_MUST(pica_sleep(1e-6));
    }
    return 0;
}

static int sleep_in_tasks(bm_state *state) {
    pica_task *tasks[TASKS_MAX];
    int64_t n = bm_param(state);
    int64_t times = SLEEPS / n;
    while (bm_next(state, SLEEPS)) {
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_create_task(&tasks[i], sleep_often, &times));
        }
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_join(tasks[i], NULL));
        }
    }
    return 0;
}

const struct bm_case timer_cases[] = {
    {"timeout_scope", timeout_scope, NULL, "armed", {0, 10000}, 2},
    {"call_later_cancel", call_later_cancel, NULL, "armed", {0, 10000}, 2},
    {"sleep_1us", sleep_in_tasks, NULL, "tasks", {1, 100, 1000}, 3},
    {0},
};
