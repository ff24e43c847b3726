/* What ThreadSanitizer and AddressSanitizer are told about tasks and stacks. Empty otherwise.
 *
 * ThreadSanitizer. Each task has a context ("fiber" in its words) of its own, from creation to end,
 * also while it runs in place on another task's stack: contexts per stack would hide races between
 * tasks that shared one. The runtime's own code runs in the context of the worker's thread. Switching
 * from a task into the runtime is an edge (the runtime sees what the task wrote); switching from the
 * runtime to a task is none: what a task may rely on must come through its own synchronisation, its
 * word (wait.h) above all. Otherwise two tasks that race would look ordered whenever one worker ran
 * both. (A wait that the loop itself ends, a sleep or one for a socket, does hand on all that the
 * worker has seen: there the sanitizer may miss races.)
 *
 * Consequences for the runtime:
 *  - code that touches the worker's plain fields from a task enters the runtime first
 *    (pica__tsan_enter ... pica__tsan_leave);
 *  - a function whose frame is open while the context changes must not be instrumented at all
 *    (PICA__NO_TSAN), or the sanitizer's call stacks would be mixed up;
 *  - the changes of a task's word on the way TO the task are no releases;
 *  - what a task acquires when it resumes must stand in an instrumented function of its own
 *    (PICA__TSAN_APART);
 *  - what tasks do to the runtime's own books, in their context, must not order them: it is hidden;
 *  - the dead part of a stack must be declared fresh whenever a task comes to run above it, since the
 *    runtime, or an unrelated task, has used it before.
 *
 * AddressSanitizer's contexts belong to stacks: fiber.c calls its functions directly.
 */
#ifndef PICA__RUNTIME_SAN_H
#define PICA__RUNTIME_SAN_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/compiler.h"

#if PICA__TSAN

#include <sanitizer/tsan_interface.h>

#if defined(__clang__)
#define PICA__NO_TSAN __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define PICA__NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#endif

/* Instrumented, and not to be merged into a caller that is not. */
#define PICA__TSAN_APART __attribute__((noinline))

void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
void AnnotateIgnoreSyncBegin(const char *file, int line);
void AnnotateIgnoreSyncEnd(const char *file, int line);

/* Between the two nothing is seen, neither accesses nor what they order. */
static inline void pica__tsan_hide(void) {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}
static inline void pica__tsan_show(void) {
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

/* Into the runtime's context (of the present thread); returns the one to come back to. */
PICA__NO_TSAN static inline void *pica__tsan_enter(void *runtime) {
    void *now = __tsan_get_current_fiber();
    if (now != runtime) {
        __tsan_switch_to_fiber(runtime, 0);
    }
    return now;
}
/* From the sanitizer's interface for garbage collectors, which is not in its installed headers. */
void __tsan_java_alloc(uintptr_t p, uintptr_t size);
void __tsan_java_free(uintptr_t p, uintptr_t size);

/* Forgets what was done to the memory from lo to hi. The first call clears the history, the second the
 * block that the first one registered. */
PICA__NO_TSAN static inline void pica__tsan_fresh_stack(uintptr_t lo, uintptr_t hi) {
    __tsan_java_alloc(lo, hi - lo);
    __tsan_java_free(lo, 16);
}

enum { PICA__TSAN_RUNTIME_DEPTH = 8 * 1024 }; /* of stack that the runtime may have used */

/* The frame of the function in which it stands: macros, because what is below that frame, and not that
 * of a function here, is what the task will use. */
#define PICA__TSAN_FRAME ((uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)15)

/* To a task's context, or back to whatever pica__tsan_enter returned. */
#define pica__tsan_leave(to) pica__tsan_leave_at(to, PICA__TSAN_FRAME)
PICA__NO_TSAN static inline void pica__tsan_leave_at(void *to, uintptr_t frame) {
    if (to != __tsan_get_current_fiber()) {
        pica__tsan_fresh_stack(frame - PICA__TSAN_RUNTIME_DEPTH, frame);
        __tsan_switch_to_fiber(to, __tsan_switch_to_fiber_no_sync);
    }
}
/* To a task that begins, on the stack whose lower end is lo. */
#define pica__tsan_begin(to, lo) pica__tsan_begin_at(to, lo, PICA__TSAN_FRAME)
PICA__NO_TSAN static inline void pica__tsan_begin_at(void *to, const char *lo, uintptr_t frame) {
    pica__tsan_fresh_stack((uintptr_t)lo, frame);
    __tsan_switch_to_fiber(to, __tsan_switch_to_fiber_no_sync);
}

/* Memory that goes from one task to another through a free list of the runtime: who gives it away, and
 * who gets it, each in its own context. */
static inline void pica__tsan_give(void *memory) {
    __tsan_release(memory);
}
static inline void pica__tsan_get(void *memory) {
    __tsan_acquire(memory);
}

#else

#define PICA__NO_TSAN
static inline void pica__tsan_give(void *memory) {
    (void)memory;
}
static inline void pica__tsan_get(void *memory) {
    (void)memory;
}
#define PICA__TSAN_APART
static inline void pica__tsan_hide(void) {
}
static inline void pica__tsan_show(void) {
}
static inline void *pica__tsan_enter(void *runtime) {
    return runtime;
}
static inline void pica__tsan_leave(void *to) {
    (void)to;
}

#endif

#endif
