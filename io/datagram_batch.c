/* Datagrams by the batch: recvmmsg and sendmmsg. The rules stand in datagram.h.
 *
 * The kernel's headers are made in the worker's scratch memory, not on the stack of the task: a task that
 * waits should not have touched more of it than one that does not use batches. Between making and reading
 * them there is no suspension.
 *
 * A receive prepares no more headers than are likely to be used, an endpoint's window, which grows when a
 * call filled it and shrinks when one left most of it empty. After a full one it calls again.
 *
 * A batch of receives that comes back short met -EAGAIN, or an error that the kernel keeps for the next
 * call. An error on its way is told by an event, after which the state has STICKY, or is another one; so
 * without STICKY a short batch means that there is no more, and saves the call that would find that out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mmsghdr */
#endif
#include "io/datagram.h"

#include "runtime/base/compiler.h"
#include "runtime/base/sim/sys.h"
#include "runtime/base/sys_message.h"
#include "runtime/task.h"
#include "runtime/worker.h"

/* With one a batch could not come back short. */
#define WINDOW_MIN 2u
/* Beyond this a batch gains nothing, and other tasks wait too long. */
#define BATCH_MAX 256u

struct headers {
    struct iovec buffers[BATCH_MAX];
    struct mmsghdr messages[BATCH_MAX];
};
_Static_assert(sizeof(struct headers) <= PICA__SCRATCH_SIZE, "a batch must fit into the scratch memory");

static struct headers *headers_get(void) {
    size_t size;
    return pica__scratch(&size);
}

static void prepare(struct headers *h, unsigned i, struct pica_datagram *datagram, size_t size,
                    socklen_t name_length) {
    h->buffers[i].iov_base = datagram->buffer;
    h->buffers[i].iov_len = size;
    h->messages[i].msg_hdr = (struct msghdr){
        .msg_name = name_length != 0 ? &datagram->address.storage : NULL,
        .msg_namelen = name_length,
        .msg_iov = &h->buffers[i],
        .msg_iovlen = 1,
    };
}

static void taken(const struct headers *h, unsigned i, struct pica_datagram *datagram) {
    const struct mmsghdr *message = &h->messages[i];
    datagram->length = message->msg_len;
    datagram->flags = (message->msg_hdr.msg_flags & MSG_TRUNC) != 0 ? PICA_DATAGRAM_TRUNCATED : 0;
    datagram->address.length = message->msg_hdr.msg_namelen;
    if (message->msg_hdr.msg_namelen == 0) {
        datagram->address.storage.ss_family = AF_UNSPEC;
    }
}

/* After a call that got `got` of `asked`. */
static void adapt_window(pica_datagram_endpoint *endpoint, unsigned asked, unsigned got) {
    if (got == asked && asked == endpoint->window && asked < BATCH_MAX) {
        endpoint->window *= 2;
    } else if (got <= endpoint->window / 4) {
        endpoint->window /= 2;
    }
}

/* One call. *is_full: there may be more. */
static int recv_window(pica_datagram_endpoint *endpoint, struct headers *h,
                       struct pica_datagram *array, unsigned n, bool *is_full) {
    const pica_socket *socket = pica__datagram_socket(endpoint);
    unsigned asked = n < endpoint->window ? n : endpoint->window;
    for (unsigned i = 0; i < asked; i++) {
        prepare(h, i, &array[i], array[i].size, sizeof array[i].address.storage);
    }
    int got;
    do {
        got = PICA__UNLIKELY(socket->plain)
                  ? pica__sim_recvmmsg(socket->fd, h->messages, asked)
                  : pica__sys_recvmmsg(socket->fd, h->messages, asked, MSG_DONTWAIT | MSG_TRUNC);
    } while (got == -EINTR);
    for (int i = 0; i < got; i++) {
        taken(h, (unsigned)i, &array[i]);
    }
    if (got > 0) {
        adapt_window(endpoint, asked, (unsigned)got);
    }
    *is_full = got >= 0 && (unsigned)got == asked;
    return got;
}

