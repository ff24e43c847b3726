/*
 * The reading half of a stream.
 *
 * Bytes come from the socket in one of three ways: straight into the caller's memory; through the
 * worker's scratch buffer, of which only what came is copied; or into the free end of the reader's
 * buffer, if that is large already because much comes. The reader's buffer exists only while it
 * holds bytes: it is freed (or shrunk) before the task waits, so an idle connection has none. Until
 * then the consumed bytes stay in place, which is why a view stays valid until the next read.
 *
 * One task may read at a time: the socket's READING bit decides that, and everything below it is owned by
 * the task that set it. With the bit comes a use of the socket, so the descriptor stays while it reads or
 * waits. There is no lock.
 *
 * A peer that sends as fast as it is read from never makes the task wait. So after PICA__SOCKET_TURN bytes the
 * next receive first gives the worker's turn up: the loop looks at its I/O, and all others run.
 *
 * Nothing received is ever lost: a cancellation is looked at before a receive, never after one, and
 * what a call had gathered when it failed is in the buffer, or counted in the caller's memory. An
 * error of the socket comes after the bytes that came before it, as in the kernel; so bytes that
 * are buffered can still be read after it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* memmem */
#endif
#include "io/reader.h"

#include <string.h>

#include <pica/task.h>

#include "io/socket.h"
#include "io/stream.h"
#include "io/writer.h"
#include "runtime/base/alloc.h"
#include "runtime/base/compiler.h"
#include "runtime/worker.h"

/* Free room in the buffer from which receiving into it beats the way over the scratch buffer. */
#define DIRECT_ROOM ((size_t)16 * 1024)
/* Reads into memory smaller than this take what else has come along, to save receives. */
#define READ_AHEAD ((size_t)1024)
#define BUFFER_MIN ((size_t)PICA__BLOCK_SIZE)
/* A buffer above this that is mostly empty is shrunk before a wait. */
#define BUFFER_KEEP ((size_t)4096)

void pica__reader_init(struct pica_reader *reader, size_t limit) {
    memset(reader, 0, sizeof *reader);
    reader->limit = limit;
}

static void buffer_free(struct pica_reader *reader) {
    if (PICA__LIKELY(reader->capacity == BUFFER_MIN)) {
        pica__block_put(reader->buffer);
    } else if (reader->capacity != 0) {
        pica__free(reader->buffer, reader->capacity);
    }
}

void pica__reader_destroy(struct pica_reader *reader) {
    buffer_free(reader);
}

void pica__reader_release(struct pica_reader *reader) {
    struct pica__stream *stream = pica__stream_of_reader(reader);
    if (pica__socket_read_release(stream->socket)) {
        pica__stream_unref(stream);
    }
}

static inline void leave(struct pica_reader *reader) {
    struct pica__stream *stream = pica__stream_of_reader(reader);
    if (PICA__UNLIKELY(pica__socket_read_end(stream->socket))) {
        pica__stream_unref(stream);
    }
}

/* Begins every call that may receive: claims the reader, and delivers a pending cancellation before
 * anything is taken. */
static PICA__EACH int enter(struct pica_reader *reader) {
    struct pica__stream *stream = pica__stream_of_reader(reader);
    int rc = pica__socket_read_begin(stream->socket);
    if (rc < 0) {
        return rc;
    }
    rc = pica_checkpoint();
    if (PICA__LIKELY(rc == 0) && PICA__UNLIKELY(pica__writer_closing(&stream->writer))) {
        rc = PICA_ECLOSED;
    }
    if (PICA__UNLIKELY(rc < 0)) {
        leave(reader);
    }
    return rc;
}

/* --- the buffer ----------------------------------------------------------------------------- */

static size_t buffered(const struct pica_reader *reader) {
    return reader->end - reader->begin;
}

/* Never NULL, so that a view of nothing is a string too. */
static const char *front(const struct pica_reader *reader) {
    return reader->buffer == NULL ? "" : reader->buffer + reader->begin;
}

/* Takes size bytes, which are buffered, from the front; they stay in place until the next receive. */
static const char *take(struct pica_reader *reader, size_t size) {
    const char *at = front(reader);
    reader->begin += size;
    return at;
}

