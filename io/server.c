/*
 * Servers: listeners, start and end. What becomes of connections stands in server_clients.c.
 *
 * Over TCP each loop has a listener of its own. The first is bound without SO_REUSEPORT, so that it
 * fails if anybody else has the port, and is given the option afterwards, so that the others can
 * join it; with port 0 the others take the port that the first got. Over Unix sockets the caller's
 * loop has the only listener, and so has a server with a limit of connections: with several, each would have
 * to keep a place free for whoever comes to it. It asks before each accept, so what is above the limit
 * waits in the kernel's backlog.
 *
 * An accepted connection goes to the loop that has the fewest connections of this server, or stays
 * where it was accepted if that is at most one more: choice and count are one step under the lock,
 * so no two loops differ by more than two while connections only come. Its task is detached: it
 * runs the handler, then waits until what is pending is sent. What is left to clean up is done when
 * the task has ended, also if it never started.
 *
 * `active` counts listeners that were not stopped and connections that have not ended. Only closing
 * stops listeners, so it reaches 0 once, and that is the end: wait_closed returns.
 *
 * References: the caller's, one for "active is not 0", and one for each wait_closed that waits.
 *
 * Lock order: the lock, then nothing.
 */
#include "io/server.h"

#include <sys/un.h>

#include <pica/runtime.h>
#include <pica/timeout.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/sys.h"

void pica__server_ref(pica_server *server) {
    atomic_fetch_add_explicit(&server->references, 1, memory_order_relaxed);
}

void pica__server_unref(pica_server *server) {
    if (atomic_fetch_sub_explicit(&server->references, 1, memory_order_acq_rel) == 1) {
        PICA__CHECK(server->active == 0 && pica__list_empty(&server->tasks));
        pica__free(server, pica__server_size(server->count));
    }
}

void pica__server_done(pica_server *server) {
    pica__lock(&server->lock);
    bool last = --server->active == 0;
    pica__unlock(&server->lock);
    if (last) {
        pica_event_set(&server->ended);
        pica__server_unref(server);
    }
}

/* --- listeners ------------------------------------------------------------------------------ */

static void on_closed(pica__call *call) {
    pica__server_done(PICA__CONTAINER_OF(call, struct pica__place, closed)->server);
}

/* On the listener's loop: a connection has ended, so there may be room for another. */
static void on_resume(pica__call *call) {
    struct pica__place *place = PICA__CONTAINER_OF(call, struct pica__place, resume);
    if (place->listener != NULL) {
        pica__listener_resume(place->listener);
    }
    pica__server_unref(place->server);
}

/* Once a listener accepts nothing any more. */
static void on_stopped(void *arg) {
    struct pica__place *place = arg;
    pica_socket *listener = place->listener;
    place->listener = NULL;
    pica_socket_close(listener);
    /* The descriptor is closed by the home loop, in a call before this one; the server ends behind
     * that, so that whoever waited for its end finds the port free. */
    pica__call_init(&place->closed, on_closed);
    pica__call_soon(place->loop, &place->closed);
}

/* A runtime that ends closes a server that is still open. */
static void place_pin(pica__closer *closer) {
    struct pica__place *place = pica__socket_owner(closer);
    pica__server_ref(place->server);
}

static void place_close(pica__closer *closer) {
    struct pica__place *place = pica__socket_owner(closer);
    pica_server *server = place->server;
    pica_server_close(server);
    pica__server_unref(server);
}

/* Opens the listeners; none accepts yet. */
static int open_listeners(pica_server *server, const pica_address *address,
                          const struct pica_listen_options *options, bool reuse_port) {
    struct pica__place *only = server->only;
    if (only != NULL) {
        int rc = pica__listener_open(&only->listener, only->loop, address, options, false,
                                     reuse_port && address->storage.ss_family != AF_UNIX);
        return rc < 0 ? rc : pica_socket_name(only->listener, &server->address);
    }
    bool later = server->count > 1 && !reuse_port;
    struct pica__place *first = &server->places[0];
    int rc =
        pica__listener_open(&first->listener, first->loop, address, options, later, reuse_port);
    if (rc == 0) {
        rc = pica_socket_name(first->listener, &server->address);
    }
    for (unsigned i = 1; i < server->count && rc == 0; i++) {
        struct pica__place *place = &server->places[i];
        rc = pica__listener_open(&place->listener, place->loop, &server->address, options, false,
                                 true);
    }
    return rc;
}

