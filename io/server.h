/* A server, inside: what its parts, server_start.c (making it, opening its listeners), server.c (the listeners'
 * life, the end) and server_clients.c (connections) share. The rules stand at the head of server.c. */
#ifndef PICA__IO_SERVER_H
#define PICA__IO_SERVER_H

#include <pica/stream.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include <pica/loop.h>
#include <pica/sync.h>
#include <pica/task.h>

#include "io/listener.h"
#include "io/socket.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"
#include "runtime/loop.h"

/* A loop, as this server sees it. */
struct pica__place {
    pica_server *server;
    pica_loop *loop;
    size_t connections;    /* under the lock */
    /* When a dropped connection was logged last. Written by whoever accepts here; relaxed, a hint. */
    _Atomic int64_t warned;
};

/* A listener: one address on one loop. */
struct pica__door {
    struct pica__place *place; /* constant; NULL if this one was not needed */
    int fd;                /* bound, and not yet a socket: while the server is made; else -1 */
    pica_socket *listener; /* NULL if there is none, or it was closed; from the start on used by the
                            * place's loop only */
    pica__call closed;     /* runs behind the close of the listener's descriptor */
};

struct pica_server {
    _Atomic uint32_t references; /* incremented by holders (relaxed), decremented acq_rel */
    pica_client_connected handler;
    void *arg;
    size_t limit;
    size_t max_connections; /* 0: no limit; constant, as what follows */
    struct pica__tuning {
        bool delay;          /* Nagle's algorithm stays on */
        int keepalive;       /* seconds, 0: off */
        int receive_buffer;  /* bytes, 0: the system's */
        int send_buffer;
    } tuning;
    pica_address *addresses; /* on which it listens: `bound` of them, no two equal */
    unsigned bound;
    /* The file of a Unix socket, as it was when we had made it; inode 0: there is none of ours. */
    dev_t device;
    ino_t inode;

    pica__lock_t lock;
    bool closing;     /* under the lock */
    /* With a limit, under the lock: a listener waits for a connection to end; resume is on its way. */
    bool waits;
    bool resuming;
    size_t active;    /* under the lock */
    pica__link tasks; /* struct entry: connections in the order of their arrival; under the lock */
    _Atomic size_t connections; /* written under the lock, read by everybody; relaxed */
    pica_event ended;

    bool shared;      /* constant: the listeners may be other processes' too */
    struct pica__place *only; /* constant: all listeners are here; NULL: they are on all loops */
    pica__call resume;    /* with a limit: a connection has ended; holds a reference */
    size_t turn;          /* `only`'s loop: the door that is asked first by the next resume */
    size_t size;          /* of the allocation, in which doors and addresses lie behind the places */
    struct pica__door *doors;
    size_t door_count;
    unsigned count;
    struct pica__place places[];
};

void pica__server_ref(pica_server *server);
void pica__server_unref(pica_server *server);
/* One listener or connection less. The server may be gone afterwards. */
void pica__server_done(pica_server *server);
/* All listeners are open, none accepts yet: runs them. -ENOMEM: nothing has happened, and the sockets are the
 * caller's. */
int pica__server_run(pica_server *server);

/* fd is a new connection, ours; arg: the door through which it came. On its place's loop, or on the worker
 * that accepts in its stead. */
void pica__server_accept(void *arg, int fd);
/* For the listeners of a server with a limit, all on one loop: whether one may accept one more; if not, it is
 * resumed later. */
bool pica__server_may_accept(void *arg);
/* Whether loops stay even, within two, if the caller's worker accepts one here in the stead of the listener's. */
bool pica__server_fits(void *arg);

#endif
