/*
 * The writing half of a stream: writing, water marks, the end. What is pending is sent by writer_flush.c.
 *
 * A write goes to the kernel at once if nothing is pending. What the kernel does not take is copied
 * into chunks: "waiting" is what was appended, "sending" is what the flush has in hand. There is at
 * most one flush: whoever sets FLUSHING owns the socket's sending side and the list "sending", and
 * works without the lock, which is therefore never held over a system call, an allocation or a
 * large copy. Writers that come meanwhile append and leave; the flush takes what they left before it
 * clears FLUSHING, under the lock, so nothing is forgotten.
 *
 * Each call's bytes lie in one piece: in one chunk, or partly sent by a flush that nobody overtakes.
 * So calls are never mixed, and calls ordered by happens-before are sent in that order.
 *
 * A task that sends by itself (sendfile.c) owns FLUSHING meanwhile. It gets there by a claim: see writer_claim.c.
 *
 * State bits, with the function that sets each; all changes are made under the lock:
 *
 *     (none) --append, uncork, drain, write_eof, close, abort, claim--> FLUSHING
 *     FLUSHING --flush_ends, next_batch: nothing left---------> (none)
 *     FLUSHING --next_batch: nothing left, EOF----------------> FLUSHING | EOF_SENT
 *     FLUSHING --next_batch: nothing left, CLOSING------------> CLOSED (FLUSHING stays set)
 *     any --pica_writer_write_eof--> | EOF
 *     any --pica_writer_close------> | CLOSING
 *     any --pica_writer_abort------> | CLOSING | ABORTED
 *     any but ABORTED --pica__writer_lost--> | LOST
 *
 * Invariant: with neither FLUSHING nor a cork, nothing is pending.
 *
 * Life. The open socket holds a reference to the pair, and the writer a use of the socket, so that no send
 * needs one of its own; finish_close, which only the owner of FLUSHING reaches, drops both. So whoever
 * owns FLUSHING may touch the writer and the descriptor, and nobody may after giving FLUSHING away (to
 * the loop, by clearing it, or by closing).
 *
 * Lock order: the lock, then the inner lock of an event (clearing `drained`). Events are set without.
 */
#include "io/writer.h"

#include <limits.h>
#include <string.h>

#include <pica/task.h>

#include "io/socket.h"
#include "io/stream.h"
#include "io/writer_flush.h"
#include "runtime/base/check.h"
#include "runtime/base/compiler.h"

#define DEFAULT_HIGH ((size_t)64 * 1024)
/* Copies up to this size are made under the lock, into the room that the last chunk has left. */
#define SMALL_COPY ((size_t)2048)
#define PARTS_MAX 64 /* that one pica__socket_sendv_begun takes */

/* Why the writer takes nothing any more, or 0. LOST makes error readable without the lock. */
static int refusal(struct pica_writer *writer, uint32_t state) {
    if (PICA__UNLIKELY((state & (PICA__WRITER_CLOSING | PICA__WRITER_EOF)) != 0)) {
        return PICA_ECLOSED;
    }
    return PICA__UNLIKELY((state & PICA__WRITER_LOST) != 0) ? writer->error : 0;
}

int pica__writer_refusal(struct pica_writer *writer) {
    return refusal(writer, pica__writer_state(writer));
}

int pica__writer_error(struct pica_writer *writer) {
    uint32_t state = pica__writer_state(writer);
    return (state & PICA__WRITER_LOST) != 0      ? writer->error
           : (state & PICA__WRITER_ABORTED) != 0 ? PICA_ECLOSED
                                                 : 0;
}

void pica__writer_init(struct pica_writer *writer) {
    memset(writer, 0, sizeof *writer);
    pica__lock_init(&writer->lock);
    atomic_init(&writer->state, 0);
    atomic_init(&writer->pending, 0);
    atomic_init(&writer->draining, 0);
    atomic_init(&writer->burst, 0);
    atomic_init(&writer->high, DEFAULT_HIGH);
    atomic_init(&writer->low, DEFAULT_HIGH / 4);
    pica_event_init(&writer->drained);
    pica_event_init(&writer->closed);
}

