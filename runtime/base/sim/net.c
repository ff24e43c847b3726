/*
 * The table of descriptors, and streams of bytes in memory. See net.h.
 *
 * A stream is two pipes. A write copies what fits into the pipe's ring; the bytes arrive, in one or more portions,
 * after the connection's latency, and the reader's watches are told. The end follows the last byte. A reset
 * breaks both directions at once and drops what was under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/sim/datagram.h"
#include "runtime/base/sim/disk.h"
#include "runtime/base/sim/net.h"
#include "runtime/base/sim/sys.h"

/* Kept from run to run, so that a run allocates little. */
static struct {
    pica__sim_file **file; /* by number; NULL: closed */
    unsigned used;
    unsigned capacity;
} table;

enum { DESCRIPTORS_MAX = 1 << 20 };

/* --- descriptors --- */

pica__sim_file *pica__sim_file_make(enum pica__sim_kind kind) {
    pica__sim_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        pica__sim_fatal("no memory");
    }
    file->kind = kind;
    file->fd = -1;
    file->actor = pica__sim_current()->actor;
    pica__list_init(&file->watches);
    pica__list_init(&file->bound);
    return file;
}

int pica__sim_file_number(pica__sim_file *file) {
    if (table.used == table.capacity) {
        unsigned capacity = table.capacity == 0 ? 256 : table.capacity * 2;
        pica__sim_file **grown = realloc(table.file, capacity * sizeof *grown);
        if (grown == NULL || capacity > DESCRIPTORS_MAX) {
            pica__sim_fatal("no more descriptors");
        }
        table.file = grown;
        table.capacity = capacity;
    }
    table.file[table.used] = file;
    file->fd = PICA__SIM_FD + (int)table.used++;
    return file->fd;
}

int pica__sim_file_open(pica__sim_file **out, enum pica__sim_kind kind) {
    if (!pica__sim_current()->actor && pica__sim_fault(PICA_SIM_EMFILE)) {
        return -EMFILE;
    }
    *out = pica__sim_file_make(kind);
    return pica__sim_file_number(*out);
}

pica__sim_file *pica__sim_file_of(int fd) {
    unsigned i = (unsigned)(fd - PICA__SIM_FD);
    if (fd < PICA__SIM_FD) {
        pica__sim_fatal("descriptor %d is not simulated", fd);
    }
    if (i >= table.used || table.file[i] == NULL) {
        pica__sim_fatal("descriptor %d was used after it was closed", fd);
    }
    return table.file[i];
}

pica__sim_file *pica__sim_file_find(int fd) {
    unsigned i = (unsigned)(fd - PICA__SIM_FD);
    return fd < PICA__SIM_FD || i >= table.used ? NULL : table.file[i];
}

int pica__sim_file_limit(void) {
    return PICA__SIM_FD + (int)table.used;
}

void pica__sim_file_notify(pica__sim_file *file, unsigned revents) {
    /* A watch may leave, but not others, while it is told. */
    pica__link *next;
    for (pica__link *l = file->watches.next; l != &file->watches; l = next) {
        next = l->next;
        pica__sim_watch *watch = PICA__CONTAINER_OF(l, pica__sim_watch, link);
        watch->notify(watch, revents);
    }
}

/* --- pipes --- */

static void arrival_fire(pica__sim_event *event);

pica__sim_pipe *pica__sim_pipe_make(pica__sim_file *writer, pica__sim_file *reader) {
    static const uint32_t capacities[] = {1, 16, 200, 1000, 4096, 16384, 65536, 65536};
    pica__sim_pipe *p = calloc(1, sizeof *p);
    if (p == NULL) {
        pica__sim_fatal("no memory");
    }
    p->reader = reader;
    p->writer = writer;
    p->capacity = capacities[pica__sim_draw(PICA__SIM_WORLD, 8)];
    p->latency = pica__sim_draw(PICA__SIM_TIME, 2) == 0 ? 0 : pica__sim_delay();
    pica__sim_event_init(&p->arrival, arrival_fire);
    return p;
}

