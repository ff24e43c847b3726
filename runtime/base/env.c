/*
 * The table of PICA_* variables, and reading them. See env.h.
 *
 * Everything that is said about a variable (message, help, documentation) is made from its row, so
 * that the three cannot differ. docs/ENVIRONMENT.md is pica__env_write_markdown()'s output; a test
 * compares them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/env.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pica/base.h>

#include "runtime/base/check.h"
#include "runtime/base/cpus.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"
#include "runtime/base/sim/sim.h"

enum kind { NUMBER, SIZE, CHOICE, LIST, TEXT };

/* A word that a CHOICE or LIST may hold; or a kernel feature. */
struct word {
    const char *name;
    uint64_t value;
    const char *help; /* for LIST words and features */
};

struct variable {
    const char *name;
    enum kind kind;
    uint64_t min, max;        /* NUMBER and SIZE; TEXT: min is the place of its pointer in the configuration */
    const struct word *words; /* CHOICE and LIST, ended by a NULL name */
    uint64_t initial;         /* the value when it is not set */
    const char *initial_text; /* how the default is described */
    const char *help;
    void (*set)(pica__config *c, uint64_t value);
};

/* --- the table ------------------------------------------------------------------------------ */

enum debug_key { HELP, MIGRATE, SHUFFLE, POISON, WITHOUT, TRACE, SLOW, DEADLOCK, UNHOSTED };

static const struct word debug_keys[] = {
    {"help", HELP, "print this table to stderr and go on"},
    {"migrate", MIGRATE, "move a task to another worker at every suspension"},
    {"shuffle", SHUFFLE, "take ready tasks in a random order"},
    {"poison", POISON, "fill stacks with a pattern before they are used again"},
    {"without=NAME+NAME...", WITHOUT, "do without optional features of the kernel"},
    {"trace", TRACE, "note where and when each task is created; pica_dump shows it"},
    {"deadlock", DEADLOCK, "tell of tasks that wait when nothing of their runtime can wake them; always in debug builds"},
    {"unhosted", UNHOSTED, "the only worker of pica_run has a thread of its own, too"},
    {"slow=TIME", SLOW,
     "report a task or callback that runs longer than TIME (as in 100ms; us, ms or s) without a suspension"},
    {NULL, 0, NULL},
};

static const struct word features[] = {
    {"multishot-accept", PICA__WITHOUT_MULTISHOT_ACCEPT,
     "one accept operation for many connections"},
    {"multishot-poll", PICA__WITHOUT_MULTISHOT_POLL, "one poll operation for many events"},
    {"defer-taskrun", PICA__WITHOUT_DEFER_TASKRUN, "completions run only when the owner asks"},
    {"submit-all", PICA__WITHOUT_SUBMIT_ALL,
     "a refused operation does not hold back the next ones"},
    {"cqsize", PICA__WITHOUT_CQSIZE, "a completion queue larger than twice the submission queue"},
    {"no-iowait", PICA__WITHOUT_NO_IOWAIT, "an idle worker is not counted as waiting for a disk"},
    {"guard-install", PICA__WITHOUT_GUARD_INSTALL, "stack guards that split no mapping"},
    {"registered-ring", PICA__WITHOUT_REGISTERED_RING, "rings that need no look-up of a descriptor"},
    {"ftruncate", PICA__WITHOUT_FTRUNCATE, "changing a file's size through the ring"},
    {"io-uring", PICA__WITHOUT_IO_URING, "io_uring altogether, as if it were forbidden"},
    {"epoll-pwait2", PICA__WITHOUT_EPOLL_PWAIT2, "waits of less than a millisecond in epoll"},
    {"ring-poll", PICA__WITHOUT_RING_POLL, "polls in the ring: sockets wait in an epoll set beside it at once"},
    {"newer-than-6.12", PICA__WITHOUT_NEWER_THAN_6_12, "what Linux 6.12 does not have"},
    {"newer-than-6.1", PICA__WITHOUT_NEWER_THAN_6_1, "what Linux 6.1 does not have"},
    {"newer-than-5.19", PICA__WITHOUT_NEWER_THAN_5_19, "what Linux 5.19 does not have"},
    {"newer-than-5.15", PICA__WITHOUT_NEWER_THAN_5_15, "what Linux 5.15 does not have"},
    {NULL, 0, NULL},
};

