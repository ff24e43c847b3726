/* System calls on files that return -errno. See sys.h for why they are functions out of line. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/sys_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/sim/sys.h"

/* A kernel that does not know the flag, or the call, cannot tell either. */
static ssize_t nowait_result(ssize_t n) {
    return n >= 0 ? n : errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

/* Not the C library's functions of these names: they are cancellation points of pthreads, which costs as much
 * as a small copy, and emulate what the kernel does not know by calls that wait. */
PICA__NOINLINE ssize_t pica__sys_read_nowait(int fd, const struct iovec *parts, int count,
                                             int64_t offset) {
    if (pica__sim_fd(fd)) {
        return pica__sim_preadv(fd, parts, count, offset);
    }
    return nowait_result(syscall(SYS_preadv2, fd, parts, count, offset, offset >> 32, RWF_NOWAIT));
}

PICA__NOINLINE ssize_t pica__sys_write_nowait(int fd, const struct iovec *parts, int count,
                                              int64_t offset) {
    if (pica__sim_fd(fd)) {
        return pica__sim_pwritev(fd, parts, count, offset);
    }
    return nowait_result(syscall(SYS_pwritev2, fd, parts, count, offset, offset >> 32, RWF_NOWAIT));
}

static ssize_t result(ssize_t n) {
    return n < 0 ? -errno : n;
}

PICA__NOINLINE ssize_t pica__sys_readv_at(int fd, const struct iovec *parts, int count, int64_t offset) {
    return result(preadv2(fd, parts, count, offset, 0));
}

PICA__NOINLINE ssize_t pica__sys_writev_at(int fd, const struct iovec *parts, int count, int64_t offset) {
    return result(pwritev2(fd, parts, count, offset, 0));
}

PICA__NOINLINE int pica__sys_openat(int directory, const char *path, int flags, unsigned mode) {
    return (int)result(openat(directory, path, flags, (mode_t)mode));
}

PICA__NOINLINE int pica__sys_openat2(int directory, const char *path, const struct open_how *how) {
    return (int)result(syscall(SYS_openat2, directory, path, how, sizeof *how));
}

PICA__NOINLINE int pica__sys_fsync(int fd, int data_only) {
    return (int)result(data_only ? fdatasync(fd) : fsync(fd));
}

PICA__NOINLINE int pica__sys_statx(int directory, const char *path, int flags, struct statx *st) {
    return (int)result(statx(directory, path, flags, STATX_BASIC_STATS | STATX_BTIME, st));
}

PICA__NOINLINE int64_t pica__sys_lseek(int fd, int64_t offset, int whence) {
    if (pica__sim_fd(fd)) {
        return pica__sim_lseek(fd, offset, whence);
    }
    off_t at = lseek(fd, offset, whence);
    return at < 0 ? -errno : at;
}

PICA__NOINLINE int pica__sys_ftruncate(int fd, int64_t size) {
    if (pica__sim_fd(fd)) {
        return pica__sim_ftruncate(fd, size);
    }
    return ftruncate(fd, size) < 0 ? -errno : 0;
}

PICA__NOINLINE int pica__sys_type(int fd) {
    if (pica__sim_fd(fd)) {
        return pica__sim_type(fd);
    }
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0) {
        return -errno;
    }
    return st.stx_mode & S_IFMT;
}

/* A thread's signal mask around the call, because sendfile has no MSG_NOSIGNAL. What the call raised itself is
 * taken back: only if the signal was not blocked before can it be told from others. */
PICA__NOINLINE ssize_t pica__sys_sendfile(int out, int in, int64_t offset, size_t size) {
    if (pica__sim_fd(out)) {
        return pica__sim_sendfile(out, in, offset, size);
    }
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe, &before);
    off_t at = offset;
    ssize_t n = sendfile(out, in, &at, size);
    int error = n < 0 ? -errno : 0;
    /* It may also come behind a part that was sent. */
    if ((n < 0 || (size_t)n < size) && error != -EAGAIN && sigismember(&before, SIGPIPE) == 0) {
        struct timespec none = {0, 0};
        (void)syscall(SYS_rt_sigtimedwait, &pipe, NULL, &none, sizeof(unsigned long)); /* does not wait */
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n < 0 ? error : n;
}
