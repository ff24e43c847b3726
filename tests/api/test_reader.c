/* Readers over connected sockets. */
#include "tests/support/stream_pair.h"

#include <stdatomic.h>
#include <stdlib.h>

TASK_TEST(read_takes_what_is_there) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    char buf[16];
    pair_raw(&s, &raw, 0);
    SEND(raw, "hello");
    PT_EQ(pica_reader_read(s.reader, buf, 0), 0);
    PT_EQ(pica_reader_read(s.reader, buf, 2), 2);
    PT_EQ(memcmp(buf, "he", 2), 0);
    PT_EQ(pica_reader_read(s.reader, buf, sizeof buf), 3);
    PT_EQ(memcmp(buf, "llo", 3), 0);
    PT_EQ(pica_reader_at_eof(s.reader), 0);
    SEND(raw, "x");
    pica_socket_close(raw);
    PT_EQ(pica_reader_read(s.reader, buf, sizeof buf), 1);
    PT_EQ(pica_reader_read(s.reader, buf, sizeof buf), 0);
    PT_EQ(pica_reader_at_eof(s.reader), 1);
    PT_EQ(pica_reader_read(s.reader, buf, sizeof buf), 0);
    end_side(s);
    return 0;
}

TASK_TEST(readexactly) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    char buf[16];
    size_t got = 99;
    pair_raw(&s, &raw, 0);
    SEND(raw, "abcdefgh");
    PT_EQ(pica_reader_readexactly(s.reader, buf, 0, &got), 0);
    PT_EQ(got, 0);
    PT_EQ(pica_reader_readexactly(s.reader, buf, 3, &got), 0);
    PT_EQ(got, 3);
    PT_EQ(memcmp(buf, "abc", 3), 0);
    PT_EQ(pica_reader_readexactly(s.reader, buf, 4, NULL), 0);
    PT_EQ(memcmp(buf, "defg", 4), 0);
    pica_socket_close(raw);
    PT_EQ(pica_reader_readexactly(s.reader, buf, 5, &got), PICA_EINCOMPLETE);
    PT_EQ(got, 1);
    PT_EQ(buf[0], 'h');
    end_side(s);
    return 0;
}

/* A read that runs into a time limit has taken bytes, and gives them to the next one. */
TASK_TEST(timeout_loses_nothing) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    char buf[16];
    size_t got = 0;
    pica_timeout t;
    const char *line;
    pair_raw(&s, &raw, 0);

    SEND(raw, "abcd");
    PT_EQ(pica_timeout_enter(&t, 0.02), 0);
    PT_EQ(pica_timeout_exit(&t, pica_reader_readexactly(s.reader, buf, 10, NULL)), PICA_ETIMEDOUT);
    PT_EQ(pica_reader_buffered(s.reader), 4);
    SEND(raw, "efghij");
    PT_EQ(pica_reader_readexactly(s.reader, buf, 10, NULL), 0);
    PT_EQ(memcmp(buf, "abcdefghij", 10), 0);

    SEND(raw, "1234");
    PT_EQ(pica_timeout_enter(&t, 0.02), 0);
    PT_EQ(pica_timeout_exit(&t, pica_reader_readexactly(s.reader, buf, 6, &got)), PICA_ETIMEDOUT);
    PT_EQ(got, 4);
    PT_EQ(memcmp(buf, "1234", 4), 0);
    PT_EQ(pica_reader_buffered(s.reader), 0);

    SEND(raw, "half a li");
    PT_EQ(pica_timeout_enter(&t, 0.02), 0);
    PT_EQ(pica_timeout_exit(&t, (int)pica_reader_readline(s.reader, &line)), PICA_ETIMEDOUT);
    SEND(raw, "ne\n");
    if (PT_EQ(pica_reader_readline(s.reader, &line), 12)) {
        PT_EQ(memcmp(line, "half a line\n", 12), 0);
    }
    pica_socket_close(raw);
    end_side(s);
    return 0;
}

struct sender {
    pica_socket *socket;
    const char *data;
    size_t size;
    unsigned piece_max;
};

static int send_pieces(void *arg) {
    struct sender *s = arg;
    unsigned step = 0;
    int rc = 0;
    for (size_t at = 0; at < s->size && rc == 0;) {
        size_t n = step++ * 7 % s->piece_max + 1;
        n = n < s->size - at ? n : s->size - at;
        rc = pica_sendall(s->socket, s->data + at, n);
        at += n;
        rc = rc == 0 ? pica_yield() : rc;
    }
    pica_socket_close(s->socket);
    return rc;
}

