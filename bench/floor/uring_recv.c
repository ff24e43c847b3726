/* Floor: io_uring moves the data. One multishot RECV for each connection, fed from a ring of
 * provided buffers, and SENDs queued with the next wait.
 *
 * echo sends a received buffer as it is and gives it back to the kernel when the send is complete;
 * http answers from a constant block and gives the buffer back at once. At most one send of a
 * connection is in flight, so bytes stay in order; what is received meanwhile waits in the
 * connection's list (echo) or count (http).
 *
 * A RECV that ends for want of buffers (-ENOBUFS) is armed again as soon as one has come back. A
 * client that sends without ever reading can hold all buffers of its thread: a floor serves a
 * benign load and nothing else.
 *
 * A connection is closed when its RECV has ended, no send is in flight and nothing is left to send.
 * A send that fails shuts the socket down, which ends the RECV. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <sys/mman.h>

#include "bench/floor/answer.h"
#include "bench/floor/ring.h"
#include "bench/floor/setup.h"

#define BUFFERS 2048u /* a power of two */
#define BUFFER_SIZE 2048u
#define BUFFER_GROUP 0
#define NO_BUFFER UINT32_MAX

struct connection {
    int fd;
    unsigned matched; /* http: see floor_count_heads */
    bool receiving;   /* the multishot RECV is armed */
    bool sending;     /* a SEND is in flight */
    bool broken;      /* a send failed: whatever arrives is dropped */
    uint32_t first;   /* echo: buffers to send, oldest first; the first is in flight if sending */
    uint32_t last;
    size_t owed;              /* http: bytes of answers to send, those in flight included */
    size_t sent;              /* bytes of the first buffer, or of the answers, sent already */
    struct connection *hungry; /* next one that waits for a buffer to receive into */
};

struct held {
    uint32_t size;
    uint32_t next;
};

struct thread {
    struct ring_server *server;
    unsigned index;
    unsigned held; /* buffers that are not in the kernel's hands */
    struct io_uring ring;
    struct io_uring_buf_ring *pool;
    char *memory;
    struct connection *hungry;
    struct held buffers[BUFFERS];
};

static char *buffer_at(const struct thread *thread, uint32_t buffer) {
    return thread->memory + (size_t)buffer * BUFFER_SIZE;
}

static void give_back(struct thread *thread, uint32_t buffer) {
    io_uring_buf_ring_add(thread->pool, buffer_at(thread, buffer), BUFFER_SIZE,
                          (unsigned short)buffer, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(thread->pool, 1);
    thread->held--;
}

static void *map(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        floor_die("mmap", errno);
    }
    return memory;
}

static void make_pool(struct thread *thread) {
    struct io_uring_buf_reg registration;
    memset(&registration, 0, sizeof registration);
    thread->pool = map(BUFFERS * sizeof(struct io_uring_buf));
    thread->memory = map((size_t)BUFFERS * BUFFER_SIZE);
    registration.ring_addr = (uint64_t)(uintptr_t)thread->pool;
    registration.ring_entries = BUFFERS;
    registration.bgid = BUFFER_GROUP;
    int error = io_uring_register_buf_ring(&thread->ring, &registration, 0);
    if (error < 0) {
        floor_die("io_uring_register_buf_ring", -error);
    }
    io_uring_buf_ring_init(thread->pool);
    thread->held = BUFFERS;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        give_back(thread, i);
    }
}

static void receive(struct thread *thread, struct connection *connection) {
    struct io_uring_sqe *sqe = ring_sqe(&thread->ring);
    io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, ring_data(connection, RING_INPUT));
    connection->receiving = true;
}

static void add(struct thread *thread, int fd) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->fd = fd;
    connection->first = NO_BUFFER;
    connection->last = NO_BUFFER;
    receive(thread, connection);
}

/* Queues a send of what is due next, if anything is and nothing is in flight. MSG_WAITALL has the
 * kernel finish a partial send by itself; a short result is possible all the same. */
