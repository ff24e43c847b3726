/* Runs the workloads.
 *
 *     pica-sim [FROM..TO] [--workload NAME] [--seconds N] [--faults PERCENT] [--once] [--real ENGINE...]
 *
 * Without --real: in the simulator, under each seed of the range one workload (or the one named), each run made
 * twice and compared (--once: once); prints how many seeds count (at least 2 workers, 8 tasks, 200 choices and 5
 * faults), how many of their traces differ, the rate, and the faults by kind. A failing seed is printed with the
 * command that replays it. With --real: each workload on each engine named (an engine that this build does not know is
 * skipped), with as many workers as PICA_WORKERS says. Exit status: 0 if nothing failed. */
#include "tests/workloads/workload.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

struct totals {
    unsigned long long seeds, counting, distinct, failed, choices, switches, operations, tasks, faults;
    unsigned long long few_workers, few_tasks, few_choices, few_faults; /* why others do not count */
    unsigned long long fault[PICA_SIM_FAULTS];
};

static const char *program;

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- the real thing --- */

static int descriptors(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL) {
        n++;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return n;
}

static int run_real(const char *engine, const char *only) {
    (void)setenv("PICA_ENGINE", engine, 1);
    for (const struct workload *w = workloads; w->name != NULL; w++) {
        if (only != NULL ? strcmp(only, w->name) != 0 : w->hidden) {
            continue;
        }
        unsigned failures = atomic_load(&wl_failures);
        int before = descriptors();
        int rc = w->plain ? w->main(NULL) : pica_run(w->main, NULL);
        int after = descriptors();
        if (rc != 0 || after != before) {
            (void)fprintf(stderr, "%s: %s, %d descriptors more\n", w->name, pica_err_name(rc),
                          after - before);
            atomic_fetch_add(&wl_failures, 1);
        }
        printf("%s %s %s\n", atomic_load(&wl_failures) == failures ? "ok" : "FAIL", engine, w->name);
    }
    return atomic_load(&wl_failures) != 0;
}

/* Whether this build has the engine. */
static int nothing(void *arg) {
    (void)arg;
    return 0;
}

static void quiet(void *ctx, int level, const char *text) {
    (void)ctx;
    (void)level;
    (void)text;
}

static bool has_engine(const char *engine) {
    (void)setenv("PICA_ENGINE", engine, 1);
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = quiet;
    return pica_run_opts(nothing, NULL, &options) == 0;
}

/* --- the simulator --- */

/* Hashes seen, open addressing. */
static uint64_t *seen;
static size_t seen_size;

static bool is_new(uint64_t hash) {
    size_t i = (size_t)hash % seen_size;
    hash |= 1;
    while (seen[i] != 0) {
        if (seen[i] == hash) {
            return false;
        }
        i = (i + 1) % seen_size;
    }
    seen[i] = hash;
    return true;
}

static void add(struct totals *t, const struct pica_sim_report *r) {
    bool counts = r->workers >= 2 && r->tasks >= 8 && r->choices >= 200 && r->faults >= 5;
    t->seeds++;
    t->counting += counts;
    t->few_workers += r->workers < 2;
    t->few_tasks += r->tasks < 8;
    t->few_choices += r->choices < 200;
    t->few_faults += r->faults < 5;
    t->distinct += counts && is_new(r->hash);
    t->choices += r->choices;
    t->switches += r->switches;
    t->operations += r->operations;
    t->tasks += r->tasks;
    t->faults += r->faults;
    for (int i = 0; i < PICA_SIM_FAULTS; i++) {
        t->fault[i] += r->fault[i];
    }
}

static bool run_seed(struct totals *t, uint64_t seed, const struct workload *w,
                     struct pica_sim_options *options) {
    struct pica_sim_report report = {.size = sizeof report};
    options->report = &report;
    options->plain = w->plain;
    int rc = pica_sim_run(seed, options, w->main, NULL);
    add(t, &report);
    if (rc < 0) {
        t->failed++;
        (void)fprintf(stderr, "seed %llu failed (%s, %s); replay: %s %llu --workload %s%s%s%s%s\n",
                      (unsigned long long)seed, pica_err_name(rc), report.failure, program,
                      (unsigned long long)seed, w->name, options->skip != NULL ? " --skip " : "",
                      options->skip != NULL ? options->skip : "",
                      options->drop != NULL ? " --drop " : "",
                      options->drop != NULL ? options->drop : "");
    }
    return rc >= 0;
}

