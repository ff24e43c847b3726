/*
 * Which addresses of the process are stacks of this library, answered inside signal handlers.
 *
 * A range is a mapping of equal stacks side by side, each with its guard at its low end. The list
 * belongs to the process: it holds the ranges of all pools and all stacks mapped alone.
 */
#ifndef PICA__RUNTIME_BASE_STACK_REGISTRY_H
#define PICA__RUNTIME_BASE_STACK_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pica__stack_range pica__stack_range;

/* One stack as pica__stack_find() reports it: [start, start + guard) is its guard. */
struct pica__stack_slot {
    uintptr_t start;
    size_t size; /* as asked for, guard included; for messages */
    size_t guard;
};

/* How the stacks of a range lie side by side. */
struct pica__stack_geometry {
    size_t stride; /* from one to the next */
    size_t guard;  /* the low end of each */
    size_t size;   /* what the user asked for */
};

/*
 * Enters `count` stacks, the first at `start`. NULL: no memory. Any thread, not from a signal
 * handler.
 */
pica__stack_range *pica__stack_register(const void *start, size_t count,
                                        const struct pica__stack_geometry *geo);

/* Takes the range out, before its memory is unmapped. Any thread, not from a signal handler. */
void pica__stack_unregister(pica__stack_range *range);

/* Where the range begins and how its stacks lie; for whoever registered it. */
void *pica__stack_range_start(const pica__stack_range *range);
struct pica__stack_geometry pica__stack_range_geometry(const pica__stack_range *range);

/*
 * If `addr` lies in a registered range, fills *slot with the stack it belongs to. Any thread,
 * async-signal-safe, takes no lock. A range that is being entered or taken out at this moment may
 * or may not be found.
 */
bool pica__stack_find(const void *addr, struct pica__stack_slot *slot);

#endif
