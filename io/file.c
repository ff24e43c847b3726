/* Files: the handle, its uses, and the operations on it that are no reads and writes.
 *
 * Everything here goes through the ring, where the kernel does at once what it can, and the rest on threads
 * of its own. Reads and writes stand in file_rw.c.
 *
 * The handle. `uses` counts the calls that are under way. `closed` lets no more begin, and asks what is in
 * the ring to end (a read of a FIFO may wait for ever otherwise; a read of a disk just goes on). The
 * descriptor is closed when the handle is closed and has no uses: by the task in pica_file_close, which
 * waits for that, or else by the last use, or by pica_file_release. The memory goes when the descriptor is
 * closed and the user has given the handle back; the two differ only for files that the runtime closes at
 * its end.
 *
 * Lock order: the lock is a leaf, but that an operation may be asked to end under it, which sends a message
 * to its loop. It is taken under the lock of a loop's closers (pin).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "io/file.h"

#include <linux/openat2.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "io/operation.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_file.h"
#include "runtime/rt.h"
#include "runtime/task.h"

#define OPEN_TRIES 16
#define OPEN_ALWAYS (O_CLOEXEC | O_NONBLOCK)

/* An operation that is in the ring. */
struct file_op {
    pica__operation operation;
    pica__link link;
};

/* --- uses --- */

int pica__file_begin(pica_file *file) {
    pica__lock(&file->lock);
    int rc = file->closed ? PICA_ECLOSED : 0;
    file->uses += rc == 0;
    pica__unlock(&file->lock);
    return rc;
}

bool pica__file_closed(pica_file *file) {
    pica__lock(&file->lock);
    bool closed = file->closed;
    pica__unlock(&file->lock);
    return closed;
}

static void file_free(pica_file *file) {
    pica__free(file, sizeof *file);
}

/* After the descriptor was closed. */
static void file_done(pica_file *file, pica_runtime *rt) {
    pica__lock(&file->lock);
    file->done = true;
    bool released = file->released;
    pica__unlock(&file->lock);
    if (released) {
        file_free(file);
    }
    pica__socket_gone(rt);
}

/* By whoever found that the file is closed, without uses, and that nobody waits to close it. */
static void file_finish(pica_file *file) {
    pica_runtime *rt = file->home->rt;
    bool visiting = pica__visit(rt); /* it counts the file, and so has not ended */
    pica__closer_remove(file->home, &file->closer);
    (void)pica__sys_close(file->fd);
    file_done(file, rt);
    pica__visit_end(rt, visiting);
}

void pica__file_end(pica_file *file) {
    pica__lock(&file->lock);
    PICA__CHECK(file->uses != 0);
    bool last = --file->uses == 0 && file->closed;
    bool awaited = file->awaited;
    pica__wait *waiter = last ? file->closer_wait : NULL;
    pica__unlock(&file->lock);
    if (waiter != NULL) {
        pica__wait_fire(waiter, 0);
    } else if (last && !awaited) {
        file_finish(file);
    }
}

/* Under the lock: no call may begin, and those that wait in the ring are asked to end. */
static void file_shut(pica_file *file) {
    file->closed = true;
    for (pica__link *l = file->running.next; l != &file->running; l = l->next) {
        pica__operation_abort(&PICA__CONTAINER_OF(l, struct file_op, link)->operation);
    }
}

/* --- making, and the end of the runtime --- */

static void closer_pin(pica__closer *closer) {
    pica_file *file = PICA__CONTAINER_OF(closer, pica_file, closer);
    pica__lock(&file->lock);
    file->uses++;
    pica__unlock(&file->lock);
}

static void closer_close(pica__closer *closer) {
    pica_file *file = PICA__CONTAINER_OF(closer, pica_file, closer);
    pica__lock(&file->lock);
    file_shut(file);
    pica__unlock(&file->lock);
    pica__file_end(file);
}

static pica_file *file_new(pica_loop *home) {
    pica_file *file = pica__zalloc(sizeof *file);
    if (file != NULL) {
        pica__lock_init(&file->lock);
        pica__list_init(&file->running);
        pica_lock_init(&file->turn);
        file->home = home;
        file->closer.pin = closer_pin;
        file->closer.close = closer_close;
    }
    return file;
}

/* --- operations --- */

int pica__file_run(pica_file *file, pica_task *task, pica__op *op) {
    struct file_op o;
    int rc;
    do {
        pica__operation_init(&o.operation, task, op);
        pica__list_init(&o.link);
        pica__lock(&file->lock);
        bool closed = file->closed;
        if (!closed) {
            pica__list_push_back(&file->running, &o.link);
        }
        pica__unlock(&file->lock);
        if (closed) {
            return PICA_ECLOSED;
        }
        rc = pica__operation_wait(&o.operation);
        pica__lock(&file->lock);
        pica__list_remove(&o.link);
        pica__unlock(&file->lock);
    } while (rc == -EINTR);
    return rc;
}

