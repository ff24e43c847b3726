/* For tests of how a process dies: a body that runs in a forked child, how that ended, and what it wrote
 * to stderr. For C and C++. */
#ifndef CHILD_H
#define CHILD_H

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/pt.h"

struct child {
    int status;      /* as from waitpid */
    char text[4096]; /* what it wrote to stderr, cut at the end if it was more */
};

/* Runs `body` in a forked child without a core dump and collects how it ended; 0 if body returned. */
static inline struct child run_child(void (*body)(void)) {
    struct child c;
    memset(&c, 0, sizeof c);
    int fds[2];
    PT_REQUIRE(pipe(fds) == 0);
    pid_t pid = fork();
    PT_REQUIRE(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        body();
        _exit(0);
    }
    close(fds[1]);
    size_t used = 0;
    char rest[512];
    ssize_t n;
    do {
        size_t room = sizeof c.text - 1 - used;
        n = read(fds[0], room != 0 ? c.text + used : rest, room != 0 ? room : sizeof rest);
        used += room != 0 && n > 0 ? (size_t)n : 0;
    } while (n > 0);
    close(fds[0]);
    PT_REQUIRE(waitpid(pid, &c.status, 0) == pid);
    return c;
}

static inline void check_died(struct child c, int sig) {
    if (!PT_CHECK(WIFSIGNALED(c.status) && WTERMSIG(c.status) == sig)) {
        PT_FAIL("status %x, stderr: %s", (unsigned)c.status, c.text);
    }
}

static inline void check_exited(struct child c, int code) {
    if (!PT_CHECK(WIFEXITED(c.status) && WEXITSTATUS(c.status) == code)) {
        PT_FAIL("status %x, stderr: %s", (unsigned)c.status, c.text);
    }
}

static inline void check_text(struct child c, const char *part) {
    if (strstr(c.text, part) == NULL) {
        PT_FAIL("\"%s\" is not in \"%s\"", part, c.text);
    }
}

#endif