/* Moves what is buffered into a new buffer, 0: none at all. */
static PICA__NOINLINE int resize(struct pica_reader *reader, size_t capacity) {
    size_t size = buffered(reader);
    char *to = NULL;
    if (capacity != 0) {
        to = capacity == BUFFER_MIN ? pica__block_get() : pica__alloc(capacity);
        if (to == NULL) {
            return -ENOMEM;
        }
        if (size != 0) {
            memcpy(to, reader->buffer + reader->begin, size);
        }
    }
    buffer_free(reader);
    reader->buffer = to;
    reader->capacity = capacity;
    reader->begin = 0;
    reader->end = size;
    return 0;
}

static int append(struct pica_reader *reader, const char *data, size_t size) {
    size_t have = buffered(reader);
    if (have == 0) {
        reader->begin = reader->end = 0;
    }
    if (reader->capacity - reader->end < size) {
        /* Moving pays only if what was consumed is more than what is moved. */
        if (reader->begin >= have && have + size <= reader->capacity) {
            memmove(reader->buffer, reader->buffer + reader->begin, have);
            reader->begin = 0;
            reader->end = have;
        } else {
            size_t capacity = have + size;
            if (have != 0 && capacity < 2 * reader->capacity) {
                capacity = 2 * reader->capacity;
            }
            int rc = resize(reader, capacity < BUFFER_MIN ? BUFFER_MIN : capacity);
            if (rc < 0) {
                return rc;
            }
        }
    }
    memcpy(reader->buffer + reader->end, data, size);
    reader->end += size;
    return 0;
}

/* As append, for bytes that exist nowhere else any more: without memory the stream is broken. */
static int keep(struct pica_reader *reader, const char *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    int rc = append(reader, data, size);
    if (rc < 0) {
        reader->error = rc;
    }
    return rc;
}

/* Before the task waits: a connection on which nothing comes should hold little memory. */
static PICA__EACH void settle(struct pica_reader *reader) {
    size_t size = buffered(reader);
    if (PICA__LIKELY(size == 0)) {
        buffer_free(reader);
        reader->buffer = NULL;
        reader->capacity = 0;
        reader->begin = reader->end = 0;
    } else if (reader->capacity > BUFFER_KEEP && size < reader->capacity / 4) {
        (void)resize(reader, size < BUFFER_MIN ? BUFFER_MIN : size);
    }
}

/* --- receiving ------------------------------------------------------------------------------ */

/* Others have theirs meanwhile. As receive_begin: the reader's own state is the caller's, and stays as it is. */
static PICA__NOINLINE int next_turn(struct pica_reader *reader) {
    reader->turn = 0;
    settle(reader);
    int rc = pica__yield_turn();
    if (rc == 0 && pica__writer_closing(&pica__stream_of_reader(reader)->writer)) {
        rc = PICA_ECLOSED;
    }
    return rc < 0 ? rc : 1;
}

/* What is looked at before each receive: 1 go on, 0 the stream has ended, negative. That the writer was not
 * closed was seen when the turn began, and is seen again after each suspension. */
static int receive_begin(struct pica_reader *reader) {
    if (PICA__UNLIKELY(reader->error != 0 || reader->eof)) {
        return reader->error;
    }
    return PICA__LIKELY(reader->turn < PICA__SOCKET_TURN) ? 1 : next_turn(reader);
}

/* Before a receive that would find nothing: waits until one is worth it. 0 or negative. */
static PICA__NOINLINE int wait_for_more(struct pica_reader *reader) {
    struct pica__stream *stream = pica__stream_of_reader(reader);
    settle(reader);
    int rc = pica__socket_wait_begun(stream->socket);
    reader->turn = 0;
    return rc == 0 && pica__writer_closing(&stream->writer) ? PICA_ECLOSED : rc;
}

/* What became of a receive: bytes, 0 for the end, negative; or -EAGAIN: it is to be tried again,
 * after a wait if there was nothing. */
