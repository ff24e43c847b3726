/*
 * The simulated engine: operations on simulated descriptors (runtime/base/sim/net.h), in simulated time.
 *
 * An operation goes through
 *
 *     queued --wait hands it over--> active --an event of the simulation--> done --wait delivers it--> (free)
 *
 * and back from done to active if it is a multishot one that goes on. How many a wait hands over and delivers, in
 * which order, after which delay, and what comes of a cancel, is drawn. A state (struct flight) belongs to each
 * operation in flight; it is found by op->slot, is checked at each step, and outlives the operation's memory only
 * where an engine is destroyed with operations in flight, as uring.c allows.
 *
 * Buffers of files in flight: those to be written are remembered by a checksum, those to be read into are filled
 * with a pattern and scribbled upon, and all are poisoned for AddressSanitizer until the completion. Whoever touches
 * one meanwhile is found out.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/engine/engine.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/sim/disk.h"
#include "runtime/base/sim/net.h"
#include "runtime/base/sim/sys.h"
#include "runtime/base/transitions.h"

#if PICA__ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { POISON = 0xa5 };

typedef struct sim_engine sim_engine;

enum stage { QUEUED, ACTIVE, DONE };

/* One operation in flight. */
struct flight {
    sim_engine *engine;
    pica__op *op;
    uint32_t number;          /* op->slot */
    enum stage stage;
    pica__link link;          /* queued, or done */
    pica__sim_watch watch;    /* polls and accepts, active */
    pica__sim_event event;    /* what comes next: a readiness, a result, the end by a cancel */
    pica__sim_connecting connecting;
    pica__sim_file *file;     /* what its descriptor is, or NULL */
    unsigned revents;         /* polls: what the event will tell */
    int result;               /* of what the event will tell, or of the terminal completion that is done */
    bool cancelled;           /* the cancel has reached the kernel */
    uint64_t sum;             /* of the bytes to be written */
    struct flight *next_free;
};

/* A completion that waits to be delivered. */
struct done {
    pica__link link;
    struct flight *flight;
    int result;
    bool more;
};

struct sim_engine {
    pica__engine engine;
    pica__sim_thread *owner;
    bool woken;
    pica__link queued;        /* flight.link */
    pica__link done;          /* done.link */
    unsigned done_count;
    struct flight **flight;   /* by op->slot */
    uint32_t count;
    uint32_t used;
    struct flight *free;
    int order;                /* of completions: 0 as they come, 1 the last one first, 2 by chance */
};

static sim_engine *engine_of(pica__engine *engine) {
    return PICA__CONTAINER_OF(engine, sim_engine, engine);
}

