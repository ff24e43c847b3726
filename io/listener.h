/* Listeners of servers: connections come as callbacks on the listener's loop. */
#ifndef PICA__IO_LISTENER_H
#define PICA__IO_LISTENER_H

#include <stdbool.h>

#include <pica/net.h>

#include "runtime/loop.h"

enum {
    PICA__LISTEN_REUSE_PORT = 1,       /* SO_REUSEPORT before the bind */
    /* ... after it, so that a second copy of the program fails to bind, and further listeners of this one do
     * not */
    PICA__LISTEN_REUSE_PORT_LATER = 2,
    PICA__LISTEN_ONLY_IPV6 = 4         /* an IPv6 socket takes no IPv4, also if it is for all interfaces */
};
/* Binds and listens: a descriptor, the caller's. flags: of PICA__LISTEN_... Errors as pica_listen. */
int pica__listener_bind(const pica_address *address, const struct pica_listen_options *options,
                        unsigned flags);

struct pica__listener_use {
    void (*accepted)(void *arg, int fd); /* a connection; fd is the callee's */
    /* Asked before each accept, on the home loop; false: not before pica__listener_resume. NULL: always. */
    bool (*may_accept)(void *arg);
    /* Asked by the worker of another loop that accepts because the home loop's is held up, perhaps for a moment only:
     * whether it may take one without making loops uneven. NULL: yes. */
    bool (*fits)(void *arg);
    bool shared; /* with other processes: connections in the backlog may be theirs as well */
};

/* What a listener needs, before anything begins: *use is copied. -ENOMEM. Before anybody else knows the socket, or
 * by its only user. */
int pica__listener_make(pica_socket *listener, const struct pica__listener_use *use, void *arg);
/* Gives that back, instead of starting. */
void pica__listener_unmake(pica_socket *listener);
/* use->accepted(arg, fd) for each connection, on the home loop, until stopped. Running out of descriptors or
 * memory pauses accepting, from 5 ms doubling to 1 s, and is logged once per pause series; connections
 * wait in the backlog meanwhile. */
void pica__listener_start(pica_socket *listener);
/* may_accept may say something else now. On the home loop. */
void pica__listener_resume(pica_socket *listener);
/* Takes what the kernel has established already, then ends; stopped(arg) is the last call, on the home
 * loop. Any thread of the runtime. Once. */
void pica__listener_stop(pica_socket *listener, void (*stopped)(void *arg), void *arg);

#endif
