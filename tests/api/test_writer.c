/* Writers over connected sockets. */
#include "tests/support/stream_pair.h"

#include <stdatomic.h>
#include <stdlib.h>

TASK_TEST(close_sends_what_is_pending) {
    (void)arg;
    struct side a, b;
    size_t total = 0;
    pair_tcp(&a, &b);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    PT_CHECK(pica_writer_pending(a.writer) > 0);
    free(all);
    pica_task *task;
    PT_REQUIRE(pica_create_task(&task, read_one, a.reader) == 0);
    /* Right in any order; the pause makes it likely that the close has to wake the read. */
    PT_EQ(pica_sleep(0.01), 0);
    pica_writer_close(a.writer);
    PT_EQ(pica_join(task, NULL), PICA_ECLOSED);
    PT_EQ(read_all(b.reader, &total), 0);
    PT_EQ(total, BIG);
    PT_EQ(pica_writer_wait_closed(a.writer), 0);
    PT_EQ(pica_writer_pending(a.writer), 0);
    end_side(a);
    end_side(b);
    return 0;
}

TASK_TEST(released_writer_goes_on_sending) {
    (void)arg;
    struct side a, b;
    size_t total = 0;
    pair_tcp(&a, &b);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    free(all);
    end_side(a);
    PT_EQ(read_all(b.reader, &total), 0);
    PT_EQ(total, BIG);
    end_side(b);
    return 0;
}

struct writer_task {
    pica_writer *writer;
    uint32_t id;
    uint32_t count;
    uint32_t size_max;
};

static int write_messages(void *arg) {
    struct writer_task *t = arg;
    char *message = malloc(12 + t->size_max);
    PT_REQUIRE(message != NULL);
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t head[3] = {t->id, i, (i * 37 + t->id * 101) % t->size_max};
        memset(message, (int)(t->id + i), 12 + t->size_max);
        memcpy(message, head, sizeof head);
        if (i % 2 == 0) {
            PT_EQ(pica_writer_write(t->writer, message, 12 + head[2]), 0);
        } else {
            struct iovec parts[3] = {{message, 12}, {message, 0}, {message + 12, head[2]}};
            PT_EQ(pica_writer_writelines(t->writer, parts, 3), 0);
        }
        if (i % 16 == 0) {
            PT_EQ(pica_writer_drain(t->writer), 0);
        }
    }
    free(message);
    return 0;
}

/* Writes of several tasks are never mixed, and each task's keep their order. */
TASK_TEST(writes_are_atomic_and_ordered) {
    (void)arg;
    enum { TASKS = 4, MESSAGES = 1000, SIZE_MAX_ = 3000 };
    struct side a, b;
    struct writer_task t[TASKS];
    pica_task *tasks[TASKS];
    uint32_t next[TASKS] = {0};
    char *body = malloc(SIZE_MAX_);
    PT_REQUIRE(body != NULL);
    pair_tcp(&a, &b);
    PT_EQ(pica_writer_set_limits(a.writer, 20000, 5000), 0);
    for (uint32_t i = 0; i < TASKS; i++) {
        t[i] = (struct writer_task){a.writer, i, MESSAGES, SIZE_MAX_};
        PT_REQUIRE(pica_create_task(&tasks[i], write_messages, &t[i]) == 0);
    }
    for (int i = 0; i < TASKS * MESSAGES; i++) {
        uint32_t head[3];
        PT_REQUIRE(pica_reader_readexactly(b.reader, head, sizeof head, NULL) == 0);
        PT_REQUIRE(head[0] < TASKS && head[2] < SIZE_MAX_);
        PT_REQUIRE(head[1] == next[head[0]]++);
        PT_REQUIRE(pica_reader_readexactly(b.reader, body, head[2], NULL) == 0);
        for (uint32_t k = 0; k < head[2]; k++) {
            PT_REQUIRE(body[k] == (char)(head[0] + head[1]));
        }
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    free(body);
    end_side(a);
    end_side(b);
    return 0;
}

static int drain_it(void *arg) {
    return pica_writer_drain(arg);
}

TASK_TEST(drain) {
    (void)arg;
    struct side a, b;
    size_t total = 0;
    pica_task *drainers[3];
    pair_tcp(&a, &b);
    PT_EQ(pica_writer_set_limits(a.writer, 1000, 2000), -EINVAL);
    PT_EQ(pica_writer_set_limits(a.writer, 2000, 1000), 0);
    PT_EQ(pica_writer_drain(a.writer), 0);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    free(all);
    for (int i = 0; i < 3; i++) {
        PT_REQUIRE(pica_create_task(&drainers[i], drain_it, a.writer) == 0);
    }
    /* One more is cancelled; what is pending is not. */
    pica_task *cancelled;
    PT_REQUIRE(pica_create_task(&cancelled, drain_it, a.writer) == 0);
    PT_EQ(pica_yield(), 0);
    pica_task_cancel(cancelled);
    PT_EQ(pica_join(cancelled, NULL), PICA_ECANCELED);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_future_done(PICA_FUTURE(drainers[i])), 0);
    }
    pica_task *closer;
    /* Ends the stream behind what is pending, so that read_all comes to an end. */
    PT_EQ(pica_writer_write_eof(a.writer), 0);
    PT_REQUIRE(pica_create_task(&closer, drain_it, a.writer) == 0);
    PT_EQ(read_all(b.reader, &total), 0);
    PT_EQ(total, BIG);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_join(drainers[i], NULL), 0);
    }
    PT_EQ(pica_join(closer, NULL), 0);
    PT_EQ(pica_writer_pending(a.writer), 0);
    end_side(a);
    end_side(b);
    return 0;
}

