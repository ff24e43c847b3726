/*
 * Datagrams in memory. See datagram.h.
 *
 * A letter is one datagram: under way, an event and in the list of all that are; then in the box of the receiver. It
 * knows its sender by the number of its descriptor, which is never given out again, so that a sender may close
 * meanwhile.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mmsghdr */
#endif
#include "runtime/base/sim/datagram.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "runtime/base/sim/sys.h"

enum { LARGEST = 65507, UNIX_ROOM = 10 };

struct letter {
    pica__link link;
    pica__sim_event event;
    int sender;
    bool counted;             /* among those that its sender has under way */
    pica_address from;
    pica_address to;
    size_t size;
    char data[];
};

/* What a socket for datagrams has. */
typedef struct pica__sim_box {
    pica__link letters;       /* that have arrived */
    unsigned count;
    unsigned room;
    unsigned sending;         /* that are under way */
    unsigned sending_max;
    int64_t latest;           /* when the last one sent arrives */
    int error;                /* that the next call returns, or 0 */
} box;

static pica__link under_way;

static box *box_of(const pica__sim_file *file) {
    return file->box;
}

static bool is_unix(const pica__sim_file *file) {
    return file->family == AF_UNIX;
}

void pica__sim_datagram_init(pica__sim_file *file) {
    static const unsigned rooms[] = {1, 4, 16, 64};
    if (under_way.next == NULL) {
        pica__list_init(&under_way);
    }
    box *b = calloc(1, sizeof *b);
    if (b == NULL) {
        pica__sim_fatal("no memory");
    }
    pica__list_init(&b->letters);
    bool roomy = pica__the_sim.options.faults < 0; /* without faults nothing is lost */
    b->room = is_unix(file) ? UNIX_ROOM : roomy ? UINT_MAX : rooms[pica__sim_draw(PICA__SIM_WORLD, 4)];
    b->sending_max = rooms[pica__sim_draw(PICA__SIM_WORLD, 4)];
    file->kind = PICA__SIM_DATAGRAM;
    file->box = b;
}

/* --- addresses --- */

/* As a receiver sees it: not the wildcard, and no address at all for a Unix socket without a name. */
static pica_address seen_from(const pica__sim_file *file) {
    pica_address a = file->name;
    if (a.storage.ss_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&a.storage;
        in->sin_addr.s_addr = in->sin_addr.s_addr == 0 ? htonl(INADDR_LOOPBACK) : in->sin_addr.s_addr;
    } else if (a.storage.ss_family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a.storage;
        in6->sin6_addr = IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr) ? in6addr_loopback : in6->sin6_addr;
    } else {
        a.length = a.length <= sizeof(sa_family_t) ? 0 : a.length;
    }
    return a;
}

/* A socket of the internet that has no name yet gets one. */
static int name_it(pica__sim_file *file) {
    if (file->name.length != 0 || is_unix(file)) {
        return 0;
    }
    struct sockaddr_storage any;
    memset(&any, 0, sizeof any);
    any.ss_family = (sa_family_t)file->family;
    return pica__sim_bind_file(file, (const struct sockaddr *)&any,
                               file->family == AF_INET ? sizeof(struct sockaddr_in)
                                                       : sizeof(struct sockaddr_in6));
}

