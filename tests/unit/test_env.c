/*
 * The environment table: defaults, every variable's good and bad values, messages, help, and the
 * documentation that is generated from it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pica/base.h>

#include "runtime/base/cpus.h"
#include "runtime/base/log.h"
#include "tests/support/pt.h"

static char logged[8192];

static void keep_line(void *ctx, int level, const char *text) {
    (void)ctx;
    PT_EQ(level, PICA_LOG_ERROR);
    size_t len = strlen(logged);
    snprintf(logged + len, sizeof logged - len, "%s\n", text);
}

/* The environment as a test wants it: nothing of ours set. */
static void clear(void) {
    static const char *const names[] = {
        "PICA_WORKERS", "PICA_STACK_SIZE", "PICA_MAX_STACKS", "PICA_RING_ENTRIES", "PICA_AFFINITY",
        "PICA_ORDER",   "PICA_ENGINE",     "PICA_LOG",        "PICA_SEED",         "PICA_DEBUG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unsetenv(names[i]);
    }
    pica__log_set_hook(keep_line, NULL);
    logged[0] = '\0';
}

/* The configuration with one variable set, which must be accepted. */
static pica__config with(const char *name, const char *value) {
    pica__config c;
    clear();
    setenv(name, value, 1);
    if (!PT_EQ(pica__config_from_env(&c), 0)) {
        PT_FAIL("%s=%s was refused: %s", name, value, logged);
    }
    return c;
}

/* The variable with this value must be refused with a message that holds both and `range`. */
static void refused(const char *name, const char *value, const char *range) {
    pica__config c;
    clear();
    setenv(name, value, 1);
    bool good = PT_EQ(pica__config_from_env(&c), -EINVAL);
    good = PT_CHECK(strstr(logged, name) == logged) && good;
    good = PT_CHECK(strstr(logged, value) != NULL) && good;
    good = PT_CHECK(strstr(logged, range) != NULL) && good;
    if (!good) {
        PT_FAIL("%s=%s, log: %s", name, value, logged);
    }
}

PT_TEST(defaults) {
    pica__config c;
    clear();
    PT_EQ(pica__config_from_env(&c), 0);
    PT_EQ(c.workers, pica__cpus());
    PT_EQ(c.stack_size, 256 * 1024);
    PT_EQ(c.max_stacks, 0);
    PT_EQ(c.ring_entries, 256);
    PT_CHECK(!c.pin && !c.fifo);
    PT_EQ(c.engine, PICA__ENGINE_AUTO);
    PT_EQ(c.log_level, PICA_LOG_WARN);
    PT_CHECK(c.seed != 0);
    PT_CHECK(!c.debug_migrate && !c.debug_shuffle && !c.debug_poison);
    PT_EQ(c.without, 0);
    PT_STR_EQ(logged, "");
}

PT_TEST(numbers) {
    PT_EQ(with("PICA_WORKERS", "1").workers, 1);
    PT_EQ(with("PICA_WORKERS", "1024").workers, 1024);
    PT_EQ(with("PICA_MAX_STACKS", "0").max_stacks, 0);
    PT_EQ(with("PICA_MAX_STACKS", "1000000000").max_stacks, 1000000000);
    PT_EQ(with("PICA_RING_ENTRIES", "8").ring_entries, 8);
    PT_EQ(with("PICA_RING_ENTRIES", "9").ring_entries, 16);
    PT_EQ(with("PICA_RING_ENTRIES", "300").ring_entries, 512);
    PT_EQ(with("PICA_RING_ENTRIES", "32768").ring_entries, 32768);
    PT_CHECK(with("PICA_SEED", "18446744073709551615").seed == UINT64_MAX);
    PT_CHECK(with("PICA_SEED", "0x1F").seed == 31);
    PT_CHECK(with("PICA_SEED", "0").seed != 0);
    static const char *const bad[] = {"0", "1025", "-1",  "+1", " 1", "1 ",
                                      "",  "two",  "1.5", "1K", "0x", "18446744073709551617"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refused("PICA_WORKERS", bad[i], "a number from 1 to 1024");
    }
    refused("PICA_MAX_STACKS", "1000000001", "a number from 0 to 1000000000");
    refused("PICA_RING_ENTRIES", "7", "a number from 8 to 32768");
    refused("PICA_RING_ENTRIES", "32769", "a number from 8 to 32768");
    refused("PICA_SEED", "18446744073709551616", "a number from 0 to 18446744073709551615");
}

