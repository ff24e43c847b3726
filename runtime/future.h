/* The future: a result that arrives once, and who waits for it.
 *
 * State word (pica_future.state), written under the lock, read anywhere with acquire:
 *
 *     PENDING --complete()--> DONE [| CANCELLED]
 *
 * besides, from any state: SEEN (an error was looked at; its report is disarmed) and TAKEN (the
 * value was moved out). DONE is set with release after code, value and error were written; whoever
 * reads DONE with acquire may read them.
 *
 * Waiters are called exactly once, by the completer, in the order in which they came, without the
 * lock held; each is unlinked under the lock just before. So a waiter that is still linked can be
 * withdrawn under the lock, and one that is not has been, or is just being, called.
 *
 * Lock order: a future's lock is a leaf; nothing else is taken under it, except that a task's word
 * is changed (no lock).
 */
#ifndef PICA__RUNTIME_FUTURE_H
#define PICA__RUNTIME_FUTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/future.h>

#include "runtime/base/list.h"
#include "runtime/base/lock.h"

enum {
    PICA__FUTURE_DONE = 1u << 0,
    PICA__FUTURE_CANCELLED = 1u << 1,
    PICA__FUTURE_SEEN = 1u << 2,
    PICA__FUTURE_TAKEN = 1u << 3
};

/* One entry of a future's waiter list; lies in what waits. */
typedef struct pica__waiter {
    pica__link link;
    /* Called by the completer. May free the waiter. Must not suspend. */
    void (*done)(struct pica__waiter *waiter, pica_future *future);
} pica__waiter;

struct pica_future {
    /* References. Added relaxed by holders, dropped with acq_rel: the last one frees. */
    _Atomic uint32_t refs;
    /* Guards waiters and the transition to DONE. */
    pica__lock_t lock;
    /* See the head of this file. */
    _Atomic uint32_t state;
    int32_t code;          /* valid once DONE */
    bool calling;          /* under lock: the completer has waiters left to call */
    bool is_task;          /* constant; then this is the first member of a pica_task */
    pica__link waiters;
    void *value;           /* valid once DONE and not TAKEN */
    pica_destroy destroy;
    pica_error *error;     /* valid once DONE, owned */
};

void pica__future_init(pica_future *future, bool is_task, uint32_t refs);
/* Releases value and error: the future's memory is the caller's. */
void pica__future_fini(pica_future *future);

static inline bool pica__future_is_done(const pica_future *future) {
    return (atomic_load_explicit(&((pica_future *)(uintptr_t)future)->state,
                                 memory_order_acquire) &
            PICA__FUTURE_DONE) != 0;
}

/* The one transition to DONE. flags: 0 or PICA__FUTURE_CANCELLED. Takes over value and the
 * reference to error. False if it was done already: then nothing was taken. The caller holds a
 * reference. */
bool pica__future_complete(pica_future *future, int code, void *value, pica_destroy destroy,
                           pica_error *error, uint32_t flags);

/* Appends a waiter; false if the future is done (the waiter is not called then). */
bool pica__future_wait(pica_future *future, pica__waiter *waiter);
/* Takes a waiter out; false if it was called or is being called. */
bool pica__future_withdraw(pica_future *future, pica__waiter *waiter);
/* Disarms the report of an error that nobody looked at. */
void pica__future_mark_seen(pica_future *future);

#endif
