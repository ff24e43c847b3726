/*
 * The one place that waits for another thread's progress by turning.
 *
 * First pauses, because most waits here end within some hundred nanoseconds. Then sched_yield():
 * what is waited for may belong to a thread that lost its processor, and pausing on would only keep
 * it from getting one back.
 */
#include "runtime/base/relax.h"

#include <sched.h>

#include "runtime/base/sim/sim.h"

/* Rounds of 1, 2, 4 ... pauses before the first yield: 63 pauses, about a microsecond. */
#define PAUSE_ROUNDS 6

static inline void pause_once(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* yield is a no-op on most cores, isb takes a while */
#else
    __asm__ volatile("" ::: "memory");
#endif
}

void pica__relax(pica__backoff *b) {
    if (pica__simulated()) {
        pica__sim_relax();
    } else if (b->n < PAUSE_ROUNDS) {
        for (unsigned i = 0; i < 1u << b->n; i++) {
            pause_once();
        }
        b->n++;
    } else {
        sched_yield();
    }
}