static const struct word affinities[] = {{"none", 0, NULL}, {"core", 1, NULL}, {NULL, 0, NULL}};
static const struct word orders[] = {{"free", 0, NULL}, {"fifo", 1, NULL}, {NULL, 0, NULL}};
static const struct word engines[] = {
    {"auto", PICA__ENGINE_AUTO, NULL}, {"uring", PICA__ENGINE_URING, NULL},
    {"epoll", PICA__ENGINE_EPOLL, NULL}, {"sim", PICA__ENGINE_SIM, NULL}, {NULL, 0, NULL}};
static const struct word levels[] = {{"error", PICA_LOG_ERROR, NULL},
                                     {"warn", PICA_LOG_WARN, NULL},
                                     {"info", PICA_LOG_INFO, NULL},
                                     {"debug", PICA_LOG_DEBUG, NULL},
                                     {NULL, 0, NULL}};

static void set_workers(pica__config *c, uint64_t value) {
    c->workers = (unsigned)value;
}

static void set_stack_size(pica__config *c, uint64_t value) {
    c->stack_size = (size_t)value;
}

static void set_max_stacks(pica__config *c, uint64_t value) {
    c->max_stacks = (size_t)value;
}

static void set_ring_entries(pica__config *c, uint64_t value) {
    c->ring_entries = 8;
    while (c->ring_entries < value) {
        c->ring_entries *= 2;
    }
}

static void set_affinity(pica__config *c, uint64_t value) {
    c->pin = value != 0;
}

static void set_order(pica__config *c, uint64_t value) {
    c->fifo = value != 0;
}

static void set_engine(pica__config *c, uint64_t value) {
    c->engine = (int)value;
}

static void set_log(pica__config *c, uint64_t value) {
    c->log_level = (int)value;
}

static void set_seed(pica__config *c, uint64_t value) {
    c->seed = value;
}

static void set_sim_seed(pica__config *c, uint64_t value) {
    c->sim_seed = value;
}

static const struct variable variables[] = {
    {"PICA_WORKERS", NUMBER, 1, PICA__WORKERS_MAX, NULL, 0,
     "the processors that affinity mask and control groups' quota allow",
     "Worker threads of a runtime, each with an event loop.", set_workers},
    {"PICA_STACK_SIZE", SIZE, 16 << 10, 1 << 30, NULL, 256 << 10, "256K",
     "Address space of a task's stack in bytes, its guard included; only pages that are touched "
     "take memory.",
     set_stack_size},
    {"PICA_MAX_STACKS", NUMBER, 0, 1000000000, NULL, 0, "0",
     "How many stacks may exist at once; 0 sets no limit. Tasks that have not started need none.",
     set_max_stacks},
    {"PICA_RING_ENTRIES", NUMBER, 8, 32768, NULL, 256, "256",
     "Submission entries of each worker's ring, rounded up to a power of two.", set_ring_entries},
    {"PICA_AFFINITY", CHOICE, 0, 0, affinities, 0, "none",
     "'core' binds each worker to one processor of the affinity mask.", set_affinity},
    {"PICA_ORDER", CHOICE, 0, 0, orders, 0, "free",
     "'fifo' runs ready tasks strictly in the order in which they became ready on their worker.",
     set_order},
    {"PICA_ENGINE", CHOICE, 0, 0, engines, PICA__ENGINE_AUTO, "auto",
     "How the kernel is asked for I/O; 'auto' is io_uring, or epoll where that is not there or not allowed. If "
     "what is named does not work, no runtime starts. 'sim' simulates the process (see <pica/testing.h>).",
     set_engine},
    {"PICA_SIM_SEED", NUMBER, 0, UINT64_MAX, NULL, 0, "0",
     "With PICA_ENGINE=sim: the seed of the simulation; 0 takes another one in each run, and tells it.",
     set_sim_seed},
    {"PICA_SIM_SCENARIO", TEXT, offsetof(pica__config, sim_scenario), 0, NULL, 0, "none",
     "With PICA_ENGINE=sim: a shared object that brings the simulated program's clients.", NULL},
    {"PICA_SIM_SKIP", TEXT, offsetof(pica__config, sim_skip), 0, NULL, 0, "none",
     "With PICA_ENGINE=sim: numbers of faults that are left out, as 3,7-9.", NULL},
    {"PICA_SIM_DROP", TEXT, offsetof(pica__config, sim_drop), 0, NULL, 0, "none",
     "With PICA_ENGINE=sim: numbers of calls of pica_sim_keep that say no, as 3,7-9.", NULL},
    {"PICA_LOG", CHOICE, 0, 0, levels, PICA_LOG_WARN, "warn",
     "The least important lines that are still logged.", set_log},
    {"PICA_SEED", NUMBER, 0, UINT64_MAX, NULL, 0, "0",
     "Seed of all random choices; 0 takes another one in each run.", set_seed},
    {"PICA_DEBUG", LIST, 0, 0, debug_keys, 0, "nothing", "Switches for finding faults.", NULL},
};

