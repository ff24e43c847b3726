/* Bodies of HTTP/1 messages, passed on from one connection to another piece by piece. What the reader
 * has is written, and no more is read until the writer has room: both ends go at the slower one's
 * pace, and memory is bounded by the limits of the two. */
#ifndef PICA_EXAMPLES_PROXY_BODY_H
#define PICA_EXAMPLES_PROXY_BODY_H

#include <pica.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/proxy/head.h"

/* One direction, moved by one task. */
struct way {
    pica_reader *from;
    pica_writer *to;
    pica_timeout timer; /* entered by the task, with this limit */
    double limit;
    bool corked;
    bool failed;      /* to write, rather than to read */
    atomic_bool sent; /* set before the last piece is written, so that no answer comes before it */
};

/* Sends now what was put, and waits for room; what moves next has the whole limit again. */
static int body_flush(struct way *w) {
    int rc = w->corked ? pica_writer_uncork(w->to) : 0;
    w->corked = false;
    rc = rc < 0 ? rc : pica_writer_drain(w->to);
    w->failed = w->failed || rc < 0;
    (void)pica_timeout_reschedule(&w->timer, w->limit); /* fails if it has cancelled us already */
    return rc;
}

/* Kept back until the next flush. */
static void body_put(struct way *w, const char *data, size_t size) {
    if (!w->corked) {
        pica_writer_cork(w->to);
        w->corked = true;
    }
    w->failed = pica_writer_write(w->to, data, size) < 0 || w->failed;
}

/* Passes on so many bytes, the last ones of a message or not. PICA_EINCOMPLETE: there were less. */
static int body_copy(struct way *w, unsigned long long left, bool last) {
    const char *data;
    ssize_t n = 0;
    int rc = 0;
    while (rc >= 0 && left > 0 && (n = pica_reader_peek(w->from, &data)) > 0) {
        size_t size = (unsigned long long)n < left ? (size_t)n : (size_t)left;
        left -= size;
        w->sent = last && left == 0;
        w->failed = pica_writer_write(w->to, data, size) < 0 || w->failed;
        pica_reader_consume(w->from, size);
        rc = body_flush(w);
        rc = rc >= 0 && w->failed ? PICA_ECLOSED : rc;
    }
    return rc < 0 ? rc : n < 0 ? (int)n : left > 0 ? PICA_EINCOMPLETE : 0;
}

/* Passes on a body in chunks. Extensions and trailers are dropped, also for safety: a line end that
 * only one of the two peers sees can hide in them. */
static int body_copy_chunked(struct way *w) {
    const char *data;
    char line[24];
    ssize_t n;
    while ((n = pica_reader_readuntil(w->from, "\r\n", 2, &data, NULL)) >= 0) {
        size_t digits = head_span(data, data + n, "0123456789abcdefABCDEF");
        if (digits == 0 || digits > 15 || (data[digits] != '\r' && data[digits] != ';')) {
            return -EPROTO;
        }
        unsigned long long size = head_number(data, digits, 16);
        if (size == 0) {
            break;
        }
        body_put(w, line, (size_t)snprintf(line, sizeof(line), "%llx\r\n", size));
        int rc = body_copy(w, size, false);
        rc = rc < 0 ? rc : pica_reader_readexactly(w->from, line, 2, NULL);
        if (rc < 0 || memcmp(line, "\r\n", 2) != 0) {
            return rc < 0 ? rc : -EPROTO;
        }
        body_put(w, "\r\n", 2); /* goes with the next chunk, if that is there already */
        rc = pica_reader_buffered(w->from) == 0 ? body_flush(w) : 0;
        if (rc < 0) {
            return rc;
        }
    }
    while (n >= 0 && (n = pica_reader_readuntil(w->from, "\r\n", 2, &data, NULL)) > 2) {
        /* a trailer */
    }
    if (n < 0) {
        return (int)n;
    }
    w->sent = true;
    body_put(w, "0\r\n\r\n", 5);
    return body_flush(w);
}

/* Sends what is pending, and lets the peer read it: to close while it still sends, as one may whose
 * request was refused, would reset the connection. For limit seconds, and one, at most. */
static void body_linger(pica_reader *reader, pica_writer *writer, double limit) {
    const char *data;
    pica_timeout timer;
    ssize_t n = pica_timeout_enter(&timer, limit);
    if (n >= 0) {
        (void)pica_writer_set_limits(writer, 0, 0);
        n = pica_writer_drain(writer);
        (void)pica_writer_write_eof(writer);
        (void)pica_timeout_reschedule(&timer, 1.0);
        size_t taken = 0;
        while (n >= 0 && taken < 1 << 20 && (n = pica_reader_peek(reader, &data)) > 0) {
            pica_reader_consume(reader, (size_t)n);
            taken += (size_t)n;
        }
        (void)pica_timeout_exit(&timer, (int)n);
    }
}

#endif
