/* The epoll engine: for systems that have no io_uring, or do not allow it.
 *
 * One epoll instance watches all descriptors of the loop, edge-triggered. What an operation can do at once it does
 * without waiting: accept and connect are tried in the next wait, and again after each edge.
 *
 * epoll knows a descriptor once, so operations on the same one share an entry of a table (epoll_table.h). An
 * operation is in one of these places (op->slot), and on the list of that place through op->link:
 *
 *     WAITING  in its entry's chain
 *     TRYING   `tries`: will be tried in the next wait
 *     PACED    `paced`: connects that a full Unix backlog refused; epoll cannot tell when there is room,
 *              so they are tried again after some milliseconds
 *     ENDED    `ended`: its result stands in the operation, to be delivered in the next wait
 *
 * Regular files cannot be watched (EPERM): they are always ready, as poll(2) has it.
 *
 * Events are taken from the kernel by the hundred and delivered REAP_MAX at a time, so that what came first
 * runs while it is in the caches. Between, the batch lies in `events`; whatever has happened to an entry since is
 * seen by its chain and generation.
 *
 * Other threads only write the eventfd, which is never read: each write is an edge. Where the end of a wait lies,
 * epoll_clock.h says.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "io/engine/engine.h"
#include "io/engine/epoll_clock.h"
#include "io/engine/epoll_table.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/log.h"
#include "runtime/base/stack_tools.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_epoll.h"

enum { TRYING = PICA__EPOLL_WAITING + 1, PACED, ENDED };

enum {
    REAP_MAX = 16,   /* completions delivered by one wait, or little more */
    BATCH = 256,     /* events taken from the kernel at once */
    ACCEPT_MAX = 64  /* connections that one listener takes in a turn */
};
#define PACE_MIN_NS INT64_C(1000000)
#define PACE_MAX_NS INT64_C(32000000)

/* Of events that are no operation's: above all generations. */
#define WAKE_DATA UINT64_MAX
#define CLOCK_DATA (UINT64_MAX - 1)

typedef struct epoll {
    pica__engine engine;
    pica__epoll_table table;
    int wake_fd;
    pica__epoll_clock clock;
    bool milliseconds; /* the kernel has no finer waits */
    bool woken;        /* the eventfd was written, and nobody has asked for it: see pica__epoll_woken */
    pica__link tries;
    pica__link paced;
    int64_t paced_until; /* when they are tried again */
    int64_t pace_ns;
    pica__link ended;
    int next;          /* the first event that was not delivered, of `count` */
    int count;
    struct epoll_event events[BATCH];
} epoll;

static epoll *epoll_of(pica__engine *engine) {
    return PICA__CONTAINER_OF(engine, epoll, engine);
}