static int address_of(const pica__sim_file *file, pica_address *out, const struct sockaddr *address,
                      unsigned length) {
    if (length > sizeof out->storage || length < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    memset(out, 0, sizeof *out);
    memcpy(&out->storage, address, length);
    out->length = length;
    return out->storage.ss_family == file->family ? 0 : -EAFNOSUPPORT;
}

int pica__sim_datagram_connect(pica__sim_file *file, const struct sockaddr *address, unsigned length) {
    pica_address to;
    int rc = address_of(file, &to, address, length);
    if (rc == 0 && is_unix(file) && pica__sim_receiver_at(&to, NULL) == NULL) {
        rc = -ECONNREFUSED;
    }
    rc = rc == 0 ? name_it(file) : rc;
    if (rc == 0) {
        file->peer = to;
    }
    return rc;
}

/* --- arriving --- */

static void letter_free(struct letter *letter) {
    if (pica__link_linked(&letter->link)) {
        pica__list_remove(&letter->link);
    }
    pica__sim_event_cancel(&letter->event);
    free(letter);
}

/* One of the sender's is no longer under way. */
static void sender_told(struct letter *letter, bool refused) {
    pica__sim_file *sender = pica__sim_file_find(letter->sender);
    if (sender == NULL || !letter->counted) {
        return;
    }
    box *b = box_of(sender);
    letter->counted = false;
    b->sending--;
    if (refused && sender->peer.length != 0) {
        b->error = -ECONNREFUSED;
    }
    pica__sim_file_notify(sender, POLLOUT | (b->error != 0 ? POLLIN | POLLERR : 0u));
}

static void letter_arrives(pica__sim_event *event) {
    struct letter *letter = PICA__CONTAINER_OF(event, struct letter, event);
    pica__sim_file *to = pica__sim_receiver_at(&letter->to, &letter->from);
    pica__list_remove(&letter->link);
    pica__sim_trace("a datagram of %zu bytes from %d arrives at %d", letter->size, letter->sender,
                    to != NULL ? to->fd : -1);
    sender_told(letter, to == NULL);
    if (to == NULL || box_of(to)->count >= box_of(to)->room) {
        letter_free(letter);
        return;
    }
    box *b = box_of(to);
    pica__list_push_back(&b->letters, &letter->link);
    b->count++;
    pica__sim_file_notify(to, POLLIN);
}

/* --- sending --- */

static struct letter *letter_make(pica__sim_file *file, const pica_address *to, const void *buffer,
                                  size_t size) {
    struct letter *letter = calloc(1, sizeof *letter + size);
    if (letter == NULL) {
        pica__sim_fatal("no memory");
    }
    pica__list_init(&letter->link);
    pica__sim_event_init(&letter->event, letter_arrives);
    letter->sender = file->fd;
    letter->from = seen_from(file);
    letter->to = *to;
    letter->size = size;
    if (size > 0) {
        memcpy(letter->data, buffer, size);
    }
    return letter;
}

static void post(pica__sim_file *file, struct letter *letter, bool counted) {
    box *b = box_of(file);
    int64_t when = pica__sim_time() + pica__sim_delay();
    if (!pica__sim_fault(PICA_SIM_REORDER)) {
        when = when > b->latest ? when : b->latest;
        b->latest = when;
    }
    letter->counted = counted;
    b->sending += counted;
    pica__list_push_back(&under_way, &letter->link);
    pica__sim_event_at(&letter->event, when);
}

/* Why nothing can be sent, or 0. */
static int send_check(pica__sim_file *file, size_t size, const pica_address *to, bool named) {
    box *b = box_of(file);
    if (b->error != 0 && !named) {
        int error = b->error;
        b->error = 0;
        return error;
    }
    if (size > LARGEST) {
        return -EMSGSIZE;
    }
    if (is_unix(file)) {
        const pica__sim_file *receiver = pica__sim_receiver_at(to, NULL);
        return receiver == NULL                                   ? -ECONNREFUSED
               : box_of(receiver)->count >= box_of(receiver)->room ? -EAGAIN
                                                                   : 0;
    }
    if (b->sending >= b->sending_max) {
        return -EAGAIN;
    }
    return !file->actor && pica__sim_fault(PICA_SIM_ENOBUFS) ? -ENOBUFS : 0;
}

ssize_t pica__sim_datagram_send(pica__sim_file *file, const void *buffer, size_t size,
                                const struct sockaddr *address, unsigned length) {
    pica_address to = file->peer;
    int rc = address != NULL ? address_of(file, &to, address, length) : to.length == 0 ? -EDESTADDRREQ : 0;
    rc = rc == 0 ? name_it(file) : rc;
    rc = rc == 0 ? send_check(file, size, &to, address != NULL) : rc;
    if (rc < 0) {
        return rc;
    }
    struct letter *letter = letter_make(file, &to, buffer, size);
    if (is_unix(file)) {
        pica__list_push_back(&under_way, &letter->link);
        letter_arrives(&letter->event);
        return (ssize_t)size;
    }
    if (pica__sim_fault(PICA_SIM_LOSS)) {
        letter_free(letter);
        return (ssize_t)size;
    }
    if (pica__sim_fault(PICA_SIM_DUPLICATE)) {
        post(file, letter_make(file, &to, buffer, size), false);
    }
    post(file, letter, true);
    return (ssize_t)size;
}

/* --- receiving --- */

/* Unix sockets that are connected with this one may have waited for it. */
static void room_again(const pica__sim_file *file) {
    for (int fd = PICA__SIM_FD; is_unix(file) && fd < pica__sim_file_limit(); fd++) {
        pica__sim_file *sender = pica__sim_file_find(fd);
        if (sender != NULL && sender->kind == PICA__SIM_DATAGRAM && sender->peer.length != 0) {
            pica__sim_file_notify(sender, POLLOUT);
        }
    }
}

ssize_t pica__sim_datagram_receive(pica__sim_file *file, void *buffer, size_t size, pica_address *from,
                                   int *flags) {
    box *b = box_of(file);
    if (b->error != 0) {
        int error = b->error;
        b->error = 0;
        return error;
    }
    pica__link *link = pica__list_pop_front(&b->letters);
    if (link == NULL) {
        return -EAGAIN;
    }
    struct letter *letter = PICA__CONTAINER_OF(link, struct letter, link);
    b->count--;
    size_t whole = letter->size;
    if (whole > 0 && size > 0) {
        memcpy(buffer, letter->data, whole < size ? whole : size);
    }
    if (from != NULL) {
        *from = letter->from;
    }
    if (flags != NULL) {
        *flags = whole > size ? MSG_TRUNC : 0;
    }
    letter_free(letter);
    room_again(file);
    return (ssize_t)whole;
}

unsigned pica__sim_datagram_poll(const pica__sim_file *file) {
    const box *b = box_of(file);
    unsigned revents = b->count > 0 ? POLLIN : 0;
    bool room = b->sending < b->sending_max;
    if (is_unix(file) && file->peer.length != 0) {
        const pica__sim_file *peer = pica__sim_receiver_at(&file->peer, NULL);
        room = peer == NULL || box_of(peer)->count < box_of(peer)->room;
    }
    revents |= room ? POLLOUT : 0;
    return b->error != 0 ? revents | POLLIN | POLLERR : revents;
}

void pica__sim_datagram_close(pica__sim_file *file) {
    pica__link *link;
    while ((link = pica__list_first(&box_of(file)->letters)) != NULL) {
        letter_free(PICA__CONTAINER_OF(link, struct letter, link));
    }
    room_again(file); /* or nobody there any more */
    free(file->box);
    file->box = NULL;
}

void pica__sim_datagrams_end(void) {
    pica__link *link;
    while (under_way.next != NULL && (link = pica__list_first(&under_way)) != NULL) {
        letter_free(PICA__CONTAINER_OF(link, struct letter, link));
    }
}

/* --- system calls --- */

static bool interrupted(void) {
    pica__sim_point();
    return pica__sim_fault(PICA_SIM_CALL_EINTR);
}

ssize_t pica__sim_recvfrom(int fd, void *buffer, size_t size, struct sockaddr *from, unsigned *length) {
    if (interrupted()) {
        return -EINTR;
    }
    pica_address sender;
    ssize_t n = pica__sim_datagram_receive(pica__sim_file_of(fd), buffer, size, &sender, NULL);
    if (n >= 0 && from != NULL) {
        memcpy(from, &sender.storage, *length < sender.length ? *length : sender.length);
        *length = sender.length;
    }
    pica__sim_trace("receives from %d, %zu bytes: %zd", fd, size, n);
    return n;
}

ssize_t pica__sim_sendto(int fd, const void *buffer, size_t size, const struct sockaddr *to,
                         unsigned length) {
    if (interrupted()) {
        return -EINTR;
    }
    ssize_t n = pica__sim_datagram_send(pica__sim_file_of(fd), buffer, size, to, length);
    pica__sim_trace("sends by %d, %zu bytes: %zd", fd, size, n);
    return n;
}

/* As the kernel does: an error counts only if it is the first one; a later one comes with the next call. */
int pica__sim_recvmmsg(int fd, struct mmsghdr *messages, unsigned n) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file = pica__sim_file_of(fd);
    for (unsigned i = 0; i < n; i++) {
        struct msghdr *m = &messages[i].msg_hdr;
        pica_address from;
        ssize_t got = box_of(file)->error != 0 && i > 0
                          ? -EAGAIN
                          : pica__sim_datagram_receive(file, m->msg_iov->iov_base, m->msg_iov->iov_len,
                                                       &from, &m->msg_flags);
        if (got < 0) {
            return i > 0 ? (int)i : (int)got;
        }
        messages[i].msg_len = (unsigned)got;
        memcpy(m->msg_name, &from.storage,
               m->msg_namelen < from.length ? m->msg_namelen : from.length);
        m->msg_namelen = from.length;
    }
    return (int)n;
}

int pica__sim_sendmmsg(int fd, struct mmsghdr *messages, unsigned n) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file = pica__sim_file_of(fd);
    for (unsigned i = 0; i < n; i++) {
        struct msghdr *m = &messages[i].msg_hdr;
        ssize_t sent = pica__sim_datagram_send(file, m->msg_iov->iov_base, m->msg_iov->iov_len, m->msg_name,
                                               m->msg_namelen);
        if (sent < 0) {
            return i > 0 ? (int)i : (int)sent;
        }
        messages[i].msg_len = (unsigned)sent;
    }
    return (int)n;
}
