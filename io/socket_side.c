/* The two directions of a socket: readiness, arming polls, waiting, tries, and the call that does on the home
 * loop what only that may do. The rules stand in socket.h. */
#include "io/socket.h"

#include <poll.h>

#include "runtime/base/check.h"
#include "runtime/base/relax.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_message.h"
#include "runtime/base/sys_process.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/worker.h"

/* One suspension on one side. */
struct pica__socket_wait {
    pica__wait wait;
    pica_socket *socket;
    pica__socket_side *side;
};

static bool is_closed(pica_socket *socket) {
    return (atomic_load_explicit(&socket->use, memory_order_acquire) & PICA__SOCKET_CLOSED) != 0;
}

static pica__op *side_op(pica_socket *socket, const pica__socket_side *side) {
    return side == &socket->rd ? &socket->rd_op : &socket->wr_op;
}

/* --- the lock of a side --- */

/* Returns the word as it was, unlocked. */
static uint32_t side_lock(pica__socket_side *side) {
    pica__backoff backoff = PICA__BACKOFF_INIT;
    uint32_t old = atomic_load_explicit(&side->state, memory_order_relaxed);
    for (;;) {
        if (PICA__UNLIKELY((old & PICA__SIDE_LOCKED) != 0)) {
            pica__relax(&backoff);
            old = atomic_load_explicit(&side->state, memory_order_relaxed);
        } else if (atomic_compare_exchange_weak_explicit(&side->state, &old,
                                                         old | PICA__SIDE_LOCKED,
                                                         memory_order_acquire,
                                                         memory_order_relaxed)) {
            return old;
        }
    }
}

/* state: what the word is from now on; nobody else has changed it meanwhile. */
static void side_unlock(pica__socket_side *side, uint32_t state) {
    atomic_store_explicit(&side->state, state, memory_order_release);
}

/* --- events, on the home loop --- */

/* Takes what waits on a side: with the lock. */
static struct pica__socket_wait *waiter_take(pica__socket_side *side) {
    struct pica__socket_wait *waiter = side->waiter;
    side->waiter = NULL;
    return waiter;
}

/* True if the background callback is to be scheduled: with the lock. */
static bool writable_take(pica_socket *socket, const pica__socket_side *side) {
    bool wanted = side == &socket->wr && socket->writable_wanted;
    if (wanted) {
        socket->writable_wanted = false;
    }
    return wanted;
}

static void tell(pica_socket *socket, struct pica__socket_wait *waiter, bool writable,
                 int result) {
    if (waiter != NULL) {
        pica__wait_fire(&waiter->wait, result);
    }
    if (writable) {
        pica__call_soon(socket->home, &socket->writable.call);
    }
}

/* Has the lines fetched that the reader's task will need, all at once: each would else be asked for only when the one
 * before it has come. With many connections they are in no cache, nor are the addresses of their pages. Before the
 * lock, since to take it waits for all that was asked for earlier; so what is read here may be old, and is not
 * believed. */
static inline void reader_prefetch(const pica_socket *socket) {
    __builtin_prefetch(atomic_load_explicit(&socket->rd_op.owner, memory_order_relaxed), 1);
    const char *stream = atomic_load_explicit(&socket->owner, memory_order_relaxed);
    if (stream != NULL) {
        __builtin_prefetch(stream, 1);
        __builtin_prefetch(stream + PICA__CACHELINE, 1);
    }
    pica__task_prefetch(atomic_load_explicit(&socket->rd_task, memory_order_relaxed));
}

