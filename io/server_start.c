/*
 * Making servers: which addresses, a listener for each address on each loop, and what they are tuned to.
 *
 * Over TCP each loop has a listener of its own. The first of an address is bound without SO_REUSEPORT, so that
 * it fails if anybody else has the port, and is given the option afterwards, so that the others can join it; with
 * port 0 the others take the port that the first got. Over Unix sockets the caller's loop has the only listener,
 * and so it is, for each address, with a limit of connections: see server.c.
 *
 * Of several addresses each is one of its own: IPv6 is IPv6 alone, so that "::" leaves room for "0.0.0.0", and port
 * 0 is another port for each. An address that this machine does not have, or a family that the kernel does not know,
 * is passed over if another one can be had: names are given addresses of both families whether a machine has both or
 * not. With any other error nothing is left.
 *
 * All is bound before anything becomes a socket of a loop: so a failure closes its descriptors here and now, and the
 * ports are free when the call returns.
 */
#include "io/server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include <pica/error.h>
#include <pica/runtime.h>

#include "io/bind.h"
#include "io/names.h"
#include "io/operation.h"
#include "runtime/base/alloc.h"
#include "runtime/base/compiler.h"
#include "runtime/base/log.h"
#include "runtime/base/sys.h"

/* --- the object ----------------------------------------------------------------------------- */

/* What the caller asks for, as all ways to start a server have it. */
struct request {
    pica_client_connected handler;
    void *arg;
    const struct pica_server_options *options; /* never NULL */
};

static int request_check(pica_server **out, struct request *request) {
    static const struct pica_server_options defaults = PICA_SERVER_OPTIONS_INIT;
    const struct pica_server_options *o = request->options;
    if (o == NULL) {
        o = request->options = &defaults;
    }
    bool ok = out != NULL && request->handler != NULL && o->size == sizeof *o && o->backlog >= 0 &&
              o->keepalive >= 0 && o->receive_buffer >= 0 && o->send_buffer >= 0;
    return ok ? 0 : -EINVAL;
}

/* A server without listeners. only: the loop of all of them; NULL: each has some. */
static pica_server *server_new(pica_runtime *runtime, const struct request *request,
                               const pica_loop *only, size_t addresses) {
    unsigned count = pica_runtime_workers(runtime);
    size_t doors = addresses * (only != NULL ? 1 : count);
    size_t doors_at = sizeof(pica_server) + count * sizeof(struct pica__place);
    size_t addresses_at = doors_at + doors * sizeof(struct pica__door);
    size_t size = addresses_at + addresses * sizeof(pica_address);
    pica_server *server = pica__zalloc(size);
    if (server == NULL) {
        return NULL;
    }
    const struct pica_server_options *o = request->options;
    atomic_init(&server->references, 1);
    atomic_init(&server->connections, 0);
    server->handler = request->handler;
    server->arg = request->arg;
    server->limit = o->limit;
    server->max_connections = o->max_connections;
    server->tuning = (struct pica__tuning){o->delay != 0, o->keepalive, o->receive_buffer,
                                           o->send_buffer};
    pica__lock_init(&server->lock);
    pica__list_init(&server->tasks);
    pica_event_init(&server->ended);
    server->size = size;
    server->addresses = (void *)((char *)server + addresses_at);
    server->doors = (void *)((char *)server + doors_at);
    server->door_count = doors;
    for (size_t i = 0; i < doors; i++) {
        server->doors[i].fd = -1;
    }
    server->count = count;
    for (unsigned i = 0; i < count; i++) {
        server->places[i].server = server;
        server->places[i].loop = pica_runtime_loop(runtime, i);
    }
    server->only = only != NULL ? &server->places[pica_loop_index(only)] : NULL;
    return server;
}

/* What is set on a listener is inherited by its connections. */
static void tune_listener(const pica_server *server, pica_socket *listener) {
    const struct pica__tuning *tuning = &server->tuning;
    if (tuning->receive_buffer != 0) {
        (void)pica_socket_setopt(listener, SOL_SOCKET, SO_RCVBUF, &tuning->receive_buffer,
                                 sizeof tuning->receive_buffer);
    }
    if (tuning->send_buffer != 0) {
        (void)pica_socket_setopt(listener, SOL_SOCKET, SO_SNDBUF, &tuning->send_buffer,
                                 sizeof tuning->send_buffer);
    }
}

/* Of a server that does not start. A listener that was given stays the giver's. */
static void close_doors(pica_server *server) {
    for (size_t i = 0; i < server->door_count; i++) {
        struct pica__door *door = &server->doors[i];
        if (server->shared && door->listener != NULL) {
            pica__socket_unref(door->listener);
        } else {
            pica_socket_close(door->listener);
        }
        if (door->fd >= 0) {
            pica__unbind(&server->addresses[0]); /* with a file it is the only one */
            (void)pica__sys_close(door->fd);
        }
    }
}

