/*
 * The writing half of a stream.
 *
 * A write goes to the kernel at once if nothing is pending. What the kernel does not take is copied
 * into chunks: "waiting" is what was appended, "sending" is what the flush has in hand. There is at
 * most one flush: whoever sets FLUSHING owns the socket's sending side and the list "sending", and
 * works without the lock, which is therefore never held over a system call, an allocation or a
 * large copy. Writers that come meanwhile append and leave; the flush takes what they left before it
 * clears FLUSHING, under the lock, so nothing is forgotten. When the kernel is full the flush goes
 * on later, from the home loop, with FLUSHING still set.
 *
 * Each call's bytes lie in one piece: in one chunk, or partly sent by a flush that nobody overtakes.
 * So calls are never mixed, and calls ordered by happens-before are sent in that order.
 *
 * A task that sends by itself (sendfile.c) owns FLUSHING meanwhile. It gets there by a claim, a chunk without
 * bytes that keeps its place in the lists: the flush that comes to it hands FLUSHING on to the task, with what
 * is behind it in "sending", and the task gives it back to a flush.
 *
 * State bits, with the function that sets each; all changes are made under the lock:
 *
 *     (none) --append, uncork, drain, write_eof, close, abort, claim--> FLUSHING
 *     FLUSHING --next_batch: nothing left---------------------> (none)
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
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/worker.h"

#define DEFAULT_HIGH ((size_t)64 * 1024)
/* So much is sent in one go before others get their turn. */
#define TURN_BYTES ((size_t)256 * 1024)
/* Copies up to this size are made under the lock, into the room that the last chunk has left. */
#define SMALL_COPY ((size_t)2048)
/* A chunk of this capacity fills one of the workers' blocks. */
#define CHUNK_MIN ((size_t)PICA__BLOCK_SIZE - sizeof(struct pica__chunk))
#define CHUNK_MAX ((size_t)16 * 1024 - sizeof(struct pica__chunk))
#define PARTS_MAX 64  /* that one pica__socket_sendv_begun takes */
#define CHUNKS_MAX 16 /* sent by one call; bounds the array on the stack */

static uint32_t state_of(struct pica_writer *writer) {
    return atomic_load_explicit(&writer->state, memory_order_acquire);
}

/* Under the lock. */
static void set_state(struct pica_writer *writer, uint32_t state) {
    atomic_store_explicit(&writer->state, state, memory_order_release);
}

/* Why the writer takes nothing any more, or 0. LOST makes error readable without the lock. */
static int refusal(struct pica_writer *writer, uint32_t state) {
    if ((state & (PICA__WRITER_CLOSING | PICA__WRITER_EOF)) != 0) {
        return PICA_ECLOSED;
    }
    return (state & PICA__WRITER_LOST) != 0 ? writer->error : 0;
}

int pica__writer_refusal(struct pica_writer *writer) {
    return refusal(writer, state_of(writer));
}

