/* Connecting, listening, accepting one by one.
 *
 * Connect goes through the ring: it covers every family's way of being slow (TCP's handshake, a full
 * Unix backlog). The operation lies on the waiting task's stack; a canceller on any thread asks the
 * ring's owner to cancel it, and the task goes on when the terminal completion has come:
 *
 *     IDLE --cancel (any thread)--> ASKED --message (owner)--> CANCELLING --completion--> fired
 *     IDLE --completion (owner)--> DONE: fired
 *     ASKED --completion (owner)--> DONE: fired by the message, which lies on the same stack
 */
#include "io/socket.h"

#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "io/listener.h"
#include "runtime/base/sys.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/worker.h"

enum { IDLE, ASKED, CANCELLING, DONE };

struct op_wait {
    pica__wait wait;
    pica__op op;
    pica_loop *loop;   /* whose engine has the operation */
    pica__call cancel;
    int result;
    /* See above. Compare-and-swapped by cancellers, exchanged by the owner; acq_rel. */
    _Atomic uint32_t state;
};

static bool op_cancel(pica__wait *wait) {
    struct op_wait *w = PICA__CONTAINER_OF(wait, struct op_wait, wait);
    uint32_t expected = IDLE;
    if (atomic_compare_exchange_strong(&w->state, &expected, ASKED)) {
        pica__call_soon(w->loop, &w->cancel);
    }
    return false; /* it ends by its completion */
}

static const struct pica__wait_ops op_wait_ops = {"operation", op_cancel};

static void op_cancel_at_owner(pica__call *call) {
    struct op_wait *w = PICA__CONTAINER_OF(call, struct op_wait, cancel);
    uint32_t expected = ASKED;
    if (atomic_compare_exchange_strong(&w->state, &expected, CANCELLING)) {
        pica__engine_cancel(w->loop->engine, &w->op);
    } else {
        pica__wait_fire(&w->wait, w->result);
    }
}

static void op_complete(pica__op *op, int result, bool more) {
    struct op_wait *w = PICA__CONTAINER_OF(op, struct op_wait, op);
    (void)more;
    w->result = result;
    if (atomic_exchange(&w->state, DONE) != ASKED) {
        pica__wait_fire(&w->wait, result);
    }
}

static bool op_commit(pica__wait *wait) {
    struct op_wait *w = PICA__CONTAINER_OF(wait, struct op_wait, wait);
    w->loop = pica__self()->loop;
    if (!pica__wait_publish(wait)) {
        return false;
    }
    int rc = pica__engine_submit(w->loop->engine, &w->op);
    if (rc < 0) {
        op_complete(&w->op, rc, false);
    }
    return true;
}

/* Runs one operation on the present worker's ring; its result. A kernel's ECANCELED is the task's only
 * if the task was cancelled. */
static int op_run(pica_task *task, struct op_wait *w) {
    w->wait = (pica__wait){&op_wait_ops, task, NULL, 0};
    pica__call_init(&w->cancel, op_cancel_at_owner);
    atomic_init(&w->state, IDLE);
    int rc = pica__suspend(&w->wait, op_commit);
    if (rc == -ECANCELED) {
        (void)pica__cancel_take(task);
    }
    return rc;
}

int pica_connect(pica_socket **out, const pica_address *address) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (pica__cancel_take(task)) {
        return PICA_ECANCELED;
    }
    int fd = pica__socket_open(address, false);
    if (fd < 0) {
        return fd;
    }
    struct op_wait w;
    pica__op_init(&w.op, PICA__OP_CONNECT, fd, op_complete);
    w.op.address = (const struct sockaddr *)&address->storage;
    w.op.address_length = address->length;
    int rc = op_run(task, &w);
    if (rc == 0) {
        rc = pica__socket_adopt(out, fd, task->loop);
    }
    if (rc < 0) {
        (void)pica__sys_close(fd);
    }
    return rc;
}

/* --- listening --- */