static void count_in_flight(epoll *e, uint64_t n) {
    atomic_store_explicit(&e->engine.in_flight,
                          atomic_load_explicit(&e->engine.in_flight, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* --- ends --- */

/* Out of every place: for a result that will be delivered. */
static void end_later(epoll *e, pica__op *op, int result) {
    op->slot = ENDED;
    op->result = result;
    pica__list_push_back(&e->ended, &op->link);
}

/* The last completion, of an operation that is in no place. */
static void end_now(epoll *e, pica__op *op, int result) {
    op->slot = PICA__OP_IDLE;
    count_in_flight(e, UINT64_MAX);
    op->complete(op, result, false);
}

static int deliver_ended(epoll *e) {
    int delivered = 0;
    pica__link *l;
    while (delivered < REAP_MAX && (l = pica__list_pop_front(&e->ended)) != NULL) {
        pica__op *op = PICA__CONTAINER_OF(l, pica__op, link);
        end_now(e, op, op->result);
        delivered++;
    }
    return delivered;
}

/* --- accept and connect --- */

/* To be tried again after the next edge. A listener that was registered before by this very operation still is:
 * it cannot have been closed meanwhile. */
static void try_later(epoll *e, pica__op *op) {
    pica__epoll_entry *entry = (size_t)op->fd < e->table.count ? &e->table.entries[op->fd] : NULL;
    if (op->kind == PICA__OP_ACCEPT && op->multishot && entry != NULL && entry->events != 0 &&
        entry->generation == (uint32_t)op->result) {
        pica__epoll_chain_add(entry, op);
        return;
    }
    int rc = pica__epoll_watch(&e->table, op);
    if (rc < 0) {
        end_later(e, op, rc == -ENOSPC ? -ENOMEM : rc);
    }
}

static void try_next_turn(epoll *e, pica__op *op) {
    op->slot = TRYING;
    pica__list_push_back(&e->tries, &op->link);
}

/* The operation is in no place. Returns how many connections came. */
static int try_accept(epoll *e, pica__op *op) {
    for (int n = 0; n < ACCEPT_MAX; n++) {
        int fd = pica__sys_accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd == -EINTR || fd == -ECONNABORTED) {
            continue; /* the peer left the queue; look at the next one */
        }
        if (fd == -EAGAIN) {
            try_later(e, op);
            return n;
        }
        if (fd < 0 || !op->multishot) {
            end_now(e, op, fd);
            return n + 1;
        }
        op->slot = TRYING; /* in no list: a cancel from within finds that out by the link */
        op->complete(op, fd, true);
        if (op->slot != TRYING) {
            return n + 1;
        }
    }
    try_next_turn(e, op);
    return ACCEPT_MAX;
}

static int connect_error(int fd) {
    int error = 0;
    unsigned length = sizeof error;
    int rc = pica__sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return rc < 0 ? rc : -error;
}

/* The operation is in no place. Returns how many completions that made. */
static int try_connect(epoll *e, pica__op *op) {
    const pica__op_connect *connect = PICA__CONTAINER_OF(op, pica__op_connect, op);
    int flags = pica__sys_fcntl(op->fd, F_GETFL, 0);
    if (flags >= 0 && (flags & O_NONBLOCK) == 0) {
        flags = pica__sys_fcntl(op->fd, F_SETFL, flags | O_NONBLOCK);
    }
    int rc = flags < 0 ? flags : pica__sys_connect(op->fd, connect->address, connect->length);
    if (rc == -EINPROGRESS || rc == -EINTR) {
        try_later(e, op);
        return 0;
    }
    if (rc == -EAGAIN) { /* a Unix listener's backlog is full */
        if (pica__list_empty(&e->paced)) {
            e->pace_ns = e->pace_ns == 0 ? PACE_MIN_NS : e->pace_ns;
            e->paced_until = pica__now() + e->pace_ns;
            e->pace_ns = e->pace_ns * 2 < PACE_MAX_NS ? e->pace_ns * 2 : PACE_MAX_NS;
        }
        op->slot = PACED;
        pica__list_push_back(&e->paced, &op->link);
        return 0;
    }
    e->pace_ns = 0;
    end_now(e, op, rc);
    return 1;
}

/* What is to be tried now, each once. */
static int try_all(epoll *e) {
    pica__link now;
    pica__list_init(&now);
    if (!pica__list_empty(&e->paced) && e->paced_until <= pica__now()) {
        for (pica__link *l = e->paced.next; l != &e->paced; l = l->next) {
            PICA__CONTAINER_OF(l, pica__op, link)->slot = TRYING;
        }
        pica__list_splice(&now, &e->paced);
    }
    pica__list_splice(&now, &e->tries);
    int delivered = 0;
    pica__link *l;
    while ((l = pica__list_pop_front(&now)) != NULL) {
        pica__op *op = PICA__CONTAINER_OF(l, pica__op, link);
        delivered += op->kind == PICA__OP_ACCEPT ? try_accept(e, op) : try_connect(e, op);
    }
    return delivered;
}

/* --- events --- */

/* An operation of an entry's chain has its event. */
static int op_event(epoll *e, pica__op *op, uint32_t events) {
    if (op->kind == PICA__OP_POLL && op->multishot) {
        op->complete(op, (int)events, true);
        return 1;
    }
    pica__epoll_chain_remove(&e->table.entries[op->fd], op);
    if (op->kind == PICA__OP_ACCEPT) {
        return try_accept(e, op);
    }
    end_now(e, op, op->kind == PICA__OP_POLL ? (int)events : connect_error(op->fd));
    return 1;
}

/* Each operation that is there now and wants one of the events gets them, once. Callbacks change the chain, so it
 * is looked at from the start after each; `queued` marks who has been asked. */
static PICA__NOINLINE int chain_event(epoll *e, size_t fd, uint32_t events) {
    if ((e->table.entries[fd].events & EPOLLONESHOT) != 0) {
        e->table.entries[fd].events = PICA__EPOLL_DISARMED;
    }
    for (pica__op *op = e->table.entries[fd].first; op != NULL; op = pica__epoll_chain_next(op)) {
        op->queued = false;
    }
    int delivered = 0;
    pica__op *op = e->table.entries[fd].first;
    while (op != NULL) {
        uint32_t hit = events & (pica__epoll_wanted(op) | PICA__EPOLL_ALWAYS);
        bool asked = op->queued;
        op->queued = true;
        if (hit != 0 && !asked) {
            delivered += op_event(e, op, hit);
            op = e->table.entries[fd].first;
        } else {
            op = pica__epoll_chain_next(op);
        }
    }
    const pica__epoll_entry *entry = &e->table.entries[fd];
    /* Some are left that the kernel does not watch for any more, or nobody wants what it watches for. */
    if (entry->first != NULL && (entry->events == PICA__EPOLL_DISARMED || delivered == 0) &&
        (entry->events & EPOLLEXCLUSIVE) == 0) {
        int rc = pica__epoll_tell_chain(&e->table, (int)fd);
        while (rc < 0 && entry->first != NULL) { /* nothing would ever come */
            op = entry->first;
            pica__epoll_chain_remove(&e->table.entries[fd], op);
            end_later(e, op, rc);
        }
    }
    return delivered;
}

static inline int event_deliver(epoll *e, const struct epoll_event *event) {
    uint64_t data = event->data.u64;
    if (PICA__UNLIKELY(data >= CLOCK_DATA)) {
        if (data == CLOCK_DATA) {
            pica__epoll_clock_rang(&e->clock);
            return 0;
        }
        e->woken = true;
        return 1;
    }
    size_t fd = (uint32_t)data;
    PICA__CHECK(fd < e->table.count);
    pica__epoll_entry *entry = &e->table.entries[fd];
    pica__op *op = entry->first;
    __builtin_prefetch(entry->near, 1);
    if (PICA__UNLIKELY(op == NULL || entry->generation != (uint32_t)(data >> 32))) {
        return 0; /* nobody waits any more, or for another file under this number */
    }
    uint32_t events = event->events;
    uint32_t hit = events & (op->events | PICA__EPOLL_ALWAYS);
    if (PICA__LIKELY(op->link.next == NULL && op->kind == PICA__OP_POLL && op->multishot && hit != 0)) {
        const void *near = atomic_load_explicit(&op->owner, memory_order_relaxed);
        if (PICA__UNLIKELY(entry->near != near)) {
            entry->near = near;
        }
        op->complete(op, (int)hit, true); /* one that stays: the usual case */
        return 1;
    }
    return chain_event(e, fd, events);
}

/* Asks for the operation of an event that comes soon, and what it lies in: mostly a socket, which begins in the line
 * before; and for what its owner will touch. The table may have changed since, so nothing is believed. */
static inline void event_prefetch(const epoll *e, const struct epoll_event *event) {
    size_t fd = (uint32_t)event->data.u64;
    const pica__epoll_entry *entry = fd < e->table.count ? &e->table.entries[fd] : NULL;
    if (PICA__LIKELY(entry != NULL && entry->first != NULL)) {
        const char *op = (const char *)entry->first;
        __builtin_prefetch(entry->near, 1);
        __builtin_prefetch(op - PICA__CACHELINE, 1);
        __builtin_prefetch(op, 1);
    }
}

/* Delivers what lies in the batch, as far as there is room for it in this turn. */
static inline int deliver_batch(epoll *e, int delivered) {
    int next = e->next;
    int count = e->count;
    while (next < count && delivered < REAP_MAX) {
        struct epoll_event event = e->events[next++];
        if (next < count) {
            event_prefetch(e, &e->events[next]);
        }
        delivered += event_deliver(e, &event);
    }
    e->next = next;
    return delivered;
}

static int wait_limited(epoll *e, int64_t left) {
    if (!e->milliseconds) {
        int rc = pica__sys_epoll_wait_ns(e->table.fd, e->events, BATCH, left);
        e->milliseconds = rc == -ENOSYS || rc == -EPERM; /* EPERM: a filter that does not know it */
        if (!e->milliseconds) {
            return rc;
        }
    }
    int64_t rounded = (left + 999999) / 1000000; /* late rather than early */
    return pica__sys_epoll_wait(e->table.fd, e->events, BATCH, rounded < INT32_MAX ? (int)rounded : INT32_MAX);
}

/* Fills the empty batch, waiting until deadline, which the clock does not hold. */
static PICA__NOINLINE int batch_wait(epoll *e, int64_t deadline) {
    int64_t left = deadline - pica__now();
    if (left <= 0 || pica__epoll_clock_set(&e->clock, deadline)) {
        return pica__sys_epoll_wait(e->table.fd, e->events, BATCH, left <= 0 ? 0 : -1);
    }
    int rc = wait_limited(e, left);
    pica__epoll_clock_waited(&e->clock, rc == 0);
    return rc;
}

static inline void batch_fill(epoll *e, int64_t deadline) {
    int rc;
    if (PICA__LIKELY(deadline == 0 || pica__epoll_clock_holds(&e->clock, deadline))) {
        rc = pica__sys_epoll_wait(e->table.fd, e->events, BATCH, deadline == 0 ? 0 : -1);
        e->clock.early += deadline != 0 && deadline != INT64_MAX;
    } else {
        rc = batch_wait(e, deadline);
    }
    if (PICA__UNLIKELY(rc < 0)) {
        PICA__CHECK(rc == -EINTR);
        rc = 0;
    }
    e->next = 0;
    e->count = rc;
}

/* --- the interface --- */

/* What it can do without asking the kernel for events; paced operations may be due. */
static inline bool has_own_work(const epoll *e) {
    return e->next < e->count || !pica__list_empty(&e->ended) || !pica__list_empty(&e->tries) ||
           !pica__list_empty(&e->paced);
}

static bool epoll_has_work(pica__engine *engine) {
    epoll *e = epoll_of(engine);
    /* One is the eventfd's. */
    return atomic_load_explicit(&engine->in_flight, memory_order_relaxed) > 1 || has_own_work(e);
}

/* Before the kernel is asked. Returns what was delivered; *deadline becomes that of the wait. */
static PICA__NOINLINE int own_work(epoll *e, int64_t *deadline) {
    int delivered = deliver_ended(e);
    delivered += try_all(e);
    delivered = deliver_batch(e, delivered);
    if (delivered != 0 || !pica__list_empty(&e->ended) || !pica__list_empty(&e->tries)) {
        *deadline = 0;
    } else if (!pica__list_empty(&e->paced) && e->paced_until < *deadline) {
        *deadline = e->paced_until;
    }
    return delivered;
}

PICA__EACH PICA__INLINED int pica__epoll_wait(pica__engine *engine, int64_t deadline) {
    epoll *e = epoll_of(engine);
    int delivered = 0;
    if (PICA__UNLIKELY(has_own_work(e))) {
        engine->ahead = INT64_MAX;
        delivered = own_work(e, &deadline);
        if (e->next < e->count || delivered >= REAP_MAX) {
            return delivered; /* the rest is for the next call */
        }
    }
    batch_fill(e, deadline);
    delivered = deliver_batch(e, delivered);
    /* A full batch, or one that is not all delivered, may have left the clock's event behind. */
    bool all = e->next == e->count && e->count < BATCH;
    engine->ahead = PICA__LIKELY(all) ? e->clock.armed : INT64_MAX;
    return delivered;
}

static int epoll_submit(pica__engine *engine, pica__op *op) {
    epoll *e = epoll_of(engine);
    PICA__CHECK(op->slot == PICA__OP_IDLE);
    pica__list_init(&op->link);
    op->cancel_asked = false;
    op->queued = true; /* of no event that is being delivered */
    int rc = 0;
    if (op->kind == PICA__OP_POLL) {
        rc = pica__epoll_watch(&e->table, op);
        if (rc == -ENOMEM || rc == -ENOSPC) {
            if (rc == -ENOSPC) {
                pica__log(PICA_LOG_ERROR, "no more descriptors can be watched (see sysctl fs.epoll.max_user_watches)");
            }
            return -ENOMEM;
        }
    } else {
        PICA__CHECK(op->kind == PICA__OP_ACCEPT || op->kind == PICA__OP_CONNECT);
        try_next_turn(e, op);
    }
    count_in_flight(e, 1);
    if (rc == -EPERM) { /* a regular file, or a directory */
        rc = (int)(op->events & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM));
        rc = rc != 0 ? rc : -EINVAL; /* nothing that it could wait for ever happens */
    }
    if (rc != 0) {
        end_later(e, op, rc);
    }
    return 0;
}

static void epoll_cancel(pica__engine *engine, pica__op *op) {
    epoll *e = epoll_of(engine);
    PICA__CHECK(op->slot != PICA__OP_IDLE);
    if (op->cancel_asked || op->slot == ENDED) {
        return;
    }
    op->cancel_asked = true;
    if (op->slot == PICA__EPOLL_WAITING) {
        pica__epoll_entry *entry = &e->table.entries[op->fd];
        pica__epoll_chain_remove(entry, op);
        if (entry->first == NULL && entry->events != PICA__EPOLL_DISARMED) {
            pica__epoll_forget(&e->table, op->fd); /* before the owner closes it: somebody may have a duplicate */
        }
    } else if (pica__link_linked(&op->link)) {
        pica__list_remove(&op->link);
    }
    end_later(e, op, -ECANCELED);
}

bool pica__epoll_woken(pica__engine *engine) {
    epoll *e = epoll_of(engine);
    bool woken = e->woken;
    e->woken = false;
    return woken;
}

int pica__epoll_wake_fd(pica__engine *engine) {
    return epoll_of(engine)->wake_fd;
}

static void epoll_wake(pica__engine *engine) {
    uint64_t one = 1;
    /* 2^64 wakes do not happen. */
    (void)pica__sys_write(epoll_of(engine)->wake_fd, &one, sizeof one);
}

static void epoll_destroy(pica__engine *engine) {
    epoll *e = epoll_of(engine);
    if (e->wake_fd >= 0) {
        (void)pica__sys_close(e->wake_fd);
    }
    pica__epoll_clock_close(&e->clock);
    if (e->table.fd >= 0) {
        (void)pica__sys_close(e->table.fd);
    }
    pica__epoll_table_free(&e->table);
    pica__free(e, sizeof *e);
}

static const struct pica__engine_ops epoll_ops = {
    .name = "epoll",
    .files = false,
    .destroy = epoll_destroy,
    .submit = epoll_submit,
    .cancel = epoll_cancel,
    .wait = pica__epoll_wait,
    .has_work = epoll_has_work,
    .wake = epoll_wake,
};

static int epoll_open(epoll *e) {
    e->table.fd = pica__sys_epoll_create();
    if (e->table.fd < 0) {
        return e->table.fd;
    }
    e->wake_fd = pica__sys_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (e->wake_fd < 0) {
        return e->wake_fd;
    }
    int rc = pica__sys_epoll_ctl(e->table.fd, EPOLL_CTL_ADD, e->wake_fd, (uint32_t)(EPOLLIN | EPOLLET), WAKE_DATA);
    return rc < 0 ? rc : pica__epoll_clock_open(&e->clock, e->table.fd, CLOCK_DATA);
}

int pica__epoll_create(pica__engine **out, const pica__config *config) {
    epoll *e = pica__zalloc(sizeof *e);
    if (e == NULL) {
        return -ENOMEM;
    }
    pica__engine_init(&e->engine, &epoll_ops);
    e->table.fd = -1;
    e->wake_fd = -1;
    e->clock.fd = -1;
    /* valgrind (3.19) knows the finer wait as little as an old kernel, and complains. */
    e->milliseconds = (config->without & PICA__WITHOUT_EPOLL_PWAIT2) != 0 || pica__stack_tools_valgrind();
    pica__list_init(&e->tries);
    pica__list_init(&e->paced);
    pica__list_init(&e->ended);
    count_in_flight(e, 1); /* the eventfd, as in the other engine */
    int rc = epoll_open(e);
    if (rc < 0) {
        pica__log(PICA_LOG_ERROR, "epoll: %s", pica_strerror(rc));
        epoll_destroy(&e->engine);
        return rc == -ENOSPC ? -ENOMEM : rc;
    }
    *out = &e->engine;
    return 0;
}
