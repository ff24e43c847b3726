/*
 * Servers: listeners, placement of connections, their tasks, and the end of all that.
 *
 * Over TCP each loop has a listener of its own. The first is bound without SO_REUSEPORT, so that it
 * fails if anybody else has the port, and is given the option afterwards, so that the others can
 * join it; with port 0 the others take the port that the first got. Over Unix sockets the caller's
 * loop has the only listener.
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
#include <pica/stream.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <pica/loop.h>
#include <pica/runtime.h>
#include <pica/sync.h>
#include <pica/task.h>

#include "io/listener.h"
#include "io/socket.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"
#include "runtime/base/log.h"
#include "runtime/base/sys.h"
#include "runtime/loop.h"

#define WARN_INTERVAL_NS INT64_C(1000000000)

/* A loop, as this server sees it. */
struct place {
    pica_server *server;
    pica_loop *loop;
    pica_socket *listener; /* NULL if there is none on this loop, or it was closed */
    size_t connections;    /* under the lock */
    int64_t warned;        /* when a dropped connection was logged last; used by the loop only */
    pica__call closed;     /* runs behind the close of the listener's descriptor */
};

struct pica_server {
    _Atomic uint32_t references; /* incremented by holders (relaxed), decremented acq_rel */
    pica_client_connected handler;
    void *arg;
    size_t limit;
    pica_address address;
    /* The file of a Unix socket, as it was when we had made it; inode 0: there is none of ours. */
    dev_t device;
    ino_t inode;

    pica__lock_t lock;
    bool closing;     /* under the lock */
    size_t active;    /* under the lock */
    pica__link tasks; /* struct entry: connections in the order of their arrival; under the lock */
    _Atomic size_t connections; /* written under the lock, read by everybody; relaxed */
    pica_event ended;

    unsigned count;
    struct place places[];
};

/* A member of `tasks`: a connection, or a mark that somebody who walks along put there. */
struct entry {
    pica__link link;
    bool mark;
};

struct connection {
    struct entry entry;
    bool cancelled;  /* by cancel_clients, before the task had started; under the server's lock */
    pica_task *task; /* while it runs, borrowed: the task clears it; under the server's lock */
    struct place *place;
    pica_reader *reader;
    pica_writer *writer;
};

static size_t server_size(unsigned count) {
    return sizeof(pica_server) + count * sizeof(struct place);
}

static void server_ref(pica_server *server) {
    atomic_fetch_add_explicit(&server->references, 1, memory_order_relaxed);
}

static void server_unref(pica_server *server) {
    if (atomic_fetch_sub_explicit(&server->references, 1, memory_order_acq_rel) == 1) {
        PICA__CHECK(server->active == 0 && pica__list_empty(&server->tasks));
        pica__free(server, server_size(server->count));
    }
}

/* One listener or connection less. The server may be gone afterwards. */
static void server_done(pica_server *server) {
    pica__lock(&server->lock);
    bool last = --server->active == 0;
    pica__unlock(&server->lock);
    if (last) {
        pica_event_set(&server->ended);
        server_unref(server);
    }
}

/* --- connections ---------------------------------------------------------------------------- */

