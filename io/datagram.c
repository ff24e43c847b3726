/* Datagram endpoints: opening, closing, options, and one datagram at a time.
 *
 * Data moves by plain non-blocking calls; what waits is the socket's side, by readiness (socket.h). For
 * datagrams only -EAGAIN, or a batch that came back short, says that the kernel has no more; it sets
 * `drained`, without which the next wait would not wait.
 *
 * Why not multishot RECVMSG on the ring: it needs buffers that the kernel owns, large enough for the longest
 * datagram or else truncating those that the caller has room for; each datagram costs a completion, a
 * header before the payload and a copy into the caller's buffer; cancelling it must not lose what it has
 * taken already. recvmmsg gets a batch straight into the caller's buffers, and a wait for readiness takes
 * nothing, so it can be cancelled, repeated and taken over by other workers. bench/floor has both kinds of
 * raw servers.
 *
 * Sends do not claim a turn: a datagram is sent whole or not at all, so those of several tasks cannot mix.
 */
#include "io/datagram.h"
#include "io/bind.h"

#include <netinet/in.h>

#include "runtime/base/compiler.h"
#include "runtime/base/sim/sys.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_message.h"
#include "runtime/rt.h"
#include "runtime/task.h"

/* --- opening --- */

static int set_int(int fd, int level, int name, int value) {
    return pica__sys_setsockopt(fd, level, name, &value, sizeof value);
}

/* Groups that others on this machine joined are not heard: Linux would, by default. */
static void hear_own_groups_only(int fd, int family) {
    if (family == AF_INET) {
        (void)set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    } else if (family == AF_INET6) {
        (void)set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0); /* kernels before 4.20 do not know it */
        (void)set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);     /* in so far as it hears IPv4 */
    }
}

static int set_options(int fd, int family, const struct pica_datagram_options *options) {
    int rc = 0;
    if (options->reuse_addr != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    if (rc == 0 && options->reuse_port != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0 && options->broadcast != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_BROADCAST, 1);
    }
    if (rc == 0 && family == AF_INET6) {
        rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, options->v6only != 0);
    }
    if (rc == 0 && options->receive_buffer != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_RCVBUF, options->receive_buffer);
    }
    if (rc == 0 && options->send_buffer != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_SNDBUF, options->send_buffer);
    }
    return rc;
}

static int open_fd(int family) {
    return pica__sys_socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* fd stays the caller's on failure. */
static int prepare(int fd, const pica_address *local, const pica_address *remote,
                   const struct pica_datagram_options *options) {
    int family = (local != NULL ? local : remote)->storage.ss_family;
    hear_own_groups_only(fd, family);
    int rc = set_options(fd, family, options);
    if (rc == 0 && local != NULL) {
        rc = pica__bind(fd, local);
    }
    if (rc == 0 && remote != NULL) {
        rc = pica__sys_connect(fd, (const struct sockaddr *)&remote->storage, remote->length);
        if (rc < 0 && local != NULL) {
            pica__unbind(local);
        }
    }
    return rc;
}

static int adopt(pica_datagram_endpoint **out, int fd, int family, pica_loop *home) {
    pica_socket *socket;
    int rc = pica__socket_adopt_tail(&socket, fd, home, sizeof **out);
    if (rc == 0) {
        pica_datagram_endpoint *endpoint = pica__socket_tail(socket);
        pica__lock_init(&endpoint->lock);
        endpoint->family = family;
        pica__list_init(&endpoint->readers);
        pica__list_init(&endpoint->writers);
        *out = endpoint;
    }
    return rc;
}

static bool valid(const pica_address *local, const pica_address *remote,
                  const struct pica_datagram_options *options, const pica_loop *current) {
    if (options->size != sizeof *options || options->receive_buffer < 0 ||
        options->send_buffer < 0 || (local == NULL && remote == NULL)) {
        return false;
    }
    if (local != NULL && remote != NULL &&
        local->storage.ss_family != remote->storage.ss_family) {
        return false;
    }
    return options->loop == NULL || options->loop->rt == current->rt;
}

int pica_datagram_open(pica_datagram_endpoint **out, const pica_address *local,
                       const pica_address *remote, const struct pica_datagram_options *options) {
    static const struct pica_datagram_options defaults = PICA_DATAGRAM_OPTIONS_INIT;
    pica_loop *loop = pica_current_loop();
    if (loop == NULL) {
        return PICA_ENOTASK;
    }
    if (options == NULL) {
        options = &defaults;
    }
    if (!valid(local, remote, options, loop)) {
        return -EINVAL;
    }
    int family = (local != NULL ? local : remote)->storage.ss_family;
    int fd = open_fd(family);
    if (fd < 0) {
        return fd;
    }
    int rc = prepare(fd, local, remote, options);
    if (rc == 0) {
        rc = adopt(out, fd, family, options->loop != NULL ? options->loop : loop);
        if (rc < 0 && local != NULL) {
            pica__unbind(local);
        }
    }
    if (rc < 0) {
        (void)pica__sys_close(fd);
    }
    return rc;
}

void pica_datagram_close(pica_datagram_endpoint *endpoint) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    if (pica__socket_begin(socket, 0) == 0) { /* else it is closed, maybe with its runtime */
        pica_socket_close(pica__socket_ref(socket));
        pica__socket_end(socket, 0);
    }
}

