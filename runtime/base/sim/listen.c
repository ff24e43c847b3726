/*
 * Addresses, listeners and connecting in the simulator. See net.h.
 *
 * A bound address is in a list of its own; a path stays there without a listener until it is unlinked, as a socket
 * file does. Connecting takes a while, then looks who listens: a full backlog, or a listener that refuses, answers
 * nothing, and TCP tries again after 1, 2, 4... seconds.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "runtime/base/sim/disk.h"
#include "runtime/base/sim/net.h"
#include "runtime/base/sim/sys.h"

#define SECOND INT64_C(1000000000)

struct bound {
    pica__link link;
    pica_address address;
    pica__sim_file *file; /* NULL: a path that nobody listens at any more */
    ino_t inode;
};

static pica__link addresses;
static ino_t last_inode;
static uint16_t last_port;

static void addresses_begin(void) {
    if (addresses.next == NULL) {
        pica__list_init(&addresses);
        last_port = 40000;
    }
}

void pica__sim_addresses_end(void) {
    addresses_begin();
    pica__link *l;
    while ((l = pica__list_pop_front(&addresses)) != NULL) {
        free(PICA__CONTAINER_OF(l, struct bound, link));
    }
    last_port = 40000;
    last_inode = 0;
}

/* Port and the wildcard of an address of the internet; port 0 for others. */
static uint16_t port_of(const pica_address *a, bool *any) {
    if (a->storage.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&a->storage;
        *any = in->sin_addr.s_addr == INADDR_ANY;
        return in->sin_port;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->storage;
    *any = IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
    return in6->sin6_port;
}

static void port_set(pica_address *a, uint16_t port) {
    if (a->storage.ss_family == AF_INET) {
        ((struct sockaddr_in *)&a->storage)->sin_port = htons(port);
    } else {
        ((struct sockaddr_in6 *)&a->storage)->sin6_port = htons(port);
    }
}

/* Whether who asks for `b` finds `a`. */
static bool matches(const pica_address *a, const pica_address *b) {
    if (b->storage.ss_family == AF_UNIX || a->storage.ss_family == AF_UNIX) {
        return a->length == b->length && memcmp(&a->storage, &b->storage, a->length) == 0;
    }
    bool any_a, any_b;
    if (port_of(a, &any_a) != port_of(b, &any_b)) {
        return false;
    }
    if (any_a || any_b) {
        return true;
    }
    if (a->storage.ss_family != b->storage.ss_family) {
        return false;
    }
    if (a->storage.ss_family == AF_INET) {
        return ((const struct sockaddr_in *)&a->storage)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)&b->storage)->sin_addr.s_addr;
    }
    return memcmp(&((const struct sockaddr_in6 *)&a->storage)->sin6_addr,
                  &((const struct sockaddr_in6 *)&b->storage)->sin6_addr, 16) == 0;
}

static int address_of(pica_address *out, const struct sockaddr *address, unsigned length) {
    if (length > sizeof out->storage || length < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    memset(out, 0, sizeof *out);
    memcpy(&out->storage, address, length);
    out->length = length;
    int family = out->storage.ss_family;
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX ? 0 : -EAFNOSUPPORT;
}

int pica__sim_bind_file(pica__sim_file *file, const struct sockaddr *address, unsigned length) {
    addresses_begin();
    pica_address name;
    int rc = address_of(&name, address, length);
    if (rc < 0) {
        return rc;
    }
    bool any;
    if (name.storage.ss_family != AF_UNIX && port_of(&name, &any) == 0) {
        port_set(&name, ++last_port);
    }
    for (pica__link *l = addresses.next; l != &addresses; l = l->next) {
        struct bound *b = PICA__CONTAINER_OF(l, struct bound, link);
        bool other = b->file != NULL && name.storage.ss_family != AF_UNIX &&
                     (b->file->kind == PICA__SIM_DATAGRAM) != (file->kind == PICA__SIM_DATAGRAM);
        if (!other && matches(&b->address, &name) &&
            !(b->file != NULL && b->file->reuse_port && file->reuse_port)) {
            return -EADDRINUSE;
        }
    }
    struct bound *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return -ENOMEM;
    }
    b->address = name;
    b->file = file;
    b->inode = ++last_inode;
    pica__list_push_back(&addresses, &b->link);
    file->name = name;
    return 0;
}

