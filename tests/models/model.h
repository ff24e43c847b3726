/* What the scenarios for GenMC share. A scenario is one C file that includes the library's own
 * sources, with what stands around them (the scheduler, the engine, memory) in their place; its
 * main starts threads and judges. It is compiled by GenMC itself, never into a program.
 */
#ifndef PICA__TESTS_MODELS_MODEL_H
#define PICA__TESTS_MODELS_MODEL_H

#include <assert.h>
#include <errno.h>
#include <genmc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What GenMC's own headers of the system lack. */
typedef int pid_t;
typedef unsigned uid_t;
typedef unsigned gid_t;
#define ECANCELED 125
int snprintf(char *text, size_t size, const char *format, ...);

/* runtime/self.h without its assembly. */
#define PICA__RUNTIME_SELF_H
struct pica__worker;
static _Thread_local struct pica__worker *model_self;
static inline struct pica__worker *pica__self(void) {
    return model_self;
}

#include "runtime/base/check.h"
#include "runtime/base/lock.h"
#include "runtime/base/relax.h"

void pica__check_failed(const char *expr, const char *file, int line) {
    (void)expr;
    (void)file;
    (void)line;
    assert(!"broken invariant");
    __builtin_unreachable();
}

void pica__relax(pica__backoff *b) {
    (void)b;
}

/* Which locks are held is for tests/explore to watch. */
void pica__lock_taken(const pica__lock_t *l, bool waited) {
    (void)l;
    (void)waited;
}

void pica__lock_given(const pica__lock_t *l) {
    (void)l;
}

void pica__lock_none(const char *where) {
    (void)where;
}

/* As in runtime/base/lock.c, in one loop that changes nothing until it ends, which GenMC does not
 * need to go through more than once. */
void pica__lock_slow(pica__lock_t *l) {
    uint32_t free;
    do {
        free = 0;
    } while (!atomic_compare_exchange_strong_explicit(&l->held, &free, 1, memory_order_acquire,
                                                      memory_order_relaxed));
}

static inline pthread_t model_start(void *(*fn)(void *), uintptr_t arg) {
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, fn, (void *)arg);
    assert(!failed);
    return thread;
}

static inline void model_join(pthread_t thread) {
    int failed = pthread_join(thread, NULL);
    assert(!failed);
}

#endif
