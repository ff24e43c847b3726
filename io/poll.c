/* Foreign descriptors: a wait for readiness, and callbacks whenever one is ready.
 *
 * A watch is one callback for one direction of one descriptor on one loop. Its life on the loop:
 *
 *     QUEUED --run: arms--> ARMED --the poll completes--> QUEUED --run: calls fn, arms--> ARMED ...
 *
 * where QUEUED means that `run` is in the loop's FIFO or runs. The poll is one-shot: it is armed anew after
 * each call, so what is still ready calls again.
 *
 * Who removes a watch takes it out of the table and marks it, under the table's lock; from then on fn is not
 * called. Then it sends `end`, which cancels the poll, and the memory goes when `end` has come and the watch is
 * neither queued nor armed. So one watch per (loop, descriptor, direction) is in the table, and any number of
 * removed ones may be on their way out.
 *
 * A watch counts as one of the runtime's open descriptors, so that a closing runtime waits until it is
 * gone, and is one of the loop's closers, so that it is removed then.
 *
 * Locks: a bucket's is a leaf.
 */
#include <pica/poll.h>

#include <fcntl.h>

#include "io/operation.h"
#include "runtime/base/alloc.h"
#include "runtime/base/lock.h"
#include "runtime/base/log.h"
#include "runtime/base/sys.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"

/* Between two tries to watch a descriptor when there is no memory for it. */
#define PAUSE_NS INT64_C(5000000)

struct watch {
    pica__op op;        /* loop only, as all without another note */
    pica__call run;
    pica__call end;
    pica__pause pause;  /* lasts: no memory, run comes later */
    pica__closer closer;
    pica_loop *loop;    /* constant */
    pica_callback fn;   /* constant */
    void *arg;          /* constant */
    struct watch *next; /* in the bucket; under its lock */
    bool removed;       /* under the bucket's lock */
    bool queued;        /* run will come, after a pause perhaps */
    bool ready;         /* the poll has completed: fn is to be called */
    bool failed;        /* ... with an error */
    bool ending;        /* end has come */
};

/* The table of all watches of the process: loops have no room for what few programs use. */
enum { BUCKETS = 256 };
static struct bucket {
    pica__lock_t lock;
    struct watch *first;
} buckets[BUCKETS];

static struct bucket *bucket_of(const pica_loop *loop, int fd) {
    uint32_t key = (uint32_t)fd * 2654435761u + loop->index * 40503u;
    return &buckets[key >> 24];
}

/* Takes the watch that matches out of the table and marks it removed, or returns NULL: with the lock. */
static struct watch *take(struct bucket *bucket, const pica_loop *loop, int fd, unsigned events) {
    for (struct watch **at = &bucket->first; *at != NULL; at = &(*at)->next) {
        struct watch *w = *at;
        if (w->loop == loop && w->op.fd == fd && w->op.events == events) {
            *at = w->next;
            w->removed = true;
            return w;
        }
    }
    return NULL;
}

static bool is_removed(struct watch *w) {
    struct bucket *bucket = bucket_of(w->loop, w->op.fd);
    pica__lock(&bucket->lock);
    bool removed = w->removed;
    pica__unlock(&bucket->lock);
    return removed;
}

/* Removes this very watch: true if nobody had. */
static bool remove_this(struct watch *w) {
    struct bucket *bucket = bucket_of(w->loop, w->op.fd);
    pica__lock(&bucket->lock);
    bool mine = !w->removed;
    if (mine) {
        (void)take(bucket, w->loop, w->op.fd, w->op.events); /* the only one that matches */
    }
    pica__unlock(&bucket->lock);
    return mine;
}

/* --- on the loop --- */

static void finish(struct watch *w) {
    PICA__MOVED(WATCH, PICA__WATCH_QUEUED, PICA__WATCH_GONE);
    pica_runtime *rt = w->loop->rt;
    pica__closer_remove(w->loop, &w->closer);
    pica__free(w, sizeof *w);
    pica__socket_gone(rt);
}

static void queue(struct watch *w) {
    w->queued = true;
    pica__call_soon(w->loop, &w->run);
}

static void pause_over(pica__pause *pause) {
    queue(PICA__CONTAINER_OF(pause, struct watch, pause));
}

static void end(struct watch *w) {
    w->ending = true;
    if (pica__op_in_flight(&w->op)) {
        pica__engine_cancel(w->loop->engine, &w->op);
    } else if (pica__pause_end(w->loop, &w->pause) || !w->queued) {
        finish(w);
    }
}

static void end_run(pica__call *call) {
    end(PICA__CONTAINER_OF(call, struct watch, end));
}

