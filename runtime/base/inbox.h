/*
 * An inbox: any thread pushes, one owner takes everything at once, oldest first.
 *
 * It is a stack of nodes linked through `next`; the owner takes the whole stack by one exchange and
 * reverses it. Nodes are never taken one by one, so there is no ABA problem: a node can come back
 * into the box only after the owner took all that were before it.
 *
 * Waking: pica__inbox_push() says whether the box was empty. Only that pusher needs to think about
 * waking the owner. The push is not ordered before the pusher's later loads: who goes on to look at
 * an "owner sleeps" word puts a seq_cst fence in between, the partner of the owner's fence between
 * writing that word and looking into the box once more.
 *
 * Plain C11 and no system calls, so that a model checker can compile this very file.
 */
#ifndef PICA__RUNTIME_BASE_INBOX_H
#define PICA__RUNTIME_BASE_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/list.h"

typedef struct pica__inbox {
    /*
     * The newest node, or NULL. Pushers compare-and-swap it (release), the owner exchanges it for
     * NULL (acquire), its partner. The exchange sees every node's contents, not only the newest
     * one's: pushes are read-modify-writes and so continue each other's release sequences.
     */
    pica__fifo_node *_Atomic newest;
} pica__inbox;

static inline void pica__inbox_init(pica__inbox *box) {
    atomic_init(&box->newest, NULL);
}

/*
 * Puts `node` into the box; true if the box was empty before. Any thread. The node belongs to the
 * owner from here on: the pusher may not touch it again.
 */
static inline bool pica__inbox_push(pica__inbox *box, pica__fifo_node *node) {
    pica__fifo_node *old = atomic_load_explicit(&box->newest, memory_order_relaxed);
    bool was_empty;
    do {
        /* Read before publishing: afterwards node->next may already be the owner's. */
        was_empty = old == NULL;
        node->next = old;
    } while (!atomic_compare_exchange_weak_explicit(&box->newest, &old, node, memory_order_release,
                                                    memory_order_relaxed));
    return was_empty;
}

/* Takes all nodes out and returns the oldest of a NULL-terminated chain, or NULL. Owner only. */
static inline pica__fifo_node *pica__inbox_take(pica__inbox *box) {
    /* A look first: an exchange takes the line from the pushers even when there is nothing. */
    if (atomic_load_explicit(&box->newest, memory_order_relaxed) == NULL) {
        return NULL;
    }
    pica__fifo_node *n = atomic_exchange_explicit(&box->newest, NULL, memory_order_acquire);
    pica__fifo_node *oldest = NULL;
    while (n != NULL) {
        pica__fifo_node *next = n->next;
        n->next = oldest;
        oldest = n;
        n = next;
    }
    return oldest;
}

/*
 * Whether the box is empty just now. Any thread; a hint unless a fence orders it (see above).
 * Relaxed: nobody reads a node's contents on the strength of this answer.
 */
static inline bool pica__inbox_empty(pica__inbox *box) {
    return atomic_load_explicit(&box->newest, memory_order_relaxed) == NULL;
}

#endif
