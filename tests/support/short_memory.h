/* An allocator for runtimes of tests: it counts what is out, and refuses one allocation when it is told to, or that
 * one and all that follow. */
#ifndef SHORT_MEMORY_H
#define SHORT_MEMORY_H

#include <pica.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The n-th allocation from now on fails; 0 when it has, or if none is to. Any thread. */
static atomic_long fail_in;
/* With fail_rest all that follow the n-th fail, too, until fail_all is cleared. Any thread. */
static atomic_bool fail_rest, fail_all;
/* Allocations that were refused so far. Any thread. */
static atomic_long refused;
/* Bytes that were allocated and not freed. Any thread. */
static atomic_long live_bytes;

static int short_refuses(void) {
    long left = atomic_load(&fail_in);
    while (left > 0 && !atomic_compare_exchange_weak(&fail_in, &left, left - 1)) {
    }
    if (left == 1 && atomic_load(&fail_rest)) {
        atomic_store(&fail_all, true);
    }
    int fails = left == 1 || atomic_load(&fail_all);
    atomic_fetch_add(&refused, fails);
    return fails;
}

static void *short_alloc(void *ctx, size_t size) {
    (void)ctx;
    if (short_refuses()) {
        return NULL;
    }
    void *p = malloc(size);
    atomic_fetch_add(&live_bytes, p != NULL ? (long)size : 0);
    return p;
}

static void short_free(void *ctx, void *p, size_t size) {
    (void)ctx;
    atomic_fetch_sub(&live_bytes, p != NULL ? (long)size : 0);
    free(p);
}

static void *short_realloc(void *ctx, void *p, size_t old_size, size_t size) {
    void *to = short_alloc(ctx, size);
    if (to != NULL && p != NULL) {
        memcpy(to, p, old_size < size ? old_size : size);
        short_free(ctx, p, old_size);
    }
    return to;
}

static struct pica_runtime_options short_of_memory(void) {
    static const struct pica_allocator allocator = {short_alloc, short_realloc, short_free, NULL};
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.allocator = &allocator;
    return options;
}

#endif
