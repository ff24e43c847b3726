/* Sockets: making, uses, closing, and the calls on them. The rules stand in socket.h. */
#include "io/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/sys.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/task.h"

/* --- references and uses --- */

pica_socket *pica__socket_ref(pica_socket *socket) {
    atomic_fetch_add_explicit(&socket->refs, 1, memory_order_relaxed);
    return socket;
}

void pica__socket_unref(pica_socket *socket) {
    if (socket != NULL &&
        atomic_fetch_sub_explicit(&socket->refs, 1, memory_order_acq_rel) == 1) {
        PICA__CHECK(socket->fd < 0);
        pica__free(socket, PICA__SOCKET_SIZE + (size_t)socket->tail * PICA__TAIL_UNIT);
    }
}

int pica__socket_begin(pica_socket *socket, uint32_t flag) {
    uint32_t old = atomic_load_explicit(&socket->use, memory_order_relaxed);
    do {
        uint32_t over = flag == PICA__SOCKET_READING ? PICA__SOCKET_CLOSED | PICA__SOCKET_RELEASED
                                                     : PICA__SOCKET_CLOSED;
        if (PICA__UNLIKELY((old & over) != 0)) {
            return PICA_ECLOSED;
        }
        if (PICA__UNLIKELY((old & flag) != 0)) {
            return -EBUSY;
        }
    } while (!atomic_compare_exchange_weak_explicit(&socket->use, &old,
                                                    (old | flag) + PICA__SOCKET_USE,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return 0;
}

/* The last use of a closed socket has ended. */
static PICA__NOINLINE void used_up(pica_socket *socket) {
    PICA__MOVED(SOCKET, PICA__SOCKET_CLOSING, PICA__SOCKET_GONE);
    pica__closer_remove(socket->home, &socket->closer);
    (void)pica__sys_close(socket->fd);
    socket->fd = -1;
    pica_runtime *rt = socket->home->rt;
    pica__socket_unref(socket);
    pica__socket_gone(rt);
}

uint32_t pica__socket_end(pica_socket *socket, uint32_t flag) {
    uint32_t old = atomic_fetch_sub_explicit(&socket->use, PICA__SOCKET_USE + flag,
                                             memory_order_acq_rel);
    PICA__CHECK(old >= PICA__SOCKET_USE);
    if (PICA__UNLIKELY(old / PICA__SOCKET_USE == 1)) {
        used_up(socket);
    }
    return old;
}

uint32_t pica__socket_end_unless(pica_socket *socket, uint32_t flag, uint32_t unless) {
    uint32_t old = atomic_load_explicit(&socket->use, memory_order_relaxed);
    do {
        if ((old & unless) != 0) {
            return old;
        }
    } while (!atomic_compare_exchange_weak_explicit(&socket->use, &old,
                                                    old - PICA__SOCKET_USE - flag,
                                                    memory_order_acq_rel, memory_order_relaxed));
    if (PICA__UNLIKELY(old / PICA__SOCKET_USE == 1)) {
        used_up(socket);
    }
    return old;
}

int pica__socket_read_begin(pica_socket *socket) {
    return pica__socket_begin(socket, PICA__SOCKET_READING);
}

bool pica__socket_read_end(pica_socket *socket) {
    return (pica__socket_end(socket, PICA__SOCKET_READING) & PICA__SOCKET_RELEASED) != 0;
}

bool pica__socket_read_release(pica_socket *socket) {
    uint32_t old =
        atomic_fetch_or_explicit(&socket->use, PICA__SOCKET_RELEASED, memory_order_acq_rel);
    return (old & PICA__SOCKET_READING) == 0;
}

/* --- the public calls --- */

/* Entry of a kernel operation of the current task: a pending cancellation is delivered before
 * anything is taken. */
static int operation_begin(pica_socket *socket, uint32_t flag) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    int rc = pica__socket_begin(socket, flag);
    if (rc == 0 && pica__cancel_take(task)) {
        pica__socket_end(socket, flag);
        rc = PICA_ECANCELED;
    }
    return rc;
}

/* So much was received without a wait that it is the others' turn. In the reading turn. */
static PICA__NOINLINE int recv_turn(pica_socket *socket) {
    socket->rd.turn = 0;
    int rc = pica__yield_turn();
    bool closed =
        (atomic_load_explicit(&socket->use, memory_order_acquire) & PICA__SOCKET_CLOSED) != 0;
    return rc == 0 && closed ? PICA_ECLOSED : rc;
}

ssize_t pica_recv(pica_socket *socket, void *buffer, size_t size) {
    int rc = operation_begin(socket, PICA__SOCKET_READING);
    if (rc < 0) {
        return rc;
    }
    ssize_t n = 0;
    if (PICA__UNLIKELY(socket->rd.turn >= PICA__SOCKET_TURN)) {
        n = recv_turn(socket);
    }
    size = size < PICA__SOCKET_TURN ? size : PICA__SOCKET_TURN;
    while (n == 0) {
        n = pica__socket_recv_begun(socket, buffer, size);
        if (n > 0) {
            socket->rd.turn += (uint32_t)((size_t)n + PICA__SOCKET_TURN_CALL);
        }
        if (n != -EAGAIN) {
            break;
        }
        n = pica__socket_wait(socket, &socket->rd);
        socket->rd.turn = 0;
    }
    pica__socket_end(socket, PICA__SOCKET_READING);
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
        n = pica__socket_sendv_begun(socket, buffers, count);
    } while (n == -EAGAIN && (n = pica__socket_wait(socket, &socket->wr)) == 0);
    pica__socket_end(socket, PICA__SOCKET_WRITING);
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
        PICA__MOVED(SOCKET, PICA__SOCKET_OPEN, PICA__SOCKET_CLOSING);
        pica__socket_closing(socket);
    }
    pica__socket_unref(socket);
}

