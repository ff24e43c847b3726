/*
 * Guards: the pages below a stack whose touch is a fault instead of damage to the next stack.
 *
 * Two ways, chosen by what works:
 * - MADV_GUARD_INSTALL (Linux 6.13) marks pages in the page table. It splits no mapping, so any
 *   number of guarded stacks fit into one.
 * - mprotect splits the mapping into two more at each guard. The kernel limits the mappings of a
 *   process (vm.max_map_count), and the rest of the program needs some, so guards of this kind stop
 *   at half of that limit.
 */
#ifndef PICA__RUNTIME_BASE_STACK_GUARD_H
#define PICA__RUNTIME_BASE_STACK_GUARD_H

#include <stdbool.h>
#include <stddef.h>

enum pica__guard_kind {
    PICA__GUARD_MARKED = 0, /* by MADV_GUARD_INSTALL */
    PICA__GUARD_SPLIT = 1   /* by mprotect: counted, to be given back by pica__guard_forget */
};

/*
 * Makes [start, start + size) a guard; both multiples of the page size, inside a private anonymous
 * mapping. `force_split` leaves MADV_GUARD_INSTALL out. Returns a pica__guard_kind, or -ENOSPC when
 * the share of vm.max_map_count is used up, or -ENOMEM when the system refused. Any thread.
 */
int pica__guard_install(void *start, size_t size, bool force_split);

/* The memory of `n` guards of kind PICA__GUARD_SPLIT has been unmapped. Any thread. */
void pica__guard_forget(size_t n);

/* How many split guards the process may have, and how many it has; for messages and tests. */
size_t pica__guard_split_limit(void);
size_t pica__guard_split_count(void);

#endif
