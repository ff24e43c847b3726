/* Fibers: making, switching, giving back. See fiber.h. */
#include "runtime/fiber.h"

#include <stdint.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/fiber_switch.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/worker.h"

#if PICA__ASAN
#include <sanitizer/asan_interface.h>
#endif

/* libstdc++'s per-thread exception state: caught exceptions and the number of uncaught ones. Absent
 * in C programs. It belongs to the stack: a task may suspend inside a catch block. */
__attribute__((weak)) void *__cxa_get_globals(void);

/* Debugging: how much of a stack is overwritten when it is given back. */
enum { POISON_BYTES = 4096 };

static void fiber_place(pica__fiber **out, pica__stack stack, bool own_stack,
                        void (*entry)(void *fiber)) {
    /* Below the fiber's struct, which begins a cache line, begins the stack. */
    uintptr_t top = ((uintptr_t)stack.hi - sizeof(pica__fiber)) & ~(uintptr_t)(PICA__CACHELINE - 1);
    pica__fiber *fiber = (pica__fiber *)top;
    memset(fiber, 0, sizeof *fiber);
    fiber->stack = stack;
    fiber->own_stack = own_stack;
    pica__context_make(&fiber->context, stack.lo, fiber, entry, fiber);
    *out = fiber;
}

pica__fiber *pica__fiber_new(pica__worker *worker, void (*entry)(void *fiber)) {
    pica__stack stack;
    if (pica__stack_cache_get(&worker->stacks, &stack) < 0) {
        return NULL;
    }
    pica__fiber *fiber;
    fiber_place(&fiber, stack, false, entry);
    return fiber;
}

pica__fiber *pica__fiber_new_sized(size_t size, void (*entry)(void *fiber)) {
    pica__stack stack;
    if (pica__stack_map(size, 0, &stack) < 0) {
        return NULL;
    }
    pica__fiber *fiber;
    fiber_place(&fiber, stack, true, entry);
    return fiber;
}

void pica__fiber_free(pica__worker *worker, pica__fiber *fiber) {
    pica__stack stack = fiber->stack;
#if PICA__ASAN
    /* Frames that were left for good keep their red zones: the next user must not trip on them. */
    __asan_unpoison_memory_region(stack.lo, (size_t)(stack.hi - stack.lo));
#endif
    if (fiber->own_stack) {
        pica__stack_unmap(stack);
        return;
    }
    if (PICA__UNLIKELY(worker->rt->config.debug_poison)) {
        /* Whoever keeps a pointer into a frame that is gone finds this. */
        memset(stack.hi - POISON_BYTES, 0xa5, POISON_BYTES);
    }
    pica__stack_cache_put(&worker->stacks, stack);
    pica__runtime_stack_freed(worker->rt);
}

size_t pica__fiber_room(const pica__worker *worker) {
    return (size_t)((char *)__builtin_frame_address(0) - worker->fiber->stack.lo);
}

void pica__fiber_thread_init(pica__worker *worker) {
    worker->eh_globals = __cxa_get_globals == NULL ? NULL : __cxa_get_globals();
}

PICA__NO_TSAN void pica__fiber_switch(pica__worker *worker, pica__fiber *to,
                                      pica__commit_fn commit, void *arg) {
    pica__fiber_switch_here(worker, to, commit, arg);
}