void pica_datagram_release(pica_datagram_endpoint *endpoint) {
    if (endpoint != NULL) {
        pica_datagram_close(endpoint);
        pica__socket_unref(pica__datagram_socket(endpoint));
    }
}

/* --- receiving --- */

struct received {
    void *buffer;
    size_t size;
    pica_address *from;
};

/* In the read turn. */
static ssize_t recv_once(pica_datagram_endpoint *endpoint, const struct received *to) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    struct sockaddr *from = NULL;
    socklen_t *length = NULL;
    uint32_t seen = atomic_load_explicit(&socket->rd.state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0 || seen == socket->rd.drained) {
        return -EAGAIN;
    }
    if (to->from != NULL) {
        /* The kernel leaves the address alone if the sender has none. */
        to->from->storage.ss_family = AF_UNSPEC;
        to->from->length = sizeof to->from->storage;
        from = (struct sockaddr *)&to->from->storage;
        length = &to->from->length;
    }
    ssize_t n;
    do {
        n = PICA__UNLIKELY(socket->plain)
                ? pica__sim_recvfrom(socket->fd, to->buffer, to->size, from, length)
                : pica__sys_recvfrom(socket->fd, to->buffer, to->size, MSG_DONTWAIT | MSG_TRUNC, from,
                                     length);
    } while (n == -EINTR);
    if (n == -EAGAIN) {
        socket->rd.drained = seen & ~(uint32_t)PICA__SIDE_LOCKED;
    }
    return n;
}

ssize_t pica_datagram_recv(pica_datagram_endpoint *endpoint, void *buffer, size_t size,
                           pica_address *from, unsigned *flags) {
    ssize_t n = pica__datagram_read_begin(endpoint);
    if (n < 0) {
        return n;
    }
    struct received to = {buffer, size, from};
    do {
        n = pica__datagram_read_pace(endpoint);
        if (PICA__LIKELY(n == 0)) {
            n = recv_once(endpoint, &to);
        }
    } while (n == -EAGAIN && (n = pica__datagram_read_wait(endpoint)) == 0);
    if (flags != NULL) {
        *flags = n > 0 && (size_t)n > size ? PICA_DATAGRAM_TRUNCATED : 0;
    }
    pica__datagram_read_end(endpoint);
    return n;
}

/* --- sending --- */

struct sending {
    const void *buffer;
    size_t size;
    const pica_address *to;
};

static ssize_t send_once(pica_datagram_endpoint *endpoint, void *arg) {
    const struct sending *what = arg;
    pica_socket *socket = pica__datagram_socket(endpoint);
    bool paced = pica__datagram_paced(endpoint, what->to != NULL);
    uint32_t seen = atomic_load_explicit(&socket->wr.state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0 && !paced) {
        return -EAGAIN;
    }
    const struct sockaddr *to =
        what->to != NULL ? (const struct sockaddr *)&what->to->storage : NULL;
    unsigned length = what->to != NULL ? what->to->length : 0;
    ssize_t n;
    do {
        n = PICA__UNLIKELY(socket->plain)
                ? pica__sim_sendto(socket->fd, what->buffer, what->size, to, length)
                : pica__sys_sendto(socket->fd, what->buffer, what->size, MSG_DONTWAIT | MSG_NOSIGNAL, to,
                                   length);
    } while (n == -EINTR);
    if (n == -EAGAIN && !paced) {
        pica__socket_clear_writable(socket, seen);
    }
    return n;
}

