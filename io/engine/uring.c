/* The io_uring engine.
 *
 * liburing makes the ring and prepares entries; the submission queue's tail and the enter call are
 * ours, because flags newer than the packaged liburing go through the enter call.
 *
 * The ring belongs to the thread that made it (SINGLE_ISSUER, DEFER_TASKRUN): completions come into
 * being only inside that thread's enter with GETEVENTS. Other threads only write the eventfd.
 *
 * Slots. user_data is (generation << 32 | slot). A slot is taken at submit and freed by the terminal
 * completion; the generation grows each time, so a stale or doubled completion is recognised: it
 * would be a defect of this file or of the kernel, and stops the program before it corrupts memory.
 *
 * The kernel's queues can be full. Submission: the operation waits in `backlog`, in order, and is
 * prepared when there is room; every wait drains it. Completion: the kernel keeps what does not fit
 * (NODROP) and says so in the queue's flags; the next enter flushes it. EBUSY from enter means the
 * same and is answered by reaping.
 *
 * uring_setup.c makes the ring. A loop with many sockets has their readiness from an epoll set and waits there
 * (uring_set.c); all other operations stay in the ring.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/engine/epoll_clock.h"
#include "io/engine/uring_ring.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/log.h"
#include "runtime/base/park.h"
#include "runtime/base/sys.h"

/* When entries were refused for want of memory, they are tried again so much later. */
#define REFUSED_NS INT64_C(1000000)
/* Completions delivered by one wait. */
enum { REAP_MAX = 64 };

/* user_data of entries whose completion nobody needs. */
#define IGNORED UINT64_MAX

/* --- slots --- */

static int slots_grow(pica__uring *u) {
    uint32_t count = u->slot_count == 0 ? 64 : u->slot_count * 2;
    if (count >= (1u << 30)) {
        return -ENOMEM;
    }
    struct pica__slot *slots = pica__realloc(u->slots, u->slot_count * sizeof(struct pica__slot),
                                       count * sizeof(struct pica__slot));
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = u->slot_count; i < count; i++) {
        slots[i] = (struct pica__slot){NULL, 0, i + 1 < count ? i + 1 : u->slot_free};
    }
    u->slot_free = u->slot_count;
    u->slots = slots;
    u->slot_count = count;
    return 0;
}