/* The descriptors are bound, or rc tells why not: makes listeners of them, and runs them. On an error the server
 * is gone, and *out NULL. */
static int launch(pica_server **out, pica_server *server, int rc) {
    for (size_t i = 0; i < server->door_count && rc == 0; i++) {
        struct pica__door *door = &server->doors[i];
        if (door->fd >= 0) {
            rc = pica__socket_adopt(&door->listener, door->fd, door->place->loop);
            door->fd = rc == 0 ? -1 : door->fd;
        }
        if (door->listener != NULL) {
            tune_listener(server, door->listener);
        }
    }
    if (rc == 0) {
        *out = server; /* the first connection may come before this returns */
        rc = pica__server_run(server);
    }
    if (rc < 0) {
        close_doors(server);
        *out = NULL;
        pica__server_unref(server);
    }
    return rc;
}

/* --- addresses ------------------------------------------------------------------------------ */

static bool is_same(const pica_address *a, const pica_address *b) {
    const struct sockaddr_in6 *a6 = (const void *)&a->storage;
    const struct sockaddr_in6 *b6 = (const void *)&b->storage;
    if (a->storage.ss_family != b->storage.ss_family) {
        return false;
    }
    if (a->storage.ss_family == AF_INET6) {
        return a6->sin6_port == b6->sin6_port && a6->sin6_scope_id == b6->sin6_scope_id &&
               memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
    }
    const struct sockaddr_in *a4 = (const void *)&a->storage;
    const struct sockaddr_in *b4 = (const void *)&b->storage;
    return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
}

/* Whether an entry of a list is one to listen on, and not the same as one before it. */
static bool is_wanted(const pica_addrinfo *list, const pica_addrinfo *info) {
    int family = info->address.storage.ss_family;
    bool wanted = (family == AF_INET || family == AF_INET6) &&
                  (info->type == SOCK_STREAM || info->type == 0);
    for (; wanted && list != info; list = list->next) {
        wanted = !((list->type == SOCK_STREAM || list->type == 0) &&
                   is_same(&list->address, &info->address));
    }
    return wanted;
}

/* Binds one address, its listeners being the `count` doors from `door` on. What was bound before an error is in the
 * doors. */
static int bind_address(pica_server *server, const pica_address *address,
                        const struct request *request, struct pica__door *door, unsigned flags) {
    bool reuse_port = request->options->reuse_port != 0 && address->storage.ss_family != AF_UNIX;
    unsigned count = server->only != NULL ? 1 : server->count;
    struct pica_listen_options listen = PICA_LISTEN_OPTIONS_INIT;
    listen.backlog = request->options->backlog;
    listen.unix_mode = request->options->unix_mode;
    unsigned first = reuse_port ? PICA__LISTEN_REUSE_PORT
                                : count > 1 ? PICA__LISTEN_REUSE_PORT_LATER : 0;
    pica_address *bound = &server->addresses[server->bound];
    for (unsigned i = 0; i < count; i++) {
        int fd = i == 0 ? pica__listener_bind(address, &listen, flags | first)
                        : pica__listener_bind(bound, &listen, flags | PICA__LISTEN_REUSE_PORT);
        if (fd < 0) {
            return fd;
        }
        door[i].fd = fd;
        door[i].place = server->only != NULL ? server->only : &server->places[i];
        if (i == 0) {
            bound->length = sizeof bound->storage;
            int rc = pica__sys_getsockname(fd, (struct sockaddr *)&bound->storage, &bound->length);
            if (rc < 0) {
                return rc;
            }
        }
    }
    server->bound++;
    return 0;
}

/* Binds all addresses of the list that are wanted, `count` of them. */
static int bind_list(pica_server *server, const pica_addrinfo *list, size_t count,
                     const struct request *request) {
    size_t each = server->door_count / count;
    unsigned flags = count > 1 ? PICA__LISTEN_ONLY_IPV6 : 0;
    int missing = 0;
    for (const pica_addrinfo *info = list; info != NULL; info = info->next) {
        if (!is_wanted(list, info)) {
            continue;
        }
        struct pica__door *door = &server->doors[server->bound * each];
        int rc = bind_address(server, &info->address, request, door, flags);
        if (rc == 0) {
            continue;
        }
        char name[128];
        (void)pica_address_format(&info->address, name, sizeof name);
        /* Only the first listener fails that way, so the doors are as they were. */
        if ((rc != -EADDRNOTAVAIL && rc != -EAFNOSUPPORT) || door->fd >= 0) {
            return pica_fail(rc, "could not listen on %s: %s", name, pica_strerror(rc));
        }
        pica__log(PICA_LOG_INFO, "not listening on %s: %s", name, pica_strerror(rc));
        missing = missing != 0 ? missing : rc;
    }
    return server->bound != 0 ? 0 : pica_fail(missing, "could not listen on any address: %s",
                                              pica_strerror(missing));
}