int pica_datagram_send(pica_datagram_endpoint *endpoint, const void *buffer, size_t size,
                       const pica_address *to) {
    struct sending what = {buffer, size, to};
    ssize_t n = pica__datagram_write(endpoint, pica__datagram_paced(endpoint, to != NULL), send_once,
                                     &what);
    return n < 0 ? (int)n : 0;
}

/* --- options --- */

int pica_datagram_name(pica_datagram_endpoint *endpoint, pica_address *address) {
    return pica_socket_name(pica__datagram_socket(endpoint), address);
}

int pica_datagram_peer(pica_datagram_endpoint *endpoint, pica_address *address) {
    return pica_socket_peer(pica__datagram_socket(endpoint), address);
}

int pica_datagram_setopt(pica_datagram_endpoint *endpoint, int level, int name, const void *value,
                         socklen_t length) {
    return pica_socket_setopt(pica__datagram_socket(endpoint), level, name, value, length);
}

int pica_datagram_getopt(pica_datagram_endpoint *endpoint, int level, int name, void *value,
                         socklen_t *length) {
    return pica_socket_getopt(pica__datagram_socket(endpoint), level, name, value, length);
}

/* One option that has two names. */
static int set_ip(pica_datagram_endpoint *endpoint, int name, int name6, int value) {
    if (endpoint->family != AF_INET && endpoint->family != AF_INET6) {
        return -EINVAL;
    }
    bool six = endpoint->family == AF_INET6;
    return pica_datagram_setopt(endpoint, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? name6 : name, &value,
                                sizeof value);
}

/* -1 means "the default" to the kernel, in some of these. */
static bool is_ttl(int value, int least) {
    return value >= least && value <= 255;
}

int pica_datagram_set_ttl(pica_datagram_endpoint *endpoint, int ttl) {
    return is_ttl(ttl, 1) ? set_ip(endpoint, IP_TTL, IPV6_UNICAST_HOPS, ttl) : -EINVAL;
}

int pica_datagram_set_multicast_ttl(pica_datagram_endpoint *endpoint, int ttl) {
    return is_ttl(ttl, 0) ? set_ip(endpoint, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, ttl) : -EINVAL;
}

int pica_datagram_set_multicast_loop(pica_datagram_endpoint *endpoint, int on) {
    return set_ip(endpoint, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, on != 0);
}

int pica_datagram_set_multicast_interface(pica_datagram_endpoint *endpoint,
                                          unsigned interface_index) {
    if (endpoint->family == AF_INET) {
        struct ip_mreqn request = {.imr_ifindex = (int)interface_index};
        return pica_datagram_setopt(endpoint, IPPROTO_IP, IP_MULTICAST_IF, &request,
                                    sizeof request);
    }
    return set_ip(endpoint, 0, IPV6_MULTICAST_IF, (int)interface_index);
}

static int membership(pica_datagram_endpoint *endpoint, int name, const pica_address *group,
                      unsigned interface_index) {
    int family = group->storage.ss_family;
    if (family != endpoint->family || (family != AF_INET && family != AF_INET6)) {
        return -EINVAL;
    }
    struct group_req request = {.gr_interface = interface_index, .gr_group = group->storage};
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&group->storage;
    if (family == AF_INET6 && interface_index == 0) {
        request.gr_interface = six->sin6_scope_id;
    }
    return pica_datagram_setopt(endpoint, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, name,
                                &request, sizeof request);
}

int pica_datagram_join(pica_datagram_endpoint *endpoint, const pica_address *group,
                       unsigned interface_index) {
    return membership(endpoint, MCAST_JOIN_GROUP, group, interface_index);
}

int pica_datagram_leave(pica_datagram_endpoint *endpoint, const pica_address *group,
                        unsigned interface_index) {
    return membership(endpoint, MCAST_LEAVE_GROUP, group, interface_index);
}
