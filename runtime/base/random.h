/*
 * Chance: seeds from the system, and a small generator (PCG32) for victim choice and jitter. The
 * only source of chance in the tree, so that one number replays a run. Not for secrets.
 */
#ifndef PICA__RUNTIME_BASE_RANDOM_H
#define PICA__RUNTIME_BASE_RANDOM_H

#include <stdint.h>

/* One generator; not shared between threads. */
typedef struct pica__random {
    uint64_t state;
} pica__random;

/* A seed that differs from run to run; never 0, which means "none given" in the environment. */
uint64_t pica__random_seed(void);

/* Seeds derived from one number by adding 1, 2, 3... still give unrelated sequences. */
static inline void pica__random_init(pica__random *r, uint64_t seed) {
    /* The finisher of splitmix64. */
    uint64_t x = seed + UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    r->state = x ^ (x >> 31);
}

/* 32 equally likely bits. */
static inline uint32_t pica__random_next(pica__random *r) {
    uint64_t s = r->state;
    r->state = s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint32_t x = (uint32_t)(((s >> 18) ^ s) >> 27);
    uint32_t turn = (uint32_t)(s >> 59);
    return (x >> turn) | (x << ((32 - turn) & 31));
}

/* A number in [0, n), n > 0. The bias of the multiplication is below n / 2^32. */
static inline uint32_t pica__random_below(pica__random *r, uint32_t n) {
    return (uint32_t)(((uint64_t)pica__random_next(r) * n) >> 32);
}

#endif
