/* What the UDP floors share: options, one socket for each thread, the ring, signals.
 *
 * The sockets share a port by SO_REUSEPORT, as the library's example does: the kernel deals the clients out
 * by a hash of their addresses, so with several threads the shares are uneven for every contestant. */
#ifndef PICA__BENCH_FLOOR_UDP_H
#define PICA__BENCH_FLOOR_UDP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>

#include "bench/floor/setup.h"

#define UDP_ENTRIES 1024u
#define UDP_COMPLETIONS 16384u
#define UDP_LONGEST 65507u /* what UDP over IPv4 can carry, and the buffers of the library's example */

struct udp_thread {
    unsigned index;
    int fd;
    struct io_uring ring;
};

static struct udp_thread udp_threads[FLOOR_MAX_THREADS];

/* A ring as the other floors have it. By the thread that uses it. */
static inline void udp_make_ring(struct udp_thread *thread) {
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = UDP_COMPLETIONS;
    int error = io_uring_queue_init_params(UDP_ENTRIES, &thread->ring, &params);
    if (error < 0) {
        floor_die("io_uring_queue_init_params", -error);
    }
    (void)io_uring_register_ring_fd(&thread->ring);
}

/* Submits what is queued and waits for so many completions. */
static inline void udp_wait(struct io_uring *ring, unsigned completions) {
    int error = io_uring_submit_and_wait(ring, completions);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
        floor_die("io_uring_submit_and_wait", -error);
    }
}

static inline struct io_uring_sqe *udp_sqe(struct io_uring *ring) {
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

static inline int udp_socket(uint16_t port) {
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        floor_die("socket", errno);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) {
        floor_die("setsockopt", errno);
    }
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        floor_die("bind", errno);
    }
    return fd;
}

/* Opens all sockets, then runs serve on every thread, with its udp_thread. */
static inline int udp_run(int argc, char **argv, void *(*serve)(void *)) {
    struct floor_options options = floor_parse(argc, argv);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    floor_handle_signals(options.threads);
    for (unsigned i = 0; i < options.threads; i++) {
        udp_threads[i].index = i;
        udp_threads[i].fd = udp_socket(i == 0 ? options.port : ntohs(address.sin_port));
        if (i == 0 && getsockname(udp_threads[0].fd, (struct sockaddr *)&address, &length) < 0) {
            floor_die("getsockname", errno);
        }
    }
    for (unsigned i = 1; i < options.threads; i++) {
        pthread_t id;
        int error = pthread_create(&id, NULL, serve, &udp_threads[i]);
        if (error != 0) {
            floor_die("pthread_create", error);
        }
    }
    floor_ready(udp_threads[0].fd);
    serve(&udp_threads[0]);
    return 0;
}

#endif