static void print(const struct totals *t, double seconds) {
    printf("%llu seeds, %llu of them count, %llu failed, %.2f s of CPU, %.0f counting seeds a minute\n",
           t->seeds, t->counting, t->failed, seconds,
           seconds > 0 ? (double)t->counting / seconds * 60 : 0.0);
    printf("do not count for too few: workers %llu, tasks %llu, choices %llu, faults %llu\n", t->few_workers,
           t->few_tasks, t->few_choices, t->few_faults);
    printf("traces that differ: %.2f %%\n",
           t->counting != 0 ? 100.0 * (double)t->distinct / (double)t->counting : 0.0);
    if (t->seeds != 0) {
        printf("a seed: %llu choices, %llu switches, %llu tasks, %llu operations, %llu faults\n",
               t->choices / t->seeds, t->switches / t->seeds, t->tasks / t->seeds,
               t->operations / t->seeds, t->faults / t->seeds);
    }
    printf("faults:");
    for (int i = 0; i < PICA_SIM_FAULTS; i++) {
        printf(" %s %llu", pica_sim_fault_name(i), t->fault[i]);
    }
    printf("\n");
}

struct arguments {
    uint64_t from, to;
    const char *only;
    double seconds;
    struct pica_sim_options options;
    const char *engine[8];
    int engines;
};

static int run_sim(struct arguments *a) {
    struct totals t = {0};
    unsigned n = 0;
    while (workloads[n].name != NULL && !workloads[n].hidden) {
        n++; /* the hidden ones come last */
    }
    seen_size = (size_t)(a->to - a->from + 1) * 2 + 1;
    seen = calloc(seen_size, sizeof *seen);
    if (seen == NULL) {
        return 2;
    }
    double start = seconds_now();
    for (uint64_t seed = a->from; seed <= a->to; seed++) {
        for (unsigned i = 0; workloads[i].name != NULL; i++) {
            if (a->only != NULL ? strcmp(a->only, workloads[i].name) == 0 : seed % n == i) {
                (void)run_seed(&t, seed, &workloads[i], &a->options);
            }
        }
        if (a->seconds > 0 && seconds_now() - start > a->seconds) {
            break;
        }
    }
    print(&t, seconds_now() - start);
    free(seen);
    return t.seeds == 0 || t.failed != 0;
}

static bool parse(struct arguments *a, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end;
        if (strcmp(argv[i], "--once") == 0) {
            a->options.check = -1;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            a->options.quiet = 1;
        } else if (argv[i][0] != '-') {
            a->from = a->to = strtoull(argv[i], &end, 0);
            if (strncmp(end, "..", 2) == 0) {
                a->to = strtoull(end + 2, &end, 0);
            }
            if (*end != 0 || a->to < a->from) {
                return false;
            }
        } else if (value == NULL) {
            return false;
        } else if (strcmp(argv[i], "--real") == 0) {
            while (i + 1 < argc && a->engines < 8) {
                a->engine[a->engines++] = argv[++i];
            }
        } else {
            i++;
            if (strcmp(argv[i - 1], "--workload") == 0) {
                a->only = value;
            } else if (strcmp(argv[i - 1], "--seconds") == 0) {
                a->seconds = strtod(value, NULL);
            } else if (strcmp(argv[i - 1], "--faults") == 0) {
                a->options.faults = (int)strtol(value, NULL, 10);
                a->options.faults = a->options.faults == 0 ? -1 : a->options.faults;
                wl_no_faults = a->options.faults < 0;
            } else if (strcmp(argv[i - 1], "--workers") == 0) {
                a->options.workers = (unsigned)strtoul(value, NULL, 10);
            } else if (strcmp(argv[i - 1], "--skip") == 0) {
                a->options.skip = value;
            } else if (strcmp(argv[i - 1], "--drop") == 0) {
                a->options.drop = value;
            } else {
                return false;
            }
        }
    }
    return true;
}

int main(int argc, char **argv) {
    struct arguments a = {.from = 1, .to = 1000, .options = PICA_SIM_OPTIONS_INIT};
    program = argv[0];
    if (!parse(&a, argc, argv)) {
        (void)fprintf(stderr, "usage: see the head of tests/workloads/main.c\n");
        return 2;
    }
    if (a.engines == 0) {
        (void)setenv("PICA_LOG", "error", 0);
        return run_sim(&a);
    }
    int rc = 0;
    for (int i = 0; i < a.engines; i++) {
        if (has_engine(a.engine[i])) {
            rc |= run_real(a.engine[i], a.only);
        } else {
            printf("skip %s\n", a.engine[i]);
        }
    }
    return rc;
}