static void count_in_flight(pica__uring *u, uint64_t n) {
    atomic_store_explicit(&u->engine.in_flight,
                          atomic_load_explicit(&u->engine.in_flight, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static int slot_take(pica__uring *u, pica__op *op) {
    if (u->slot_free == PICA__OP_IDLE) {
        int rc = slots_grow(u);
        if (rc < 0) {
            return rc;
        }
    }
    uint32_t i = u->slot_free;
    u->slot_free = u->slots[i].next_free;
    u->slots[i].op = op;
    u->slots[i].generation++;
    op->slot = i;
    u->polls += op->kind == PICA__OP_POLL && op->multishot;
    count_in_flight(u, 1);
    return 0;
}

static void slot_free(pica__uring *u, uint32_t slot) {
    u->slots[slot].op = NULL;
    u->slots[slot].next_free = u->slot_free;
    u->slot_free = slot;
    count_in_flight(u, UINT64_MAX);
}

static void slot_release(pica__uring *u, pica__op *op) {
    PICA__CHECK(u->slots[op->slot].op == op);
    slot_free(u, op->slot);
    op->slot = PICA__OP_IDLE;
    u->polls -= op->kind == PICA__OP_POLL && op->multishot;
}

static uint64_t slot_data(const pica__uring *u, uint32_t slot) {
    return (uint64_t)u->slots[slot].generation << 32 | slot;
}

/* --- submission --- */

/* A free entry, or NULL when the queue is full. */
static struct io_uring_sqe *sqe_get(pica__uring *u) {
    unsigned head = atomic_load_explicit((_Atomic unsigned *)u->ring.sq.khead,
                                         memory_order_acquire);
    if (u->tail - head >= u->sq_entries) {
        return NULL;
    }
    return &u->ring.sq.sqes[u->tail++ & (u->sq_entries - 1)];
}

static void sq_flush(pica__uring *u) {
    if (PICA__UNLIKELY(u->flushed != u->tail)) {
        /* Release: the kernel reads the entries behind the tail. */
        atomic_store_explicit((_Atomic unsigned *)u->ring.sq.ktail, u->tail,
                              memory_order_release);
        u->flushed = u->tail;
    }
}

static unsigned sq_pending(const pica__uring *u) {
    return u->tail -
           atomic_load_explicit((_Atomic unsigned *)u->ring.sq.khead, memory_order_acquire);
}

/* One enter. wait: whether to wait for a completion. Returns a negative error or the number of
 * entries that the kernel took. */
static int uring_enter(pica__uring *u, bool wait, int64_t deadline) {
    struct __kernel_timespec ts;
    struct io_uring_getevents_arg arg;
    unsigned flags = IORING_ENTER_GETEVENTS | u->enter_flags;
    void *argument = NULL;
    size_t argument_size = 0;
    if (PICA__UNLIKELY(wait && deadline != INT64_MAX)) {
        int64_t left = deadline - pica__now();
        if (left <= 0) {
            wait = false;
        } else {
            ts.tv_sec = left / 1000000000;
            ts.tv_nsec = left % 1000000000;
            arg = (struct io_uring_getevents_arg){.ts = (uint64_t)(uintptr_t)&ts};
            argument = &arg;
            argument_size = sizeof arg;
            flags |= IORING_ENTER_EXT_ARG;
        }
    }
    sq_flush(u);
    return io_uring_enter2((unsigned)u->enter_fd, sq_pending(u), wait ? 1 : 0, flags, argument,
                           argument_size);
}

static void file_prepare(const pica__uring *u, struct io_uring_sqe *sqe, const pica__op_file *file) {
    int fd = file->op.fd;
    switch (file->op.kind) {
        case PICA__OP_OPEN:
            io_uring_prep_openat(sqe, fd, file->path, file->flags, (mode_t)file->mode);
            break;
        case PICA__OP_READ:
            io_uring_prep_read(sqe, fd, file->buffer, (unsigned)file->size, (uint64_t)file->offset);
            break;
        case PICA__OP_WRITE:
            io_uring_prep_write(sqe, fd, file->buffer, (unsigned)file->size,
                                (uint64_t)file->offset);
            break;
        case PICA__OP_READV:
            io_uring_prep_readv(sqe, fd, file->buffer, (unsigned)file->size, (uint64_t)file->offset);
            break;
        case PICA__OP_WRITEV:
            io_uring_prep_writev(sqe, fd, file->buffer, (unsigned)file->size,
                                 (uint64_t)file->offset);
            break;
        case PICA__OP_OPEN2:
            io_uring_prep_openat2(sqe, fd, file->path, file->buffer);
            break;
        case PICA__OP_TRUNCATE:
            /* Answered with -EINVAL where it is not known; so is what we hide it behind. */
            io_uring_prep_rw(u->ftruncate ? PICA__URING_OP_FTRUNCATE : UINT8_MAX, sqe, fd, NULL, 0,
                             (uint64_t)file->offset);
            break;
        case PICA__OP_FSYNC:
            io_uring_prep_fsync(sqe, fd, file->flags != 0 ? IORING_FSYNC_DATASYNC : 0);
            break;
        case PICA__OP_STAT:
            io_uring_prep_statx(sqe, fd, file->path, file->flags, STATX_BASIC_STATS | STATX_BTIME,
                                file->buffer);
            break;
        case PICA__OP_CLOSE:
            io_uring_prep_close(sqe, fd);
            break;
        default:
            PICA__UNREACHABLE();
    }
}

static bool op_prepare(pica__uring *u, pica__op *op) {
    struct io_uring_sqe *sqe = sqe_get(u);
    if (sqe == NULL) {
        return false;
    }
    switch (op->kind) {
        case PICA__OP_POLL:
            if (op->multishot && u->multishot_poll) {
                io_uring_prep_poll_multishot(sqe, op->fd, op->events);
            } else {
                io_uring_prep_poll_add(sqe, op->fd, op->events);
            }
            break;
        case PICA__OP_ACCEPT:
            if (op->multishot && u->multishot_accept) {
                io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL,
                                               SOCK_NONBLOCK | SOCK_CLOEXEC);
            } else {
                io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            }
            break;
        case PICA__OP_CONNECT: {
            const pica__op_connect *connect = PICA__CONTAINER_OF(op, pica__op_connect, op);
            io_uring_prep_connect(sqe, op->fd, connect->address, connect->length);
            break;
        }
        default:
            file_prepare(u, sqe, PICA__CONTAINER_OF(op, pica__op_file, op));
            break;
    }
    sqe->user_data = slot_data(u, op->slot);
    return true;
}

static bool cancel_prepare(pica__uring *u, uint32_t slot) {
    struct io_uring_sqe *sqe = sqe_get(u);
    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_cancel64(sqe, slot_data(u, slot), 0);
    sqe->user_data = IGNORED;
    return true;
}

static inline bool waits_for_room(const pica__uring *u) {
    return !pica__list_empty(&u->backlog) || !pica__list_empty(&u->cancels);
}

/* Moves what waits for room into the queue, as far as there is room. */
static PICA__NOINLINE void backlog_drain(pica__uring *u) {
    pica__link *l;
    while ((l = pica__list_first(&u->backlog)) != NULL) {
        pica__op *op = PICA__CONTAINER_OF(l, pica__op, link);
        if (!op_prepare(u, op)) {
            return;
        }
        op->queued = false;
        pica__list_remove(l);
        if (op->cancel_asked) {
            pica__list_push_back(&u->cancels, &op->link);
        }
    }
    while ((l = pica__list_first(&u->cancels)) != NULL) {
        if (!cancel_prepare(u, PICA__CONTAINER_OF(l, pica__op, link)->slot)) {
            return;
        }
        pica__list_remove(l);
    }
}

static int uring_submit(pica__engine *engine, pica__op *op) {
    pica__uring *u = pica__uring_of(engine);
    PICA__CHECK(op->slot == PICA__OP_IDLE);
    op->in_set = false;
    bool accepts = op->kind == PICA__OP_ACCEPT && !u->defers;
    if ((op->kind == PICA__OP_POLL && op != &u->wake_op) || PICA__UNLIKELY(accepts)) {
        if (PICA__UNLIKELY(u->polls >= u->polls_max || accepts)) {
            pica__uring_set_consider(u);
        }
        if (pica__uring_part(u) != NULL) {
            op->in_set = true;
            return pica__engine_submit(pica__uring_part(u), op);
        }
    }
    int rc = slot_take(u, op);
    if (rc < 0) {
        return rc;
    }
    op->cancel_asked = false;
    pica__list_init(&op->link);
    op->queued = !pica__list_empty(&u->backlog) || !op_prepare(u, op);
    if (op->queued) {
        pica__list_push_back(&u->backlog, &op->link);
        u->look = true;
    }
    return 0;
}

static void uring_cancel(pica__engine *engine, pica__op *op) {
    pica__uring *u = pica__uring_of(engine);
    PICA__CHECK(op->slot != PICA__OP_IDLE);
    if (op->in_set) {
        pica__engine_cancel(pica__uring_part(u), op);
        return;
    }
    if (op->cancel_asked) {
        return;
    }
    op->cancel_asked = true;
    /* An operation that is still in the backlog is submitted and then cancelled: its terminal
     * completion comes the same way as every other's. */
    if (!op->queued && !cancel_prepare(u, op->slot)) {
        pica__list_push_back(&u->cancels, &op->link);
        u->look = true;
    }
}

/* --- completion --- */

/* Whether this result means that the kernel does not know the multishot form. It is learnt once; the
 * operation goes on in its one-shot form, re-armed here. */
static bool multishot_refused(pica__uring *u, pica__op *op, int result) {
    bool *known = op->kind == PICA__OP_POLL ? &u->multishot_poll : &u->multishot_accept;
    if (result != -EINVAL || !op->multishot || !*known) {
        return false;
    }
    *known = false;
    return true;
}

static bool one_shot_goes_on(const pica__uring *u, const pica__op *op, int result) {
    if (!op->multishot || op->cancel_asked || result < 0) {
        return false;
    }
    return op->kind == PICA__OP_POLL     ? !u->multishot_poll
           : op->kind == PICA__OP_ACCEPT ? !u->multishot_accept
                                         : false;
}

/* Puts an operation whose one-shot form has completed in flight again, in the same slot. */
static void rearm(pica__uring *u, pica__op *op) {
    u->slots[op->slot].generation++;
    if (!pica__list_empty(&u->backlog) || !op_prepare(u, op)) {
        op->queued = true;
        pica__list_push_back(&u->backlog, &op->link);
    }
}

/* A poll from before there was a set has its event in the ring: the next ones are to come from the set. The ring is
 * asked to let go of it; until then its slot is kept. */
static PICA__NOINLINE void move_to_set(pica__uring *u, pica__op *op) {
    uint32_t slot = op->slot;
    if (op->kind != PICA__OP_POLL || op->cancel_asked || op == &u->wake_op || !cancel_prepare(u, slot)) {
        return;
    }
    op->slot = PICA__OP_IDLE;
    if (pica__engine_submit(pica__uring_part(u), op) == 0) {
        u->slots[slot].op = &u->orphan;
        u->polls--;
        op->in_set = true;
    } else {
        op->slot = slot;
        u->tail--; /* takes the cancel back: nothing was published since */
    }
}

static void cqe_deliver(pica__uring *u, const struct io_uring_cqe *cqe) {
    uint64_t data = cqe->user_data;
    if (data == IGNORED) {
        return;
    }
    uint32_t slot = (uint32_t)data;
    int result = cqe->res;
    PICA__CHECK(slot < u->slot_count);
    PICA__CHECK(u->slots[slot].op != NULL && u->slots[slot].generation == (uint32_t)(data >> 32));
    pica__op *op = u->slots[slot].op;
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (PICA__UNLIKELY(op == &u->orphan)) {
        if (!more) {
            slot_free(u, slot);
        }
        return;
    }
    if (PICA__UNLIKELY(!more) && (multishot_refused(u, op, result) || one_shot_goes_on(u, op, result))) {
        rearm(u, op);
        if (result == -EINVAL) {
            return;
        }
        more = true;
    }
    if (PICA__UNLIKELY(!more)) {
        if (pica__link_linked(&op->link)) {
            pica__list_remove(&op->link); /* its cancel did not get into the queue in time */
        }
        slot_release(u, op);
    } else if (PICA__UNLIKELY(pica__uring_part(u) != NULL)) {
        move_to_set(u, op);
    }
    op->complete(op, result, more);
}

/* Delivers what there is, at most REAP_MAX: what came first runs before the rest of a flood is dealt with, while
 * it is in the caches. */
static PICA__HOT int uring_reap(pica__uring *u) {
    int delivered = 0;
    while (delivered < REAP_MAX) {
        struct io_uring_cq *cq = &u->ring.cq;
        unsigned head = *cq->khead; /* ours alone */
        unsigned tail = atomic_load_explicit((_Atomic unsigned *)cq->ktail, memory_order_acquire);
        if (head == tail) {
            break;
        }
        /* Copied, and given back, before the callback: it may enter the kernel. */
        struct io_uring_cqe cqe = cq->cqes[head & (cq->ring_mask)];
        atomic_store_explicit((_Atomic unsigned *)cq->khead, head + 1, memory_order_release);
        cqe_deliver(u, &cqe);
        delivered++;
    }
    return delivered;
}

static bool cq_has(const pica__uring *u) {
    const struct io_uring_cq *cq = &u->ring.cq;
    return *cq->khead !=
           atomic_load_explicit((_Atomic unsigned *)cq->ktail, memory_order_acquire);
}

/* Enters until what waited for room is in the kernel. Returns how many completions that delivered. */
static PICA__HOT int enter_and_reap(pica__uring *u, bool wait, int64_t deadline) {
    int delivered = 0;
    for (;;) {
        if (PICA__UNLIKELY(waits_for_room(u))) {
            backlog_drain(u);
        }
        bool full = PICA__UNLIKELY(waits_for_room(u));
        int rc = uring_enter(u, wait && !full, deadline);
        if (PICA__UNLIKELY(rc < 0)) {
            /* EINTR and ETIME end the wait; EBUSY and EAGAIN: the kernel wants completions reaped
             * or has no memory just now: what was not submitted stays in the queue. */
            PICA__CHECK(rc == -EINTR || rc == -ETIME || rc == -EBUSY || rc == -EAGAIN ||
                        rc == -ENOMEM);
        }
        delivered += uring_reap(u);
        if (PICA__LIKELY(!full || rc < 0)) {
            return delivered;
        }
        wait = wait && delivered == 0;
    }
}

static bool ring_has_work(const pica__uring *u) {
    unsigned flags = atomic_load_explicit((_Atomic unsigned *)u->ring.sq.kflags,
                                          memory_order_relaxed);
    return u->tail != u->flushed || cq_has(u) ||
           (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0 ||
           waits_for_room(u);
}

/* Gone over to the set: whether the ring is to be looked at, as far as is known without touching it. */
static inline bool ring_is_due(const pica__uring *u) {
    return u->look || u->tail != u->flushed;
}

static bool uring_has_work(pica__engine *engine) {
    pica__uring *u = pica__uring_of(engine);
    pica__engine *set = pica__uring_part(u);
    return set == NULL ? ring_has_work(u) : ring_is_due(u) || pica__engine_has_work(set);
}

/* Gone over to the set: what is to be done in the ring. Returns what was delivered, and until when to wait for more. */
static PICA__NOINLINE int ring_turn(pica__uring *u, int64_t *deadline) {
    int delivered = cq_has(u) ? uring_reap(u) : 0;
    if (delivered < REAP_MAX) {
        delivered += enter_and_reap(u, false, 0);
    }
    u->look = ring_has_work(u);
    if (u->look || delivered != 0) {
        *deadline = 0;
    } else if (sq_pending(u) != 0) { /* refused for want of memory: again, but soon, not at once */
        u->look = true;
        int64_t again = pica__now() + REFUSED_NS;
        *deadline = *deadline < again ? *deadline : again;
    }
    return delivered;
}

/* Gone over to the set: the wait is there. */
static inline int wait_in_set(pica__uring *u, pica__engine *set, int64_t deadline) {
    int delivered = 0;
    if (PICA__UNLIKELY(ring_is_due(u))) {
        delivered = ring_turn(u, &deadline);
    }
    delivered += pica__epoll_wait(set, deadline);
    u->engine.ahead = set->ahead;
    if (PICA__UNLIKELY(pica__epoll_woken(set)) && ring_has_work(u)) {
        delivered += ring_turn(u, &deadline);
    }
    return delivered;
}

/* After a wait in the ring with a deadline. */
static PICA__NOINLINE void limited_wait_ended(pica__uring *u, bool early) {
    u->early = early ? u->early + 1 : 0;
    if (u->early >= PICA__EPOLL_CLOCK_EARLY && u->polls > PICA__URING_POLLS_MAX_LIMITED) {
        u->early = 0;
        pica__uring_set_consider(u);
    }
}

static PICA__HOT int uring_wait(pica__engine *engine, int64_t deadline) {
    pica__uring *u = pica__uring_of(engine);
    pica__engine *set = pica__uring_part(u);
    if (set != NULL) {
        return wait_in_set(u, set, deadline);
    }
    int delivered = cq_has(u) ? uring_reap(u) : 0;
    if (delivered == REAP_MAX) {
        return delivered; /* there may be more: for the next call */
    }
    bool waits = deadline != 0 && delivered == 0;
    delivered += enter_and_reap(u, waits, deadline);
    if (waits && deadline != INT64_MAX) {
        limited_wait_ended(u, delivered > 0);
    }
    return delivered;
}

/* --- wakes --- */

static void uring_wake(pica__engine *engine) {
    pica__uring *u = pica__uring_of(engine);
    /* Acquire: the set. Who comes before the loop has gone over wakes it by way of the ring. */
    pica__engine *set = atomic_load_explicit(&engine->part, memory_order_acquire);
    if (set != NULL) {
        pica__engine_wake(set);
        return;
    }
    uint64_t one = 1;
    /* The counter is never read: the multishot poll is triggered by each write, and 2^64 wakes do
     * not happen. */
    (void)pica__sys_write(u->wake_fd, &one, sizeof one);
}

static void wake_complete(pica__op *op, int result, bool more) {
    pica__uring *u = PICA__CONTAINER_OF(op, pica__uring, wake_op);
    (void)result;
    if (!more) {
        /* The kernel may end a multishot operation (its queue overflowed); a loop that cannot be
         * woken would hang. The slot that was just freed is free: this cannot fail. */
        PICA__CHECK(uring_submit(&u->engine, op) == 0);
    }
}

int pica__uring_wake_init(pica__uring *u) {
    u->wake_fd = pica__sys_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (u->wake_fd < 0) {
        return u->wake_fd;
    }
    pica__op_init(&u->wake_op, PICA__OP_POLL, u->wake_fd, wake_complete);
    u->wake_op.events = POLLIN;
    u->wake_op.multishot = true;
    return uring_submit(&u->engine, &u->wake_op);
}

const struct pica__engine_ops pica__uring_ops = {
    .name = "io_uring",
    .files = true,
    .destroy = pica__uring_destroy,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .wait = uring_wait,
    .has_work = uring_has_work,
    .wake = uring_wake,
};
