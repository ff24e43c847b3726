/* The tables of the micro benchmarks, one for each file. */
#ifndef PICA_BENCH_MICRO_CASES_H
#define PICA_BENCH_MICRO_CASES_H

#include <pica.h>

#include "bench/micro/bm.h"

extern const struct bm_case switch_cases[];
extern const struct bm_case spawn_cases[];
extern const struct bm_case gather_cases[];
extern const struct bm_case future_cases[];
extern const struct bm_case queue_cases[];
extern const struct bm_case lock_cases[];
extern const struct bm_case event_cases[];
extern const struct bm_case timer_cases[];
extern const struct bm_case thread_cases[];
extern const struct bm_case steal_cases[];
extern const struct bm_case file_cases[];

#endif