static PICA__NOINLINE ssize_t receive_end(struct pica_reader *reader, ssize_t got) {
    struct pica__stream *stream = pica__stream_of_reader(reader);
    if (got > 0) {
        reader->turn += (size_t)got;
        return got;
    }
    switch (got) {
    case 0:
        /* Closing shuts the socket down for reading, which looks like an end. */
        if (pica__writer_closing(&stream->writer)) {
            return PICA_ECLOSED;
        }
        /* So does the writer's loss of the connection. */
        reader->error = pica__writer_error(&stream->writer);
        reader->eof = reader->error == 0;
        return reader->error;
    case -EAGAIN: {
        int rc = wait_for_more(reader);
        return rc < 0 ? rc : -EAGAIN;
    }
    case PICA_ECLOSED:
    case -ENOMEM:
    case -ENOBUFS:
        return got;
    default:
        reader->error = (int)got;
        pica__writer_lost(&stream->writer, (int)got);
        return got;
    }
}

/* Receives up to size bytes into the caller's memory. Bytes, 0 for the end, negative. */
static ssize_t receive_into(struct pica_reader *reader, char *to, size_t size) {
    pica_socket *socket = pica__stream_of_reader(reader)->socket;
    size = size < PICA__SOCKET_TURN ? size : PICA__SOCKET_TURN;
    for (;;) {
        ssize_t n = receive_begin(reader);
        if (n <= 0) {
            return n;
        }
        n = receive_end(reader, pica__socket_recv_begun(socket, to, size));
        if (n != -EAGAIN) {
            return n;
        }
    }
}

/* The same for small sizes: what else has come is buffered, which must be empty before. */
static ssize_t receive_ahead(struct pica_reader *reader, char *to, size_t size) {
    pica_socket *socket = pica__stream_of_reader(reader)->socket;
    for (;;) {
        ssize_t n = receive_begin(reader);
        if (n <= 0) {
            return n;
        }
        /* Asked for anew after each suspension: the task may be on another worker. */
        size_t room;
        char *scratch = pica__scratch(&room);
        if (scratch == NULL) {
            return -ENOMEM;
        }
        ssize_t got = pica__socket_recv_begun(socket, scratch, room);
        int rc = 0;
        if (got > 0) {
            size_t first = (size_t)got < size ? (size_t)got : size;
            memcpy(to, scratch, first);
            rc = keep(reader, scratch + first, (size_t)got - first);
            reader->turn += (size_t)got;
            got = (ssize_t)first;
        }
        pica__scratch_done(scratch); /* the wait in receive_end lets others have it */
        if (got > 0) {
            return rc < 0 ? rc : got;
        }
        n = receive_end(reader, got);
        if (n != -EAGAIN) {
            return n;
        }
    }
}

/* The first receive into an empty buffer: a small block will mostly do, and needs no copy. */
static PICA__HOT ssize_t receive_first(struct pica_reader *reader, pica_socket *socket) {
    if (PICA__LIKELY(reader->capacity == 0)) {
        reader->buffer = pica__block_get();
        if (PICA__UNLIKELY(reader->buffer == NULL)) {
            return -ENOMEM;
        }
        reader->capacity = BUFFER_MIN;
    }
    reader->begin = reader->end = 0;
    size_t room = reader->capacity < PICA__SOCKET_TURN ? reader->capacity : PICA__SOCKET_TURN;
    ssize_t n = pica__socket_recv_begun(socket, reader->buffer, room);
    reader->bulk = n == (ssize_t)room;
    reader->end = n > 0 ? (size_t)n : 0;
    return n;
}

/* The same behind bytes that are there, or when more than a block comes at a time. */
static PICA__NOINLINE ssize_t receive_more(struct pica_reader *reader, pica_socket *socket) {
    if (buffered(reader) == 0) {
        reader->begin = reader->end = 0;
    }
    size_t room = reader->capacity - reader->end;
    if (room >= DIRECT_ROOM) {
        room = room < PICA__SOCKET_TURN ? room : PICA__SOCKET_TURN;
        ssize_t n = pica__socket_recv_begun(socket, reader->buffer + reader->end, room);
        reader->end += n > 0 ? (size_t)n : 0;
        return n;
    }
    char *scratch = pica__scratch(&room);
    if (scratch == NULL) {
        return -ENOMEM;
    }
    ssize_t n = pica__socket_recv_begun(socket, scratch, room);
    reader->bulk = n > (ssize_t)BUFFER_MIN;
    int rc = n > 0 ? keep(reader, scratch, (size_t)n) : 0;
    pica__scratch_done(scratch);
    return rc < 0 ? rc : n;
}

