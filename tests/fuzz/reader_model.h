/* The reading half of a stream against a model: a byte string of which the first `taken` bytes were read. Used by
 * fuzz_reader.c, where the socket is a script, and by fuzz_stream.c, over a pair of streams.
 *
 * What the model says holds however the bytes come in pieces: which bytes a call takes, and whether it succeeds.
 * Only where a call may return less (read, peek), or tells how far it looked (the limit), it depends on what is
 * buffered then, and the reader's own count of that is compared with what the socket gave, by who uses this. */
#ifndef READER_MODEL_H
#define READER_MODEL_H

#include <pica/error.h>
#include <pica/stream.h>

#include <errno.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

struct reader_model {
    pica_reader *reader;
    size_t limit;
    const char *bytes; /* all that comes */
    size_t total;
    int end; /* what comes behind them: 0, the end of the stream, or an error */
    size_t taken;
    bool ended; /* a call has said so */
    /* Whether a call may have failed with this code for another reason than the end. */
    bool (*excused)(int rc);
    /* How many bytes the reader was given so far; NULL if that is not known. */
    size_t (*came)(void);
    char view[64];      /* the beginning of the last view that was handed out, */
    const char *viewed; /* which is valid until the next read */
    size_t view_size;
};

/* --- helpers --- */

static size_t model_left(const struct reader_model *m) {
    return m->total - m->taken;
}

static size_t model_buffered(const struct reader_model *m) {
    return pica_reader_buffered(m->reader);
}

/* rc must be what comes behind the last byte, or an excuse: true, or false. zero: what stands for the end of the
 * stream. */
static bool model_failed(struct reader_model *m, long rc, long zero, bool at_end) {
    if (rc < 0 && rc != zero && m->excused((int)rc)) {
        return false;
    }
    if (!at_end) {
        FUZZ_FAIL("%ld with %zu bytes to come", rc, model_left(m));
    }
    FUZZ_EQ(rc, m->end == 0 ? zero : m->end);
    m->ended = true;
    return true;
}

static void model_took(struct reader_model *m, const char *data, size_t size) {
    if (size > model_left(m)) {
        FUZZ_FAIL("%zu bytes where %zu were left", size, model_left(m));
    }
    if (size != 0 && memcmp(data, m->bytes + m->taken, size) != 0) {
        FUZZ_FAIL("wrong bytes, %zu from %zu on", size, m->taken);
    }
    m->taken += size;
}

/* Checks a view without taking it. */
static void model_view(struct reader_model *m, const char *data, size_t size) {
    FUZZ_CHECK(data != NULL);
    size_t taken = m->taken;
    model_took(m, data, size);
    m->taken = taken;
    m->viewed = data;
    m->view_size = size < sizeof m->view ? size : sizeof m->view;
    memcpy(m->view, data, m->view_size);
}

static void model_view_ends(struct reader_model *m) {
    FUZZ_CHECK(m->view_size == 0 || memcmp(m->viewed, m->view, m->view_size) == 0);
    m->view_size = 0;
}

