/*
 * System calls on files, as in sys.h: 0 or more, or -errno.
 */
#ifndef PICA__RUNTIME_BASE_SYS_FILE_H
#define PICA__RUNTIME_BASE_SYS_FILE_H

#include <stdint.h>
#include <sys/types.h>

struct iovec;

/* Without waiting for a disk (RWF_NOWAIT): -EAGAIN if that were needed, -EOPNOTSUPP where the file or the
 * system cannot tell, perhaps fewer bytes than asked for. offset -1: at the file's position. */
ssize_t pica__sys_read_nowait(int fd, const struct iovec *parts, int count, int64_t offset);
ssize_t pica__sys_write_nowait(int fd, const struct iovec *parts, int count, int64_t offset);
int64_t pica__sys_lseek(int fd, int64_t offset, int whence);
int pica__sys_ftruncate(int fd, int64_t size);
/* The bits of fd's mode that tell what it is (S_IFMT). Never asks a server. */
int pica__sys_type(int fd);
/* sendfile(2) that sends no SIGPIPE; out must be non-blocking. */
ssize_t pica__sys_sendfile(int out, int in, int64_t offset, size_t size);

#endif