static void side_event(pica_socket *socket, pica__socket_side *side, int result, bool more) {
    bool sticky = result < 0 || (result & (POLLHUP | POLLERR | POLLRDHUP)) != 0;
    uint32_t state = side_lock(side);
    if (!more) {
        PICA__MOVED(SIDE, PICA__SIDE_ARMED, PICA__SIDE_UNARMED);
    }
    PICA__MOVED(SIDE, (state & PICA__SIDE_READY) != 0 ? PICA__SIDE_SEES : PICA__SIDE_BLIND,
                PICA__SIDE_SEES);
    if (sticky && (state & PICA__SIDE_STICKY) == 0) {
        PICA__MOVED(SIDE, PICA__SIDE_SEES, PICA__SIDE_ENDED);
    }
    side->armed = more;
    struct pica__socket_wait *waiter = waiter_take(side);
    pica_task *reader = NULL;
    if (PICA__LIKELY(waiter != NULL) && side == &socket->rd) {
        reader = atomic_load_explicit(&socket->rd_task, memory_order_relaxed);
    }
    bool writable = writable_take(socket, side);
    side_unlock(side, (state + PICA__SIDE_TICK) | PICA__SIDE_READY |
                          (sticky ? (uint32_t)PICA__SIDE_STICKY : 0));
    if (PICA__LIKELY(reader != NULL)) {
        pica__wait_fire_task(reader, 0);
    } else {
        tell(socket, waiter, writable, 0);
    }
    if (PICA__UNLIKELY(!more)) {
        pica__socket_end(socket, 0);
    }
}

static PICA__EACH void rd_complete(pica__op *op, int result, bool more) {
    pica_socket *socket = PICA__CONTAINER_OF(op, pica_socket, rd_op);
    reader_prefetch(socket);
    side_event(socket, &socket->rd, result, more);
}

static void wr_complete(pica__op *op, int result, bool more) {
    pica_socket *socket = PICA__CONTAINER_OF(op, pica_socket, wr_op);
    side_event(socket, &socket->wr, result, more);
}

/* --- arming and closing, on the home loop --- */

/* With the lock, on the home loop's thread: puts the poll in flight that a waiter asked for. False
 * without memory: then the waiter is to be told that a try is worth it, and learns the truth. */
static bool side_arm(pica_socket *socket, pica__socket_side *side) {
    side->want_arm = false;
    if (side->armed || (atomic_load_explicit(&socket->use, memory_order_relaxed) &
                        PICA__SOCKET_CLOSED) != 0) {
        return true;
    }
    if (pica__engine_submit(socket->home->engine, side_op(socket, side)) < 0) {
        return false;
    }
    PICA__MOVED(SIDE, PICA__SIDE_UNARMED, PICA__SIDE_ARMED);
    side->armed = true;
    atomic_fetch_add_explicit(&socket->use, PICA__SOCKET_USE, memory_order_relaxed);
    return true;
}

static void side_arm_or_tell(pica_socket *socket, pica__socket_side *side) {
    struct pica__socket_wait *waiter = NULL;
    bool writable = false;
    uint32_t state = side_lock(side);
    if (side->want_arm && !side_arm(socket, side)) {
        waiter = waiter_take(side);
        writable = writable_take(socket, side);
    }
    side_unlock(side, state);
    tell(socket, waiter, writable, -ENOMEM);
}

static void close_at_home(pica_socket *socket) {
    if (socket->close_done) {
        return;
    }
    socket->close_done = true;
    if (pica__op_in_flight(&socket->rd_op)) {
        pica__engine_cancel(socket->home->engine, &socket->rd_op);
    }
    if (pica__op_in_flight(&socket->wr_op)) {
        pica__engine_cancel(socket->home->engine, &socket->wr_op);
    }
    pica__socket_end(socket, 0); /* being open */
}

static void home_run(pica__call *call) {
    pica_socket *socket = PICA__CONTAINER_OF(call, pica_socket, home_call);
    (void)atomic_exchange_explicit(&socket->posted, false, memory_order_acq_rel);
    side_arm_or_tell(socket, &socket->rd);
    side_arm_or_tell(socket, &socket->wr);
    if (is_closed(socket)) {
        close_at_home(socket);
    }
    pica__socket_unref(socket);
}

