/*
 * Mapping memory for stacks; and keeping it from one simulation to the next.
 *
 * A simulation is over within a millisecond, and a test makes thousands of them in one process: mapping, guarding and
 * touching the same stacks anew would take as long as all the rest. So what a simulated runtime gives up is kept,
 * with its guards, and the next simulation that asks for the like gets it. Real runtimes have no part in this:
 * their memory is always fresh, and goes back to the system.
 *
 * Nobody can tell whether memory was kept: no switch point lies in these calls, and a stack's first content is
 * nobody's to rely on.
 */
#ifndef PICA__RUNTIME_BASE_STACK_MEMORY_H
#define PICA__RUNTIME_BASE_STACK_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/stack_registry.h"

/* `count` stacks side by side. */
struct pica__stack_memory {
    char *start;
    size_t count;
    struct pica__stack_geometry geo;
    unsigned disable; /* of struct pica__stack_config */
    bool dump;        /* goes into core dumps */
    size_t guarded;   /* the first so many have their guards */
    size_t split;     /* so many guards are of kind PICA__GUARD_SPLIT */
};

/* Memory with the count, geo, disable and dump that stand in *memory; fills in the rest. 0 or -ENOMEM. Any thread. */
int pica__stack_memory_map(struct pica__stack_memory *memory);
/* Gives it back, and the count of its guards. keep: what `guarded` says is known for sure. */
void pica__stack_memory_unmap(const struct pica__stack_memory *memory, bool keep);

#endif