static void pipe_drop(pica__sim_pipe *p) {
    if (p->reader == NULL && p->writer == NULL) {
        pica__sim_event_cancel(&p->arrival);
        free(p->data);
        free(p);
    }
}

static uint32_t room(const pica__sim_pipe *p) {
    return p->capacity - p->length;
}

/* As the kernel does: a writer that was held up goes on when a third is free. */
static bool writable(const pica__sim_pipe *p) {
    return p->reset || p->reader == NULL || (p->was_full ? room(p) * 3 >= p->capacity : room(p) > 0);
}

static void arrival_plan(pica__sim_pipe *p) {
    if (pica__sim_event_pending(&p->arrival)) {
        return;
    }
    if (p->chunks > 0) {
        pica__sim_event_at(&p->arrival, p->chunk[0].when);
    } else if (p->fin && !p->fin_arrived) {
        pica__sim_event_at(&p->arrival, p->latest);
    }
}

static void arrival_fire(pica__sim_event *event) {
    pica__sim_pipe *p = PICA__CONTAINER_OF(event, pica__sim_pipe, arrival);
    int64_t now = pica__sim_time();
    uint32_t n = 0;
    while (p->chunks > 0 && p->chunk[0].when <= now) {
        n += p->chunk[0].size;
        p->chunks--;
        memmove(p->chunk, p->chunk + 1, p->chunks * sizeof p->chunk[0]);
    }
    p->arrived += n;
    unsigned revents = n > 0 ? POLLIN : 0;
    pica__sim_trace("%u bytes arrive at %d", n, p->reader != NULL ? p->reader->fd : -1);
    if (p->chunks == 0 && p->fin && !p->fin_arrived && p->latest <= now) {
        p->fin_arrived = true;
        revents |= POLLIN | POLLRDHUP;
    }
    arrival_plan(p);
    if (p->reader != NULL && revents != 0) {
        pica__sim_file_notify(p->reader, revents);
    }
}

/* What was written arrives in up to two portions. */
static void chunk_add(pica__sim_pipe *p, uint32_t n) {
    while (n > 0) {
        uint32_t size = n;
        if (n > 1 && p->chunks + 1 < PICA__SIM_CHUNKS && pica__sim_draw(PICA__SIM_WORLD, 4) == 0) {
            size = 1 + pica__sim_draw(PICA__SIM_WORLD, n - 1);
        }
        int64_t when = pica__sim_time() + p->latency + pica__sim_delay();
        p->latest = when > p->latest ? when : p->latest;
        if (p->chunks == PICA__SIM_CHUNKS) {
            p->chunk[p->chunks - 1].size += size;
            p->chunk[p->chunks - 1].when = p->latest;
        } else {
            p->chunk[p->chunks++] = (struct pica__sim_chunk){size, p->latest};
        }
        n -= size;
    }
    /* The first one may be due at once: then nobody needs to wait for an event. */
    if (p->chunk[0].when <= pica__sim_time() && !pica__sim_event_pending(&p->arrival)) {
        arrival_fire(&p->arrival);
    } else {
        arrival_plan(p);
    }
}

static void pipe_break(pica__sim_pipe *p) {
    p->reset = true;
    p->length = p->arrived = 0;
    p->chunks = 0;
    pica__sim_event_cancel(&p->arrival);
}

/* --- streams --- */

void pica__sim_stream_pair(pica__sim_file *a, pica__sim_file *b) {
    a->kind = b->kind = PICA__SIM_STREAM;
    a->out = b->in = pica__sim_pipe_make(a, b);
    b->out = a->in = pica__sim_pipe_make(b, a);
}

