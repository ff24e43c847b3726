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
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/engine/engine.h"
#include "io/engine/uring_compat.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/log.h"
#include "runtime/base/park.h"
#include "runtime/base/sys.h"

struct slot {
    pica__op *op;        /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

typedef struct uring {
    pica__engine engine;
    struct io_uring ring;
    unsigned sq_entries;
    unsigned tail;            /* our tail; published by flush */
    unsigned flushed;         /* tail last published */
    unsigned enter_flags;     /* NO_IOWAIT, REGISTERED_RING */
    int enter_fd;
    bool multishot_poll;      /* false once the kernel refused it, or hidden */
    bool multishot_accept;
    bool ftruncate;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t slot_free;       /* head of the free list, PICA__OP_IDLE: none */
    pica__link backlog;       /* ops that wait for room in the submission queue */
    pica__link cancels;       /* ops whose cancel waits for room: by `link`, never in backlog too */
    int wake_fd;
    pica__op wake_op;
} uring;

/* Completions delivered by one wait. */
enum { REAP_MAX = 64 };

/* user_data of entries whose completion nobody needs. */
#define IGNORED UINT64_MAX

static uring *uring_of(pica__engine *engine) {
    return PICA__CONTAINER_OF(engine, uring, engine);
}

/* --- slots --- */

static int slots_grow(uring *u) {
    uint32_t count = u->slot_count == 0 ? 64 : u->slot_count * 2;
    if (count >= (1u << 30)) {
        return -ENOMEM;
    }
    struct slot *slots = pica__realloc(u->slots, u->slot_count * sizeof(struct slot),
                                       count * sizeof(struct slot));
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = u->slot_count; i < count; i++) {
        slots[i] = (struct slot){NULL, 0, i + 1 < count ? i + 1 : u->slot_free};
    }
    u->slot_free = u->slot_count;
    u->slots = slots;
    u->slot_count = count;
    return 0;
}

