/*
 * The test harness: registration, one process per case, checks. See pt.h for how it is used.
 *
 * The parent stays single-threaded and forks for each case; the child leads a process group, so
 * that a time-out or the end of the case also ends what it started, and dies with its parent. The
 * child leaves through exit(), which is where LeakSanitizer looks for leaks.
 *
 * Failures are counted in a page shared by all processes of a case. The checks use only the stack,
 * atomics and write(2), so that they work on small coroutine stacks and in signal handlers (PT_FAIL
 * also uses vsnprintf).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "tests/support/pt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/compiler.h"

#define SKIPPED 77
#define FDS_MAX 65536

struct shared {
    /* Any thread of a case's processes adds; its own process and the parent read at the end. All
     * accesses are seq_cst: nothing here is worth a weaker order. */
    atomic_uint failures;
    /* True while the body runs, so that an exit() from there is not taken for success. The child
     * writes, the parent reads after its end. */
    atomic_bool in_body;
};

enum outcome { PASSED, FAILED, SKIP };

static struct pt_case *cases;
static struct shared *shared;
static pid_t case_pid; /* the process that runs the case's body; its children differ */

/* --- messages ------------------------------------------------------------------------------- */

/* A line being put together without the C library's formatting. */
struct text {
    char buf[1024];
    size_t len;
};

static void text_str(struct text *t, const char *s) {
    while (*s != '\0' && t->len < sizeof t->buf - 1) {
        t->buf[t->len++] = *s++;
    }
}

static void text_number(struct text *t, long long value) {
    char digits[24];
    size_t n = sizeof digits;
    unsigned long long v = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;
    digits[--n] = '\0';
    do {
        digits[--n] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    if (value < 0) {
        digits[--n] = '-';
    }
    text_str(t, digits + n);
}

static void text_write(struct text *t) {
    t->buf[t->len++] = '\n';
    int saved = errno;
    ssize_t ignored = write(STDERR_FILENO, t->buf, t->len);
    (void)ignored;
    errno = saved;
}

static void text_begin_failure(struct text *t, const char *file, int line) {
    t->len = 0;
    text_str(t, file);
    text_str(t, ":");
    text_number(t, line);
    text_str(t, ": ");
    if (shared != NULL) {
        atomic_fetch_add(&shared->failures, 1);
    }
}

bool pt_fail_check(const char *file, int line, const char *expr) {
    struct text t;
    text_begin_failure(&t, file, line);
    text_str(&t, "check failed: ");
    text_str(&t, expr);
    text_write(&t);
    return false;
}

bool pt_eq(const char *file, int line, const char *a_expr, const char *b_expr, long long a,
           long long b) {
    if (a == b) {
        return true;
    }
    struct text t;
    text_begin_failure(&t, file, line);
    text_str(&t, a_expr);
    text_str(&t, " is ");
    text_number(&t, a);
    text_str(&t, ", expected ");
    text_str(&t, b_expr);
    text_str(&t, " = ");
    text_number(&t, b);
    text_write(&t);
    return false;
}

bool pt_str_eq(const char *file, int line, const char *a_expr, const char *b_expr, const char *a,
               const char *b) {
    if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0)) {
        return true;
    }
    struct text t;
    text_begin_failure(&t, file, line);
    text_str(&t, a_expr);
    text_str(&t, " is \"");
    text_str(&t, a == NULL ? "(null)" : a);
    text_str(&t, "\", expected ");
    text_str(&t, b_expr);
    text_str(&t, " = \"");
    text_str(&t, b == NULL ? "(null)" : b);
    text_str(&t, "\"");
    text_write(&t);
    return false;
}

bool pt_fail(const char *file, int line, const char *fmt, ...) {
    struct text t;
    text_begin_failure(&t, file, line);
    va_list args;
    va_start(args, fmt);
    size_t room = sizeof t.buf - t.len - 1;
    int n = vsnprintf(t.buf + t.len, room, fmt, args);
    va_end(args);
    if (n > 0) {
        t.len += (size_t)n < room ? (size_t)n : room - 1;
    }
    text_write(&t);
    return false;
}

