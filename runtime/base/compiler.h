/*
 * What the rest of the tree needs from the compiler, under one spelling for gcc and clang.
 *
 * PICA__TSAN, PICA__ASAN and PICA__MODEL are always defined, to 1 or 0, so that a misspelt name is
 * caught by -Wundef instead of quietly meaning "off". (The explorer in tests/ has code instrumented for
 * itself, and defines PICA__TSAN to 0.)
 */
#ifndef PICA__RUNTIME_BASE_COMPILER_H
#define PICA__RUNTIME_BASE_COMPILER_H

#include <stddef.h>

#define PICA__LIKELY(x) __builtin_expect(!!(x), 1)
#define PICA__UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The distance that keeps two workers' variables from sharing a line, on both architectures. */
#define PICA__CACHELINE 64

#define PICA__NOINLINE __attribute__((noinline))
#define PICA__NORETURN __attribute__((noreturn))
/* Where code lies. What requests run stands together (HOT), free of what they do not run: between two requests
 * the kernel takes the caches, and each line of code that a worker comes back to is fetched anew. NOINLINE keeps what
 * it seldom needs out of it, COLD what is for faults and debugging: that is compiled small, and calls of it are taken
 * for unlikely. EACH is for functions that nearly each request of a stream runs: they lie in three pages, as the first
 * touch of a page costs a processor that was idle as much as that of several lines (docs/ENGINE_CHOICES.md, 7). GNU ld
 * sorts sections of this name; other linkers put them together. */
#define PICA__HOT __attribute__((hot))
#define PICA__EACH __attribute__((hot, section(".text.sorted.pica.1")))
#define PICA__COLD __attribute__((cold, noinline))
#define PICA__PRINTF(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))

/* The object of `type` whose `member` is at `ptr`. */
#define PICA__CONTAINER_OF(ptr, type, member) \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(PICA__TSAN)
#define PICA__TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define PICA__ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(PICA__TSAN)
#define PICA__TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(PICA__ASAN)
#define PICA__ASAN 1
#endif
#ifndef PICA__TSAN
#define PICA__TSAN 0
#endif
#ifndef PICA__ASAN
#define PICA__ASAN 0
#endif
/* 1 where a model checker compiles the file: no assembly in place of an atomic operation then. */
#ifndef PICA__MODEL
#define PICA__MODEL 0
#endif

/* In line wherever it is called. Not for ThreadSanitizer: code that it does not see must stay apart from what it sees. */
#if PICA__TSAN
#define PICA__INLINE inline
#else
#define PICA__INLINE inline __attribute__((always_inline))
#endif
/* Of a function that is called from other files, where gcc, which optimizes across files, is to have it in line although
 * it is not small. (clang does not, and warns.) */
#if defined(__clang__)
#define PICA__INLINED
#else
#define PICA__INLINED inline
#endif

#endif
