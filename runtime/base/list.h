/*
 * Intrusive lists: a doubly linked ring with a head (pica__link), and a singly linked queue
 * (pica__fifo) for nodes that are only ever taken from the front. No locking, no allocation.
 *
 * A link that is in no list points to itself, or is all zero (so that zeroed memory is valid).
 */
#ifndef PICA__RUNTIME_BASE_LIST_H
#define PICA__RUNTIME_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* A list head or a member; the head of an empty list points to itself. */
typedef struct pica__link {
    struct pica__link *prev;
    struct pica__link *next;
} pica__link;

/* Makes `head` an empty list, or a member one that is in no list. */
static inline void pica__list_init(pica__link *head) {
    head->prev = head;
    head->next = head;
}

static inline bool pica__list_empty(const pica__link *head) {
    return head->next == head;
}

/* Whether a member is in a list. Also false for a zeroed member that never was in one. */
static inline bool pica__link_linked(const pica__link *l) {
    return l->next != NULL && l->next != l;
}

static inline void pica__list_insert_between(pica__link *l, pica__link *prev, pica__link *next) {
    l->prev = prev;
    l->next = next;
    prev->next = l;
    next->prev = l;
}

static inline void pica__list_push_back(pica__link *head, pica__link *l) {
    pica__list_insert_between(l, head->prev, head);
}

static inline void pica__list_push_front(pica__link *head, pica__link *l) {
    pica__list_insert_between(l, head, head->next);
}

/* Takes `l` out of the list it is in; afterwards it is in none. */
static inline void pica__list_remove(pica__link *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    pica__list_init(l);
}

/* The first member, still in the list, or NULL. */
static inline pica__link *pica__list_first(const pica__link *head) {
    return pica__list_empty(head) ? NULL : head->next;
}

/* Takes the first member out and returns it, or NULL when the list is empty. */
static inline pica__link *pica__list_pop_front(pica__link *head) {
    pica__link *l = pica__list_first(head);
    if (l != NULL) {
        pica__list_remove(l);
    }
    return l;
}

/* Moves all members of `from`, in order, to the back of `to`; `from` is empty afterwards. */
static inline void pica__list_splice(pica__link *to, pica__link *from) {
    if (!pica__list_empty(from)) {
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        pica__list_init(from);
    }
}

typedef struct pica__fifo_node {
    struct pica__fifo_node *next;
} pica__fifo_node;

/* First and last member; both NULL when empty, so zeroed memory is an empty queue. */
typedef struct pica__fifo {
    pica__fifo_node *head;
    pica__fifo_node *tail;
} pica__fifo;

static inline void pica__fifo_init(pica__fifo *q) {
    q->head = NULL;
    q->tail = NULL;
}

static inline bool pica__fifo_empty(const pica__fifo *q) {
    return q->head == NULL;
}

static inline void pica__fifo_push(pica__fifo *q, pica__fifo_node *n) {
    n->next = NULL;
    if (q->head == NULL) {
        q->head = n;
    } else {
        q->tail->next = n;
    }
    q->tail = n;
}

/* The first member, taken out, or NULL. Its `next` is NULL. */
static inline pica__fifo_node *pica__fifo_pop(pica__fifo *q) {
    pica__fifo_node *n = q->head;
    if (n != NULL) {
        q->head = n->next;
        n->next = NULL;
        if (q->head == NULL) {
            q->tail = NULL;
        }
    }
    return n;
}

/* Moves all members of `from`, in order, to the back of `to`; `from` is empty afterwards. */
static inline void pica__fifo_push_all(pica__fifo *to, pica__fifo *from) {
    if (from->head != NULL) {
        if (to->head == NULL) {
            to->head = from->head;
        } else {
            to->tail->next = from->head;
        }
        to->tail = from->tail;
        pica__fifo_init(from);
    }
}

/* Appends a NULL-terminated chain (what pica__inbox_take() returns) to the back of `q`. */
static inline void pica__fifo_push_chain(pica__fifo *q, pica__fifo_node *first) {
    if (first != NULL) {
        pica__fifo chain = {first, first};
        while (chain.tail->next != NULL) {
            chain.tail = chain.tail->next;
        }
        pica__fifo_push_all(q, &chain);
    }
}

#endif
