/*
 * System calls that return -errno instead of setting errno.
 *
 * They are functions out of line for a reason: compilers compute the address of the thread-local
 * errno once per function and keep it, also across a switch of stacks, after which a task may run
 * on another thread. A function that suspends must therefore never name errno itself; here the address
 * is computed and used within one call that never switches.
 *
 * All of them return 0 or more on success and -errno on failure. None restarts after EINTR, and
 * none closes over more than one system call unless it says so.
 */
#ifndef PICA__RUNTIME_BASE_SYS_H
#define PICA__RUNTIME_BASE_SYS_H

#include <stddef.h>
#include <sys/types.h>

struct msghdr;
struct sockaddr;
struct stat;

ssize_t pica__sys_read(int fd, void *buf, size_t n);
ssize_t pica__sys_write(int fd, const void *buf, size_t n);
ssize_t pica__sys_recvmsg(int fd, struct msghdr *msg, int flags);

/* The lengths are plain unsigned, socklen_t's type, so that this header needs no socket header. */
int pica__sys_socket(int domain, int type, int protocol);
int pica__sys_socketpair(int domain, int type, int protocol, int fds[2]);
int pica__sys_bind(int fd, const struct sockaddr *addr, unsigned len);
int pica__sys_listen(int fd, int backlog);
int pica__sys_accept4(int fd, struct sockaddr *addr, unsigned *len, int flags);
int pica__sys_connect(int fd, const struct sockaddr *addr, unsigned len);
int pica__sys_shutdown(int fd, int how);
int pica__sys_getsockopt(int fd, int level, int name, void *value, unsigned *len);
int pica__sys_setsockopt(int fd, int level, int name, const void *value, unsigned len);
int pica__sys_getsockname(int fd, struct sockaddr *addr, unsigned *len);
int pica__sys_getpeername(int fd, struct sockaddr *addr, unsigned *len);

/* The descriptor is gone whatever this returns, also on EINTR: never call it twice. */
int pica__sys_close(int fd);
int pica__sys_eventfd(unsigned count, int flags);
int pica__sys_fcntl(int fd, int command, long arg);
int pica__sys_unlink(const char *path);
int pica__sys_chmod(const char *path, unsigned mode);
int pica__sys_lstat(const char *path, struct stat *st);

#endif
