/* The socket handle, below streams and servers.
 *
 * A socket waits by readiness and moves data by plain calls. Each direction has a state word: READY
 * says that a try is worth a system call; it is set by events and cleared by a try that found nothing
 * (for receives: overruled by `drained`, also after one that took less than was asked for). The word carries a tick
 * that grows with each event, so a clear that races with an event fails. STICKY (the end or an error
 * was seen) keeps READY for good. The read side's poll is multishot, armed once on the home loop; the
 * write side's is one-shot, armed only while the kernel is full. The word is also the lock of its side
 * (LOCKED): an event sets READY and looks for a waiter under it, with one change of the word to take the
 * lock and a plain store to give it back; a lock beside the word would cost every event two changes.
 *
 * The use word: flags CLOSED, READING, WRITING, RELEASED, and a count of uses: one for being open, one for
 * each call inside a system call or waiting, one for each poll in flight, one for a stream's writer from
 * the stream's making to its end. Whoever brings the count of a closed socket to zero closes the
 * descriptor: so its number is not reused while anything still refers to it. READING goes with a use and
 * says that somebody reads, so a reader claims its turn and the descriptor by one change of the word.
 *
 * References: the user's, and one for all uses together.
 *
 * Locks: a side's guards its waiter and its arming requests. Both are leaves, never held together, but
 * that a task's word may change and an operation may be submitted under them (by the home loop's thread).
 */
#ifndef PICA__IO_SOCKET_H
#define PICA__IO_SOCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/loop.h>
#include <pica/net.h>

#include "io/engine/engine.h"
#include "runtime/loop.h"
#include "runtime/wait.h"

enum {
    PICA__SOCKET_CLOSED = 1,
    PICA__SOCKET_READING = 2,
    PICA__SOCKET_WRITING = 4,
    PICA__SOCKET_RELEASED = 8, /* the stream over it was given back: nobody may read any more */
    PICA__SOCKET_READERS = 16, /* datagrams: tasks may be waiting for the turn to read, or to write; */
    PICA__SOCKET_WRITERS = 32, /* see datagram_turn.c */
    PICA__SOCKET_USE = 64      /* one use; the count fills the bits from here on */
};

enum {
    PICA__SIDE_READY = 1,
    PICA__SIDE_STICKY = 2,
    PICA__SIDE_LOCKED = 4,
    PICA__SIDE_TICK = 8 /* one event; the count fills the bits from here on, and may wrap */
};

/* Bytes that may be received from one connection before others get their turn, and the most that is asked for
 * at once. Copying them out of the kernel takes about 10 us; a turn of the worker may take 100. */
#define PICA__SOCKET_TURN ((size_t)64 * 1024)
/* What a receive counts in that beside its bytes, so that tiny ones are bounded, too. */
#define PICA__SOCKET_TURN_CALL ((size_t)1024)

struct pica__socket_wait;

typedef struct pica__socket_side {
    /* Locked by compare-and-swap (acquire), unlocked by a store (release), which also sets READY,
     * STICKY and the tick on events; READY is cleared by tries (compare-and-swap against the unlocked
     * word, acq_rel); read by tries (acquire) before the system call. */
    _Atomic uint32_t state;
    /* The unlocked word with which a receive found that the kernel has no more: as long as the word is the
     * same, another try is not worth it. Written and read by the one that reads (READING), who thus
     * needs no change of the word to take READY back. 0: nothing is known. */
    uint32_t drained;
    struct pica__socket_wait *waiter;   /* locked */
    bool want_arm;                      /* locked: a waiter came and no poll is in flight */
    bool armed;                         /* locked: a poll is in flight */
    /* Received by pica_recv since it last waited or gave the turn up; written and read by the one that reads
     * (READING). Readers count in their own. */
    uint32_t turn;
} pica__socket_side;

/* What each message needs comes first, in one cache line; the read side's operation, whose completions
 * announce messages, begins the next one. */
enum { PICA__TAIL_UNIT = 16 };

struct pica_socket {
    _Atomic uint32_t use;    /* see above; read-modify-writes, acq_rel */
    _Atomic uint32_t refs;   /* added relaxed, dropped acq_rel */
    int fd;
    bool tcp;                /* a short read means that the kernel has no more */
    bool plain;              /* no socket but a pipe or the like: read and write, in non-blocking mode */
    /* Whether home_call is on its way. Exchanged, acq_rel, by who asks the home loop for something, after
     * it said for what, and by home_call before it looks: so it sees, or is sent again. */
    _Atomic bool posted;
    bool close_done;         /* home loop only */
    /* The stream over it, or NULL. Stored under the lock of the loop's closers (relaxed), loaded under it, and by
     * events (relaxed), which only have its lines fetched. */
    void *_Atomic owner;
    /* Whose rd.waiter is, or was. Written and read with rd locked; relaxed, as it is also read without, as a hint. */
    pica_task *_Atomic rd_task;
    pica__socket_side rd;
    pica__socket_side wr;
    pica__op rd_op;          /* the sides' polls; home loop only */
    pica__op wr_op;
    pica_loop *home;
    pica__call home_call;    /* arms and closes on the home loop */
    pica__closer closer;
    struct {
        pica__call call;
        pica_callback fn;
        void *arg;
    } writable;              /* the background callback of pica__socket_on_writable */
    bool writable_wanted;    /* wr locked: it is registered, and not scheduled yet */
    uint8_t tail;            /* constant: the size of what lies behind the socket, in units of PICA__TAIL_UNIT */
    struct pica__listener *listener; /* home loop only: multishot accept, listener.c */
};

