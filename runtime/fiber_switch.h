/* The switch between fibers, in line.
 *
 * What suspends and resumes on every request has it in its own code: after a system call a processor with the usual
 * mitigations predicts no return of a function that was called before, at 8 to 9 ns for each (docs/ENGINE_CHOICES.md,
 * "Frames"), and a task that is resumed has just received. Everybody else calls pica__fiber_switch. */
#ifndef PICA__RUNTIME_FIBER_SWITCH_H
#define PICA__RUNTIME_FIBER_SWITCH_H

#include <stddef.h>

#include "runtime/base/compiler.h"
#include "runtime/base/context.h"
#include "runtime/fiber.h"
#include "runtime/san.h"
#include "runtime/worker.h"

#if PICA__ASAN
#include <sanitizer/common_interface_defs.h>
#endif

PICA__NO_TSAN static inline void pica__fiber_eh_switch(pica__worker *worker, pica__fiber *from, pica__fiber *to) {
    void **globals = worker->eh_globals;
    if (globals != NULL) {
        from->eh_globals[0] = globals[0];
        from->eh_globals[1] = globals[1];
        globals[0] = to->eh_globals[0];
        globals[1] = to->eh_globals[1];
    }
}

/* Runs the commit; every fiber's entry does it first. */
PICA__NO_TSAN static inline void pica__fiber_arrive(void) {
    pica__worker *worker = pica__self();
#if PICA__ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(worker->fiber->fake_stack, &bottom, &size);
    if (worker->native.stack.lo == NULL) {
        /* The first switch of this thread came from its own stack, whose place only the sanitizer
         * knows; the switch back will need it. */
        worker->native.stack.lo = (char *)(uintptr_t)bottom;
        worker->native.stack.hi = (char *)(uintptr_t)bottom + size;
    }
#endif
    pica__commit_fn commit = worker->commit;
    if (commit != NULL) {
        worker->commit = NULL;
        commit(worker, worker->commit_arg);
    }
}

/* As pica__fiber_switch. */
PICA__NO_TSAN static PICA__INLINE void pica__fiber_switch_here(pica__worker *worker, pica__fiber *to,
                                                               pica__commit_fn commit, void *arg) {
    pica__fiber *from = worker->fiber;
    worker->commit = commit;
    worker->commit_arg = arg;
    worker->fiber = to;
    pica__fiber_eh_switch(worker, from, to);
#if PICA__ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack.lo,
                                   (size_t)(to->stack.hi - to->stack.lo));
#endif
    pica__context_pass(&from->context, &to->context);
    /* Here on whatever worker switched back. */
    pica__fiber_arrive();
}

#endif
