/* A connection served with plain recv and send once something else has said that it is ready.
 *
 * Readiness is edge triggered: a report means "something happened since the last report". A read
 * that comes back short has emptied the socket, and whatever arrives later is a new edge, so the
 * read that would only say EAGAIN is saved. After a report of a hang-up no further edge will come,
 * so from then on the socket is read to its end. That has to be remembered: the report may come
 * while bytes wait to be sent, and a ring's next report then says "writable" and nothing else.
 *
 * What the kernel does not take is kept and sent first at the next edge; while it waits, nothing is
 * read, so a client that does not read its answers stops being served instead of filling memory. */
#ifndef PICA__BENCH_FLOOR_PLAIN_H
#define PICA__BENCH_FLOOR_PLAIN_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench/floor/answer.h"
#include "bench/floor/setup.h"

#define PLAIN_READ_SIZE 16384u

struct plain {
    int fd;
    bool hung_up; /* a hang-up or an error was reported */
    char *kept;   /* bytes the kernel did not take yet, or NULL */
    size_t kept_from;
    size_t kept_size;
    struct floor_heads heads; /* http */
};

/* Keeps bytes for later. The memory is of the size needed and freed once sent: this is rare. */
static inline bool plain_keep(struct plain *plain, const char *bytes, size_t size) {
    char *grown = realloc(plain->kept, plain->kept_size + size);
    if (grown == NULL) {
        return false;
    }
    memcpy(grown + plain->kept_size, bytes, size);
    plain->kept = grown;
    plain->kept_size += size;
    return true;
}

/* Sends as much as the kernel takes: the number of bytes, or -1 when the connection is broken. */
static inline ssize_t plain_send(int fd, const char *bytes, size_t size) {
    size_t sent = 0;
    while (sent < size) {
        ssize_t n = send(fd, bytes + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return (ssize_t)sent;
}

static inline bool plain_send_or_keep(struct plain *plain, const char *bytes, size_t size) {
    ssize_t sent = plain->kept != NULL ? 0 : plain_send(plain->fd, bytes, size);
    if (sent < 0) {
        return false;
    }
    return (size_t)sent == size || plain_keep(plain, bytes + sent, size - (size_t)sent);
}

/* Sends what was kept. False: the connection is broken. */
static inline bool plain_flush(struct plain *plain) {
    const char *bytes = plain->kept + plain->kept_from;
    ssize_t sent = plain_send(plain->fd, bytes, plain->kept_size - plain->kept_from);
    if (sent < 0) {
        return false;
    }
    plain->kept_from += (size_t)sent;
    if (plain->kept_from == plain->kept_size) {
        free(plain->kept);
        plain->kept = NULL;
        plain->kept_from = 0;
        plain->kept_size = 0;
    }
    return true;
}

static inline bool plain_answer(struct plain *plain, enum floor_mode mode, unsigned thread,
                                const char *bytes, size_t size) {
    if (mode == FLOOR_ECHO) {
        floor_count_add(thread, size);
        return plain_send_or_keep(plain, bytes, size);
    }
    size_t owed;
    if (!floor_parse_heads(&plain->heads, bytes, size, &owed)) {
        return false;
    }
    floor_count_add(thread, owed);
    while (owed > 0) {
        size_t run = owed < FLOOR_RESPONSE_RUN ? owed : FLOOR_RESPONSE_RUN;
        if (!plain_send_or_keep(plain, floor_responses, run * FLOOR_RESPONSE_SIZE)) {
            return false;
        }
        owed -= run;
    }
    return true;
}

/* Serves one report of readiness. buffer holds PLAIN_READ_SIZE bytes; hang_up says that the report
 * contained a hang-up or an error. False: the connection is over, the caller closes it. */
static inline bool plain_serve(struct plain *plain, enum floor_mode mode, unsigned thread,
                               char *buffer, bool hang_up) {
    plain->hung_up = plain->hung_up || hang_up;
    for (;;) {
        if (plain->kept != NULL) {
            if (!plain_flush(plain)) {
                return false;
            }
            if (plain->kept != NULL) {
                return true;
            }
        }
        ssize_t n = recv(plain->fd, buffer, PLAIN_READ_SIZE, MSG_DONTWAIT);
        if (n > 0) {
            if (!plain_answer(plain, mode, thread, buffer, (size_t)n)) {
                return false;
            }
            if ((size_t)n < PLAIN_READ_SIZE && !plain->hung_up && plain->kept == NULL) {
                return true;
            }
        } else if (n == 0) {
            return false;
        } else if (errno == EAGAIN) {
            return true;
        } else if (errno != EINTR) {
            return false;
        }
    }
}

#endif
