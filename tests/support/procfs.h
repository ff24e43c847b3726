/* What the kernel says about this process, for tests that prove that something does not grow or
 * does not wake. All of it is read anew at each call, with read(2) into a small buffer: the
 * readings change the process as little as possible. */
#ifndef PROCFS_H
#define PROCFS_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/pt.h"

/* The number behind `key` in a file such as /proc/self/status; -1 if file or key is not there. */
static inline long procfs_number(const char *path, const char *key) {
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    size_t size = 0;
    ssize_t n;
    while (size < sizeof text - 1 && (n = read(fd, text + size, sizeof text - 1 - size)) > 0) {
        size += (size_t)n;
    }
    close(fd);
    text[size] = 0;
    size_t length = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            return strtol(line + length + 1, NULL, 10);
        }
    }
    return -1;
}

/* One of the figures of /proc/self/status, in bytes (the file counts KiB). */
static inline long procfs_bytes(const char *key) {
    long kib = procfs_number("/proc/self/status", key);
    PT_REQUIRE(kib >= 0);
    return kib * 1024;
}

static inline long procfs_threads(void) {
    return procfs_number("/proc/self/status", "Threads");
}

/* Waits until there are n threads, for at most ten seconds: one that was joined is still counted while the kernel
 * takes it down. Returns how many there are. */
static inline long procfs_threads_wait(long n) {
    const struct timespec pause = {0, 1000000};
    long threads;
    for (int i = 0; (threads = procfs_threads()) != n && i < 10000; i++) {
        nanosleep(&pause, NULL);
    }
    return threads;
}

/* Open descriptors, without the one used for looking. */
static inline long procfs_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    PT_REQUIRE(dir != NULL);
    long n = -1;
    struct dirent *e;
    while ((e = readdir(dir)) != NULL) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static inline long procfs_mappings(void) {
    char text[4096];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    PT_REQUIRE(fd >= 0);
    long lines = 0;
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            lines += text[i] == '\n';
        }
    }
    close(fd);
    return lines;
}

enum { PROCFS_THREADS_MAX = 256 };

/* How often each thread but the caller gave up its processor of its own accord: slept, in short. */
struct procfs_switches {
    int count;
    long tid[PROCFS_THREADS_MAX];
    long voluntary[PROCFS_THREADS_MAX];
};

static inline void procfs_switches(struct procfs_switches *out) {
    DIR *dir = opendir("/proc/self/task");
    PT_REQUIRE(dir != NULL);
    long self = (long)syscall(SYS_gettid);
    out->count = 0;
    struct dirent *e;
    while ((e = readdir(dir)) != NULL) {
        long tid = strtol(e->d_name, NULL, 10);
        if (tid <= 0 || tid == self || out->count == PROCFS_THREADS_MAX) {
            continue;
        }
        char path[64];
        snprintf(path, sizeof path, "/proc/self/task/%ld/status", tid);
        out->tid[out->count] = tid;
        out->voluntary[out->count++] = procfs_number(path, "voluntary_ctxt_switches");
    }
    closedir(dir);
}

/* True if no thread came, went or woke between the two. */
static inline bool procfs_switches_equal(const struct procfs_switches *a,
                                         const struct procfs_switches *b) {
    size_t used = (size_t)a->count * sizeof a->tid[0];
    return a->count == b->count && memcmp(a->tid, b->tid, used) == 0 &&
           memcmp(a->voluntary, b->voluntary, used) == 0;
}

#endif
