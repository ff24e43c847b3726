/* What an epoll set watches: an entry for each descriptor, with the chain of the operations that wait for it, and
 * what the kernel was told.
 *
 * epoll knows a descriptor once, so operations on the same one share an entry: `entries[fd]`, whose chain goes through
 * op->link.next, NULL at the end. op->slot of those in it is PICA__EPOLL_WAITING.
 *
 * Where all who wait want one event, the kernel is told so (EPOLLONESHOT), and is silent after it. What it was told
 * is believed only while somebody waits: whoever comes tells it anew, which also has it look at the present state,
 * so no edge is missed. Users may close a descriptor without a word, after which its number stands for another
 * file. The generation, part of the event's data, tells events of one file under a number from those of the
 * next; it grows with each new registration.
 *
 * All calls are made by the thread that owns the engine.
 */
#ifndef PICA__IO_ENGINE_EPOLL_TABLE_H
#define PICA__IO_ENGINE_EPOLL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "io/engine/engine.h"
#include "runtime/base/compiler.h"
#include "runtime/base/sys_epoll.h"

enum { PICA__EPOLL_WAITING };

/* What comes whatever one asked for. */
#define PICA__EPOLL_ALWAYS ((uint32_t)(EPOLLERR | EPOLLHUP))
#define PICA__EPOLL_DISARMED ((uint32_t)EPOLLONESHOT)

typedef struct pica__epoll_entry {
    _Alignas(32) pica__op *first; /* the chain. Aligned: an event needs one line of the table */
    const void *near;    /* op->owner of one that stays, at its last event: fetched at the next one, never looked at */
    uint32_t generation; /* of the last registration */
    uint32_t events;     /* what the kernel was told; 0: it does not know the descriptor; DISARMED: an event has
                          * come, and no more will */
} pica__epoll_entry;

typedef struct pica__epoll_table {
    int fd; /* the set */
    pica__epoll_entry *entries;
    size_t count;
} pica__epoll_table;

void pica__epoll_table_free(pica__epoll_table *t);

static inline pica__op *pica__epoll_chain_next(const pica__op *op) {
    return op->link.next == NULL ? NULL : PICA__CONTAINER_OF(op->link.next, pica__op, link);
}
void pica__epoll_chain_add(pica__epoll_entry *entry, pica__op *op);
void pica__epoll_chain_remove(pica__epoll_entry *entry, pica__op *op);

/* The events that an operation waits for. */
static inline uint32_t pica__epoll_wanted(const pica__op *op) {
    return op->kind == PICA__OP_POLL     ? op->events
           : op->kind == PICA__OP_ACCEPT ? (uint32_t)EPOLLIN
                                         : (uint32_t)EPOLLOUT;
}

/* Puts op into its entry's chain and has the kernel watch, and look at the present state. op->result becomes the
 * generation. Not 0: it is in no chain (-ENOMEM, -ENOSPC: the system's limit, -EPERM: nothing that can be watched,
 * -EBADF). */
int pica__epoll_watch(pica__epoll_table *t, pica__op *op);
/* Tells the kernel what the chain of fd waits for. As epoll_ctl. */
int pica__epoll_tell_chain(pica__epoll_table *t, int fd);
/* Nobody waits for fd any more, and the kernel is not to watch it. */
void pica__epoll_forget(pica__epoll_table *t, int fd);

#endif