static void run(pica__call *call) {
    struct watch *w = PICA__CONTAINER_OF(call, struct watch, run);
    if (w->ready && !is_removed(w)) {
        w->fn(w->arg);
    }
    if (w->failed && remove_this(w)) {
        w->ending = true; /* nobody will send it */
    }
    w->ready = false;
    w->queued = false;
    if (w->ending) {
        finish(w);
    } else if (!is_removed(w)) {
        if (pica__engine_submit(w->loop->engine, &w->op) < 0) {
            PICA__MOVED(WATCH, PICA__WATCH_QUEUED, PICA__WATCH_QUEUED);
            w->queued = true;
            pica__pause_begin(w->loop, &w->pause, PAUSE_NS);
        } else {
            PICA__MOVED(WATCH, PICA__WATCH_QUEUED, PICA__WATCH_ARMED);
        }
    }
}

static void complete(pica__op *op, int result, bool more) {
    struct watch *w = atomic_load_explicit(&op->owner, memory_order_relaxed);
    (void)more;
    PICA__MOVED(WATCH, PICA__WATCH_ARMED, PICA__WATCH_QUEUED);
    w->ready = true;
    if (result < 0 && result != -ECANCELED) {
        w->failed = true;
        pica__log(PICA_LOG_DEBUG, "descriptor %d cannot be watched: %s", op->fd,
                  pica_strerror(result));
    }
    queue(w);
}

static void closer_pin(pica__closer *closer) {
    (void)closer; /* it ends on this thread only */
}

static void closer_close(pica__closer *closer) {
    struct watch *w = PICA__CONTAINER_OF(closer, struct watch, closer);
    if (remove_this(w)) {
        end(w);
    }
}

/* --- from any thread --- */

static int add(pica_loop *loop, int fd, unsigned events, pica_callback fn, void *arg) {
    if (fn == NULL) {
        return -EINVAL;
    }
    int rc = pica__runtime_check(loop->rt);
    rc = rc < 0 ? rc : pica__sys_fcntl(fd, F_GETFD, 0);
    if (rc < 0) {
        return rc;
    }
    struct watch *w = pica__zalloc(sizeof *w);
    if (w == NULL) {
        return -ENOMEM;
    }
    /* Counted first: a runtime that begins to close after the look at its phase sees the count. */
    atomic_fetch_add_explicit(&loop->rt->sockets, 1, memory_order_seq_cst);
    if (pica__phase(loop->rt) >= PICA__CLOSING) {
        pica__free(w, sizeof *w);
        pica__socket_gone(loop->rt);
        return PICA_ECLOSED;
    }
    pica__op_init(&w->op, PICA__OP_POLL, fd, complete);
    w->op.events = events;
    atomic_store_explicit(&w->op.owner, w, memory_order_relaxed);
    pica__call_init(&w->run, run);
    pica__call_init(&w->end, end_run);
    pica__pause_init(&w->pause, pause_over);
    w->closer.pin = closer_pin;
    w->closer.close = closer_close;
    w->loop = loop;
    w->fn = fn;
    w->arg = arg;
    w->queued = true;
    pica__closer_add(loop, &w->closer);

    struct bucket *bucket = bucket_of(loop, fd);
    pica__lock(&bucket->lock);
    struct watch *old = take(bucket, loop, fd, events);
    w->next = bucket->first;
    bucket->first = w;
    pica__unlock(&bucket->lock);
    if (old != NULL) {
        pica__call_soon(loop, &old->end);
    }
    /* If it is removed before this, then on the loop or by a message to it, which comes behind. */
    pica__call_soon(loop, &w->run);
    return 0;
}

static int drop(pica_loop *loop, int fd, unsigned events) {
    struct bucket *bucket = bucket_of(loop, fd);
    pica__lock(&bucket->lock);
    struct watch *w = take(bucket, loop, fd, events);
    pica__unlock(&bucket->lock);
    if (w == NULL) {
        return 0;
    }
    pica__call_soon(loop, &w->end);
    return 1;
}

/* --- public --- */

int pica_loop_add_reader(pica_loop *loop, int fd, pica_callback fn, void *arg) {
    return add(loop, fd, POLLIN, fn, arg);
}

int pica_loop_add_writer(pica_loop *loop, int fd, pica_callback fn, void *arg) {
    return add(loop, fd, POLLOUT, fn, arg);
}

int pica_loop_remove_reader(pica_loop *loop, int fd) {
    return drop(loop, fd, POLLIN);
}

int pica_loop_remove_writer(pica_loop *loop, int fd) {
    return drop(loop, fd, POLLOUT);
}

int pica_add_reader(int fd, pica_callback fn, void *arg) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : add(loop, fd, POLLIN, fn, arg);
}

int pica_add_writer(int fd, pica_callback fn, void *arg) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : add(loop, fd, POLLOUT, fn, arg);
}

int pica_remove_reader(int fd) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : drop(loop, fd, POLLIN);
}

int pica_remove_writer(int fd) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK : drop(loop, fd, POLLOUT);
}

int pica_poll(int fd, short events) {
    pica_task *task;
    int rc = pica__operation_begin(&task);
    if (rc < 0) {
        return rc;
    }
    pica__op op;
    pica__op_init(&op, PICA__OP_POLL, fd, NULL);
    op.events = (unsigned short)events;
    return pica__operation_run(task, &op);
}
