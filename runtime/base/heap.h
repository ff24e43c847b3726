/*
 * An intrusive 4-ary min-heap for timers.
 *
 * The array holds (when, seq, node): comparisons stay inside the array, four children lie in
 * neighbouring cache lines, and a node is touched only when its place changes. Each node knows its
 * index, so that a timer can be taken out from anywhere. Entries with the same `when` come out in
 * the order in which they were pushed (seq is the heap's push counter).
 *
 * Grows by doubling and gives memory back when three quarters are unused; only pica__heap_push()
 * can fail. No locking: whoever owns the heap brings the lock.
 */
#ifndef PICA__RUNTIME_BASE_HEAP_H
#define PICA__RUNTIME_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A node that is in no heap has this index. */
#define PICA__HEAP_OUT UINT32_MAX

typedef struct pica__heap_node {
    int64_t when; /* the key, by the caller; constant while in a heap */
    uint64_t seq; /* given by pica__heap_push() */
    uint32_t index; /* place in the array, or PICA__HEAP_OUT */
    uint32_t tag;   /* whatever the node's owner keeps here; 0 at first */
} pica__heap_node;

typedef struct pica__heap_entry {
    int64_t when;
    uint64_t seq;
    pica__heap_node *node;
} pica__heap_entry;

typedef struct pica__heap {
    pica__heap_entry *entries;
    size_t count;
    size_t capacity;
    uint64_t next_seq;
} pica__heap;

void pica__heap_init(pica__heap *h);

/* Frees the array. Nodes that are still in are forgotten: their memory is their owner's. */
void pica__heap_destroy(pica__heap *h);

/* Makes `n` a node that is in no heap. */
static inline void pica__heap_node_init(pica__heap_node *n) {
    n->when = 0;
    n->seq = 0;
    n->index = PICA__HEAP_OUT;
    n->tag = 0;
}

static inline bool pica__heap_node_in(const pica__heap_node *n) {
    return n->index != PICA__HEAP_OUT;
}

/* Puts `n` in by n->when. 0, or -ENOMEM with nothing changed. `n` must be in no heap. */
int pica__heap_push(pica__heap *h, pica__heap_node *n);

/* Takes `n`, which must be in `h`, out from wherever it is. */
void pica__heap_remove(pica__heap *h, pica__heap_node *n);

/* Takes the earliest node out and returns it, or NULL. */
pica__heap_node *pica__heap_pop(pica__heap *h);

/* The earliest node, still in the heap, or NULL. */
static inline pica__heap_node *pica__heap_min(const pica__heap *h) {
    return h->count == 0 ? NULL : h->entries[0].node;
}

static inline bool pica__heap_empty(const pica__heap *h) {
    return h->count == 0;
}

#endif