/* After it was said what for. */
static void home_post(pica_socket *socket) {
    if (!atomic_exchange_explicit(&socket->posted, true, memory_order_acq_rel)) {
        (void)pica__socket_ref(socket); /* dropped by home_run */
        pica__call_soon(socket->home, &socket->home_call);
    }
}

/* --- waiting --- */

static bool wait_withdraw(pica__wait *wait) {
    struct pica__socket_wait *w = PICA__CONTAINER_OF(wait, struct pica__socket_wait, wait);
    uint32_t state = side_lock(w->side);
    bool linked = w->side->waiter == w;
    if (linked) {
        w->side->waiter = NULL;
    }
    side_unlock(w->side, state);
    return linked;
}

static const struct pica__wait_ops wait_ops = {"socket", wait_withdraw};

/* With the lock, for somebody who will wait, of a side that is not armed: makes sure that an event will come. False
 * without memory. The message to the home loop is sent under the lock: afterwards the socket may be gone. */
static PICA__NOINLINE bool side_expect(pica_socket *socket, pica__socket_side *side) {
    if (pica__loop_is_mine(socket->home)) {
        return side_arm(socket, side);
    }
    PICA__MOVED(SIDE, PICA__SIDE_UNARMED, PICA__SIDE_WANTED);
    side->want_arm = true;
    home_post(socket);
    return true;
}

static PICA__EACH bool wait_commit(pica__wait *wait) {
    struct pica__socket_wait *w = PICA__CONTAINER_OF(wait, struct pica__socket_wait, wait);
    pica_socket *socket = w->socket;
    pica__socket_side *side = w->side;
    pica_task *task = wait->task;
    bool waits = false;
    bool failed = false;
    uint32_t state = side_lock(side);
    if (PICA__UNLIKELY(is_closed(socket))) {
        task->outcome = PICA_ECLOSED;
    } else if (PICA__UNLIKELY(side->waiter != NULL)) {
        task->outcome = -EBUSY;
    } else if (PICA__UNLIKELY((state & PICA__SIDE_READY) != 0 && state != side->drained)) {
        task->outcome = 0;
    } else if (PICA__LIKELY(pica__wait_publish(wait))) {
        waits = true;
        side->waiter = w;
        if (side == &socket->rd) {
            atomic_store_explicit(&socket->rd_task, task, memory_order_relaxed);
            /* Fetched at the event, with the stack on which it lies. Mostly the same as before. */
            if (PICA__UNLIKELY(atomic_load_explicit(&socket->rd_op.owner, memory_order_relaxed) != w)) {
                atomic_store_explicit(&socket->rd_op.owner, w, memory_order_relaxed);
            }
        }
        failed = PICA__UNLIKELY(!side->armed) && !side_expect(socket, side);
        if (PICA__UNLIKELY(failed)) {
            side->waiter = NULL;
        }
    }
    side_unlock(side, state);
    if (PICA__UNLIKELY(failed)) {
        pica__wait_fire(wait, -ENOMEM); /* published, so it ends like any other wait */
    }
    return waits;
}

static inline struct pica__socket_wait wait_on(pica_socket *socket, pica__socket_side *side) {
    return (struct pica__socket_wait){
        .wait = {&wait_ops, pica__current(), NULL, ~socket->fd},
        .socket = socket,
        .side = side,
    };
}

/* With a use. */
int pica__socket_wait(pica_socket *socket, pica__socket_side *side) {
    struct pica__socket_wait w = wait_on(socket, side);
    return w.wait.task == NULL ? PICA_ENOTASK : pica__suspend(&w.wait, wait_commit);
}

int pica__socket_wait_readable(pica_socket *socket) {
    int rc = pica__socket_begin(socket, 0);
    if (rc == 0) {
        rc = pica__socket_wait(socket, &socket->rd);
        pica__socket_end(socket, 0);
    }
    return rc;
}

static void writable_run(pica__call *call) {
    pica_socket *socket = PICA__CONTAINER_OF(call, pica_socket, writable.call);
    socket->writable.fn(socket->writable.arg);
    pica__socket_unref(socket);
}

