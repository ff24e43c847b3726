/*
 * The system calls that every message goes through, as in sys.h, but inline and without the C library.
 *
 * The C library's recv, send and sendmsg are cancellation points of pthreads, for which each call pays four
 * atomic operations in a program with threads. And every function that returns right after a system call
 * is dear: processors come out of the kernel with little of their branch prediction left (the kernel's
 * defences against speculation see to that), so each return on the way up is mispredicted. The kernel's
 * own convention for errors is ours; there is no errno here, so nothing needs to be out of line.
 */
#ifndef PICA__RUNTIME_BASE_SYS_MESSAGE_H
#define PICA__RUNTIME_BASE_SYS_MESSAGE_H

#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include "runtime/base/compiler.h"

struct mmsghdr;
struct msghdr;
struct sockaddr;

#if PICA__TSAN || PICA__ASAN || PICA__MODEL

/* The sanitizers must see what is read and written. */
ssize_t pica__sys_recv(int fd, void *buf, size_t n, int flags);
ssize_t pica__sys_send(int fd, const void *buf, size_t n, int flags);
ssize_t pica__sys_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t pica__sys_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from,
                           unsigned *length);
ssize_t pica__sys_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to,
                         unsigned length);
int pica__sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags);
int pica__sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags);

#else

static inline long pica__kernel(long number, long a, long b, long c, long d, long e, long f) {
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

static inline ssize_t pica__sys_recv(int fd, void *buf, size_t n, int flags) {
    return pica__kernel(SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0);
}

static inline ssize_t pica__sys_send(int fd, const void *buf, size_t n, int flags) {
    return pica__kernel(SYS_sendto, fd, (long)buf, (long)n, flags, 0, 0);
}

static inline ssize_t pica__sys_sendmsg(int fd, const struct msghdr *msg, int flags) {
    return pica__kernel(SYS_sendmsg, fd, (long)msg, flags, 0, 0, 0);
}

/* The lengths are plain unsigned, socklen_t's type, as in sys.h. */
static inline ssize_t pica__sys_recvfrom(int fd, void *buf, size_t n, int flags,
                                         struct sockaddr *from, unsigned *length) {
    return pica__kernel(SYS_recvfrom, fd, (long)buf, (long)n, flags, (long)from, (long)length);
}

static inline ssize_t pica__sys_sendto(int fd, const void *buf, size_t n, int flags,
                                       const struct sockaddr *to, unsigned length) {
    return pica__kernel(SYS_sendto, fd, (long)buf, (long)n, flags, (long)to, (long)length);
}

static inline int pica__sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags) {
    return (int)pica__kernel(SYS_recvmmsg, fd, (long)messages, n, flags, 0, 0);
}

static inline int pica__sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags) {
    return (int)pica__kernel(SYS_sendmmsg, fd, (long)messages, n, flags, 0, 0);
}

#endif

#endif