/* Records of every length up to 300, between separators that contain parts of themselves, arrive
 * cut in every place. */
static void cut_records(unsigned piece_max) {
    static const char separator[] = "-=-==";
    enum { RECORDS = 300 };
    size_t size = 0;
    char *all = malloc(RECORDS * (RECORDS + sizeof separator));
    PT_REQUIRE(all != NULL);
    for (size_t i = 0; i < RECORDS; i++) {
        for (size_t k = 0; k < i; k++) {
            all[size++] = "-=-="[k % 4];
        }
        all[size++] = '.';
        memcpy(all + size, separator, sizeof separator - 1);
        size += sizeof separator - 1;
    }
    struct side s;
    pica_socket *raw;
    pair_raw(&s, &raw, 0);
    struct sender sender = {raw, all, size, piece_max};
    pica_task *task;
    PT_REQUIRE(pica_create_task(&task, send_pieces, &sender) == 0);
    size_t at = 0;
    for (size_t i = 0; i < RECORDS; i++) {
        const char *data;
        size_t expected = i + 1 + sizeof separator - 1;
        ssize_t n = pica_reader_readuntil(s.reader, separator, sizeof separator - 1, &data, NULL);
        PT_REQUIRE(n == (ssize_t)expected);
        PT_EQ(memcmp(data, all + at, expected), 0);
        at += expected;
    }
    const char *rest;
    size_t left = 99;
    PT_EQ(pica_reader_readuntil(s.reader, "x", 1, &rest, &left), PICA_EINCOMPLETE);
    PT_EQ(left, 0);
    PT_EQ(pica_join(task, NULL), 0);
    end_side(s);
    free(all);
}

TASK_TEST(readuntil_cut_anywhere) {
    (void)arg;
    cut_records(1);
    cut_records(7);
    cut_records(1000);
    cut_records(1000000);
    return 0;
}

TASK_TEST(readuntil_limit) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    const char *data;
    size_t size;
    pair_raw(&s, &raw, 8);

    /* Not found: all but what may be the beginning of a separator can be consumed. */
    SEND(raw, "0123456789\r");
    PT_EQ(pica_reader_readuntil(s.reader, "\r\n", 2, &data, &size), -EMSGSIZE);
    PT_EQ(size, 10);
    PT_EQ(pica_reader_buffered(s.reader), 11);
    PT_EQ(pica_reader_consume(s.reader, size), 0);
    SEND(raw, "\n");
    PT_EQ(pica_reader_readuntil(s.reader, "\r\n", 2, &data, &size), 2);
    PT_EQ(size, 2);

    /* Found, but too far behind. */
    SEND(raw, "0123456789;rest;");
    PT_EQ(pica_reader_readuntil(s.reader, ";", 1, &data, &size), -EMSGSIZE);
    PT_EQ(size, 10);
    PT_EQ(pica_reader_consume(s.reader, size), 0);
    PT_EQ(pica_reader_readuntil(s.reader, ";", 1, &data, NULL), 1);

    /* Exactly the limit before the separator is within it. */
    PT_EQ(pica_reader_readuntil(s.reader, ";", 1, &data, NULL), 5);
    PT_EQ(memcmp(data, "rest;", 5), 0);
    SEND(raw, "12345678;");
    PT_EQ(pica_reader_readuntil(s.reader, ";", 1, &data, NULL), 9);

    PT_EQ(pica_reader_readuntil(s.reader, "", 0, &data, NULL), -EINVAL);
    SEND(raw, "end");
    pica_socket_close(raw);
    PT_EQ(pica_reader_readuntil(s.reader, ";", 1, &data, &size), PICA_EINCOMPLETE);
    PT_EQ(size, 3);
    PT_EQ(memcmp(data, "end", 3), 0);
    PT_EQ(pica_reader_at_eof(s.reader), 1);
    end_side(s);
    return 0;
}

