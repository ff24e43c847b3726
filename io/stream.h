/*
 * A stream: reader, writer and the socket under them, one allocation with one life.
 *
 * References: one is the caller's, until pica_writer_release; one is the open socket's, dropped by
 * whoever finishes closing it (so a flush that goes on in the background never outlives its
 * writer); drain and wait_closed hold one while they wait. The caller's one may be dropped by a
 * read that is under way when the pair is released. The last reference frees the pair.
 */
#ifndef PICA__IO_STREAM_H
#define PICA__IO_STREAM_H

#include <stdatomic.h>
#include <stdint.h>

#include <pica/net.h>

#include "io/reader.h"
#include "io/writer.h"
#include "runtime/base/compiler.h"

/* The reader's line, then the writer's: what messages need stands in these two. */
struct pica__stream {
    pica_socket *socket; /* holds a reference to the end, so that late calls find a closed socket */
    struct pica_reader reader;
    struct pica_writer writer;
    /*
     * Incremented (relaxed) by somebody who holds a reference, decremented (acq_rel) by everybody;
     * the decrement that reaches 0 sees all that the others wrote.
     */
    _Atomic uint32_t references;
};

/* As PICA__SOCKET_SIZE. */
#define PICA__STREAM_SIZE \
    ((sizeof(struct pica__stream) + PICA__CACHELINE - 1) / PICA__CACHELINE * PICA__CACHELINE)

void pica__stream_ref(struct pica__stream *stream);
void pica__stream_unref(struct pica__stream *stream);

static inline struct pica__stream *pica__stream_of_reader(struct pica_reader *reader) {
    return PICA__CONTAINER_OF(reader, struct pica__stream, reader);
}

static inline struct pica__stream *pica__stream_of_writer(struct pica_writer *writer) {
    return PICA__CONTAINER_OF(writer, struct pica__stream, writer);
}

#endif
