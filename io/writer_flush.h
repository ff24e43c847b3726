/* What the two halves of the writer, writer.c (writing, the end) and writer_flush.c (sending what is pending), share.
 * The rules stand at the head of writer.c. */
#ifndef PICA__IO_WRITER_FLUSH_H
#define PICA__IO_WRITER_FLUSH_H

#include "io/writer.h"
#include "runtime/base/transitions.h"
#include "runtime/worker.h"

/* So much is sent in one go before others get their turn. */
#define PICA__WRITER_TURN ((size_t)256 * 1024)
/* A chunk of this capacity fills one of the workers' blocks. */
#define PICA__CHUNK_MIN ((size_t)PICA__BLOCK_SIZE - sizeof(struct pica__chunk))
#define PICA__CHUNK_MAX ((size_t)16 * 1024 - sizeof(struct pica__chunk))

static inline uint32_t pica__writer_state(struct pica_writer *writer) {
    return atomic_load_explicit(&writer->state, memory_order_acquire);
}

/* Under the lock. */
static inline void pica__writer_set_state(struct pica_writer *writer, uint32_t state) {
    PICA__MOVED_BITS(WRITER, atomic_load_explicit(&writer->state, memory_order_relaxed), state);
    atomic_store_explicit(&writer->state, state, memory_order_release);
}

/* By the owner of FLUSHING. Not a read-modify-write: it costs as much as the rest of a small write, and if
 * a drain that clears it at the same time is lost, somebody yields a little early. */
static inline void pica__writer_burst_add(struct pica_writer *writer, size_t size) {
    atomic_store_explicit(&writer->burst,
                          atomic_load_explicit(&writer->burst, memory_order_relaxed) + size,
                          memory_order_relaxed);
}

/* An empty chunk, in no list; NULL without memory. The opposite also frees places. */
struct pica__chunk *pica__chunk_new(size_t capacity);
void pica__chunk_free(struct pica__chunk *chunk);

/* Whether drain must go on waiting. */
bool pica__writer_must_drain(struct pica_writer *writer);
/* After pending went down or the state changed. Not under the lock. */
void pica__writer_wake_drainers(struct pica_writer *writer);

/*
 * Sends what is pending until nothing is left, the kernel is full, or the turn is over. By whoever
 * set FLUSHING, without the lock; FLUSHING is given away. full: the kernel just said so. Returns 0 or
 * the connection's error. The writer must not be touched any more, except through a reference.
 */
int pica__writer_flush(struct pica_writer *writer, bool full);
/* Starts a flush if none is under way. Under the lock, which is released. 0 or an error. */
int pica__writer_flush_unlock(struct pica_writer *writer);

#endif
