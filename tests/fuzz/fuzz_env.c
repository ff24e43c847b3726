/* The environment's parser (runtime/base/env.c). An input is lines; each begins with a letter that says which variable
 * it is, the rest is its value. Against a second parser that is written from docs/ENVIRONMENT.md, with a different
 * method for each kind: the results, and which variables are complained about, must be the same. */
#include "runtime/base/env.h"

#include <errno.h>
#include <string.h>

#include <pica/base.h>

#include "runtime/base/log.h"
#include "tests/fuzz/fuzz.h"

enum { VARIABLES = 14, VALUE_MAX = 512 };

enum {
    WORKERS,
    STACK_SIZE,
    MAX_STACKS,
    RING,
    AFFINITY,
    ORDER,
    ENGINE,
    SEED,
    LOG,
    DEBUG,
    SIM_SEED,
    SIM_SCENARIO,
    SIM_SKIP,
    SIM_DROP
};

static const char *const names[VARIABLES] = {
    "PICA_WORKERS",  "PICA_STACK_SIZE",   "PICA_MAX_STACKS", "PICA_RING_ENTRIES", "PICA_AFFINITY",
    "PICA_ORDER",    "PICA_ENGINE",       "PICA_SEED",       "PICA_LOG",          "PICA_DEBUG",
    "PICA_SIM_SEED", "PICA_SIM_SCENARIO", "PICA_SIM_SKIP",   "PICA_SIM_DROP"};

static char values[VARIABLES][VALUE_MAX];
static bool set[VARIABLES];
static unsigned complaints[VARIABLES];

/* A line of the log: it begins with the variable's name. */
static void count_line(void *ctx, int level, const char *text) {
    (void)ctx;
    FUZZ_EQ(level, PICA_LOG_ERROR);
    for (unsigned i = 0; i < VARIABLES; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(text, names[i], length) == 0 && (text[length] == '=' || text[length] == ':')) {
            complaints[i]++;
            return;
        }
    }
    FUZZ_FAIL("a line about nothing: %s", text);
}

/* --- the second parser --- */

__extension__ typedef unsigned __int128 wide_number; /* nothing here exceeds it */

static bool lower_hex(char c, unsigned *digit) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    *digit = at != NULL ? (unsigned)(at - digits) % 16 : 0;
    return at != NULL;
}

/* The digits that text begins with, decimal or after 0x; how many characters these are, 0: no number, or one of more
 * than 64 bits. "0x" without a digit behind it is a 0 and an x; so a leading 0 is nothing special. */
static size_t second_digits(const char *text, uint64_t *value) {
    unsigned digit, base = 10;
    size_t at = 0;
    if (text[0] < '0' || text[0] > '9') {
        return 0;
    }
    if (text[1] == 'x' && lower_hex(text[0] == '0' ? text[2] : '\0', &digit)) {
        base = 16;
        at = 2;
    }
    wide_number sum = 0;
    for (; lower_hex(text[at], &digit) && digit < base; at++) {
        sum = sum * base + digit;
        if (sum > UINT64_MAX) {
            return 0;
        }
    }
    *value = (uint64_t)sum;
    return at;
}

static bool second_number(const char *text, bool size, uint64_t min, uint64_t max,
                          uint64_t *value) {
    static const char suffixes[] = "kKmMgG";
    size_t at = second_digits(text, value);
    wide_number wide = *value;
    if (at == 0) {
        return false;
    }
    const char *suffix = size && text[at] != '\0' ? strchr(suffixes, text[at]) : NULL;
    if (suffix != NULL) {
        for (long i = (suffix - suffixes) / 2; i >= 0; i--) {
            wide *= 1024;
        }
        at++;
    }
    *value = (uint64_t)wide;
    return text[at] == '\0' && wide >= min && wide <= max;
}

static bool second_choice(const char *text, const char *const *words, const int *codes,
                          int *value) {
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *value = codes[i];
            return true;
        }
    }
    return false;
}

