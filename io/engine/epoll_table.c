/* Entries, chains, and telling the kernel. See epoll_table.h. */
#include "io/engine/epoll_table.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/alloc.h"

_Static_assert(EPOLLIN == POLLIN && EPOLLPRI == POLLPRI && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP,
               "events go from one to the other as they are");

enum { ENTRIES_MIN = 64 };

/* --- the chain of an entry --- */

void pica__epoll_chain_add(pica__epoll_entry *entry, pica__op *op) {
    op->slot = PICA__EPOLL_WAITING;
    op->link.next = entry->first == NULL ? NULL : &entry->first->link;
    entry->first = op;
}

void pica__epoll_chain_remove(pica__epoll_entry *entry, pica__op *op) {
    if (entry->first == op) {
        entry->first = pica__epoll_chain_next(op);
    } else {
        pica__op *before = entry->first;
        while (pica__epoll_chain_next(before) != op) {
            before = pica__epoll_chain_next(before);
        }
        before->link.next = op->link.next;
    }
    pica__list_init(&op->link);
}

/* --- telling the kernel --- */

/* What to tell the kernel: for the chain, and op besides, unless NULL. EPOLLEXCLUSIVE: several loops accept from one
 * listener, and one of them is to wake. */
static uint32_t registration(const pica__epoll_entry *entry, const pica__op *op) {
    if (op != NULL && op->kind == PICA__OP_ACCEPT && op->multishot && entry->first == NULL) {
        return (uint32_t)(EPOLLIN | EPOLLET | EPOLLEXCLUSIVE);
    }
    uint32_t events = PICA__EPOLL_ALWAYS;
    bool stays = false;
    for (op = op != NULL ? op : entry->first; op != NULL;) {
        bool chained = op->slot == PICA__EPOLL_WAITING;
        events |= pica__epoll_wanted(op);
        stays = stays || op->multishot;
        op = chained ? pica__epoll_chain_next(op) : entry->first;
    }
    return events | (uint32_t)(stays ? EPOLLET : EPOLLONESHOT);
}

/* Makes the table reach fd. */
static int entries_reach(pica__epoll_table *t, int fd) {
    if ((size_t)fd < t->count) {
        return 0;
    }
    size_t count = t->count == 0 ? ENTRIES_MIN : t->count;
    while (count <= (size_t)fd) {
        count *= 2;
    }
    pica__epoll_entry *entries = pica__zalloc_aligned(PICA__CACHELINE, count * sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    if (t->count != 0) {
        memcpy(entries, t->entries, t->count * sizeof *entries);
    }
    pica__epoll_table_free(t);
    t->entries = entries;
    t->count = count;
    return 0;
}

void pica__epoll_forget(pica__epoll_table *t, int fd) {
    if (t->entries[fd].events != 0) {
        /* Fails if the descriptor was closed: then the kernel has forgotten it. */
        (void)pica__sys_epoll_ctl(t->fd, EPOLL_CTL_DEL, fd, 0, 0);
        t->entries[fd].events = 0;
    }
}

static int tell(pica__epoll_table *t, int fd, uint32_t events) {
    pica__epoll_entry *entry = &t->entries[fd];
    /* Such a registration cannot be changed, only replaced. */
    if (((entry->events | events) & EPOLLEXCLUSIVE) != 0) {
        pica__epoll_forget(t, fd);
    }
    int rc = -ENOENT;
    if (entry->events != 0) {
        uint64_t data = (uint64_t)entry->generation << 32 | (uint32_t)fd;
        rc = pica__sys_epoll_ctl(t->fd, EPOLL_CTL_MOD, fd, events, data);
    }
    if (rc == -ENOENT) { /* also: another file than the one that the kernel was told of */
        uint64_t data = (uint64_t)++entry->generation << 32 | (uint32_t)fd;
        rc = pica__sys_epoll_ctl(t->fd, EPOLL_CTL_ADD, fd, events, data);
    }
    entry->events = rc == 0 ? events : 0;
    return rc;
}

int pica__epoll_watch(pica__epoll_table *t, pica__op *op) {
    if (op->fd < 0) {
        return -EBADF;
    }
    int rc = entries_reach(t, op->fd);
    if (rc < 0) {
        return rc;
    }
    pica__epoll_entry *entry = &t->entries[op->fd];
    rc = tell(t, op->fd, registration(entry, op));
    if (rc == 0) {
        op->result = (int)entry->generation; /* see epoll.c, try_later */
        pica__epoll_chain_add(entry, op);
    }
    return rc;
}

int pica__epoll_tell_chain(pica__epoll_table *t, int fd) {
    return tell(t, fd, registration(&t->entries[fd], NULL));
}

void pica__epoll_table_free(pica__epoll_table *t) {
    pica__free_aligned(t->entries, PICA__CACHELINE, t->count * sizeof *t->entries);
}