void pica__writer_destroy(struct pica_writer *writer) {
    PICA__CHECK(writer->waiting.first == NULL && writer->sending.first == NULL);
}

/* --- chunks --------------------------------------------------------------------------------- */

/* Appends what the parts hold behind their first `skip` bytes. There must be room. */
static void chunk_add(struct pica__chunk *chunk, const struct iovec *parts, int count,
                      size_t skip) {
    for (int i = 0; i < count; i++) {
        size_t length = parts[i].iov_len;
        if (length <= skip) {
            skip -= length;
            continue;
        }
        memcpy(chunk->data + chunk->end, (const char *)parts[i].iov_base + skip, length - skip);
        chunk->end += length - skip;
        skip = 0;
    }
}

static void chunks_push(struct pica__chunks *list, struct pica__chunk *chunk) {
    if (list->first == NULL) {
        list->first = chunk;
    } else {
        list->last->next = chunk;
    }
    list->last = chunk;
}

/* --- writing -------------------------------------------------------------------------------- */

/* All has been sent, and mostly nothing has happened meanwhile: then gives FLUSHING up. False: there is more
 * to do. */
static bool flush_ends(struct pica_writer *writer) {
    pica__lock(&writer->lock);
    bool ends = pica__writer_state(writer) == PICA__WRITER_FLUSHING && writer->waiting.first == NULL;
    if (PICA__LIKELY(ends)) {
        pica__writer_set_state(writer, 0);
    }
    pica__unlock(&writer->lock);
    return ends;
}

/* What send_now has not sent waits; n: how it ended. */
static PICA__NOINLINE int send_later(struct pica_writer *writer, const struct iovec *parts, int count, size_t total,
                                     ssize_t n) {
    if (n < 0 && n != -EAGAIN) {
        pica__writer_lost(writer, (int)n);
        return pica__writer_flush(writer, false);
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent < total) {
        struct pica__chunk *rest = pica__chunk_new(total - sent);
        if (rest == NULL) {
            /* With a part of it sent, what follows would make no sense to the peer. */
            if (sent != 0) {
                pica__writer_lost(writer, -ENOMEM);
            }
            (void)pica__writer_flush(writer, false);
            return -ENOMEM;
        }
        chunk_add(rest, parts, count, sent);
        chunks_push(&writer->sending, rest);
        atomic_fetch_add(&writer->pending, total - sent);
    }
    return pica__writer_flush(writer, n == -EAGAIN);
}

/* The first write after a pause: straight from the caller's memory. By whoever set FLUSHING. */
static PICA__INLINE int send_now(struct pica_writer *writer, const struct iovec *parts, int count,
                    size_t total) {
    ssize_t n = pica__socket_sendv_begun(pica__stream_of_writer(writer)->socket, parts,
                                         count < PARTS_MAX ? count : PARTS_MAX);
    if (PICA__LIKELY(n > 0)) {
        pica__writer_burst_add(writer, (size_t)n);
        if (PICA__LIKELY((size_t)n == total && flush_ends(writer))) {
            return 0;
        }
    }
    return send_later(writer, parts, count, total, n);
}

/* Puts the parts into a chunk of their own, made and filled without the lock. */
static PICA__NOINLINE int append_chunk(struct pica_writer *writer, const struct iovec *parts, int count,
                                       size_t total, size_t capacity) {
    struct pica__chunk *chunk = pica__chunk_new(capacity < total ? total : capacity);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    chunk_add(chunk, parts, count, 0);
    pica__lock(&writer->lock);
    int rc = refusal(writer, pica__writer_state(writer));
    if (rc < 0) {
        pica__unlock(&writer->lock);
        pica__chunk_free(chunk);
        return rc;
    }
    chunks_push(&writer->waiting, chunk);
    atomic_fetch_add(&writer->pending, total);
    if (writer->corked != 0) {
        pica__unlock(&writer->lock);
        return 0;
    }
    return pica__writer_flush_unlock(writer);
}

