/* Creating tasks and awaiting them. One operation is one task. */
#include <stdlib.h>

#include "bench/micro/cases.h"

static int nothing(void *arg) {
    (void)arg;
    return 1;
}

/* --- one after the other --- */

static int spawn_await(bm_state *state) {
    enum { BATCH = 1000 };
    while (bm_next(state, BATCH)) {
        int sum = 0;
        for (int i = 0; i < BATCH; i++) {
            pica_task *task;
            BM_MUST(pica_create_task(&task, nothing, NULL));
            sum += pica_join(task, NULL);
        }
        if (sum != BATCH) {
            return BM_WRONG;
        }
    }
    return 0;
}

/* The task suspends once, so it needs a stack. */
static int yield_once(void *arg) {
    (void)arg;
    int rc = pica_yield();
    return rc < 0 ? rc : 1;
}

static int spawn_await_suspending(bm_state *state) {
    enum { BATCH = 1000 };
    while (bm_next(state, BATCH)) {
        int sum = 0;
        for (int i = 0; i < BATCH; i++) {
            pica_task *task;
            BM_MUST(pica_create_task(&task, yield_once, NULL));
            sum += pica_join(task, NULL);
        }
        if (sum != BATCH) {
            return BM_WRONG;
        }
    }
    return 0;
}

/* --- n at once, then all are joined, oldest first --- */

static int spawn_join(bm_state *state) {
    int64_t n = bm_param(state);
    pica_task **tasks = malloc((size_t)n * sizeof *tasks);
    if (tasks == NULL) {
        return -ENOMEM;
    }
    int64_t wrong = 0;
    while (bm_next(state, n)) {
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_create_task(&tasks[i], nothing, NULL));
        }
        for (int64_t i = 0; i < n; i++) {
            wrong += pica_join(tasks[i], NULL) != 1;
        }
    }
    free(tasks);
    return wrong == 0 ? 0 : BM_WRONG;
}

/* --- a chain: each task creates one and awaits it --- */

struct chain {
    int64_t left;
};

static int link_of_chain(void *arg) {
    struct chain next = {((struct chain *)arg)->left - 1};
    if (next.left == 0) {
        return 1;
    }
    pica_task *task;
    BM_MUST(pica_create_task(&task, link_of_chain, &next));
    return pica_join(task, NULL);
}

static int await_chain(bm_state *state) {
    int64_t depth = bm_param(state);
    while (bm_next(state, depth)) {
        struct chain chain = {depth};
        pica_task *task;
        BM_MUST(pica_create_task(&task, link_of_chain, &chain));
        if (pica_join(task, NULL) != 1) {
            return BM_WRONG;
        }
    }
    return 0;
}

/* --- a tree: fib(n) as a task of fib(n - 1) beside a call of fib(n - 2), no cut-off --- */

enum { FIB = 20, FIB_RESULT = 6765, FIB_TASKS = 10945 };

struct fib {
    int n;
};

static int fib(void *arg) {
    int n = ((struct fib *)arg)->n;
    if (n < 2) {
        return n;
    }
    struct fib left = {n - 1};
    struct fib right = {n - 2};
    pica_task *task;
    BM_MUST(pica_create_task(&task, fib, &left));
    int sum = fib(&right);
    int joined = pica_join(task, NULL);
    BM_MUST(joined);
    return sum + joined;
}

static int spawn_tree(bm_state *state) {
    while (bm_next(state, FIB_TASKS)) {
        struct fib root = {FIB};
        if (fib(&root) != FIB_RESULT) {
            return BM_WRONG;
        }
    }
    return 0;
}

const struct bm_case spawn_cases[] = {
    {.name = "spawn_await", .task = spawn_await},
    {.name = "spawn_await_suspending", .task = spawn_await_suspending},
    {"spawn_join", spawn_join, NULL, "tasks", {1000, 100000}, 2},
    {"await_chain", await_chain, NULL, "depth", {10, 1000}, 2},
    {.name = "spawn_tree", .task = spawn_tree},
    {0},
};