TASK_TEST(readline) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    const char *line;
    pair_raw(&s, &raw, 8);
    SEND(raw, "one\n\ntwo\nthis is far too long\nthree\nand this as well");
    expect_line(s.reader, "one\n");
    expect_line(s.reader, "\n");
    expect_line(s.reader, "two\n");
    PT_EQ(pica_reader_readline(s.reader, &line), -EMSGSIZE);
    expect_line(s.reader, "three\n");
    PT_EQ(pica_reader_readline(s.reader, &line), -EMSGSIZE);
    PT_EQ(pica_reader_buffered(s.reader), 0);
    SEND(raw, "last");
    pica_socket_close(raw);
    expect_line(s.reader, "last");
    expect_line(s.reader, "");
    PT_EQ(pica_reader_at_eof(s.reader), 1);
    end_side(s);
    return 0;
}

TASK_TEST(peek_more_consume) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    const char *data;
    pair_raw(&s, &raw, 6);
    SEND(raw, "abc");
    PT_EQ(pica_reader_peek(s.reader, &data), 3);
    PT_EQ(memcmp(data, "abc", 3), 0);
    PT_EQ(pica_reader_peek(s.reader, &data), 3);
    PT_EQ(pica_reader_consume(s.reader, 4), -EINVAL);
    PT_EQ(pica_reader_consume(s.reader, 1), 0);
    SEND(raw, "def");
    PT_EQ(pica_reader_peek(s.reader, &data), 2);
    PT_EQ(pica_reader_more(s.reader, &data), 5);
    PT_EQ(memcmp(data, "bcdef", 5), 0);
    SEND(raw, "g");
    PT_EQ(pica_reader_more(s.reader, &data), 6);
    PT_EQ(pica_reader_more(s.reader, &data), -EMSGSIZE);
    PT_EQ(pica_reader_consume(s.reader, 5), 0);
    pica_socket_close(raw);
    PT_EQ(pica_reader_more(s.reader, &data), 1);
    PT_EQ(data[0], 'g');
    PT_EQ(pica_reader_at_eof(s.reader), 0);
    PT_EQ(pica_reader_consume(s.reader, 1), 0);
    PT_EQ(pica_reader_peek(s.reader, &data), 0);
    PT_EQ(pica_reader_at_eof(s.reader), 1);
    end_side(s);
    return 0;
}

/* A view outlives suspensions of its task, until the next read. */
TASK_TEST(view_stays) {
    (void)arg;
    struct side s, other;
    pica_socket *raw, *raw2;
    const char *line, *data;
    pair_raw(&s, &raw, 0);
    pair_raw(&other, &raw2, 0);
    SEND(raw, "a line of the first\n");
    ssize_t n = pica_reader_readline(s.reader, &line);
    PT_EQ(n, 20);
    SEND(raw2, "something that goes through the same scratch buffer");
    PT_CHECK(pica_reader_peek(other.reader, &data) > 0);
    PT_EQ(pica_sleep(0.001), 0);
    PT_EQ(pica_writer_write(s.writer, line, 20), 0);
    PT_EQ(memcmp(line, "a line of the first\n", 20), 0);
    pica_socket_close(raw);
    pica_socket_close(raw2);
    end_side(s);
    end_side(other);
    return 0;
}

struct contender {
    struct side side;
    pica_socket *raw;
    atomic_int busy;
};

static int contend(void *arg) {
    struct contender *c = arg;
    char byte;
    ssize_t n = pica_reader_read(c->side.reader, &byte, 1);
    if (n == -EBUSY) {
        atomic_fetch_add(&c->busy, 1);
        SEND(c->raw, "x");
        return 0;
    }
    PT_EQ(n, 1);
    return 0;
}

TASK_TEST(one_reader_at_a_time) {
    (void)arg;
    struct contender c = {.busy = 0};
    pair_raw(&c.side, &c.raw, 0);
    for (int i = 0; i < 200; i++) {
        pica_task *a, *b;
        PT_REQUIRE(pica_create_task(&a, contend, &c) == 0);
        PT_REQUIRE(pica_create_task(&b, contend, &c) == 0);
        PT_EQ(pica_join(a, NULL), 0);
        PT_EQ(pica_join(b, NULL), 0);
    }
    PT_EQ(atomic_load(&c.busy), 200);
    pica_socket_close(c.raw);
    end_side(c.side);
    return 0;
}

struct cancelled_read {
    pica_reader *reader;
    ssize_t n;
    char byte;
};

