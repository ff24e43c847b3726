/*
 * The end of a broken invariant. Formats by hand and uses write(2) only, since the state of the
 * process is unknown and the stack may be a small one or the signal stack.
 */
#include "runtime/base/check.h"

#include <stdlib.h>
#include <unistd.h>

struct line {
    char buf[512];
    size_t len;
};

static void add(struct line *l, const char *s) {
    while (*s != '\0' && l->len < sizeof l->buf - 1) {
        l->buf[l->len++] = *s++;
    }
}

static void add_number(struct line *l, int value) {
    char digits[12];
    size_t n = sizeof digits;
    unsigned v = value < 0 ? 0 : (unsigned)value;
    digits[--n] = '\0';
    do {
        digits[--n] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    add(l, digits + n);
}

void pica__check_failed(const char *expr, const char *file, int line) {
    struct line l;
    l.len = 0;
    add(&l, "pica: ");
    add(&l, file);
    add(&l, ":");
    add_number(&l, line);
    add(&l, ": broken invariant: ");
    add(&l, expr);
    l.buf[l.len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, l.buf, l.len);
    (void)ignored;
    abort();
}
