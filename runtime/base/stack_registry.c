/*
 * The list of stack ranges.
 *
 * Invariants. Records are never given back to the system, only to a list of free records, so that a
 * signal handler can walk them while another thread enters or removes ranges; their number is that
 * of the most ranges that ever existed at once. Each record has a sequence number that is odd while
 * its fields change; a reader that sees it odd or changed skips the record. Skipping is right: a
 * fault on a stack that somebody runs on concerns a range that nobody may remove meanwhile.
 *
 * Lock order: `registry.lock` is innermost; nothing else is taken under it.
 */
#include "runtime/base/stack_registry.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/lock.h"
#include "runtime/base/stack.h"

struct pica__stack_range {
    /*
     * All six are written by the holder of registry.lock and read by anybody. Writer: seq odd
     * (relaxed), fields (release), seq even (release). Reader: seq (acquire), fields (acquire), seq
     * (relaxed). A reader that sees a new field therefore also sees the odd number before it, and
     * one that saw the even number sees the fields before it. lo == 0: unused.
     */
    _Atomic unsigned seq;
    _Atomic uintptr_t lo;
    _Atomic uintptr_t hi;
    _Atomic size_t stride;
    _Atomic size_t guard;
    _Atomic size_t size;
    pica__stack_range *next_free; /* under registry.lock */
};

struct chunk {
    /*
     * Written once, by the holder of registry.lock (release), after the new chunk has been zeroed;
     * read by anybody (acquire).
     */
    _Atomic(struct chunk *) next;
    size_t count; /* written before the chunk is linked */
    pica__stack_range *ranges;
};

/* Enough for a runtime or two without any allocation: slabs double, so they are few. */
static pica__stack_range first_ranges[64];
static struct chunk first_chunk = {.count = sizeof first_ranges / sizeof first_ranges[0],
                                   .ranges = first_ranges};

static struct {
    pica__lock_t lock;
    struct chunk *last;      /* where a new chunk is linked */
    size_t fresh;            /* records of the last chunk that were used at least once */
    pica__stack_range *free; /* records that were used and are free */
} registry = {.lock = PICA__LOCK_INIT, .last = &first_chunk};

#define CHUNK_BYTES ((size_t)64 * 1024)

/* Maps another chunk; NULL: no memory. Not from the allocator, since chunks are never freed. */
static struct chunk *map_chunk(void) {
    void *p = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    struct chunk *c = p;
    c->ranges = (pica__stack_range *)(void *)((char *)p + PICA__CACHELINE);
    c->count = (CHUNK_BYTES - PICA__CACHELINE) / sizeof(pica__stack_range);
    return c;
}

/* A free record, or NULL if a new chunk is needed. Under registry.lock. */
static pica__stack_range *take_record(void) {
    pica__stack_range *r = registry.free;
    if (r != NULL) {
        registry.free = r->next_free;
        return r;
    }
    if (registry.fresh < registry.last->count) {
        return &registry.last->ranges[registry.fresh++];
    }
    return NULL;
}

static void set_record(pica__stack_range *r, uintptr_t lo, uintptr_t hi,
                       const struct pica__stack_geometry *geo) {
    unsigned seq = atomic_load_explicit(&r->seq, memory_order_relaxed);
    atomic_store_explicit(&r->seq, seq + 1, memory_order_relaxed);
    atomic_store_explicit(&r->lo, lo, memory_order_release);
    atomic_store_explicit(&r->hi, hi, memory_order_release);
    atomic_store_explicit(&r->stride, geo->stride, memory_order_release);
    atomic_store_explicit(&r->guard, geo->guard, memory_order_release);
    atomic_store_explicit(&r->size, geo->size, memory_order_release);
    atomic_store_explicit(&r->seq, seq + 2, memory_order_release);
}

pica__stack_range *pica__stack_register(const void *start, size_t count,
                                        const struct pica__stack_geometry *geo) {
    struct chunk *spare = NULL;
    pica__lock(&registry.lock);
    pica__stack_range *r = take_record();
    if (r == NULL) {
        /* Mapped without the lock: a system call may take long. */
        pica__unlock(&registry.lock);
        spare = map_chunk();
        pica__lock(&registry.lock);
        r = take_record();
        if (r == NULL && spare != NULL) {
            atomic_store_explicit(&registry.last->next, spare, memory_order_release);
            registry.last = spare;
            registry.fresh = 0;
            spare = NULL;
            r = take_record();
        }
    }
    if (r != NULL) {
        set_record(r, (uintptr_t)start, (uintptr_t)start + count * geo->stride, geo);
    }
    pica__unlock(&registry.lock);
    if (spare != NULL) {
        munmap(spare, CHUNK_BYTES);
    }
    return r;
}

void pica__stack_unregister(pica__stack_range *range) {
    pica__lock(&registry.lock);
    PICA__CHECK(atomic_load_explicit(&range->lo, memory_order_relaxed) != 0);
    const struct pica__stack_geometry none = {0};
    set_record(range, 0, 0, &none);
    range->next_free = registry.free;
    registry.free = range;
    pica__unlock(&registry.lock);
}

void *pica__stack_range_start(const pica__stack_range *range) {
    return (void *)atomic_load_explicit(&range->lo, memory_order_relaxed);
}

struct pica__stack_geometry pica__stack_range_geometry(const pica__stack_range *range) {
    return (struct pica__stack_geometry){
        .stride = atomic_load_explicit(&range->stride, memory_order_relaxed),
        .guard = atomic_load_explicit(&range->guard, memory_order_relaxed),
        .size = atomic_load_explicit(&range->size, memory_order_relaxed),
    };
}

static bool find_in(const pica__stack_range *r, uintptr_t addr, struct pica__stack_slot *slot) {
    unsigned seq = atomic_load_explicit(&r->seq, memory_order_acquire);
    uintptr_t lo = atomic_load_explicit(&r->lo, memory_order_acquire);
    uintptr_t hi = atomic_load_explicit(&r->hi, memory_order_acquire);
    if (addr < lo || addr >= hi) {
        return false;
    }
    size_t stride = atomic_load_explicit(&r->stride, memory_order_acquire);
    size_t guard = atomic_load_explicit(&r->guard, memory_order_acquire);
    size_t size = atomic_load_explicit(&r->size, memory_order_acquire);
    if (seq % 2 != 0 || seq != atomic_load_explicit(&r->seq, memory_order_relaxed)) {
        return false;
    }
    slot->start = addr - (addr - lo) % stride;
    slot->size = size;
    slot->guard = guard;
    return true;
}

bool pica__stack_find(const void *addr, struct pica__stack_slot *slot) {
    struct chunk *c = &first_chunk;
    while (c != NULL) {
        for (size_t i = 0; i < c->count; i++) {
            if (find_in(&c->ranges[i], (uintptr_t)addr, slot)) {
                return true;
            }
        }
        c = atomic_load_explicit(&c->next, memory_order_acquire);
    }
    return false;
}

bool pica__is_stack_guard(const void *addr) {
    struct pica__stack_slot slot;
    return pica__stack_find(addr, &slot) && (uintptr_t)addr - slot.start < slot.guard;
}
