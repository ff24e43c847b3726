/* Parallel speed-up: one task creates 10,000 short computations and joins them, the other workers
 * take what they can. One operation is one computation; work is the same without tasks. */
#include <stdlib.h>

#include "bench/micro/cases.h"

enum { TASKS = 10000 };

struct job {
    int64_t rounds;
};

/* Each round needs the result of the one before: a few nanoseconds. */
static int compute(void *arg) {
    uint64_t x = 88172645463325252;
    for (int64_t i = ((struct job *)arg)->rounds; i > 0; i--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return (int)(x & 0x7fff);
}

static int work(bm_state *state) {
    struct job job = {bm_param(state)};
    int expected = compute(&job);
    while (bm_next(state, TASKS)) {
        for (int i = 0; i < TASKS; i++) {
            struct job *hidden = &job;
            __asm__ volatile("" : "+r"(hidden) : : "memory"); /* else it is computed once */
            if (compute(hidden) != expected) {
                return BM_WRONG;
            }
        }
    }
    return 0;
}

static int steal(bm_state *state) {
    struct job job = {bm_param(state)};
    int expected = compute(&job);
    pica_task **tasks = malloc(TASKS * sizeof(pica_task *));
    if (tasks == NULL) {
        return -ENOMEM;
    }
    int64_t wrong = 0;
    while (bm_next(state, TASKS)) {
        for (int i = 0; i < TASKS; i++) {
            BM_MUST(pica_create_task(&tasks[i], compute, &job));
        }
        for (int i = 0; i < TASKS; i++) {
            wrong += pica_join(tasks[i], NULL) != expected;
        }
    }
    free(tasks);
    return wrong == 0 ? 0 : BM_WRONG;
}

const struct bm_case steal_cases[] = {
    {"work", work, NULL, "rounds", {100, 1000}, 2},
    {"steal", steal, NULL, "rounds", {100, 1000}, 2},
    {0},
};
