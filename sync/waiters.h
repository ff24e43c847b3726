/* The list of tasks that wait for a lock, an event or a queue, in the order in which they came.
 *
 * A zeroed list is valid and empty, so that the objects need no initialisation. The list is guarded
 * by its owner's lock, except for a chain that was taken out by pica__waiters_take_all: that
 * belongs to the taker alone.
 *
 * What a canceller must know under the owner's lock is whether a node is still in the list. To say
 * so for each of a million nodes that were taken out at once would take a million writes under the
 * lock; therefore the list counts such takings as rounds, and a node is in the list as long as the
 * list is still in the node's round. A single node that is taken out gets no round at all.
 *
 * Whoever takes a node out fires it, after unlocking, and from the last fire on touches neither
 * node nor object: the task that was woken may free both.
 *
 * Order: owner's lock, then nothing. Firing is done without it.
 */
#ifndef PICA__SYNC_WAITERS_H
#define PICA__SYNC_WAITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/lock.h"
#include "runtime/task.h"
#include "runtime/wait.h"

/* The result that a commit leaves when it found that nothing had to be waited for. */
enum { PICA__SYNC_AT_ONCE = 1 };

/* One wait of one task, on its stack. All members but wait belong to the list's owner. */
typedef struct pica__waiting {
    pica__wait wait;
    struct pica__waiting *prev;
    struct pica__waiting *next;
    uint64_t round; /* the list's round when it was linked, counted from 1; 0: not linked */
    int at_once;    /* the call's result, with PICA__SYNC_AT_ONCE */
} pica__waiting;

/* Lies in the memory of a public opaque struct, which the user's code initialised as integers. */
typedef struct __attribute__((may_alias)) pica__waiters {
    pica__waiting *first; /* NULL: empty */
    pica__waiting *last;  /* undefined when empty */
    uint64_t takings;     /* how often all were taken out */
} pica__waiters;

static inline bool pica__waiters_empty(const pica__waiters *list) {
    return list->first == NULL;
}

static inline void pica__waiters_push(pica__waiters *list, pica__waiting *node) {
    node->round = list->takings + 1;
    node->next = NULL;
    if (list->first == NULL) {
        node->prev = NULL;
        list->first = node;
    } else {
        node->prev = list->last;
        list->last->next = node;
    }
    list->last = node;
}

static inline void pica__waiters_remove(pica__waiters *list, pica__waiting *node) {
    node->round = 0;
    if (node->prev == NULL) {
        list->first = node->next;
    } else {
        node->prev->next = node->next;
    }
    if (node->next == NULL) {
        list->last = node->prev;
    } else {
        node->next->prev = node->prev;
    }
}

/* Takes out the one that waited longest; NULL when there is none. */
static inline pica__waiting *pica__waiters_pop(pica__waiters *list) {
    pica__waiting *node = list->first;
    if (node != NULL) {
        pica__waiters_remove(list, node);
    }
    return node;
}

/* For a canceller: takes the node out; false if somebody did before, who then fires it. */
static inline bool pica__waiters_withdraw(pica__waiters *list, pica__waiting *node) {
    if (node->round != list->takings + 1) {
        return false;
    }
    pica__waiters_remove(list, node);
    return true;
}

/* Takes all out, in constant time: a chain for pica__waiters_fire_all. */
static inline pica__waiting *pica__waiters_take_all(pica__waiters *list) {
    pica__waiting *chain = list->first;
    list->first = NULL;
    list->takings++;
    return chain;
}

/* Resumes the tasks of a chain, the longest waiting first. Without the owner's lock. */
static inline void pica__waiters_fire_all(pica__waiting *chain, int result) {
    while (chain != NULL) {
        pica__waiting *next = chain->next; /* first: the node is gone once it is fired */
        pica__wait_fire(&chain->wait, result);
        chain = next;
    }
}

/* In a commit that found that nothing has to be waited for: rc is the call's result. */
static inline void pica__waiting_at_once(pica__waiting *node, int rc) {
    node->at_once = rc;
    node->wait.task->outcome = PICA__SYNC_AT_ONCE;
}

/* Suspends the task of the node; returns the call's result. Who was fired has by that all that was
 * written before, and must not look at the object, which may be gone. Who was not has to acquire
 * what the commit saw and did under the guard: the partner of these loads is the commit's unlock,
 * or a later one. */
static inline int pica__waiting_suspend(pica__waiting *node, bool (*commit)(pica__wait *wait),
                                        pica__lock_t *guard) {
    int rc = pica__suspend(&node->wait, commit);
    if (rc == PICA__SYNC_AT_ONCE || rc == PICA_ECANCELED) {
        (void)atomic_load_explicit(&guard->held, memory_order_acquire);
    }
    return rc == PICA__SYNC_AT_ONCE ? node->at_once : rc;
}

#endif