TASK_TEST(drain_while_corked) {
    (void)arg;
    struct side a, b;
    pair_tcp(&a, &b);
    PT_EQ(pica_writer_set_limits(a.writer, 0, 0), 0);
    pica_writer_cork(a.writer);
    PT_EQ(pica_writer_write(a.writer, "abc", 3), 0);
    PT_EQ(pica_writer_pending(a.writer), 3);
    PT_EQ(pica_writer_drain(a.writer), 0);
    PT_EQ(pica_writer_pending(a.writer), 0);
    PT_EQ(pica_writer_uncork(a.writer), 0);
    end_side(a);
    end_side(b);
    return 0;
}

TASK_TEST(lost_connection) {
    (void)arg;
    struct side a, b;
    pair_tcp(&a, &b);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    free(all);
    pica_task *drainer;
    PT_REQUIRE(pica_create_task(&drainer, drain_it, a.writer) == 0);
    /* Closed with bytes unread, a TCP connection is reset. */
    pica_writer_abort(b.writer);
    int rc = pica_join(drainer, NULL);
    PT_CHECK(rc == -ECONNRESET || rc == -EPIPE);
    PT_EQ(pica_writer_write(a.writer, "x", 1), rc);
    PT_EQ(pica_writer_write(a.writer, "", 0), rc);
    PT_EQ(pica_writer_drain(a.writer), rc);
    PT_EQ(pica_writer_pending(a.writer), 0);
    pica_writer_close(a.writer);
    PT_EQ(pica_writer_wait_closed(a.writer), rc);
    end_side(a);
    end_side(b);
    return 0;
}