/* Behind what waits. With the lock, which it opens. */
static PICA__NOINLINE int append_behind(struct pica_writer *writer, const struct iovec *parts, int count,
                                        size_t total) {
    struct pica__chunk *last = writer->waiting.last;
    if (last != NULL && total <= SMALL_COPY && total <= last->capacity - last->end) {
        chunk_add(last, parts, count, 0);
        atomic_fetch_add(&writer->pending, total);
        pica__unlock(&writer->lock);
        return 0;
    }
    size_t capacity = last == NULL || pica__chunk_is_place(last) ? PICA__CHUNK_MIN : 2 * last->capacity;
    pica__unlock(&writer->lock);
    return append_chunk(writer, parts, count, total, capacity < PICA__CHUNK_MAX ? capacity : PICA__CHUNK_MAX);
}

static PICA__INLINE int append(struct pica_writer *writer, const struct iovec *parts, int count, size_t total) {
    pica__lock(&writer->lock);
    uint32_t state = pica__writer_state(writer);
    int rc = refusal(writer, state);
    if (PICA__UNLIKELY(rc < 0 || total == 0)) {
        pica__unlock(&writer->lock);
        return rc;
    }
    if (PICA__LIKELY((state & PICA__WRITER_FLUSHING) == 0 && writer->corked == 0)) {
        pica__writer_set_state(writer, state | PICA__WRITER_FLUSHING);
        pica__unlock(&writer->lock);
        return send_now(writer, parts, count, total);
    }
    return append_behind(writer, parts, count, total);
}

PICA__EACH int pica_writer_write(pica_writer *writer, const void *data, size_t size) {
    if (PICA__UNLIKELY(size > SSIZE_MAX || (data == NULL && size != 0))) {
        return -EINVAL;
    }
    struct iovec part = {(void *)(uintptr_t)data, size};
    return append(writer, &part, 1, size);
}

PICA__HOT int pica_writer_writelines(pica_writer *writer, const struct iovec *parts, int count) {
    if (count < 0 || (parts == NULL && count != 0)) {
        return -EINVAL;
    }
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > SSIZE_MAX - total) {
            return -EINVAL;
        }
        total += parts[i].iov_len;
    }
    return append(writer, parts, count, total);
}

void pica_writer_cork(pica_writer *writer) {
    pica__lock(&writer->lock);
    writer->corked++;
    pica__unlock(&writer->lock);
}

int pica_writer_uncork(pica_writer *writer) {
    pica__lock(&writer->lock);
    if (writer->corked == 0) {
        pica__unlock(&writer->lock);
        return -EINVAL;
    }
    if (--writer->corked == 0 && writer->waiting.first != NULL) {
        return pica__writer_flush_unlock(writer);
    }
    uint32_t state = pica__writer_state(writer);
    int rc = (state & PICA__WRITER_LOST) != 0 ? writer->error : 0;
    pica__unlock(&writer->lock);
    return rc;
}

/* --- drain ---------------------------------------------------------------------------------- */

/* Waits on `drained`, with a reference to the pair. */
static PICA__NOINLINE int drain_wait(struct pica_writer *writer) {
    struct pica__stream *stream = pica__stream_of_writer(writer);
    pica__stream_ref(stream);
    pica__writer_kick(writer); /* a cork would keep for ever what this waits for */
    int rc = 0;
    while (rc == 0) {
        pica__lock(&writer->lock);
        atomic_store(&writer->draining, 1);
        if (!pica__writer_must_drain(writer)) {
            pica__unlock(&writer->lock);
            break;
        }
        pica_event_clear(&writer->drained);
        pica__unlock(&writer->lock);
        rc = pica_event_wait(&writer->drained);
    }
    uint32_t state = pica__writer_state(writer);
    if (rc == 0 && (state & PICA__WRITER_LOST) != 0) {
        rc = writer->error;
    } else if (rc == 0 && (state & PICA__WRITER_ABORTED) != 0) {
        rc = PICA_ECLOSED;
    }
    pica__stream_unref(stream);
    return rc;
}

