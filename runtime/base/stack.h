/*
 * Stacks: guarded pieces of address space of which only the touched pages cost memory.
 *
 *     start            lo                              hi  slot  top
 *     |----- guard ----|------------ usable -----------|----|----|     one stack
 *                                                           `- colour: 0 to 15 cache lines
 *
 * `hi` lies in the topmost page, so that a shallow task touches one page; it differs from stack to
 * stack by whole cache lines ("colour"), since page-aligned stacks would compete for the same few
 * sets of the first-level cache. For the same reason a stack is made one page larger than asked for
 * where that makes its number of pages odd. The two words above `hi` belong to this layer.
 *
 * A pool holds stacks of one size in slabs: mappings of many stacks side by side. The first slab
 * has 16 stacks; each further one has as many as all before it together, up to 4 GiB of address
 * space, so that a million stacks need fewer than a hundred mappings. If a slab of that size is
 * refused, smaller ones are tried down to one stack. A slab's memory is untouched when it is made,
 * and a stack's guard is installed when the stack is handed out for the first time. Stacks put
 * back are handed out again last in, first out, with the pages they have. Slabs are unmapped only
 * with the pool.
 *
 * Huge pages are switched off (one touched page would become 2 MiB), and slabs past the first 64
 * MiB of a pool are left out of core dumps.
 */
#ifndef PICA__RUNTIME_BASE_STACK_H
#define PICA__RUNTIME_BASE_STACK_H

#include <stdbool.h>
#include <stddef.h>

/* The usable bytes [lo, hi). The pair is the handle; both must be given back as they were. */
typedef struct pica__stack {
    char *lo;
    char *hi; /* a multiple of 16 */
} pica__stack;

typedef struct pica__stack_pool pica__stack_pool;

/* Bits of `disable`: kernel features to do without. */
#define PICA__STACK_NO_GUARD_INSTALL 1u /* guards by mprotect */
#define PICA__STACK_NO_DONTDUMP 2u      /* all slabs go into core dumps */

struct pica__stack_config {
    size_t stack_size; /* address space per stack, guard included; rounded up to pages, see above */
    size_t guard_size; /* rounded up to pages; 0: 64 KiB, but at most a quarter of the stack */
    size_t max_stacks; /* how many may exist at once, idle ones included; 0: no limit */
    unsigned disable;
};

struct pica__stack_counts {
    size_t live;       /* handed out: in use, or in a cache */
    size_t idle;       /* put back, kept for reuse */
    size_t slabs;      /* mappings made */
    size_t high_water; /* the most that were live at once */
};

/*
 * 0; -EINVAL if the guard leaves no page of the stack, or a size is absurd; -ENOMEM. Maps nothing
 * yet. Any thread.
 */
int pica__stack_pool_create(pica__stack_pool **out, const struct pica__stack_config *config);

/* Unmaps everything. All stacks must have been put back, and nobody else may use the pool. */
void pica__stack_pool_destroy(pica__stack_pool *pool);

/*
 * Hands out a stack: one put back before if there is one. Its contents are undefined. 0, or -ENOMEM
 * when `max_stacks` exist, when guards run out of mappings, or when the system has no memory; the
 * first time for each of these, one log line names the limit. Any thread.
 */
int pica__stack_get(pica__stack_pool *pool, pica__stack *out);

/* Gives one back, which nobody stands on any more. Any thread. */
void pica__stack_put(pica__stack_pool *pool, pica__stack stack);

/*
 * The same for several at once, for caches. The first hands out at least 1 and at most `n`, fewer
 * when that is cheaper, and returns how many, or -ENOMEM. n is at most PICA__STACK_BATCH.
 */
#define PICA__STACK_BATCH 16
int pica__stack_get_batch(pica__stack_pool *pool, pica__stack *out, int n);
void pica__stack_put_batch(pica__stack_pool *pool, const pica__stack *stacks, int n);

/* True if a cache may keep idle stacks: false under a small limit, where each of them is missed. */
bool pica__stack_pool_may_cache(const pica__stack_pool *pool);

/* A consistent view. Any thread. */
void pica__stack_counts(pica__stack_pool *pool, struct pica__stack_counts *counts);

/*
 * A stack with a size of its own, outside any pool; `size` and `guard` as stack_size and guard_size
 * above. 0, -EINVAL or -ENOMEM. `disable` as above. Any thread.
 */
int pica__stack_map(size_t size, size_t guard, pica__stack *out);
int pica__stack_map_with(size_t size, size_t guard, unsigned disable, pica__stack *out);
void pica__stack_unmap(pica__stack stack);

/*
 * Returns to the system the pages of `stack` that lie wholly below `sp`, the saved stack pointer of
 * whoever is suspended on it; they read as zero afterwards. Nobody may resume it meanwhile. 0, or a
 * negative errno, which is harmless.
 */
int pica__stack_trim(pica__stack stack, const void *sp);

/*
 * True if addr lies in the guard of a stack of this process, whatever pool it is of.
 * Any thread, async-signal-safe.
 */
bool pica__is_stack_guard(const void *addr);

#endif
