/* Datagrams: endpoints of UDP (IPv4, IPv6, multicast) and of Unix datagram sockets, as asyncio's
 * create_datagram_endpoint makes them, but with calls that wait in place of a protocol's callbacks.
 *
 * A server that uses all cores opens one endpoint for each loop, all on one address with reuse_port, each
 * with `loop` set, and receives from it in a task whose home is that loop (pica_task_options.loop): the
 * kernel deals the senders out by a hash of their addresses, and nothing crosses threads. */
#ifndef PICA_DATAGRAM_H
#define PICA_DATAGRAM_H

#include <pica/base.h>
#include <pica/net.h>

PICA_BEGIN_DECLS

typedef struct pica_datagram_endpoint pica_datagram_endpoint;

struct pica_datagram_options {
    size_t size;        /* sizeof(struct pica_datagram_options) */
    pica_loop *loop;    /* home of the endpoint, which waits for the kernel; NULL: the current loop */
    int reuse_port;     /* 1: several endpoints on one address, if all ask for it; each datagram goes to
                         * one of them */
    int reuse_addr;     /* 1: the address may be in use. For multicast, where each receiver gets a copy;
                         * other datagrams go to the one bound last, so whoever may bind can steal them */
    int broadcast;      /* 1: may send to broadcast addresses (-EACCES otherwise) */
    int v6only;         /* 1: an IPv6 endpoint has no part in IPv4; 0: it has, as ::ffff:a.b.c.d */
    int receive_buffer; /* bytes the kernel keeps for the endpoint, 0: the system's default. The kernel */
    int send_buffer;    /* doubles them for its own needs, and caps them (net.core.rmem_max, wmem_max) */
};
#define PICA_DATAGRAM_OPTIONS_INIT { sizeof(struct pica_datagram_options), NULL, 0, 0, 0, 0, 0, 0 }

/* The datagram was longer than the buffer; the rest of it is lost. */
enum { PICA_DATAGRAM_TRUNCATED = 1 };

/* Opens an endpoint. local: the address to receive on (port 0: the kernel chooses), NULL: chosen with the
 * first send. remote: the only peer, to which sends go without an address and from which alone is
 * received; NULL: any. At least one of them; both of one family; both are copied. options may be NULL. A
 * Unix socket file at local that nobody has open any more is replaced; whoever opened an endpoint on a file
 * removes it. *out gets a reference, dropped by pica_datagram_release. Does not suspend. Runtime.
 * Errors: -EINVAL (options, addresses), PICA_ENOTASK outside a runtime, -EADDRINUSE, -EADDRNOTAVAIL,
 * -EACCES, -EAFNOSUPPORT, -ENETUNREACH, -ECONNREFUSED (a Unix peer that nobody has open), -EMFILE, -ENFILE,
 * -ENOBUFS, -ENOMEM, and others of bind(2) and connect(2). */
PICA_API int pica_datagram_open(pica_datagram_endpoint **out, const pica_address *local,
                                const pica_address *remote,
                                const struct pica_datagram_options *options);
/* Ends the endpoint: calls that wait on it, and all later ones, return PICA_ECLOSED; then the descriptor is
 * closed, by the home loop, maybe a little later. A second close does nothing. Endpoints that are open when
 * the runtime closes are closed by it. Does not suspend. Runtime. */
PICA_API void pica_datagram_close(pica_datagram_endpoint *endpoint);
/* Closes the endpoint if it is open, and drops the caller's reference: no other call may begin afterwards, so
 * where several tasks use an endpoint, close it, await them, and release it then. NULL is allowed. Does not
 * suspend. Runtime, and any thread once the runtime was closed. */
PICA_API void pica_datagram_release(pica_datagram_endpoint *endpoint);

/* Receives one datagram: its length, which may be 0. Of one that is longer than size the first size bytes
 * are stored, the whole length is returned all the same, and *flags (may be NULL) has
 * PICA_DATAGRAM_TRUNCATED; otherwise it is 0. *from (may be NULL) is the sender; its length is 0 for one
 * without an address (Unix). Several tasks may receive: each gets whole datagrams, in the order in which
 * they asked. Suspends until there is one. Task.
 * Errors: PICA_ECANCELED (nothing was taken), PICA_ECLOSED, PICA_ENOTASK; -ECONNREFUSED once after the
 * peer of a connected endpoint turned a datagram away (it goes to the first call of receive or send after
 * that; the endpoint remains usable); other errors of recv(2). */
PICA_API ssize_t pica_datagram_recv(pica_datagram_endpoint *endpoint, void *buffer, size_t size,
                                    pica_address *from, unsigned *flags);
