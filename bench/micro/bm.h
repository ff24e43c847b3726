/* Google Benchmark, as the micro benchmarks see it: C, and made for a runtime with threads of its own.
 *
 * A benchmark is a row of a table (struct bm_case). It runs once for each number of workers and each
 * value of its parameter, with a fresh runtime that was started outside the measured time. Its body
 *
 *     while (bm_next(state, BATCH)) {
 *         ... BATCH operations ...
 *     }
 *
 * gives the time of one operation. Time is always real time: how long the caller's thread computed
 * says nothing about the workers. CPU is that of the whole process.
 */
#ifndef PICA_BENCH_MICRO_BM_H
#define PICA_BENCH_MICRO_BM_H

#include <pica/base.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bm_state bm_state;
typedef struct pica_runtime pica_runtime;

enum { BM_VALUES_MAX = 4 };
/* What a body returns that found a wrong result. */
enum { BM_WRONG = -EPROTO };

struct bm_case {
    const char *name; /* NULL ends a table */
    /* One of the two. task: runs as the runtime's main task. thread: runs on a plain thread while
     * the runtime runs. A negative result fails the benchmark, and the whole program at its end. */
    int (*task)(bm_state *state);
    int (*thread)(bm_state *state, pica_runtime *rt);
    /* A second argument beside the number of workers: its name, or NULL, and its values. */
    const char *param;
    int64_t values[BM_VALUES_MAX];
    int value_count;
};

/* --- for benchmarks --- */

/* True: do batch operations and ask again. The first call starts the clock, the last stops it. */
int bm_next(bm_state *state, int64_t batch);
int64_t bm_workers(const bm_state *state);
int64_t bm_param(const bm_state *state);

/* Ends the program with a message if rc, the result of the call named by what, is an error. A
 * benchmark whose calls fail measures nothing, and has tasks around that use its frame. */
void bm_must(int rc, const char *what);
#define BM_MUST(call) bm_must((call), #call)

/* --- for the runner --- */

/* Shows value as a column of its own; the second divides it by the number of operations. */
void bm_counter(bm_state *state, const char *name, double value);
void bm_counter_per_operation(bm_state *state, const char *name, double value);
/* The benchmark has failed; bm_run will return 1. */
void bm_fail(bm_state *state, const char *why);
/* Runs fn(state, row) for each row of a table, each number of workers and each value. */
void bm_add(const struct bm_case *table, void (*fn)(bm_state *state, const struct bm_case *row));
/* Runs all that was added, as the command line says: the program's result. */
int bm_run(int argc, char **argv);

#ifdef __cplusplus
}
#endif

#endif
