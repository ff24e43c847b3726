/*
 * Memory for the library's own objects.
 *
 * The functions behind it are chosen once per process, before the first allocation: those given to
 * pica__alloc_use(), else jemalloc's mallocx, rallocx and sdallocx if the program has them (weak
 * symbols: the library itself links no allocator), else malloc, realloc and free. Since the choice
 * never changes, memory of one family never meets the free of another.
 *
 * Sizes are passed back on free, which sized deallocation makes cheaper; they must be the ones
 * asked for. Every function may be called from any thread. Failure is NULL.
 */
#ifndef PICA__RUNTIME_BASE_ALLOC_H
#define PICA__RUNTIME_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#include <pica/base.h>

/* `size` bytes (0 counts as 1), aligned for every ordinary type. */
void *pica__alloc(size_t size);

/* The same, zeroed. */
void *pica__zalloc(size_t size);

/* Grows or shrinks; `old` is p's size. p == NULL allocates. On failure p is untouched. */
void *pica__realloc(void *p, size_t old, size_t size);

/* NULL is allowed. */
void pica__free(void *p, size_t size);

/* Zeroed memory at a multiple of `align`, a power of two of at least sizeof(void *). */
void *pica__zalloc_aligned(size_t align, size_t size);
void pica__free_aligned(void *p, size_t align, size_t size);

/*
 * Chooses the functions for the whole process; the struct is copied. 0; -EINVAL if one is missing;
 * -EBUSY when memory has been allocated or functions chosen before.
 */
int pica__alloc_use(const struct pica_allocator *allocator);

/*
 * For tests: the n-th allocation from now on (1 is the next one) fails, once; 0 turns that off.
 * Reallocations that grow count too. pica__alloc_fail_hit() says whether the failure took place,
 * so that a test can go through all allocations of a call and see the end.
 */
void pica__alloc_fail_at(unsigned long n);
bool pica__alloc_fail_hit(void);

#endif