static bool is_first(const struct pica_reader *reader) {
    return buffered(reader) == 0 && !reader->bulk;
}

/* The worker's part of receive_awaited. */
static PICA__EACH int receive_ahead_of_task(void *arg) {
    struct pica_reader *reader = arg;
    return (int)receive_first(reader, pica__stream_of_reader(reader)->socket); /* at most PICA__SOCKET_TURN */
}

/* Waits, since a receive would find nothing, and receives into the empty buffer. As receive_first; or the wait failed:
 * false, and *n says how. */
static PICA__INLINE bool receive_awaited(struct pica_reader *reader, ssize_t *n) {
    struct pica__stream *stream = pica__stream_of_reader(reader);
    bool received;
    settle(reader);
    *n = pica__socket_wait_ahead(stream->socket, receive_ahead_of_task, reader, &received);
    reader->turn = 0;
    if (*n >= 0 && PICA__UNLIKELY(pica__writer_closing(&stream->writer))) {
        *n = PICA_ECLOSED;
        return false;
    }
    return received;
}

/* Receives into the buffer, behind what is there. Bytes, 0 for the end, negative. In line for fiber_switch.h's reason. */
static PICA__INLINE ssize_t fill_here(struct pica_reader *reader) {
    pica_socket *socket = pica__stream_of_reader(reader)->socket;
    for (;;) {
        ssize_t n = receive_begin(reader);
        if (PICA__UNLIKELY(n <= 0)) {
            return n;
        }
        bool wait = !pica__socket_may_recv(socket);
        if (PICA__LIKELY(wait && is_first(reader))) {
            if (PICA__UNLIKELY(!receive_awaited(reader, &n))) {
                return n;
            }
        } else {
            int rc = wait ? wait_for_more(reader) : 0;
            if (rc < 0) {
                return rc;
            }
            n = is_first(reader) ? receive_first(reader, socket) : receive_more(reader, socket);
        }
        if (PICA__LIKELY(n > 0)) {
            reader->turn += (size_t)n;
            return n;
        }
        n = receive_end(reader, n);
        if (n != -EAGAIN) {
            return n;
        }
    }
}

static PICA__NOINLINE ssize_t fill(struct pica_reader *reader) {
    return fill_here(reader);
}

/* --- reads ---------------------------------------------------------------------------------- */

/* 1 to size bytes, buffered ones first. */
static ssize_t read_some(struct pica_reader *reader, char *to, size_t size) {
    size_t have = buffered(reader);
    if (have != 0) {
        size_t n = have < size ? have : size;
        memcpy(to, take(reader, n), n);
        return (ssize_t)n;
    }
    return size < READ_AHEAD ? receive_ahead(reader, to, size) : receive_into(reader, to, size);
}

PICA__EACH ssize_t pica_reader_read(pica_reader *reader, void *buffer, size_t size) {
    int rc = enter(reader);
    if (rc < 0) {
        return rc;
    }
    ssize_t n = size == 0 ? 0 : read_some(reader, buffer, size);
    leave(reader);
    return n;
}

PICA__HOT int pica_reader_readexactly(pica_reader *reader, void *buffer, size_t size, size_t *got) {
    if (got != NULL) {
        *got = 0;
    }
    int rc = enter(reader);
    if (rc < 0) {
        return rc;
    }
    size_t have = 0;
    while (have < size) {
        ssize_t n = read_some(reader, (char *)buffer + have, size - have);
        if (n <= 0) {
            rc = n == 0 ? PICA_EINCOMPLETE : (int)n;
            break;
        }
        have += (size_t)n;
    }
    if (got != NULL) {
        *got = have;
    } else if (rc == PICA_ECANCELED && have != 0) {
        /* The caller cannot know how much it has: put it back, where the next read finds it. The
         * buffer is empty, or the call would not have had to wait. */
        int kept = keep(reader, buffer, have);
        rc = kept < 0 ? kept : rc;
    }
    leave(reader);
    return rc;
}

static const char *find(const char *in, size_t size, const char *separator, size_t length) {
    return length == 1 ? memchr(in, *separator, size) : memmem(in, size, separator, length);
}

/*
 * Receives until the separator is buffered. Returns the length up to and including it;
 * PICA_EINCOMPLETE at the end of the stream; -EMSGSIZE if more than limit bytes come before it,
 * of which *safe hold no part of one. No byte is searched twice, except for a separator that may
 * have been cut in two.
 */