int pica__sim_listen_file(pica__sim_file *file, int backlog) {
    if (file->kind == PICA__SIM_LISTENER) {
        return 0;
    }
    if (file->kind != PICA__SIM_SOCKET) {
        return -EINVAL;
    }
    static const unsigned limits[] = {1, 2, 8, 64};
    unsigned limit = limits[pica__sim_draw(PICA__SIM_WORLD, 4)];
    file->backlog_max = backlog > 0 && (unsigned)backlog < limit ? (unsigned)backlog : limit;
    file->backlog = calloc(file->backlog_max, sizeof *file->backlog);
    if (file->backlog == NULL) {
        return -ENOMEM;
    }
    file->kind = PICA__SIM_LISTENER;
    return 0;
}

int pica__sim_accept_file(pica__sim_file *listener, pica__sim_file **out) {
    if (listener->kind != PICA__SIM_LISTENER) {
        return -EINVAL;
    }
    if (listener->waiting == 0) {
        return -EAGAIN;
    }
    if (!listener->actor) {
        if (pica__sim_fault(PICA_SIM_EMFILE)) {
            return -EMFILE;
        }
        if (pica__sim_fault(PICA_SIM_ABORTED)) {
            return -ECONNABORTED;
        }
    }
    pica__sim_file *file = listener->backlog[0];
    listener->waiting--;
    memmove(listener->backlog, listener->backlog + 1, listener->waiting * sizeof *listener->backlog);
    file->actor = pica__sim_current()->actor;
    (void)pica__sim_file_number(file);
    *out = file;
    return file->fd;
}

void pica__sim_listener_close(pica__sim_file *file) {
    addresses_begin();
    for (unsigned i = 0; i < file->waiting; i++) {
        pica__sim_stream_reset(file->backlog[i]);
        pica__sim_stream_close(file->backlog[i]);
        free(file->backlog[i]);
    }
    free(file->backlog);
    pica__link *next;
    for (pica__link *l = addresses.next; l != &addresses; l = next) {
        next = l->next;
        struct bound *b = PICA__CONTAINER_OF(l, struct bound, link);
        if (b->file == file) {
            const struct sockaddr_un *un = (const struct sockaddr_un *)&b->address.storage;
            if (un->sun_family == AF_UNIX && un->sun_path[0] != 0) {
                b->file = NULL; /* the file stays */
            } else {
                pica__list_remove(&b->link);
                free(b);
            }
        }
    }
}

/* --- connecting --- */

static bool listens_at(const struct bound *b, const pica_address *address) {
    return b->file != NULL && b->file->kind == PICA__SIM_LISTENER && matches(&b->address, address);
}

/* One of those that listen there; of several, by chance. NULL: nobody. */
static pica__sim_file *listener_at(const pica_address *address) {
    addresses_begin();
    unsigned n = 0;
    for (pica__link *l = addresses.next; l != &addresses; l = l->next) {
        n += listens_at(PICA__CONTAINER_OF(l, struct bound, link), address);
    }
    if (n == 0) {
        return NULL;
    }
    unsigned chosen = pica__sim_draw(PICA__SIM_WORLD, n);
    for (pica__link *l = addresses.next;; l = l->next) {
        struct bound *b = PICA__CONTAINER_OF(l, struct bound, link);
        if (listens_at(b, address) && chosen-- == 0) {
            return b->file;
        }
    }
}

int pica__sim_connect_file(pica__sim_file *file, const struct sockaddr *address, unsigned length) {
    pica_address to;
    int rc = address_of(&to, address, length);
    if (rc < 0) {
        return rc;
    }
    if (file->kind != PICA__SIM_SOCKET) {
        return -EISCONN;
    }
    pica__sim_file *listener = listener_at(&to);
    if (listener == NULL) {
        return -ECONNREFUSED;
    }
    if (listener->refuses && to.storage.ss_family == AF_UNIX) {
        return -ECONNREFUSED;
    }
    if (listener->refuses || listener->waiting == listener->backlog_max) {
        return -EAGAIN;
    }
    pica__sim_file *server = pica__sim_file_make(PICA__SIM_STREAM);
    server->socket = true;
    server->family = file->family = to.storage.ss_family;
    server->tcp = file->tcp = server->family != AF_UNIX;
    server->name = listener->name;
    file->peer = to;
    if (file->name.length == 0) {
        file->name = to;
        if (file->tcp) {
            port_set(&file->name, ++last_port);
        } else {
            file->name.length = sizeof(sa_family_t);
        }
    }
    server->peer = file->name;
    pica__sim_stream_pair(file, server);
    listener->backlog[listener->waiting++] = server;
    pica__sim_file_notify(listener, POLLIN);
    return 0;
}