static uint64_t second_feature(const char *name, size_t length) {
    static const struct {
        const char *name;
        uint64_t bits;
    } features[] = {
        {"multishot-accept", 1u << 0}, {"multishot-poll", 1u << 1},  {"defer-taskrun", 1u << 2},
        {"submit-all", 1u << 3},       {"cqsize", 1u << 4},          {"no-iowait", 1u << 5},
        {"guard-install", 1u << 6},    {"registered-ring", 1u << 7}, {"ftruncate", 1u << 8},
        {"io-uring", 1u << 9},         {"epoll-pwait2", 1u << 10},   {"ring-poll", 1u << 11},
        {"newer-than-6.12", 0x60},     {"newer-than-6.1", 0x160},    {"newer-than-5.19", 0x164},
        {"newer-than-5.15", 0x1ed}};
    for (unsigned i = 0; i < sizeof features / sizeof features[0]; i++) {
        if (strlen(features[i].name) == length && memcmp(features[i].name, name, length) == 0) {
            return features[i].bits;
        }
    }
    return 0;
}

/* One key of the list, of the form without=A+B. */
static bool second_without(pica__config *c, char *text) {
    for (char *plus; (plus = strchr(text, '+')) != NULL; text = plus + 1) {
        uint64_t bits = second_feature(text, (size_t)(plus - text));
        c->without |= bits;
        if (bits == 0) {
            return false;
        }
    }
    uint64_t bits = second_feature(text, strlen(text));
    c->without |= bits;
    return bits != 0;
}

static bool second_slow(pica__config *c, const char *text) {
    uint64_t value = 0;
    size_t at = second_digits(text, &value);
    uint64_t unit = at == 0                        ? 0
                    : strcmp(text + at, "us") == 0 ? 1000
                    : strcmp(text + at, "ms") == 0 ? 1000000
                    : strcmp(text + at, "s") == 0  ? 1000000000
                                                   : 0;
    wide_number ns = (wide_number)value * unit;
    c->debug_slow = (int64_t)ns;
    return ns >= 1000000 && ns <= UINT64_C(3600000000000);
}

static bool second_key(pica__config *c, char *key) {
    static const char *const words[] = {"help",  "migrate",  "shuffle", "poison",
                                        "trace", "deadlock", NULL};
    static const int codes[] = {0, 1, 2, 3, 4, 5};
    bool none;
    bool *const flags[] = {&none,           &c->debug_migrate, &c->debug_shuffle, &c->debug_poison,
                           &c->debug_trace, &c->debug_deadlock};
    int code;
    if (second_choice(key, words, codes, &code)) {
        *flags[code] = true;
        return true;
    }
    return strncmp(key, "without=", 8) == 0
               ? second_without(c, key + 8)
               : strncmp(key, "slow=", 5) == 0 && second_slow(c, key + 5);
}

/* A comma at the end is no key more; an empty one elsewhere is unknown. */
static bool second_debug(pica__config *c, const char *value) {
    char text[VALUE_MAX];
    memcpy(text, value, sizeof text);
    char *key = text;
    while (*key != '\0') {
        char *comma = strchr(key, ',');
        if (comma != NULL) {
            *comma = '\0';
        }
        if (!second_key(c, key)) {
            return false;
        }
        key = comma != NULL ? comma + 1 : key + strlen(key);
    }
    return true;
}

static bool second_variable(pica__config *c, unsigned i) {
    static const char *const affinity[] = {"none", "core", NULL}, *const order[] = {"free", "fifo",
                                                                                    NULL};
    static const char *const engine[] = {"auto", "uring", "epoll", "sim", NULL};
    static const char *const log[] = {"error", "warn", "info", "debug", NULL};
    static const int two[] = {0, 1}, engines[] = {0, 1, 2, 100};
    static const int levels[] = {PICA_LOG_ERROR, PICA_LOG_WARN, PICA_LOG_INFO, PICA_LOG_DEBUG};
    const char *text = values[i];
    uint64_t n = 0;
    int code = 0;
    bool good;
    switch (i) {
    case WORKERS:
        good = second_number(text, false, 1, 1024, &n);
        c->workers = (unsigned)n;
        return good;
    case STACK_SIZE:
        return second_number(text, true, 16384, 1073741824, &c->stack_size);
    case MAX_STACKS:
        return second_number(text, false, 0, 1000000000, &c->max_stacks);
    case RING:
        good = second_number(text, false, 8, 32768, &n);
        for (c->ring_entries = 1; c->ring_entries < n && good;) {
            c->ring_entries <<= 1;
        }
        return good;
    case AFFINITY:
        good = second_choice(text, affinity, two, &code);
        c->pin = code == 1;
        return good;
    case ORDER:
        good = second_choice(text, order, two, &code);
        c->fifo = code == 1;
        return good;
    case ENGINE:
        return second_choice(text, engine, engines, &c->engine);
    case SEED:
        return second_number(text, false, 0, UINT64_MAX, &c->seed);
    case LOG:
        return second_choice(text, log, levels, &c->log_level);
    case SIM_SEED:
        return second_number(text, false, 0, UINT64_MAX, &c->sim_seed);
    case DEBUG:
        return second_debug(c, text);
    default: /* text, whatever it is */
        *(i == SIM_SCENARIO ? &c->sim_scenario
          : i == SIM_SKIP   ? &c->sim_skip
                            : &c->sim_drop) = text;
        return true;
    }
}