/* Rounded up to whole lines, so that allocators with classes of sizes begin it on one. */
#define PICA__SOCKET_SIZE \
    ((sizeof(struct pica_socket) + PICA__CACHELINE - 1) / PICA__CACHELINE * PICA__CACHELINE)

pica_socket *pica__socket_ref(pica_socket *socket);
void pica__socket_unref(pica_socket *socket);
static inline pica_loop *pica__socket_loop(pica_socket *socket) {
    return socket->home;
}

/* Takes over fd (any blocking mode). One reference for the caller. On -ENOMEM fd stays the
 * caller's. */
int pica__socket_adopt(pica_socket **out, int fd, pica_loop *home);
/* The same with size zeroed bytes behind the socket that live as long as it does: at
 * pica__socket_tail. */
int pica__socket_adopt_tail(pica_socket **out, int fd, pica_loop *home, size_t size);
static inline void *pica__socket_tail(pica_socket *socket) {
    return (char *)socket + PICA__SOCKET_SIZE;
}
static inline pica_socket *pica__socket_of_tail(void *tail) {
    return (pica_socket *)(void *)((char *)tail - PICA__SOCKET_SIZE);
}

/* One try inside a use, which never suspends: bytes, -EAGAIN (no room now), or another error. Any thread
 * of the runtime. */
ssize_t pica__socket_sendv_begun(pica_socket *socket, const struct iovec *buffers, int count);

/* Suspends the current task until a try is worth it: 0, PICA_ECLOSED, PICA_ECANCELED, -ENOMEM. The
 * caller makes sure that only one task waits per side: -EBUSY otherwise. */
int pica__socket_wait_readable(pica_socket *socket);

/* A use begins, with flag (READING, WRITING or 0) taken: 0, PICA_ECLOSED, -EBUSY. Its end, by the same
 * flag, returns the word as it was before; the socket may be gone then. */
int pica__socket_begin(pica_socket *socket, uint32_t flag);
uint32_t pica__socket_end(pica_socket *socket, uint32_t flag);
/* As pica__socket_end, unless the word has the bit `unless`: then nothing is changed. Returns the word. */
uint32_t pica__socket_end_unless(pica_socket *socket, uint32_t flag, uint32_t unless);
/* Inside a use: suspends until a try is worth it, as pica__socket_wait_readable. */
int pica__socket_wait(pica_socket *socket, pica__socket_side *side);

/* A reader's turn, with a use of the descriptor: 0, PICA_ECLOSED (also once released), -EBUSY. */
int pica__socket_read_begin(pica_socket *socket);
/* The end of it. True if the stream was released meanwhile: then its reference is the caller's. */
bool pica__socket_read_end(pica_socket *socket);
/* Nobody may begin to read. True if nobody reads; else pica__socket_read_end will return true. Once. */
bool pica__socket_read_release(pica_socket *socket);
static inline bool pica__socket_reading(pica_socket *socket) {
    return (atomic_load_explicit(&socket->use, memory_order_relaxed) & PICA__SOCKET_READING) != 0;
}

/* Receiving in a reader's turn: a try, and the wait for the next one. */
ssize_t pica__socket_recv_begun(pica_socket *socket, void *buffer, size_t size);
int pica__socket_wait_begun(pica_socket *socket);
/* The same wait, and a try by whoever resumes the task: see pica__suspend_ahead. */
int pica__socket_wait_ahead(pica_socket *socket, pica__ahead_fn receive, void *arg, bool *received);
/* Whether a try is worth it: false means that it would say -EAGAIN. */
static inline bool pica__socket_may_recv(pica_socket *socket) {
    uint32_t state = atomic_load_explicit(&socket->rd.state, memory_order_relaxed);
    return (state & PICA__SIDE_READY) != 0 && state != socket->rd.drained;
}

/* Calls fn(arg) once on the home loop when a send is worth a try, or the socket was closed, or there is
 * no memory for waiting. One registration at a time; fn may register again. Never fails. */
void pica__socket_on_writable(pica_socket *socket, pica_callback fn, void *arg);

/* After an accept that found nothing: rd.state as read before it. */
void pica__socket_clear_readable(pica_socket *socket, uint32_t seen);

/* After a send that found no room: wr.state as read before it. */
void pica__socket_clear_writable(pica_socket *socket, uint32_t seen);

/* Parts of making and closing, for socket.c. */
void pica__socket_sides_init(pica_socket *socket);
void pica__socket_closing(pica_socket *socket);

/* The system's socket for an address: close-on-exec; a negative error. */
int pica__socket_open(const pica_address *address, bool nonblocking);

/* Whoever owns the socket from now on is told instead when the runtime ends with it open: see
 * pica__closer. owner: found again by pica__socket_owner. */
void pica__socket_own(pica_socket *socket, void *owner, void (*pin)(pica__closer *closer),
                      void (*close)(pica__closer *closer));
void *pica__socket_owner(pica__closer *closer);
/* The owner's end is under way, and needs no help. */
void pica__socket_disown(pica_socket *socket);

/* A use of the descriptor by somebody else than a read or a write: 0 or PICA_ECLOSED, and its end. */
int pica__socket_use(pica_socket *socket);
void pica__socket_unuse(pica_socket *socket);

/* The worker's scratch buffer: valid until the next suspension or the return to the loop. NULL
 * without memory. */
void *pica__scratch(size_t *size);
void pica__scratch_done(void *scratch);

#endif