/* In the read turn. n is not 0. */
static int recv_batch(pica_datagram_endpoint *endpoint, struct pica_datagram *array, unsigned n) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    uint32_t seen = atomic_load_explicit(&socket->rd.state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0 || seen == socket->rd.drained) {
        return -EAGAIN;
    }
    struct headers *h = headers_get();
    if (h == NULL) {
        return -ENOMEM;
    }
    if (endpoint->window == 0) {
        endpoint->window = WINDOW_MIN;
    }
    unsigned total = 0;
    bool is_full;
    int got;
    do {
        got = recv_window(endpoint, h, array + total, n - total, &is_full);
        total += got > 0 ? (unsigned)got : 0;
    } while (is_full && total < n && total < BATCH_MAX);
    pica__scratch_done(h);
    if (got == -EAGAIN || (got > 0 && !is_full && (seen & PICA__SIDE_STICKY) == 0)) {
        socket->rd.drained = seen & ~(uint32_t)PICA__SIDE_LOCKED;
    } else if (got < 0 && total > 0) {
        endpoint->error = got;
    }
    if (total == 0) {
        return got;
    }
    endpoint->streak += total - 1; /* the pace has counted one */
    return (int)total;
}

int pica_datagram_recv_many(pica_datagram_endpoint *endpoint, struct pica_datagram *array,
                            unsigned n) {
    int got = pica__datagram_read_begin(endpoint);
    if (got < 0) {
        return got;
    }
    do {
        got = pica__datagram_read_pace(endpoint);
        if (PICA__LIKELY(got == 0) && n != 0) {
            got = recv_batch(endpoint, array, n);
        }
    } while (got == -EAGAIN && (got = pica__datagram_read_wait(endpoint)) == 0);
    pica__datagram_read_end(endpoint);
    return got;
}

struct batch {
    const struct pica_datagram *array;
    unsigned n;
    bool paced;
};

static int send_prepared(pica_socket *socket, struct headers *h, unsigned count, bool paced) {
    uint32_t seen = atomic_load_explicit(&socket->wr.state, memory_order_acquire);
    if ((seen & PICA__SIDE_READY) == 0 && !paced) {
        return -EAGAIN;
    }
    int sent;
    do {
        sent = PICA__UNLIKELY(socket->plain)
                   ? pica__sim_sendmmsg(socket->fd, h->messages, count)
                   : pica__sys_sendmmsg(socket->fd, h->messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent == -EINTR);
    if (sent == -EAGAIN && !paced) {
        pica__socket_clear_writable(socket, seen);
    }
    return sent;
}

static ssize_t send_batch(pica_datagram_endpoint *endpoint, void *arg) {
    const struct batch *batch = arg;
    struct headers *h = headers_get();
    if (h == NULL) {
        return -ENOMEM;
    }
    unsigned count = 0;
    while (count < batch->n && count < BATCH_MAX) {
        struct pica_datagram *datagram = (struct pica_datagram *)(uintptr_t)&batch->array[count];
        if (datagram->length > datagram->size) {
            break;
        }
        prepare(h, count++, datagram, datagram->length, datagram->address.length);
    }
    int sent = count == 0 ? -EINVAL
                          : send_prepared(pica__datagram_socket(endpoint), h, count, batch->paced);
    pica__scratch_done(h);
    return sent;
}

int pica_datagram_send_many(pica_datagram_endpoint *endpoint, const struct pica_datagram *array,
                            unsigned n) {
    if (n == 0) {
        return pica__current() == NULL ? PICA_ENOTASK : 0;
    }
    struct batch batch = {array, n, pica__datagram_paced(endpoint, array[0].address.length != 0)};
    return (int)pica__datagram_write(endpoint, batch.paced, send_batch, &batch);
}