PT_TEST(sizes) {
    PT_EQ(with("PICA_STACK_SIZE", "16384").stack_size, 16384);
    PT_EQ(with("PICA_STACK_SIZE", "16K").stack_size, 16384);
    PT_EQ(with("PICA_STACK_SIZE", "64k").stack_size, 65536);
    PT_EQ(with("PICA_STACK_SIZE", "3M").stack_size, 3 << 20);
    PT_EQ(with("PICA_STACK_SIZE", "1G").stack_size, 1 << 30);
    static const char *const bad[] = {"15K", "16383", "1025M", "2G",  "",
                                      "K",   "1KK",   "1T",    "1 M", "18014398509482000K"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refused("PICA_STACK_SIZE", bad[i], "bytes from 16K to 1G");
    }
}

PT_TEST(choices) {
    PT_CHECK(!with("PICA_AFFINITY", "none").pin);
    PT_CHECK(with("PICA_AFFINITY", "core").pin);
    PT_CHECK(!with("PICA_ORDER", "free").fifo);
    PT_CHECK(with("PICA_ORDER", "fifo").fifo);
    PT_EQ(with("PICA_ENGINE", "uring").engine, PICA__ENGINE_URING);
    PT_EQ(with("PICA_ENGINE", "epoll").engine, PICA__ENGINE_EPOLL);
    PT_EQ(with("PICA_LOG", "error").log_level, PICA_LOG_ERROR);
    PT_EQ(with("PICA_LOG", "debug").log_level, PICA_LOG_DEBUG);
    refused("PICA_AFFINITY", "cores", "one of none, core");
    refused("PICA_ORDER", "FIFO", "one of free, fifo");
    refused("PICA_ENGINE", "", "one of auto, uring");
    refused("PICA_ENGINE", "select", "one of auto, uring");
    refused("PICA_LOG", "2", "one of error, warn, info, debug");
}

PT_TEST(debug) {
    pica__config c = with("PICA_DEBUG", "");
    PT_CHECK(!c.debug_migrate && !c.debug_shuffle && !c.debug_poison && c.without == 0);
    c = with("PICA_DEBUG", "migrate,poison");
    PT_CHECK(c.debug_migrate && !c.debug_shuffle && c.debug_poison);
    c = with("PICA_DEBUG", "without=cqsize,shuffle");
    PT_CHECK(c.debug_shuffle && c.without == PICA__WITHOUT_CQSIZE);
    c = with("PICA_DEBUG", "without=multishot-accept+multishot-poll+defer-taskrun+submit-all+cqsize"
                           "+no-iowait+guard-install");
    PT_EQ(c.without, 0x7f);
    PT_CHECK(!c.debug_trace && c.debug_slow == 0);
    c = with("PICA_DEBUG", "slow=100ms,trace");
    PT_CHECK(c.debug_trace && c.debug_slow == 100000000);
    c = with("PICA_DEBUG", "slow=1000us");
    PT_EQ(c.debug_slow, 1000000);
    c = with("PICA_DEBUG", "slow=3600s");
    PT_EQ(c.debug_slow, INT64_C(3600000000000));
    static const char *const bad[] = {
        "slow",    "slow=1",    "migrate,nothing", "migrate;poison",
        "slow=",   "slow=ms",   "slow=999us",      "slow=3601s",
        "slow=-1ms", "slow=1.5s", "slow=1 ms",     "slow=99999999999999999999999s",
        "slow=18446744073709551615s", "trace=1",
        "Migrate", "migrate=1", "without",         "without=NAME+NAME..."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pica__config ignored;
        clear();
        setenv("PICA_DEBUG", bad[i], 1);
        PT_EQ(pica__config_from_env(&ignored), -EINVAL);
        PT_CHECK(strstr(logged, "PICA_DEBUG: ") == logged);
    }
    refused("PICA_DEBUG", "slow", "help, migrate, shuffle, poison, without=NAME+NAME...");
    refused("PICA_DEBUG", "without=", "multishot-accept, multishot-poll, ");
    pica__config ignored;
    setenv("PICA_DEBUG", "without=cqsize+tea", 1);
    PT_EQ(pica__config_from_env(&ignored), -EINVAL);
    PT_CHECK(strstr(logged, "without=tea: ") != NULL);
}