static void transmit(struct thread *thread, struct connection *connection) {
    const char *bytes;
    size_t size;
    if (connection->sending || connection->broken) {
        return;
    }
    if (connection->first != NO_BUFFER) {
        bytes = buffer_at(thread, connection->first) + connection->sent;
        size = thread->buffers[connection->first].size - connection->sent;
    } else if (connection->owed > 0) {
        bytes = floor_responses + connection->sent;
        size = sizeof floor_responses - connection->sent;
        size = size < connection->owed ? size : connection->owed;
    } else {
        return;
    }
    struct io_uring_sqe *sqe = ring_sqe(&thread->ring);
    io_uring_prep_send(sqe, connection->fd, bytes, size, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, ring_data(connection, RING_OUTPUT));
    connection->sending = true;
}

static void drop_queue(struct thread *thread, struct connection *connection) {
    while (connection->first != NO_BUFFER) {
        uint32_t next = thread->buffers[connection->first].next;
        give_back(thread, connection->first);
        connection->first = next;
    }
    connection->owed = 0;
}

static void release_if_over(struct connection *connection) {
    if (!connection->receiving && !connection->sending && connection->first == NO_BUFFER &&
        connection->owed == 0) {
        close(connection->fd);
        free(connection);
    }
}

static void take(struct thread *thread, struct connection *connection, uint32_t buffer,
                 uint32_t size) {
    thread->held++;
    if (thread->server->options.mode == FLOOR_HTTP || connection->broken) {
        size_t heads =
            floor_count_heads(&connection->matched, buffer_at(thread, buffer), size);
        floor_count_add(thread->index, heads);
        connection->owed += connection->broken ? 0 : heads * FLOOR_RESPONSE_SIZE;
        give_back(thread, buffer);
    } else {
        thread->buffers[buffer].size = size;
        thread->buffers[buffer].next = NO_BUFFER;
        if (connection->first == NO_BUFFER) {
            connection->first = buffer;
        } else {
            thread->buffers[connection->last].next = buffer;
        }
        connection->last = buffer;
        floor_count_add(thread->index, size);
    }
    transmit(thread, connection);
}

static void received(struct thread *thread, struct connection *connection,
                     const struct io_uring_cqe *cqe) {
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    connection->receiving = more;
    if (cqe->res > 0) {
        take(thread, connection, cqe->flags >> IORING_CQE_BUFFER_SHIFT, (uint32_t)cqe->res);
        if (!more) {
            receive(thread, connection);
        }
    } else if (cqe->res == -ENOBUFS) {
        connection->receiving = true; /* in the list of the hungry: as good as armed */
        connection->hungry = thread->hungry;
        thread->hungry = connection;
    } else if (!more) {
        release_if_over(connection);
    }
}

static void sent(struct thread *thread, struct connection *connection, int result) {
    connection->sending = false;
    if (result < 0) {
        connection->broken = true;
        drop_queue(thread, connection);
        (void)shutdown(connection->fd, SHUT_RDWR);
    } else {
        connection->sent += (size_t)result;
        if (connection->first == NO_BUFFER) {
            connection->owed -= (size_t)result;
            connection->sent %= FLOOR_RESPONSE_SIZE;
        } else if (connection->sent == thread->buffers[connection->first].size) {
            uint32_t next = thread->buffers[connection->first].next;
            give_back(thread, connection->first);
            connection->first = next;
            connection->sent = 0;
        }
        transmit(thread, connection);
    }
    release_if_over(connection);
}

static void feed_hungry(struct thread *thread) {
    while (thread->hungry != NULL && thread->held < BUFFERS) {
        struct connection *connection = thread->hungry;
        thread->hungry = connection->hungry;
        receive(thread, connection);
    }
}

static void complete(struct thread *thread, const struct io_uring_cqe *cqe) {
    switch (ring_tag_of(cqe->user_data)) {
    case RING_INPUT:
        received(thread, ring_pointer(cqe->user_data), cqe);
        break;
    case RING_OUTPUT:
        sent(thread, ring_pointer(cqe->user_data), cqe->res);
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
        break; /* a dealt connection's MSG_RING */
    }
}

static void *serve(void *arg) {
    struct thread *thread = arg;
    ring_make(&thread->ring, thread->server, thread->index);
    make_pool(thread);
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
        feed_hungry(thread);
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
