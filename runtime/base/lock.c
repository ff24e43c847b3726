/*
 * The contended path of the lock. See lock.h.
 */
#include "runtime/base/lock.h"

#include "runtime/base/relax.h"
#include "runtime/base/sim/sim.h"

#if PICA__DEBUG
void pica__lock_point(void) {
    if (pica__simulated()) {
        pica__sim_point();
    }
}
#endif

PICA__NOINLINE void pica__lock_slow(pica__lock_t *l) {
    pica__backoff backoff = PICA__BACKOFF_INIT;
    do {
        /* Relaxed: this look only says when to try; the exchange that succeeds is the acquire. */
        while (atomic_load_explicit(&l->held, memory_order_relaxed) != 0) {
            pica__relax(&backoff);
        }
    } while (!pica__lock_try(l));
}