int pica__file_call(pica_file *file, pica_task **task) {
    int rc = pica__operation_begin(task);
    return rc < 0 ? rc : pica__file_begin(file);
}

static int call_run(pica_file *file, pica__op_file *op) {
    pica_task *task;
    int rc = pica__file_call(file, &task);
    if (rc == 0) {
        op->op.fd = file->fd;
        rc = pica__file_run(file, task, &op->op);
        pica__file_end(file);
    }
    return rc;
}

static int path_run(pica_task *task, pica__op *op) {
    int rc;
    do {
        rc = pica__operation_run(task, op);
    } while (rc == -EINTR);
    return rc;
}

/* --- opening --- */

/* Opens of FIFOs may wait for ever, or not, depending on what the kernel has cached of the path. So all files
 * are opened without waiting, which is given back afterwards if it was not wanted (flags). */
static int open_op(pica_file **out, pica_task *task, pica_file *directory, pica__op_file *op,
                   int flags) {
    pica_file *file = file_new(task->loop);
    if (file == NULL) {
        return -ENOMEM;
    }
    int fd = directory != NULL ? pica__file_run(directory, task, &op->op) : path_run(task, &op->op);
    if (fd < 0) {
        file_free(file);
        return fd;
    }
    file->fd = fd;
    file->append = (flags & O_APPEND) != 0;
    file->nonblock = (flags & O_NONBLOCK) != 0;
    if ((flags & (O_NONBLOCK | O_PATH)) == 0) {
        /* Of the flags given to open these are the ones that can be set, and stay. */
        (void)pica__sys_fcntl(fd, F_SETFL, flags & (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME));
    }
    pica_runtime *rt = file->home->rt;
    atomic_fetch_add_explicit(&rt->sockets, 1, memory_order_relaxed);
    pica__closer_add(file->home, &file->closer);
    *out = file;
    return 0;
}

int pica_file_open(pica_file **out, const char *path, int flags, unsigned mode) {
    if (out == NULL || path == NULL) {
        return -EINVAL;
    }
    pica_task *task;
    int rc = pica__operation_begin(&task);
    if (rc < 0) {
        return rc;
    }
    pica__op_file op = {.path = path, .flags = flags | OPEN_ALWAYS, .mode = mode};
    pica__op_init(&op.op, PICA__OP_OPEN, AT_FDCWD, NULL);
    return open_op(out, task, NULL, &op, flags);
}

int pica_file_open_beneath(pica_file **out, pica_file *directory, const char *path, int flags,
                           unsigned mode) {
    if (out == NULL || path == NULL || directory == NULL) {
        return -EINVAL;
    }
    pica_task *task;
    int rc = pica__file_call(directory, &task);
    if (rc < 0) {
        return rc;
    }
    bool makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | ((flags & O_PATH) != 0 ? O_CLOEXEC : OPEN_ALWAYS)),
                           .mode = makes ? mode & 07777 : 0, /* it must be 0 else */
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    pica__op_file op = {.path = path, .buffer = &how};
    pica__op_init(&op.op, PICA__OP_OPEN2, directory->fd, NULL);
    /* EAGAIN: a rename or mount elsewhere made the kernel unsure, try again: openat2(2). */
    rc = -EAGAIN;
    for (int i = 0; i < OPEN_TRIES && rc == -EAGAIN; i++) {
        rc = open_op(out, task, directory, &op, flags);
    }
    pica__file_end(directory);
    return rc;
}

/* --- the rest --- */

int pica_file_fsync(pica_file *file, int data_only) {
    pica__op_file op = {.flags = data_only};
    pica__op_init(&op.op, PICA__OP_FSYNC, -1, NULL);
    return call_run(file, &op);
}

int pica_file_truncate(pica_file *file, int64_t size) {
    pica_task *task;
    int rc = pica__file_call(file, &task);
    if (rc < 0) {
        return rc;
    }
    pica__op_file op = {.offset = size};
    pica__op_init(&op.op, PICA__OP_TRUNCATE, file->fd, NULL);
    rc = size < 0 ? -EINVAL : pica__file_run(file, task, &op.op);
    if (rc == -EINVAL && size >= 0) {
        rc = pica__sys_ftruncate(file->fd, size); /* before Linux 6.9, or the true reason */
    }
    pica__file_end(file);
    return rc;
}

