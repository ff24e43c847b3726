/*
 * System calls on files, as in sys.h: 0 or more, or -errno.
 */
#ifndef PICA__RUNTIME_BASE_SYS_FILE_H
#define PICA__RUNTIME_BASE_SYS_FILE_H

#include <stdint.h>
#include <sys/types.h>

struct iovec;
struct open_how;
struct statx;

/* Without waiting for a disk (RWF_NOWAIT): -EAGAIN if that were needed, -EOPNOTSUPP where the file or the
 * system cannot tell, perhaps fewer bytes than asked for. offset -1: at the file's position. */
ssize_t pica__sys_read_nowait(int fd, const struct iovec *parts, int count, int64_t offset);
ssize_t pica__sys_write_nowait(int fd, const struct iovec *parts, int count, int64_t offset);
/* The same, and they wait. */
ssize_t pica__sys_readv_at(int fd, const struct iovec *parts, int count, int64_t offset);
ssize_t pica__sys_writev_at(int fd, const struct iovec *parts, int count, int64_t offset);
int pica__sys_openat(int directory, const char *path, int flags, unsigned mode);
int pica__sys_openat2(int directory, const char *path, const struct open_how *how);
int pica__sys_fsync(int fd, int data_only);
int pica__sys_statx(int directory, const char *path, int flags, struct statx *st);
int64_t pica__sys_lseek(int fd, int64_t offset, int whence);
int pica__sys_ftruncate(int fd, int64_t size);
/* The bits of fd's mode that tell what it is (S_IFMT). Never asks a server. */
int pica__sys_type(int fd);
/* sendfile(2) that sends no SIGPIPE; out must be non-blocking. */
ssize_t pica__sys_sendfile(int out, int in, int64_t offset, size_t size);

#endif
