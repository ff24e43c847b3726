/*
 * System calls about signals, processes and pipes. See sys.h for why they are functions out of line.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/sys_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "runtime/base/sim/child.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/sim/sys.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static inline int int_result(long r) {
    return r < 0 ? -errno : (int)r;
}

PICA__NOINLINE int pica__sys_sigaction(int signum, const struct sigaction *action,
                                       struct sigaction *old) {
    return int_result(sigaction(signum, action, old));
}

PICA__NOINLINE int pica__sys_pipe2(int fds[2], int flags) {
    if (pica__simulated()) {
        return pica__sim_pipe2(fds, flags);
    }
    return int_result(pipe2(fds, flags));
}

PICA__NOINLINE int pica__sys_open(const char *path, int flags) {
    if (pica__simulated()) {
        return pica__sim_open(path, flags);
    }
    return int_result(open(path, flags));
}

PICA__NOINLINE int pica__sys_pidfd_open(pid_t pid) {
    if (pica__simulated()) {
        return pica__sim_pidfd_open(pid);
    }
    return int_result(syscall(SYS_pidfd_open, pid, 0));
}

PICA__NOINLINE int pica__sys_pidfd_send_signal(int pidfd, int signum) {
    if (pica__sim_fd(pidfd)) {
        return pica__sim_pidfd_send_signal(pidfd, signum);
    }
    return int_result(syscall(SYS_pidfd_send_signal, pidfd, signum, NULL, 0));
}

PICA__NOINLINE int pica__sys_reap(int pidfd, int *code) {
    if (pica__sim_fd(pidfd)) {
        return pica__sim_reap(pidfd, code);
    }
    siginfo_t info = {0};
    int rc;
    do {
        rc = int_result(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG));
    } while (rc == -EINTR);
    if (rc < 0 || info.si_pid == 0) {
        return rc;
    }
    *code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return 1;
}

PICA__NOINLINE void pica__sys_reap_wait(pid_t pid) {
    if (pica__simulated()) {
        pica__sim_reap_wait(pid);
        return;
    }
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) {
    }
}

/* SIGPIPE is blocked for the thread; one that the write caused is taken out before it is unblocked, unless one
 * was pending before, which is somebody else's. */
PICA__NOINLINE ssize_t pica__sys_writev_quiet(int fd, const struct iovec *buffers, int count) {
    if (pica__sim_fd(fd)) {
        return pica__sim_writev(fd, buffers, count);
    }
    const struct timespec none = {0, 0};
    sigset_t pipe_set, old, pending;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    (void)sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    ssize_t n = writev(fd, buffers, count);
    n = n < 0 ? -errno : n;
    if (n == -EPIPE && !was_pending) {
        while (syscall(SYS_rt_sigtimedwait, &pipe_set, NULL, &none, _NSIG / 8) < 0 &&
               errno == EINTR) {
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return n;
}