int pica_socket_shutdown(pica_socket *socket, int how) {
    int rc = pica__socket_begin(socket, 0);
    if (rc == 0) {
        rc = pica__sys_shutdown(socket->fd, how);
        pica__socket_end(socket, 0);
    }
    return rc;
}

int pica__socket_use(pica_socket *socket) {
    return pica__socket_begin(socket, 0);
}

void pica__socket_unuse(pica_socket *socket) {
    pica__socket_end(socket, 0);
}

int pica_socket_name(pica_socket *socket, pica_address *address) {
    int rc = pica__socket_begin(socket, 0);
    if (rc == 0) {
        address->length = sizeof address->storage;
        rc = pica__sys_getsockname(socket->fd, (struct sockaddr *)&address->storage,
                                   &address->length);
        pica__socket_end(socket, 0);
    }
    return rc;
}

int pica_socket_peer(pica_socket *socket, pica_address *address) {
    int rc = pica__socket_begin(socket, 0);
    if (rc == 0) {
        address->length = sizeof address->storage;
        rc = pica__sys_getpeername(socket->fd, (struct sockaddr *)&address->storage,
                                   &address->length);
        pica__socket_end(socket, 0);
    }
    return rc;
}

int pica_socket_setopt(pica_socket *socket, int level, int name, const void *value,
                       socklen_t length) {
    int rc = pica__socket_begin(socket, 0);
    if (rc == 0) {
        rc = pica__sys_setsockopt(socket->fd, level, name, value, length);
        pica__socket_end(socket, 0);
    }
    return rc;
}

int pica_socket_getopt(pica_socket *socket, int level, int name, void *value,
                       socklen_t *length) {
    int rc = pica__socket_begin(socket, 0);
    if (rc == 0) {
        rc = pica__sys_getsockopt(socket->fd, level, name, value, length);
        pica__socket_end(socket, 0);
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

void pica__socket_own(pica_socket *socket, void *owner, void (*pin)(pica__closer *closer),
                      void (*close)(pica__closer *closer)) {
    pica__lock(&socket->home->closers.lock);
    atomic_store_explicit(&socket->owner, owner, memory_order_relaxed);
    socket->closer.pin = pin;
    socket->closer.close = close;
    pica__unlock(&socket->home->closers.lock);
}

void *pica__socket_owner(pica__closer *closer) {
    return atomic_load_explicit(&PICA__CONTAINER_OF(closer, pica_socket, closer)->owner,
                                memory_order_relaxed);
}

void pica__socket_disown(pica_socket *socket) {
    pica__closer_remove(socket->home, &socket->closer);
}

int pica__socket_adopt(pica_socket **out, int fd, pica_loop *home) {
    return pica__socket_adopt_tail(out, fd, home, 0);
}

int pica__socket_adopt_tail(pica_socket **out, int fd, pica_loop *home, size_t size) {
    size_t units = (size + PICA__TAIL_UNIT - 1) / PICA__TAIL_UNIT;
    PICA__CHECK(units <= UINT8_MAX);
    pica_socket *socket = pica__zalloc(PICA__SOCKET_SIZE + units * PICA__TAIL_UNIT);
    if (socket == NULL) {
        return -ENOMEM;
    }
    socket->tail = (uint8_t)units;
    atomic_init(&socket->refs, 2);
    atomic_init(&socket->use, PICA__SOCKET_USE);
    socket->closer.pin = closer_pin;
    socket->closer.close = closer_close;
    socket->fd = fd;
    int one = 1; /* fails on all but TCP, which alone has such a delay; and says what is no socket */
    int rc = pica__sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    socket->tcp = rc == 0;
    socket->plain = rc == -ENOTSOCK || pica__sim_fd(fd); /* simulated ones move by the same calls */
    if (rc == -ENOTSOCK) {
        (void)pica__sys_fcntl(fd, F_SETFL, pica__sys_fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
    }
    socket->home = home;
    pica__socket_sides_init(socket);
    atomic_fetch_add_explicit(&home->rt->sockets, 1, memory_order_relaxed);
    pica__closer_add(home, &socket->closer);
    *out = socket;
    return 0;
}