static int slot_take(uring *u, pica__op *op) {
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
    atomic_store_explicit(&u->engine.in_flight,
                          atomic_load_explicit(&u->engine.in_flight, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return 0;
}

static void slot_release(uring *u, pica__op *op) {
    struct slot *s = &u->slots[op->slot];
    PICA__CHECK(s->op == op);
    s->op = NULL;
    s->next_free = u->slot_free;
    u->slot_free = op->slot;
    op->slot = PICA__OP_IDLE;
    atomic_store_explicit(&u->engine.in_flight,
                          atomic_load_explicit(&u->engine.in_flight, memory_order_relaxed) - 1,
                          memory_order_relaxed);
}

static uint64_t slot_data(const uring *u, const pica__op *op) {
    return (uint64_t)u->slots[op->slot].generation << 32 | op->slot;
}

/* --- submission --- */

/* A free entry, or NULL when the queue is full. */
static struct io_uring_sqe *sqe_get(uring *u) {
    unsigned head = atomic_load_explicit((_Atomic unsigned *)u->ring.sq.khead,
                                         memory_order_acquire);
    if (u->tail - head >= u->sq_entries) {
        return NULL;
    }
    return &u->ring.sq.sqes[u->tail++ & (u->sq_entries - 1)];
}

static void sq_flush(uring *u) {
    if (u->flushed != u->tail) {
        /* Release: the kernel reads the entries behind the tail. */
        atomic_store_explicit((_Atomic unsigned *)u->ring.sq.ktail, u->tail,
                              memory_order_release);
        u->flushed = u->tail;
    }
}

static unsigned sq_pending(const uring *u) {
    return u->tail -
           atomic_load_explicit((_Atomic unsigned *)u->ring.sq.khead, memory_order_acquire);
}

/* One enter. wait: whether to wait for a completion. Returns a negative error or the number of
 * entries that the kernel took. */
static int uring_enter(uring *u, bool wait, int64_t deadline) {
    struct __kernel_timespec ts;
    struct io_uring_getevents_arg arg;
    unsigned flags = IORING_ENTER_GETEVENTS | u->enter_flags;
    void *argument = NULL;
    size_t argument_size = 0;
    if (wait && deadline != INT64_MAX) {
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

static void file_prepare(const uring *u, struct io_uring_sqe *sqe, const pica__op_file *file) {
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

static bool op_prepare(uring *u, pica__op *op) {
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
    sqe->user_data = slot_data(u, op);
    return true;
}

static bool cancel_prepare(uring *u, pica__op *op) {
    struct io_uring_sqe *sqe = sqe_get(u);
    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_cancel64(sqe, slot_data(u, op), 0);
    sqe->user_data = IGNORED;
    return true;
}

/* Moves what waits for room into the queue, as far as there is room. */
static void backlog_drain(uring *u) {
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
        if (!cancel_prepare(u, PICA__CONTAINER_OF(l, pica__op, link))) {
            return;
        }
        pica__list_remove(l);
    }
}

static int uring_submit(pica__engine *engine, pica__op *op) {
    uring *u = uring_of(engine);
    PICA__CHECK(op->slot == PICA__OP_IDLE);
    int rc = slot_take(u, op);
    if (rc < 0) {
        return rc;
    }
    op->cancel_asked = false;
    pica__list_init(&op->link);
    op->queued = !pica__list_empty(&u->backlog) || !op_prepare(u, op);
    if (op->queued) {
        pica__list_push_back(&u->backlog, &op->link);
    }
    return 0;
}

static void uring_cancel(pica__engine *engine, pica__op *op) {
    uring *u = uring_of(engine);
    PICA__CHECK(op->slot != PICA__OP_IDLE);
    if (op->cancel_asked) {
        return;
    }
    op->cancel_asked = true;
    /* An operation that is still in the backlog is submitted and then cancelled: its terminal
     * completion comes the same way as every other's. */
    if (!op->queued && !cancel_prepare(u, op)) {
        pica__list_push_back(&u->cancels, &op->link);
    }
}

/* --- completion --- */

/* Whether this result means that the kernel does not know the multishot form. It is learnt once; the
 * operation goes on in its one-shot form, re-armed here. */
static bool multishot_refused(uring *u, pica__op *op, int result) {
    bool *known = op->kind == PICA__OP_POLL ? &u->multishot_poll : &u->multishot_accept;
    if (result != -EINVAL || !op->multishot || !*known) {
        return false;
    }
    *known = false;
    return true;
}

static bool one_shot_goes_on(const uring *u, const pica__op *op, int result) {
    if (!op->multishot || op->cancel_asked || result < 0) {
        return false;
    }
    return op->kind == PICA__OP_POLL     ? !u->multishot_poll
           : op->kind == PICA__OP_ACCEPT ? !u->multishot_accept
                                         : false;
}

/* Puts an operation whose one-shot form has completed in flight again, in the same slot. */
static void rearm(uring *u, pica__op *op) {
    u->slots[op->slot].generation++;
    if (!pica__list_empty(&u->backlog) || !op_prepare(u, op)) {
        op->queued = true;
        pica__list_push_back(&u->backlog, &op->link);
    }
}

static void cqe_deliver(uring *u, const struct io_uring_cqe *cqe) {
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
    if (!more && (multishot_refused(u, op, result) || one_shot_goes_on(u, op, result))) {
        rearm(u, op);
        if (result == -EINVAL) {
            return;
        }
        more = true;
    }
    if (!more) {
        if (pica__link_linked(&op->link)) {
            pica__list_remove(&op->link); /* its cancel did not get into the queue in time */
        }
        slot_release(u, op);
    }
    op->complete(op, result, more);
}

/* Delivers what there is, at most REAP_MAX: what came first runs before the rest of a flood is dealt with, while
 * it is in the caches. */
static int uring_reap(uring *u) {
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

static bool cq_has(const uring *u) {
    const struct io_uring_cq *cq = &u->ring.cq;
    return *cq->khead !=
           atomic_load_explicit((_Atomic unsigned *)cq->ktail, memory_order_acquire);
}

static bool uring_has_work(pica__engine *engine) {
    uring *u = uring_of(engine);
    unsigned flags = atomic_load_explicit((_Atomic unsigned *)u->ring.sq.kflags,
                                          memory_order_relaxed);
    return u->tail != u->flushed || cq_has(u) ||
           (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0 ||
           !pica__list_empty(&u->backlog) || !pica__list_empty(&u->cancels);
}

static int uring_wait(pica__engine *engine, int64_t deadline) {
    uring *u = uring_of(engine);
    int delivered = cq_has(u) ? uring_reap(u) : 0;
    if (delivered == REAP_MAX) {
        return delivered; /* there may be more: for the next call */
    }
    bool wait = deadline != 0 && delivered == 0;
    for (;;) {
        backlog_drain(u);
        bool full = !pica__list_empty(&u->backlog) || !pica__list_empty(&u->cancels);
        int rc = uring_enter(u, wait && !full, deadline);
        if (rc < 0) {
            /* EINTR and ETIME end the wait; EBUSY and EAGAIN: the kernel wants completions reaped
             * or has no memory just now: what was not submitted stays in the queue. */
            PICA__CHECK(rc == -EINTR || rc == -ETIME || rc == -EBUSY || rc == -EAGAIN ||
                        rc == -ENOMEM);
        }
        delivered += uring_reap(u);
        if (!full || rc < 0) {
            return delivered;
        }
        wait = wait && delivered == 0;
    }
}

/* --- wakes --- */

static void uring_wake(pica__engine *engine) {
    uring *u = uring_of(engine);
    uint64_t one = 1;
    /* The counter is never read: the multishot poll is triggered by each write, and 2^64 wakes do
     * not happen. */
    (void)pica__sys_write(u->wake_fd, &one, sizeof one);
}

static void wake_complete(pica__op *op, int result, bool more) {
    uring *u = PICA__CONTAINER_OF(op, uring, wake_op);
    (void)result;
    if (!more) {
        /* The kernel may end a multishot operation (its queue overflowed); a loop that cannot be
         * woken would hang. The slot that was just freed is free: this cannot fail. */
        PICA__CHECK(uring_submit(&u->engine, op) == 0);
    }
}

static int wake_init(uring *u) {
    u->wake_fd = pica__sys_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (u->wake_fd < 0) {
        return u->wake_fd;
    }
    pica__op_init(&u->wake_op, PICA__OP_POLL, u->wake_fd, wake_complete);
    u->wake_op.events = POLLIN;
    u->wake_op.multishot = true;
    return uring_submit(&u->engine, &u->wake_op);
}

/* --- life --- */

/* Groups of set-up flags, newest first; each group is dropped when the kernel answers EINVAL. */
static int ring_setup(uring *u, const pica__config *config, unsigned entries,
                      struct io_uring_params *params) {
    unsigned optional[] = {
        config->without & PICA__WITHOUT_DEFER_TASKRUN
            ? 0
            : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        config->without & PICA__WITHOUT_SUBMIT_ALL ? 0 : IORING_SETUP_SUBMIT_ALL,
        config->without & PICA__WITHOUT_CQSIZE ? 0 : IORING_SETUP_CQSIZE,
        IORING_SETUP_CLAMP,
    };
    unsigned groups = sizeof optional / sizeof optional[0];
    for (unsigned dropped = 0;; dropped++) {
        memset(params, 0, sizeof *params);
        for (unsigned i = dropped; i < groups; i++) {
            params->flags |= optional[i];
        }
        params->cq_entries = params->flags & IORING_SETUP_CQSIZE ? entries * 4 : 0;
        int rc = io_uring_queue_init_params(entries, &u->ring, params);
        if (rc != -EINVAL || dropped == groups) {
            return rc;
        }
    }
}

/* ENOMEM: rings count against the locked memory of the user, and the memory of rings that were
 * closed a moment ago is given back late. So: try again after a short wait, then with fewer
 * entries. */
static int ring_setup_patiently(uring *u, const pica__config *config,
                                struct io_uring_params *params) {
    unsigned entries = config->ring_entries;
    for (unsigned attempt = 0;; attempt++) {
        int rc = ring_setup(u, config, entries, params);
        if (rc != -ENOMEM) {
            return rc;
        }
        if (attempt >= 8) {
            if (entries <= 8) {
                return rc;
            }
            entries = entries / 2 < 8 ? 8 : entries / 2;
            attempt = 4;
        }
        _Atomic uint32_t nobody = 0;
        pica__park_wait(&nobody, 0, pica__now() + (INT64_C(1000000) << attempt));
    }
}

static const char *explain(int rc) {
    return rc == -EPERM || rc == -EACCES ? "io_uring is not permitted here (sysctl kernel.io_uring_disabled, "
                                           "or a seccomp profile)"
           : rc == -ENOSYS ? "io_uring is not available (old kernel, or a seccomp profile)"
           : rc == -ENOMEM ? "no locked memory for an io_uring (see RLIMIT_MEMLOCK, ulimit -l)"
           : rc == -EMFILE || rc == -ENFILE ? "no descriptor for an io_uring (see RLIMIT_NOFILE, ulimit -n)"
                                            : "io_uring_setup failed";
}

#if PICA__TSAN
void __tsan_java_alloc(uintptr_t p, uintptr_t size);
void __tsan_java_free(uintptr_t p, uintptr_t size);

/* liburing maps and unmaps without the C library, so the sanitizer takes a ring for the one that was at
 * the same place before. This clears what it remembers. */
static void ring_forget(void *memory, size_t size) {
    size = (size + 15) & ~(size_t)15;
    __tsan_java_alloc((uintptr_t)memory, size);
    __tsan_java_free((uintptr_t)memory, size);
}
#endif

static void ring_learn(uring *u, const pica__config *config, const struct io_uring_params *params) {
    u->sq_entries = params->sq_entries;
#if PICA__TSAN
    ring_forget(u->ring.sq.ring_ptr, u->ring.sq.ring_sz);
    ring_forget(u->ring.sq.sqes, u->sq_entries * sizeof(struct io_uring_sqe));
    if (u->ring.cq.ring_ptr != u->ring.sq.ring_ptr) {
        ring_forget(u->ring.cq.ring_ptr, u->ring.cq.ring_sz);
    }
#endif
    u->multishot_poll = (config->without & PICA__WITHOUT_MULTISHOT_POLL) == 0;
    u->multishot_accept = (config->without & PICA__WITHOUT_MULTISHOT_ACCEPT) == 0;
    u->ftruncate = (config->without & PICA__WITHOUT_FTRUNCATE) == 0;
    if ((params->features & IORING_FEAT_NO_IOWAIT) != 0 &&
        (config->without & PICA__WITHOUT_NO_IOWAIT) == 0) {
        u->enter_flags |= IORING_ENTER_NO_IOWAIT;
    }
    /* The indirection array, if there is one, maps each place to itself, for good. */
    if (u->ring.sq.array != NULL) {
        for (unsigned i = 0; i < u->sq_entries; i++) {
            u->ring.sq.array[i] = i;
        }
    }
    u->tail = *u->ring.sq.ktail;
    u->flushed = u->tail;
    u->enter_fd = u->ring.ring_fd;
    if ((config->without & PICA__WITHOUT_REGISTERED_RING) == 0 &&
        io_uring_register_ring_fd(&u->ring) == 1) {
        u->enter_fd = u->ring.enter_ring_fd;
        u->enter_flags |= IORING_ENTER_REGISTERED_RING;
    }
    (void)io_uring_ring_dontfork(&u->ring);
}

/* A ring may be mapped where another runtime's has just been unmapped. The kernel orders the two, which
 * a sanitizer cannot see; this counter says it. Added to by whoever unmaps (release) and has mapped
 * (acquire). */
static _Atomic unsigned mappings;

static void uring_destroy(pica__engine *engine) {
    uring *u = uring_of(engine);
    atomic_fetch_add_explicit(&mappings, 1, memory_order_release);
    io_uring_queue_exit(&u->ring);
    if (u->wake_fd >= 0) {
        (void)pica__sys_close(u->wake_fd);
    }
    pica__free(u->slots, u->slot_count * sizeof(struct slot));
    pica__free(u, sizeof *u);
}

static const struct pica__engine_ops uring_ops = {
    .name = "io_uring",
    .files = true,
    .destroy = uring_destroy,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .wait = uring_wait,
    .has_work = uring_has_work,
    .wake = uring_wake,
};

int pica__uring_create(pica__engine **out, const pica__config *config, const char **why) {
    uring *u = pica__zalloc(sizeof *u);
    if (u == NULL) {
        *why = "no memory for a loop";
        return -ENOMEM;
    }
    u->engine.ops = &uring_ops;
    u->slot_free = PICA__OP_IDLE;
    u->wake_fd = -1;
    pica__list_init(&u->backlog);
    pica__list_init(&u->cancels);
    struct io_uring_params params;
    int rc = (config->without & PICA__WITHOUT_IO_URING) != 0 ? -ENOSYS
                                                             : ring_setup_patiently(u, config, &params);
    if (rc < 0) {
        *why = explain(rc);
        pica__free(u, sizeof *u);
        return rc;
    }
    atomic_fetch_add_explicit(&mappings, 1, memory_order_acquire);
    ring_learn(u, config, &params);
    rc = (params.features & IORING_FEAT_EXT_ARG) == 0 ? -ENOSYS : wake_init(u);
    if (rc < 0) {
        *why = explain(rc);
        uring_destroy(&u->engine);
        return rc;
    }
    *out = &u->engine;
    return 0;
}