/* Chooses the loop for a connection that was accepted at `here`, and counts it there. */
static struct place *connection_enter(struct connection *connection, struct place *here) {
    pica_server *server = here->server;
    pica__lock(&server->lock);
    struct place *least = here;
    for (unsigned i = 0; i < server->count; i++) {
        if (server->places[i].connections < least->connections) {
            least = &server->places[i];
        }
    }
    struct place *place = here->connections <= least->connections + 1 ? here : least;
    place->connections++;
    server->active++;
    atomic_store_explicit(&server->connections,
                          atomic_load_explicit(&server->connections, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    connection->place = place;
    pica__list_push_back(&server->tasks, &connection->entry.link);
    pica__unlock(&server->lock);
    return place;
}

/* The opposite of connection_enter; frees the connection. */
static void connection_leave(struct connection *connection) {
    struct place *place = connection->place;
    pica_server *server = place->server;
    pica__lock(&server->lock);
    pica__list_remove(&connection->entry.link);
    place->connections--;
    atomic_store_explicit(&server->connections,
                          atomic_load_explicit(&server->connections, memory_order_relaxed) - 1,
                          memory_order_relaxed);
    pica__unlock(&server->lock);
    pica__free(connection, sizeof *connection);
    server_done(server);
}

/* When the task has ended, also if it never started. */
static void connection_end(void *arg) {
    struct connection *connection = arg;
    pica_writer_release(connection->writer);
    connection_leave(connection);
}

/* After the handler: sends what is pending, then closes. rc: the handler's result. */
static void connection_finish(struct connection *connection, int rc) {
    if (rc < 0 && rc != PICA_ECANCELED) {
        pica__log(PICA_LOG_DEBUG, "a client's handler ended with %s: %s", pica_err_name(rc),
                  pica_strerror(rc));
    }
    pica_writer_close(connection->writer);
    /* A connection that was told to end sends what the kernel takes at once, and no more: its peer
     * may never read again, and whoever cancelled would wait for ever. */
    bool cut = rc == PICA_ECANCELED || pica_task_cancelling(pica_current_task()) > 0;
    if (cut || pica_writer_wait_closed(connection->writer) == PICA_ECANCELED) {
        pica_writer_abort(connection->writer);
    }
}

static int connection_main(void *arg) {
    struct connection *connection = arg;
    pica_server *server = connection->place->server;
    pica__lock(&server->lock);
    bool cancelled = connection->cancelled;
    connection->task = pica_current_task();
    pica__unlock(&server->lock);
    int rc = PICA_ECANCELED;
    if (!cancelled) {
        rc = server->handler(connection->reader, connection->writer, server->arg);
    }
    connection_finish(connection, rc);
    pica__lock(&server->lock);
    connection->task = NULL;
    pica__unlock(&server->lock);
    return 0;
}

/* Makes streams and a task of an accepted socket, whose reference it takes over. */
static int connection_start(struct connection *connection, pica_socket *socket) {
    struct place *place = connection->place;
    int rc =
        pica_open_socket(socket, place->server->limit, &connection->reader, &connection->writer);
    if (rc < 0) {
        pica_socket_close(socket);
        return rc;
    }
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.loop = place->loop;
    options.arg_destroy = connection_end;
    rc = pica_create_task_opts(NULL, connection_main, connection, &options);
    if (rc < 0) {
        pica_writer_release(connection->writer);
    }
    return rc;
}

/* A connection that was accepted is dropped. At most one line a second and loop. */
static void connection_dropped(struct place *place, int error) {
    int64_t now = pica__now();
    if (place->warned == 0 || now - place->warned >= WARN_INTERVAL_NS) {
        place->warned = now;
        pica__log(PICA_LOG_WARN, "a connection was dropped: %s", pica_strerror(error));
    }
}

/* On the listener's loop: fd is a new connection, ours. What accept itself lacks is the listener's
 * affair. */
static void on_accept(void *arg, int fd) {
    struct place *here = arg;
    struct connection *connection = pica__zalloc(sizeof *connection);
    if (connection == NULL) {
        (void)pica__sys_close(fd);
        connection_dropped(here, -ENOMEM);
        return;
    }
    struct place *place = connection_enter(connection, here);
    pica_socket *socket;
    int rc = pica__socket_adopt(&socket, fd, place->loop);
    if (rc < 0) {
        (void)pica__sys_close(fd);
    } else {
        rc = connection_start(connection, socket);
    }
    if (rc < 0) {
        connection_leave(connection);
        connection_dropped(here, rc);
    }
}

/* --- listeners ------------------------------------------------------------------------------ */

static void on_closed(pica__call *call) {
    server_done(PICA__CONTAINER_OF(call, struct place, closed)->server);
}

/* Once a listener accepts nothing any more. */
static void on_stopped(void *arg) {
    struct place *place = arg;
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
    struct place *place = pica__socket_owner(closer);
    server_ref(place->server);
}

static void place_close(pica__closer *closer) {
    struct place *place = pica__socket_owner(closer);
    pica_server *server = place->server;
    pica_server_close(server);
    server_unref(server);
}

/* Opens the listeners; none accepts yet. */
static int open_listeners(pica_server *server, const pica_address *address,
                          const struct pica_listen_options *options, struct place *only) {
    if (only != NULL) {
        int rc = pica__listener_open(&only->listener, only->loop, address, options, false, false);
        return rc < 0 ? rc : pica_socket_name(only->listener, &server->address);
    }
    bool several = server->count > 1;
    struct place *first = &server->places[0];
    int rc = pica__listener_open(&first->listener, first->loop, address, options, several, false);
    if (rc == 0) {
        rc = pica_socket_name(first->listener, &server->address);
    }
    for (unsigned i = 1; i < server->count && rc == 0; i++) {
        struct place *place = &server->places[i];
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
    server_ref(server);
    int rc = 0;
    unsigned i = 0;
    for (; i < server->count && rc == 0; i++) {
        if (server->places[i].listener != NULL) {
            pica__socket_own(server->places[i].listener, &server->places[i], place_pin,
                             place_close);
            rc = pica__listener_start(server->places[i].listener, on_accept, &server->places[i]);
        }
    }
    if (rc < 0) {
        unsigned failed = i - 1;
        for (i = 0; i < server->count; i++) {
            struct place *place = &server->places[i];
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
    pica_server *server = pica__zalloc(server_size(count));
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
    }
    return server;
}

static int start(pica_server **out, const pica_address *address, bool one_listener,
                 pica_client_connected handler, void *arg,
                 const struct pica_server_options *options) {
    static const struct pica_server_options defaults = PICA_SERVER_OPTIONS_INIT;
    options = options == NULL ? &defaults : options;
    if (out == NULL || handler == NULL || options->size != sizeof *options ||
        options->backlog < 0) {
        return -EINVAL;
    }
    pica_runtime *runtime = pica_current_runtime();
    pica_loop *here = pica_current_loop();
    if (runtime == NULL || here == NULL) {
        return PICA_ENOTASK;
    }
    pica_server *server = server_new(runtime, handler, arg, options->limit);
    if (server == NULL) {
        return -ENOMEM;
    }
    struct pica_listen_options listen = PICA_LISTEN_OPTIONS_INIT;
    listen.backlog = options->backlog;
    listen.unix_mode = options->unix_mode;
    struct place *only = one_listener ? &server->places[pica_loop_index(here)] : NULL;
    int rc = open_listeners(server, address, &listen, only);
    if (rc == 0) {
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
        server_unref(server);
    }
    return rc;
}

int pica_start_server(pica_server **out, const char *host, unsigned port,
                      pica_client_connected handler, void *arg,
                      const struct pica_server_options *options) {
    pica_address address;
    int rc = pica_address_ip(&address, host, port);
    return rc < 0 ? rc : start(out, &address, false, handler, arg, options);
}

int pica_start_unix_server(pica_server **out, const char *path, pica_client_connected handler,
                           void *arg, const struct pica_server_options *options) {
    pica_address address;
    int rc = pica_address_unix(&address, path);
    return rc < 0 ? rc : start(out, &address, true, handler, arg, options);
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
        struct place *place = &server->places[i];
        if (place->listener != NULL) {
            pica__listener_stop(place->listener, on_stopped, place);
        }
    }
}

int pica_server_wait_closed(pica_server *server) {
    server_ref(server);
    int rc = pica_event_wait(&server->ended);
    server_unref(server);
    return rc;
}

void pica_server_cancel_clients(pica_server *server) {
    struct entry here = {.mark = true};
    struct entry end = {.mark = true};
    pica__lock(&server->lock);
    /* Two marks, so that the walk keeps its place while the lock is open, and ends with those who
     * were there when it began. */
    pica__list_push_front(&server->tasks, &here.link);
    pica__list_push_back(&server->tasks, &end.link);
    while (here.link.next != &end.link) {
        struct entry *entry = PICA__CONTAINER_OF(here.link.next, struct entry, link);
        pica__list_remove(&here.link);
        pica__list_push_front(&entry->link, &here.link);
        if (entry->mark) {
            continue;
        }
        struct connection *connection = PICA__CONTAINER_OF(entry, struct connection, entry);
        if (connection->task == NULL) {
            connection->cancelled = true;
            continue;
        }
        pica_task *task = pica_task_ref(connection->task);
        pica__unlock(&server->lock);
        (void)pica_task_cancel(task);
        pica_task_unref(task);
        pica__lock(&server->lock);
    }
    pica__list_remove(&here.link);
    pica__list_remove(&end.link);
    pica__unlock(&server->lock);
}

size_t pica_server_connections(const pica_server *server) {
    return atomic_load_explicit(&server->connections, memory_order_relaxed);
}

void pica_server_release(pica_server *server) {
    if (server != NULL) {
        pica_server_close(server);
        server_unref(server);
    }
}
