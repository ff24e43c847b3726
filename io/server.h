/* A server, inside: what its two halves, server.c (listeners, start, end) and server_clients.c (connections),
 * share. The rules stand at the head of server.c. */
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
    pica_socket *listener; /* NULL if there is none on this loop, or it was closed; from the start on
                            * used by the loop only */
    size_t connections;    /* under the lock */
    /* When a dropped connection was logged last. Written by whoever accepts here; relaxed, a hint. */
    _Atomic int64_t warned;
    pica__call closed;     /* runs behind the close of the listener's descriptor */
    pica__call resume;     /* with a limit: a connection has ended; holds a reference */
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
    pica_address address;
    /* The file of a Unix socket, as it was when we had made it; inode 0: there is none of ours. */
    dev_t device;
    ino_t inode;

    pica__lock_t lock;
    bool closing;     /* under the lock */
    bool waits;       /* with a limit: the listener waits for a connection to end; under the lock */
    size_t active;    /* under the lock */
    pica__link tasks; /* struct entry: connections in the order of their arrival; under the lock */
    _Atomic size_t connections; /* written under the lock, read by everybody; relaxed */
    pica_event ended;

    bool shared;      /* constant: the listeners may be other processes' too */
    struct pica__place *only; /* constant: with a limit, the place of the only listener */
    unsigned count;
    struct pica__place places[];
};

static inline size_t pica__server_size(unsigned count) {
    return sizeof(pica_server) + count * sizeof(struct pica__place);
}
void pica__server_ref(pica_server *server);
void pica__server_unref(pica_server *server);
/* One listener or connection less. The server may be gone afterwards. */
void pica__server_done(pica_server *server);

/* fd is a new connection, ours; arg: the place of the listener. On that place's loop, or on the worker that
 * accepts in its stead. */
void pica__server_accept(void *arg, int fd);
/* For the one listener of a server with a limit: whether it may accept one more; if not, it is resumed later. */
bool pica__server_may_accept(void *arg);

#endif
