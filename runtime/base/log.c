/*
 * The log: formatting, threshold, and where lines go. See log.h.
 *
 * The hook and its context change together under `sink_lock`, a leaf: no lock is taken under it,
 * and it is not held while the hook runs, so that a hook may log or set another hook.
 */
#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/lock.h"

struct sink {
    void (*hook)(void *ctx, int level, const char *text);
    void *ctx;
};

static pica__lock_t sink_lock = PICA__LOCK_INIT;
static struct sink sink; /* under sink_lock */

/* Lines above it are dropped. Any thread writes and reads, relaxed: it guards nothing else. */
static atomic_int threshold = PICA_LOG_WARN;

void pica__log_set_level(int level) {
    atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

void pica__log_set_hook(void (*hook)(void *ctx, int level, const char *text), void *ctx) {
    pica__lock(&sink_lock);
    sink.hook = hook;
    sink.ctx = ctx;
    pica__unlock(&sink_lock);
}

static const char *level_name(int level) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    return level >= PICA_LOG_ERROR && level <= PICA_LOG_DEBUG ? names[level] : "?";
}

/* Keeps a length that snprintf gave within what fitted into `room` bytes. */
static size_t fitted(int n, size_t room) {
    if (n < 0) {
        return 0;
    }
    return (size_t)n < room ? (size_t)n : room - 1;
}

void pica__log(int level, const char *fmt, ...) {
    if (level > atomic_load_explicit(&threshold, memory_order_relaxed)) {
        return;
    }
    /* The line is made whole here, "pica: LEVEL: " in front, and the hook gets its tail. */
    char line[1024];
    size_t start =
        fitted(snprintf(line, sizeof line, "pica: %s: ", level_name(level)), sizeof line);
    size_t room = sizeof line - start - 1; /* one byte is kept for the newline */
    va_list args;
    va_start(args, fmt);
    size_t len = fitted(vsnprintf(line + start, room, fmt, args), room);
    va_end(args);

    pica__lock(&sink_lock);
    struct sink to = sink;
    pica__unlock(&sink_lock);
    if (to.hook != NULL) {
        line[start + len] = '\0';
        to.hook(to.ctx, level, line + start);
        return;
    }
    line[start + len] = '\n';
    /* One write, so that lines of several threads do not mix; nothing can be done if it fails. */
    ssize_t ignored = write(STDERR_FILENO, line, start + len + 1);
    (void)ignored;
}
