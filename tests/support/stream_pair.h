/* Two connected streams for tests, and small helpers. */
#ifndef STREAM_PAIR_H
#define STREAM_PAIR_H

#include <pica.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/pt.h"

/* Runs the body of a case as the main task. */
#define TASK_TEST(name)                        \
    static int main_##name(void *arg);         \
    PT_TEST(name) {                            \
        PT_EQ(pica_run(main_##name, NULL), 0); \
    }                                          \
    static int main_##name(void *arg)

#define SEND(socket, text) PT_EQ(pica_sendall(socket, text, strlen(text)), 0)

struct side {
    pica_reader *reader;
    pica_writer *writer;
};

/* In a task: connects two sockets over address. */
static inline void connect_over(const pica_address *address, pica_socket **a, pica_socket **b) {
    pica_socket *listener;
    pica_address bound;
    PT_REQUIRE(pica_listen(&listener, address, NULL) == 0);
    PT_REQUIRE(pica_socket_name(listener, &bound) == 0);
    PT_REQUIRE(pica_connect(a, &bound) == 0);
    PT_REQUIRE(pica_accept(listener, b, NULL) == 0);
    pica_socket_close(listener);
}

static inline void connect_tcp(pica_socket **a, pica_socket **b) {
    pica_address address;
    PT_REQUIRE(pica_address_ip(&address, "127.0.0.1", 0) == 0);
    connect_over(&address, a, b);
}

/* What is sent over a Unix socket is there to be received when the call returns. */
static inline void connect_unix(pica_socket **a, pica_socket **b) {
    static int count;
    char name[64];
    pica_address address;
    snprintf(name, sizeof name, "@pica-test-%d-%d", (int)getpid(), count++);
    PT_REQUIRE(pica_address_unix(&address, name) == 0);
    connect_over(&address, a, b);
}

static inline struct side side_of(pica_socket *socket, size_t limit) {
    struct side s;
    PT_REQUIRE(pica_open_socket(socket, limit, &s.reader, &s.writer) == 0);
    return s;
}

static inline void pair_tcp(struct side *a, struct side *b) {
    pica_socket *x, *y;
    connect_tcp(&x, &y);
    *a = side_of(x, 0);
    *b = side_of(y, 0);
}

/* A stream, and the bare socket at the other end. */
static inline void pair_raw(struct side *a, pica_socket **raw, size_t limit) {
    pica_socket *x;
    connect_unix(&x, raw);
    *a = side_of(x, limit);
}

static inline void end_side(struct side s) {
    pica_writer_release(s.writer);
}

/* A byte stream that both ends can compute. */
static inline unsigned char pattern(size_t at) {
    return (unsigned char)((at * 2654435761u) >> 13);
}

static inline int read_one(void *arg) {
    char byte;
    ssize_t n = pica_reader_read(arg, &byte, 1);
    return n < 0 ? (int)n : byte;
}

static inline void expect_line(pica_reader *reader, const char *expected) {
    const char *line = NULL;
    ssize_t n = pica_reader_readline(reader, &line);
    if (PT_EQ(n, strlen(expected)) && n >= 0) {
        PT_EQ(memcmp(line, expected, (size_t)n), 0);
    }
}

static inline int read_all(pica_reader *reader, size_t *total) {
    for (*total = 0;;) {
        const char *data;
        ssize_t n = pica_reader_peek(reader, &data);
        if (n <= 0) {
            return (int)n;
        }
        for (ssize_t i = 0; i < n; i++) {
            if ((unsigned char)data[i] != pattern(*total + (size_t)i)) {
                PT_FAIL("byte %zu is wrong", *total + (size_t)i);
                return -EBADMSG;
            }
        }
        *total += (size_t)n;
        PT_EQ(pica_reader_consume(reader, (size_t)n), 0);
    }
}

static inline char *make_pattern(size_t size) {
    char *all = malloc(size);
    PT_REQUIRE(all != NULL);
    for (size_t i = 0; i < size; i++) {
        all[i] = (char)pattern(i);
    }
    return all;
}

/* More than any socket's buffers hold. */
#define BIG ((size_t)24 * 1024 * 1024)

#endif
