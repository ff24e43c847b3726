/* A worker's queue of runnable tasks: the owner pushes at the tail and takes from the head, thieves
 * take half from the head. Fixed ring; when it is full the owner moves work to the shared queue.
 *
 * Why not Chase-Lev: its owner takes from the same end at which it pushes (newest first), which
 * starves I/O, and it lets a thief take one entry at a time. Here everybody who takes moves `head` by
 * compare-and-swap, so a thief may take many at once: the entries that it copied before the
 * compare-and-swap cannot have been overwritten, because the owner writes a slot only once head has
 * passed it, and then the compare-and-swap fails.
 *
 * Indices are 64 bits and never wrap: a thief that sleeps for any length of time cannot find the
 * same head with other entries behind it.
 *
 * Orders. tail's release and its acquire by thieves hand the contents over. What head's acquire and release
 * add is only that a thief's reading of a slot cannot see what is written there after it took the
 * entry (load buffering: RC11 excludes it anyhow, C11 and ARM do not); on x86 they cost nothing. Each is
 * weakened in turn by tests/explore/weaken; what it does not notice is explained in survivors.txt there.
 *
 * Entries are task pointers; the lowest bit marks a start entry (task.h). Plain C11, no system call,
 * so that a model checker compiles this file.
 */
#ifndef PICA__RUNTIME_DEQUE_H
#define PICA__RUNTIME_DEQUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/compiler.h"

#ifndef PICA__DEQUE_CAPACITY
#define PICA__DEQUE_CAPACITY 256u /* a power of two; small in models, so that they reach the end */
#endif

typedef struct pica__deque {
    /* Next to take. Owner and thieves: compare-and-swap, acq_rel. Its release part orders the
     * reading of the slots before the owner's overwriting them (the owner's acquire load). */
    _Alignas(PICA__CACHELINE) _Atomic uint64_t head;
    /* Next to write. The owner stores with release after the slot; thieves load with acquire. */
    _Alignas(PICA__CACHELINE) _Atomic uint64_t tail;
    /* Written by the owner, read by takers who may lose the race: atomic, relaxed; ordered by head
     * and tail. */
    _Atomic uintptr_t slot[PICA__DEQUE_CAPACITY];
} pica__deque;

static inline void pica__deque_init(pica__deque *d) {
    atomic_init(&d->head, 0);
    atomic_init(&d->tail, 0);
}

/* Owner. False if the ring is full. */
static inline bool pica__deque_push(pica__deque *d, uintptr_t entry) {
    uint64_t tail = atomic_load_explicit(&d->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&d->head, memory_order_acquire);
    if (tail - head >= PICA__DEQUE_CAPACITY) {
        return false;
    }
    atomic_store_explicit(&d->slot[tail % PICA__DEQUE_CAPACITY], entry, memory_order_relaxed);
    atomic_store_explicit(&d->tail, tail + 1, memory_order_release);
    return true;
}

/* Owner: the oldest entry, 0 if there is none. */
static inline uintptr_t pica__deque_take(pica__deque *d) {
    uint64_t tail = atomic_load_explicit(&d->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&d->head, memory_order_acquire);
    while (head != tail) {
        uintptr_t entry =
            atomic_load_explicit(&d->slot[head % PICA__DEQUE_CAPACITY], memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&d->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return entry;
        }
    }
    return 0;
}

/* The same where there are no thieves: a runtime of one worker. */
static inline uintptr_t pica__deque_take_alone(pica__deque *d) {
    uint64_t head = atomic_load_explicit(&d->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&d->tail, memory_order_relaxed)) {
        return 0;
    }
    uintptr_t entry =
        atomic_load_explicit(&d->slot[head % PICA__DEQUE_CAPACITY], memory_order_relaxed);
    atomic_store_explicit(&d->head, head + 1, memory_order_relaxed);
    return entry;
}

/* A thief: copies up to max entries, at most half rounded up, oldest first, into out; returns how
 * many it now owns. 0 if there is nothing or somebody else won. */
static inline size_t pica__deque_steal(pica__deque *d, uintptr_t *out, size_t max) {
    uint64_t head = atomic_load_explicit(&d->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&d->tail, memory_order_acquire);
    if (tail <= head) { /* tail may be older than head: both were read at different times */
        return 0;
    }
    uint64_t n = tail - head;
    if (n > PICA__DEQUE_CAPACITY) { /* head was stale by a whole ring: it cannot win */
        return 0;
    }
    n -= n / 2;
    if (n > max) {
        n = max;
    }
    for (uint64_t i = 0; i < n; i++) {
        out[i] = atomic_load_explicit(&d->slot[(head + i) % PICA__DEQUE_CAPACITY],
                                      memory_order_relaxed);
    }
    if (!atomic_compare_exchange_strong_explicit(&d->head, &head, head + n, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        return 0;
    }
    return (size_t)n;
}

/* Owner: whether there are any, as far as it knows: thieves may have taken them. */
static inline bool pica__deque_any(pica__deque *d) {
    return atomic_load_explicit(&d->head, memory_order_relaxed) !=
           atomic_load_explicit(&d->tail, memory_order_relaxed);
}

/* How many entries there are, by anybody, at some moment during the call. */
static inline size_t pica__deque_size(pica__deque *d) {
    uint64_t head = atomic_load_explicit(&d->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&d->tail, memory_order_acquire);
    return tail > head ? (size_t)(tail - head) : 0;
}

#endif
