/* pica-bench-micro: single operations of the runtime. Arguments are Google Benchmark's, for example
 * --benchmark_filter=REGEX, --benchmark_out=FILE.json, --benchmark_repetitions=9.
 *
 * Each run of a benchmark gets a runtime of its own. Beside the times stand what a figure for two workers
 * can only be read with: the busiest worker's share of all steps (1: it did everything), and for each
 * operation the tasks stolen, and the times that a worker went to sleep or was woken by another
 * thread. */
#include <pica.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/micro/bm.h"
#include "bench/micro/cases.h"

struct run {
    bm_state *state;
    const struct bm_case *row;
};

void bm_must(int rc, const char *what) {
    if (rc < 0) {
        (void)fprintf(stderr, "pica-bench-micro: %s: %s\n", what, pica_strerror(rc));
        _Exit(1); /* from whatever thread, with tasks still about */
    }
}

static int run_task(void *arg) {
    const struct run *run = arg;
    return run->row->task(run->state);
}

static void *run_forever(void *rt) {
    BM_MUST(pica_run_forever(rt));
    return NULL;
}

/* Two threads, since the one that runs the runtime is blocked as long as it runs. */
static int run_beside(pica_runtime *rt, const struct run *run) {
    pthread_t runner;
    BM_MUST(-pthread_create(&runner, NULL, run_forever, rt));
    int rc = run->row->thread(run->state, rt);
    pica_stop(rt);
    BM_MUST(-pthread_join(runner, NULL));
    return rc;
}

static void report_stats(bm_state *state, pica_runtime *rt) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    BM_MUST(pica_runtime_get_stats(rt, &stats));
    uint64_t sum = 0;
    uint64_t most = 0;
    for (unsigned i = 0; i < pica_runtime_workers(rt); i++) {
        uint64_t steps = pica_runtime_worker_steps(rt, i);
        sum += steps;
        most = steps > most ? steps : most;
    }
    bm_counter(state, "busiest", sum == 0 ? 0 : (double)most / (double)sum);
    bm_counter_per_operation(state, "steals", (double)stats.steals);
    bm_counter_per_operation(state, "parks", (double)stats.parks);
    bm_counter_per_operation(state, "wakes", (double)stats.wakes);
}

static void run_case(bm_state *state, const struct bm_case *row) {
    struct run run = {state, row};
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = (unsigned)bm_workers(state);
    pica_runtime *rt;
    int rc = pica_runtime_new(&rt, &options);
    if (rc == 0) {
        rc = row->task != NULL ? pica_run_until_complete(rt, run_task, &run) : run_beside(rt, &run);
        if (rc >= 0) {
            report_stats(state, rt);
        }
        BM_MUST(pica_close(rt));
    }
    if (rc < 0) {
        bm_fail(state, rc == BM_WRONG ? "a wrong result" : pica_strerror(rc));
    }
}

int main(int argc, char **argv) {
    bm_add(switch_cases, run_case);
    bm_add(spawn_cases, run_case);
    bm_add(gather_cases, run_case);
    bm_add(future_cases, run_case);
    bm_add(queue_cases, run_case);
    bm_add(lock_cases, run_case);
    bm_add(event_cases, run_case);
    bm_add(timer_cases, run_case);
    bm_add(thread_cases, run_case);
    bm_add(steal_cases, run_case);
    bm_add(file_cases, run_case);
    return bm_run(argc, argv);
}
