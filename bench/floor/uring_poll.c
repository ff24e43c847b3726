/* Floor: io_uring for waiting only. One multishot POLL_ADD for each connection, then plain recv and
 * send.
 *
 * A multishot poll is edge triggered, which is what plain_serve expects. It can end (no F_MORE) when
 * completions overflow; it is then armed again. A finished connection is closed only after its
 * poll's last completion, so that none can name a freed record. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <poll.h>

#include "bench/floor/answer.h"
#include "bench/floor/plain.h"
#include "bench/floor/ring.h"
#include "bench/floor/setup.h"

struct connection {
    struct plain plain;
    bool ended; /* the poll has been cancelled; wait for its last completion */
};

struct thread {
    struct ring_server *server;
    unsigned index;
    struct io_uring ring;
    char buffer[PLAIN_READ_SIZE];
};

static void arm(struct thread *thread, struct connection *connection) {
    struct io_uring_sqe *sqe = ring_sqe(&thread->ring);
    io_uring_prep_poll_multishot(sqe, connection->plain.fd, POLLIN | POLLOUT | POLLRDHUP);
    io_uring_sqe_set_data64(sqe, ring_data(connection, RING_INPUT));
}

static void add(struct thread *thread, int fd) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->plain.fd = fd;
    arm(thread, connection);
}

static void release(struct connection *connection) {
    close(connection->plain.fd);
    free(connection->plain.kept);
    free(connection);
}

static void end(struct thread *thread, struct connection *connection) {
    struct io_uring_sqe *sqe = ring_sqe(&thread->ring);
    io_uring_prep_cancel64(sqe, ring_data(connection, RING_INPUT), 0);
    io_uring_sqe_set_data64(sqe, ring_data(NULL, RING_IGNORE));
    connection->ended = true;
}

static void ready(struct thread *thread, struct connection *connection,
                  const struct io_uring_cqe *cqe) {
    bool armed = (cqe->flags & IORING_CQE_F_MORE) != 0;
    bool hang_up = cqe->res < 0 || (cqe->res & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    if (!connection->ended && plain_serve(&connection->plain, thread->server->options.mode,
                                          thread->index, thread->buffer, hang_up)) {
        if (!armed) {
            arm(thread, connection);
        }
    } else if (!armed) {
        release(connection);
    } else if (!connection->ended) {
        end(thread, connection);
    }
}

static void complete(struct thread *thread, const struct io_uring_cqe *cqe) {
    switch (ring_tag_of(cqe->user_data)) {
    case RING_INPUT:
        ready(thread, ring_pointer(cqe->user_data), cqe);
        break;
    case RING_ACCEPT: {
        int fd = ring_accepted(&thread->ring, thread->server, cqe);
        if (fd >= 0) {
            add(thread, fd);
        }
        break;
    }
    case RING_DEALT:
        add(thread, ring_dealt(cqe->user_data));
        break;
    default:
        break; /* a cancel, or a dealt connection's MSG_RING */
    }
}

static void *serve(void *arg) {
    struct thread *thread = arg;
    ring_make(&thread->ring, thread->server, thread->index);
    if (thread->index == 0) {
        ring_accept(&thread->ring, thread->server);
        floor_ready(thread->server->listener);
    }
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned seen = 0;
        ring_wait(&thread->ring);
        io_uring_for_each_cqe(&thread->ring, head, cqe) {
            complete(thread, cqe);
            seen++;
        }
        io_uring_cq_advance(&thread->ring, seen);
    }
    return NULL;
}

int main(int argc, char **argv) {
    static struct ring_server server;
    static struct thread threads[FLOOR_MAX_THREADS];
    server.options = floor_parse(argc, argv);
    server.listener = floor_start(&server.options);
    floor_fill_responses();
    for (unsigned i = 0; i < server.options.threads; i++) {
        threads[i].server = &server;
        threads[i].index = i;
    }
    ring_run(&server, serve, threads, sizeof threads[0]);
    return 0;
}
