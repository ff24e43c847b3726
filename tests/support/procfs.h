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

#include "tests/support/machine.h"
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

/* Whether a thread, by its line of /proc/self/task/ID/stat, has this name (NULL: any) and is not about to be
 * gone: pthread_join returns when a thread has given its memory back, and the kernel counts it a little longer. Its
 * flag says so (PF_EXITING of linux/sched.h, the ninth field of proc(5)). */
static inline bool procfs_thread_is(const char *stat, const char *name) {
    const char *begin = strchr(stat, '('), *end = strrchr(stat, ')');
    unsigned flags = 0;
    if (begin == NULL || end == NULL || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1) {
        return false;
    }
    size_t length = (size_t)(end - begin - 1);
    return (flags & 4u) == 0 &&
           (name == NULL || (strlen(name) == length && memcmp(begin + 1, name, length) == 0));
}

/* How many threads there are with a name; NULL: all. */
static inline long procfs_threads_named(const char *name) {
    DIR *dir = opendir("/proc/self/task");
    PT_REQUIRE(dir != NULL);
    long count = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[300], stat[512];
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", e->d_name);
        int fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            ssize_t n = read(fd, stat, sizeof stat - 1);
            stat[n > 0 ? n : 0] = 0;
            count += procfs_thread_is(stat, name);
            close(fd);
        }
    }
    closedir(dir);
    return count;
}

static inline long procfs_threads(void) {
    return procfs_threads_named(NULL);
}

/* The same, when there should be so many: an emulator (pt_emulator) tells who joins a thread before it ends that
 * thread's own, and so is asked until it has. */
static inline long procfs_threads_left(const char *name, long expected) {
    long count = procfs_threads_named(name);
    for (int i = 0; count != expected && pt_emulator() != NULL && i < 10000; i++) {
        usleep(1000);
        count = procfs_threads_named(name);
    }
    return count;
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
