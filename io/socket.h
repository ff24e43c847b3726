/* The socket handle, below streams and servers.
 *
 * A socket waits by readiness and moves data by plain calls. Each direction has a state word: READY
 * says that a try is worth a system call; it is set by events and cleared by a try that found nothing
 * (or, for reads, took less than was asked for: then the kernel had no more). The word carries a tick
 * that grows with each event, so a clear that races with an event fails. STICKY (the end or an error
 * was seen) keeps READY for good. The read side's poll is multishot, armed once on the home loop; the
 * write side's is one-shot, armed only while the kernel is full.
 *
 * The use word: flags CLOSED, READING, WRITING, and a count of uses: one for being open, one for each
 * call inside a system call or waiting, one for each poll in flight. Whoever brings the count of a
 * closed socket to zero closes the descriptor: so its number is not reused while anything still
 * refers to it.
 *
 * References: the user's, and one for all uses together.
 *
 * Lock: socket.lock guards the waiters and the arming requests. It is a leaf, but that a task's word
 * may change and an operation may be submitted under it (by the home loop's thread).
 */
#ifndef PICA__IO_SOCKET_H
#define PICA__IO_SOCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/loop.h>
#include <pica/net.h>

#include "io/engine/engine.h"
#include "runtime/base/lock.h"
#include "runtime/loop.h"
#include "runtime/wait.h"

enum {
    PICA__SOCKET_CLOSED = 1,
    PICA__SOCKET_READING = 2,
    PICA__SOCKET_WRITING = 4,
    PICA__SOCKET_USE = 8 /* one use; the count fills the bits from here on */
};

enum { PICA__SIDE_READY = 1, PICA__SIDE_STICKY = 2, PICA__SIDE_TICK = 4 };

struct pica__socket_wait;

typedef struct pica__socket_side {
    /* READY, STICKY and the tick. Written by the home loop on events (under the lock, release) and by
     * tries (compare-and-swap); read by tries (acquire) before the system call. */
    _Atomic uint32_t state;
    bool want_arm;                      /* under lock: a waiter came and no poll is in flight */
    bool armed;                         /* under lock: a poll is in flight */
    struct pica__socket_wait *waiter;   /* under lock */
    pica__op op;                        /* home loop only */
} pica__socket_side;

struct pica_socket {
    pica__closer closer;
    _Atomic uint32_t refs;   /* added relaxed, dropped acq_rel */
    _Atomic uint32_t use;    /* see above; read-modify-writes, acq_rel */
    int fd;
    bool tcp;                /* a short read means that the kernel has no more */
    pica_loop *home;
    pica__lock_t lock;
    bool posted;             /* under lock: home_call is on its way */
    bool close_done;         /* home loop only */
    pica__call home_call;    /* arms and closes on the home loop */
    pica__socket_side rd;
    pica__socket_side wr;
    struct {
        pica__call call;
        pica_callback fn;
        void *arg;
        bool wanted;         /* under lock: registered, and not scheduled yet */
    } writable;              /* the background callback of pica__socket_on_writable */
    struct pica__listener *listener; /* home loop only: multishot accept, listener.c */
};

pica_socket *pica__socket_ref(pica_socket *socket);
void pica__socket_unref(pica_socket *socket);
static inline pica_loop *pica__socket_loop(pica_socket *socket) {
    return socket->home;
}

/* Takes over fd (any blocking mode). One reference for the caller. On -ENOMEM fd stays the
 * caller's. */
int pica__socket_adopt(pica_socket **out, int fd, pica_loop *home);

/* One try, which never suspends: bytes, 0 (recv: the end), -EAGAIN (nothing, or no room, now),
 * PICA_ECLOSED, or another error. Any thread of the runtime. */
ssize_t pica__socket_try_sendv(pica_socket *socket, const struct iovec *buffers, int count);

/* Suspends the current task until a try is worth it: 0, PICA_ECLOSED, PICA_ECANCELED, -ENOMEM. The
 * caller makes sure that only one task waits per side: -EBUSY otherwise. */
int pica__socket_wait_readable(pica_socket *socket);

/* Receiving inside a use (pica__socket_use): a try, and the wait for the next one. */
ssize_t pica__socket_recv_begun(pica_socket *socket, void *buffer, size_t size);
int pica__socket_wait_begun(pica_socket *socket);
/* Whether a try is worth it: false means that it would say -EAGAIN. */
static inline bool pica__socket_may_recv(pica_socket *socket) {
    return (atomic_load_explicit(&socket->rd.state, memory_order_relaxed) & PICA__SIDE_READY) != 0;
}

/* Calls fn(arg) once on the home loop when a send is worth a try, or the socket was closed, or there is
 * no memory for waiting. One registration at a time; fn may register again. Never fails. */
void pica__socket_on_writable(pica_socket *socket, pica_callback fn, void *arg);

/* After an accept that found nothing: rd.state as read before it. */
void pica__socket_clear_readable(pica_socket *socket, uint32_t seen);

/* The system's socket for an address: close-on-exec; a negative error. */
int pica__socket_open(const pica_address *address, bool nonblocking);

/* A use of the descriptor by somebody else than a read or a write: 0 or PICA_ECLOSED, and its end. */
int pica__socket_use(pica_socket *socket);
void pica__socket_unuse(pica_socket *socket);

/* The worker's scratch buffer: valid until the next suspension or the return to the loop. NULL
 * without memory. */
void *pica__scratch(size_t *size);
void pica__scratch_done(void *scratch);

#endif
