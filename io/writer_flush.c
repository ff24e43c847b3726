/*
 * The flush of a writer: sends what is pending, and ends what comes to its end.
 *
 * It belongs to whoever has set FLUSHING; the rules stand at the head of writer.c. next_batch gets it its next work,
 * under the lock: what was appended meanwhile, the end of the stream (EOF), the close of the socket, or else the end of
 * FLUSHING. When the kernel is full, or the turn is over, it goes on later, from the home loop, with FLUSHING still
 * set.
 *
 * A claim (writer_claim.c) is a chunk without bytes that keeps its task's place in the lists: the flush that comes to
 * it hands FLUSHING on to the task, with what is behind it in "sending", and the task gives it back to a flush
 * (pica__writer_unclaim).
 *
 * When the connection is lost, or was aborted, everything is dropped: "waiting" by whoever finds that out, "sending"
 * by the flush, whose own it is.
 *
 * Lock order: as in writer.c. Events are set, and waits of claims fired, without the lock.
 */
#include "io/writer_flush.h"

#include "io/socket.h"
#include "io/stream.h"
#include "runtime/base/alloc.h"

#define CHUNKS_MAX 16 /* sent by one call; bounds the array on the stack */

/* --- chunks --------------------------------------------------------------------------------- */

struct pica__chunk *pica__chunk_new(size_t capacity) {
    struct pica__chunk *chunk =
        capacity == PICA__CHUNK_MIN ? pica__block_get() : pica__alloc(sizeof *chunk + capacity);
    if (chunk != NULL) {
        chunk->next = NULL;
        chunk->begin = 0;
        chunk->end = 0;
        chunk->capacity = capacity;
    }
    return chunk;
}

void pica__chunk_free(struct pica__chunk *chunk) {
    if (chunk->capacity == PICA__CHUNK_MIN) {
        pica__block_put(chunk);
    } else {
        size_t size = pica__chunk_is_place(chunk) ? sizeof(struct pica__claim *) : chunk->capacity;
        pica__free(chunk, sizeof *chunk + size);
    }
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

bool pica__writer_must_drain(struct pica_writer *writer) {
    return (pica__writer_state(writer) & (PICA__WRITER_LOST | PICA__WRITER_ABORTED)) == 0 &&
           atomic_load(&writer->pending) > atomic_load_explicit(&writer->low, memory_order_relaxed);
}

void pica__writer_wake_drainers(struct pica_writer *writer) {
    if (atomic_load(&writer->draining) == 0 || pica__writer_must_drain(writer)) {
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
    pica__writer_wake_drainers(writer);
}

/* Frees a place; its task does not get there. */
static void drop_place(struct pica_writer *writer, struct pica__chunk *place) {
    pica__lock(&writer->lock);
    struct pica__claim *claim = pica__claim_take(place);
    pica__unlock(&writer->lock);
    pica__chunk_free(place);
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
            pica__chunk_free(chunk);
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
    uint32_t state = pica__writer_state(writer);
    bool first = (state & (PICA__WRITER_LOST | PICA__WRITER_ABORTED | PICA__WRITER_CLOSED)) == 0;
    if (first) {
        writer->error = error;
        pica__writer_set_state(writer, state | PICA__WRITER_LOST);
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
    uint32_t state = pica__writer_state(writer);
    bool end_socket = (state & PICA__WRITER_SOCKET_ENDED) == 0;
    pica__writer_set_state(writer, state | PICA__WRITER_SOCKET_ENDED | PICA__WRITER_CLOSED);
    pica__unlock(&writer->lock);
    if (end_socket) {
        /* Closing consumes a reference; the stream keeps its own until it is freed. */
        pica_socket_close(pica__socket_ref(stream->socket));
    }
    pica__socket_disown(stream->socket);
    pica__socket_unuse(stream->socket);
    pica__writer_wake_drainers(writer);
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
        pica__chunk_free(first);
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
        uint32_t state = pica__writer_state(writer);
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
            pica__writer_set_state(writer, state | PICA__WRITER_EOF_SENT);
            pica__unlock(&writer->lock);
            int rc = pica_socket_shutdown(pica__stream_of_writer(writer)->socket, SHUT_WR);
            if (rc < 0) {
                pica__writer_lost(writer, rc);
            }
        } else {
            pica__writer_set_state(writer, state & ~(uint32_t)PICA__WRITER_FLUSHING);
            pica__unlock(&writer->lock);
            return false;
        }
    }
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
        pica__chunk_free(chunk);
    }
    return n;
}

static void flush_later(void *arg);

int pica__writer_flush(struct pica_writer *writer, bool full) {
    pica_socket *socket = pica__stream_of_writer(writer)->socket;
    size_t turn = 0;
    int rc;
    while (next_batch(writer, &rc)) {
        if (full || turn >= PICA__WRITER_TURN) {
            pica__socket_on_writable(socket, flush_later, writer);
            return 0;
        }
        ssize_t n = send_chunks(writer);
        if (n > 0) {
            turn += (size_t)n;
            pica__writer_burst_add(writer, (size_t)n);
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
    (void)pica__writer_flush(arg, false);
}

int pica__writer_flush_unlock(struct pica_writer *writer) {
    uint32_t state = pica__writer_state(writer);
    if ((state & PICA__WRITER_FLUSHING) != 0) {
        pica__unlock(&writer->lock);
        return 0;
    }
    pica__writer_set_state(writer, state | PICA__WRITER_FLUSHING);
    pica__unlock(&writer->lock);
    return pica__writer_flush(writer, false);
}

void pica__writer_kick(struct pica_writer *writer) {
    pica__lock(&writer->lock);
    if (writer->waiting.first != NULL) {
        (void)pica__writer_flush_unlock(writer);
    } else {
        pica__unlock(&writer->lock);
    }
}

void pica__writer_unclaim(struct pica_writer *writer, bool full) {
    (void)pica__writer_flush(writer, full);
}
