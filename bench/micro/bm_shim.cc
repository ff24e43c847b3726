/* Google Benchmark behind bm.h. The only C++ of the micro benchmarks. */
#include "bench/micro/bm.h"

#include <atomic>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

static const int64_t worker_counts[] = {1, 2};

static std::atomic<bool> failed(false);

static benchmark::State &state_of(bm_state *state) {
    return *reinterpret_cast<benchmark::State *>(state);
}

static const benchmark::State &state_of(const bm_state *state) {
    return *reinterpret_cast<const benchmark::State *>(state);
}

int bm_next(bm_state *state, int64_t batch) {
    return state_of(state).KeepRunningBatch(batch);
}

int64_t bm_workers(const bm_state *state) {
    return state_of(state).range(0);
}

int64_t bm_param(const bm_state *state) {
    return state_of(state).range(1);
}

void bm_counter(bm_state *state, const char *name, double value) {
    state_of(state).counters[name] = benchmark::Counter(value);
}

void bm_counter_per_operation(bm_state *state, const char *name, double value) {
    state_of(state).counters[name] =
        benchmark::Counter(value, benchmark::Counter::kAvgIterations);
}

void bm_fail(bm_state *state, const char *why) {
    failed = true;
    state_of(state).SkipWithError(why);
}

void bm_add(const struct bm_case *table, void (*fn)(bm_state *, const struct bm_case *)) {
    for (const struct bm_case *row = table; row->name != nullptr; row++) {
        auto *added = benchmark::RegisterBenchmark(row->name, [fn, row](benchmark::State &state) {
            fn(reinterpret_cast<bm_state *>(&state), row);
        });
        added->UseRealTime()->MeasureProcessCPUTime();
        std::vector<std::string> names = {"workers"};
        if (row->param != nullptr) {
            names.push_back(row->param);
        }
        added->ArgNames(names);
        for (int64_t workers : worker_counts) {
            if (row->param == nullptr) {
                added->Args({workers});
            }
            for (int i = 0; row->param != nullptr && i < row->value_count; i++) {
                added->Args({workers, row->values[i]});
            }
        }
    }
}

int bm_run(int argc, char **argv) {
    /* The counters as columns of one table, unless the command line says otherwise. */
    std::string tabular = "--benchmark_counters_tabular=true";
    std::vector<char *> args(argv, argv + argc);
    args.insert(args.begin() + 1, &tabular[0]);
    args.push_back(nullptr);
    argc++;
    argv = args.data();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    benchmark::AddCustomContext("pica", pica_version());
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return failed ? 1 : 0;
}