/* In the runtime's context: it may submit to the engine. Apart, so that the sanitizer sees the lock. */
PICA__TSAN_APART static void on_writable(pica_socket *socket, pica_callback fn, void *arg) {
    uint32_t state = side_lock(&socket->wr);
    PICA__CHECK(!socket->writable_wanted);
    socket->writable.fn = fn;
    socket->writable.arg = arg;
    bool now = is_closed(socket) || (state & PICA__SIDE_READY) != 0;
    if (!now) {
        socket->writable_wanted = true;
        now = !socket->wr.armed && !side_expect(socket, &socket->wr) && writable_take(socket, &socket->wr);
    }
    if (now) {
        pica__call_soon(socket->home, &socket->writable.call);
    }
    side_unlock(&socket->wr, state);
}

PICA__NO_TSAN void pica__socket_on_writable(pica_socket *socket, pica_callback fn, void *arg) {
    void *context = pica__tsan_enter(pica__self()->tsan);
    (void)pica__socket_ref(socket); /* dropped after the call */
    on_writable(socket, fn, arg);
    pica__tsan_leave(context);
}

/* --- tries --- */

/* After a try that found the kernel empty or full: READY goes, unless an event came since `seen`. */
static PICA__NOINLINE void clear_ready(pica__socket_side *side, uint32_t seen) {
    if (seen & PICA__SIDE_READY) {
        seen &= ~(uint32_t)PICA__SIDE_LOCKED; /* with the lock held this fails, and will be tried again */
        if (atomic_compare_exchange_strong_explicit(&side->state, &seen,
                                                    seen & ~(uint32_t)PICA__SIDE_READY,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            PICA__MOVED(SIDE, PICA__SIDE_SEES, PICA__SIDE_BLIND);
        }
    }
}

void pica__socket_clear_readable(pica_socket *socket, uint32_t seen) {
    clear_ready(&socket->rd, seen);
}

void pica__socket_clear_writable(pica_socket *socket, uint32_t seen) {
    clear_ready(&socket->wr, seen);
}

/* Bytes moved, at the worker on which this thread is: looked up behind the system call, as nothing suspends
 * here. None: a thread outside, which is not counted. */
static inline void count_received(ssize_t n) {
    pica__worker *worker = pica__self();
    if (PICA__LIKELY(worker != NULL)) {
        pica__count(&worker->stats.received, (uint64_t)n);
    }
}

static inline void count_sent(ssize_t n) {
    pica__worker *worker = pica__self();
    if (PICA__LIKELY(worker != NULL)) {
        pica__count(&worker->stats.sent, (uint64_t)n);
    }
}

/* With a use. */
static inline ssize_t recv_once(pica_socket *socket, void *buffer, size_t size) {
    uint32_t seen = atomic_load_explicit(&socket->rd.state, memory_order_acquire);
    if (PICA__UNLIKELY((seen & PICA__SIDE_READY) == 0 || seen == socket->rd.drained)) {
        return -EAGAIN;
    }
    ssize_t n;
    do {
        n = PICA__UNLIKELY(socket->plain)
                ? pica__sys_read(socket->fd, buffer, size)
                : pica__sys_recv(socket->fd, buffer, size, MSG_DONTWAIT);
    } while (PICA__UNLIKELY(n == -EINTR));
    /* TCP: the end and errors set STICKY before they can be missed; so less than asked for means that
     * the kernel has no more, and the next wait needs no try first. (What follows an urgent byte waits
     * for the peer's next segment: poll cannot tell of the byte, since each arrival of plain data wakes
     * with POLLPRI too.) Unix sockets split reads for reasons that no event tells. */
    if (n == -EAGAIN || (n > 0 && (size_t)n < size && socket->tcp &&
                         (seen & PICA__SIDE_STICKY) == 0)) {
        socket->rd.drained = seen & ~(uint32_t)PICA__SIDE_LOCKED;
    }
    if (PICA__LIKELY(n > 0)) {
        count_received(n);
    }
    return n;
}

static PICA__NOINLINE ssize_t send_parts(pica_socket *socket, const struct iovec *buffers, int count) {
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)buffers, .msg_iovlen = (size_t)count};
    return pica__sys_sendmsg(socket->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static inline ssize_t sendv_once(pica_socket *socket, const struct iovec *buffers, int count) {
    uint32_t seen = atomic_load_explicit(&socket->wr.state, memory_order_acquire);
    if (PICA__UNLIKELY((seen & PICA__SIDE_READY) == 0)) {
        return -EAGAIN;
    }
    ssize_t n;
    do {
        if (PICA__UNLIKELY(socket->plain)) {
            n = pica__sys_writev_quiet(socket->fd, buffers, count);
        } else if (PICA__LIKELY(count == 1)) {
            n = pica__sys_send(socket->fd, buffers[0].iov_base, buffers[0].iov_len,
                               MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
            n = send_parts(socket, buffers, count);
        }
    } while (PICA__UNLIKELY(n == -EINTR));
    if (PICA__LIKELY(n > 0)) {
        count_sent(n);
    } else if (n == -EAGAIN) {
        clear_ready(&socket->wr, seen);
    }
    return n;
}

PICA__INLINED ssize_t pica__socket_recv_begun(pica_socket *socket, void *buffer, size_t size) {
    return recv_once(socket, buffer, size);
}

int pica__socket_wait_begun(pica_socket *socket) {
    return pica__socket_wait(socket, &socket->rd);
}

PICA__INLINED int pica__socket_wait_ahead(pica_socket *socket, pica__ahead_fn receive, void *arg, bool *received) {
    struct pica__socket_wait w = wait_on(socket, &socket->rd);
    *received = false;
    return w.wait.task == NULL ? PICA_ENOTASK
                               : pica__suspend_ahead(&w.wait, wait_commit, receive, arg, received);
}

PICA__INLINED ssize_t pica__socket_sendv_begun(pica_socket *socket, const struct iovec *buffers, int count) {
    return sendv_once(socket, buffers, count);
}

PICA__NO_TSAN static char *scratch_of_worker(void) {
    return pica__worker_scratch(pica__self());
}

void *pica__scratch(size_t *size) {
    *size = PICA__SCRATCH_SIZE;
    char *scratch = scratch_of_worker();
    if (scratch != NULL) {
        pica__tsan_get(scratch);
    }
    return scratch;
}

void pica__scratch_done(void *scratch) {
    pica__tsan_give(scratch);
}

/* What waits goes on with PICA_ECLOSED, and the home loop is told. By whoever set CLOSED. */
void pica__socket_closing(pica_socket *socket) {
    uint32_t state = side_lock(&socket->rd);
    struct pica__socket_wait *reader = waiter_take(&socket->rd);
    side_unlock(&socket->rd, state);
    state = side_lock(&socket->wr);
    struct pica__socket_wait *writer = waiter_take(&socket->wr);
    bool writable = writable_take(socket, &socket->wr);
    side_unlock(&socket->wr, state);
    tell(socket, reader, false, PICA_ECLOSED);
    tell(socket, writer, writable, PICA_ECLOSED);
    home_post(socket);
}

void pica__socket_sides_init(pica_socket *socket) {
    pica__call_init(&socket->home_call, home_run);
    pica__call_init(&socket->writable.call, writable_run);
    /* The first try of each side needs no event. */
    atomic_init(&socket->rd.state, PICA__SIDE_READY);
    atomic_init(&socket->wr.state, PICA__SIDE_READY);
    pica__op_init(&socket->rd_op, PICA__OP_POLL, socket->fd, rd_complete);
    socket->rd_op.events = POLLIN | POLLRDHUP;
    socket->rd_op.multishot = true;
    pica__op_init(&socket->wr_op, PICA__OP_POLL, socket->fd, wr_complete);
    socket->wr_op.events = POLLOUT;
}
