/* What ThreadSanitizer and AddressSanitizer are told about tasks and stacks. Empty otherwise.
 *
 * ThreadSanitizer. Each task has a context ("fiber" in its words) of its own, from creation to end,
 * also while it runs in place on another task's stack: contexts per stack would hide races between
 * tasks that shared one. The runtime's own code runs in the context of the worker's thread. Switching
 * from a task into the runtime is an edge (the runtime sees what the task wrote); switching from the
 * runtime to a task is none: what a task may rely on must come through its own synchronisation, its
 * word (wait.h) above all. Otherwise two tasks that race would look ordered whenever one worker ran
 * both.
 *
 * Consequences for the runtime:
 *  - code that touches the worker's plain fields from a task enters the runtime first
 *    (pica__tsan_enter ... pica__tsan_leave);
 *  - a function whose frame is open while the context changes must not be instrumented at all
 *    (PICA__NO_TSAN), or the sanitizer's call stacks would be mixed up;
 *  - the changes of a task's word on the way TO the task are no releases.
 *
 * AddressSanitizer's contexts belong to stacks: fiber.c calls its functions directly.
 */
#ifndef PICA__RUNTIME_SAN_H
#define PICA__RUNTIME_SAN_H

#include <stddef.h>

#include "runtime/base/compiler.h"

#if PICA__TSAN

#include <sanitizer/tsan_interface.h>

#if defined(__clang__)
#define PICA__NO_TSAN __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define PICA__NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#endif

/* Into the runtime's context (of the present thread); returns the one to come back to. */
PICA__NO_TSAN static inline void *pica__tsan_enter(void *runtime) {
    void *now = __tsan_get_current_fiber();
    if (now != runtime) {
        __tsan_switch_to_fiber(runtime, 0);
    }
    return now;
}
/* To a task's context, or back to whatever pica__tsan_enter returned. */
PICA__NO_TSAN static inline void pica__tsan_leave(void *to) {
    if (to != __tsan_get_current_fiber()) {
        __tsan_switch_to_fiber(to, __tsan_switch_to_fiber_no_sync);
    }
}

#else

#define PICA__NO_TSAN
static inline void *pica__tsan_enter(void *runtime) {
    return runtime;
}
static inline void pica__tsan_leave(void *to) {
    (void)to;
}

#endif

#endif
