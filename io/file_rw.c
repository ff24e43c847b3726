/* Reading and writing files.
 *
 * Each piece is tried at once, with RWF_NOWAIT, and goes through the ring only if it would wait
 * (docs/FILE_CHOICES.md has the measurement). Where the file system cannot tell, that is learnt once for the
 * handle, and everything goes through the ring.
 *
 * The position is the handle's own, since the ring does not move the kernel's reliably (seen on Linux 6.18:
 * not after a write that the size limit cut short). Only what has no offsets, FIFOs and most devices, is read
 * and written at the kernel's. `turn` serialises those who use either. When the file is closed they get their
 * turns one after the other and find that out.
 */
#include "io/file.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>

#include "runtime/base/sys.h"
#include "runtime/base/sys_file.h"
#include "runtime/task.h"

#define PARTS_MAX 64

enum { KIND_UNKNOWN, KIND_REGULAR, KIND_BLOCK, KIND_OTHER };

/* --- reading and writing --- */

/* What is left of a read or write; parts are changed. */
struct transfer {
    struct iovec *parts;
    int count;
    bool write;
    int64_t offset; /* -1: at the position */
};

/* n bytes are done: leaves out the parts that are, and empty ones. */
static void transfer_advance(struct transfer *t, size_t n) {
    while (t->count > 0 && n >= t->parts->iov_len) {
        n -= t->parts->iov_len;
        t->parts++;
        t->count--;
    }
    if (t->count > 0) {
        t->parts->iov_base = (char *)t->parts->iov_base + n;
        t->parts->iov_len -= n;
    }
}

/* One try without waiting: bytes, 0 at the end, an error; -EAGAIN: it must go through the ring. */
static ssize_t try_now(pica_file *file, const struct transfer *t) {
    _Atomic bool *refused = t->write ? &file->no_nowait_write : &file->no_nowait_read;
    if (atomic_load_explicit(refused, memory_order_relaxed)) {
        return -EAGAIN;
    }
    ssize_t n;
    do {
        n = t->write ? pica__sys_write_nowait(file->fd, t->parts, t->count, t->offset)
                     : pica__sys_read_nowait(file->fd, t->parts, t->count, t->offset);
    } while (n == -EINTR);
    if (n == -EOPNOTSUPP) {
        atomic_store_explicit(refused, true, memory_order_relaxed);
        n = -EAGAIN;
    }
    return n;
}

static ssize_t through_ring(pica_file *file, pica_task *task, const struct transfer *t) {
    size_t size = t->parts->iov_len;
    pica__op_file op = {.buffer = t->parts->iov_base,
                        .size = size < PICA__OP_SIZE_MAX ? size : PICA__OP_SIZE_MAX,
                        .offset = t->offset};
    enum pica__op_kind kind = t->write ? PICA__OP_WRITE : PICA__OP_READ;
    if (t->count > 1) {
        kind = t->write ? PICA__OP_WRITEV : PICA__OP_READV;
        op.buffer = t->parts;
        op.size = (size_t)t->count;
    }
    pica__op_init(&op.op, kind, file->fd, NULL);
    return pica__file_run(file, task, &op.op);
}

/* Learns what the file is. Others than regular files and block devices are made non-blocking then. */
static uint8_t kind_of(pica_file *file) {
    uint8_t kind = atomic_load_explicit(&file->kind, memory_order_relaxed);
    if (kind == KIND_UNKNOWN) {
        int mode = pica__sys_type(file->fd);
        kind = S_ISREG(mode) ? KIND_REGULAR : S_ISBLK(mode) ? KIND_BLOCK : KIND_OTHER;
        if (kind == KIND_OTHER && !file->nonblock) {
            int flags = pica__sys_fcntl(file->fd, F_GETFL, 0);
            (void)pica__sys_fcntl(file->fd, F_SETFL, flags | O_NONBLOCK);
        }
        atomic_store_explicit(&file->kind, kind, memory_order_relaxed);
    }
    return kind;
}

