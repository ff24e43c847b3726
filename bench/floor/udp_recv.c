/* Floor: a UDP echo server whose data io_uring moves. One multishot RECVMSG for the socket, fed from a ring
 * of provided buffers, and SENDMSGs that go out with the next wait.
 *
 * A received buffer holds the kernel's header, the sender's address and the payload. It is sent as it lies,
 * and given back when the send is complete; since sends complete as they are submitted, the wait is for them
 * and one completion more, or each round would cost two calls. A RECVMSG that ends, for want of buffers or otherwise, is armed
 * again as soon as one is free. Buffers hold 2 KiB: a datagram that is longer is cut. */
#include <sys/mman.h>

#include "bench/floor/udp.h"

#define BUFFERS 2048u /* a power of two */
#define BUFFER_SIZE 2048u
#define RECEIVE UINT64_MAX /* user_data of the receive; that of a send is its buffer */

struct sending {
    struct msghdr header;
    struct iovec payload;
};

struct server {
    struct udp_thread *thread;
    struct io_uring_buf_ring *pool;
    char *memory;
    struct msghdr receive; /* says how much room the address needs */
    bool receiving;
    unsigned sending; /* sends that go out with the next wait */
    unsigned held;    /* buffers that are not in the kernel's hands */
    struct sending sends[BUFFERS];
};

static void *map(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        floor_die("mmap", errno);
    }
    return memory;
}

static char *buffer_at(const struct server *server, unsigned buffer) {
    return server->memory + (size_t)buffer * BUFFER_SIZE;
}

static void give_back(struct server *server, unsigned buffer) {
    io_uring_buf_ring_add(server->pool, buffer_at(server, buffer), BUFFER_SIZE,
                          (unsigned short)buffer, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(server->pool, 1);
    server->held--;
}

static void make_pool(struct server *server) {
    struct io_uring_buf_reg registration;
    memset(&registration, 0, sizeof registration);
    server->pool = map(BUFFERS * sizeof(struct io_uring_buf));
    server->memory = map((size_t)BUFFERS * BUFFER_SIZE);
    registration.ring_addr = (uint64_t)(uintptr_t)server->pool;
    registration.ring_entries = BUFFERS;
    int error = io_uring_register_buf_ring(&server->thread->ring, &registration, 0);
    if (error < 0) {
        floor_die("io_uring_register_buf_ring", -error);
    }
    io_uring_buf_ring_init(server->pool);
    server->held = BUFFERS;
    for (unsigned i = 0; i < BUFFERS; i++) {
        give_back(server, i);
        server->sends[i].header.msg_iov = &server->sends[i].payload;
        server->sends[i].header.msg_iovlen = 1;
    }
}

static void receive(struct server *server) {
    struct io_uring_sqe *sqe = udp_sqe(&server->thread->ring);
    server->receive.msg_namelen = sizeof(struct sockaddr_in);
    io_uring_prep_recvmsg_multishot(sqe, server->thread->fd, &server->receive, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data64(sqe, RECEIVE);
    server->receiving = true;
}

static void received(struct server *server, const struct io_uring_cqe *cqe) {
    server->receiving = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res < 0) {
        return;
    }
    unsigned buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    struct sending *sending = &server->sends[buffer];
    server->held++;
    struct io_uring_recvmsg_out *out =
        io_uring_recvmsg_validate(buffer_at(server, buffer), cqe->res, &server->receive);
    if (out == NULL) {
        give_back(server, buffer);
        return;
    }
    sending->header.msg_name = io_uring_recvmsg_name(out);
    sending->header.msg_namelen = out->namelen;
    sending->payload.iov_base = io_uring_recvmsg_payload(out, &server->receive);
    sending->payload.iov_len = io_uring_recvmsg_payload_length(out, cqe->res, &server->receive);
    floor_count_add(server->thread->index, sending->payload.iov_len);
    struct io_uring_sqe *sqe = udp_sqe(&server->thread->ring);
    io_uring_prep_sendmsg(sqe, server->thread->fd, &sending->header, 0);
    io_uring_sqe_set_data64(sqe, buffer);
    server->sending++;
}

static void *serve(void *arg) {
    struct server *server = map(sizeof *server);
    server->thread = arg;
    udp_make_ring(server->thread);
    make_pool(server);
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned seen = 0;
        if (!server->receiving && server->held < BUFFERS) {
            receive(server);
        }
        udp_wait(&server->thread->ring, server->sending + 1);
        server->sending = 0;
        io_uring_for_each_cqe(&server->thread->ring, head, cqe) {
            if (cqe->user_data == RECEIVE) {
                received(server, cqe);
            } else {
                give_back(server, (unsigned)cqe->user_data);
            }
            seen++;
        }
        io_uring_cq_advance(&server->thread->ring, seen);
    }
    return NULL;
}

int main(int argc, char **argv) {
    return udp_run(argc, argv, serve);
}