static ssize_t find_separator(struct pica_reader *reader, const char *separator, size_t length,
                              size_t *safe) {
    size_t searched = 0;
    for (;;) {
        size_t have = buffered(reader);
        if (have - searched >= length) {
            const char *from = front(reader);
            const char *at = find(from + searched, have - searched, separator, length);
            searched = at != NULL ? (size_t)(at - from) : have + 1 - length;
            if (searched > reader->limit) {
                *safe = searched;
                return -EMSGSIZE;
            }
            if (at != NULL) {
                return (ssize_t)(searched + length);
            }
        }
        ssize_t n = fill(reader);
        if (n <= 0) {
            return n == 0 ? PICA_EINCOMPLETE : n;
        }
    }
}

PICA__HOT ssize_t pica_reader_readuntil(pica_reader *reader, const void *separator, size_t length,
                                        const char **data, size_t *size) {
    if (separator == NULL || length == 0 || data == NULL) {
        return -EINVAL;
    }
    *data = NULL;
    if (size != NULL) {
        *size = 0;
    }
    int rc = enter(reader);
    if (rc < 0) {
        return rc;
    }
    size_t count = 0;
    ssize_t n = find_separator(reader, separator, length, &count);
    if (n > 0) {
        count = (size_t)n;
        *data = take(reader, count);
    } else if (n == PICA_EINCOMPLETE) {
        count = buffered(reader);
        *data = take(reader, count);
    }
    if (size != NULL) {
        *size = count;
    }
    leave(reader);
    return n;
}

PICA__HOT ssize_t pica_reader_readline(pica_reader *reader, const char **line) {
    if (line == NULL) {
        return -EINVAL;
    }
    *line = NULL;
    int rc = enter(reader);
    if (rc < 0) {
        return rc;
    }
    size_t safe = 0;
    ssize_t n = find_separator(reader, "\n", 1, &safe);
    if (n == PICA_EINCOMPLETE) {
        n = (ssize_t)buffered(reader);
    }
    if (n >= 0) {
        *line = take(reader, (size_t)n);
    } else if (n == -EMSGSIZE) {
        /* If the end of the line is buffered, reading goes on behind it. */
        size_t have = buffered(reader);
        bool whole = safe < have && front(reader)[safe] == '\n';
        (void)take(reader, whole ? safe + 1 : have);
    }
    leave(reader);
    return n;
}

static ssize_t view(struct pica_reader *reader, const char **data) {
    *data = front(reader);
    return (ssize_t)buffered(reader);
}

PICA__EACH ssize_t pica_reader_peek(pica_reader *reader, const char **data) {
    if (PICA__UNLIKELY(data == NULL)) {
        return -EINVAL;
    }
    int rc = enter(reader);
    if (PICA__UNLIKELY(rc < 0)) {
        return rc;
    }
    ssize_t n = PICA__UNLIKELY(buffered(reader) != 0) ? 1 : fill_here(reader);
    n = PICA__UNLIKELY(n < 0) ? n : view(reader, data);
    leave(reader);
    return n;
}

PICA__HOT ssize_t pica_reader_more(pica_reader *reader, const char **data) {
    if (PICA__UNLIKELY(data == NULL)) {
        return -EINVAL;
    }
    int rc = enter(reader);
    if (PICA__UNLIKELY(rc < 0)) {
        return rc;
    }
    ssize_t n = buffered(reader) >= reader->limit ? -EMSGSIZE : fill(reader);
    n = n < 0 ? n : view(reader, data);
    leave(reader);
    return n;
}

PICA__EACH int pica_reader_consume(pica_reader *reader, size_t size) {
    if (PICA__UNLIKELY(pica__socket_reading(pica__stream_of_reader(reader)->socket))) {
        return -EBUSY;
    }
    if (PICA__UNLIKELY(size > buffered(reader))) {
        return -EINVAL;
    }
    (void)take(reader, size);
    return 0;
}

int pica_reader_at_eof(const pica_reader *reader) {
    return reader->eof && buffered(reader) == 0;
}

size_t pica_reader_buffered(const pica_reader *reader) {
    return buffered(reader);
}