static void stat_from(struct stat *st, const struct statx *x) {
    memset(st, 0, sizeof *st);
    st->st_dev = makedev(x->stx_dev_major, x->stx_dev_minor);
    st->st_ino = x->stx_ino;
    st->st_mode = x->stx_mode;
    st->st_nlink = x->stx_nlink;
    st->st_uid = x->stx_uid;
    st->st_gid = x->stx_gid;
    st->st_rdev = makedev(x->stx_rdev_major, x->stx_rdev_minor);
    st->st_size = (off_t)x->stx_size;
    st->st_blksize = (blksize_t)x->stx_blksize;
    st->st_blocks = (blkcnt_t)x->stx_blocks;
    st->st_atim = (struct timespec){x->stx_atime.tv_sec, x->stx_atime.tv_nsec};
    st->st_mtim = (struct timespec){x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec};
    st->st_ctim = (struct timespec){x->stx_ctime.tv_sec, x->stx_ctime.tv_nsec};
}

int pica_file_stat(pica_file *file, struct stat *st) {
    struct statx x;
    pica__op_file op = {.path = "", .flags = AT_EMPTY_PATH, .buffer = &x};
    pica__op_init(&op.op, PICA__OP_STAT, -1, NULL);
    int rc = st == NULL ? -EINVAL : call_run(file, &op);
    if (rc == 0) {
        stat_from(st, &x);
    }
    return rc;
}

static int stat_path(const char *path, struct stat *st, int flags) {
    if (path == NULL || st == NULL) {
        return -EINVAL;
    }
    pica_task *task;
    int rc = pica__operation_begin(&task);
    if (rc < 0) {
        return rc;
    }
    struct statx x;
    pica__op_file op = {.path = path, .flags = flags, .buffer = &x};
    pica__op_init(&op.op, PICA__OP_STAT, AT_FDCWD, NULL);
    rc = path_run(task, &op.op);
    if (rc == 0) {
        stat_from(st, &x);
    }
    return rc;
}

int pica_stat(const char *path, struct stat *st) {
    return stat_path(path, st, 0);
}

int pica_lstat(const char *path, struct stat *st) {
    return stat_path(path, st, AT_SYMLINK_NOFOLLOW);
}

/* --- closing --- */

struct closing {
    pica__wait wait;
    pica_file *file;
};

/* What is under way ends soon; the handle cannot be left half closed. */
static bool closing_cancel(pica__wait *wait) {
    (void)wait;
    return false;
}

static const struct pica__wait_ops closing_ops = {"file close", closing_cancel};

static bool closing_commit(pica__wait *wait) {
    pica_file *file = PICA__CONTAINER_OF(wait, struct closing, wait)->file;
    pica__lock(&file->lock);
    bool waits = file->uses != 0;
    if (waits) {
        pica__wait_publish_uncancellable(wait);
        file->closer_wait = wait;
    }
    pica__unlock(&file->lock);
    return waits;
}

/* The user's handle is given back. False if the descriptor is the caller's to close; true if that is done, or
 * somebody else will: then the file may be gone. */
static bool give_back(pica_file *file, bool awaited, bool *finish) {
    pica__lock(&file->lock);
    PICA__CHECK(!file->released);
    file->released = true;
    bool closed = file->closed;
    bool done = file->done;
    if (!closed) {
        file->awaited = awaited;
        file_shut(file);
        *finish = file->uses == 0;
    }
    pica__unlock(&file->lock);
    if (done) {
        file_free(file);
    }
    return closed;
}

int pica_file_close(pica_file *file) {
    if (file == NULL) {
        return 0;
    }
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    bool unused = false;
    if (give_back(file, true, &unused)) {
        return PICA_ECLOSED; /* the runtime was first */
    }
    if (!unused) {
        struct closing c = {.wait = {&closing_ops, task, NULL, 0}, .file = file};
        (void)pica__suspend(&c.wait, closing_commit);
    }
    pica_runtime *rt = file->home->rt;
    pica__closer_remove(file->home, &file->closer);
    pica__op_file op = {.flags = 0};
    pica__op_init(&op.op, PICA__OP_CLOSE, file->fd, NULL);
    pica__operation operation;
    pica__operation_init(&operation, task, &op.op);
    operation.shielded = true;
    int rc = pica__operation_wait(&operation);
    if (operation.refused) {
        rc = pica__sys_close(file->fd);
    }
    file_done(file, rt);
    return rc == -EINTR ? 0 : rc; /* closed all the same: close(2) */
}

void pica_file_release(pica_file *file) {
    bool unused = false;
    if (file != NULL && !give_back(file, false, &unused) && unused) {
        file_finish(file);
    }
}