void pt_require_failed(const char *file, int line, const char *expr) {
    struct text t;
    text_begin_failure(&t, file, line);
    text_str(&t, "required: ");
    text_str(&t, expr);
    text_write(&t);
    _exit(1);
}

void pt_skip(const char *reason) {
    struct text t;
    t.len = 0;
    text_str(&t, "skipped: ");
    text_str(&t, reason);
    text_write(&t);
    _exit(SKIPPED);
}

unsigned pt_failures(void) {
    return shared == NULL ? 0 : atomic_load(&shared->failures);
}

double pt_time_scale(void) {
    double scale = PICA__TSAN || PICA__ASAN ? 4.0 : 1.0;
    const char *s = getenv("PT_TIMEOUT_SCALE");
    double given = s == NULL ? 1.0 : strtod(s, NULL);
    return given > 0.0 ? scale * given : scale;
}

/* --- open file descriptors ------------------------------------------------------------------ */

/* Calls see(fd, arg) for each open descriptor except the one used for looking. */
static void each_fd(void (*see)(int fd, void *arg), void *arg) {
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return;
    }
    struct dirent *e;
    while ((e = readdir(dir)) != NULL) {
        int fd = e->d_name[0] == '.' ? -1 : atoi(e->d_name);
        if (fd >= 0 && fd != dirfd(dir)) {
            see(fd, arg);
        }
    }
    closedir(dir);
}

static void mark_fd(int fd, void *arg) {
    if (fd < FDS_MAX) {
        ((bool *)arg)[fd] = true;
    }
}

static void report_if_new_fd(int fd, void *arg) {
    if (fd >= FDS_MAX || ((bool *)arg)[fd]) {
        return;
    }
    char path[64], target[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    pt_fail("descriptors", fd, "left open: %s", target);
}

/* --- one case ------------------------------------------------------------------------------- */

static void refuse_early_exit(void) {
    if (getpid() == case_pid && atomic_load(&shared->in_body)) {
        pt_fail(__FILE__, __LINE__, "the case called exit()");
        _exit(1);
    }
}

/* The body of a child: runs the case, looks for open descriptors, gives the exit status. */
static int run_here(const struct pt_case *c) {
    static bool open_before[FDS_MAX];
    each_fd(mark_fd, open_before);
    case_pid = getpid();
    atexit(refuse_early_exit);
    atomic_store(&shared->in_body, true);
    c->run();
    atomic_store(&shared->in_body, false);
    fflush(NULL);
    each_fd(report_if_new_fd, open_before);
    return pt_failures() == 0 ? 0 : 1;
}

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Waits for SIGCHLD, which is blocked, until `pid` has ended; false after `seconds`. */
static bool wait_ended(pid_t pid, double seconds) {
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    double end = now_seconds() + seconds;
    for (;;) {
        siginfo_t info = {0};
        /* WNOWAIT: the process stays a zombie, so its group's number cannot be used again yet. */
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == pid) {
            return true;
        }
        double left = end - now_seconds();
        if (left <= 0) {
            return false;
        }
        struct timespec t = {(time_t)left, 0};
        t.tv_nsec = (long)((left - (double)t.tv_sec) * 1e9);
        sigtimedwait(&chld, NULL, &t);
    }
}

static pid_t start_case(const struct pt_case *c) {
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0) {
        if (pid > 0) {
            setpgid(pid, pid);
        }
        return pid;
    }
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_UNBLOCK, &chld, NULL);
    exit(run_here(c));
}