#define VARIABLES (sizeof variables / sizeof variables[0])

/* --- describing ----------------------------------------------------------------------------- */

/* Joins words with `between`; cut where the room ends, which no table here comes near. */
static void join(char *buf, size_t room, const struct word *w, const char *between) {
    buf[0] = '\0';
    for (size_t len = 0; w->name != NULL && len < room; w++) {
        int n = snprintf(buf + len, room - len, "%s%s", len == 0 ? "" : between, w->name);
        len += n > 0 ? (size_t)n : 0;
    }
}

static void size_text(char *buf, size_t room, uint64_t size) {
    static const char suffix[] = {'G', 'M', 'K'};
    for (unsigned i = 0; i < sizeof suffix; i++) {
        uint64_t unit = UINT64_C(1) << (30 - 10 * i);
        if (size >= unit && size % unit == 0) {
            snprintf(buf, room, "%llu%c", (unsigned long long)(size / unit), suffix[i]);
            return;
        }
    }
    snprintf(buf, room, "%llu", (unsigned long long)size);
}

/* "a number from 1 to 1024", and so on: used in messages, help and documentation. */
static void allowed_text(char *buf, size_t room, const struct variable *v) {
    char words[256], min[32], max[32];
    switch (v->kind) {
    case NUMBER:
        snprintf(buf, room, "a number from %llu to %llu", (unsigned long long)v->min,
                 (unsigned long long)v->max);
        break;
    case SIZE:
        size_text(min, sizeof min, v->min);
        size_text(max, sizeof max, v->max);
        snprintf(buf, room, "bytes from %s to %s (K, M and G count 1024s)", min, max);
        break;
    case CHOICE:
        join(words, sizeof words, v->words, ", ");
        snprintf(buf, room, "one of %s", words);
        break;
    case TEXT:
        snprintf(buf, room, "text");
        break;
    case LIST:
        join(words, sizeof words, v->words, ", ");
        snprintf(buf, room, "a comma-separated list of %s", words);
        break;
    }
}

void pica__env_write_help(int fd) {
    dprintf(fd, "Environment variables of pica:\n");
    for (size_t i = 0; i < VARIABLES; i++) {
        const struct variable *v = &variables[i];
        char allowed[400];
        allowed_text(allowed, sizeof allowed, v);
        dprintf(fd, "  %s: %s; default: %s\n      %s\n", v->name, allowed, v->initial_text,
                v->help);
        for (const struct word *w = v->words; v->kind == LIST && w->name != NULL; w++) {
            dprintf(fd, "      %-22s %s\n", w->name, w->help);
        }
    }
    dprintf(fd, "  Names for without=:\n");
    for (const struct word *w = features; w->name != NULL; w++) {
        dprintf(fd, "      %-22s %s\n", w->name, w->help);
    }
}