unsigned pica__sim_file_poll(const pica__sim_file *file) {
    unsigned revents = 0;
    if (file->kind == PICA__SIM_LISTENER) {
        return file->waiting > 0 ? POLLIN : 0;
    }
    if (file->kind == PICA__SIM_DATAGRAM) {
        return pica__sim_datagram_poll(file);
    }
    if (file->kind == PICA__SIM_CHILD) {
        return pica__sim_child_ended(file) ? POLLIN : 0;
    }
    if (file->kind != PICA__SIM_STREAM) {
        return file->kind == PICA__SIM_SOCKET ? POLLOUT | POLLHUP : POLLIN | POLLOUT;
    }
    if (file->in != NULL) {
        revents |= file->in->arrived > 0 ? POLLIN : 0;
        revents |= file->in->fin_arrived ? POLLIN | POLLRDHUP : 0;
        revents |= file->in->reset ? POLLIN | POLLRDHUP | POLLERR | POLLHUP : 0;
        revents |= file->in->fin_arrived && !file->socket ? POLLHUP : 0;
    }
    if (file->out != NULL) {
        revents |= writable(file->out) ? POLLOUT : 0;
        revents |= file->out->reader == NULL && !file->socket ? POLLERR : 0;
        revents |= file->in != NULL && file->in->fin_arrived && file->out->fin ? POLLHUP : 0;
    }
    return revents;
}

static void ring_out(pica__sim_pipe *p, char *to, uint32_t n) {
    uint32_t first = p->capacity - p->head < n ? p->capacity - p->head : n;
    memcpy(to, p->data + p->head, first);
    memcpy(to + first, p->data, n - first);
    p->head = (p->head + n) % p->capacity;
    p->length -= n;
    p->arrived -= n;
}

ssize_t pica__sim_stream_read(pica__sim_file *file, void *buffer, size_t size) {
    pica__sim_pipe *p = file->in;
    if (p == NULL) {
        return -EBADF;
    }
    if (p->reset && !p->reset_told) {
        p->reset_told = true;
        return -ECONNRESET;
    }
    if (p->arrived == 0 || size == 0) {
        return p->reset || p->fin_arrived || size == 0 ? 0 : -EAGAIN;
    }
    uint32_t n = size < p->arrived ? (uint32_t)size : p->arrived;
    /* Not for TCP, where less than was asked for says that there is no more. */
    if (n > 1 && !file->tcp && pica__sim_fault(PICA_SIM_SHORT_READ)) {
        n = 1 + pica__sim_draw(PICA__SIM_WORLD, n - 1);
    }
    ring_out(p, buffer, n);
    if (p->was_full && writable(p)) {
        p->was_full = false;
        if (p->writer != NULL) {
            pica__sim_file_notify(p->writer, POLLOUT);
        }
    }
    return n;
}

static void ring_in(pica__sim_pipe *p, const char *from, uint32_t n) {
    uint32_t tail = (p->head + p->length) % p->capacity;
    uint32_t first = p->capacity - tail < n ? p->capacity - tail : n;
    memcpy(p->data + tail, from, first);
    memcpy(p->data, from + first, n - first);
    p->length += n;
}

static ssize_t write_check(pica__sim_file *file) {
    pica__sim_pipe *p = file->out;
    if (p == NULL) {
        return -EBADF;
    }
    if (p->reset) {
        if (file->in != NULL && file->in->reset && !file->in->reset_told) {
            file->in->reset_told = true;
            return -ECONNRESET;
        }
        return -EPIPE;
    }
    if (p->fin || (p->reader == NULL && !file->tcp)) {
        return -EPIPE;
    }
    if (file->socket && !file->actor) {
        if (file->tcp && pica__sim_fault(PICA_SIM_RESET)) {
            pica__sim_stream_reset(file);
            return -ECONNRESET;
        }
        if (pica__sim_fault(PICA_SIM_ENOBUFS)) {
            return -ENOBUFS;
        }
    }
    return 0;
}

