/* Files sent through streams: bytes, order, cancelling, ends. */
#include "tests/support/stream_pair.h"
#include "tests/support/tree.h"

struct sending {
    pica_writer *writer;
    pica_file *file;
    int64_t offset;
    size_t count;
    size_t sent;
};

static int send_it(void *arg) {
    struct sending *s = arg;
    ssize_t n = pica_writer_sendfile(s->writer, s->file, s->offset, s->count, &s->sent);
    PT_CHECK(n < 0 || (size_t)n == s->sent);
    return n < 0 ? (int)n : 0;
}

static int read_it(void *arg) {
    struct side *b = arg;
    size_t total;
    int rc = read_all(b->reader, &total);
    return rc < 0 ? rc : (int)total;
}

static pica_file *open_pattern(struct tree *t, size_t size) {
    char *all = make_pattern(size);
    pica_file *file = NULL;
    tree_make(t);
    tree_file(t, "a", all, size);
    free(all);
    PT_REQUIRE(pica_file_open(&file, tree_path(t, "a"), O_RDONLY, 0) == 0);
    return file;
}

static pica_task *start(pica_fn fn, void *arg) {
    pica_task *task;
    PT_REQUIRE(pica_create_task(&task, fn, arg) == 0);
    return task;
}

/* The pattern, in pieces that are written and sent by turns, cached and uncached. */
static void in_pieces(bool unix_socket) {
    struct tree t;
    pica_file *file = open_pattern(&t, BIG);
    char *all = make_pattern(BIG);
    for (int round = 0; round < 2; round++) {
        pica_socket *x, *y;
        (unix_socket ? connect_unix : connect_tcp)(&x, &y);
        struct side a = side_of(x, 0), b = side_of(y, 0);
        pica_task *reading = start(read_it, &b);
        size_t at = 0, sent;
        if (round == 1) {
            tree_uncache(&t, "a");
        }
        for (int i = 0; at < BIG; i++) {
            size_t size = (size_t)(i * 7919 + 1) * (size_t)(i % 5 + 1) * 13;
            size = size < BIG - at ? size : BIG - at;
            if (i % 3 == 0) {
                pica_writer_cork(a.writer);
            }
            if (i % 2 == 0) {
                PT_EQ(pica_writer_write(a.writer, all + at, size), 0);
            } else {
                PT_EQ(pica_writer_sendfile(a.writer, file, (int64_t)at, size, &sent), size);
                PT_EQ(sent, size);
            }
            if (i % 3 == 0) {
                PT_EQ(pica_writer_uncork(a.writer), 0);
            }
            at += size;
        }
        PT_EQ(pica_writer_sendfile(a.writer, file, BIG, SIZE_MAX, NULL), 0);
        PT_EQ(pica_writer_sendfile(a.writer, file, BIG + 5, 1, NULL), 0);
        PT_EQ(pica_writer_write_eof(a.writer), 0);
        PT_EQ(pica_join(reading, NULL), BIG);
        PT_EQ(pica_writer_sendfile(a.writer, file, 0, 1, NULL), PICA_ECLOSED);
        end_side(a);
        end_side(b);
    }
    free(all);
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
}

TASK_TEST(pieces_over_tcp) {
    (void)arg;
    in_pieces(false);
    return 0;
}

TASK_TEST(pieces_over_unix) {
    (void)arg;
    in_pieces(true);
    return 0;
}

/* Calls that wait for their turn keep it: writes and files, in the order of the calls. */
TASK_TEST(order) {
    (void)arg;
    struct tree t;
    struct side a, b;
    pica_file *file = open_pattern(&t, BIG);
    char *all = make_pattern(BIG);
    pair_tcp(&a, &b);
    enum { STEP = 1 << 20, STEPS = (int)(BIG / STEP) };
    struct sending s[STEPS];
    pica_task *tasks[STEPS];
    for (int i = 0; i < STEPS; i++) {
        s[i] = (struct sending){a.writer, file, (int64_t)i * STEP, STEP, 0};
        if (i % 3 == 0) {
            PT_EQ(pica_writer_write(a.writer, all + (size_t)i * STEP, STEP), 0);
            continue;
        }
        /* In place, or on another worker: it has its place before the next one starts. */
        tasks[i] = start(send_it, &s[i]);
        for (int k = 0; k < 50; k++) {
            PT_EQ(pica_yield(), 0);
        }
        PT_EQ(pica_sleep(0.002), 0);
    }
    PT_EQ(pica_writer_write_eof(a.writer), 0);
    size_t total;
    PT_EQ(read_all(b.reader, &total), 0);
    PT_EQ(total, BIG);
    for (int i = 0; i < STEPS; i++) {
        if (i % 3 != 0) {
            PT_EQ(pica_join(tasks[i], NULL), 0);
            PT_EQ(s[i].sent, STEP);
        }
    }
    free(all);
    end_side(a);
    end_side(b);
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
    return 0;
}

