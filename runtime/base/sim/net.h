/*
 * Descriptors of the simulation: sockets and pipes in memory (net.c, listen.c), files (disk.c).
 *
 * A descriptor is never given out twice in one simulation, so that whoever uses one after its close is found out,
 * and the process ends. What is behind it is a pica__sim_file; who wants to know when it may be worth another look
 * hangs a watch on it.
 */
#ifndef PICA__RUNTIME_BASE_SIM_NET_H
#define PICA__RUNTIME_BASE_SIM_NET_H

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "runtime/base/sim/core.h"

enum pica__sim_kind {
    PICA__SIM_SOCKET,   /* not connected yet */
    PICA__SIM_LISTENER,
    PICA__SIM_STREAM,   /* a connected socket, or an end of a pipe */
    PICA__SIM_DATAGRAM, /* a socket for datagrams: datagram.h */
    PICA__SIM_DISK,     /* an open file */
    PICA__SIM_CHILD     /* a process */
};

/* Bytes under way from a writer to a reader: first those that have arrived, then those that will. */
struct pica__sim_chunk {
    uint32_t size;
    int64_t when;
};
enum { PICA__SIM_CHUNKS = 8 };

typedef struct pica__sim_pipe {
    struct pica__sim_file *reader; /* NULL: closed, or not accepted and gone */
    struct pica__sim_file *writer;
    char *data;               /* a ring of `capacity` bytes, made at the first write */
    uint32_t capacity;
    uint32_t head;
    uint32_t length;          /* all bytes in it */
    uint32_t arrived;
    struct pica__sim_chunk chunk[PICA__SIM_CHUNKS];
    unsigned chunks;
    int64_t latest;           /* when the last byte so far arrives */
    int64_t latency;
    pica__sim_event arrival;
    bool fin;                 /* the writer has ended; seen by the reader when all bytes have arrived */
    bool fin_arrived;
    bool reset;               /* broken */
    bool reset_told;          /* to the reader */
    bool was_full;            /* a write found no room */
} pica__sim_pipe;

/* Told when something has changed at a descriptor; revents: as of poll. Must not block. */
typedef struct pica__sim_watch {
    pica__link link;          /* unlinked: not watching */
    void (*notify)(struct pica__sim_watch *watch, unsigned revents);
} pica__sim_watch;

typedef struct pica__sim_file {
    enum pica__sim_kind kind;
    int fd;                   /* -1: none (in a backlog, or closed) */
    bool socket;              /* not a pipe */
    bool tcp;
    bool actor;               /* made by an actor: not counted as left open */
    bool reuse_port;
    bool linger_reset;        /* close sends a reset */
    bool refuses;             /* a listener that begins no new connection */
    int family;
    int flags;                /* O_... */
    pica__link watches;
    pica_address name;
    pica_address peer;
    /* stream */
    pica__sim_pipe *in;
    pica__sim_pipe *out;
    /* listener */
    struct pica__sim_file **backlog;
    unsigned waiting;
    unsigned backlog_max;
    pica__link bound;         /* in the table of addresses */
    /* datagrams */
    struct pica__sim_box *box;
    /* file */
    struct pica__sim_inode *inode;
    int64_t position;
    /* child */
    struct pica__sim_child *child;
} pica__sim_file;

/* A new file with a descriptor; -EMFILE by chance. */
int pica__sim_file_open(pica__sim_file **out, enum pica__sim_kind kind);
pica__sim_file *pica__sim_file_make(enum pica__sim_kind kind);
int pica__sim_file_number(pica__sim_file *file);
/* What is behind a descriptor; ends the process if it was closed. */
pica__sim_file *pica__sim_file_of(int fd);
/* The same, or NULL if it was closed; and the number above all that were given out. */
pica__sim_file *pica__sim_file_find(int fd);
int pica__sim_file_limit(void);
unsigned pica__sim_file_poll(const pica__sim_file *file);
void pica__sim_file_notify(pica__sim_file *file, unsigned revents);
static inline void pica__sim_watch_add(pica__sim_file *file, pica__sim_watch *watch) {
    pica__list_push_back(&file->watches, &watch->link);
}
static inline void pica__sim_watch_remove(pica__sim_watch *watch) {
    if (pica__link_linked(&watch->link)) {
        pica__list_remove(&watch->link);
    }
}

/* Streams. Never block. */
pica__sim_pipe *pica__sim_pipe_make(pica__sim_file *writer, pica__sim_file *reader);
void pica__sim_stream_pair(pica__sim_file *a, pica__sim_file *b);
ssize_t pica__sim_stream_read(pica__sim_file *file, void *buffer, size_t size);
ssize_t pica__sim_stream_write(pica__sim_file *file, const struct iovec *parts, int count);
void pica__sim_stream_finish(pica__sim_file *file);
void pica__sim_stream_reset(pica__sim_file *file);
void pica__sim_stream_close(pica__sim_file *file);

/* Listeners and addresses: listen.c. */
int pica__sim_bind_file(pica__sim_file *file, const struct sockaddr *address, unsigned length);
int pica__sim_listen_file(pica__sim_file *file, int backlog);
int pica__sim_accept_file(pica__sim_file *listener, pica__sim_file **out);
void pica__sim_listener_close(pica__sim_file *file);
void pica__sim_addresses_end(void);
/* The socket that a datagram to this address reaches, or NULL. from: its sender, if connected receivers that it is not
 * meant for are to be left out. */
pica__sim_file *pica__sim_receiver_at(const pica_address *to, const pica_address *from);
/* One attempt to connect: 0; -ECONNREFUSED; -EAGAIN: the listener has no room, or answers nothing. */
int pica__sim_connect_file(pica__sim_file *file, const struct sockaddr *address, unsigned length);

/* A connect that takes its time; lies in what asks for it. */
typedef struct pica__sim_connecting {
    pica__sim_event event;
    pica__sim_file *file;
    pica_address address;
    unsigned tries;
    void (*done)(struct pica__sim_connecting *c, int result);
} pica__sim_connecting;
void pica__sim_connect_begin(pica__sim_connecting *c, pica__sim_file *file,
                             const struct sockaddr *address, unsigned length,
                             void (*done)(pica__sim_connecting *c, int result));

#endif
