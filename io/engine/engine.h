/* The engine: kernel operations of one loop. Raw completions; it knows no task, no socket handle.
 * One of the five seams: io_uring (uring.c) and epoll (epoll.c) stand behind it, and a simulator fits it.
 *
 * One thread owns an engine at a time and makes every call except pica__engine_wake. Completions are
 * delivered inside pica__engine_wait, on the owner's thread, one after the other.
 *
 * An operation (pica__op) is embedded in what outlives it. It is in flight from a successful submit
 * to its terminal completion (complete called with more == false), and its memory, and whatever it
 * points to, must stay until then. Cancel only asks: the terminal completion still comes, perhaps
 * with success, and a late success must be disposed of by whoever gets it (an accepted descriptor
 * must be closed).
 */
#ifndef PICA__IO_ENGINE_ENGINE_H
#define PICA__IO_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "runtime/base/env.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"

typedef struct pica__engine pica__engine;

enum pica__op_kind {
    PICA__OP_POLL,    /* readiness of fd for events; result: the events, or a negative error */
    PICA__OP_ACCEPT,  /* result: a descriptor (non-blocking, close-on-exec), or a negative error */
    PICA__OP_CONNECT, /* a pica__op_connect; result: 0 or a negative error */
    /* Of a pica__op_file, where the engine has them (pica__engine_has_files): */
    PICA__OP_OPEN,    /* path, flags, mode; fd: the directory, AT_FDCWD. Result: a descriptor */
    PICA__OP_READ,    /* buffer, size, offset (-1: at the file's own position). Result: bytes, 0 at the end */
    PICA__OP_WRITE,   /* the same. Result: bytes */
    PICA__OP_READV,   /* as READ; buffer: `size` iovecs */
    PICA__OP_WRITEV,
    PICA__OP_OPEN2,   /* path, buffer: a struct open_how. Result: a descriptor */
    PICA__OP_TRUNCATE, /* offset: the new size. Result: 0; -EINVAL also if the kernel does not know it */
    PICA__OP_FSYNC,   /* flags: 0, or IORING_FSYNC_DATASYNC's meaning if not 0. Result: 0 */
    PICA__OP_STAT,    /* path (may be "" with AT_EMPTY_PATH), flags, buffer: a struct statx. Result: 0 */
    PICA__OP_CLOSE    /* Result: 0; the descriptor is gone whatever it says */
};

/* Not in the engine. */
#define PICA__OP_IDLE UINT32_MAX

typedef struct pica__op {
    /* more: further completions of this operation will come. Must not suspend; may submit and
     * cancel. The last completion may free the operation. */
    void (*complete)(struct pica__op *op, int result, bool more);
    enum pica__op_kind kind;
    int fd;
    unsigned events;              /* POLL: POLLIN, POLLOUT, POLLRDHUP */
    bool multishot;               /* POLL, ACCEPT: stay until cancelled or failed */
    /* The engine's own. */
    bool queued;                  /* uring: waits for room in the submission queue; epoll: see there */
    bool cancel_asked;
    bool in_set;                  /* uring: it is in the set */
    /* Of whoever submits, who alone looks at it. Relaxed; may be changed meanwhile, by any thread: for a POLL that stays
     * the engine has it fetched as soon as there is an event. */
    void *_Atomic owner;
    /* The engine's own. */
    uint32_t slot;                /* PICA__OP_IDLE, or whatever the engine knows it by */
    int result;                   /* epoll: of what has ended, until it is delivered */
    pica__link link;              /* while in one of the engine's lists */
} pica__op;

static inline void pica__op_init(pica__op *op, enum pica__op_kind kind, int fd,
                                 void (*complete)(pica__op *op, int result, bool more)) {
    *op = (pica__op){.complete = complete, .kind = kind, .fd = fd, .slot = PICA__OP_IDLE};
}
/* Operations with arguments of their own, so that the many small ones stay small. What is pointed to must
 * stay until the terminal completion. */
typedef struct pica__op_connect {
    pica__op op;
    const struct sockaddr *address;
    socklen_t length;
} pica__op_connect;

typedef struct pica__op_file {
    pica__op op;
    const char *path;
    void *buffer;
    size_t size;                  /* at most PICA__OP_SIZE_MAX */
    int64_t offset;
    int flags;
    unsigned mode;
} pica__op_file;
/* What one read or write may move; the result may be less anyway. */
#define PICA__OP_SIZE_MAX ((size_t)1 << 30)

static inline bool pica__op_in_flight(const pica__op *op) {
    return op->slot != PICA__OP_IDLE;
}

