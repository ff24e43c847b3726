/* What a floor server answers.
 *
 * echo: the bytes received. http: one fixed response for each complete request head, found by its
 * empty line ("\r\n\r\n"). Heads may arrive in any pieces, and any number of them in one piece; the
 * scan keeps its place between reads, so nothing received has to be stored. Requests with a body
 * are not understood: this is a floor, and a parser would only raise it. (With FLOOR_LLHTTP there is one: see
 * epoll_llhttp.c.) */
#ifndef PICA__BENCH_FLOOR_ANSWER_H
#define PICA__BENCH_FLOOR_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifdef FLOOR_LLHTTP
#include <llhttp.h>
#endif

/* The same bytes in every contestant; the load compares them. */
#define FLOOR_RESPONSE                                                                             \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
#define FLOOR_RESPONSE_SIZE (sizeof FLOOR_RESPONSE - 1)

/* So many responses stand ready one after the other, to be sent in one call without a copy. */
#define FLOOR_RESPONSE_RUN 64u

static char floor_responses[FLOOR_RESPONSE_RUN * FLOOR_RESPONSE_SIZE];

static inline void floor_fill_responses(void) {
    for (size_t i = 0; i < FLOOR_RESPONSE_RUN; i++) {
        memcpy(floor_responses + i * FLOOR_RESPONSE_SIZE, FLOOR_RESPONSE, FLOOR_RESPONSE_SIZE);
    }
}

/* Counts the heads that end in these bytes. *matched is how much of "\r\n\r\n" the stream ended
 * with so far, 0 to 3. Not inlined, so that a profile can tell parsing from the rest: a call a read. */
__attribute__((noinline, unused)) static size_t floor_count_heads(unsigned *matched, const char *at, size_t size) {
    const char *end = at + size;
    unsigned have = *matched;
    size_t heads = 0;
    while (at < end) {
        if (have == 0) {
            at = memchr(at, '\r', (size_t)(end - at));
            if (at == NULL) {
                break;
            }
            have = 1;
        } else if (*at == ((have & 1u) != 0 ? '\n' : '\r')) {
            have++;
        } else {
            have = *at == '\r' ? 1 : 0;
        }
        at++;
        if (have == 4) {
            heads++;
            have = 0;
        }
    }
    *matched = have;
    return heads;
}

/* A connection's place in what its client sends; zeroed at first. floor_parse_heads: how many requests these
 * bytes complete; false: the client does not speak HTTP. */
#ifdef FLOOR_LLHTTP
struct floor_heads {
    llhttp_t parser; /* first: the callback gets its address */
    size_t complete;
};

static int floor_on_complete(llhttp_t *parser) {
    ((struct floor_heads *)parser)->complete++;
    return 0;
}

static inline bool floor_parse_heads(struct floor_heads *heads, const char *at, size_t size, size_t *complete) {
    static const llhttp_settings_t settings = {.on_message_complete = floor_on_complete};
    if (heads->parser.settings == NULL) {
        llhttp_init(&heads->parser, HTTP_REQUEST, &settings);
    }
    heads->complete = 0;
    bool ok = llhttp_execute(&heads->parser, at, size) == HPE_OK;
    *complete = heads->complete;
    return ok;
}
#else
struct floor_heads {
    unsigned matched;
};

static inline bool floor_parse_heads(struct floor_heads *heads, const char *at, size_t size, size_t *complete) {
    *complete = floor_count_heads(&heads->matched, at, size);
    return true;
}
#endif

#endif