/* Starts them all, or, after an error, ends those that were started and those that were not. */
static int start_listeners(pica_server *server) {
    unsigned opened = 0;
    for (unsigned i = 0; i < server->count; i++) {
        opened += server->places[i].listener != NULL;
    }
    /* Connections may come, and end, before this returns. */
    server->active = opened;
    pica__server_ref(server);
    const struct pica__listener_use use = {
        .accepted = pica__server_accept,
        .may_accept = server->max_connections != 0 ? pica__server_may_accept : NULL,
        .shared = server->shared,
    };
    int rc = 0;
    unsigned i = 0;
    for (; i < server->count && rc == 0; i++) {
        if (server->places[i].listener != NULL) {
            pica__socket_own(server->places[i].listener, &server->places[i], place_pin,
                             place_close);
            rc = pica__listener_start(server->places[i].listener, &use, &server->places[i]);
        }
    }
    if (rc < 0) {
        unsigned failed = i - 1;
        for (i = 0; i < server->count; i++) {
            struct pica__place *place = &server->places[i];
            if (place->listener != NULL && i < failed) {
                pica__listener_stop(place->listener, on_stopped, place);
            } else if (place->listener != NULL) {
                on_stopped(place);
            }
        }
    }
    return rc;
}

static const char *unix_path(const pica_server *server) {
    const struct sockaddr_un *un = (const void *)&server->address.storage;
    bool path = un->sun_family == AF_UNIX &&
                server->address.length > offsetof(struct sockaddr_un, sun_path) &&
                un->sun_path[0] != '\0';
    return path ? un->sun_path : NULL;
}

/* Remembers which file is ours. */
static void note_file(pica_server *server) {
    struct stat st;
    const char *path = unix_path(server);
    if (path != NULL && pica__sys_lstat(path, &st) == 0) {
        server->device = st.st_dev;
        server->inode = st.st_ino;
    }
}

/* Removes the file of a Unix socket unless somebody has replaced it. While the socket is open its
 * inode's number cannot be given to another file, so this comes before closing. */
static void remove_file(pica_server *server) {
    struct stat st;
    const char *path = unix_path(server);
    if (server->inode != 0 && path != NULL && pica__sys_lstat(path, &st) == 0 &&
        st.st_ino == server->inode && st.st_dev == server->device) {
        (void)pica__sys_unlink(path);
    }
}

/* --- start ---------------------------------------------------------------------------------- */

static pica_server *server_new(pica_runtime *runtime, pica_client_connected handler, void *arg,
                               size_t limit) {
    unsigned count = pica_runtime_workers(runtime);
    pica_server *server = pica__zalloc(pica__server_size(count));
    if (server == NULL) {
        return NULL;
    }
    atomic_init(&server->references, 1);
    atomic_init(&server->connections, 0);
    server->handler = handler;
    server->arg = arg;
    server->limit = limit;
    pica__lock_init(&server->lock);
    pica__list_init(&server->tasks);
    pica_event_init(&server->ended);
    server->count = count;
    for (unsigned i = 0; i < count; i++) {
        server->places[i].server = server;
        server->places[i].loop = pica_runtime_loop(runtime, i);
        pica__call_init(&server->places[i].resume, on_resume);
    }
    return server;
}

/* What is set on a listener is inherited by its connections. */
static void tune_listeners(pica_server *server) {
    const struct pica__tuning *tuning = &server->tuning;
    for (unsigned i = 0; i < server->count; i++) {
        pica_socket *listener = server->places[i].listener;
        if (listener != NULL && tuning->receive_buffer != 0) {
            (void)pica_socket_setopt(listener, SOL_SOCKET, SO_RCVBUF, &tuning->receive_buffer,
                                     sizeof tuning->receive_buffer);
        }
        if (listener != NULL && tuning->send_buffer != 0) {
            (void)pica_socket_setopt(listener, SOL_SOCKET, SO_SNDBUF, &tuning->send_buffer,
                                     sizeof tuning->send_buffer);
        }
    }
}

static int options_check(const struct pica_server_options *options) {
    bool ok = options->size == sizeof *options && options->backlog >= 0 &&
              options->keepalive >= 0 && options->receive_buffer >= 0 && options->send_buffer >= 0;
    return ok ? 0 : -EINVAL;
}

/* A server without listeners; here: the caller's loop. */
static int prepare(pica_server **out, pica_loop *here, pica_client_connected handler, void *arg,
                   const struct pica_server_options *options) {
    pica_server *server = server_new(pica_loop_runtime(here), handler, arg, options->limit);
    if (server == NULL) {
        return -ENOMEM;
    }
    server->max_connections = options->max_connections;
    server->tuning = (struct pica__tuning){options->delay != 0, options->keepalive,
                                           options->receive_buffer, options->send_buffer};
    *out = server;
    return 0;
}

