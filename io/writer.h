/*
 * The writing half of a stream: see writer.c. It lies inside a pica__stream and is never alone.
 */
#ifndef PICA__IO_WRITER_H
#define PICA__IO_WRITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pica/stream.h>
#include <pica/sync.h>

#include "runtime/base/lock.h"
#include "runtime/wait.h"

/* Bits of pica_writer.state; writer.c has the diagram. */
enum {
    PICA__WRITER_FLUSHING = 1 << 0, /* somebody sends, or waits to be called when there is room */
    PICA__WRITER_EOF = 1 << 1,      /* write_eof was called */
    PICA__WRITER_EOF_SENT = 1 << 2, /* and the socket was shut down for writing */
    PICA__WRITER_CLOSING = 1 << 3,  /* close or abort was called */
    PICA__WRITER_ABORTED = 1 << 4,  /* abort was called: what is pending is dropped */
    PICA__WRITER_LOST = 1 << 5,     /* the connection is lost; error says why */
    PICA__WRITER_SOCKET_ENDED = 1 << 6, /* somebody has taken it on to close the socket */
    PICA__WRITER_CLOSED = 1 << 7        /* the end */
};

/* A piece of what is pending; begin moves up as the kernel takes bytes. With capacity 0 it is no piece but the
 * place of a claim: data holds a struct pica__claim *, NULL once that was withdrawn. */
struct pica__chunk {
    struct pica__chunk *next;
    size_t begin;
    size_t end;
    size_t capacity;
    char data[];
};

/* Both NULL when empty. */
struct pica__chunks {
    struct pica__chunk *first;
    struct pica__chunk *last;
};

struct pica_writer {
    /* Covers waiting, corked, error, low, and every change of state. */
    pica__lock_t lock;
    /*
     * Written under the lock (release). Read under it, and without it (acquire) by calls that only
     * want to know whether the writer still takes bytes, and by the reader; the pair makes error
     * visible to whoever sees LOST.
     */
    _Atomic uint32_t state;
    int error;
    unsigned corked;
    struct pica__chunks waiting; /* appended, not yet in the hands of the flush */
    /*
     * Bytes in waiting and sending. Added to under the lock, subtracted from by the flush without
     * it (seq_cst, before it looks at draining); read by everybody.
     */
    _Atomic size_t pending;
    /* Bytes the kernel took since a drain last yielded. Flush adds, drain clears; a hint, relaxed. */
    _Atomic size_t burst;
    /* Water marks. Written under the lock, read by drain and flush without it; relaxed. */
    _Atomic size_t high;
    _Atomic size_t low;

    struct pica__chunks sending; /* belongs to whoever set FLUSHING, without the lock */
    /*
     * 1 if a task may be waiting in drain. Written under the lock; a drainer stores 1 and looks at
     * pending afterwards, a flush changes pending and looks at this afterwards, all seq_cst, so
     * that one of the two sees the other.
     */
    _Atomic uint32_t draining;
    pica_event drained; /* cleared under the lock by a drainer, set when draining goes back to 0 */
    pica_event closed;  /* set once */
};

void pica__writer_init(struct pica_writer *writer);
/* Nothing may be pending. */
void pica__writer_destroy(struct pica_writer *writer);

/* The connection is lost for the reason error, for instance because receiving said so: drops what
 * is pending, wakes drainers. Only the first error counts. Any runtime thread. */
void pica__writer_lost(struct pica_writer *writer, int error);

/* A task that waits to send at its place between the writes: writer_claim.c. */
struct pica__claim {
    pica__wait wait;
    struct pica_writer *writer;
    struct pica__chunk *place; /* under the writer's lock; NULL: it is in no list, or was taken out of it */
    bool placed;               /* the place was given to the writer, which frees it */
};

/* Makes task, the current one, the owner of FLUSHING behind all that was written before; what is written
 * meanwhile waits. Suspends. 0, PICA_ECLOSED, the connection's error, PICA_ECANCELED, -ENOMEM. The caller
 * holds a reference to the pair. */
int pica__writer_claim(struct pica_writer *writer, pica_task *task);
/* The end of that. full: the kernel just said so. */
void pica__writer_unclaim(struct pica_writer *writer, bool full);
/* 0, the connection's error, or PICA_ECLOSED after an abort. */
int pica__writer_error(struct pica_writer *writer);

/* For the writer's own files. Refuses what is to be written: 0 or why. Under the lock. */
int pica__writer_refusal(struct pica_writer *writer);
/* Sends what waits because of a cork. Without the lock. */
void pica__writer_kick(struct pica_writer *writer);
static inline bool pica__chunk_is_place(const struct pica__chunk *chunk) {
    return chunk->capacity == 0;
}
/* Who has claimed a place that is taken out of the list, or NULL; who takes it fires its wait. Under the
 * lock. */
struct pica__claim *pica__claim_take(struct pica__chunk *place);
/* What the wait is fired with when it is its turn. */
enum { PICA__CLAIM_GRANTED = 1 };

/* Whether close or abort was called. */
static inline bool pica__writer_closing(struct pica_writer *writer) {
    return (atomic_load_explicit(&writer->state, memory_order_acquire) & PICA__WRITER_CLOSING) != 0;
}

#endif