/* What an engine is made of. */
struct pica__engine_ops {
    const char *name;
    bool files; /* has the operations of a pica__op_file */
    void (*destroy)(pica__engine *engine);
    int (*submit)(pica__engine *engine, pica__op *op);
    void (*cancel)(pica__engine *engine, pica__op *op);
    int (*wait)(pica__engine *engine, int64_t deadline);
    bool (*has_work)(pica__engine *engine);
    void (*wake)(pica__engine *engine);
};

struct pica__engine {
    const struct pica__engine_ops *ops;
    /* Two of them, which each turn needs: where the engine is, so that the table's page is not touched. */
    int (*wait)(pica__engine *engine, int64_t deadline);
    bool (*has_work)(pica__engine *engine);
    /* Operations in flight, one of the engine's own among them. Written by the owner (relaxed), read by
     * statistics. */
    _Atomic uint64_t in_flight;
    /* A time of which the last wait would have told, and has not: what is due at it or later was not due yet when the
     * wait ended. INT64_MAX: nothing is known, the clock must be asked. Owner only. */
    int64_t ahead;
    /* An engine that this one uses, or NULL. Stored once by the owner (release), loaded by who wakes and by
     * statistics (acquire). */
    struct pica__engine *_Atomic part;
};

/* By whoever makes one. The rest is zero. */
static inline void pica__engine_init(pica__engine *engine, const struct pica__engine_ops *ops) {
    engine->ops = ops;
    engine->wait = ops->wait;
    engine->has_work = ops->has_work;
    engine->ahead = INT64_MAX;
}

/* Makes the engine that the configuration asks for; the calling thread becomes its owner for life. Left the
 * choice, that is io_uring, or epoll where io_uring is not there or not allowed, which the first one of the process
 * says in one line of the log. Errors: -ENOSYS or -EPERM (io_uring was demanded; the log says why),
 * -ENOMEM (locked memory; the log names the limit), -EMFILE. */
int pica__engine_create(pica__engine **out, const pica__config *config);
/* Nothing may be in flight, except multishot operations whose memory outlives this call: their
 * completions are dropped. */
static inline void pica__engine_destroy(pica__engine *engine) {
    engine->ops->destroy(engine);
}
/* Puts an operation in flight; it reaches the kernel at the next wait at the latest. A full queue is
 * no error. -ENOMEM, also at the system's limit of watched descriptors (then it is not in flight). */
static inline int pica__engine_submit(pica__engine *engine, pica__op *op) {
    return engine->ops->submit(engine, op);
}
/* Asks for the end of an operation in flight. Its terminal completion follows in a later wait (never
 * inside this call). Idempotent. */
static inline void pica__engine_cancel(pica__engine *engine, pica__op *op) {
    engine->ops->cancel(engine, op);
}
/* Hands everything to the kernel, waits until a completion, a wake, or deadline (ns of pica__now;
 * 0: do not wait; INT64_MAX: none), and delivers what there is. Returns how many completions were
 * delivered. */
static inline int pica__engine_wait(pica__engine *engine, int64_t deadline) {
    pica__lock_none("a wait for the kernel");
    return engine->wait(engine, deadline);
}
/* Whether pica__engine_wait(0) has, or may have, something to do: submissions to hand over, completions that
 * are there, or that cannot be known without asking. Cheap: no system call. */
static inline bool pica__engine_has_work(pica__engine *engine) {
    return engine->has_work(engine);
}
/* Operations in flight, one of the engine's own among them. Any thread. */
static inline uint64_t pica__engine_in_flight(pica__engine *engine) {
    pica__engine *part = atomic_load_explicit(&engine->part, memory_order_acquire);
    uint64_t inside =
        part == NULL ? 0 : atomic_load_explicit(&part->in_flight, memory_order_relaxed) - 1;
    return atomic_load_explicit(&engine->in_flight, memory_order_relaxed) + inside;
}
/* Whether the operations of a pica__op_file may be submitted. Any thread. */
static inline bool pica__engine_has_files(const pica__engine *engine) {
    return engine->ops->files;
}
/* Ends the present or the next wait. Any thread, async-signal-safe. */
static inline void pica__engine_wake(pica__engine *engine) {
    engine->ops->wake(engine);
}

/* The engines. */
/* why: set on failure, to a text for the log. */
int pica__uring_create(pica__engine **out, const pica__config *config, const char **why);
int pica__epoll_create(pica__engine **out, const pica__config *config);
/* The eventfd to which a write wakes an engine made by pica__epoll_create. */
int pica__epoll_wake_fd(pica__engine *engine);
/* pica__engine_wait of one that is known to be an epoll engine. */
int pica__epoll_wait(pica__engine *engine, int64_t deadline);
/* Whether somebody has woken it since the last call. By its owner. */
bool pica__epoll_woken(pica__engine *engine);
/* In a simulation, always this one; never fails but for memory. */
int pica__sim_engine_create(pica__engine **out, const pica__config *config);

#endif
