/* Runs the workloads.
 *
 *     pica-sim [FROM..TO] [--workload NAME] [--seconds N] [--faults PERCENT] [--once] [--transitions FILE] [--real ENGINE...]
 *
 * Without --real: in the simulator, under each seed of the range one workload (or the one named), each run made
 * twice and compared (--once: once); prints how many seeds count (at least 2 workers, 8 tasks, 200 choices and 5
 * faults), how many of their traces differ, the rates, and the faults by kind. A failing seed is printed with the
 * command that replays it. --transitions, with a debug build of the library: prints which transitions of the state
 * machines were never taken, and fails if FILE does not say of exactly these why (lines "NAME: why", or
 * "NAME: seldom, why" of one that may be taken).
 *
 * With --real: each workload (or the one named) on each engine named (an engine that this build does not know is
 * skipped), with as many workers as PICA_WORKERS says. Exit status: 0 if nothing failed. */
#include "tests/workloads/workload.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

struct totals {
    unsigned long long seeds, counting, distinct, failed, choices, switches, operations, tasks, faults;
    unsigned long long few_workers, few_tasks, few_choices, few_faults; /* why others do not count */
    unsigned long long fault[PICA_SIM_FAULTS];
    bool twice; /* each run was made twice; the sums are of one */
};

static const char *program;

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
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

static bool probing;

/* A log hook stays set: what is silent about an engine that is missing must tell of what happens later. */
static void tell_unless_probing(void *ctx, int level, const char *text) {
    (void)ctx;
    (void)level;
    if (!probing) {
        fprintf(stderr, "pica: %s\n", text);
    }
}

static bool has_engine(const char *engine) {
    (void)setenv("PICA_ENGINE", engine, 1);
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = tell_unless_probing;
    probing = true;
    int rc = pica_run_opts(nothing, NULL, &options);
    probing = false;
    return rc == 0;
}

/* --- the simulator --- */

/* Hashes seen, open addressing; at most half full. */
static struct {
    uint64_t *hash;
    size_t size, used;
} seen;

static bool put(uint64_t hash) {
    size_t i = (size_t)hash % seen.size;
    while (seen.hash[i] != 0) {
        if (seen.hash[i] == hash) {
            return false;
        }
        i = (i + 1) % seen.size;
    }
    seen.hash[i] = hash;
    seen.used++;
    return true;
}

static bool is_new(uint64_t hash) {
    if (seen.used * 2 >= seen.size) {
        uint64_t *old = seen.hash;
        size_t size = seen.size;
        seen.size = size == 0 ? 1 << 16 : size * 2;
        seen.used = 0;
        seen.hash = calloc(seen.size, sizeof *seen.hash);
        if (seen.hash == NULL) {
            abort();
        }
        for (size_t i = 0; i < size; i++) {
            (void)(old[i] != 0 && put(old[i]));
        }
        free(old);
    }
    return put(hash | 1);
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

/* Of the seeds of a workload that can do without memory now and then, one in MEMORY does. */
enum { SPREAD = 64, MEMORY = 4 };

static bool run_seed(struct totals *t, uint64_t seed, const struct workload *w,
                     struct pica_sim_options *options) {
    struct pica_sim_report report = {.size = sizeof report};
    options->report = &report;
    options->plain = w->plain;
    options->memory = w->memory && !wl_no_faults && seed / SPREAD % MEMORY == 0;
    wl_memory = options->memory > 0;
    int rc = pica_sim_run(seed, options, w->main, NULL);
    add(t, &report);
    if (rc < 0 && !(wl_memory && rc == -ENOMEM && report.failure[0] == 0)) {
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
    double rate = seconds > 0 ? 1 / seconds : 0;
    printf("%llu seeds, %llu of them count, %llu failed, %.2f s of CPU, %.0f counting seeds a minute, "
           "%.0f choices a second\n",
           t->seeds, t->counting, t->failed, seconds, (double)t->counting * rate * 60,
           (double)t->choices * (t->twice ? 2 : 1) * rate);
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

/* --- transitions --- */

/* What the file says of a transition, by a line that begins with its name and a colon. */
enum saying { NOTHING, NEVER, SELDOM };

static enum saying explained(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            return strncmp(line + length, ": seldom,", 9) == 0 ? SELDOM : NEVER;
        }
    }
    return NOTHING;
}

static bool read_all(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    text[fread(text, 1, size - 1, file)] = '\0';
    return fclose(file) == 0;
}

/* 0, 1: something is not as the file says; SKIPPED. */
static int check_transitions(const char *path) {
    enum { SKIPPED = 77 };
    static char text[1 << 14];
    const char *name;
    uint64_t taken;
    unsigned never = 0, i = 0;
    int rc = 0;
    if (!read_all(path, text, sizeof text)) {
        perror(path);
        return 1;
    }
    for (; pica_sim_transition(i, &name, &taken) == 0; i++) {
        enum saying said = explained(text, name);
        never += taken == 0;
        if (taken == 0) {
            printf("never taken: %s%s\n", name, said != NOTHING ? "" : " (nothing says why)");
        } else if (said == NEVER) {
            printf("taken %llu times, though said to be never: %s\n", (unsigned long long)taken, name);
        }
        rc = said == (taken == 0 ? NOTHING : NEVER) ? 1 : rc;
    }
    printf("transitions: %u of %u taken\n", i - never, i);
    return i == 0 ? SKIPPED : rc;
}

struct arguments {
    uint64_t from, to;
    const char *transitions;
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
    double start = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t seed = a->from; seed <= a->to; seed++) {
        for (unsigned i = 0; workloads[i].name != NULL; i++) {
            if (a->only != NULL ? strcmp(a->only, workloads[i].name) == 0 : seed % n == i) {
                (void)run_seed(&t, seed, &workloads[i], &a->options);
            }
        }
        if (a->seconds > 0 && seconds_of(CLOCK_MONOTONIC) - start > a->seconds) {
            break;
        }
    }
    t.twice = a->options.check >= 0;
    print(&t, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    free(seen.hash);
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
            } else if (strcmp(argv[i - 1], "--transitions") == 0) {
                a->transitions = value;
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
        int failed = run_sim(&a);
        return failed != 0 || a.transitions == NULL ? failed : check_transitions(a.transitions);
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