ssize_t pica__sim_stream_write(pica__sim_file *file, const struct iovec *parts, int count) {
    ssize_t rc = write_check(file);
    if (rc < 0) {
        return rc;
    }
    pica__sim_pipe *p = file->out;
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += parts[i].iov_len;
    }
    if (p->reader == NULL) {
        /* The other side has closed: it answers with a reset. */
        pica__sim_stream_reset(file);
        return (ssize_t)total;
    }
    if (p->data == NULL && (p->data = malloc(p->capacity)) == NULL) {
        return -ENOBUFS;
    }
    uint32_t n = total < room(p) ? (uint32_t)total : room(p);
    if (total > 0 && n == 0) {
        p->was_full = true;
        return -EAGAIN;
    }
    if (n > 1 && pica__sim_fault(PICA_SIM_SHORT_WRITE)) {
        n = 1 + pica__sim_draw(PICA__SIM_WORLD, n - 1);
    }
    uint32_t left = n;
    for (int i = 0; left > 0; i++) {
        uint32_t part = parts[i].iov_len < left ? (uint32_t)parts[i].iov_len : left;
        ring_in(p, parts[i].iov_base, part);
        left -= part;
    }
    if (n > 0) {
        chunk_add(p, n);
    }
    return (ssize_t)n;
}

void pica__sim_stream_finish(pica__sim_file *file) {
    pica__sim_pipe *p = file->out;
    if (p == NULL || p->fin || p->reset) {
        return;
    }
    p->fin = true;
    int64_t when = pica__sim_time() + p->latency + pica__sim_delay();
    p->latest = when > p->latest ? when : p->latest;
    arrival_plan(p);
}

void pica__sim_stream_reset(pica__sim_file *file) {
    pica__sim_pipe *in = file->in;
    pica__sim_pipe *out = file->out;
    pica__sim_file *peer = out != NULL ? out->reader : in->writer;
    if (in != NULL) {
        pipe_break(in);
    }
    if (out != NULL) {
        pipe_break(out);
    }
    pica__sim_trace("reset of %d", file->fd);
    enum { ALL = POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP };
    pica__sim_file_notify(file, ALL);
    if (peer != NULL) {
        pica__sim_file_notify(peer, ALL);
    }
}

void pica__sim_stream_close(pica__sim_file *file) {
    bool rude = file->socket && (file->linger_reset || (file->in != NULL && file->in->length > 0));
    if (rude && !file->out->reset) {
        pica__sim_stream_reset(file);
    } else {
        pica__sim_stream_finish(file);
    }
    pica__sim_pipe *in = file->in;
    pica__sim_pipe *out = file->out;
    file->in = file->out = NULL;
    if (in != NULL) {
        in->reader = NULL;
        if (in->writer != NULL) {
            if (!file->tcp) {
                pica__sim_file_notify(in->writer, POLLOUT | POLLERR);
            }
        }
        pipe_drop(in);
    }
    if (out != NULL) {
        out->writer = NULL;
        pipe_drop(out);
    }
}

/* --- closing --- */

int pica__sim_close(int fd) {
    pica__sim_file *file = pica__sim_file_of(fd);
    if (!pica__list_empty(&file->watches)) {
        pica__sim_fatal("descriptor %d was closed while an operation on it was in flight", fd);
    }
    pica__sim_trace("closes %d", fd);
    table.file[fd - PICA__SIM_FD] = NULL;
    switch (file->kind) {
        case PICA__SIM_STREAM:
            pica__sim_stream_close(file);
            break;
        case PICA__SIM_LISTENER:
        case PICA__SIM_SOCKET:
            pica__sim_listener_close(file);
            break;
        case PICA__SIM_DATAGRAM:
            pica__sim_datagram_close(file);
            pica__sim_listener_close(file);
            break;
        case PICA__SIM_DISK:
            pica__sim_disk_close(file);
            break;
        case PICA__SIM_CHILD:
            pica__sim_child_unwatch(file);
            break;
    }
    free(file);
    return 0;
}

/* What is still open was left behind: by actors that is fine. */
void pica__sim_net_end(void) {
    unsigned left = 0;
    int first = 0;
    for (unsigned i = 0; i < table.used; i++) {
        pica__sim_file *file = table.file[i];
        if (file != NULL) {
            if (!file->actor && left++ == 0) {
                first = file->fd;
            }
            pica__list_init(&file->watches);
            (void)pica__sim_close(file->fd);
        }
    }
    pica__sim_datagrams_end();
    pica__sim_addresses_end();
    if (left > 0) {
        pica__sim_failed("%u descriptors were left open, the first of them %d", left, first);
    }
    table.used = 0;
}
