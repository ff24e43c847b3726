/*
 * The only clock_gettime in the tree.
 */
#include "runtime/base/clock.h"

#include <time.h>

#include "runtime/base/sim/sim.h"

int64_t pica__now(void) {
    if (pica__simulated()) {
        return pica__sim_now();
    }
    struct timespec t;
    /* Cannot fail: the clock exists on every Linux and the pointer is good. */
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
