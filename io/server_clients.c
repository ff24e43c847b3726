/* The connections of servers: placement, their tasks, and their end. The rules stand at the head of server.c. */
#include "io/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "io/stream.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/log.h"
#include "runtime/base/sys.h"

#define WARN_INTERVAL_NS INT64_C(1000000000)

/* A member of `tasks`: a connection, or a mark that somebody who walks along put there. */
struct entry {
    pica__link link;
    bool mark;
};

struct connection {
    struct entry entry;
    bool cancelled;  /* by cancel_clients, before the task had started; under the server's lock */
    pica_task *task; /* while it runs, borrowed: the task clears it; under the server's lock */
    struct pica__place *place;
    pica_reader *reader;
    pica_writer *writer;
};

/* The place with the fewest connections, `here` if it is one of them, for what is accepted at `here` from the listener
 * of another loop or its own. Another loop's worker is stuck, or somebody else would not accept: it gets none of
 * these. Under the lock. */
static struct pica__place *least_place(struct pica__place *here, const struct pica__place *listener) {
    pica_server *server = here->server;
    struct pica__place *least = here;
    for (unsigned i = 0; i < server->count; i++) {
        struct pica__place *other = &server->places[i];
        bool stuck = other == listener && other != here;
        if (!stuck && other->connections < least->connections) {
            least = other;
        }
    }
    return least;
}

static struct pica__place *place_here(pica_server *server) {
    return &server->places[pica_loop_index(pica_current_loop())];
}

bool pica__server_fits(void *arg) {
    const struct pica__place *listener = ((struct pica__door *)arg)->place;
    pica_server *server = listener->server;
    pica__lock(&server->lock);
    bool fits = least_place(place_here(server), listener)->connections <= listener->connections;
    pica__unlock(&server->lock);
    return fits;
}

/* Chooses the loop for a connection, and counts it there. */
static struct pica__place *connection_enter(struct connection *connection, struct pica__place *here,
                                            const struct pica__place *listener) {
    pica_server *server = here->server;
    pica__lock(&server->lock);
    struct pica__place *least = least_place(here, listener);
    struct pica__place *place = here->connections <= least->connections + 1 ? here : least;
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
    struct pica__place *place = connection->place;
    pica_server *server = place->server;
    pica__lock(&server->lock);
    pica__list_remove(&connection->entry.link);
    place->connections--;
    bool resume = server->waits && !server->resuming;
    server->resuming |= resume;
    atomic_store_explicit(&server->connections,
                          atomic_load_explicit(&server->connections, memory_order_relaxed) - 1,
                          memory_order_relaxed);
    pica__unlock(&server->lock);
    pica__free(connection, sizeof *connection);
    if (resume) {
        pica__server_ref(server); /* dropped by the call */
        pica__call_soon(server->only->loop, &server->resume);
    }
    pica__server_done(server);
}

bool pica__server_may_accept(void *arg) {
    struct pica__door *door = arg;
    pica_server *server = door->place->server;
    pica__lock(&server->lock);
    bool may = atomic_load_explicit(&server->connections, memory_order_relaxed) <
               server->max_connections;
    server->waits |= !may; /* another listener that waits is not forgotten because this one may */
    pica__unlock(&server->lock);
    return may;
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
    struct pica__place *place = connection->place;
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
static void connection_dropped(struct pica__place *place, int error) {
    int64_t now = pica__now();
    int64_t warned = atomic_load_explicit(&place->warned, memory_order_relaxed);
    if (warned == 0 || now - warned >= WARN_INTERVAL_NS) {
        atomic_store_explicit(&place->warned, now, memory_order_relaxed);
        pica__log(PICA_LOG_WARN, "a connection was dropped: %s", pica_strerror(error));
    }
}

/* What the options ask for; it is no reason to refuse a client if the system does not want it. */
static void tune(const struct pica__tuning *tuning, pica_socket *socket) {
    int on = 1;
    int off = 0;
    if (tuning->delay && socket->tcp) {
        (void)pica__sys_setsockopt(socket->fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof off);
    }
    if (tuning->keepalive != 0) {
        (void)pica__sys_setsockopt(socket->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        (void)pica__sys_setsockopt(socket->fd, IPPROTO_TCP, TCP_KEEPIDLE, &tuning->keepalive,
                                   sizeof tuning->keepalive);
    }
}

void pica__server_accept(void *arg, int fd) {
    struct pica__place *listener = ((struct pica__door *)arg)->place;
    struct pica__place *here = place_here(listener->server);
    struct connection *connection = pica__zalloc(sizeof *connection);
    if (connection == NULL) {
        (void)pica__sys_close(fd);
        connection_dropped(here, -ENOMEM);
        return;
    }
    struct pica__place *place = connection_enter(connection, here, listener);
    pica_socket *socket;
    int rc = pica__socket_adopt(&socket, fd, place->loop);
    if (rc < 0) {
        (void)pica__sys_close(fd);
    } else {
        tune(&here->server->tuning, socket);
        rc = connection_start(connection, socket);
    }
    if (rc < 0) {
        connection_leave(connection);
        connection_dropped(here, rc);
    }
}

/* Walks over the connections that are there now; what is done to one is done without the lock, with its task
 * kept. One whose task has not started is only marked: see connection_main. */
static void each_client(pica_server *server, void (*act)(struct connection *, pica_task *)) {
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
        act(connection, connection->task);
    }
    pica__list_remove(&here.link);
    pica__list_remove(&end.link);
    pica__unlock(&server->lock);
}

/* The acts: with the lock, which they may open while they hold what they use. */

static void client_cancel(struct connection *connection, pica_task *task) {
    pica_server *server = connection->place->server;
    if (task == NULL) {
        connection->cancelled = true;
        return;
    }
    pica_task_ref(task);
    pica__unlock(&server->lock);
    (void)pica_task_cancel(task);
    pica_task_unref(task);
    pica__lock(&server->lock);
}

static void client_end(struct connection *connection, void (*end)(pica_writer *writer)) {
    pica_server *server = connection->place->server;
    struct pica__stream *stream = pica__stream_of_writer(connection->writer);
    pica__stream_ref(stream); /* connection_leave, which comes after the release, takes the lock */
    pica__unlock(&server->lock);
    end(&stream->writer);
    pica__stream_unref(stream);
    pica__lock(&server->lock);
}

static void client_close(struct connection *connection, pica_task *task) {
    if (task != NULL) {
        client_end(connection, pica_writer_close);
    } else {
        connection->cancelled = true;
    }
}

static void client_abort(struct connection *connection, pica_task *task) {
    if (task != NULL) {
        client_end(connection, pica_writer_abort);
    } else {
        connection->cancelled = true;
    }
}

void pica_server_cancel_clients(pica_server *server) {
    each_client(server, client_cancel);
}

void pica_server_close_clients(pica_server *server) {
    each_client(server, client_close);
}

void pica_server_abort_clients(pica_server *server) {
    each_client(server, client_abort);
}