PICA__HOT int pica_writer_drain(pica_writer *writer) {
    int rc = pica_checkpoint();
    if (PICA__UNLIKELY(rc < 0)) {
        return rc;
    }
    uint32_t state = pica__writer_state(writer);
    if (PICA__UNLIKELY((state & (PICA__WRITER_LOST | PICA__WRITER_CLOSING)) != 0)) {
        return (state & PICA__WRITER_LOST) != 0 ? writer->error : PICA_ECLOSED;
    }
    if (PICA__UNLIKELY(atomic_load_explicit(&writer->pending, memory_order_relaxed) >
                       atomic_load_explicit(&writer->high, memory_order_relaxed))) {
        return drain_wait(writer);
    }
    /* A peer that takes everything would let a task write for ever without a suspension. */
    if (PICA__UNLIKELY(atomic_load_explicit(&writer->burst, memory_order_relaxed) >= PICA__WRITER_TURN)) {
        atomic_store_explicit(&writer->burst, 0, memory_order_relaxed);
        return pica_yield();
    }
    return 0;
}

int pica_writer_set_limits(pica_writer *writer, size_t high, size_t low) {
    if (high < low) {
        return -EINVAL;
    }
    pica__lock(&writer->lock);
    atomic_store_explicit(&writer->high, high, memory_order_relaxed);
    atomic_store_explicit(&writer->low, low, memory_order_relaxed);
    pica__unlock(&writer->lock);
    pica__writer_wake_drainers(writer);
    return 0;
}

PICA__EACH size_t pica_writer_pending(const pica_writer *writer) {
    /* What is dropped may be freed a little later, but is not pending any more. */
    uint32_t state = atomic_load_explicit(&writer->state, memory_order_acquire);
    if ((state & (PICA__WRITER_LOST | PICA__WRITER_ABORTED)) != 0) {
        return 0;
    }
    return atomic_load_explicit(&writer->pending, memory_order_relaxed);
}

/* --- the end -------------------------------------------------------------------------------- */

int pica_writer_write_eof(pica_writer *writer) {
    pica__lock(&writer->lock);
    uint32_t state = pica__writer_state(writer);
    int rc = refusal(writer, state & ~(uint32_t)PICA__WRITER_EOF);
    if (rc < 0 || (state & PICA__WRITER_EOF) != 0) {
        pica__unlock(&writer->lock);
        return rc;
    }
    pica__writer_set_state(writer, state | PICA__WRITER_EOF);
    return pica__writer_flush_unlock(writer);
}

void pica_writer_close(pica_writer *writer) {
    pica__lock(&writer->lock);
    uint32_t state = pica__writer_state(writer);
    if ((state & PICA__WRITER_CLOSING) != 0) {
        pica__unlock(&writer->lock);
        return;
    }
    pica__writer_set_state(writer, state | PICA__WRITER_CLOSING);
    (void)pica__writer_flush_unlock(writer);
    if ((pica__writer_state(writer) & PICA__WRITER_CLOSED) == 0) {
        /* The rest is sent later. The task that reads is woken now: it finds an end, and CLOSING. */
        (void)pica_socket_shutdown(pica__stream_of_writer(writer)->socket, SHUT_RD);
    }
}

void pica_writer_abort(pica_writer *writer) {
    pica__lock(&writer->lock);
    uint32_t state = pica__writer_state(writer);
    if ((state & (PICA__WRITER_ABORTED | PICA__WRITER_CLOSED)) != 0) {
        pica__unlock(&writer->lock);
        return;
    }
    state |= PICA__WRITER_CLOSING | PICA__WRITER_ABORTED;
    bool end_socket = (state & PICA__WRITER_FLUSHING) != 0;
    pica__writer_set_state(writer, end_socket ? state | PICA__WRITER_SOCKET_ENDED : state);
    /* A flush that is under way is not waited for: it finds the socket closed, is called for that if
     * it waits for room, and finishes. */
    (void)pica__writer_flush_unlock(writer);
    if (end_socket) {
        pica_socket_close(pica__socket_ref(pica__stream_of_writer(writer)->socket));
        pica__writer_wake_drainers(writer);
    }
}

int pica_writer_wait_closed(pica_writer *writer) {
    struct pica__stream *stream = pica__stream_of_writer(writer);
    pica__stream_ref(stream);
    int rc = pica_event_wait(&writer->closed);
    if (rc == 0 && (pica__writer_state(writer) & PICA__WRITER_LOST) != 0) {
        rc = writer->error;
    }
    pica__stream_unref(stream);
    return rc;
}