static enum outcome judge(const struct pt_case *c, int status, bool in_time, double timeout) {
    if (!in_time) {
        printf("FAIL %s: not finished after %g s\n", c->name, timeout);
    } else if (WIFSIGNALED(status)) {
        printf("FAIL %s: killed by signal %d (%s)\n", c->name, WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    } else if (pt_failures() != 0) {
        printf("FAIL %s: %u failed\n", c->name, pt_failures());
    } else if (WEXITSTATUS(status) == SKIPPED) {
        printf("skip %s\n", c->name);
        return SKIP;
    } else if (WEXITSTATUS(status) != 0 || atomic_load(&shared->in_body)) {
        /* The second: _exit(0) in the middle of the body, after which nothing more was checked. */
        printf("FAIL %s: left with status %d\n", c->name, WEXITSTATUS(status));
    } else {
        printf("ok %s\n", c->name);
        return PASSED;
    }
    return FAILED;
}

static enum outcome run_case(const struct pt_case *c, bool verbose) {
    double timeout = (c->timeout > 0 ? c->timeout : PT_DEFAULT_TIMEOUT) * pt_time_scale();
    double begin = now_seconds();
    atomic_store(&shared->failures, 0);
    atomic_store(&shared->in_body, false);
    if (verbose) {
        printf("run %s\n", c->name);
    }
    pid_t pid = start_case(c);
    if (pid < 0) {
        printf("FAIL %s: fork: %s\n", c->name, strerror(errno));
        return FAILED;
    }
    bool in_time = wait_ended(pid, timeout);
    kill(-pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    enum outcome outcome = judge(c, status, in_time, timeout);
    if (verbose) {
        printf("    %.3f s\n", now_seconds() - begin);
    }
    fflush(stdout);
    return outcome;
}

/* --- the program ---------------------------------------------------------------------------- */

void pt_add(struct pt_case *c) {
    struct pt_case **at = &cases;
    while (*at != NULL && (*at)->line <= c->line) {
        at = &(*at)->next;
    }
    c->next = *at;
    *at = c;
}

static struct pt_case *find_case(const char *name) {
    struct pt_case *c = cases;
    while (c != NULL && strcmp(c->name, name) != 0) {
        c = c->next;
    }
    return c;
}

static void list_cases(void) {
    for (const struct pt_case *c = cases; c != NULL; c = c->next) {
        if (!c->hidden) {
            puts(c->name);
        }
    }
}

static int summary(const unsigned counts[3]) {
    printf("%u passed, %u failed", counts[PASSED], counts[FAILED]);
    if (counts[SKIP] != 0) {
        printf(", %u skipped", counts[SKIP]);
    }
    printf("\n");
    if (counts[FAILED] != 0) {
        return 1;
    }
    if (counts[PASSED] != 0) {
        return 0;
    }
    /* Nothing at all to run is no success either. */
    return counts[SKIP] != 0 ? SKIPPED : 1;
}

static int run_named(char **names, bool verbose) {
    unsigned counts[3] = {0};
    for (; *names != NULL; names++) {
        const struct pt_case *c = find_case(*names);
        if (c == NULL) {
            fprintf(stderr, "no case '%s'; --list prints them\n", *names);
            return 2;
        }
        counts[run_case(c, verbose)]++;
    }
    return summary(counts);
}

static int run_all(bool verbose) {
    unsigned counts[3] = {0};
    for (const struct pt_case *c = cases; c != NULL; c = c->next) {
        if (!c->hidden) {
            counts[run_case(c, verbose)]++;
        }
    }
    return summary(counts);
}

static int usage(const char *program) {
    fprintf(stderr, "usage: %s [--verbose] [NAME...] | --list | --here NAME\n", program);
    return 2;
}

int pt_main(int argc, char **argv) {
    bool verbose = false, here = false;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--list") == 0) {
            list_cases();
            return 0;
        } else if (strcmp(argv[at], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[at], "--here") == 0) {
            here = true;
        } else {
            return usage(argv[0]);
        }
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    if (here) {
        const struct pt_case *c = at + 1 == argc ? find_case(argv[at]) : NULL;
        return c == NULL ? usage(argv[0]) : run_here(c);
    }
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGINT, SIG_DFL); /* what a shell starts in the background ignores it */
    sigprocmask(SIG_BLOCK, &chld, NULL);
    return at < argc ? run_named(argv + at, verbose) : run_all(verbose);
}