/* The listeners are there: runs them. On an error the server is gone, and *out NULL. */
static int launch(pica_server **out, pica_server *server, int rc) {
    if (rc == 0) {
        tune_listeners(server);
        note_file(server);
        *out = server;
        rc = start_listeners(server);
        if (rc < 0) {
            remove_file(server);
        }
    } else {
        for (unsigned i = 0; i < server->count; i++) {
            pica_socket_close(server->places[i].listener);
        }
    }
    if (rc < 0) {
        *out = NULL;
        pica__server_unref(server);
    }
    return rc;
}

static int start(pica_server **out, const pica_address *address, pica_client_connected handler,
                 void *arg, const struct pica_server_options *options) {
    static const struct pica_server_options defaults = PICA_SERVER_OPTIONS_INIT;
    options = options == NULL ? &defaults : options;
    if (out == NULL || handler == NULL || options_check(options) < 0) {
        return -EINVAL;
    }
    pica_loop *here = pica_current_loop();
    if (here == NULL) {
        return PICA_ENOTASK;
    }
    pica_server *server;
    int rc = prepare(&server, here, handler, arg, options);
    if (rc < 0) {
        return rc;
    }
    if (address->storage.ss_family == AF_UNIX || options->max_connections != 0) {
        server->only = &server->places[pica_loop_index(here)];
    }
    struct pica_listen_options listen = PICA_LISTEN_OPTIONS_INIT;
    listen.backlog = options->backlog;
    listen.unix_mode = options->unix_mode;
    return launch(out, server, open_listeners(server, address, &listen, options->reuse_port != 0));
}

int pica_start_server(pica_server **out, const char *host, unsigned port,
                      pica_client_connected handler, void *arg,
                      const struct pica_server_options *options) {
    pica_address address;
    int rc = pica_address_ip(&address, host, port);
    return rc < 0 ? rc : start(out, &address, handler, arg, options);
}

int pica_start_unix_server(pica_server **out, const char *path, pica_client_connected handler,
                           void *arg, const struct pica_server_options *options) {
    pica_address address;
    int rc = pica_address_unix(&address, path);
    return rc < 0 ? rc : start(out, &address, handler, arg, options);
}

int pica_start_server_socket(pica_server **out, pica_socket *listener,
                             pica_client_connected handler, void *arg,
                             const struct pica_server_options *options) {
    static const struct pica_server_options defaults = PICA_SERVER_OPTIONS_INIT;
    options = options == NULL ? &defaults : options;
    if (out == NULL || listener == NULL || handler == NULL || options_check(options) < 0) {
        return -EINVAL;
    }
    pica_loop *home = pica__socket_loop(listener);
    pica_loop *here = pica_current_loop();
    if (here == NULL) {
        return PICA_ENOTASK;
    }
    pica_server *server;
    int rc = pica_loop_runtime(home) != pica_loop_runtime(here)
                 ? -EINVAL
                 : prepare(&server, here, handler, arg, options);
    if (rc < 0) {
        return rc;
    }
    server->shared = true;
    server->only = &server->places[pica_loop_index(home)];
    rc = pica_socket_name(listener, &server->address);
    if (rc == 0) {
        server->only->listener = pica__socket_ref(listener);
    }
    rc = launch(out, server, rc);
    if (rc == 0) {
        pica__socket_unref(listener); /* ours is the server's now */
    }
    return rc;
}

int pica_server_address(pica_server *server, pica_address *address) {
    *address = server->address;
    return 0;
}

/* --- end ------------------------------------------------------------------------------------ */

void pica_server_close(pica_server *server) {
    pica__lock(&server->lock);
    bool again = server->closing;
    server->closing = true;
    pica__unlock(&server->lock);
    if (again) {
        return;
    }
    remove_file(server);
    /* The caller's reference keeps the server while the loops stop their listeners, each of which
     * may do so at once: nothing of a place is looked at after its stop. */
    for (unsigned i = 0; i < server->count; i++) {
        struct pica__place *place = &server->places[i];
        if (place->listener != NULL) {
            pica__listener_stop(place->listener, on_stopped, place);
        }
    }
}

int pica_server_wait_closed(pica_server *server) {
    pica__server_ref(server);
    int rc = pica_event_wait(&server->ended);
    pica__server_unref(server);
    return rc;
}

int pica_server_wait_closed_for(pica_server *server, double limit) {
    pica_timeout timeout;
    int rc = pica_timeout_enter(&timeout, limit);
    return rc < 0 ? rc : pica_timeout_exit(&timeout, pica_server_wait_closed(server));
}

size_t pica_server_connections(const pica_server *server) {
    return atomic_load_explicit(&server->connections, memory_order_relaxed);
}

void pica_server_release(pica_server *server) {
    if (server != NULL) {
        pica_server_close(server);
        pica__server_unref(server);
    }
}
