/* How many stacks a test can have: where guards split mappings (before Linux 6.13, or without that feature), the
 * library stops at half of what a process may have. */
#ifndef STACKS_H
#define STACKS_H

#include <stddef.h>
#include <sys/mman.h>

#include "runtime/base/env.h"
#include "runtime/base/stack_guard.h"
#include "tests/support/pt.h"

/* As many as wanted, or three quarters of what is possible: others need some, too. */
static inline size_t stacks_at_most(size_t wanted) {
    enum { SIZE = 1 << 16 };
    pica__config config;
    PT_REQUIRE(pica__config_from_env(&config) == 0);
    char *memory = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PT_REQUIRE(memory != MAP_FAILED);
    int kind = pica__guard_install(memory, SIZE, (config.without & PICA__WITHOUT_GUARD_INSTALL) != 0);
    PT_REQUIRE(kind >= 0);
    munmap(memory, 2 * SIZE);
    if (kind == PICA__GUARD_MARKED) {
        return wanted;
    }
    pica__guard_forget(1);
    size_t possible = pica__guard_split_limit() / 4 * 3;
    return wanted < possible ? wanted : possible;
}

#endif
