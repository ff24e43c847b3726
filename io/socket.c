/* Sockets: readiness, tries, closing. The rules stand in socket.h. */
#include "io/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/sys.h"
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

/* --- references and uses --- */

pica_socket *pica__socket_ref(pica_socket *socket) {
    atomic_fetch_add_explicit(&socket->refs, 1, memory_order_relaxed);
    return socket;
}

void pica__socket_unref(pica_socket *socket) {
    if (socket != NULL &&
        atomic_fetch_sub_explicit(&socket->refs, 1, memory_order_acq_rel) == 1) {
        PICA__CHECK(socket->fd < 0);
        pica__free(socket, sizeof *socket);
    }
}

/* A use begins: with flag (READING, WRITING or 0) taken. 0, PICA_ECLOSED, -EBUSY. */
static int use_begin(pica_socket *socket, uint32_t flag) {
    uint32_t old = atomic_load_explicit(&socket->use, memory_order_relaxed);
    do {
        if (old & PICA__SOCKET_CLOSED) {
            return PICA_ECLOSED;
        }
        if (old & flag) {
            return -EBUSY;
        }
    } while (!atomic_compare_exchange_weak_explicit(&socket->use, &old,
                                                    (old | flag) + PICA__SOCKET_USE,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return 0;
}

static void use_end(pica_socket *socket, uint32_t flag) {
    uint32_t old = atomic_fetch_sub_explicit(&socket->use, PICA__SOCKET_USE + flag,
                                             memory_order_acq_rel);
    PICA__CHECK(old >= PICA__SOCKET_USE);
    if (old / PICA__SOCKET_USE == 1) {
        pica__closer_remove(socket->home, &socket->closer);
        (void)pica__sys_close(socket->fd);
        socket->fd = -1;
        pica_runtime *rt = socket->home->rt;
        pica__socket_unref(socket);
        pica__socket_gone(rt);
    }
}

static bool is_closed(pica_socket *socket) {
    return (atomic_load_explicit(&socket->use, memory_order_acquire) & PICA__SOCKET_CLOSED) != 0;
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
    bool wanted = side == &socket->wr && socket->writable.wanted;
    if (wanted) {
        socket->writable.wanted = false;
    }
    return wanted;
}

/* What waited on a side goes on with result. */
static void tell(pica_socket *socket, struct pica__socket_wait *waiter, bool writable,
                 int result) {
    if (waiter != NULL) {
        pica__wait_fire(&waiter->wait, result);
    }
    if (writable) {
        pica__call_soon(socket->home, &socket->writable.call);
    }
}

static void side_event(pica_socket *socket, pica__socket_side *side, int result, bool more) {
    bool sticky = result < 0 || (result & (POLLHUP | POLLERR | POLLRDHUP)) != 0;
    pica__lock(&socket->lock);
    uint32_t old = atomic_load_explicit(&side->state, memory_order_relaxed);
    uint32_t new;
    do {
        new = (old + PICA__SIDE_TICK) | PICA__SIDE_READY | (sticky ? PICA__SIDE_STICKY : 0u);
    } while (!atomic_compare_exchange_weak_explicit(&side->state, &old, new, memory_order_release,
                                                    memory_order_relaxed));
    side->armed = more;
    struct pica__socket_wait *waiter = waiter_take(side);
    bool writable = writable_take(socket, side);
    pica__unlock(&socket->lock);
    tell(socket, waiter, writable, 0);
    if (!more) {
        use_end(socket, 0);
    }
}

static void rd_complete(pica__op *op, int result, bool more) {
    pica_socket *socket = PICA__CONTAINER_OF(op, pica_socket, rd.op);
    side_event(socket, &socket->rd, result, more);
}

static void wr_complete(pica__op *op, int result, bool more) {
    pica_socket *socket = PICA__CONTAINER_OF(op, pica_socket, wr.op);
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
    if (pica__engine_submit(socket->home->engine, &side->op) < 0) {
        return false;
    }
    side->armed = true;
    atomic_fetch_add_explicit(&socket->use, PICA__SOCKET_USE, memory_order_relaxed);
    return true;
}

static void side_arm_or_tell(pica_socket *socket, pica__socket_side *side) {
    pica__lock(&socket->lock);
    struct pica__socket_wait *waiter = NULL;
    bool writable = false;
    if (side->want_arm && !side_arm(socket, side)) {
        waiter = waiter_take(side);
        writable = writable_take(socket, side);
    }
    pica__unlock(&socket->lock);
    tell(socket, waiter, writable, -ENOMEM);
}

static void close_at_home(pica_socket *socket) {
    if (socket->close_done) {
        return;
    }
    socket->close_done = true;
    if (pica__op_in_flight(&socket->rd.op)) {
        pica__engine_cancel(socket->home->engine, &socket->rd.op);
    }
    if (pica__op_in_flight(&socket->wr.op)) {
        pica__engine_cancel(socket->home->engine, &socket->wr.op);
    }
    use_end(socket, 0); /* being open */
}

static void home_run(pica__call *call) {
    pica_socket *socket = PICA__CONTAINER_OF(call, pica_socket, home_call);
    pica__lock(&socket->lock);
    socket->posted = false;
    pica__unlock(&socket->lock);
    side_arm_or_tell(socket, &socket->rd);
    side_arm_or_tell(socket, &socket->wr);
    if (is_closed(socket)) {
        close_at_home(socket);
    }
    pica__socket_unref(socket);
}

/* With the lock. */
static bool home_post_needed(pica_socket *socket) {
    bool needed = !socket->posted;
    socket->posted = true;
    return needed;
}

static void home_post(pica_socket *socket) {
    (void)pica__socket_ref(socket); /* dropped by home_run */
    pica__call_soon(socket->home, &socket->home_call);
}

/* --- waiting --- */

static bool wait_withdraw(pica__wait *wait) {
    struct pica__socket_wait *w = PICA__CONTAINER_OF(wait, struct pica__socket_wait, wait);
    pica__lock(&w->socket->lock);
    bool linked = w->side->waiter == w;
    if (linked) {
        w->side->waiter = NULL;
    }
    pica__unlock(&w->socket->lock);
    return linked;
}

static const struct pica__wait_ops wait_ops = {"socket", wait_withdraw};

/* With the lock, for somebody who will wait: makes sure that an event will come. False without memory.
 * The message to the home loop is sent under the lock: afterwards the socket may be gone. */
static bool side_expect(pica_socket *socket, pica__socket_side *side) {
    if (side->armed) {
        return true;
    }
    if (pica__loop_is_mine(socket->home)) {
        return side_arm(socket, side);
    }
    side->want_arm = true;
    if (home_post_needed(socket)) {
        home_post(socket);
    }
    return true;
}

static bool wait_commit(pica__wait *wait) {
    struct pica__socket_wait *w = PICA__CONTAINER_OF(wait, struct pica__socket_wait, wait);
    pica_socket *socket = w->socket;
    pica__socket_side *side = w->side;
    bool waits = false;
    bool failed = false;
    pica__lock(&socket->lock);
    if (is_closed(socket)) {
        wait->result = PICA_ECLOSED;
    } else if (side->waiter != NULL) {
        wait->result = -EBUSY;
    } else if (atomic_load_explicit(&side->state, memory_order_relaxed) & PICA__SIDE_READY) {
        wait->result = 0;
    } else if (pica__wait_publish(wait)) {
        waits = true;
        side->waiter = w;
        failed = !side_expect(socket, side);
        if (failed) {
            side->waiter = NULL;
        }
    }
    pica__unlock(&socket->lock);
    if (failed) {
        pica__wait_fire(wait, -ENOMEM); /* published, so it ends like any other wait */
    }
    return waits;
}

/* With a use. */
static int side_wait(pica_socket *socket, pica__socket_side *side) {
    struct pica__socket_wait w = {
        .wait = {&wait_ops, pica__current(), NULL, 0},
        .socket = socket,
        .side = side,
    };
    if (w.wait.task == NULL) {
        return PICA_ENOTASK;
    }
    return pica__suspend(&w.wait, wait_commit);
}

int pica__socket_wait_readable(pica_socket *socket) {
    int rc = use_begin(socket, 0);
    if (rc == 0) {
        rc = side_wait(socket, &socket->rd);
        use_end(socket, 0);
    }
    return rc;
}

static void writable_run(pica__call *call) {
    pica_socket *socket = PICA__CONTAINER_OF(call, pica_socket, writable.call);
    socket->writable.fn(socket->writable.arg);
    pica__socket_unref(socket);
}

/* In the runtime's context: it may submit to the engine. */
static void on_writable(pica_socket *socket, pica_callback fn, void *arg) {
    pica__lock(&socket->lock);
    PICA__CHECK(!socket->writable.wanted);
    socket->writable.fn = fn;
    socket->writable.arg = arg;
    uint32_t state = atomic_load_explicit(&socket->wr.state, memory_order_relaxed);
    bool now = is_closed(socket) || (state & PICA__SIDE_READY) != 0;
    if (!now) {
        socket->writable.wanted = true;
        now = !side_expect(socket, &socket->wr) && writable_take(socket, &socket->wr);
    }
    if (now) {
        pica__call_soon(socket->home, &socket->writable.call);
    }
    pica__unlock(&socket->lock);
}

PICA__NO_TSAN void pica__socket_on_writable(pica_socket *socket, pica_callback fn, void *arg) {
    void *context = pica__tsan_enter(pica__self()->tsan);
    (void)pica__socket_ref(socket); /* dropped after the call */
    on_writable(socket, fn, arg);
    pica__tsan_leave(context);
}

/* --- tries --- */

/* After a try that found the kernel empty or full: READY goes, unless an event came since `seen`. */
static void clear_ready(pica__socket_side *side, uint32_t seen) {
    if (seen & PICA__SIDE_READY) {
        atomic_compare_exchange_strong_explicit(&side->state, &seen,
                                                seen & ~(uint32_t)PICA__SIDE_READY,
                                                memory_order_acq_rel, memory_order_relaxed);
    }
}

void pica__socket_clear_readable(pica_socket *socket, uint32_t seen) {
    clear_ready(&socket->rd, seen);
}

/* With a use. */
static ssize_t recv_once(pica_socket *socket, void *buffer, size_t size) {
    uint32_t seen = atomic_load_explicit(&socket->rd.state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0) {
        return -EAGAIN;
    }
    ssize_t n;
    do {
        n = pica__sys_recv(socket->fd, buffer, size, MSG_DONTWAIT);
    } while (n == -EINTR);
    /* TCP: the end and errors set STICKY before they can be missed; so less than asked for means that
     * the kernel has no more, and the next wait needs no try first. (What follows an urgent byte waits
     * for the peer's next segment: poll cannot tell of the byte, since each arrival of plain data wakes
     * with POLLPRI too.) Unix sockets split reads for reasons that no event tells. */
    if (n == -EAGAIN || (n > 0 && (size_t)n < size && socket->tcp &&
                         (seen & PICA__SIDE_STICKY) == 0)) {
        clear_ready(&socket->rd, seen);
    }
    return n;
}

static ssize_t sendv_once(pica_socket *socket, const struct iovec *buffers, int count) {
    uint32_t seen = atomic_load_explicit(&socket->wr.state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0) {
        return -EAGAIN;
    }
    ssize_t n;
    do {
        if (count == 1) {
            n = pica__sys_send(socket->fd, buffers[0].iov_base, buffers[0].iov_len,
                               MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
            struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)buffers,
                                     .msg_iovlen = (size_t)count};
            n = pica__sys_sendmsg(socket->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    } while (n == -EINTR);
    if (n == -EAGAIN) {
        clear_ready(&socket->wr, seen);
    }
    return n;
}

ssize_t pica__socket_recv_begun(pica_socket *socket, void *buffer, size_t size) {
    return recv_once(socket, buffer, size);
}

int pica__socket_wait_begun(pica_socket *socket) {
    return side_wait(socket, &socket->rd);
}

ssize_t pica__socket_try_sendv(pica_socket *socket, const struct iovec *buffers, int count) {
    int rc = use_begin(socket, 0);
    if (rc < 0) {
        return rc;
    }
    ssize_t n = sendv_once(socket, buffers, count);
    use_end(socket, 0);
    return n;
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

/* --- the public calls --- */

/* Entry of a kernel operation of the current task: a pending cancellation is delivered before
 * anything is taken. */
static int operation_begin(pica_socket *socket, uint32_t flag) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    int rc = use_begin(socket, flag);
    if (rc == 0 && pica__cancel_take(task)) {
        use_end(socket, flag);
        rc = PICA_ECANCELED;
    }
    return rc;
}

ssize_t pica_recv(pica_socket *socket, void *buffer, size_t size) {
    int rc = operation_begin(socket, PICA__SOCKET_READING);
    if (rc < 0) {
        return rc;
    }
    ssize_t n;
    do {
        n = recv_once(socket, buffer, size);
    } while (n == -EAGAIN && (n = side_wait(socket, &socket->rd)) == 0);
    use_end(socket, PICA__SOCKET_READING);
    return n;
}

ssize_t pica_sendv(pica_socket *socket, const struct iovec *buffers, int count) {
    if (count < 1 || count > 64) {
        return -EINVAL;
    }
    int rc = operation_begin(socket, PICA__SOCKET_WRITING);
    if (rc < 0) {
        return rc;
    }
    ssize_t n;
    do {
        n = sendv_once(socket, buffers, count);
    } while (n == -EAGAIN && (n = side_wait(socket, &socket->wr)) == 0);
    use_end(socket, PICA__SOCKET_WRITING);
    return n;
}

ssize_t pica_send(pica_socket *socket, const void *buffer, size_t size) {
    struct iovec one = {(void *)(uintptr_t)buffer, size};
    return pica_sendv(socket, &one, 1);
}

int pica_sendall(pica_socket *socket, const void *buffer, size_t size) {
    const char *at = buffer;
    while (size > 0) {
        ssize_t n = pica_send(socket, at, size);
        if (n < 0) {
            return (int)n;
        }
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

void pica_socket_close(pica_socket *socket) {
    if (socket == NULL) {
        return;
    }
    uint32_t old =
        atomic_fetch_or_explicit(&socket->use, PICA__SOCKET_CLOSED, memory_order_acq_rel);
    if ((old & PICA__SOCKET_CLOSED) == 0) {
        pica__lock(&socket->lock);
        struct pica__socket_wait *reader = waiter_take(&socket->rd);
        struct pica__socket_wait *writer = waiter_take(&socket->wr);
        bool writable = writable_take(socket, &socket->wr);
        bool post = home_post_needed(socket);
        pica__unlock(&socket->lock);
        tell(socket, reader, false, PICA_ECLOSED);
        tell(socket, writer, writable, PICA_ECLOSED);
        if (post) {
            home_post(socket);
        }
    }
    pica__socket_unref(socket);
}

int pica_socket_shutdown(pica_socket *socket, int how) {
    int rc = use_begin(socket, 0);
    if (rc == 0) {
        rc = pica__sys_shutdown(socket->fd, how);
        use_end(socket, 0);
    }
    return rc;
}

int pica__socket_use(pica_socket *socket) {
    return use_begin(socket, 0);
}

void pica__socket_unuse(pica_socket *socket) {
    use_end(socket, 0);
}

int pica_socket_name(pica_socket *socket, pica_address *address) {
    int rc = use_begin(socket, 0);
    if (rc == 0) {
        address->length = sizeof address->storage;
        rc = pica__sys_getsockname(socket->fd, (struct sockaddr *)&address->storage,
                                   &address->length);
        use_end(socket, 0);
    }
    return rc;
}

int pica_socket_peer(pica_socket *socket, pica_address *address) {
    int rc = use_begin(socket, 0);
    if (rc == 0) {
        address->length = sizeof address->storage;
        rc = pica__sys_getpeername(socket->fd, (struct sockaddr *)&address->storage,
                                   &address->length);
        use_end(socket, 0);
    }
    return rc;
}

int pica_socket_setopt(pica_socket *socket, int level, int name, const void *value,
                       socklen_t length) {
    int rc = use_begin(socket, 0);
    if (rc == 0) {
        rc = pica__sys_setsockopt(socket->fd, level, name, value, length);
        use_end(socket, 0);
    }
    return rc;
}

int pica_socket_getopt(pica_socket *socket, int level, int name, void *value,
                       socklen_t *length) {
    int rc = use_begin(socket, 0);
    if (rc == 0) {
        rc = pica__sys_getsockopt(socket->fd, level, name, value, length);
        use_end(socket, 0);
    }
    return rc;
}

/* --- making --- */

int pica__socket_open(const pica_address *address, bool nonblocking) {
    return pica__sys_socket(address->storage.ss_family,
                            SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
}

static void closer_pin(pica__closer *closer) {
    (void)pica__socket_ref(PICA__CONTAINER_OF(closer, pica_socket, closer));
}

static void closer_close(pica__closer *closer) {
    pica_socket_close(PICA__CONTAINER_OF(closer, pica_socket, closer));
}

int pica__socket_adopt(pica_socket **out, int fd, pica_loop *home) {
    pica_socket *socket = pica__zalloc(sizeof *socket);
    if (socket == NULL) {
        return -ENOMEM;
    }
    atomic_init(&socket->refs, 2);
    atomic_init(&socket->use, PICA__SOCKET_USE);
    socket->closer.pin = closer_pin;
    socket->closer.close = closer_close;
    socket->fd = fd;
    int one = 1; /* fails on all but TCP, which alone has such a delay */
    socket->tcp = pica__sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0;
    socket->home = home;
    pica__call_init(&socket->home_call, home_run);
    pica__call_init(&socket->writable.call, writable_run);
    /* The first try of each side needs no event. */
    atomic_init(&socket->rd.state, PICA__SIDE_READY);
    atomic_init(&socket->wr.state, PICA__SIDE_READY);
    pica__op_init(&socket->rd.op, PICA__OP_POLL, fd, rd_complete);
    socket->rd.op.events = POLLIN | POLLRDHUP;
    socket->rd.op.multishot = true;
    pica__op_init(&socket->wr.op, PICA__OP_POLL, fd, wr_complete);
    socket->wr.op.events = POLLOUT;
    atomic_fetch_add_explicit(&home->rt->sockets, 1, memory_order_relaxed);
    pica__closer_add(home, &socket->closer);
    *out = socket;
    return 0;
}