/* --- start ---------------------------------------------------------------------------------- */

static int start_list(pica_server **out, const pica_addrinfo *list, const struct request *request) {
    size_t count = 0;
    for (const pica_addrinfo *info = list; info != NULL; info = info->next) {
        count += is_wanted(list, info);
    }
    if (count == 0) {
        return -EINVAL;
    }
    pica_loop *here = pica_current_loop();
    if (here == NULL) {
        return PICA_ENOTASK;
    }
    pica_server *server = server_new(pica_loop_runtime(here), request,
                                     request->options->max_connections != 0 ? here : NULL, count);
    if (server == NULL) {
        return -ENOMEM;
    }
    return launch(out, server, bind_list(server, list, count, request));
}

int pica_start_server(pica_server **out, const char *host, unsigned port,
                      pica_client_connected handler, void *arg,
                      const struct pica_server_options *options) {
    struct request request = {handler, arg, options};
    pica_addrinfo one = {.type = SOCK_STREAM};
    int rc = pica_address_ip(&one.address, host, port);
    rc = rc < 0 ? rc : request_check(out, &request);
    return rc < 0 ? rc : start_list(out, &one, &request);
}

int pica_start_server_list(pica_server **out, const pica_addrinfo *list,
                           pica_client_connected handler, void *arg,
                           const struct pica_server_options *options) {
    struct request request = {handler, arg, options};
    int rc = request_check(out, &request);
    return rc < 0 ? rc : start_list(out, list, &request);
}

int pica_start_server_host(pica_server **out, const char *host, unsigned port,
                           pica_client_connected handler, void *arg,
                           const struct pica_server_options *options) {
    struct request request = {handler, arg, options};
    int rc = port > 65535 ? -EINVAL : request_check(out, &request);
    pica_task *task;
    rc = rc < 0 ? rc : pica__operation_begin(&task);
    if (rc < 0) {
        return rc;
    }
    pica_addrinfo one = {.type = SOCK_STREAM};
    if (pica_address_ip(&one.address, host, port) == 0) {
        return start_list(out, &one, &request); /* a number, or all interfaces */
    }
    pica_addrinfo *list;
    rc = pica__look_up(&list, host, port, AI_PASSIVE);
    if (rc == 0) {
        rc = start_list(out, list, &request);
        pica_freeaddrinfo(list);
    }
    return rc;
}

int pica_start_unix_server(pica_server **out, const char *path, pica_client_connected handler,
                           void *arg, const struct pica_server_options *options) {
    struct request request = {handler, arg, options};
    pica_address address;
    int rc = pica_address_unix(&address, path);
    rc = rc < 0 ? rc : request_check(out, &request);
    if (rc < 0) {
        return rc;
    }
    pica_loop *here = pica_current_loop();
    if (here == NULL) {
        return PICA_ENOTASK;
    }
    pica_server *server = server_new(pica_loop_runtime(here), &request, here, 1);
    if (server == NULL) {
        return -ENOMEM;
    }
    return launch(out, server, bind_address(server, &address, &request, server->doors, 0));
}

int pica_start_server_socket(pica_server **out, pica_socket *listener,
                             pica_client_connected handler, void *arg,
                             const struct pica_server_options *options) {
    struct request request = {handler, arg, options};
    int rc = listener == NULL ? -EINVAL : request_check(out, &request);
    if (rc < 0) {
        return rc;
    }
    pica_loop *home = pica__socket_loop(listener);
    pica_loop *here = pica_current_loop();
    if (here == NULL) {
        return PICA_ENOTASK;
    }
    if (pica_loop_runtime(home) != pica_loop_runtime(here)) {
        return -EINVAL;
    }
    pica_server *server = server_new(pica_loop_runtime(here), &request, home, 1);
    if (server == NULL) {
        return -ENOMEM;
    }
    server->shared = true;
    rc = pica_socket_name(listener, server->addresses);
    if (rc == 0) {
        server->bound = 1;
        server->doors->place = server->only;
        server->doors->listener = pica__socket_ref(listener);
    }
    rc = launch(out, server, rc);
    if (rc == 0) {
        pica__socket_unref(listener); /* ours is the server's now */
    }
    return rc;
}
