/* Sending files through a stream.
 *
 * The task claims its place between the writes (writer_claim.c), owns the sending side meanwhile, and gives
 * it back. It waits for room like every sender, by readiness.
 *
 * sendfile(2) reads what is not in the page cache itself, and would hold up the worker. So a piece is looked
 * at first, at both ends, without waiting; if one is missing, the next 64 KiB are read through the ring and
 * sent from a buffer, and the kernel's read-ahead mostly has what follows by then. (A hole in the middle of a
 * piece of 256 KiB is not seen, and holds the worker up for one read.) The buffer also serves files that
 * cannot be looked at, or that sendfile refuses; and errors of sendfile that may be the file's, so that it
 * is known whose they were.
 */
#include "io/file.h"

#include <fcntl.h>
#include <limits.h>

#include "io/operation.h"
#include "io/socket.h"
#include "io/stream.h"
#include "runtime/base/alloc.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_file.h"
#include "runtime/task.h"

/* So much is sent, and looked at, in one go before others get their turn: as in writer.c. */
#define TURN_BYTES ((size_t)256 * 1024)
#define BUFFER_SIZE ((size_t)64 * 1024)

struct sending {
    pica_task *task;
    struct pica_writer *writer;
    pica_socket *socket;
    pica_file *file;
    int64_t offset;   /* of the next byte */
    size_t left;
    size_t done;
    size_t turn;      /* bytes in this turn */
    size_t seen;      /* bytes from offset on that were found in the page cache */
    bool copies;      /* sendfile is of no use for this file */
    bool full;        /* the last try found no room */
    char *buffer;     /* of BUFFER_SIZE, or NULL */
};

enum { AT_END = 1 }; /* beside 0 and errors */

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static void advance(struct sending *s, size_t n) {
    s->offset += (int64_t)n;
    s->left -= n;
    s->done += n;
    s->turn += n;
    s->seen -= least(n, s->seen);
}

/* Until a try is worth it. */
static int wait_for_room(struct sending *s) {
    s->full = true;
    int rc = pica__socket_wait(s->socket, &s->socket->wr);
    s->full = rc < 0;
    s->turn = 0;
    return rc;
}

/* Others run. */
static int end_turn(struct sending *s) {
    s->turn = 0;
    pica__yield(s->task);
    return pica__cancel_take(s->task) ? PICA_ECANCELED : 0;
}

/* The connection is lost for the reason error. */
static int lost(struct sending *s, int error) {
    pica__writer_lost(s->writer, error);
    return error;
}

/* --- from the page cache --- */

/* Whether the next piece can be sent without waiting for the disk, as far as can be seen. */
static bool is_cached(struct sending *s) {
    if (s->seen == 0) {
        size_t size = least(s->left, TURN_BYTES);
        if (pica__file_waits(s->file, s->offset) ||
            pica__file_waits(s->file, s->offset + (int64_t)size - 1)) {
            return false;
        }
        s->seen = size;
    }
    return true;
}

/* One try, by the rules of the socket's sides (socket.h): -EAGAIN if there is no room. */
static ssize_t sendfile_once(struct sending *s) {
    pica__socket_side *side = &s->socket->wr;
    uint32_t seen = atomic_load_explicit(&side->state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0) {
        return -EAGAIN;
    }
    ssize_t n;
    do {
        n = pica__sys_sendfile(s->socket->fd, s->file->fd, s->offset, s->seen);
    } while (n == -EINTR);
    if (n == -EAGAIN) {
        /* Against the unlocked word: it fails, and is tried again, if an event came or is under way. */
        seen &= ~(uint32_t)PICA__SIDE_LOCKED;
        atomic_compare_exchange_strong_explicit(&side->state, &seen, seen & ~(uint32_t)PICA__SIDE_READY,
                                                memory_order_acq_rel, memory_order_relaxed);
    }
    return n;
}

/* Errors that are the file's, or may be: the way through the buffer finds out. */
static bool may_be_the_files(ssize_t error) {
    return error == -EINVAL || error == -ENOSYS || error == -EOPNOTSUPP || error == -EIO ||
           error == -EISDIR || error == -EBADF || error == -EACCES || error == -EPERM ||
           error == -EOVERFLOW || error == -ESPIPE || error == -ENOMEM;
}