/* While one sends and others wait in line, against a peer that does not read: cancel, abort, reset, close. */
TASK_TEST(ends) {
    (void)arg;
    struct tree t;
    pica_file *file = open_pattern(&t, BIG);
    for (int i = 0; i < 60; i++) {
        struct side a, b;
        pair_tcp(&a, &b);
        struct sending s[3];
        pica_task *tasks[3];
        for (int k = 0; k < 3; k++) {
            s[k] = (struct sending){a.writer, file, 0, BIG, 0};
            tasks[k] = start(send_it, &s[k]);
        }
        for (int k = 0; k < i % 7; k++) {
            PT_EQ(i % 2 == 0 ? pica_yield() : pica_sleep(0.001), 0);
        }
        int wanted = PICA_ECANCELED;
        if (i % 3 == 0) {
            for (int k = 0; k < 3; k++) {
                pica_task_cancel(tasks[(k + i) % 3]);
            }
        } else if (i % 3 == 1) {
            pica_writer_abort(a.writer);
            wanted = PICA_ECLOSED;
        } else {
            pica_writer_abort(b.writer);
            wanted = -ECONNRESET;
        }
        for (int k = 0; k < 3; k++) {
            int rc = pica_join(tasks[k], NULL);
            PT_CHECK(rc == wanted || (wanted == -ECONNRESET && rc == -EPIPE));
            PT_CHECK(s[k].sent < BIG);
        }
        if (i % 3 == 0) {
            /* The stream is still good, behind what was sent. */
            size_t before = s[0].sent + s[1].sent + s[2].sent, got = 0;
            PT_EQ(pica_writer_write(a.writer, "end", 3), 0);
            PT_EQ(pica_writer_write_eof(a.writer), 0);
            const char *data;
            ssize_t n;
            while ((n = pica_reader_peek(b.reader, &data)) > 0) {
                got += (size_t)n;
                PT_EQ(pica_reader_consume(b.reader, (size_t)n), 0);
            }
            PT_EQ(got, before + 3);
        }
        end_side(a);
        end_side(b);
    }
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
    return 0;
}

TASK_TEST(errors) {
    (void)arg;
    struct tree t;
    struct side a, b;
    pica_file *file = open_pattern(&t, 1000), *folder, *kernels;
    size_t sent = 7;
    char text[8];
    pair_tcp(&a, &b);
    PT_REQUIRE(pica_file_open(&folder, t.root, O_RDONLY, 0) == 0);
    PT_EQ(pica_writer_sendfile(a.writer, folder, 0, 10, &sent), -EISDIR);
    PT_EQ(sent, 0);
    PT_EQ(pica_writer_sendfile(a.writer, file, -1, 10, &sent), -EINVAL);
    PT_EQ(pica_writer_sendfile(a.writer, NULL, 0, 10, &sent), -EINVAL);
    pica_task_cancel(pica_current_task());
    PT_EQ(pica_writer_sendfile(a.writer, file, 0, 10, &sent), PICA_ECANCELED);
    PT_EQ(pica_checkpoint(), 0);
    PT_EQ(pica_writer_sendfile(a.writer, file, 990, 100, &sent), 10);
    /* A file that cannot be looked at without waiting. */
    PT_REQUIRE(pica_file_open(&kernels, "/proc/sys/kernel/ostype", O_RDONLY, 0) == 0);
    PT_EQ(pica_writer_sendfile(a.writer, kernels, 0, SIZE_MAX, &sent), 6);
    PT_EQ(pica_file_close(kernels), 0);
    char ignored[10];
    PT_EQ(pica_reader_readexactly(b.reader, ignored, 10, NULL), 0);
    PT_EQ(pica_reader_readexactly(b.reader, text, 6, NULL), 0);
    PT_EQ(memcmp(text, "Linux\n", 6), 0);
    PT_EQ(pica_file_close(folder), 0);
    PT_EQ(pica_file_close(file), 0);
    end_side(a);
    end_side(b);
    tree_remove(&t);
    return 0;
}

PT_MAIN()
