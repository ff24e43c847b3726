/* See stack_cache.h. No locks and no atomics here: a cache has one owner at a time. */
#include "runtime/base/stack_cache.h"

#include <string.h>

#include "runtime/base/compiler.h"
#include "runtime/base/stack_tools.h"

void pica__stack_cache_init(pica__stack_cache *cache, pica__stack_pool *pool) {
    cache->pool = pool;
    cache->count = 0;
    cache->refill = 1;
    cache->may_cache = pica__stack_pool_may_cache(pool);
}

int pica__stack_cache_get(pica__stack_cache *cache, pica__stack *out) {
    if (PICA__UNLIKELY(cache->count == 0)) {
        int n = pica__stack_get_batch(cache->pool, cache->idle, cache->refill);
        if (n < 0) {
            return n;
        }
        cache->count = n;
        if (cache->may_cache && cache->refill < PICA__STACK_BATCH) {
            cache->refill *= 2;
        }
    }
    *out = cache->idle[--cache->count];
    pica__stack_tools_out(*out);
    return 0;
}

void pica__stack_cache_put(pica__stack_cache *cache, pica__stack stack) {
    pica__stack_tools_in(stack);
    if (PICA__UNLIKELY(!cache->may_cache)) {
        pica__stack_put_batch(cache->pool, &stack, 1);
        return;
    }
    if (PICA__UNLIKELY(cache->count == PICA__STACK_CACHE_MAX)) {
        /* The oldest go: they are the coldest. */
        pica__stack_put_batch(cache->pool, cache->idle, PICA__STACK_BATCH);
        cache->count -= PICA__STACK_BATCH;
        memmove(cache->idle, cache->idle + PICA__STACK_BATCH,
                (size_t)cache->count * sizeof cache->idle[0]);
    }
    cache->idle[cache->count++] = stack;
}

void pica__stack_cache_flush(pica__stack_cache *cache) {
    int done = 0;
    while (done < cache->count) {
        int n = cache->count - done;
        n = n < PICA__STACK_BATCH ? n : PICA__STACK_BATCH;
        pica__stack_put_batch(cache->pool, cache->idle + done, n);
        done += n;
    }
    cache->count = 0;
}