int pica__writer_error(struct pica_writer *writer) {
    uint32_t state = state_of(writer);
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

static struct pica__chunk *chunk_new(size_t capacity) {
    struct pica__chunk *chunk =
        capacity == CHUNK_MIN ? pica__block_get() : pica__alloc(sizeof *chunk + capacity);
    if (chunk != NULL) {
        chunk->next = NULL;
        chunk->begin = 0;
        chunk->end = 0;
        chunk->capacity = capacity;
    }
    return chunk;
}

static void chunk_free(struct pica__chunk *chunk) {
    if (chunk->capacity == CHUNK_MIN) {
        pica__block_put(chunk);
    } else {
        size_t size = pica__chunk_is_place(chunk) ? sizeof(struct pica__claim *) : chunk->capacity;
        pica__free(chunk, sizeof *chunk + size);
    }
}

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

/* Moves everything to the back of `to`. */
static void chunks_move(struct pica__chunks *to, struct pica__chunks *from) {
    if (from->first != NULL) {
        if (to->first == NULL) {
            to->first = from->first;
        } else {
            to->last->next = from->first;
        }
        to->last = from->last;
        from->first = from->last = NULL;
    }
}

/* --- drainers ------------------------------------------------------------------------------- */

/* Whether drain must go on waiting. */
static bool must_drain(struct pica_writer *writer) {
    return (state_of(writer) & (PICA__WRITER_LOST | PICA__WRITER_ABORTED)) == 0 &&
           atomic_load(&writer->pending) > atomic_load_explicit(&writer->low, memory_order_relaxed);
}

/* After pending went down or the state changed. Not under the lock. */
static void wake_drainers(struct pica_writer *writer) {
    if (atomic_load(&writer->draining) == 0 || must_drain(writer)) {
        return;
    }
    pica__lock(&writer->lock);
    bool wake = atomic_load_explicit(&writer->draining, memory_order_relaxed) != 0;
    atomic_store_explicit(&writer->draining, 0, memory_order_relaxed);
    pica__unlock(&writer->lock);
    if (wake) {
        pica_event_set(&writer->drained);
    }
}

/* Counts bytes as gone: sent or dropped. */
static void pending_sub(struct pica_writer *writer, size_t size) {
    atomic_fetch_sub(&writer->pending, size);
    wake_drainers(writer);
}

/* Frees a place; its task does not get there. */
static void drop_place(struct pica_writer *writer, struct pica__chunk *place) {
    pica__lock(&writer->lock);
    struct pica__claim *claim = pica__claim_take(place);
    pica__unlock(&writer->lock);
    chunk_free(place);
    if (claim != NULL) {
        pica__wait_fire(&claim->wait, pica__writer_error(writer));
    }
}

/* Frees a list that was taken out and counts its bytes as gone. */
static void drop(struct pica_writer *writer, struct pica__chunks *list) {
    size_t size = 0;
    while (list->first != NULL) {
        struct pica__chunk *chunk = list->first;
        list->first = chunk->next;
        size += chunk->end - chunk->begin;
        if (pica__chunk_is_place(chunk)) {
            drop_place(writer, chunk);
        } else {
            chunk_free(chunk);
        }
    }
    list->last = NULL;
    pending_sub(writer, size);
}

/* --- the flush ------------------------------------------------------------------------------ */

/* The stream has a hole, though the connection may be up (no memory). Who reads here would wait for a peer that
 * waits for what is lost: it finds an end, and LOST. For the peer the close will be a reset. */
static void break_off(pica_socket *socket) {
    (void)pica_socket_setopt(socket, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    (void)pica_socket_shutdown(socket, SHUT_RD);
}

void pica__writer_lost(struct pica_writer *writer, int error) {
    struct pica__chunks dropped = {NULL, NULL};
    pica__lock(&writer->lock);
    uint32_t state = state_of(writer);
    bool first = (state & (PICA__WRITER_LOST | PICA__WRITER_ABORTED | PICA__WRITER_CLOSED)) == 0;
    if (first) {
        writer->error = error;
        set_state(writer, state | PICA__WRITER_LOST);
    }
    /* What the flush has in hand is dropped by the flush, which looks at the state each time. */
    chunks_move(&dropped, &writer->waiting);
    pica__unlock(&writer->lock);
    if (first && error != -ECONNRESET && error != -EPIPE) {
        break_off(pica__stream_of_writer(writer)->socket);
    }
    drop(writer, &dropped);
}

/* Closes the socket, by the owner of FLUSHING, once nothing is left to send. The writer may be gone
 * afterwards. */
static void finish_close(struct pica_writer *writer) {
    struct pica__stream *stream = pica__stream_of_writer(writer);
    pica__lock(&writer->lock);
    uint32_t state = state_of(writer);
    bool end_socket = (state & PICA__WRITER_SOCKET_ENDED) == 0;
    set_state(writer, state | PICA__WRITER_SOCKET_ENDED | PICA__WRITER_CLOSED);
    pica__unlock(&writer->lock);
    if (end_socket) {
        /* Closing consumes a reference; the stream keeps its own until it is freed. */
        pica_socket_close(pica__socket_ref(stream->socket));
    }
    pica__socket_disown(stream->socket);
    pica__socket_unuse(stream->socket);
    wake_drainers(writer);
    pica_event_set(&writer->closed);
    pica__stream_unref(stream);
}

/* Takes the places at the front of `sending` out, up to one that somebody claims: who, or NULL. Under the
 * lock. */
static struct pica__claim *next_claim(struct pica_writer *writer) {
    struct pica__claim *claim = NULL;
    struct pica__chunk *first;
    while (claim == NULL && (first = writer->sending.first) != NULL && pica__chunk_is_place(first)) {
        writer->sending.first = first->next;
        if (first->next == NULL) {
            writer->sending.last = NULL;
        }
        claim = pica__claim_take(first);
        chunk_free(first);
    }
    return claim;
}

/*
 * Gets the flush its next work. True: there is something in `sending`. False: there is nothing left
 * to do and FLUSHING was given up, or to a claim; *result is the connection's error or 0, and the writer
 * must not be touched any more.
 */
static bool next_batch(struct pica_writer *writer, int *result) {
    for (;;) {
        struct pica__chunks dropped = {NULL, NULL};
        pica__lock(&writer->lock);
        uint32_t state = state_of(writer);
        *result = (state & PICA__WRITER_LOST) != 0      ? writer->error
                  : (state & PICA__WRITER_ABORTED) != 0 ? PICA_ECLOSED
                                                        : 0;
        chunks_move(&writer->sending, &writer->waiting);
        if (*result != 0) {
            chunks_move(&dropped, &writer->sending);
        }
        struct pica__claim *claim = next_claim(writer);
        if (claim != NULL) {
            pica__unlock(&writer->lock);
            pica__wait_fire(&claim->wait, PICA__CLAIM_GRANTED);
            return false;
        }
        if (writer->sending.first != NULL) {
            pica__unlock(&writer->lock);
            return true;
        }
        if (dropped.first != NULL) {
            pica__unlock(&writer->lock);
            drop(writer, &dropped);
        } else if ((state & PICA__WRITER_CLOSING) != 0) {
            pica__unlock(&writer->lock);
            finish_close(writer);
            return false;
        } else if (*result == 0 && (state & PICA__WRITER_EOF) != 0 &&
                   (state & PICA__WRITER_EOF_SENT) == 0) {
            set_state(writer, state | PICA__WRITER_EOF_SENT);
            pica__unlock(&writer->lock);
            int rc = pica_socket_shutdown(pica__stream_of_writer(writer)->socket, SHUT_WR);
            if (rc < 0) {
                pica__writer_lost(writer, rc);
            }
        } else {
            set_state(writer, state & ~(uint32_t)PICA__WRITER_FLUSHING);
            pica__unlock(&writer->lock);
            return false;
        }
    }
}

/* By the owner of FLUSHING. Not a read-modify-write: it costs as much as the rest of a small write, and if
 * a drain that clears it at the same time is lost, somebody yields a little early. */
static void burst_add(struct pica_writer *writer, size_t size) {
    atomic_store_explicit(&writer->burst,
                          atomic_load_explicit(&writer->burst, memory_order_relaxed) + size,
                          memory_order_relaxed);
}

/* Sends from `sending` once: bytes, or what pica__socket_sendv_begun said. */
static ssize_t send_chunks(struct pica_writer *writer) {
    struct iovec parts[CHUNKS_MAX];
    int count = 0;
    for (struct pica__chunk *chunk = writer->sending.first;
         chunk != NULL && count < CHUNKS_MAX && !pica__chunk_is_place(chunk); chunk = chunk->next) {
        parts[count].iov_base = chunk->data + chunk->begin;
        parts[count].iov_len = chunk->end - chunk->begin;
        count++;
    }
    ssize_t n = pica__socket_sendv_begun(pica__stream_of_writer(writer)->socket, parts, count);
    size_t left = n > 0 ? (size_t)n : 0;
    while (left != 0) {
        struct pica__chunk *chunk = writer->sending.first;
        size_t size = chunk->end - chunk->begin;
        if (left < size) {
            chunk->begin += left;
            break;
        }
        left -= size;
        writer->sending.first = chunk->next;
        if (chunk->next == NULL) {
            writer->sending.last = NULL;
        }
        chunk_free(chunk);
    }
    return n;
}

static void flush_later(void *arg);

/*
 * Sends what is pending until nothing is left, the kernel is full, or the turn is over. By whoever
 * set FLUSHING, without the lock; FLUSHING is given away. full: the kernel just said so. Returns 0 or
 * the connection's error. The writer must not be touched any more, except through a reference.
 */
static int flush(struct pica_writer *writer, bool full) {
    pica_socket *socket = pica__stream_of_writer(writer)->socket;
    size_t turn = 0;
    int rc;
    while (next_batch(writer, &rc)) {
        if (full || turn >= TURN_BYTES) {
            pica__socket_on_writable(socket, flush_later, writer);
            return 0;
        }
        ssize_t n = send_chunks(writer);
        if (n > 0) {
            turn += (size_t)n;
            burst_add(writer, (size_t)n);
            pending_sub(writer, (size_t)n);
        } else if (n == -EAGAIN || n == 0) {
            full = true;
        } else {
            pica__writer_lost(writer, (int)n);
        }
    }
    return rc;
}

/* On the home loop: there is room, or the socket was closed, or there was no memory for waiting. */
static void flush_later(void *arg) {
    (void)flush(arg, false);
}

/* Starts a flush if none is under way. Under the lock, which is released. 0 or an error. */
static int flush_unlock(struct pica_writer *writer) {
    uint32_t state = state_of(writer);
    if ((state & PICA__WRITER_FLUSHING) != 0) {
        pica__unlock(&writer->lock);
        return 0;
    }
    set_state(writer, state | PICA__WRITER_FLUSHING);
    pica__unlock(&writer->lock);
    return flush(writer, false);
}

/* --- writing -------------------------------------------------------------------------------- */

/* All has been sent, and mostly nothing has happened meanwhile: then gives FLUSHING up. False: there is more
 * to do. */
static bool flush_ends(struct pica_writer *writer) {
    pica__lock(&writer->lock);
    bool ends = state_of(writer) == PICA__WRITER_FLUSHING && writer->waiting.first == NULL;
    if (ends) {
        set_state(writer, 0);
    }
    pica__unlock(&writer->lock);
    return ends;
}

/* The first write after a pause: straight from the caller's memory. By whoever set FLUSHING. */
static int send_now(struct pica_writer *writer, const struct iovec *parts, int count,
                    size_t total) {
    ssize_t n = pica__socket_sendv_begun(pica__stream_of_writer(writer)->socket, parts,
                                         count < PARTS_MAX ? count : PARTS_MAX);
    if (n < 0 && n != -EAGAIN) {
        pica__writer_lost(writer, (int)n);
        return flush(writer, false);
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    burst_add(writer, sent);
    if (PICA__LIKELY(sent == total) && flush_ends(writer)) {
        return 0;
    }
    if (sent < total) {
        struct pica__chunk *rest = chunk_new(total - sent);
        if (rest == NULL) {
            /* With a part of it sent, what follows would make no sense to the peer. */
            if (sent != 0) {
                pica__writer_lost(writer, -ENOMEM);
            }
            (void)flush(writer, false);
            return -ENOMEM;
        }
        chunk_add(rest, parts, count, sent);
        chunks_push(&writer->sending, rest);
        atomic_fetch_add(&writer->pending, total - sent);
    }
    return flush(writer, n == -EAGAIN);
}

/* Puts the parts into a chunk of their own, made and filled without the lock. */
static int append_chunk(struct pica_writer *writer, const struct iovec *parts, int count,
                        size_t total, size_t capacity) {
    struct pica__chunk *chunk = chunk_new(capacity < total ? total : capacity);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    chunk_add(chunk, parts, count, 0);
    pica__lock(&writer->lock);
    int rc = refusal(writer, state_of(writer));
    if (rc < 0) {
        pica__unlock(&writer->lock);
        chunk_free(chunk);
        return rc;
    }
    chunks_push(&writer->waiting, chunk);
    atomic_fetch_add(&writer->pending, total);
    if (writer->corked != 0) {
        pica__unlock(&writer->lock);
        return 0;
    }
    return flush_unlock(writer);
}

static int append(struct pica_writer *writer, const struct iovec *parts, int count, size_t total) {
    pica__lock(&writer->lock);
    uint32_t state = state_of(writer);
    int rc = refusal(writer, state);
    if (rc < 0 || total == 0) {
        pica__unlock(&writer->lock);
        return rc;
    }
    if ((state & PICA__WRITER_FLUSHING) == 0 && writer->corked == 0) {
        set_state(writer, state | PICA__WRITER_FLUSHING);
        pica__unlock(&writer->lock);
        return send_now(writer, parts, count, total);
    }
    struct pica__chunk *last = writer->waiting.last;
    if (last != NULL && total <= SMALL_COPY && total <= last->capacity - last->end) {
        chunk_add(last, parts, count, 0);
        atomic_fetch_add(&writer->pending, total);
        pica__unlock(&writer->lock);
        return 0;
    }
    size_t capacity = last == NULL || pica__chunk_is_place(last) ? CHUNK_MIN : 2 * last->capacity;
    pica__unlock(&writer->lock);
    return append_chunk(writer, parts, count, total, capacity < CHUNK_MAX ? capacity : CHUNK_MAX);
}

int pica_writer_write(pica_writer *writer, const void *data, size_t size) {
    if (size > SSIZE_MAX || (data == NULL && size != 0)) {
        return -EINVAL;
    }
    struct iovec part = {(void *)(uintptr_t)data, size};
    return append(writer, &part, 1, size);
}

int pica_writer_writelines(pica_writer *writer, const struct iovec *parts, int count) {
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
        return flush_unlock(writer);
    }
    uint32_t state = state_of(writer);
    int rc = (state & PICA__WRITER_LOST) != 0 ? writer->error : 0;
    pica__unlock(&writer->lock);
    return rc;
}

/* --- drain ---------------------------------------------------------------------------------- */

void pica__writer_kick(struct pica_writer *writer) {
    pica__lock(&writer->lock);
    if (writer->waiting.first != NULL) {
        (void)flush_unlock(writer);
    } else {
        pica__unlock(&writer->lock);
    }
}

void pica__writer_unclaim(struct pica_writer *writer, bool full) {
    (void)flush(writer, full);
}

/* Waits on `drained`, holding a reference to the pair. */
static int drain_wait(struct pica_writer *writer) {
    pica__writer_kick(writer); /* a cork would keep for ever what this waits for */
    int rc = 0;
    while (rc == 0) {
        pica__lock(&writer->lock);
        atomic_store(&writer->draining, 1);
        if (!must_drain(writer)) {
            pica__unlock(&writer->lock);
            break;
        }
        pica_event_clear(&writer->drained);
        pica__unlock(&writer->lock);
        rc = pica_event_wait(&writer->drained);
    }
    uint32_t state = state_of(writer);
    if (rc == 0 && (state & PICA__WRITER_LOST) != 0) {
        rc = writer->error;
    } else if (rc == 0 && (state & PICA__WRITER_ABORTED) != 0) {
        rc = PICA_ECLOSED;
    }
    return rc;
}

int pica_writer_drain(pica_writer *writer) {
    int rc = pica_checkpoint();
    if (rc < 0) {
        return rc;
    }
    uint32_t state = state_of(writer);
    if ((state & (PICA__WRITER_LOST | PICA__WRITER_CLOSING)) != 0) {
        return (state & PICA__WRITER_LOST) != 0 ? writer->error : PICA_ECLOSED;
    }
    if (atomic_load_explicit(&writer->pending, memory_order_relaxed) >
        atomic_load_explicit(&writer->high, memory_order_relaxed)) {
        struct pica__stream *stream = pica__stream_of_writer(writer);
        pica__stream_ref(stream);
        rc = drain_wait(writer);
        pica__stream_unref(stream);
        return rc;
    }
    /* A peer that takes everything would let a task write for ever without a suspension. */
    if (atomic_load_explicit(&writer->burst, memory_order_relaxed) >= TURN_BYTES) {
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
    wake_drainers(writer);
    return 0;
}

size_t pica_writer_pending(const pica_writer *writer) {
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
    uint32_t state = state_of(writer);
    int rc = refusal(writer, state & ~(uint32_t)PICA__WRITER_EOF);
    if (rc < 0 || (state & PICA__WRITER_EOF) != 0) {
        pica__unlock(&writer->lock);
        return rc;
    }
    set_state(writer, state | PICA__WRITER_EOF);
    return flush_unlock(writer);
}

void pica_writer_close(pica_writer *writer) {
    pica__lock(&writer->lock);
    uint32_t state = state_of(writer);
    if ((state & PICA__WRITER_CLOSING) != 0) {
        pica__unlock(&writer->lock);
        return;
    }
    set_state(writer, state | PICA__WRITER_CLOSING);
    (void)flush_unlock(writer);
    if ((state_of(writer) & PICA__WRITER_CLOSED) == 0) {
        /* The rest is sent later. The task that reads is woken now: it finds an end, and CLOSING. */
        (void)pica_socket_shutdown(pica__stream_of_writer(writer)->socket, SHUT_RD);
    }
}

void pica_writer_abort(pica_writer *writer) {
    pica__lock(&writer->lock);
    uint32_t state = state_of(writer);
    if ((state & (PICA__WRITER_ABORTED | PICA__WRITER_CLOSED)) != 0) {
        pica__unlock(&writer->lock);
        return;
    }
    state |= PICA__WRITER_CLOSING | PICA__WRITER_ABORTED;
    bool end_socket = (state & PICA__WRITER_FLUSHING) != 0;
    set_state(writer, end_socket ? state | PICA__WRITER_SOCKET_ENDED : state);
    /* A flush that is under way is not waited for: it finds the socket closed, is called for that if
     * it waits for room, and finishes. */
    (void)flush_unlock(writer);
    if (end_socket) {
        pica_socket_close(pica__socket_ref(pica__stream_of_writer(writer)->socket));
        wake_drainers(writer);
    }
}

int pica_writer_wait_closed(pica_writer *writer) {
    struct pica__stream *stream = pica__stream_of_writer(writer);
    pica__stream_ref(stream);
    int rc = pica_event_wait(&writer->closed);
    if (rc == 0 && (state_of(writer) & PICA__WRITER_LOST) != 0) {
        rc = writer->error;
    }
    pica__stream_unref(stream);
    return rc;
}
