/*
 * Servers: the life of their listeners, and the end. How a server is made stands in server_start.c, what becomes
 * of connections in server_clients.c.
 *
 * A door is a listener: one address on one loop. How they are opened stands in server_start.c. With a limit of
 * connections all are on one loop and ask before each accept, one after the other since a loop does one thing at
 * a time, so that what is above the limit waits in the kernel's backlog: with listeners on several loops each
 * would have to keep a place free for whoever comes to it. When a connection has ended all that wait are asked
 * again, a different one first each time.
 *
 * An accepted connection goes to the loop that has the fewest connections of this server, or stays
 * where it was accepted if that is at most one more: choice and count are one step under the lock,
 * so no two loops differ by more than two while connections only come and no worker is stuck: what
 * others accept in the place of one that is goes to all but that one, up to evenness at first and beyond it when
 * it is stuck for longer (worker.c). Its task is detached: it
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
        pica__free(server, server->size);
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
    pica__server_done(PICA__CONTAINER_OF(call, struct pica__door, closed)->place->server);
}

/* On the listeners' loop: a connection has ended, so there may be room for another. */
static void on_resume(pica__call *call) {
    pica_server *server = PICA__CONTAINER_OF(call, pica_server, resume);
    pica__lock(&server->lock);
    server->waits = false; /* whoever still has to wait says so again */
    server->resuming = false;
    pica__unlock(&server->lock);
    size_t first = server->turn++;
    for (size_t i = 0; i < server->door_count; i++) {
        struct pica__door *door = &server->doors[(first + i) % server->door_count];
        if (door->listener != NULL) {
            pica__listener_resume(door->listener);
        }
    }
    pica__server_unref(server);
}

/* Once a listener accepts nothing any more. */
static void on_stopped(void *arg) {
    struct pica__door *door = arg;
    pica_socket *listener = door->listener;
    door->listener = NULL;
    pica_socket_close(listener);
    /* The descriptor is closed by the home loop, in a call before this one; the server ends behind
     * that, so that whoever waited for its end finds the port free. */
    pica__call_init(&door->closed, on_closed);
    pica__call_soon(door->place->loop, &door->closed);
}

/* A runtime that ends closes a server that is still open. */
static void door_pin(pica__closer *closer) {
    struct pica__door *door = pica__socket_owner(closer);
    pica__server_ref(door->place->server);
}

static void door_close(pica__closer *closer) {
    struct pica__door *door = pica__socket_owner(closer);
    pica_server *server = door->place->server;
    pica_server_close(server);
    pica__server_unref(server);
}

/* Makes what all of them need, or nothing. Returns how many there are, or an error. */
static int make_listeners(pica_server *server) {
    const struct pica__listener_use use = {
        .accepted = pica__server_accept,
        .fits = pica__server_fits,
        .may_accept = server->max_connections != 0 ? pica__server_may_accept : NULL,
        .shared = server->shared,
    };
    int made = 0;
    for (size_t i = 0; i < server->door_count; i++) {
        struct pica__door *door = &server->doors[i];
        int rc = door->listener == NULL ? 0 : pica__listener_make(door->listener, &use, door);
        if (rc < 0) {
            while (i-- > 0) {
                if (server->doors[i].listener != NULL) {
                    pica__listener_unmake(server->doors[i].listener);
                }
            }
            return rc;
        }
        made += door->listener != NULL;
    }
    return made;
}

static void start_listeners(pica_server *server) {
    for (size_t i = 0; i < server->door_count; i++) {
        struct pica__door *door = &server->doors[i];
        if (door->listener != NULL) {
            pica__socket_own(door->listener, door, door_pin, door_close);
            pica__listener_start(door->listener);
        }
    }
}

static const char *unix_path(const pica_server *server) {
    const struct sockaddr_un *un = (const void *)&server->addresses[0].storage;
    bool path = un->sun_family == AF_UNIX &&
                server->addresses[0].length > offsetof(struct sockaddr_un, sun_path) &&
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

int pica__server_run(pica_server *server) {
    pica__call_init(&server->resume, on_resume);
    int made = make_listeners(server);
    note_file(server);
    if (made < 0) {
        if (!server->shared) {
            remove_file(server);
        }
        return made;
    }
    /* Connections may come, and end, before this returns. */
    server->active = (unsigned)made;
    pica__server_ref(server);
    start_listeners(server);
    return 0;
}

int pica_server_address(pica_server *server, pica_address *address) {
    *address = server->addresses[0];
    return 0;
}

unsigned pica_server_addresses(pica_server *server, pica_address *addresses, unsigned max) {
    for (unsigned i = 0; i < server->bound && i < max; i++) {
        addresses[i] = server->addresses[i];
    }
    return server->bound;
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
     * may do so at once: nothing of a door is looked at after its stop. */
    for (size_t i = 0; i < server->door_count; i++) {
        struct pica__door *door = &server->doors[i];
        if (door->listener != NULL) {
            pica__listener_stop(door->listener, on_stopped, door);
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
