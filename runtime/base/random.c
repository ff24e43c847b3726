/*
 * The only getrandom in the tree.
 */
#include "runtime/base/random.h"

#include <sys/random.h>

#include "runtime/base/clock.h"
#include "runtime/base/sim/sim.h"

uint64_t pica__random_seed(void) {
    if (pica__simulated()) {
        return pica__sim_random_seed();
    }
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        /* Early at boot, or forbidden by a filter. Differing between runs is all that is needed. */
        pica__random mix;
        pica__random_init(&mix, (uint64_t)pica__now() ^ (uint64_t)(uintptr_t)&seed);
        seed = mix.state;
    }
    return seed != 0 ? seed : 1;
}
