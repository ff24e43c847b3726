/*
 * System calls that return -errno. See sys.h for why they are functions out of line.
 *
 * Those on descriptors are a seam: what a simulation made goes to its own (sim/sys.h). Sockets of a simulation
 * are "plain" (io/socket.h), so that the calls in sys_message.h, which are inline, need no look at that.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/sys.h"
#include "runtime/base/sys_message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/sim/sys.h"

_Static_assert(sizeof(socklen_t) == sizeof(unsigned), "lengths are passed as unsigned");

static inline ssize_t long_result(ssize_t r) {
    return r < 0 ? -errno : r;
}

static inline int int_result(int r) {
    return r < 0 ? -errno : r;
}

PICA__NOINLINE ssize_t pica__sys_read(int fd, void *buf, size_t n) {
    if (pica__sim_fd(fd)) {
        return pica__sim_read(fd, buf, n);
    }
    return long_result(read(fd, buf, n));
}

PICA__NOINLINE ssize_t pica__sys_write(int fd, const void *buf, size_t n) {
    if (pica__sim_fd(fd)) {
        struct iovec part = {(void *)(uintptr_t)buf, n};
        return pica__sim_writev(fd, &part, 1);
    }
    return long_result(write(fd, buf, n));
}

#if PICA__TSAN || PICA__ASAN || PICA__MODEL
/* Where the sanitizers see them: see sys_message.h. */
PICA__NOINLINE ssize_t pica__sys_recv(int fd, void *buf, size_t n, int flags) {
    return long_result(recv(fd, buf, n, flags));
}

PICA__NOINLINE ssize_t pica__sys_send(int fd, const void *buf, size_t n, int flags) {
    return long_result(send(fd, buf, n, flags));
}

PICA__NOINLINE ssize_t pica__sys_sendmsg(int fd, const struct msghdr *msg, int flags) {
    return long_result(sendmsg(fd, msg, flags));
}

PICA__NOINLINE ssize_t pica__sys_recvfrom(int fd, void *buf, size_t n, int flags,
                                          struct sockaddr *from, unsigned *length) {
    return long_result(recvfrom(fd, buf, n, flags, from, length));
}

PICA__NOINLINE ssize_t pica__sys_sendto(int fd, const void *buf, size_t n, int flags,
                                        const struct sockaddr *to, unsigned length) {
    return long_result(sendto(fd, buf, n, flags, to, length));
}

PICA__NOINLINE int pica__sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags) {
    return int_result(recvmmsg(fd, messages, n, flags, NULL));
}

PICA__NOINLINE int pica__sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags) {
    return int_result(sendmmsg(fd, messages, n, flags));
}
#endif

PICA__NOINLINE ssize_t pica__sys_recvmsg(int fd, struct msghdr *msg, int flags) {
    return long_result(recvmsg(fd, msg, flags));
}

PICA__NOINLINE int pica__sys_socket(int domain, int type, int protocol) {
    if (pica__simulated()) {
        return pica__sim_socket(domain, type, protocol);
    }
    return int_result(socket(domain, type, protocol));
}

PICA__NOINLINE int pica__sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    if (pica__simulated()) {
        return pica__sim_socketpair(domain, type, fds);
    }
    return int_result(socketpair(domain, type, protocol, fds));
}

PICA__NOINLINE int pica__sys_bind(int fd, const struct sockaddr *addr, unsigned len) {
    if (pica__sim_fd(fd)) {
        return pica__sim_bind(fd, addr, len);
    }
    return int_result(bind(fd, addr, len));
}

PICA__NOINLINE int pica__sys_listen(int fd, int backlog) {
    if (pica__sim_fd(fd)) {
        return pica__sim_listen(fd, backlog);
    }
    return int_result(listen(fd, backlog));
}

PICA__NOINLINE int pica__sys_accept4(int fd, struct sockaddr *addr, unsigned *len, int flags) {
    if (pica__sim_fd(fd)) {
        return pica__sim_accept4(fd, addr, len);
    }
    return int_result(accept4(fd, addr, len, flags));
}

PICA__NOINLINE int pica__sys_connect(int fd, const struct sockaddr *addr, unsigned len) {
    if (pica__sim_fd(fd)) {
        return pica__sim_connect(fd, addr, len);
    }
    return int_result(connect(fd, addr, len));
}

PICA__NOINLINE int pica__sys_shutdown(int fd, int how) {
    if (pica__sim_fd(fd)) {
        return pica__sim_shutdown(fd, how);
    }
    return int_result(shutdown(fd, how));
}

PICA__NOINLINE int pica__sys_getsockopt(int fd, int level, int name, void *value, unsigned *len) {
    if (pica__sim_fd(fd)) {
        return pica__sim_getsockopt(fd, level, name, value, len);
    }
    return int_result(getsockopt(fd, level, name, value, len));
}

PICA__NOINLINE int pica__sys_setsockopt(int fd, int level, int name, const void *value,
                                        unsigned len) {
    if (pica__sim_fd(fd)) {
        return pica__sim_setsockopt(fd, level, name, value, len);
    }
    return int_result(setsockopt(fd, level, name, value, len));
}

PICA__NOINLINE int pica__sys_getsockname(int fd, struct sockaddr *addr, unsigned *len) {
    if (pica__sim_fd(fd)) {
        return pica__sim_name_of(fd, false, addr, len);
    }
    return int_result(getsockname(fd, addr, len));
}

PICA__NOINLINE int pica__sys_getpeername(int fd, struct sockaddr *addr, unsigned *len) {
    if (pica__sim_fd(fd)) {
        return pica__sim_name_of(fd, true, addr, len);
    }
    return int_result(getpeername(fd, addr, len));
}

PICA__NOINLINE int pica__sys_close(int fd) {
    if (pica__sim_fd(fd)) {
        return pica__sim_close(fd);
    }
    return int_result(close(fd));
}

PICA__NOINLINE int pica__sys_eventfd(unsigned count, int flags) {
    if (pica__simulated()) {
        return pica__sim_socket(AF_UNIX, SOCK_STREAM, 0); /* only to have a number */
    }
    return int_result(eventfd(count, flags));
}

PICA__NOINLINE int pica__sys_fcntl(int fd, int command, long arg) {
    if (pica__sim_fd(fd)) {
        return pica__sim_fcntl(fd, command, arg);
    }
    return int_result(fcntl(fd, command, arg));
}

PICA__NOINLINE int pica__sys_unlink(const char *path) {
    if (pica__simulated()) {
        return pica__sim_unlink(path);
    }
    return int_result(unlink(path));
}

PICA__NOINLINE int pica__sys_chmod(const char *path, unsigned mode) {
    if (pica__simulated()) {
        return pica__sim_chmod(path);
    }
    return int_result(chmod(path, (mode_t)mode));
}

PICA__NOINLINE int pica__sys_lstat(const char *path, struct stat *st) {
    if (pica__simulated()) {
        return pica__sim_lstat(path, st);
    }
    return int_result(lstat(path, st));
}
