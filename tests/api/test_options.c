/* Where a runtime's settings come from: options, then the environment, then defaults; and what is said
 * of those that make no sense. */
#include <pica.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/tasks.h"

struct lines {
    atomic_int count;
    char text[1024];
    int level;
};

static struct lines lines;

static void log_hook(void *ctx, int level, const char *text) {
    PT_CHECK(ctx == &lines);
    PT_CHECK(strchr(text, '\n') == NULL);
    if (atomic_fetch_add(&lines.count, 1) == 0) {
        lines.level = level;
        strncpy(lines.text, text, sizeof lines.text - 1);
    }
}

static struct pica_runtime_options with_log(void) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = log_hook;
    options.log_ctx = &lines;
    memset(&lines, 0, sizeof lines);
    return options;
}

static void set(const char *name, const char *value) {
    PT_REQUIRE((value != NULL ? setenv(name, value, 1) : unsetenv(name)) == 0);
}

static int workers_main(void *arg) {
    (void)arg;
    return (int)pica_runtime_workers(pica_current_runtime());
}

static int never_main(void *arg) {
    (void)arg;
    PT_FAIL("a runtime started with a bad setting");
    return 0;
}

/* --- the number of workers --- */

PT_TEST(workers_by_environment) {
    set("PICA_WORKERS", "3");
    PT_EQ(pica_run(workers_main, NULL), 3);
    set("PICA_WORKERS", "1");
    PT_EQ(pica_run(workers_main, NULL), 1);
    set("PICA_WORKERS", "0x10");
    PT_EQ(pica_run(workers_main, NULL), 16);
}

PT_TEST(workers_by_option) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    set("PICA_WORKERS", "3");
    options.workers = 2;
    PT_EQ(pica_run_opts(workers_main, NULL, &options), 2);
    options.workers = 0; /* not set */
    PT_EQ(pica_run_opts(workers_main, NULL, &options), 3);
    set("PICA_WORKERS", NULL);
    options.workers = 5;
    PT_EQ(pica_run_opts(workers_main, NULL, &options), 5);
}

PT_TEST(workers_by_default) {
    set("PICA_WORKERS", NULL);
    cpu_set_t allowed;
    PT_REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int rc = pica_run(workers_main, NULL);
    PT_CHECK(rc >= 1 && rc <= CPU_COUNT(&allowed));
    /* One processor: one worker. */
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &allowed)) {
            CPU_SET(i, &one);
            break;
        }
    }
    PT_REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    PT_EQ(pica_run(workers_main, NULL), 1);
}

/* --- bad values --- */

static void expect_refused(const char *name, const char *value) {
    struct pica_runtime_options options = with_log();
    set(name, value);
    PT_EQ(pica_run_opts(never_main, NULL, &options), -EINVAL);
    PT_CHECK(lines.count >= 1);
    PT_EQ(lines.level, PICA_LOG_ERROR);
    if (!PT_CHECK(strstr(lines.text, name) != NULL)) {
        fprintf(stderr, "%s=%s: %s\n", name, value, lines.text);
    }
    if (value[0] != 0 && strcmp(name, "PICA_DEBUG") != 0) {
        PT_CHECK(strstr(lines.text, value) != NULL);
    }
    pica_runtime *rt = NULL;
    PT_EQ(pica_runtime_new(&rt, NULL), -EINVAL);
    PT_EQ(pica_run(never_main, NULL), -EINVAL);
    PT_CHECK(rt == NULL);
    set(name, NULL);
    set("PICA_WORKERS", "2");
    PT_EQ(pica_run(workers_main, NULL), 2); /* nothing is left of it */
}

