/* The command line of the scenario programs.
 *
 *   explore-X [--list] [--only NAME] [--mode sc|tso|c11] [--long] [--limit EXECUTIONS] [--seconds N]
 *             [--sites] [--weaken LIST] [--quiet] [--replay NAME:MODE:BOUND:SCHEDULE]
 *
 * --limit and --seconds (of CPU) are for one scenario in one memory.
 * Exit status: 0 passed, 1 a failure was found, 2 wrong use, 3 a limit was reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/explore/model.h"

static const char *const mode_names[] = {"sc", "tso", "c11"};

static struct {
    const char *only;
    int mode; /* -1: all */
    bool longer;
    bool quiet;
    bool sites;
    uint64_t limit;
    double seconds; /* 0: no limit */
    const char *replay;
} options = {.mode = -1, .limit = UINT64_MAX};

/* Of this process: other programs run beside. */
static double seconds(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static struct ex_bound bound_of(const struct ex_scenario *s, enum ex_mode mode) {
    struct ex_bound bound = mode == EX_SC ? s->sc : mode == EX_TSO ? s->tso : s->c11;
    if (options.longer && bound.preemptions >= 0) {
        bound.preemptions++;
    }
    if (options.longer && bound.stale >= 0 && mode != EX_SC) {
        bound.stale++;
    }
    return bound;
}

static const char *bound_text(struct ex_bound bound) {
    static char text[32];
    if (bound.preemptions == EX_ALL) {
        (void)snprintf(text, sizeof text, bound.stale == EX_ALL ? "all" : "all/%d", bound.stale);
    } else if (bound.stale == EX_ALL) {
        (void)snprintf(text, sizeof text, "%d/all", bound.preemptions);
    } else {
        (void)snprintf(text, sizeof text, "%d/%d", bound.preemptions, bound.stale);
    }
    return text;
}

static double deadline;

static bool time_is_up(void) {
    return options.seconds > 0 && seconds() >= deadline;
}

/* Preemptions and stale loads together, from 0 up: what is found first is short. */
static enum ex_outcome search_iterative(struct ex_bound bound, struct ex_stats *stats) {
    enum ex_outcome outcome = EX_PASSED;
    int most = bound.preemptions == EX_ALL ? 0 : bound.preemptions;
    for (int p = 0; p <= most && outcome == EX_PASSED; p++) {
        int back = most - p;
        ex_run.bound = bound;
        if (bound.preemptions != EX_ALL) {
            ex_run.bound.preemptions = (signed char)p;
            if (bound.stale != EX_ALL) {
                ex_run.bound.stale = (signed char)(bound.stale > back ? bound.stale - back : 0);
            }
        }
        *stats = (struct ex_stats){0};
        outcome = ex_search(options.limit, time_is_up, stats);
    }
    return outcome;
}

static enum ex_outcome run(const struct ex_scenario *s, enum ex_mode mode) {
    struct ex_bound bound = bound_of(s, mode);
    if (bound.preemptions == EX_SKIP) {
        return EX_PASSED;
    }
    ex_run.scenario = s;
    ex_run.mode = mode;
    struct ex_stats stats = {0};
    double begin = seconds();
    deadline = begin + options.seconds;
    enum ex_outcome outcome = search_iterative(bound, &stats);
    const char *wrong =
        outcome == EX_PASSED && s->judge != NULL ? s->judge(mode_names[mode]) : NULL;
    if (wrong != NULL) {
        printf("%s %s: %s\n", s->name, mode_names[mode], wrong);
        return EX_FAILED;
    }
    if (!options.quiet || outcome == EX_FAILED) {
        printf("%-28s %-3s %-6s %10lu executions %9lu pruned %11lu steps %7.2f s%s\n", s->name,
               mode_names[mode], bound_text(bound), (unsigned long)stats.executions,
               (unsigned long)stats.pruned, (unsigned long)stats.steps, seconds() - begin,
               outcome == EX_CUT ? "  CUT" : outcome == EX_FAILED ? "  FAILED" : "");
        if (outcome == EX_FAILED) {
            printf("    %s\n    --replay %s:%s:%s:%s\n", ex_failure(), s->name, mode_names[mode],
                   bound_text(ex_run.bound), ex_schedule());
        }
        (void)fflush(stdout);
    }
    return outcome;
}

static const struct ex_scenario *find(const char *name, size_t length) {
    for (unsigned i = 0; i < ex_scenario_count; i++) {
        if (strlen(ex_scenarios[i].name) == length &&
            strncmp(ex_scenarios[i].name, name, length) == 0) {
            return &ex_scenarios[i];
        }
    }
    return NULL;
}

static int mode_of(const char *name, size_t length) {
    for (int i = 0; i < 3; i++) {
        if (strlen(mode_names[i]) == length && strncmp(mode_names[i], name, length) == 0) {
            return i;
        }
    }
    return -1;
}

static signed char bound_number(const char **at) {
    if (strncmp(*at, "all", 3) == 0) {
        *at += 3;
        return EX_ALL;
    }
    return (signed char)strtol(*at, (char **)(uintptr_t)at, 10);
}

/* The bound decides where there are choices, so it is part of the line. */
static const char *bound_parse(const char *at, struct ex_bound *bound) {
    bound->preemptions = bound_number(&at);
    bound->stale = EX_ALL;
    if (*at == '/') {
        at++;
        bound->stale = bound_number(&at);
    }
    return *at == ':' ? at + 1 : NULL;
}

static int replay(const char *line) {
    size_t name = strcspn(line, ":");
    const char *mode = line + name + (line[name] == ':');
    size_t length = strcspn(mode, ":");
    int m = mode_of(mode, length);
    const char *schedule =
        mode[length] == ':' ? bound_parse(mode + length + 1, &ex_run.bound) : NULL;
    ex_run.scenario = find(line, name);
    if (ex_run.scenario == NULL || m < 0 || schedule == NULL) {
        fprintf(stderr, "no such scenario, memory or bound: %s\n", line);
        return 2;
    }
    ex_run.mode = (enum ex_mode)m;
    ex_run.tracing = true;
    if (ex_replay(schedule) == EX_FAILED) {
        printf("    %s\n", ex_failure());
        return 1;
    }
    printf("    passed\n");
    return 0;
}

static void usage(const char *program) {
    fprintf(stderr,
            "%s [--list] [--only NAME] [--mode sc|tso|c11] [--long] [--limit EXECUTIONS] [--seconds N]\n"
            "    [--quiet] [--sites] [--weaken LIST] [--replay NAME:MODE:BOUND:SCHEDULE]\n",
            program);
    exit(2);
}

static void list(void) {
    for (unsigned i = 0; i < ex_scenario_count; i++) {
        printf("%-28s %s\n", ex_scenarios[i].name, ex_scenarios[i].shows);
    }
}

static void parse(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--list") == 0) {
            list();
            exit(0);
        } else if (strcmp(a, "--long") == 0) {
            options.longer = true;
        } else if (strcmp(a, "--quiet") == 0) {
            options.quiet = true;
        } else if (strcmp(a, "--sites") == 0) {
            options.sites = true;
        } else if (value == NULL) {
            usage(argv[0]);
        } else if (strcmp(a, "--only") == 0) {
            options.only = value;
            i++;
        } else if (strcmp(a, "--mode") == 0 && (options.mode = mode_of(value, strlen(value))) >= 0) {
            i++;
        } else if (strcmp(a, "--limit") == 0) {
            options.limit = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(a, "--seconds") == 0) {
            options.seconds = strtod(value, NULL);
            i++;
        } else if (strcmp(a, "--weaken") == 0 && ex_weaken(value)) {
            i++;
        } else if (strcmp(a, "--replay") == 0) {
            options.replay = value;
            i++;
        } else {
            usage(argv[0]);
        }
    }
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (options.replay != NULL) {
        return replay(options.replay);
    }
    ex_sites_record(options.sites);
    int status = 0;
    for (unsigned i = 0; i < ex_scenario_count; i++) {
        const struct ex_scenario *s = &ex_scenarios[i];
        if (options.only != NULL && strcmp(options.only, s->name) != 0) {
            continue;
        }
        for (int mode = 0; mode < 3; mode++) {
            if (options.mode >= 0 && options.mode != mode) {
                continue;
            }
            enum ex_outcome outcome = run(s, (enum ex_mode)mode);
            if (options.sites) {
                ex_sites_print(s->name);
            }
            if (outcome == EX_FAILED) {
                return 1;
            }
            status = outcome == EX_CUT ? 3 : status;
        }
    }
    return status;
}