/* FIFOs and devices wait by readiness, as sockets do: a read in the ring would hold a thread of the kernel, which
 * does not always let go of it. */
static ssize_t when_ready(pica_file *file, pica_task *task, const struct transfer *t) {
    for (;;) {
        ssize_t n = t->write ? pica__sys_write(file->fd, t->parts->iov_base, t->parts->iov_len)
                             : pica__sys_read(file->fd, t->parts->iov_base, t->parts->iov_len);
        if (n == -EINTR) {
            continue;
        }
        if (n != -EAGAIN || file->nonblock) {
            return n;
        }
        pica__op poll;
        pica__op_init(&poll, PICA__OP_POLL, file->fd, NULL);
        poll.events = t->write ? POLLOUT : POLLIN;
        int rc = pica__file_run(file, task, &poll);
        if (rc < 0) {
            return rc;
        }
    }
}

static ssize_t wait_and_try(pica_file *file, pica_task *task, const struct transfer *t) {
    if (kind_of(file) != KIND_OTHER) {
        return through_ring(file, task, t);
    }
    int64_t at = t->offset < 0 ? -1 : pica__sys_lseek(file->fd, 0, SEEK_CUR); /* -ESPIPE */
    return t->offset < 0 ? when_ready(file, task, t) : at < 0 ? at : through_ring(file, task, t);
}

/* A write goes on until all is written. A read goes on if only a part was in the cache; of what is no regular
 * file one takes what there is, and the ring itself reads as much as there is of one that is. Empty transfers
 * succeed. Inside a use. */
static ssize_t transfer(pica_file *file, pica_task *task, struct transfer *t) {
    size_t total = 0;
    ssize_t n = 0;
    for (transfer_advance(t, 0); t->count > 0;) {
        n = try_now(file, t);
        bool waited = n == -EAGAIN;
        if (waited) {
            n = wait_and_try(file, task, t);
        }
        if (n <= 0) {
            break;
        }
        total += (size_t)n;
        transfer_advance(t, (size_t)n);
        if (t->offset >= 0) {
            t->offset += n;
        }
        if (t->count > 0 && !t->write &&
            (kind_of(file) != KIND_REGULAR || (waited && n < (ssize_t)PICA__OP_SIZE_MAX))) {
            break;
        }
    }
    if (total == 0) {
        return n;
    }
    if (n == PICA_ECANCELED) {
        /* It was delivered to a call that has something to return: it waits for the next one. */
        atomic_fetch_or_explicit(&task->word, PICA__TASK_CANCEL, memory_order_acq_rel);
    }
    return (ssize_t)total;
}

static ssize_t transfer_positioned(pica_file *file, struct iovec *parts, int count, int64_t offset,
                                   bool write) {
    if (offset < 0) {
        return -EINVAL;
    }
    pica_task *task;
    int rc = pica__file_call(file, &task);
    if (rc < 0) {
        return rc;
    }
    struct transfer t = {parts, count, write, offset};
    ssize_t n = transfer(file, task, &t);
    pica__file_end(file);
    return n;
}

/* A use, and the turn at the position. */
static int turn_begin(pica_file *file, pica_task **task) {
    int rc = pica__file_call(file, task);
    if (rc < 0) {
        return rc;
    }
    rc = pica_lock_acquire(&file->turn);
    if (rc == 0 && pica__file_closed(file)) {
        (void)pica_lock_release(&file->turn);
        rc = PICA_ECLOSED;
    }
    if (rc < 0) {
        pica__file_end(file);
    }
    return rc;
}

static void turn_end(pica_file *file) {
    (void)pica_lock_release(&file->turn);
    pica__file_end(file);
}

