/*
 * Making a stream of a socket, opening connections, and the life of the pair. See stream.h for who
 * holds which reference.
 */
#include "io/stream.h"

#include <pica/names.h>
#include <pica/stream.h>

#include "io/socket.h"
#include "runtime/base/alloc.h"

#define DEFAULT_LIMIT ((size_t)64 * 1024)

void pica__stream_ref(struct pica__stream *stream) {
    atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed);
}

void pica__stream_unref(struct pica__stream *stream) {
    if (atomic_fetch_sub_explicit(&stream->references, 1, memory_order_acq_rel) == 1) {
        pica__reader_destroy(&stream->reader);
        pica__writer_destroy(&stream->writer);
        pica__socket_unref(stream->socket);
        pica__free(stream, PICA__STREAM_SIZE);
    }
}

/* --- a stream that is still open when the runtime ends --- */

static void stream_pin(pica__closer *closer) {
    pica__stream_ref(pica__socket_owner(closer));
}

static void stream_close(pica__closer *closer) {
    struct pica__stream *stream = pica__socket_owner(closer);
    pica_writer_abort(&stream->writer);
    pica__stream_unref(stream);
}

int pica_open_socket(pica_socket *socket, size_t limit, pica_reader **reader,
                     pica_writer **writer) {
    if (socket == NULL || reader == NULL || writer == NULL) {
        return -EINVAL;
    }
    struct pica__stream *stream = pica__alloc(PICA__STREAM_SIZE);
    if (stream == NULL) {
        return -ENOMEM;
    }
    int rc = pica__socket_use(socket); /* the writer's: writer.c */
    if (rc < 0) {
        pica__free(stream, PICA__STREAM_SIZE);
        return rc;
    }
    stream->socket = socket;
    atomic_init(&stream->references, 2);
    pica__reader_init(&stream->reader, limit == 0 ? DEFAULT_LIMIT : limit);
    pica__writer_init(&stream->writer);
    pica__socket_own(socket, stream, stream_pin, stream_close);
    *reader = &stream->reader;
    *writer = &stream->writer;
    return 0;
}

/* Takes over the socket that was connected, if rc says that it was. */
static int open_connected(int rc, pica_socket *socket, size_t limit, pica_reader **reader,
                          pica_writer **writer) {
    if (rc < 0) {
        return rc;
    }
    rc = pica_open_socket(socket, limit, reader, writer);
    if (rc < 0) {
        pica_socket_close(socket);
    }
    return rc;
}

int pica_open_connection(const char *host, unsigned port, size_t limit, pica_reader **reader,
                         pica_writer **writer) {
    if (reader == NULL || writer == NULL) {
        return -EINVAL;
    }
    pica_socket *socket = NULL;
    int rc = pica_connect_host(&socket, host, port, NULL);
    return open_connected(rc, socket, limit, reader, writer);
}

int pica_open_unix_connection(const char *path, size_t limit, pica_reader **reader,
                              pica_writer **writer) {
    if (reader == NULL || writer == NULL) {
        return -EINVAL;
    }
    pica_address address;
    pica_socket *socket = NULL;
    int rc = pica_address_unix(&address, path);
    rc = rc < 0 ? rc : pica_connect(&socket, &address);
    return open_connected(rc, socket, limit, reader, writer);
}

pica_socket *pica_writer_socket(pica_writer *writer) {
    return pica__stream_of_writer(writer)->socket;
}

void pica_writer_release(pica_writer *writer) {
    if (writer == NULL) {
        return;
    }
    pica_writer_close(writer);
    pica__reader_release(&pica__stream_of_writer(writer)->reader);
}
