/*
 * Making a context: lays out, by hand, the frame that pica__context_switch() would have saved.
 *
 * Its registers hold the entry function and its argument where pica__context_entry expects them, a
 * zero frame pointer, at which walkers of frame pointers stop, and as the place to go on the first
 * instruction of pica__context_entry. The order is that of the stores in context_<arch>.S.
 */
#include "runtime/base/context.h"

#include <string.h>

#include "runtime/base/check.h"

/* The label behind pica__context_entry's leading nop; see the assembly for why it is not first. */
void pica__context_start(void);

void pica__context_make(pica__context *c, void *lo, void *hi, void (*entry)(void *), void *arg) {
    PICA__CHECK((uintptr_t)hi % 16 == 0);
    PICA__CHECK((uintptr_t)hi - (uintptr_t)lo >= 2 * PICA__CONTEXT_BYTES);

    uintptr_t frame[PICA__CONTEXT_BYTES / sizeof(uintptr_t)];
    memset(frame, 0, sizeof frame);
#if defined(__x86_64__)
    /* From the lowest address: r15 r14 r13 r12 rbx rbp, return address. */
    frame[3] = (uintptr_t)arg;
    frame[4] = (uintptr_t)entry;
    frame[6] = (uintptr_t)pica__context_start;
#else
    /* From the lowest address: x19..x30, d8..d15. */
    frame[0] = (uintptr_t)entry;
    frame[1] = (uintptr_t)arg;
    frame[11] = (uintptr_t)pica__context_start;
#endif
    c->sp = (char *)hi - sizeof frame;
    memcpy(c->sp, frame, sizeof frame);
}
