/*
 * A lock of four bytes for short critical sections.
 *
 * Rules: hold it for a bounded, small number of instructions; never suspend a task, call the user's
 * code, allocate or make a system call that can block while it is held. Not recursive, not fair.
 * It belongs to no thread, so that a critical section may even end in another context than the one
 * it began in. Waiting goes through pica__relax(), so a holder that lost its processor gets one.
 */
#ifndef PICA__RUNTIME_BASE_LOCK_H
#define PICA__RUNTIME_BASE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/compiler.h"

typedef struct pica__lock_t {
    /*
     * 1 while held. Written by lockers (exchange, acquire) and by the holder (store, release); the
     * two are partners: what was written before an unlock is seen after the next lock.
     */
    _Atomic uint32_t held;
} pica__lock_t;

#define PICA__LOCK_INIT \
    { 0 }

static inline void pica__lock_init(pica__lock_t *l) {
    atomic_init(&l->held, 0);
}

/* The contended path of pica__lock(): waits on plain loads, so that waiters share the line. */
void pica__lock_slow(pica__lock_t *l);

/* What the rules above forbid is looked for by the explorer (tests/explore/locks.c), which is told who holds what:
 * waited is false where another order of locks could not have blocked. And where no lock may be held: before user
 * code and before a system call that blocks. */
#if PICA__MODEL
void pica__lock_taken(const pica__lock_t *l, bool waited);
void pica__lock_given(const pica__lock_t *l);
void pica__lock_none(const char *where);
#else
static inline void pica__lock_taken(const pica__lock_t *l, bool waited) {
    (void)l;
    (void)waited;
}
static inline void pica__lock_given(const pica__lock_t *l) {
    (void)l;
}
static inline void pica__lock_none(const char *where) {
    (void)where;
}
#endif

static inline bool pica__lock_try(pica__lock_t *l) {
    return atomic_exchange_explicit(&l->held, 1, memory_order_acquire) == 0;
}

static inline bool pica__trylock(pica__lock_t *l) {
    bool taken = pica__lock_try(l);
    if (taken) {
        pica__lock_taken(l, false);
    }
    return taken;
}

#if PICA__DEBUG
/* In simulations by debug builds another thread may come first, at every lock. */
void pica__lock_point(void);
#else
static inline void pica__lock_point(void) {
}
#endif

static inline void pica__lock(pica__lock_t *l) {
    pica__lock_point();
    if (PICA__UNLIKELY(!pica__lock_try(l))) {
        pica__lock_slow(l);
    }
    pica__lock_taken(l, true);
}

static inline void pica__unlock(pica__lock_t *l) {
    pica__lock_given(l);
    atomic_store_explicit(&l->held, 0, memory_order_release);
}

#endif