void pica__env_write_markdown(int fd) {
    dprintf(fd,
            "# Environment variables\n\n"
            "Written by `tools/env_docs` from the table in `runtime/base/env.c`; do not edit.\n\n"
            "A value outside its range is an error: the runtime does not start, and the log\n"
            "names the variable, the value and what is allowed. An option that the program\n"
            "sets wins over the environment. A program that runs with more rights than its\n"
            "user (set-user-ID) ignores these variables.\n\n"
            "| Variable | Allowed | Default | Meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < VARIABLES; i++) {
        const struct variable *v = &variables[i];
        char allowed[400];
        allowed_text(allowed, sizeof allowed, v);
        dprintf(fd, "| `%s` | %s | %s | %s |\n", v->name, allowed, v->initial_text, v->help);
    }
    dprintf(fd, "\n## PICA_DEBUG\n\n| Key | Effect |\n|---|---|\n");
    for (const struct word *w = debug_keys; w->name != NULL; w++) {
        dprintf(fd, "| `%s` | %s |\n", w->name, w->help);
    }
    dprintf(fd, "\nNames for `without=`:\n\n| Name | Feature |\n|---|---|\n");
    for (const struct word *w = features; w->name != NULL; w++) {
        dprintf(fd, "| `%s` | %s |\n", w->name, w->help);
    }
}

/* --- reading -------------------------------------------------------------------------------- */

/* A whole decimal (or 0x...) number without sign or spaces, as far as *end. */
static bool parse_digits(const char *text, uint64_t *out, const char **end) {
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *stop;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, text[1] == 'x' ? 16 : 10);
    *out = value;
    *end = stop;
    return errno == 0;
}

static bool parse_number(const struct variable *v, const char *text, uint64_t *out) {
    const char *end;
    if (!parse_digits(text, out, &end)) {
        return false;
    }
    if (v->kind == SIZE && *end != '\0') {
        unsigned shift = 0;
        switch (*end++) {
        case 'k':
        case 'K':
            shift = 10;
            break;
        case 'm':
        case 'M':
            shift = 20;
            break;
        case 'g':
        case 'G':
            shift = 30;
            break;
        default:
            return false;
        }
        if (*out > UINT64_MAX >> shift) {
            return false;
        }
        *out <<= shift;
    }
    return *end == '\0' && *out >= v->min && *out <= v->max;
}

/* The word that is exactly text[0..len), or NULL. */
static const struct word *find_word(const struct word *w, const char *text, size_t len) {
    while (w->name != NULL && (strlen(w->name) != len || memcmp(w->name, text, len) != 0)) {
        w++;
    }
    return w->name != NULL ? w : NULL;
}

static void complain(const struct variable *v, const char *text) {
    char allowed[400];
    allowed_text(allowed, sizeof allowed, v);
    pica__log(PICA_LOG_ERROR, "%s=%s: allowed is %s", v->name, text, allowed);
}

/* NAME+NAME... up to the end of the key. */
static bool parse_without(pica__config *c, const char *text, size_t len) {
    const char *end = text + len;
    for (;;) {
        size_t n = 0;
        while (text + n < end && text[n] != '+') {
            n++;
        }
        const struct word *w = find_word(features, text, n);
        if (w == NULL) {
            char names[400];
            join(names, sizeof names, features, ", ");
            pica__log(PICA_LOG_ERROR,
                      "PICA_DEBUG: without=%.*s: allowed is one or more, joined by +, of %s",
                      (int)n, text, names);
            return false;
        }
        c->without |= w->value;
        if (text + n == end) {
            return true;
        }
        text += n + 1;
    }
}

