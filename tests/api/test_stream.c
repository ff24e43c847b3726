/* Streams: much data both ways, and opening connections. */
#include "tests/support/stream_pair.h"

#include <stdlib.h>

static int echo(void *arg) {
    struct side *s = arg;
    const char *data;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = pica_reader_peek(s->reader, &data)) != 0) {
        if (n < 0) {
            return (int)n;
        }
        rc = pica_writer_write(s->writer, data, (size_t)n);
        PT_EQ(pica_reader_consume(s->reader, (size_t)n), 0);
        rc = rc == 0 ? pica_writer_drain(s->writer) : rc;
    }
    return rc == 0 ? pica_writer_write_eof(s->writer) : rc;
}

static int write_big(void *arg) {
    struct side *s = arg;
    char *all = make_pattern(BIG);
    int rc = 0;
    for (size_t at = 0, i = 0; at < BIG && rc == 0; i++) {
        size_t n = i * 7919 % 100000 + 1;
        n = n < BIG - at ? n : BIG - at;
        rc = pica_writer_write(s->writer, all + at, n);
        at += n;
        rc = rc == 0 ? pica_writer_drain(s->writer) : rc;
    }
    free(all);
    return rc == 0 ? pica_writer_write_eof(s->writer) : rc;
}

TASK_TEST(echo_of_much) {
    (void)arg;
    struct side a, b;
    size_t total = 0;
    pica_task *echoing, *writing;
    pair_tcp(&a, &b);
    PT_REQUIRE(pica_create_task(&echoing, echo, &b) == 0);
    PT_REQUIRE(pica_create_task(&writing, write_big, &a) == 0);
    PT_EQ(read_all(a.reader, &total), 0);
    PT_EQ(total, BIG);
    PT_EQ(pica_join(writing, NULL), 0);
    PT_EQ(pica_join(echoing, NULL), 0);
    end_side(a);
    end_side(b);
    return 0;
}

/* More than the kernel takes, to somebody who does not read. */
static void write_much(struct side s) {
    char *all = make_pattern(BIG);
    PT_EQ(pica_writer_write(s.writer, all, BIG), 0);
    PT_CHECK(pica_writer_pending(s.writer) > 0);
    free(all);
}

/* Neither reads what the other has pending: only a limit ends that, as stream.h has it. */
TASK_TEST(close_of_both_with_bytes_pending) {
    (void)arg;
    struct side a, b;
    pica_timeout timeout;
    pair_tcp(&a, &b);
    write_much(a);
    write_much(b);
    pica_writer_close(a.writer);
    pica_writer_close(b.writer);
    PT_EQ(pica_timeout_enter(&timeout, 0.05), 0);
    PT_EQ(pica_timeout_exit(&timeout, pica_writer_wait_closed(a.writer)), PICA_ETIMEDOUT);
    pica_writer_abort(a.writer);
    PT_EQ(pica_writer_wait_closed(a.writer), 0);
    /* For the other one the connection is lost then. */
    int rc = pica_writer_wait_closed(b.writer);
    PT_CHECK(rc == -ECONNRESET || rc == -EPIPE);
    pica_writer_release(a.writer);
    pica_writer_release(b.writer);
    return 0;
}

TASK_TEST(open_errors) {
    (void)arg;
    struct side s;
    PT_EQ(pica_open_connection("127.0.0.1", 65536, 0, &s.reader, &s.writer), -EINVAL);
    PT_EQ(pica_open_connection("127.0.0.1", 70000, 0, &s.reader, &s.writer), -EINVAL);
    PT_EQ(pica_open_connection(NULL, 80, 0, &s.reader, &s.writer), -EINVAL);
    PT_EQ(pica_open_unix_connection("/no/such/place/socket", 0, &s.reader, &s.writer), -ENOENT);
    PT_EQ(pica_open_unix_connection("@pica-test-nobody-listens", 0, &s.reader, &s.writer),
          -ECONNREFUSED);
    PT_EQ(pica_open_socket(NULL, 0, &s.reader, &s.writer), -EINVAL);
    pica_writer_release(NULL);
    return 0;
}

PT_MAIN()