static int read_and_tell(void *arg) {
    struct cancelled_read *r = arg;
    r->n = pica_reader_read(r->reader, &r->byte, 1);
    return 0;
}

static int peek_and_tell(void *arg) {
    struct cancelled_read *r = arg;
    const char *data;
    r->n = pica_reader_peek(r->reader, &data);
    if (r->n > 0) {
        r->byte = data[0];
        PT_EQ(pica_reader_consume(r->reader, 1), 0);
    }
    return 0;
}

/* Cancels reads at various moments, one in three of them with a byte that has come. waits: the read has begun to wait
 * before anything happens, so it is the wait that ends with the byte or the cancellation. */
static void cancel_reads(pica_fn read, bool waits) {
    struct side s;
    pica_socket *raw;
    pair_raw(&s, &raw, 0);
    for (int i = 0; i < 300; i++) {
        pica_task *task;
        /* What the read itself returned counts: a task that ends with a cancellation undelivered is
         * cancelled, whatever it returns. */
        struct cancelled_read r = {s.reader, PICA_ECANCELED, 0};
        PT_REQUIRE(pica_create_task(&task, read, &r) == 0);
        if (waits || i % 2 != 0) {
            PT_EQ(pica_yield(), 0);
        }
        char byte = (char)(i % 100 + 1);
        if (i % 3 == 0) {
            PT_EQ(pica_sendall(raw, &byte, 1), 0);
        }
        if (waits && i % 2 != 0) {
            PT_EQ(pica_yield(), 0);
        }
        pica_task_cancel(task);
        (void)pica_join(task, NULL);
        if (i % 3 != 0) {
            PT_EQ(r.n, PICA_ECANCELED);
        } else if (r.n == PICA_ECANCELED) {
            /* Then the byte is still there. */
            PT_EQ(read_one(s.reader), byte);
        } else {
            PT_EQ(r.n, 1);
            PT_EQ(r.byte, byte);
        }
    }
    pica_socket_close(raw);
    end_side(s);
}

TASK_TEST(cancel_a_read) {
    (void)arg;
    cancel_reads(read_and_tell, false);
    return 0;
}

/* Where the reader's own buffer is received into, by the worker before the task goes on. */
TASK_TEST(cancel_a_peek) {
    (void)arg;
    cancel_reads(peek_and_tell, true);
    return 0;
}

TASK_TEST(close_ends_a_read) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        struct side s;
        pica_socket *raw;
        pica_task *task;
        char byte;
        pair_raw(&s, &raw, 0);
        PT_REQUIRE(pica_create_task(&task, read_one, s.reader) == 0);
        if (i % 2 != 0) {
            PT_EQ(pica_yield(), 0);
        }
        pica_writer_close(s.writer);
        PT_EQ(pica_join(task, NULL), PICA_ECLOSED);
        PT_EQ(pica_writer_wait_closed(s.writer), 0);
        PT_EQ(pica_reader_read(s.reader, &byte, 1), PICA_ECLOSED);
        PT_EQ(pica_writer_write(s.writer, "x", 1), PICA_ECLOSED);
        PT_EQ(pica_writer_write_eof(s.writer), PICA_ECLOSED);
        PT_EQ(pica_writer_drain(s.writer), PICA_ECLOSED);
        PT_EQ(pica_recv(raw, &byte, 1), 0);
        pica_socket_close(raw);
        end_side(s);
    }
    return 0;
}

/* A pair may be given back while a task still reads: it gets PICA_ECLOSED. */
TASK_TEST(release_during_a_read) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        struct side s;
        pica_socket *raw;
        pica_task *task;
        pair_raw(&s, &raw, 0);
        PT_REQUIRE(pica_create_task(&task, read_one, s.reader) == 0);
        char byte;
        ssize_t n;
        /* -EBUSY says that the task is in its read. Until then this one must not wait. */
        SEND(raw, "12");
        do {
            n = pica_reader_read(s.reader, &byte, 1);
            if (n == 1) {
                SEND(raw, "x");
                PT_EQ(pica_yield(), 0);
            }
        } while (n == 1 && !pica_future_done(PICA_FUTURE(task)));
        end_side(s);
        int rc = pica_join(task, NULL);
        PT_CHECK(rc == PICA_ECLOSED || rc > 0 || rc == -EBUSY);
        pica_socket_close(raw);
    }
    return 0;
}

PT_MAIN()