/* TIME up to the end of the key: a number with a unit, from 1 ms to an hour. */
static bool parse_slow(pica__config *c, const char *text, size_t len) {
    static const struct word units[] = {
        {"us", 1000, NULL}, {"ms", 1000000, NULL}, {"s", 1000000000, NULL}, {NULL, 0, NULL}};
    uint64_t value = 0;
    const char *end = text;
    const struct word *unit = NULL;
    if (parse_digits(text, &value, &end) && end < text + len) {
        unit = find_word(units, end, (size_t)(text + len - end));
    }
    if (unit == NULL || value > UINT64_C(3600000000) || value * unit->value < 1000000 ||
        value * unit->value > UINT64_C(3600000000000)) {
        pica__log(PICA_LOG_ERROR,
                  "PICA_DEBUG: slow=%.*s: allowed is a time from 1ms to 3600s with its unit: us, ms or s",
                  (int)len, text);
        return false;
    }
    c->debug_slow = (int64_t)(value * unit->value);
    return true;
}

static void print_help_once(void) {
    static atomic_flag printed = ATOMIC_FLAG_INIT; /* several runtimes of one process: one table */
    if (!atomic_flag_test_and_set(&printed)) {
        pica__env_write_help(STDERR_FILENO);
    }
}

static void set_debug(pica__config *c, uint64_t key) {
    switch (key) {
    case HELP:
        print_help_once();
        break;
    case MIGRATE:
        c->debug_migrate = true;
        break;
    case SHUFFLE:
        c->debug_shuffle = true;
        break;
    case POISON:
        c->debug_poison = true;
        break;
    case TRACE:
        c->debug_trace = true;
        break;
    case DEADLOCK:
        c->debug_deadlock = true;
        break;
    case UNHOSTED:
        c->debug_unhosted = true;
        break;
    default:
        PICA__UNREACHABLE();
    }
}

static bool parse_debug(pica__config *c, const struct variable *v, const char *text) {
    static const char without[] = "without=";
    static const char slow[] = "slow=";
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        if (strncmp(text, without, sizeof without - 1) == 0) {
            size_t skip = sizeof without - 1;
            if (!parse_without(c, text + skip, len - skip)) {
                return false;
            }
        } else if (strncmp(text, slow, sizeof slow - 1) == 0) {
            size_t skip = sizeof slow - 1;
            if (!parse_slow(c, text + skip, len - skip)) {
                return false;
            }
        } else {
            const struct word *w = find_word(debug_keys, text, len);
            if (w == NULL) {
                char allowed[400];
                allowed_text(allowed, sizeof allowed, v);
                pica__log(PICA_LOG_ERROR, "PICA_DEBUG: unknown key '%.*s': allowed is %s", (int)len,
                          text, allowed);
                return false;
            }
            set_debug(c, w->value);
        }
        text += len;
        text += *text == ',';
    }
    return true;
}

/* Sets one variable's field from the environment or to its default; false after a complaint. */
static bool read_variable(pica__config *c, const struct variable *v) {
    const char *text = secure_getenv(v->name);
    if (v->kind == LIST) {
        return text == NULL || parse_debug(c, v, text);
    }
    if (v->kind == TEXT) {
        memcpy((char *)c + v->min, &text, sizeof text);
        return true;
    }
    uint64_t value = v->initial;
    if (text != NULL) {
        const struct word *w = NULL;
        bool good;
        if (v->kind == CHOICE) {
            w = find_word(v->words, text, strlen(text));
            good = w != NULL;
        } else {
            good = parse_number(v, text, &value);
        }
        if (!good) {
            complain(v, text);
            return false;
        }
        value = w != NULL ? w->value : value;
    }
    v->set(c, value);
    return true;
}

int pica__config_from_env(pica__config *c) {
    memset(c, 0, sizeof *c);
    c->debug_deadlock = PICA__DEBUG != 0;
    bool good = true;
    for (size_t i = 0; i < VARIABLES; i++) {
        good = read_variable(c, &variables[i]) && good; /* all complaints in one run */
    }
    if (!good) {
        return -EINVAL;
    }
    if (c->workers == 0) {
        unsigned cpus = pica__simulated() ? pica__sim_workers() : pica__cpus();
        c->workers = cpus < PICA__WORKERS_MAX ? cpus : PICA__WORKERS_MAX;
    }
    if (c->seed == 0) {
        c->seed = pica__random_seed();
    }
    pica__log_set_level(c->log_level);
    return 0;
}