/* --- both --- */

static void text_same(const char *a, const char *b) {
    FUZZ_CHECK(a == NULL || b == NULL ? a == b : strcmp(a, b) == 0);
}

static void compare(const pica__config *a, const pica__config *b) {
    FUZZ_CHECK(b->workers != 0 ? a->workers == b->workers
                               : a->workers >= 1 && a->workers <= PICA__WORKERS_MAX);
    FUZZ_EQ(a->stack_size, b->stack_size);
    FUZZ_EQ(a->max_stacks, b->max_stacks);
    FUZZ_EQ(a->ring_entries, b->ring_entries);
    FUZZ_EQ(a->pin, b->pin);
    FUZZ_EQ(a->fifo, b->fifo);
    FUZZ_EQ(a->engine, b->engine);
    FUZZ_CHECK(b->seed != 0 ? a->seed == b->seed : a->seed != 0);
    FUZZ_EQ(a->log_level, b->log_level);
    FUZZ_EQ(a->debug_migrate, b->debug_migrate);
    FUZZ_EQ(a->debug_shuffle, b->debug_shuffle);
    FUZZ_EQ(a->debug_poison, b->debug_poison);
    FUZZ_EQ(a->debug_deadlock, b->debug_deadlock);
    FUZZ_EQ(a->debug_trace, b->debug_trace);
    FUZZ_EQ(a->debug_slow, b->debug_slow);
    FUZZ_EQ(a->without, b->without);
    FUZZ_EQ(a->sim_seed, b->sim_seed);
    text_same(a->sim_scenario, b->sim_scenario);
    text_same(a->sim_skip, b->sim_skip);
    text_same(a->sim_drop, b->sim_drop);
}

/* Lines to variables; of several lines for one the last counts. */
static void fill_environment(const uint8_t *data, size_t size) {
    memset(set, 0, sizeof set);
    while (size > 0) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t length = end != NULL ? (size_t)(end - data) : size;
        unsigned i = length != 0 ? (unsigned)data[0] % VARIABLES : VARIABLES;
        if (i < VARIABLES && length <= VALUE_MAX) {
            memset(values[i], 0, VALUE_MAX);
            memcpy(values[i], data + 1, length - 1);
            set[i] = true;
        }
        data += length + (end != NULL);
        size -= length + (end != NULL);
    }
    for (unsigned i = 0; i < VARIABLES; i++) {
        if (set[i]) {
            (void)setenv(names[i], values[i], 1);
        } else {
            (void)unsetenv(names[i]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pica__config config;
    pica__config second = {.stack_size = 262144, .ring_entries = 256, .log_level = PICA_LOG_WARN};
    bool bad[VARIABLES] = {false}, good = true;
    second.debug_deadlock = PICA__DEBUG != 0;
    pica__log_set_hook(count_line, NULL);
    memset(complaints, 0, sizeof complaints);
    fill_environment(data, size);
    for (unsigned i = 0; i < VARIABLES; i++) {
        bad[i] = set[i] && !second_variable(&second, i);
        good = good && !bad[i];
    }
    FUZZ_EQ(pica__config_from_env(&config), good ? 0 : -EINVAL);
    for (unsigned i = 0; i < VARIABLES; i++) {
        FUZZ_EQ(complaints[i], bad[i]);
    }
    if (good) {
        compare(&config, &second);
    }
    return 0;
}
