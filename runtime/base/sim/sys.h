/*
 * System calls on simulated descriptors, with the results of runtime/base/sys.h: 0 or more, or -errno. A switch
 * point each.
 */
#ifndef PICA__RUNTIME_BASE_SIM_SYS_H
#define PICA__RUNTIME_BASE_SIM_SYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct iovec;
struct mmsghdr;
struct sockaddr;
struct stat;

int pica__sim_socket(int domain, int type, int protocol);
int pica__sim_socketpair(int domain, int type, int fds[2]);
int pica__sim_pipe2(int fds[2], int flags);
int pica__sim_open(const char *path, int flags);
int pica__sim_bind(int fd, const struct sockaddr *addr, unsigned len);
int pica__sim_listen(int fd, int backlog);
int pica__sim_accept4(int fd, struct sockaddr *addr, unsigned *len);
int pica__sim_connect(int fd, const struct sockaddr *addr, unsigned len);
int pica__sim_shutdown(int fd, int how);
int pica__sim_getsockopt(int fd, int level, int name, void *value, unsigned *len);
int pica__sim_setsockopt(int fd, int level, int name, const void *value, unsigned len);
int pica__sim_name_of(int fd, bool peer, struct sockaddr *addr, unsigned *len);
/* Of datagrams; as with MSG_TRUNC. */
ssize_t pica__sim_recvfrom(int fd, void *buffer, size_t size, struct sockaddr *from, unsigned *length);
ssize_t pica__sim_sendto(int fd, const void *buffer, size_t size, const struct sockaddr *to,
                         unsigned length);
int pica__sim_recvmmsg(int fd, struct mmsghdr *messages, unsigned n);
int pica__sim_sendmmsg(int fd, struct mmsghdr *messages, unsigned n);
ssize_t pica__sim_read(int fd, void *buffer, size_t size);
ssize_t pica__sim_writev(int fd, const struct iovec *parts, int count);
ssize_t pica__sim_preadv(int fd, const struct iovec *parts, int count, int64_t offset);
ssize_t pica__sim_pwritev(int fd, const struct iovec *parts, int count, int64_t offset);
ssize_t pica__sim_sendfile(int out, int in, int64_t offset, size_t size);
int64_t pica__sim_lseek(int fd, int64_t offset, int whence);
int pica__sim_ftruncate(int fd, int64_t size);
int pica__sim_type(int fd);
int pica__sim_fcntl(int fd, int command, long arg);
int pica__sim_close(int fd);
int pica__sim_lstat(const char *path, struct stat *st);
int pica__sim_unlink(const char *path);
int pica__sim_chmod(const char *path);

#endif
