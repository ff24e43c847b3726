/* Connecting, listening, accepting one by one.
 *
 * Connect goes through the ring: it covers every family's way of being slow (TCP's handshake, a full
 * Unix backlog).
 */
#include "io/socket.h"

#include <netinet/in.h>
#include <sys/un.h>

#include "io/bind.h"
#include "io/listener.h"
#include "io/operation.h"
#include "runtime/base/sys.h"
#include "runtime/task.h"

int pica_connect(pica_socket **out, const pica_address *address) {
    pica_task *task;
    int begun = pica__operation_begin(&task);
    if (begun < 0) {
        return begun;
    }
    int fd = pica__socket_open(address, false);
    if (fd < 0) {
        return fd;
    }
    pica__op_connect connect = {.address = (const struct sockaddr *)&address->storage,
                                .length = address->length};
    pica__op_init(&connect.op, PICA__OP_CONNECT, fd, NULL);
    int rc = pica__operation_run(task, &connect.op);
    if (rc == 0) {
        rc = pica__socket_adopt(out, fd, task->loop);
    }
    if (rc < 0) {
        (void)pica__sys_close(fd);
    }
    return rc;
}

/* --- listening --- */

static int set_int(int fd, int level, int name, int value) {
    return pica__sys_setsockopt(fd, level, name, &value, sizeof value);
}

static bool is_any6(const pica_address *address) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    return IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

static int bind_to(int fd, const pica_address *address, unsigned flags) {
    int family = address->storage.ss_family;
    int rc = 0;
    if (family != AF_UNIX) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    if (rc == 0 && (flags & PICA__LISTEN_REUSE_PORT) != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0 && family == AF_INET6 && is_any6(address)) { /* whatever the system's default */
        rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, (flags & PICA__LISTEN_ONLY_IPV6) != 0);
    }
    return rc == 0 ? pica__bind(fd, address) : rc;
}

/* What is left to do when it is bound; the backlog is made last. */
static int listen_bound(int fd, const pica_address *address, const struct pica_listen_options *options,
                        unsigned flags) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    int rc = 0;
    if (un->sun_family == AF_UNIX && options->unix_mode != 0 && un->sun_path[0] != 0) {
        rc = pica__sys_chmod(un->sun_path, options->unix_mode);
    }
    if (rc == 0 && (flags & PICA__LISTEN_REUSE_PORT_LATER) != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0) {
        rc = pica__sys_listen(fd, options->backlog != 0 ? options->backlog : 1024);
    }
    if (rc < 0) {
        pica__unbind(address);
    }
    return rc;
}

int pica__listener_bind(const pica_address *address, const struct pica_listen_options *options,
                        unsigned flags) {
    static const struct pica_listen_options defaults = PICA_LISTEN_OPTIONS_INIT;
    if (options == NULL) {
        options = &defaults;
    }
    if (options->size != sizeof *options || options->backlog < 0) {
        return -EINVAL;
    }
    int fd = pica__socket_open(address, true);
    int rc = fd < 0 ? fd : bind_to(fd, address, flags);
    rc = rc < 0 ? rc : listen_bound(fd, address, options, flags);
    if (rc < 0 && fd >= 0) {
        (void)pica__sys_close(fd);
    }
    return rc < 0 ? rc : fd;
}

int pica_listen(pica_socket **out, const pica_address *address,
                const struct pica_listen_options *options) {
    pica_loop *loop = pica_current_loop();
    if (loop == NULL) {
        return PICA_ENOTASK;
    }
    int fd = pica__listener_bind(address, options, 0);
    int rc = fd < 0 ? fd : pica__socket_adopt(out, fd, loop);
    if (rc < 0 && fd >= 0) {
        pica__unbind(address);
        (void)pica__sys_close(fd);
    }
    return rc;
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
    pica_task *task;
    int begun = pica__operation_begin(&task);
    if (begun < 0) {
        return begun;
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
