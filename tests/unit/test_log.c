/*
 * The log: threshold, default sink, hook, long lines. And the clock, which has no better place.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "tests/support/pt.h"

struct heard {
    unsigned lines;
    int level;
    char text[2048];
};

static void hear(void *ctx, int level, const char *text) {
    struct heard *h = ctx;
    h->lines++;
    h->level = level;
    snprintf(h->text, sizeof h->text, "%s", text);
}

PT_TEST(threshold_and_hook) {
    static struct heard h;
    pica__log_set_hook(hear, &h);
    pica__log(PICA_LOG_INFO, "dropped: the default is warn");
    PT_EQ(h.lines, 0);
    pica__log(PICA_LOG_WARN, "%s %d", "number", 7);
    PT_EQ(h.lines, 1);
    PT_EQ(h.level, PICA_LOG_WARN);
    PT_STR_EQ(h.text, "number 7");
    pica__log_set_level(PICA_LOG_ERROR);
    pica__log(PICA_LOG_WARN, "dropped");
    PT_EQ(h.lines, 1);
    pica__log_set_level(PICA_LOG_DEBUG);
    pica__log(PICA_LOG_DEBUG, "%s", "");
    PT_EQ(h.lines, 2);
    PT_STR_EQ(h.text, "");
}

/* What stderr receives while fn runs. */
static size_t capture_stderr(void (*fn)(void), char *buf, size_t room) {
    int fds[2], saved = dup(STDERR_FILENO);
    PT_REQUIRE(saved >= 0 && pipe(fds) == 0);
    dup2(fds[1], STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fds[0], buf + len, room - 1 - len)) > 0) {
        len += (size_t)n;
    }
    buf[len] = '\0';
    close(fds[0]);
    return len;
}

static void log_some(void) {
    pica__log_set_hook(NULL, NULL);
    pica__log(PICA_LOG_ERROR, "one");
    pica__log(PICA_LOG_INFO, "two");
    pica__log(PICA_LOG_WARN, "three %s", "four");
}

static void log_much(void) {
    char text[3000];
    memset(text, 'z', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    pica__log(PICA_LOG_ERROR, "%s", text);
}

PT_TEST(lines_go_to_stderr) {
    char buf[4096];
    capture_stderr(log_some, buf, sizeof buf);
    PT_STR_EQ(buf, "pica: error: one\npica: warn: three four\n");
    size_t n = capture_stderr(log_much, buf, sizeof buf);
    PT_CHECK(n > 1000 && n <= 1024);
    PT_STR_EQ(buf + n - 2, "z\n");
}

/* Two hooks, each of which knows its own context: a mixed pair would be a wrong address. */
static atomic_uint mixed; /* hooks add, relaxed; read after the threads were joined */
/* Threads that have not finished logging: each subtracts itself, the case reads; relaxed. */
static atomic_int still_logging = 2;
static int context_a, context_b;

static void hook_a(void *ctx, int level, const char *text) {
    (void)level, (void)text;
    atomic_fetch_add_explicit(&mixed, ctx != &context_a, memory_order_relaxed);
}

static void hook_b(void *ctx, int level, const char *text) {
    (void)level, (void)text;
    atomic_fetch_add_explicit(&mixed, ctx != &context_b, memory_order_relaxed);
}

static void *keep_logging(void *arg) {
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        pica__log(PICA_LOG_ERROR, "%d", i);
    }
    atomic_fetch_sub_explicit(&still_logging, 1, memory_order_relaxed);
    return NULL;
}

PT_TEST(a_hook_never_meets_another_ones_context) {
    pthread_t threads[2];
    pica__log_set_hook(hook_a, &context_a);
    for (int i = 0; i < 2; i++) {
        PT_REQUIRE(pthread_create(&threads[i], NULL, keep_logging, NULL) == 0);
    }
    while (atomic_load_explicit(&still_logging, memory_order_relaxed) > 0) {
        pica__log_set_hook(hook_b, &context_b);
        pica__log_set_hook(hook_a, &context_a);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    PT_EQ(atomic_load(&mixed), 0);
}

static void log_from_hook(void *ctx, int level, const char *text) {
    (void)level;
    pica__log_set_hook(hear, ctx);
    pica__log(PICA_LOG_ERROR, "again: %s", text);
}

PT_TEST(a_hook_may_log_and_set_another) {
    static struct heard h;
    pica__log_set_hook(log_from_hook, &h);
    pica__log(PICA_LOG_ERROR, "x");
    PT_STR_EQ(h.text, "again: x");
}

PT_TEST(the_clock_goes_on) {
    int64_t begin = pica__now();
    PT_CHECK(begin > 0);
    int64_t last = begin;
    while (last - begin < 2000000) { /* two milliseconds, or the case's time-out */
        int64_t now = pica__now();
        PT_REQUIRE(now >= last);
        last = now;
    }
}

PT_MAIN()