/* A Unix socket file that nobody listens on is in the way of bind: it is removed. */
static void unlink_stale(const pica_address *address) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    struct stat st;
    if (un->sun_path[0] == 0 || pica__sys_lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    int probe = pica__socket_open(address, true);
    if (probe < 0) {
        return;
    }
    if (pica__sys_connect(probe, (const struct sockaddr *)un, address->length) == -ECONNREFUSED) {
        (void)pica__sys_unlink(un->sun_path);
    }
    (void)pica__sys_close(probe);
}

static int set_int(int fd, int level, int name, int value) {
    return pica__sys_setsockopt(fd, level, name, &value, sizeof value);
}

static bool is_any6(const pica_address *address) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    return IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

static int bind_to(int fd, const pica_address *address) {
    const struct sockaddr *sa = (const struct sockaddr *)&address->storage;
    int rc = pica__sys_bind(fd, sa, address->length);
    if (rc == -EADDRINUSE && address->storage.ss_family == AF_UNIX) {
        unlink_stale(address);
        rc = pica__sys_bind(fd, sa, address->length);
    }
    return rc;
}

static int listen_on(int fd, const pica_address *address, const struct pica_listen_options *options,
                     bool reuse_port_later, bool reuse_port) {
    int family = address->storage.ss_family;
    int rc = 0;
    if (family != AF_UNIX) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    if (rc == 0 && reuse_port) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0 && family == AF_INET6 && is_any6(address)) {
        rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* whatever the system's default */
    }
    if (rc == 0) {
        rc = bind_to(fd, address);
    }
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    if (rc == 0 && family == AF_UNIX && options->unix_mode != 0 && un->sun_path[0] != 0) {
        rc = pica__sys_chmod(un->sun_path, options->unix_mode);
    }
    if (rc == 0 && reuse_port_later) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0) {
        rc = pica__sys_listen(fd, options->backlog != 0 ? options->backlog : 1024);
    }
    return rc;
}

int pica__listener_open(pica_socket **out, pica_loop *home, const pica_address *address,
                        const struct pica_listen_options *options, bool reuse_port_later,
                        bool reuse_port) {
    static const struct pica_listen_options defaults = PICA_LISTEN_OPTIONS_INIT;
    if (options == NULL) {
        options = &defaults;
    }
    if (options->size != sizeof *options || options->backlog < 0) {
        return -EINVAL;
    }
    int fd = pica__socket_open(address, true);
    if (fd < 0) {
        return fd;
    }
    int rc = listen_on(fd, address, options, reuse_port_later, reuse_port);
    if (rc == 0) {
        rc = pica__socket_adopt(out, fd, home);
    }
    if (rc < 0) {
        (void)pica__sys_close(fd);
    }
    return rc;
}

int pica_listen(pica_socket **out, const pica_address *address,
                const struct pica_listen_options *options) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK
                        : pica__listener_open(out, loop, address, options, false, false);
}

static int accept_once(pica_socket *listener, pica_address *peer) {
    int rc = pica__socket_use(listener);
    if (rc < 0) {
        return rc;
    }
    pica_address ignored;
    pica_address *to = peer != NULL ? peer : &ignored;
    uint32_t seen = atomic_load_explicit(&listener->rd.state, memory_order_acquire);
    do {
        to->length = sizeof to->storage;
        rc = pica__sys_accept4(listener->fd, (struct sockaddr *)&to->storage, &to->length,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
        /* ECONNABORTED: the peer left the queue; look at the next one. */
    } while (rc == -EINTR || rc == -ECONNABORTED);
    if (rc == -EAGAIN) {
        pica__socket_clear_readable(listener, seen);
    }
    pica__socket_unuse(listener);
    return rc;
}

int pica_accept(pica_socket *listener, pica_socket **out, pica_address *peer) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (pica__cancel_take(task)) {
        return PICA_ECANCELED;
    }
    int fd;
    do {
        fd = accept_once(listener, peer);
    } while (fd == -EAGAIN && (fd = pica__socket_wait_readable(listener)) == 0);
    if (fd < 0) {
        return fd;
    }
    int rc = pica__socket_adopt(out, fd, task->loop);
    if (rc < 0) {
        (void)pica__sys_close(fd);
    }
    return rc;
}
