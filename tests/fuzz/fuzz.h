/* What the fuzz targets share. A target is a file fuzz_NAME.c with LLVMFuzzerTestOneInput: it takes the input for a
 * script, lets the subject and a model do what it says, and aborts where they differ. Every input is a valid script
 * (what is missing at its end reads as zero), and the same input always does the same. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* For loops of a model: what they compare is not what the fuzzer is to look at. */
#ifdef __clang__
#define FUZZ_PLAIN __attribute__((no_sanitize("coverage", "address", "undefined")))
#else
#define FUZZ_PLAIN
#endif

/* A script that is read from its front. */
struct script {
    const uint8_t *data;
    size_t size;
};

static inline bool script_ended(const struct script *s) {
    return s->size == 0;
}

static inline uint8_t script_byte(struct script *s) {
    if (s->size == 0) {
        return 0;
    }
    s->size--;
    return *s->data++;
}

/* A number in [0, n), n at most 65536. */
static inline unsigned script_below(struct script *s, unsigned n) {
    unsigned value = script_byte(s);
    if (n > 256) {
        value = value << 8 | script_byte(s);
    }
    return value % n;
}

/* Takes the first `size` bytes off as a script of their own. */
static inline struct script script_part(struct script *s, size_t size) {
    size = size < s->size ? size : s->size;
    struct script part = {s->data, size};
    s->data += size;
    s->size -= size;
    return part;
}

/* The library says nothing about what a bad world does to it: thousands of lines a second. */
static inline void fuzz_quiet(void) {
    (void)setenv("PICA_LOG", "error", 0);
}

#define FUZZ_FAIL(...)                                        \
    do {                                                      \
        (void)fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        (void)fprintf(stderr, __VA_ARGS__);                   \
        (void)fputc('\n', stderr);                            \
        abort();                                              \
    } while (0)
#define FUZZ_CHECK(cond)                    \
    do {                                    \
        if (!(cond)) {                      \
            FUZZ_FAIL("not so: %s", #cond); \
        }                                   \
    } while (0)
#define FUZZ_EQ(a, b)                                                    \
    do {                                                                 \
        long long fuzz_a = (long long)(a), fuzz_b = (long long)(b);      \
        if (fuzz_a != fuzz_b) {                                          \
            FUZZ_FAIL("%s is %lld, %s is %lld", #a, fuzz_a, #b, fuzz_b); \
        }                                                                \
    } while (0)

#endif
