/* The rings of the two io_uring floors: flags, accepting, and dealing connections to threads.
 *
 * Each thread makes its own ring (SINGLE_ISSUER binds a ring to its maker) and tells the others its
 * descriptor before any connection exists. Thread 0 accepts with one multishot ACCEPT and deals a
 * connection with MSG_RING: the completion appears on the other thread's ring.
 *
 * user_data: a pointer (8-byte aligned) with one of the tags below in its low bits; for a dealt
 * connection the descriptor stands in the pointer's place. */
#ifndef PICA__BENCH_FLOOR_RING_H
#define PICA__BENCH_FLOOR_RING_H

#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>

#include "bench/floor/setup.h"

#define RING_ENTRIES 1024u
#define RING_COMPLETIONS 16384u

enum ring_tag {
    RING_INPUT,  /* a connection: readable, or bytes received */
    RING_OUTPUT, /* a connection: bytes sent */
    RING_ACCEPT, /* thread 0: a connection was accepted */
    RING_DEALT,  /* a connection was dealt to this thread */
    RING_IGNORE, /* nobody waits for this completion unless it failed */
    RING_TAG_MASK = 7
};

struct ring_server {
    struct floor_options options;
    int listener;
    pthread_barrier_t made;      /* passed once every thread's entry in rings is written */
    int rings[FLOOR_MAX_THREADS];
    unsigned next; /* thread the next connection goes to; thread 0 only */
};

static inline uint64_t ring_data(const void *pointer, enum ring_tag tag) {
    return (uint64_t)(uintptr_t)pointer | (uint64_t)tag;
}

static inline void *ring_pointer(uint64_t data) {
    return (void *)(uintptr_t)(data & ~(uint64_t)RING_TAG_MASK);
}

static inline enum ring_tag ring_tag_of(uint64_t data) {
    return (enum ring_tag)(data & RING_TAG_MASK);
}

/* An empty submission entry; a full queue is submitted first. */
static inline struct io_uring_sqe *ring_sqe(struct io_uring *ring) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    while (sqe == NULL) {
        int error = io_uring_submit(ring);
        if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
            floor_die("io_uring_submit", -error);
        }
        sqe = io_uring_get_sqe(ring);
    }
    return sqe;
}

/* Makes this thread's ring and waits until all threads have theirs. */
static inline void ring_make(struct io_uring *ring, struct ring_server *server, unsigned thread) {
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = RING_COMPLETIONS;
    int error = io_uring_queue_init_params(RING_ENTRIES, ring, &params);
    if (error < 0) {
        floor_die("io_uring_queue_init_params", -error);
    }
    server->rings[thread] = ring->ring_fd;
    (void)io_uring_register_ring_fd(ring); /* spares a look-up each call; works without */
    (void)pthread_barrier_wait(&server->made);
}

static inline void ring_accept(struct io_uring *ring, const struct ring_server *server) {
    struct io_uring_sqe *sqe = ring_sqe(ring);
    io_uring_prep_multishot_accept(sqe, server->listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, ring_data(NULL, RING_ACCEPT));
}

/* Handles a completion of the multishot ACCEPT: re-arms it if it ended and deals the connection.
 * The result is a descriptor that is the calling thread's own, or -1. */
static inline int ring_accepted(struct io_uring *ring, struct ring_server *server,
                                const struct io_uring_cqe *cqe) {
    int fd = cqe->res;
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        ring_accept(ring, server);
    }
    if (fd < 0) {
        if (fd != -ECONNABORTED && fd != -EINTR && fd != -EAGAIN) {
            floor_die("accept", -fd); /* out of descriptors: no figure of such a run is worth it */
        }
        return -1;
    }
    unsigned to = server->next;
    server->next = (to + 1) % server->options.threads;
    if (to == 0) {
        return fd;
    }
    struct io_uring_sqe *sqe = ring_sqe(ring);
    uint64_t dealt = ((uint64_t)(unsigned)fd << 3) | RING_DEALT;
    io_uring_prep_msg_ring(sqe, server->rings[to], 0, dealt, 0);
    io_uring_sqe_set_data64(sqe, ring_data(NULL, RING_IGNORE));
    return -1;
}

/* The descriptor in a RING_DEALT completion. */
static inline int ring_dealt(uint64_t data) {
    return (int)(data >> 3);
}

/* Submits what is queued and waits for a completion. */
static inline void ring_wait(struct io_uring *ring) {
    int error = io_uring_submit_and_wait(ring, 1);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
        floor_die("io_uring_submit_and_wait", -error);
    }
}

/* Starts serve on every thread; threads is an array of options.threads records of that size. */
static inline void ring_run(struct ring_server *server, void *(*serve)(void *), void *threads,
                            size_t size) {
    int error = pthread_barrier_init(&server->made, NULL, server->options.threads);
    for (unsigned i = 1; error == 0 && i < server->options.threads; i++) {
        pthread_t id;
        error = pthread_create(&id, NULL, serve, (char *)threads + i * size);
    }
    if (error != 0) {
        floor_die("pthread_create", error);
    }
    serve(threads);
}

#endif
