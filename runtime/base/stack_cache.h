/*
 * A worker's own idle stacks in front of the pool, so that most tasks take and give back a stack
 * without a lock. Last in, first out: the stack used last is the one still in the processor's
 * cache.
 *
 * Only its owner touches a cache. Stacks in it count as live in the pool. Under a small limit on
 * stacks it keeps none, since a stack idle here would be refused to another worker.
 */
#ifndef PICA__RUNTIME_BASE_STACK_CACHE_H
#define PICA__RUNTIME_BASE_STACK_CACHE_H

#include "runtime/base/stack.h"

#define PICA__STACK_CACHE_MAX (2 * PICA__STACK_BATCH)

typedef struct pica__stack_cache {
    pica__stack_pool *pool;
    int count;
    int refill; /* how many to ask the pool for: doubles from 1, so that a short run makes few */
    bool may_cache;
    pica__stack idle[PICA__STACK_CACHE_MAX]; /* idle[count - 1] was put last */
} pica__stack_cache;

void pica__stack_cache_init(pica__stack_cache *cache, pica__stack_pool *pool);

/* As pica__stack_get and pica__stack_put; the owner only. */
int pica__stack_cache_get(pica__stack_cache *cache, pica__stack *out);
void pica__stack_cache_put(pica__stack_cache *cache, pica__stack stack);

/* Gives all idle stacks to the pool. The cache may be used again afterwards. */
void pica__stack_cache_flush(pica__stack_cache *cache);

#endif
