/* What the files of the io_uring engine share: the engine's record, and the calls between them. uring.c says what
 * always holds. */
#ifndef PICA__IO_ENGINE_URING_RING_H
#define PICA__IO_ENGINE_URING_RING_H

#include <stdatomic.h>

#include "io/engine/engine.h"
#include "io/engine/uring_compat.h"
#include "runtime/base/compiler.h"

struct pica__slot {
    pica__op *op;        /* NULL: free; see also pica__uring.orphan */
    uint32_t generation;
    uint32_t next_free;
};

typedef struct pica__uring {
    pica__engine engine;
    struct io_uring ring;
    unsigned sq_entries;
    unsigned tail;            /* our tail; published by flush */
    unsigned flushed;         /* tail last published */
    bool look;                /* with the set: the ring has something to be done beside what `tail` tells */
    unsigned enter_flags;     /* NO_IOWAIT, REGISTERED_RING */
    int enter_fd;
    bool multishot_poll;      /* false once the kernel refused it, or hidden */
    bool multishot_accept;
    bool ftruncate;
    bool defers;              /* completions come into being only when the owner asks (DEFER_TASKRUN) */
    struct pica__slot *slots;
    uint32_t slot_count;
    uint32_t slot_free;       /* head of the free list, PICA__OP_IDLE: none */
    pica__link backlog;       /* ops that wait for room in the submission queue */
    pica__link cancels;       /* ops whose cancel waits for room: by `link`, never in backlog too */
    int wake_fd;
    pica__op wake_op;
    /* The set: see uring_set.c. */
    pica__engine *set;
    unsigned polls;           /* multishot polls in the ring, the eventfd's among them */
    unsigned early;           /* waits in the ring, one after the other, that ended before a time was over */
    unsigned polls_max;       /* with as many the loop goes over to the set */
    pica__op orphan;          /* in the slots of polls that moved to the set, until the ring has let them go */
} pica__uring;

static inline pica__uring *pica__uring_of(pica__engine *engine) {
    return PICA__CONTAINER_OF(engine, pica__uring, engine);
}

/* The set if the loop has gone over to it, or NULL; by the owner. */
static inline pica__engine *pica__uring_part(const pica__uring *u) {
    return atomic_load_explicit(&u->engine.part, memory_order_relaxed);
}

/* uring.c */
extern const struct pica__engine_ops pica__uring_ops;
int pica__uring_wake_init(pica__uring *u);
/* uring_setup.c */
void pica__uring_destroy(pica__engine *engine);
/* uring_set.c */
int pica__uring_set_open(pica__uring *u, const pica__config *config);
void pica__uring_set_consider(pica__uring *u); /* goes over to it, or puts that off */
void pica__uring_set_close(pica__uring *u);

/* Polls of a loop that are better in the ring; and of one whose waits have ended so often before their time, which the
 * set waits for at less expense (epoll_clock.h). */
#define PICA__URING_POLLS_MAX 32
#define PICA__URING_POLLS_MAX_LIMITED 4

#endif