static ssize_t transfer_in_turn(pica_file *file, void *buffer, size_t size, bool write) {
    if (size > SSIZE_MAX) {
        return -EINVAL;
    }
    pica_task *task;
    int rc = turn_begin(file, &task);
    if (rc < 0) {
        return rc;
    }
    struct iovec part = {buffer, size};
    bool positioned = kind_of(file) != KIND_OTHER;
    struct transfer t = {&part, 1, write, positioned ? file->position : -1};
    ssize_t n = transfer(file, task, &t);
    if (positioned) {
        /* Who appends is then behind what was appended; others may have been there, too. */
        int64_t end = write && file->append ? pica__sys_lseek(file->fd, 0, SEEK_END) : t.offset;
        file->position = end >= 0 ? end : t.offset;
    }
    turn_end(file);
    return n;
}

ssize_t pica_file_read(pica_file *file, void *buffer, size_t size) {
    return transfer_in_turn(file, buffer, size, false);
}

ssize_t pica_file_write(pica_file *file, const void *buffer, size_t size) {
    return transfer_in_turn(file, (void *)(uintptr_t)buffer, size, true);
}

ssize_t pica_file_pread(pica_file *file, void *buffer, size_t size, int64_t offset) {
    struct iovec part = {buffer, size};
    return size > SSIZE_MAX ? -EINVAL : transfer_positioned(file, &part, 1, offset, false);
}

ssize_t pica_file_pwrite(pica_file *file, const void *buffer, size_t size, int64_t offset) {
    struct iovec part = {(void *)(uintptr_t)buffer, size};
    return size > SSIZE_MAX ? -EINVAL : transfer_positioned(file, &part, 1, offset, true);
}

static ssize_t transfer_vector(pica_file *file, const struct iovec *buffers, int count, int64_t offset,
                               bool write) {
    struct iovec parts[PARTS_MAX];
    if (count < 1 || count > PARTS_MAX || buffers == NULL) {
        return -EINVAL;
    }
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        if (buffers[i].iov_len > SSIZE_MAX - total) {
            return -EINVAL;
        }
        total += buffers[i].iov_len;
        parts[i] = buffers[i];
    }
    return transfer_positioned(file, parts, count, offset, write);
}

ssize_t pica_file_preadv(pica_file *file, const struct iovec *buffers, int count, int64_t offset) {
    return transfer_vector(file, buffers, count, offset, false);
}

ssize_t pica_file_pwritev(pica_file *file, const struct iovec *buffers, int count, int64_t offset) {
    return transfer_vector(file, buffers, count, offset, true);
}

ssize_t pica__file_pread(pica_file *file, pica_task *task, void *buffer, size_t size, int64_t offset) {
    struct iovec part = {buffer, size};
    struct transfer t = {&part, 1, false, offset};
    return transfer(file, task, &t);
}

bool pica__file_waits(pica_file *file, int64_t offset) {
    char byte;
    struct iovec part = {&byte, 1};
    struct transfer t = {&part, 1, false, offset};
    return try_now(file, &t) == -EAGAIN;
}

int64_t pica_file_seek(pica_file *file, int64_t offset, int whence) {
    if (whence != SEEK_SET && whence != SEEK_CUR && whence != SEEK_END) {
        return -EINVAL; /* SEEK_DATA and SEEK_HOLE read from the disk */
    }
    pica_task *task;
    int rc = turn_begin(file, &task);
    if (rc < 0) {
        return rc;
    }
    int64_t base = 0;
    if (kind_of(file) == KIND_OTHER || whence == SEEK_END) {
        base = pica__sys_lseek(file->fd, kind_of(file) == KIND_OTHER ? offset : 0, whence);
        offset = kind_of(file) == KIND_OTHER ? 0 : offset;
    } else if (whence == SEEK_CUR) {
        base = file->position;
    }
    int64_t at;
    if (base < 0) {
        at = base;
    } else if (__builtin_add_overflow(base, offset, &at) || at < 0) {
        at = -EINVAL;
    } else {
        file->position = at;
    }
    turn_end(file);
    return at;
}
