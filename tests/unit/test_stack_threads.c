/* Stacks used by several threads, and the worker's cache in front of the pool. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/stack.h"
#include "runtime/base/stack_cache.h"
#include "tests/support/pt.h"

#define KIB ((size_t)1024)

static pica__stack_pool *make_pool(size_t max) {
    struct pica__stack_config config = {.stack_size = 64 * KIB, .max_stacks = max};
    pica__stack_pool *pool = NULL;
    PT_REQUIRE(pica__stack_pool_create(&pool, &config) == 0);
    return pool;
}

static struct pica__stack_counts counts_of(pica__stack_pool *pool) {
    struct pica__stack_counts counts;
    pica__stack_counts(pool, &counts);
    return counts;
}

/* ---- the cache ---- */

PT_TEST(cache_is_last_in_first_out) {
    pica__stack_pool *pool = make_pool(0);
    pica__stack_cache cache;
    pica__stack_cache_init(&cache, pool);
    pica__stack s[100];
    for (int i = 0; i < 100; i++) {
        PT_REQUIRE(pica__stack_cache_get(&cache, &s[i]) == 0);
        for (int j = 0; j < i; j++) {
            PT_CHECK(s[i].lo != s[j].lo);
        }
    }
    for (int i = 0; i < 100; i++) {
        pica__stack_cache_put(&cache, s[i]);
    }
    /* It keeps a bounded number, and those put last. */
    struct pica__stack_counts counts = counts_of(pool);
    PT_CHECK(counts.live <= PICA__STACK_CACHE_MAX && counts.idle >= 100 - PICA__STACK_CACHE_MAX);
    for (int i = 99; i >= 84; i--) {
        pica__stack again;
        PT_REQUIRE(pica__stack_cache_get(&cache, &again) == 0);
        PT_CHECK(again.lo == s[i].lo);
    }
    for (int i = 84; i < 100; i++) {
        pica__stack_cache_put(&cache, s[i]);
    }
    pica__stack_cache_flush(&cache);
    PT_EQ(counts_of(pool).live, 0);
    PT_REQUIRE(pica__stack_cache_get(&cache, &s[0]) == 0);
    pica__stack_cache_put(&cache, s[0]);
    pica__stack_cache_flush(&cache);
    pica__stack_pool_destroy(pool);
}

PT_TEST(cache_keeps_nothing_from_others_under_a_small_limit) {
    pica__stack_pool *pool = make_pool(2);
    pica__stack_cache a;
    pica__stack_cache b;
    pica__stack_cache_init(&a, pool);
    pica__stack_cache_init(&b, pool);
    pica__stack s[3];
    for (int round = 0; round < 20; round++) {
        PT_EQ(pica__stack_cache_get(&a, &s[0]), 0);
        PT_EQ(pica__stack_cache_get(&b, &s[1]), 0);
        PT_EQ(pica__stack_cache_get(&a, &s[2]), -ENOMEM);
        pica__stack_cache_put(&a, s[0]);
        PT_EQ(pica__stack_cache_get(&b, &s[2]), 0);
        pica__stack_cache_put(&b, s[1]);
        pica__stack_cache_put(&b, s[2]);
        PT_EQ(counts_of(pool).live, 0);
    }
    pica__stack_pool_destroy(pool);
}

/* ---- threads ---- */

struct churn {
    pica__stack_pool *pool;
    unsigned id;
    int rounds;
    bool cached;
};

