/*
 * The 4-ary heap. See heap.h.
 *
 * Invariants: entries[i] is not before its parent, entries[(i - 1) / 4]; its node->index is i.
 * Places are filled by moving a hole, so that each step writes one entry instead of swapping two.
 */
#include "runtime/base/heap.h"

#include <errno.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/compiler.h"

#define ARITY 4
#define CAPACITY_MIN 16

static bool before(const pica__heap_entry *a, const pica__heap_entry *b) {
    return a->when != b->when ? a->when < b->when : a->seq < b->seq;
}

static void put(pica__heap *h, size_t at, pica__heap_entry entry) {
    h->entries[at] = entry;
    entry.node->index = (uint32_t)at;
}

/* Fills the hole at `at` with `entry` or moves the hole towards the root. */
static void sift_up(pica__heap *h, size_t at, pica__heap_entry entry) {
    while (at > 0) {
        size_t parent = (at - 1) / ARITY;
        if (!before(&entry, &h->entries[parent])) {
            break;
        }
        put(h, at, h->entries[parent]);
        at = parent;
    }
    put(h, at, entry);
}

/* The same, away from the root. */
static void sift_down(pica__heap *h, size_t at, pica__heap_entry entry) {
    for (;;) {
        size_t first = at * ARITY + 1;
        if (first >= h->count) {
            break;
        }
        size_t last = first + ARITY < h->count ? first + ARITY : h->count;
        size_t least = first;
        for (size_t child = first + 1; child < last; child++) {
            if (before(&h->entries[child], &h->entries[least])) {
                least = child;
            }
        }
        if (!before(&h->entries[least], &entry)) {
            break;
        }
        put(h, at, h->entries[least]);
        at = least;
    }
    put(h, at, entry);
}

void pica__heap_init(pica__heap *h) {
    h->entries = NULL;
    h->count = 0;
    h->capacity = 0;
    h->next_seq = 0;
}

void pica__heap_destroy(pica__heap *h) {
    pica__free(h->entries, h->capacity * sizeof *h->entries);
    pica__heap_init(h);
}

static int resize(pica__heap *h, size_t capacity) {
    if (capacity > SIZE_MAX / sizeof *h->entries || capacity > PICA__HEAP_OUT) {
        return -ENOMEM;
    }
    pica__heap_entry *entries =
        pica__realloc(h->entries, h->capacity * sizeof *entries, capacity * sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    h->entries = entries;
    h->capacity = capacity;
    return 0;
}

PICA__HOT int pica__heap_push(pica__heap *h, pica__heap_node *n) {
    PICA__CHECK(n->index == PICA__HEAP_OUT);
    if (h->count == h->capacity) {
        int error = resize(h, h->capacity == 0 ? CAPACITY_MIN : h->capacity * 2);
        if (error != 0) {
            return error;
        }
    }
    n->seq = h->next_seq++;
    sift_up(h, h->count++, (pica__heap_entry){n->when, n->seq, n});
    return 0;
}

PICA__HOT void pica__heap_remove(pica__heap *h, pica__heap_node *n) {
    size_t at = n->index;
    PICA__CHECK(at < h->count && h->entries[at].node == n);
    n->index = PICA__HEAP_OUT;
    pica__heap_entry last = h->entries[--h->count];
    if (last.node != n) {
        if (at > 0 && before(&last, &h->entries[(at - 1) / ARITY])) {
            sift_up(h, at, last);
        } else {
            sift_down(h, at, last);
        }
    }
    /* A quarter in use, and half given back: the next pushes do not grow it again at once. */
    if (h->capacity > CAPACITY_MIN && h->count <= h->capacity / 4) {
        (void)resize(h, h->capacity / 2); /* failing to shrink does no harm */
    }
}

pica__heap_node *pica__heap_pop(pica__heap *h) {
    pica__heap_node *n = pica__heap_min(h);
    if (n != NULL) {
        pica__heap_remove(h, n);
    }
    return n;
}