static void connecting_fire(pica__sim_event *event) {
    pica__sim_connecting *c = PICA__CONTAINER_OF(event, pica__sim_connecting, event);
    int rc = pica__sim_connect_file(c->file, (const struct sockaddr *)&c->address.storage,
                                    c->address.length);
    if (rc != -EAGAIN) {
        c->done(c, rc);
    } else if (c->tries == 6) {
        c->done(c, -ETIMEDOUT);
    } else {
        bool unix_socket = c->address.storage.ss_family == AF_UNIX;
        int64_t pause = unix_socket ? SECOND / 1000 : SECOND << c->tries++;
        pica__sim_event_at(&c->event, pica__sim_time() + pause);
    }
}

static void connecting_timed_out(pica__sim_event *event) {
    pica__sim_connecting *c = PICA__CONTAINER_OF(event, pica__sim_connecting, event);
    c->done(c, -ETIMEDOUT);
}

static void connecting_refused(pica__sim_event *event) {
    pica__sim_connecting *c = PICA__CONTAINER_OF(event, pica__sim_connecting, event);
    c->done(c, -ECONNREFUSED);
}

void pica__sim_connect_begin(pica__sim_connecting *c, pica__sim_file *file,
                             const struct sockaddr *address, unsigned length,
                             void (*done)(pica__sim_connecting *c, int result)) {
    pica__sim_event_init(&c->event, connecting_fire);
    c->file = file;
    c->tries = 0;
    c->done = done;
    int64_t when = pica__sim_time() + pica__sim_delay();
    int rc = address_of(&c->address, address, length);
    if (!file->actor) {
        if (pica__sim_fault(PICA_SIM_REFUSED) || rc < 0) {
            c->event.fire = connecting_refused;
        } else if (pica__sim_fault(PICA_SIM_TIMEDOUT)) {
            c->event.fire = connecting_timed_out;
            when += 60 * SECOND;
        }
    }
    pica__sim_event_at(&c->event, when);
}

/* --- datagrams --- */

static bool receives(const struct bound *b, const pica_address *to, const pica_address *from) {
    if (b->file == NULL || b->file->kind != PICA__SIM_DATAGRAM || !matches(&b->address, to)) {
        return false;
    }
    return from == NULL || b->file->peer.length == 0 || matches(&b->file->peer, from);
}

pica__sim_file *pica__sim_receiver_at(const pica_address *to, const pica_address *from) {
    addresses_begin();
    unsigned n = 0;
    for (pica__link *l = addresses.next; l != &addresses; l = l->next) {
        n += receives(PICA__CONTAINER_OF(l, struct bound, link), to, from);
    }
    if (n == 0) {
        return NULL;
    }
    unsigned chosen = pica__sim_draw(PICA__SIM_WORLD, n);
    for (pica__link *l = addresses.next;; l = l->next) {
        struct bound *b = PICA__CONTAINER_OF(l, struct bound, link);
        if (receives(b, to, from) && chosen-- == 0) {
            return b->file;
        }
    }
}

/* --- socket files --- */

static struct bound *bound_at(const char *path) {
    addresses_begin();
    for (pica__link *l = addresses.next; l != &addresses; l = l->next) {
        struct bound *b = PICA__CONTAINER_OF(l, struct bound, link);
        const struct sockaddr_un *un = (const struct sockaddr_un *)&b->address.storage;
        if (un->sun_family == AF_UNIX && un->sun_path[0] != 0 && strcmp(un->sun_path, path) == 0) {
            return b;
        }
    }
    return NULL;
}

int pica__sim_lstat(const char *path, struct stat *st) {
    struct bound *b = bound_at(path);
    if (b == NULL) {
        return pica__sim_disk_lstat(path, st);
    }
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFSOCK | 0700;
    st->st_ino = b->inode;
    st->st_nlink = 1;
    return 0;
}

int pica__sim_unlink(const char *path) {
    struct bound *b = bound_at(path);
    if (b == NULL) {
        return pica__sim_disk_unlink(path);
    }
    if (b->file != NULL) {
        /* It goes on to serve whom it has; nobody finds it any more. */
        b->address.length = sizeof(sa_family_t);
        ((struct sockaddr_un *)&b->address.storage)->sun_path[0] = 0;
        return 0;
    }
    pica__list_remove(&b->link);
    free(b);
    return 0;
}

int pica__sim_chmod(const char *path) {
    return bound_at(path) != NULL ? 0 : pica__sim_disk_chmod(path);
}
