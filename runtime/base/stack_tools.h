/*
 * What sanitizers and valgrind must be told about stacks that are not a thread's own.
 *
 * - AddressSanitizer: a stack that was left in the middle of a function keeps the poison of its
 *   frames; it is cleared before the memory serves again.
 * - LeakSanitizer: a pointer that only a suspended task holds would count as lost; each stack in
 * use
 *   is a root. Only the usable bytes, since reading a guard would be fatal.
 * - valgrind: without the bounds of a stack it takes a switch for a huge allocation on the old one.
 *
 * All of them compile to nothing where the tool is absent.
 */
#ifndef PICA__RUNTIME_BASE_STACK_TOOLS_H
#define PICA__RUNTIME_BASE_STACK_TOOLS_H

#include "runtime/base/compiler.h"
#include "runtime/base/stack.h"

#if PICA__ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define PICA__STACK_VALGRIND 1
#endif
#endif
#ifndef PICA__STACK_VALGRIND
#define PICA__STACK_VALGRIND 0
#endif

/* Somebody is about to use the stack. */
static inline void pica__stack_tools_out(pica__stack stack) {
#if PICA__ASAN
    __lsan_register_root_region(stack.lo, (size_t)(stack.hi - stack.lo));
#else
    (void)stack;
#endif
}

/* Nobody uses the stack any more. */
static inline void pica__stack_tools_in(pica__stack stack) {
#if PICA__ASAN
    __lsan_unregister_root_region(stack.lo, (size_t)(stack.hi - stack.lo));
    __asan_unpoison_memory_region(stack.lo, (size_t)(stack.hi - stack.lo));
#else
    (void)stack;
#endif
}

static inline bool pica__stack_tools_valgrind(void) {
#if PICA__STACK_VALGRIND
    return RUNNING_ON_VALGRIND != 0;
#else
    return false;
#endif
}

/* The id is for pica__stack_tools_unregister; 0 without valgrind. */
static inline unsigned pica__stack_tools_register(pica__stack stack) {
#if PICA__STACK_VALGRIND
    return (unsigned)VALGRIND_STACK_REGISTER(stack.lo, stack.hi);
#else
    (void)stack;
    return 0;
#endif
}

static inline void pica__stack_tools_unregister(unsigned id) {
#if PICA__STACK_VALGRIND
    VALGRIND_STACK_DEREGISTER(id);
#else
    (void)id;
#endif
}

#endif
