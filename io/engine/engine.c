/* Which engine a runtime gets: chosen once, here. Today there is one. */
#include "io/engine/engine.h"

#include "runtime/base/sim/sim.h"

int pica__engine_create(pica__engine **out, const pica__config *config) {
    if (pica__simulated()) {
        return pica__sim_engine_create(out, config);
    }
    return pica__uring_create(out, config);
}