/* Where the separator begins, or SIZE_MAX: the simple way. */
FUZZ_PLAIN static size_t model_find(const struct reader_model *m, const char *separator,
                                    size_t length) {
    const char *from = m->bytes + m->taken;
    for (size_t i = 0; i + length <= model_left(m); i++) {
        size_t same = 0;
        while (same < length && from[i + same] == separator[same]) {
            same++;
        }
        if (same == length) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* --- calls --- */

static void model_read(struct reader_model *m, size_t size) {
    char *buffer = malloc(size != 0 ? size : 1);
    FUZZ_CHECK(buffer != NULL);
    size_t have = model_buffered(m);
    ssize_t n = pica_reader_read(m->reader, buffer, size);
    if (n > 0) {
        FUZZ_CHECK((size_t)n <= size && (have == 0 || (size_t)n == (have < size ? have : size)));
        model_took(m, buffer, (size_t)n);
    } else if (size != 0 || n != 0) {
        (void)model_failed(m, n, 0, size != 0 && have == 0 && model_left(m) == 0);
    }
    free(buffer);
}

static void model_readexactly(struct reader_model *m, size_t size, bool ask) {
    char *buffer = malloc(size != 0 ? size : 1);
    FUZZ_CHECK(buffer != NULL);
    size_t got = 12345;
    int rc = pica_reader_readexactly(m->reader, buffer, size, ask ? &got : NULL);
    if (rc == 0) {
        FUZZ_CHECK(!ask || got == size);
        model_took(m, buffer, size);
    } else {
        FUZZ_CHECK(!ask || got < size || got == 0);
        bool ended = model_failed(m, rc, PICA_EINCOMPLETE, size > model_left(m));
        if (!ask) { /* a cancellation puts back what there was; else it stands in the caller's memory, untold */
            got = ended             ? model_left(m)
                  : m->came == NULL ? 0
                                    : m->came() - model_buffered(m) - m->taken;
            FUZZ_CHECK(got == 0 || rc != PICA_ECANCELED);
        }
        size_t stored =
            got < size ? got : size; /* less than got, if what came behind it could not be kept */
        model_took(m, buffer, stored);
        m->taken += got - stored;
        FUZZ_CHECK(!ended || model_left(m) == 0);
    }
    free(buffer);
}

/* What readuntil and readline have in common. at: where the separator is. */
static bool model_within(const struct reader_model *m, size_t at, size_t length) {
    size_t searched = at != SIZE_MAX            ? at
                      : model_left(m) >= length ? model_left(m) + 1 - length
                                                : 0;
    return searched <= m->limit;
}

static void model_readuntil(struct reader_model *m, const char *separator, size_t length) {
    const char *data = NULL;
    size_t size = 12345;
    size_t at = model_find(m, separator, length);
    ssize_t n = pica_reader_readuntil(m->reader, separator, length, &data, &size);
    size_t have = model_buffered(m);
    if (n > 0) {
        FUZZ_CHECK(at != SIZE_MAX && model_within(m, at, length));
        FUZZ_EQ(n, at + length);
        FUZZ_EQ(size, n);
        model_view(m, data, size);
        m->taken += size;
    } else if (n == -EMSGSIZE) {
        FUZZ_CHECK(!model_within(m, at, length));
        FUZZ_EQ(size, at != SIZE_MAX && at + length <= have ? at : have + 1 - length);
        FUZZ_CHECK(size > m->limit && size <= have && data == NULL);
    } else if (n == PICA_EINCOMPLETE) {
        FUZZ_CHECK(model_within(m, at, length));
        (void)model_failed(m, n, PICA_EINCOMPLETE, at == SIZE_MAX);
        FUZZ_EQ(size, model_left(m));
        model_view(m, data, size);
        m->taken += size;
    } else {
        (void)model_failed(m, n, PICA_EINCOMPLETE, at == SIZE_MAX && model_within(m, at, length));
        FUZZ_CHECK(size == 0 && data == NULL);
    }
}

static void model_readline(struct reader_model *m) {
    const char *data = NULL;
    size_t at = model_find(m, "\n", 1);
    if (m->came == NULL && !model_within(m, at, 1)) {
        return; /* how much is gone then could not be told */
    }
    ssize_t n = pica_reader_readline(m->reader, &data);
    if (n >= 0) {
        FUZZ_CHECK(model_within(m, at, 1));
        FUZZ_EQ(n, at != SIZE_MAX ? at + 1 : model_left(m));
        FUZZ_CHECK(at != SIZE_MAX || m->end == 0);
        model_view(m, data, (size_t)n);
        m->taken += (size_t)n;
        m->ended = m->ended || at == SIZE_MAX;
    } else if (n == -EMSGSIZE) {
        FUZZ_CHECK(!model_within(m, at, 1) && data == NULL);
        /* Gone is the line, if its end had come, or else all that had. */
        bool whole = at != SIZE_MAX && m->taken + at < m->came();
        m->taken = whole ? m->taken + at + 1 : m->came();
    } else {
        (void)model_failed(m, n, -EPROTO, at == SIZE_MAX && model_within(m, at, 1) && m->end != 0);
    }
}

static void model_peek(struct reader_model *m, bool more) {
    const char *data = NULL;
    size_t have = model_buffered(m);
    ssize_t n = more ? pica_reader_more(m->reader, &data) : pica_reader_peek(m->reader, &data);
    if (n == -EMSGSIZE) {
        FUZZ_CHECK(more && have >= m->limit);
        return;
    }
    if (n < 0) {
        (void)model_failed(m, n, -EPROTO,
                           (more || have == 0) && model_left(m) == have && m->end != 0);
        return;
    }
    FUZZ_CHECK(!more || have < m->limit);
    FUZZ_EQ(n, model_buffered(m));
    FUZZ_CHECK(more || have == 0 || (size_t)n == have);
    if ((size_t)n == have && (more || have == 0)) {
        FUZZ_CHECK(model_left(m) == have && m->end == 0);
    }
    model_view(m, data, (size_t)n);
}

static void model_consume(struct reader_model *m, size_t size) {
    size_t have = model_buffered(m);
    int rc = pica_reader_consume(m->reader, size);
    FUZZ_EQ(rc, size <= have ? 0 : -EINVAL);
    m->taken += rc == 0 ? size : 0;
    FUZZ_EQ(model_buffered(m), rc == 0 ? have - size : have);
}

/* --- scripts --- */

/* One call, as the script says. */
static void model_step(struct reader_model *m, struct script *s) {
    static const unsigned ranges[] = {4, 40, 300, 1100, 5000, 65536};
    unsigned what = script_below(s, 8);
    char separator[4];
    size_t length = 1;
    if (what != 6) { /* consume keeps views valid */
        model_view_ends(m);
    }
    switch (what) {
    case 0:
        model_read(m, script_below(s, ranges[script_below(s, 6)]));
        break;
    case 1:
        length = script_below(s, ranges[script_below(s, 6)]);
        model_readexactly(m, length, script_below(s, 2) == 0);
        break;
    case 2:
    case 3:
        length = 1 + script_below(s, sizeof separator);
        for (size_t i = 0; i < length; i++) {
            separator[i] = (char)script_byte(s);
        }
        model_readuntil(m, separator, length);
        break;
    case 4:
        model_readline(m);
        break;
    case 5:
        model_peek(m, false);
        break;
    case 6:
        model_consume(m, script_below(s, ranges[script_below(s, 3)]));
        break;
    default:
        model_peek(m, true);
        break;
    }
}

/* After each step: at the end of the stream the reader knows it, and before it does not. */
static void model_check(struct reader_model *m) {
    FUZZ_CHECK(model_buffered(m) <= model_left(m));
    FUZZ_CHECK(m->came == NULL || m->came() == m->taken + model_buffered(m));
    if (pica_reader_at_eof(m->reader)) {
        FUZZ_CHECK(model_left(m) == 0 && m->end == 0);
    } else {
        FUZZ_CHECK(!m->ended || m->end != 0);
    }
}

/* Takes all that is left, which must come. */
static void model_finish(struct reader_model *m) {
    model_view_ends(m);
    m->ended = false;
    while (!m->ended) {
        model_read(m, 3000);
        model_check(m);
    }
}

#endif