PT_TEST(bad_environment) {
    static const char *const bad[][2] = {
        {"PICA_WORKERS", "0"},          {"PICA_WORKERS", "-1"},        {"PICA_WORKERS", "1025"},
        {"PICA_WORKERS", "two"},        {"PICA_WORKERS", "2x"},        {"PICA_WORKERS", ""},
        {"PICA_WORKERS", " 2"},         {"PICA_WORKERS", "99999999999999999999"},
        {"PICA_STACK_SIZE", "1"},       {"PICA_STACK_SIZE", "2T"},     {"PICA_STACK_SIZE", "2G"},
        {"PICA_STACK_SIZE", "64KB"},    {"PICA_RING_ENTRIES", "7"},    {"PICA_RING_ENTRIES", "32769"},
        {"PICA_ORDER", "lifo"},         {"PICA_ORDER", "FIFO"},        {"PICA_ORDER", ""},
        {"PICA_AFFINITY", "1"},         {"PICA_ENGINE", "magic"},      {"PICA_LOG", "loud"},
        {"PICA_SEED", "x"},             {"PICA_MAX_STACKS", "-1"},     {"PICA_DEBUG", "everything"},
        {"PICA_DEBUG", "migrate,nope"}, {"PICA_DEBUG", "without=sun"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_refused(bad[i][0], bad[i][1]);
    }
}

static void expect_option_refused(const struct pica_runtime_options *options) {
    pica_runtime *rt = NULL;
    atomic_store(&lines.count, 0);
    PT_EQ(pica_run_opts(never_main, NULL, options), -EINVAL);
    PT_EQ(lines.count, 1);
    PT_EQ(pica_runtime_new(&rt, options), -EINVAL);
    PT_CHECK(rt == NULL);
}

PT_TEST(bad_options) {
    struct pica_runtime_options good = with_log();
    struct pica_runtime_options o = good;
    PT_EQ(pica_run_opts(workers_main, NULL, &good) > 0, 1);
    o.workers = 1025;
    expect_option_refused(&o);
    o = good;
    o.ring_entries = 40000;
    expect_option_refused(&o);
    o = good;
    o.stack_size = 100;
    expect_option_refused(&o);
    o.stack_size = (size_t)1 << 40;
    expect_option_refused(&o);
    o = good;
    o.order = 3;
    expect_option_refused(&o);
    o.order = -1;
    expect_option_refused(&o);
    o = good;
    o.affinity = 2;
    expect_option_refused(&o);
    o.affinity = -2;
    expect_option_refused(&o);
    o = good;
    o.size = 0;
    expect_option_refused(&o);
    o.size = sizeof o + 1;
    expect_option_refused(&o);
}

/* --- the others take effect --- */

/* Who came when. */
struct turns {
    atomic_int next;
    atomic_int of[4]; /* two callbacks, two tasks */
};

struct turn_of {
    struct turns *turns;
    int index;
};

static void calls(void *arg) {
    struct turn_of *t = arg;
    atomic_store(&t->turns->of[t->index], atomic_fetch_add(&t->turns->next, 1));
}

static int says(void *arg) {
    calls(arg);
    return 0;
}

/* Task steps between callbacks: so only in asyncio's order. */
static int order_main(void *arg) {
    struct turns turns = {0, {-1, -1, -1, -1}};
    struct turn_of of[4] = {{&turns, 0}, {&turns, 1}, {&turns, 2}, {&turns, 3}};
    (void)arg;
    PT_EQ(pica_call_soon(calls, &of[0], NULL), 0);
    pica_task *a = spawn(says, &of[1]);
    PT_EQ(pica_call_soon(calls, &of[2], NULL), 0);
    pica_task *b = spawn(says, &of[3]);
    while (atomic_load(&turns.next) < 4) {
        PT_EQ(pica_yield(), 0);
    }
    PT_EQ(pica_join(a, NULL), 0);
    PT_EQ(pica_join(b, NULL), 0);
    bool fifo = true;
    for (int i = 0; i < 4; i++) {
        fifo = fifo && atomic_load(&turns.of[i]) == i;
    }
    return fifo;
}

PT_TEST(order) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    set("PICA_WORKERS", "1"); /* all of it is decided on one thread */
    PT_EQ(pica_run(order_main, NULL), 0);
    set("PICA_ORDER", "fifo");
    PT_EQ(pica_run(order_main, NULL), 1);
    options.order = PICA_ORDER_FREE; /* the option wins */
    PT_EQ(pica_run_opts(order_main, NULL, &options), 0);
    set("PICA_ORDER", "free");
    PT_EQ(pica_run(order_main, NULL), 0);
    options.order = PICA_ORDER_FIFO;
    PT_EQ(pica_run_opts(order_main, NULL, &options), 1);
}

static int pinned_cpus(void *arg) {
    cpu_set_t allowed;
    (void)arg;
    PT_REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    return CPU_COUNT(&allowed);
}

