/*
 * Memory for the library's own objects. See alloc.h.
 *
 * `family` goes once from NULL to its final value, so everything is allocated and freed by the same
 * functions. A user's functions are wrapped rather than called directly only where an alignment is
 * asked for: they promise none, so a block is made larger and its true start kept in front.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/alloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/lock.h"
#include "runtime/base/sim/sim.h"

/* jemalloc's own interface, present only if the program links or preloads it. */
#define WEAK __attribute__((weak, visibility("default")))
extern void *mallocx(size_t size, int flags) WEAK;
extern void *rallocx(void *p, size_t size, int flags) WEAK;
extern void sdallocx(void *p, size_t size, int flags) WEAK;

/* Parts of jemalloc's stable interface: the flags are the binary logarithm of an alignment, and: */
#define MALLOCX_ZERO_FLAG 0x40

enum family { UNBOUND, JEMALLOC, LIBC, USER };

/*
 * Which functions are in use. Written once, under `bind_lock` (release); read by every call
 * (acquire, its partner: the reader of USER also sees `user`).
 */
static _Atomic int family = UNBOUND;
static pica__lock_t bind_lock = PICA__LOCK_INIT; /* a leaf: nothing is locked under it */
static struct pica_allocator user;               /* constant once family is USER */

/*
 * How many allocations until one fails, for tests; 0 is off. Tests write, every allocation reads
 * and the one that brings it to 0 fails. Relaxed: it orders nothing.
 */
static atomic_ulong fail_in;
static atomic_bool fail_hit;

void pica__alloc_fail_at(unsigned long n) {
    atomic_store_explicit(&fail_hit, false, memory_order_relaxed);
    atomic_store_explicit(&fail_in, n, memory_order_relaxed);
}

bool pica__alloc_fail_hit(void) {
    return atomic_load_explicit(&fail_hit, memory_order_relaxed);
}

static PICA__NOINLINE bool count_down(unsigned long left) {
    while (left != 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_in, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            if (left == 1 && pica__simulated()) {
                return pica__sim_enomem();
            }
            if (left == 1) {
                atomic_store_explicit(&fail_hit, true, memory_order_relaxed);
            }
            return left == 1;
        }
    }
    return false;
}

static inline bool must_fail(void) {
    unsigned long left = atomic_load_explicit(&fail_in, memory_order_relaxed);
    return PICA__UNLIKELY(left != 0) && count_down(left);
}

static PICA__NOINLINE int bind_family(void) {
    pica__lock(&bind_lock);
    int f = atomic_load_explicit(&family, memory_order_relaxed);
    if (f == UNBOUND) {
        /* All three or none: a program that has only some of them has something else. */
        f = mallocx != NULL && rallocx != NULL && sdallocx != NULL ? JEMALLOC : LIBC;
        atomic_store_explicit(&family, f, memory_order_release);
    }
    pica__unlock(&bind_lock);
    return f;
}

static inline int bound(void) {
    int f = atomic_load_explicit(&family, memory_order_acquire);
    return PICA__LIKELY(f != UNBOUND) ? f : bind_family();
}

int pica__alloc_use(const struct pica_allocator *allocator) {
    if (allocator->alloc == NULL || allocator->realloc == NULL || allocator->free == NULL) {
        return -EINVAL;
    }
    pica__lock(&bind_lock);
    bool first = atomic_load_explicit(&family, memory_order_relaxed) == UNBOUND;
    if (first) {
        user = *allocator;
        atomic_store_explicit(&family, USER, memory_order_release);
    }
    pica__unlock(&bind_lock);
    return first ? 0 : -EBUSY;
}

/* Both jemalloc (undefined) and malloc (NULL or not) are odd about 0 bytes. */
static inline size_t at_least_one(size_t size) {
    return size != 0 ? size : 1;
}

void *pica__alloc(size_t size) {
    size = at_least_one(size);
    int f = bound();
    if (must_fail()) {
        return NULL;
    }
    switch (f) {
    case JEMALLOC:
        return mallocx(size, 0);
    case LIBC:
        return malloc(size);
    default:
        return user.alloc(user.ctx, size);
    }
}

void *pica__zalloc(size_t size) {
    size = at_least_one(size);
    int f = bound();
    if (must_fail()) {
        return NULL;
    }
    switch (f) {
    case JEMALLOC:
        return mallocx(size, MALLOCX_ZERO_FLAG);
    case LIBC:
        return calloc(1, size);
    default: {
        void *p = user.alloc(user.ctx, size);
        return p == NULL ? NULL : memset(p, 0, size);
    }
    }
}

void *pica__realloc(void *p, size_t old, size_t size) {
    if (p == NULL) {
        return pica__alloc(size);
    }
    old = at_least_one(old);
    size = at_least_one(size);
    if (size > old && must_fail()) {
        return NULL;
    }
    switch (bound()) {
    case JEMALLOC:
        return rallocx(p, size, 0);
    case LIBC:
        return realloc(p, size);
    default:
        return user.realloc(user.ctx, p, old, size);
    }
}

void pica__free(void *p, size_t size) {
    if (p == NULL) {
        return;
    }
    switch (bound()) {
    case JEMALLOC:
        sdallocx(p, at_least_one(size), 0);
        break;
    case LIBC:
        free(p);
        break;
    default:
        user.free(user.ctx, p, at_least_one(size));
        break;
    }
}

/* What a user's function is asked for: room to move up to the alignment, and for the start. */
static inline size_t padded(size_t align, size_t size) {
    return size + align + sizeof(void *);
}

static void *user_alloc_aligned(size_t align, size_t size) {
    char *start = user.alloc(user.ctx, padded(align, size));
    if (start == NULL) {
        return NULL;
    }
    uintptr_t first = (uintptr_t)start + sizeof(void *);
    char *p = start + sizeof(void *) + ((0 - first) & (align - 1));
    memcpy(p - sizeof(void *), &start, sizeof start);
    return p;
}

void *pica__zalloc_aligned(size_t align, size_t size) {
    PICA__CHECK((align & (align - 1)) == 0 && align >= sizeof(void *));
    /* A whole number of alignments: aligned_alloc() wants it, and nobody shares the last line. */
    size_t whole = (at_least_one(size) + align - 1) & ~(align - 1);
    if (whole < size || padded(align, whole) < whole) {
        return NULL;
    }
    int f = bound();
    if (must_fail()) {
        return NULL;
    }
    void *p;
    switch (f) {
    case JEMALLOC:
        return mallocx(whole, __builtin_ctzl(align) | MALLOCX_ZERO_FLAG);
    case LIBC:
        p = aligned_alloc(align, whole);
        break;
    default:
        p = user_alloc_aligned(align, whole);
        break;
    }
    return p == NULL ? NULL : memset(p, 0, whole);
}

void pica__free_aligned(void *p, size_t align, size_t size) {
    if (p == NULL) {
        return;
    }
    size_t whole = (at_least_one(size) + align - 1) & ~(align - 1);
    switch (bound()) {
    case JEMALLOC:
        sdallocx(p, whole, __builtin_ctzl(align));
        break;
    case LIBC:
        free(p);
        break;
    default: {
        void *start;
        memcpy(&start, (char *)p - sizeof(void *), sizeof start);
        user.free(user.ctx, start, padded(align, whole));
        break;
    }
    }
}