static int send_cached(struct sending *s) {
    ssize_t n = sendfile_once(s);
    if (n > 0) {
        advance(s, (size_t)n);
        return 0;
    }
    if (n == -EAGAIN) {
        return wait_for_room(s);
    }
    if (n < 0 && may_be_the_files(n)) {
        s->copies = true;
        return 0;
    }
    return n == 0 ? AT_END : lost(s, (int)n);
}

/* --- through a buffer --- */

static int send_buffer(struct sending *s, size_t size) {
    size_t sent = 0;
    int rc = 0;
    while (rc == 0 && sent < size) {
        struct iovec part = {s->buffer + sent, size - sent};
        ssize_t n = pica__socket_sendv_begun(s->socket, &part, 1);
        if (n > 0) {
            sent += (size_t)n;
            advance(s, (size_t)n);
        } else if (n == -EAGAIN || n == 0) {
            rc = wait_for_room(s);
            rc = rc == 0 ? pica__writer_error(s->writer) : rc;
        } else {
            rc = lost(s, (int)n);
        }
    }
    return rc;
}

static int send_copied(struct sending *s) {
    if (s->buffer == NULL && (s->buffer = pica__alloc(BUFFER_SIZE)) == NULL) {
        return -ENOMEM;
    }
    ssize_t n = pica__file_pread(s->file, s->task, s->buffer, least(s->left, BUFFER_SIZE), s->offset);
    return n > 0 ? send_buffer(s, (size_t)n) : n == 0 ? AT_END : (int)n;
}

/* --- the call --- */

static int send_all(struct sending *s) {
    int rc = 0;
    while (rc == 0 && s->left > 0) {
        rc = pica__writer_error(s->writer);
        if (rc == 0 && pica__file_closed(s->file)) {
            rc = PICA_ECLOSED;
        }
        if (rc == 0 && s->turn >= TURN_BYTES) {
            rc = end_turn(s);
        } else if (rc == 0) {
            rc = !s->copies && is_cached(s) ? send_cached(s) : send_copied(s);
        }
    }
    return rc == AT_END ? 0 : rc;
}

/* sendfile has no flag for one call, so the socket itself must be non-blocking. Accepted ones are. */
static int make_nonblocking(pica_socket *socket) {
    int flags = pica__sys_fcntl(socket->fd, F_GETFL, 0);
    if (flags < 0 || (flags & O_NONBLOCK) != 0) {
        return flags < 0 ? flags : 0;
    }
    return pica__sys_fcntl(socket->fd, F_SETFL, flags | O_NONBLOCK);
}

/* With a use of the file and a reference to the stream. */
static int send_claimed(struct sending *s) {
    int rc = pica__writer_claim(s->writer, s->task);
    if (rc < 0) {
        return rc;
    }
    rc = make_nonblocking(s->socket);
    rc = rc < 0 ? rc : send_all(s);
    pica__writer_unclaim(s->writer, s->full);
    pica__free(s->buffer, BUFFER_SIZE);
    return rc;
}

ssize_t pica_writer_sendfile(pica_writer *writer, pica_file *file, int64_t offset, size_t count,
                             size_t *sent) {
    if (sent != NULL) {
        *sent = 0;
    }
    if (writer == NULL || file == NULL || offset < 0) {
        return -EINVAL;
    }
    struct pica__stream *stream = pica__stream_of_writer(writer);
    struct sending s = {.writer = writer, .socket = stream->socket, .file = file, .offset = offset,
                        .left = least(count, (size_t)(INT64_MAX - offset))};
    int rc = pica__operation_begin(&s.task);
    rc = rc < 0 ? rc : pica__file_begin(file);
    if (rc < 0) {
        return rc;
    }
    pica__stream_ref(stream);
    rc = send_claimed(&s);
    pica__stream_unref(stream);
    pica__file_end(file);
    if (sent != NULL) {
        *sent = s.done;
    }
    return rc < 0 ? rc : (ssize_t)s.done;
}