PT_TEST(affinity) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    int all = pinned_cpus(NULL);
    PT_EQ(pica_run(pinned_cpus, NULL), all);
    set("PICA_AFFINITY", "core");
    PT_EQ(pica_run(pinned_cpus, NULL), 1);
    PT_EQ(pinned_cpus(NULL), all); /* ours is left alone */
    options.affinity = -1;
    PT_EQ(pica_run_opts(pinned_cpus, NULL, &options), all);
    set("PICA_AFFINITY", "none");
    options.affinity = 1;
    PT_EQ(pica_run_opts(pinned_cpus, NULL, &options), 1);
}

static int uses_stack(void *arg) {
    size_t size = *(size_t *)arg;
    volatile char *block = __builtin_alloca(size);
    for (size_t i = 0; i < size; i += 4096) {
        block[i] = 1;
    }
    return pica_yield() == 0 && block[0] == 1 ? 1 : -EIO;
}

PT_TEST(stack_size) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    size_t size = 3 * 1024 * 1024;
    set("PICA_STACK_SIZE", "4M");
    PT_EQ(pica_run(uses_stack, &size), 1);
    set("PICA_STACK_SIZE", "64K");
    options.stack_size = (size_t)4 * 1024 * 1024;
    PT_EQ(pica_run_opts(uses_stack, &size, &options), 1);
}

PT_TEST(ring_entries) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    static const char *const entries[] = {"8", "100", "4096"};
    for (int i = 0; i < 3; i++) {
        set("PICA_RING_ENTRIES", entries[i]);
        PT_CHECK(pica_run(workers_main, NULL) > 0);
    }
    options.ring_entries = 1;
    PT_CHECK(pica_run_opts(workers_main, NULL, &options) > 0);
}

static int stacks_main(void *arg) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    struct turns turns = {0, {0}};
    struct turn_of of = {&turns, 0};
    (void)arg;
    for (int i = 0; i < 8; i++) {
        PT_EQ(pica_join(spawn(says, &of), NULL), 0);
    }
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
    return (int)(stats.stacks_live + stats.stacks_idle);
}

PT_TEST(max_stacks) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    set("PICA_WORKERS", "2");
    set("PICA_MAX_STACKS", "3");
    int rc = pica_run(stacks_main, NULL);
    PT_CHECK(rc >= 1 && rc <= 3);
    options.max_stacks = 2;
    rc = pica_run_opts(stacks_main, NULL, &options);
    PT_CHECK(rc >= 1 && rc <= 2);
}

PT_TEST(several_settings_at_once) {
    set("PICA_DEBUG", "migrate,shuffle,poison,without=guard-install+cqsize");
    set("PICA_SEED", "7");
    set("PICA_WORKERS", "3");
    PT_EQ(pica_run(workers_main, NULL), 3);
    set("PICA_DEBUG", "");
    PT_EQ(pica_run(workers_main, NULL), 3);
}

/* --- the log --- */

static int fails(void *arg) {
    (void)arg;
    return -EIO;
}

static int detaches(void *arg) {
    (void)arg;
    PT_EQ(pica_create_task(NULL, fails, NULL), 0);
    return pica_wait_all_tasks(0);
}

/* The last hook that was set holds for all runtimes. */
PT_TEST(log_hook_is_process_wide) {
    struct pica_runtime_options options = with_log();
    pica_runtime *rt = NULL;
    PT_EQ(pica_runtime_new(&rt, NULL), 0);
    PT_EQ(pica_run_opts(workers_main, NULL, &options) > 0, 1);
    PT_EQ(pica_run_until_complete(rt, detaches, NULL), 0);
    PT_EQ(pica_close(rt), 0);
    PT_EQ(lines.count, 1);
}

PT_TEST(log_level) {
    struct pica_runtime_options options = with_log();
    set("PICA_LOG", "error"); /* that line is a warning */
    PT_EQ(pica_run_opts(detaches, NULL, &options), 0);
    PT_EQ(lines.count, 0);
    set("PICA_LOG", "warn");
    PT_EQ(pica_run_opts(detaches, NULL, &options), 0);
    PT_EQ(lines.count, 1);
}

PT_MAIN()
