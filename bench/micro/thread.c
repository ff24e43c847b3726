/* From a plain thread into the runtime, and back. */
#include <semaphore.h>

#include "bench/micro/cases.h"

static int answer(void *arg) {
    (void)arg;
    return 7;
}

/* --- a coroutine, and the wait for its result --- */

static int run_coroutine(bm_state *state, pica_runtime *rt) {
    while (bm_next(state, 1)) {
        pica_thread_future *future;
        void *value;
        BM_MUST(pica_run_coroutine_threadsafe(rt, answer, NULL, &future));
        BM_MUST(pica_thread_future_wait(future, PICA_FOREVER));
        int rc = pica_thread_future_result(future, &value);
        pica_thread_future_free(future);
        if (rc != 7) {
            return BM_WRONG;
        }
    }
    return 0;
}

/* --- callbacks: n are scheduled, the last one tells; one operation is one callback --- */

struct burst {
    sem_t done;
    int64_t left; /* the loop's */
};

static void count_down(void *arg) {
    struct burst *burst = arg;
    if (--burst->left == 0) {
        BM_MUST(sem_post(&burst->done) == 0 ? 0 : -EOVERFLOW);
    }
}

static int call_soon(bm_state *state, pica_runtime *rt) {
    int64_t n = bm_param(state);
    pica_loop *loop = pica_runtime_loop(rt, 0);
    struct burst burst = {.left = 0};
    BM_MUST(sem_init(&burst.done, 0, 0) == 0 ? 0 : -ENOSYS);
    while (bm_next(state, n)) {
        burst.left = n;
        for (int64_t i = 0; i < n; i++) {
            BM_MUST(pica_call_soon_threadsafe(loop, count_down, &burst, NULL));
        }
        while (sem_wait(&burst.done) != 0) {
        }
    }
    return sem_destroy(&burst.done);
}

const struct bm_case thread_cases[] = {
    {.name = "run_coroutine_threadsafe", .thread = run_coroutine},
    {"call_soon_threadsafe", NULL, call_soon, "burst", {1, 1000}, 2},
    {0},
};