/* Takes up to 24 stacks, marks them, checks that nobody else marked them, puts them back. */
static void *churn(void *arg) {
    struct churn *c = arg;
    pica__stack_cache cache;
    pica__stack_cache_init(&cache, c->pool);
    pica__stack held[24];
    unsigned state = c->id * 2654435761u + 1;
    for (int r = 0; r < c->rounds; r++) {
        state = state * 1664525u + 1013904223u;
        unsigned n = 1 + (state >> 16) % 24;
        for (unsigned i = 0; i < n; i++) {
            int rc = c->cached ? pica__stack_cache_get(&cache, &held[i])
                               : pica__stack_get(c->pool, &held[i]);
            PT_REQUIRE(rc == 0);
            memcpy(held[i].hi - 64, &c->id, sizeof c->id);
        }
        for (unsigned i = 0; i < n; i++) {
            unsigned id;
            memcpy(&id, held[i].hi - 64, sizeof id);
            PT_EQ(id, c->id);
            if (c->cached) {
                pica__stack_cache_put(&cache, held[i]);
            } else {
                pica__stack_put(c->pool, held[i]);
            }
        }
    }
    pica__stack_cache_flush(&cache);
    return NULL;
}

PT_TEST_TIMEOUT(threads_share_a_pool, 60) {
    enum { THREADS = 4 };
    for (int cached = 0; cached < 2; cached++) {
        pica__stack_pool *pool = make_pool(0);
        struct churn c[THREADS];
        pthread_t threads[THREADS];
        for (unsigned i = 0; i < THREADS; i++) {
            c[i] = (struct churn){.pool = pool, .id = i + 1, .rounds = 2000, .cached = cached != 0};
            PT_REQUIRE(pthread_create(&threads[i], NULL, churn, &c[i]) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
        struct pica__stack_counts counts = counts_of(pool);
        PT_EQ(counts.live, 0);
        PT_CHECK(counts.idle <= THREADS * (24 + PICA__STACK_CACHE_MAX + PICA__STACK_BATCH));
        pica__stack_pool_destroy(pool);
    }
}

/* All threads grow the pool at once, from nothing; no stack is handed out twice or lost. */
static void *grow_thread(void *arg) {
    pica__stack_pool *pool = arg;
    enum { N = 500 };
    pica__stack *s = malloc(N * sizeof *s);
    PT_REQUIRE(s != NULL);
    for (int i = 0; i < N; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
        memcpy(s[i].hi - 64, &s, sizeof s);
    }
    for (int i = 0; i < N; i++) {
        void *mark;
        memcpy(&mark, s[i].hi - 64, sizeof mark);
        PT_CHECK(mark == s);
        pica__stack_put(pool, s[i]);
    }
    free(s);
    return NULL;
}

PT_TEST(threads_grow_a_pool_at_once) {
    for (int round = 0; round < 5; round++) {
        pica__stack_pool *pool = make_pool(2000);
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            PT_REQUIRE(pthread_create(&threads[i], NULL, grow_thread, pool) == 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
        }
        PT_EQ(counts_of(pool).live, 0);
        pica__stack_pool_destroy(pool);
    }
}

/* A signal handler's question while ranges come and go: always right about a range that stays. */
static _Atomic bool stop_asking;

static void *ask(void *arg) {
    const pica__stack *s = arg;
    while (!atomic_load(&stop_asking)) {
        if (!PT_CHECK(pica__is_stack_guard(s->lo - 1)) || !PT_CHECK(!pica__is_stack_guard(s->lo))) {
            break;
        }
    }
    return NULL;
}

PT_TEST(guard_question_is_answered_while_ranges_change) {
    pica__stack others[70];
    pica__stack fixed;
    for (int i = 0; i < 70; i++) {
        PT_REQUIRE(pica__stack_map(64 * KIB, 0, &others[i]) == 0);
    }
    PT_REQUIRE(pica__stack_map(64 * KIB, 0, &fixed) == 0);
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, ask, &fixed) == 0);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 70; i++) {
            pica__stack_unmap(others[i]);
        }
        for (int i = 0; i < 70; i++) {
            PT_REQUIRE(pica__stack_map(64 * KIB, 0, &others[i]) == 0);
        }
    }
    atomic_store(&stop_asking, true);
    pthread_join(thread, NULL);
    for (int i = 0; i < 70; i++) {
        pica__stack_unmap(others[i]);
    }
    pica__stack_unmap(fixed);
}

PT_MAIN()