static void in_flight_add(sim_engine *e, uint64_t n) {
    atomic_store_explicit(&e->engine.in_flight,
                          atomic_load_explicit(&e->engine.in_flight, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void activate(struct flight *f);

/* --- buffers in flight --- */

static bool has_buffer(const pica__op *op, void **buffer, size_t *size) {
    const pica__op_file *file = PICA__CONTAINER_OF(op, const pica__op_file, op);
    if (op->kind == PICA__OP_READ || op->kind == PICA__OP_WRITE) {
        *buffer = file->buffer;
        *size = file->size;
        return true;
    }
    if (op->kind == PICA__OP_STAT) {
        *buffer = file->buffer;
        *size = sizeof(struct statx);
        return true;
    }
    return false;
}

static uint64_t sum_of(const char *bytes, size_t size) {
    uint64_t sum = size;
    for (size_t i = 0; i < size; i++) {
        sum = sum * 31 + (unsigned char)bytes[i];
    }
    return sum;
}

static void buffer_take(struct flight *f) {
    void *buffer;
    size_t size;
    if (!has_buffer(f->op, &buffer, &size)) {
        return;
    }
    if (f->op->kind == PICA__OP_WRITE) {
        f->sum = sum_of(buffer, size);
    } else {
        memset(buffer, POISON, size);
    }
#if PICA__ASAN
    __asan_poison_memory_region(buffer, size);
#endif
}

static void buffer_give(struct flight *f) {
    void *buffer;
    size_t size;
    if (!has_buffer(f->op, &buffer, &size)) {
        return;
    }
#if PICA__ASAN
    __asan_unpoison_memory_region(buffer, size);
#endif
    if (f->op->kind == PICA__OP_WRITE) {
        if (sum_of(buffer, size) != f->sum) {
            pica__sim_fatal("a buffer was changed while it was being written to a file");
        }
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (((unsigned char *)buffer)[i] != POISON) {
            pica__sim_fatal("a buffer was changed while it was being read into");
        }
    }
    memset(buffer, (int)pica__sim_draw(PICA__SIM_WORLD, 256), size);
}

/* --- completing, on the stack of whatever thread the event runs on --- */

/* more: the operation stays active. */
static void complete(struct flight *f, int result, bool more) {
    sim_engine *e = f->engine;
    struct done *d = malloc(sizeof *d); /* the simulator's own: no fault of the program's memory */
    if (d == NULL) {
        pica__sim_fatal("no memory for a completion");
    }
    *d = (struct done){.flight = f, .result = result, .more = more};
    pica__list_init(&d->link);
    pica__list_push_back(&e->done, &d->link);
    e->done_count++;
    PICA__MOVED(FLIGHT, f->stage, more ? ACTIVE : DONE);
    if (!more) {
        f->stage = DONE;
        pica__sim_watch_remove(&f->watch);
        pica__sim_event_cancel(&f->event);
        pica__sim_event_cancel(&f->connecting.event);
    }
    pica__sim_trace("operation %d on %d: %d%s", (int)f->op->kind, f->op->fd, result, more ? ", more" : "");
    pica__sim_wake(e->owner);
}

static bool goes_on(struct flight *f) {
    return f->op->multishot && !f->cancelled && !pica__sim_fault(PICA_SIM_MULTISHOT);
}

/* The event of a poll: something is to be told. */
static void poll_fire(struct flight *f) {
    unsigned revents = f->revents & (f->op->events | POLLERR | POLLHUP);
    f->revents = 0;
    complete(f, (int)revents, goes_on(f));
}

static void later(struct flight *f) {
    if (!pica__sim_event_pending(&f->event)) {
        pica__sim_event_at(&f->event, pica__sim_time() + pica__sim_delay());
    }
}

static void on_ready(pica__sim_watch *watch, unsigned revents) {
    struct flight *f = PICA__CONTAINER_OF(watch, struct flight, watch);
    if ((revents & (f->op->events | POLLERR | POLLHUP)) != 0) {
        f->revents |= revents;
        later(f);
    }
}

/* The event of an accept: connections are there, or were. */
static void accept_fire(struct flight *f) {
    for (;;) {
        pica__sim_file *file;
        int rc = pica__sim_accept_file(f->file, &file);
        if (rc == -EAGAIN) {
            return; /* somebody else took it */
        }
        bool more = rc >= 0 && goes_on(f);
        if (rc >= 0) {
            file->actor = false;
        }
        complete(f, rc, more);
        if (!more) {
            return;
        }
    }
}

static void connected(pica__sim_connecting *c, int result) {
    struct flight *f = PICA__CONTAINER_OF(c, struct flight, connecting);
    complete(f, result, false);
}

static ssize_t file_transfer(struct flight *f, const pica__op_file *op) {
    struct iovec one = {op->buffer, op->size};
    bool many = f->op->kind == PICA__OP_READV || f->op->kind == PICA__OP_WRITEV;
    const struct iovec *parts = many ? op->buffer : &one;
    int count = many ? (int)op->size : 1;
    bool write = f->op->kind == PICA__OP_WRITE || f->op->kind == PICA__OP_WRITEV;
    if (f->file->kind == PICA__SIM_DISK) {
        return write ? pica__sim_disk_write(f->file, parts, count, op->offset)
                     : pica__sim_disk_read(f->file, parts, count, op->offset);
    }
    return write ? pica__sim_stream_write(f->file, parts, count)
                 : pica__sim_stream_read(f->file, parts->iov_base, parts->iov_len);
}

static int open_file(struct flight *f, const char *path, int flags, unsigned mode) {
    pica__sim_file *file;
    int rc = pica__sim_disk_open(&file, f->op->fd, path, flags, mode);
    if (rc >= 0) {
        file->actor = false; /* whoever runs just now */
    }
    return rc;
}

/* The event of an operation on a file: it is carried out now. */
static void file_fire(struct flight *f) {
    pica__op_file *op = PICA__CONTAINER_OF(f->op, pica__op_file, op);
    buffer_give(f);
    ssize_t result = 0;
    switch (f->op->kind) {
        case PICA__OP_OPEN:
            result = open_file(f, op->path, op->flags, op->mode);
            break;
        case PICA__OP_OPEN2: {
            uint64_t how[3]; /* flags, mode, resolve */
            memcpy(how, op->buffer, sizeof how);
            result = open_file(f, op->path, (int)how[0], (unsigned)how[1]);
            break;
        }
        case PICA__OP_TRUNCATE:
            result = pica__sim_disk_truncate(f->file, op->offset);
            break;
        case PICA__OP_FSYNC:
            result = pica__sim_fault(PICA_SIM_EIO) ? -EIO : 0;
            break;
        case PICA__OP_STAT:
            result = pica__sim_disk_statx(f->file, op->path, op->buffer);
            break;
        case PICA__OP_CLOSE:
            result = pica__sim_close(f->op->fd);
            f->file = NULL;
            break;
        default:
            result = file_transfer(f, op);
    }
    complete(f, (int)result, false);
}

/* What was to be cancelled and cannot succeed any more. */
static bool ends_cancelled(struct flight *f) {
    bool late = pica__sim_fault(PICA_SIM_LATE);
    switch (f->op->kind) {
        case PICA__OP_POLL:
            return !late || f->revents == 0;
        case PICA__OP_ACCEPT:
            return !late || f->file->waiting == 0;
        default:
            return true;
    }
}

static void flight_fire(pica__sim_event *event) {
    struct flight *f = PICA__CONTAINER_OF(event, struct flight, event);
    bool cancellable = f->op->kind <= PICA__OP_CONNECT;
    if (f->cancelled && f->op->kind == PICA__OP_CONNECT && pica__sim_fault(PICA_SIM_LATE)) {
        const pica__op_connect *c = PICA__CONTAINER_OF(f->op, const pica__op_connect, op);
        complete(f, pica__sim_connect_file(f->file, c->address, c->length) == 0 ? 0 : -ECANCELED, false);
        return;
    }
    if (f->cancelled && cancellable && ends_cancelled(f)) {
        complete(f, -ECANCELED, false);
    } else if (f->op->kind == PICA__OP_POLL) {
        poll_fire(f);
    } else if (f->op->kind == PICA__OP_ACCEPT) {
        accept_fire(f);
    } else {
        file_fire(f);
    }
}

/* --- handing over --- */

static void activate(struct flight *f) {
    pica__op *op = f->op;
    PICA__MOVED(FLIGHT, QUEUED, ACTIVE);
    f->stage = ACTIVE;
    pica__sim_trace("begins operation %d on %d", (int)op->kind, op->fd);
    if (op->fd != AT_FDCWD) {
        f->file = pica__sim_file_of(op->fd);
    }
    switch (op->kind) {
        case PICA__OP_POLL:
            pica__sim_watch_add(f->file, &f->watch);
            on_ready(&f->watch, pica__sim_file_poll(f->file));
            break;
        case PICA__OP_ACCEPT:
            op->events = POLLIN;
            pica__sim_watch_add(f->file, &f->watch);
            on_ready(&f->watch, pica__sim_file_poll(f->file));
            break;
        case PICA__OP_CONNECT: {
            const pica__op_connect *c = PICA__CONTAINER_OF(op, const pica__op_connect, op);
            pica__sim_connect_begin(&f->connecting, f->file, c->address, c->length, connected);
            break;
        }
        default:
            later(f);
    }
}

/* The cancel has reached the kernel: the operation ends soon, by it or on its own. */
static void cancel_reached(struct flight *f) {
    if (f->stage == ACTIVE && !f->cancelled) {
        f->cancelled = true;
        pica__sim_trace("cancels operation %d on %d", (int)f->op->kind, f->op->fd);
        later(f);
    }
}

static void hand_over(sim_engine *e) {
    pica__link *l;
    while ((l = pica__list_first(&e->queued)) != NULL) {
        struct flight *f = PICA__CONTAINER_OF(l, struct flight, link);
        if (pica__sim_fault(PICA_SIM_SUBMIT_PARTIAL)) {
            return;
        }
        pica__list_remove(l);
        if (f->stage == QUEUED) {
            activate(f);
        }
        if (f->op != NULL && f->op->cancel_asked) {
            cancel_reached(f);
        }
    }
}

/* --- the interface --- */

static struct flight *flight_take(sim_engine *e) {
    struct flight *f = e->free;
    if (f != NULL) {
        e->free = f->next_free;
        return f;
    }
    if (e->used == e->count) {
        uint32_t count = e->count == 0 ? 16 : e->count * 2;
        struct flight **grown = pica__realloc(e->flight, e->count * sizeof(struct flight *),
                                              count * sizeof(struct flight *));
        if (grown == NULL) {
            return NULL;
        }
        e->flight = grown;
        e->count = count;
    }
    f = pica__zalloc(sizeof *f);
    if (f != NULL) {
        f->number = e->used;
        e->flight[e->used++] = f;
    }
    return f;
}

static int sim_submit(pica__engine *engine, pica__op *op) {
    sim_engine *e = engine_of(engine);
    PICA__CHECK(op->slot == PICA__OP_IDLE);
    PICA__CHECK(pica__sim_current() == e->owner);
    struct flight *f = pica__sim_fault(PICA_SIM_SUBMIT_ENOMEM) ? NULL : flight_take(e);
    if (f == NULL) {
        return -ENOMEM;
    }
    op->slot = f->number;
    op->cancel_asked = false;
    *f = (struct flight){.engine = e,
                         .op = op,
                         .number = f->number,
                         .stage = QUEUED,
                         .watch = {.notify = on_ready}};
    pica__list_init(&f->link);
    pica__list_init(&f->watch.link);
    pica__sim_event_init(&f->event, flight_fire);
    pica__sim_event_init(&f->connecting.event, NULL);
    pica__list_push_back(&e->queued, &f->link);
    in_flight_add(e, 1);
    buffer_take(f);
    return 0;
}

static void sim_cancel(pica__engine *engine, pica__op *op) {
    sim_engine *e = engine_of(engine);
    PICA__CHECK(op->slot < e->used && e->flight[op->slot]->op == op);
    PICA__CHECK(pica__sim_current() == e->owner);
    struct flight *f = e->flight[op->slot];
    if (op->cancel_asked) {
        return;
    }
    op->cancel_asked = true;
    if (f->stage == ACTIVE) {
        pica__list_push_back(&e->queued, &f->link); /* the cancel is handed over like all else */
    }
}

static struct done *done_take(sim_engine *e) {
    pica__link *l = pica__list_first(&e->done);
    if (e->order == 1) {
        l = e->done.prev;
    } else if (e->order == 2) {
        for (uint32_t k = pica__sim_draw(PICA__SIM_WORLD, e->done_count); k > 0; k--) {
            l = l->next;
        }
    }
    struct done *d = PICA__CONTAINER_OF(l, struct done, link);
    /* What one operation tells comes in order. */
    for (l = e->done.next;; l = l->next) {
        struct done *first = PICA__CONTAINER_OF(l, struct done, link);
        if (first->flight == d->flight) {
            d = first;
            break;
        }
    }
    pica__list_remove(&d->link);
    e->done_count--;
    return d;
}

static void deliver(sim_engine *e) {
    struct done *d = done_take(e);
    struct flight *f = d->flight;
    pica__op *op = f->op;
    int result = d->result;
    bool more = d->more;
    free(d);
    PICA__CHECK(op != NULL && op->slot < e->used && e->flight[op->slot] == f);
    if (!more) {
        if (pica__link_linked(&f->link)) {
            pica__list_remove(&f->link); /* a cancel that was too late */
        }
        PICA__MOVED(FLIGHT, DONE, 3);
        op->slot = PICA__OP_IDLE;
        f->op = NULL;
        f->next_free = e->free;
        e->free = f;
        in_flight_add(e, UINT64_MAX);
    }
    pica__the_sim.report.operations++;
    pica__sim_note((uint64_t)(uint32_t)(result >= PICA__SIM_FD ? 0 : result));
    op->complete(op, result, more);
}

static int sim_wait(pica__engine *engine, int64_t deadline) {
    sim_engine *e = engine_of(engine);
    PICA__CHECK(pica__sim_current() == e->owner);
    pica__sim_point();
    hand_over(e);
    if (pica__sim_fault(PICA_SIM_WAIT_EINTR)) {
        return 0;
    }
    if (e->done_count == 0 && !e->woken && deadline > pica__sim_time() &&
        pica__list_empty(&e->queued) && !pica__sim_fault(PICA_SIM_SPURIOUS)) {
        (void)pica__sim_block(deadline, "completions");
    } else {
        pica__sim_point();
    }
    e->woken = false;
    int delivered = 0;
    while (e->done_count > 0) {
        if (delivered > 0 && pica__sim_fault(PICA_SIM_OVERFLOW)) {
            break;
        }
        deliver(e);
        delivered++;
    }
    return delivered;
}

static bool sim_has_work(pica__engine *engine) {
    sim_engine *e = engine_of(engine);
    pica__sim_point();
    return e->done_count > 0 || !pica__list_empty(&e->queued) || e->woken;
}

/* Async-signal-safe, so no switch point. */
static void sim_wake(pica__engine *engine) {
    sim_engine *e = engine_of(engine);
    e->woken = true;
    pica__sim_wake(e->owner);
}

static void sim_destroy(pica__engine *engine) {
    sim_engine *e = engine_of(engine);
    pica__link *l;
    while ((l = pica__list_pop_front(&e->done)) != NULL) {
        struct done *d = PICA__CONTAINER_OF(l, struct done, link);
        if (d->flight->op != NULL && d->flight->op->kind == PICA__OP_ACCEPT && d->result >= 0) {
            pica__sim_failed("a connection that was accepted was lost with its engine");
        }
        free(d);
    }
    for (uint32_t i = 0; i < e->used; i++) {
        struct flight *f = e->flight[i];
        if (f->op != NULL) {
            pica__sim_watch_remove(&f->watch);
            pica__sim_event_cancel(&f->event);
            pica__sim_event_cancel(&f->connecting.event);
        }
        pica__free(f, sizeof *f);
    }
    pica__free(e->flight, e->count * sizeof(struct flight *));
    pica__free(e, sizeof *e);
}

static const struct pica__engine_ops sim_ops = {
    .name = "sim",
    .files = true,
    .destroy = sim_destroy,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .has_work = sim_has_work,
    .wake = sim_wake,
};

int pica__sim_engine_create(pica__engine **out, const pica__config *config) {
    (void)config;
    sim_engine *e = pica__zalloc(sizeof *e);
    if (e == NULL) {
        return -ENOMEM;
    }
    pica__engine_init(&e->engine, &sim_ops);
    e->owner = pica__sim_current();
    pica__list_init(&e->queued);
    pica__list_init(&e->done);
    e->order = (int)pica__sim_draw(PICA__SIM_WORLD, 3);
    in_flight_add(e, 1); /* the others have an operation of their own that hears wakes */
    *out = &e->engine;
    return 0;
}
