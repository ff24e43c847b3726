/*
 * System calls that return -errno. See sys.h for why they are functions out of line.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/compiler.h"

_Static_assert(sizeof(socklen_t) == sizeof(unsigned), "lengths are passed as unsigned");

static inline ssize_t long_result(ssize_t r) {
    return r < 0 ? -errno : r;
}

static inline int int_result(int r) {
    return r < 0 ? -errno : r;
}

PICA__NOINLINE ssize_t pica__sys_read(int fd, void *buf, size_t n) {
    return long_result(read(fd, buf, n));
}

PICA__NOINLINE ssize_t pica__sys_write(int fd, const void *buf, size_t n) {
    return long_result(write(fd, buf, n));
}

/* What every message goes through is not the C library's: its recv, send and sendmsg are cancellation points
 * of pthreads, and in a program with threads each call pays four atomic operations for that; its syscall()
 * shuffles seven arguments. The kernel's own convention is that of this file. */
#if PICA__TSAN || PICA__ASAN
/* But the sanitizers must see them. */
#define RECV(fd, buf, n, flags) long_result(recv(fd, buf, n, flags))
#define SEND(fd, buf, n, flags) long_result(send(fd, buf, n, flags))
#define SENDMSG(fd, msg, flags) long_result(sendmsg(fd, msg, flags))
#else
static inline long kernel(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "this architecture has no system calls yet"
#endif
}
#define RECV(fd, buf, n, flags) kernel(SYS_recvfrom, fd, (long)(buf), (long)(n), flags, 0, 0)
#define SEND(fd, buf, n, flags) kernel(SYS_sendto, fd, (long)(buf), (long)(n), flags, 0, 0)
#define SENDMSG(fd, msg, flags) kernel(SYS_sendmsg, fd, (long)(msg), flags, 0, 0, 0)
#endif

PICA__NOINLINE ssize_t pica__sys_recv(int fd, void *buf, size_t n, int flags) {
    return RECV(fd, buf, n, flags);
}

PICA__NOINLINE ssize_t pica__sys_send(int fd, const void *buf, size_t n, int flags) {
    return SEND(fd, buf, n, flags);
}

PICA__NOINLINE ssize_t pica__sys_recvmsg(int fd, struct msghdr *msg, int flags) {
    return long_result(recvmsg(fd, msg, flags));
}

PICA__NOINLINE ssize_t pica__sys_sendmsg(int fd, const struct msghdr *msg, int flags) {
    return SENDMSG(fd, msg, flags);
}

PICA__NOINLINE int pica__sys_socket(int domain, int type, int protocol) {
    return int_result(socket(domain, type, protocol));
}

PICA__NOINLINE int pica__sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    return int_result(socketpair(domain, type, protocol, fds));
}

PICA__NOINLINE int pica__sys_bind(int fd, const struct sockaddr *addr, unsigned len) {
    return int_result(bind(fd, addr, len));
}

PICA__NOINLINE int pica__sys_listen(int fd, int backlog) {
    return int_result(listen(fd, backlog));
}

PICA__NOINLINE int pica__sys_accept4(int fd, struct sockaddr *addr, unsigned *len, int flags) {
    return int_result(accept4(fd, addr, len, flags));
}

PICA__NOINLINE int pica__sys_connect(int fd, const struct sockaddr *addr, unsigned len) {
    return int_result(connect(fd, addr, len));
}

PICA__NOINLINE int pica__sys_shutdown(int fd, int how) {
    return int_result(shutdown(fd, how));
}

PICA__NOINLINE int pica__sys_getsockopt(int fd, int level, int name, void *value, unsigned *len) {
    return int_result(getsockopt(fd, level, name, value, len));
}

PICA__NOINLINE int pica__sys_setsockopt(int fd, int level, int name, const void *value,
                                        unsigned len) {
    return int_result(setsockopt(fd, level, name, value, len));
}

PICA__NOINLINE int pica__sys_getsockname(int fd, struct sockaddr *addr, unsigned *len) {
    return int_result(getsockname(fd, addr, len));
}

PICA__NOINLINE int pica__sys_getpeername(int fd, struct sockaddr *addr, unsigned *len) {
    return int_result(getpeername(fd, addr, len));
}

PICA__NOINLINE int pica__sys_close(int fd) {
    return int_result(close(fd));
}

PICA__NOINLINE int pica__sys_eventfd(unsigned count, int flags) {
    return int_result(eventfd(count, flags));
}

PICA__NOINLINE int pica__sys_fcntl(int fd, int command, long arg) {
    return int_result(fcntl(fd, command, arg));
}

PICA__NOINLINE int pica__sys_unlink(const char *path) {
    return int_result(unlink(path));
}

PICA__NOINLINE int pica__sys_chmod(const char *path, unsigned mode) {
    return int_result(chmod(path, (mode_t)mode));
}

PICA__NOINLINE int pica__sys_lstat(const char *path, struct stat *st) {
    return int_result(lstat(path, st));
}