PT_TEST(every_bad_variable_is_named_at_once) {
    pica__config c;
    clear();
    setenv("PICA_WORKERS", "none", 1);
    setenv("PICA_LOG", "loud", 1);
    setenv("PICA_STACK_SIZE", "64K", 1);
    PT_EQ(pica__config_from_env(&c), -EINVAL);
    PT_STR_EQ(logged, "PICA_WORKERS=none: allowed is a number from 1 to 1024\n"
                      "PICA_LOG=loud: allowed is one of error, warn, info, debug\n");
}

static void count_line(void *ctx, int level, const char *text) {
    (void)level, (void)text;
    ++*(unsigned *)ctx;
}

PT_TEST(the_log_threshold_is_set) {
    unsigned lines = 0;
    with("PICA_LOG", "info");
    pica__log_set_hook(count_line, &lines);
    pica__log(PICA_LOG_INFO, "heard");
    pica__log(PICA_LOG_DEBUG, "not heard");
    PT_EQ(lines, 1);
}

/* Reads all of `fd` from its beginning into a new string. */
static char *contents(int fd) {
    off_t size = lseek(fd, 0, SEEK_END);
    PT_REQUIRE(size >= 0);
    char *text = malloc((size_t)size + 1);
    PT_REQUIRE(text != NULL && pread(fd, text, (size_t)size, 0) == size);
    text[size] = '\0';
    return text;
}

PT_TEST(help_is_printed_once_and_goes_on) {
    int fd = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
    PT_REQUIRE(fd >= 0 && saved >= 0);
    dup2(fd, STDERR_FILENO);
    pica__config c = with("PICA_DEBUG", "help,migrate");
    with("PICA_DEBUG", "help");
    dup2(saved, STDERR_FILENO);
    close(saved);
    PT_CHECK(c.debug_migrate);
    char *text = contents(fd);
    const char *first = strstr(text, "PICA_WORKERS: a number from 1 to 1024; default: ");
    PT_REQUIRE(first != NULL);
    PT_CHECK(strstr(first + 1, "PICA_WORKERS:") == NULL);
    PT_CHECK(strstr(text, "PICA_DEBUG: ") != NULL);
    PT_CHECK(strstr(text, "guard-install") != NULL);
    free(text);
    close(fd);
}

/* Opens a file of the source tree, whose place is known from this file's own name. */
static int open_source(const char *path) {
    char full[4096];
    const char *end = strstr(__FILE__, "tests/unit/test_env.c");
    PT_REQUIRE(end != NULL);
    snprintf(full, sizeof full, "%.*s%s", (int)(end - __FILE__), __FILE__, path);
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        PT_FAIL("%s: %s", full, strerror(errno));
        PT_REQUIRE(fd >= 0);
    }
    return fd;
}

PT_TEST(the_documentation_is_up_to_date) {
    int generated = memfd_create("markdown", MFD_CLOEXEC);
    PT_REQUIRE(generated >= 0);
    pica__env_write_markdown(generated);
    int written = open_source("docs/ENVIRONMENT.md");
    char *a = contents(generated), *b = contents(written);
    if (strcmp(a, b) != 0) {
        PT_FAIL("docs/ENVIRONMENT.md is out of date: run tools/env_docs");
    }
    PT_CHECK(strstr(a, "`PICA_WORKERS`") != NULL);
    free(a);
    free(b);
    close(generated);
    close(written);
}

PT_MAIN()
