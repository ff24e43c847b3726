/* Floor: a UDP echo server with io_uring for waiting only. A multishot POLL_ADD, then recvmmsg and sendmmsg
 * by plain calls until a batch comes back short, which says that nothing is left.
 *
 * Headers are prepared once and only what a receive changed is put back; a full batch is as large as what
 * the library's example takes. */
#include <poll.h>

#include "bench/floor/udp.h"

#define BATCH 64u
#define STRIDE (UDP_LONGEST / 64u * 64u + 128u) /* no power of two: see the library's example */

struct headers {
    struct mmsghdr messages[BATCH];
    struct iovec buffers[BATCH];
    struct sockaddr_in addresses[BATCH];
};

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) {
        floor_die("calloc", errno);
    }
    return memory;
}

static struct headers *make_headers(void) {
    struct headers *h = allocate(sizeof *h);
    char *memory = allocate((size_t)BATCH * STRIDE);
    for (unsigned i = 0; i < BATCH; i++) {
        h->buffers[i].iov_base = memory + (size_t)i * STRIDE;
        h->buffers[i].iov_len = UDP_LONGEST;
        h->messages[i].msg_hdr.msg_name = &h->addresses[i];
        h->messages[i].msg_hdr.msg_namelen = sizeof h->addresses[i];
        h->messages[i].msg_hdr.msg_iov = &h->buffers[i];
        h->messages[i].msg_hdr.msg_iovlen = 1;
    }
    return h;
}

static void echo(const struct udp_thread *thread, struct headers *h) {
    int got;
    do {
        uint64_t bytes = 0;
        got = recvmmsg(thread->fd, h->messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) {
            h->buffers[i].iov_len = h->messages[i].msg_len;
            bytes += h->messages[i].msg_len;
        }
        for (int sent = 0; sent < got;) {
            int n = sendmmsg(thread->fd, h->messages + sent, (unsigned)(got - sent), MSG_DONTWAIT);
            sent += n > 0 ? n : 1; /* what cannot be sent is lost: datagrams may be */
        }
        for (int i = 0; i < got; i++) {
            h->buffers[i].iov_len = UDP_LONGEST;
            h->messages[i].msg_hdr.msg_namelen = sizeof h->addresses[i];
            h->messages[i].msg_hdr.msg_flags = 0;
        }
        floor_count_add(thread->index, bytes);
    } while (got == (int)BATCH);
}

static void arm(struct udp_thread *thread) {
    io_uring_prep_poll_multishot(udp_sqe(&thread->ring), thread->fd, POLLIN);
}

static void *serve(void *arg) {
    struct udp_thread *thread = arg;
    struct headers *h = make_headers();
    udp_make_ring(thread);
    arm(thread);
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned seen = 0;
        bool armed = true;
        udp_wait(&thread->ring, 1);
        io_uring_for_each_cqe(&thread->ring, head, cqe) {
            armed = (cqe->flags & IORING_CQE_F_MORE) != 0;
            seen++;
        }
        io_uring_cq_advance(&thread->ring, seen);
        if (!armed) {
            arm(thread);
        }
        if (seen > 0) {
            echo(thread, h);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    return udp_run(argc, argv, serve);
}
