/* See stack_memory.h. */
#include "runtime/base/stack_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/stack_guard.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef PR_SET_VMA_ANON_NAME
#define PR_SET_VMA_ANON_NAME 0
#endif

/* ---- kept by simulations, which have one thread: no lock is needed ---- */

/* At most so many pieces, none larger than this. */
enum { KEPT = 64 };
#define KEPT_BYTES ((size_t)16 << 20)

static struct {
    struct pica__stack_memory piece[KEPT];
    unsigned count;
} kept;

static bool alike(const struct pica__stack_memory *a, const struct pica__stack_memory *b) {
    return a->count == b->count && a->geo.stride == b->geo.stride && a->geo.guard == b->geo.guard &&
           a->geo.size == b->geo.size && a->disable == b->disable && a->dump == b->dump;
}

static bool take_kept(struct pica__stack_memory *memory) {
    /* The last one first: it is in the processor's cache. */
    for (unsigned i = kept.count; i-- > 0;) {
        if (alike(&kept.piece[i], memory)) {
            *memory = kept.piece[i];
            kept.piece[i] = kept.piece[--kept.count];
            return true;
        }
    }
    return false;
}

static bool keep_piece(const struct pica__stack_memory *memory) {
    if (kept.count == KEPT || memory->count * memory->geo.stride > KEPT_BYTES) {
        return false;
    }
    kept.piece[kept.count++] = *memory;
    return true;
}

/* ---- mapping; out of line: see stack_guard.c ---- */

PICA__NOINLINE int pica__stack_memory_map(struct pica__stack_memory *memory) {
    size_t size = memory->count * memory->geo.stride;
    memory->guarded = memory->split = 0;
    if (pica__simulated() && take_kept(memory)) {
        return 0;
    }
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) {
        return -ENOMEM;
    }
    /* All three are refinements that a kernel may lack. */
    (void)madvise(p, size, MADV_NOHUGEPAGE);
    if (!memory->dump) {
        (void)madvise(p, size, MADV_DONTDUMP);
    }
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, size, "pica stacks");
    memory->start = p;
    return 0;
}

PICA__NOINLINE void pica__stack_memory_unmap(const struct pica__stack_memory *memory, bool keep) {
    if (keep && pica__simulated() && keep_piece(memory)) {
        return;
    }
    int rc = munmap(memory->start, memory->count * memory->geo.stride);
    PICA__CHECK(rc == 0);
    pica__guard_forget(memory->split);
}
