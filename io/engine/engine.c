/* Which engine a runtime gets: chosen once, here. Today there is one. */
#include "io/engine/engine.h"

int pica__engine_create(pica__engine **out, const pica__config *config) {
    return pica__uring_create(out, config);
}
