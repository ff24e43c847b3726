/*
 * Memory through jemalloc's interface. This program defines mallocx, rallocx and sdallocx itself,
 * as a linked jemalloc would, and checks what they are called with: sizes and flags that do not fit
 * the block are undefined behaviour there and pass unnoticed in the real one's release build.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "tests/support/pt.h"

#define ZERO_FLAG 0x40
#define FRONT 8192 /* keeps every alignment used here */

struct front {
    size_t size;
    int align; /* binary logarithm */
};

static unsigned blocks, calls;

void *mallocx(size_t size, int flags);
void *rallocx(void *p, size_t size, int flags);
void sdallocx(void *p, size_t size, int flags);

static struct front *front_of(void *p) {
    return (struct front *)(void *)((char *)p - FRONT);
}

void *mallocx(size_t size, int flags) {
    PT_CHECK(size != 0);
    int align = flags & 0x3f;
    PT_EQ(flags & ~(ZERO_FLAG | 0x3f), 0);
    PT_CHECK(align <= 13);
    char *base = aligned_alloc(FRONT, FRONT + ((size + FRONT - 1) & ~(size_t)(FRONT - 1)));
    PT_REQUIRE(base != NULL);
    char *p = base + FRONT;
    memset(p, flags & ZERO_FLAG ? 0 : 0xa5, size);
    *front_of(p) = (struct front){size, align};
    blocks++;
    calls++;
    return p;
}

void sdallocx(void *p, size_t size, int flags) {
    PT_EQ(size, front_of(p)->size);
    PT_EQ(flags, front_of(p)->align);
    blocks--;
    free(front_of(p));
}

void *rallocx(void *p, size_t size, int flags) {
    size_t old = front_of(p)->size;
    void *q = mallocx(size, flags);
    memcpy(q, p, old < size ? old : size);
    sdallocx(p, old, 0);
    return q;
}

PT_TEST(sizes_and_flags_fit) {
    static const size_t sizes[] = {0, 1, 24, 4096};
    for (size_t i = 0; i < 4; i++) {
        size_t n = sizes[i];
        char *p = pica__alloc(n);
        memset(p, 'x', n);
        p = pica__realloc(p, n, n + 9);
        PT_CHECK(n == 0 || (p[0] == 'x' && p[n - 1] == 'x'));
        p = pica__realloc(p, n + 9, 0);
        pica__free(p, 0);
        p = pica__zalloc(n);
        PT_CHECK(n == 0 || (p[0] == 0 && p[n - 1] == 0));
        pica__free(p, n);
        for (size_t align = sizeof(void *); align <= 8192; align *= 2) {
            p = pica__zalloc_aligned(align, n);
            PT_CHECK(n == 0 || (p[0] == 0 && p[n - 1] == 0));
            PT_EQ((size_t)p % align, 0);
            pica__free_aligned(p, align, n);
        }
    }
    PT_EQ(blocks, 0);
    PT_EQ(calls, 4 * (4 + 11));
}

PT_MAIN()