TASK_TEST(reset_seen_by_reader) {
    (void)arg;
    pica_socket *x, *y;
    char byte;
    connect_tcp(&x, &y);
    struct side a = side_of(x, 0);
    PT_EQ(pica_writer_write(a.writer, "unread", 6), 0);
    struct linger linger = {1, 0};
    PT_EQ(pica_socket_setopt(y, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    SEND(y, "last words\nand");
    PT_EQ(pica_recv(y, &byte, 1), 1);
    const char *line;
    expect_line(a.reader, "last words\n");
    pica_socket_close(y);
    /* What came before the reset is not lost with it. */
    PT_EQ(pica_reader_readline(a.reader, &line), -ECONNRESET);
    PT_EQ(pica_reader_buffered(a.reader), 3);
    PT_EQ(pica_reader_peek(a.reader, &line), 3);
    PT_EQ(pica_reader_consume(a.reader, 3), 0);
    PT_EQ(pica_reader_peek(a.reader, &line), -ECONNRESET);
    PT_EQ(pica_writer_write(a.writer, "x", 1), -ECONNRESET);
    PT_EQ(pica_writer_drain(a.writer), -ECONNRESET);
    end_side(a);
    return 0;
}

TASK_TEST(cork_makes_one_batch) {
    (void)arg;
    struct side s;
    pica_socket *raw;
    char buf[4096];
    pair_raw(&s, &raw, 0);
    PT_EQ(pica_writer_uncork(s.writer), -EINVAL);
    pica_writer_cork(s.writer);
    pica_writer_cork(s.writer);
    for (int i = 0; i < 300; i++) {
        PT_EQ(pica_writer_write(s.writer, "0123456789", 10), 0);
    }
    PT_EQ(pica_writer_uncork(s.writer), 0);
    PT_EQ(pica_writer_pending(s.writer), 3000);
    PT_EQ(pica_writer_uncork(s.writer), 0);
    PT_EQ(pica_writer_pending(s.writer), 0);
    size_t got = 0;
    while (got < 3000) {
        ssize_t n = pica_recv(raw, buf + got, sizeof buf - got);
        PT_REQUIRE(n > 0);
        got += (size_t)n;
    }
    for (size_t i = 0; i < 3000; i++) {
        PT_REQUIRE(buf[i] == (char)('0' + i % 10));
    }
    pica_socket_close(raw);
    end_side(s);
    return 0;
}

TASK_TEST(write_eof_is_half_a_close) {
    (void)arg;
    struct side a, b;
    size_t total = 0;
    char buf[8];
    pair_tcp(&a, &b);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    free(all);
    PT_EQ(pica_writer_write_eof(a.writer), 0);
    PT_EQ(pica_writer_write_eof(a.writer), 0);
    PT_EQ(pica_writer_write(a.writer, "x", 1), PICA_ECLOSED);
    PT_EQ(read_all(b.reader, &total), 0);
    PT_EQ(total, BIG);
    PT_EQ(pica_writer_write(b.writer, "answer", 6), 0);
    PT_EQ(pica_reader_readexactly(a.reader, buf, 6, NULL), 0);
    PT_EQ(memcmp(buf, "answer", 6), 0);
    end_side(a);
    end_side(b);
    return 0;
}

TASK_TEST(abort_drops) {
    (void)arg;
    struct side a, b;
    size_t total = 0;
    pair_tcp(&a, &b);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    free(all);
    pica_task *drainer, *reading;
    PT_REQUIRE(pica_create_task(&drainer, drain_it, a.writer) == 0);
    PT_REQUIRE(pica_create_task(&reading, read_one, a.reader) == 0);
    PT_EQ(pica_yield(), 0);
    pica_writer_abort(a.writer);
    PT_EQ(pica_join(drainer, NULL), PICA_ECLOSED);
    PT_EQ(pica_join(reading, NULL), PICA_ECLOSED);
    PT_EQ(pica_writer_wait_closed(a.writer), 0);
    PT_EQ(pica_writer_pending(a.writer), 0);
    PT_EQ(pica_writer_write(a.writer, "x", 1), PICA_ECLOSED);
    PT_EQ(read_all(b.reader, &total), 0);
    PT_CHECK(total < BIG);
    pica_writer_abort(a.writer);
    end_side(a);
    end_side(b);
    return 0;
}

/* A close that waits for a peer which never reads is cut short by abort. */
TASK_TEST(abort_after_close) {
    (void)arg;
    struct side a, b;
    pica_timeout t;
    pair_tcp(&a, &b);
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(a.writer, all, BIG), 0);
    free(all);
    pica_writer_close(a.writer);
    PT_EQ(pica_timeout_enter(&t, 0.02), 0);
    PT_EQ(pica_timeout_exit(&t, pica_writer_wait_closed(a.writer)), PICA_ETIMEDOUT);
    pica_writer_abort(a.writer);
    PT_EQ(pica_writer_wait_closed(a.writer), 0);
    end_side(a);
    end_side(b);
    return 0;
}

struct flood {
    pica_writer *writer;
    atomic_int started;
};

static int write_until_the_end(void *arg) {
    struct flood *f = arg;
    static const char block[5000];
    int rc = 0;
    atomic_fetch_add(&f->started, 1);
    while (rc == 0) {
        rc = pica_writer_write(f->writer, block, sizeof block);
        rc = rc == 0 ? pica_writer_drain(f->writer) : rc;
    }
    return rc;
}

static int read_until_the_end(void *arg) {
    const char *data;
    ssize_t n;
    while ((n = pica_reader_peek(arg, &data)) > 0) {
        PT_EQ(pica_reader_consume(arg, (size_t)n), 0);
    }
    return (int)n;
}

/* Every way to end a stream, while several tasks write and the flush goes on in the background. */
TASK_TEST(ends_meet_writers) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        struct side a, b;
        pair_tcp(&a, &b);
        struct flood f = {a.writer, 0};
        pica_task *tasks[3], *reading;
        for (int k = 0; k < 3; k++) {
            PT_REQUIRE(pica_create_task(&tasks[k], write_until_the_end, &f) == 0);
        }
        PT_REQUIRE(pica_create_task(&reading, read_until_the_end, b.reader) == 0);
        while (atomic_load(&f.started) < 3) {
            PT_EQ(pica_yield(), 0);
        }
        for (int k = 0; k < i / 4 % 8; k++) {
            PT_EQ(pica_yield(), 0);
        }
        bool reset = false;
        switch (i % 4) {
        case 0:
            pica_writer_close(a.writer);
            break;
        case 1:
            pica_writer_abort(a.writer);
            break;
        case 2:
            PT_EQ(pica_writer_write_eof(a.writer), 0);
            break;
        default:
            pica_writer_abort(b.writer);
            reset = true;
        }
        for (int k = 0; k < 3; k++) {
            int rc = pica_join(tasks[k], NULL);
            if (reset) {
                PT_CHECK(rc == -EPIPE || rc == -ECONNRESET);
            } else {
                PT_EQ(rc, PICA_ECLOSED);
            }
        }
        PT_EQ(pica_join(reading, NULL), reset ? PICA_ECLOSED : 0);
        pica_writer_close(a.writer);
        int rc = pica_writer_wait_closed(a.writer);
        PT_CHECK(reset ? rc == -EPIPE || rc == -ECONNRESET : rc == 0);
        end_side(a);
        end_side(b);
    }
    return 0;
}

PT_MAIN()