/* Sends one datagram, which may be empty, to `to`, or with NULL to the peer of a connected endpoint. Whole
 * or not at all; that it was sent does not say that it will arrive. 0 or an error. Several tasks may send.
 * Suspends while the kernel has no room. (For a Unix receiver that does not keep up and is named by `to` the
 * kernel tells nobody when there is room: the call tries again, after 1 ms to 16 ms.) Task.
 * Errors: -EMSGSIZE, -EDESTADDRREQ or -ENOTCONN (no address and no peer), -EINVAL (the address),
 * -EACCES (broadcast), -ECONNREFUSED (see pica_datagram_recv: this datagram was not sent), -ENETUNREACH,
 * -EPERM (a filter) and others of sendto(2); PICA_ECANCELED (nothing was sent), PICA_ECLOSED,
 * PICA_ENOTASK. */
PICA_API int pica_datagram_send(pica_datagram_endpoint *endpoint, const void *buffer, size_t size,
                                const pica_address *to);

/* One datagram of a batch. Memory and buffer are the caller's. */
struct pica_datagram {
    void *buffer;
    size_t size;          /* of the buffer */
    size_t length;        /* of the datagram: told by receives, asked by sends. See pica_datagram_recv */
    unsigned flags;       /* told by receives: 0 or PICA_DATAGRAM_TRUNCATED */
    pica_address address; /* told by receives: the sender; of sends: to whom, length 0: to the peer */
};

/* Receives the datagrams that have come, up to n, with few system calls; suspends only until there is one.
 * Returns how many were filled in, beginning with the first, at least 1 (0 if n is 0). Sets all fields but
 * buffer and size. Errors as pica_datagram_recv, and -ENOMEM (nothing was taken); with an error nothing was
 * taken. Task. */
PICA_API int pica_datagram_recv_many(pica_datagram_endpoint *endpoint, struct pica_datagram *array,
                                     unsigned n);
/* Sends the datagrams of the array in order, with one system call, until one fails or the kernel is full;
 * suspends only while there is no room for the first. Returns how many were sent, at least 1 (0 if n is 0);
 * what became of the next one, the following call tells. Errors, all about the first, as
 * pica_datagram_send; -EINVAL if its length is greater than its size; -ENOMEM. With an error nothing was
 * sent. Task. */
PICA_API int pica_datagram_send_many(pica_datagram_endpoint *endpoint,
                                     const struct pica_datagram *array, unsigned n);

/* --- none of the calls below suspends; all: 0, PICA_ECLOSED, or an error of the system call. Runtime --- */

/* The local address; the peer's (-ENOTCONN without one). */
PICA_API int pica_datagram_name(pica_datagram_endpoint *endpoint, pica_address *address);
PICA_API int pica_datagram_peer(pica_datagram_endpoint *endpoint, pica_address *address);
/* Joins and leaves a multicast group on an interface: an index, see if_nametoindex(3), or 0 for the one that
 * the kernel's routes say, or the scope of an IPv6 address. group's port is not looked at. An endpoint hears
 * the groups that it joined (and not, as by Linux's default, all that anybody on the machine joined).
 * -EINVAL (no multicast address, or of another family), -EADDRINUSE (joined already), -EADDRNOTAVAIL (not
 * joined), -ENODEV, -ENOBUFS. */
PICA_API int pica_datagram_join(pica_datagram_endpoint *endpoint, const pica_address *group,
                                unsigned interface_index);
PICA_API int pica_datagram_leave(pica_datagram_endpoint *endpoint, const pica_address *group,
                                 unsigned interface_index);
/* How many routers a datagram may pass, plus one (time to live, hop limit): 1 to 255 for one to a single
 * receiver, 0 to 255 (0: not beyond this machine; default 1) for multicast. -EINVAL. */
PICA_API int pica_datagram_set_ttl(pica_datagram_endpoint *endpoint, int ttl);
PICA_API int pica_datagram_set_multicast_ttl(pica_datagram_endpoint *endpoint, int ttl);
/* Whether what is sent to a group reaches members on this machine too: 1 (the default) or 0. */
PICA_API int pica_datagram_set_multicast_loop(pica_datagram_endpoint *endpoint, int on);
/* The interface for multicast that is sent: an index; 0: the one that the kernel's routes say. */
PICA_API int pica_datagram_set_multicast_interface(pica_datagram_endpoint *endpoint,
                                                   unsigned interface_index);
/* setsockopt(2) and getsockopt(2). Not for SO_RCVTIMEO and SO_SNDTIMEO: see pica_timeout_enter. */
PICA_API int pica_datagram_setopt(pica_datagram_endpoint *endpoint, int level, int name,
                                  const void *value, socklen_t length);
PICA_API int pica_datagram_getopt(pica_datagram_endpoint *endpoint, int level, int name, void *value,
                                  socklen_t *length);

PICA_END_DECLS
#endif
