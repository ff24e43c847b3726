/* The operations of a pica__op_file as plain calls that wait. Where the engine is the ring, the kernel does the same
 * on threads of its own. An interrupted call is made again: nobody interrupts these threads on purpose.
 */
#include "io/file_now.h"

#include <errno.h>
#include <sys/uio.h>

#include "runtime/base/check.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_file.h"

static ssize_t transfer(const pica__op_file *file) {
    struct iovec one = {file->buffer, file->size};
    switch (file->op.kind) {
        case PICA__OP_READ:
            return pica__sys_readv_at(file->op.fd, &one, 1, file->offset);
        case PICA__OP_READV:
            return pica__sys_readv_at(file->op.fd, file->buffer, (int)file->size, file->offset);
        case PICA__OP_WRITE:
            return pica__sys_writev_at(file->op.fd, &one, 1, file->offset);
        default:
            return pica__sys_writev_at(file->op.fd, file->buffer, (int)file->size, file->offset);
    }
}

static int once(const pica__op_file *file) {
    int fd = file->op.fd;
    switch (file->op.kind) {
        case PICA__OP_OPEN:
            return pica__sys_openat(fd, file->path, file->flags, file->mode);
        case PICA__OP_OPEN2:
            return pica__sys_openat2(fd, file->path, file->buffer);
        case PICA__OP_TRUNCATE:
            return pica__sys_ftruncate(fd, file->offset);
        case PICA__OP_FSYNC:
            return pica__sys_fsync(fd, file->flags);
        case PICA__OP_STAT:
            return pica__sys_statx(fd, file->path, file->flags, file->buffer);
        case PICA__OP_CLOSE:
            return pica__sys_close(fd);
        default:
            PICA__CHECK(file->op.kind >= PICA__OP_READ && file->op.kind <= PICA__OP_WRITEV);
            return (int)transfer(file); /* at most 2 GiB */
    }
}

int pica__file_now(const pica__op_file *file) {
    int rc;
    do {
        rc = once(file);
    } while (rc == -EINTR && file->op.kind != PICA__OP_CLOSE);
    return rc;
}
