/*
 * Actors: the rest of the world, as sequential code on simulated threads. See pica/testing.h.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/sim/child.h"
#include "runtime/base/sim/datagram.h"
#include "runtime/base/sim/disk.h"
#include "runtime/base/sim/net.h"
#include "runtime/base/sim/sys.h"

struct start {
    void (*fn)(void *arg);
    void *arg;
};

static void *actor_main(void *arg) {
    struct start start = *(struct start *)arg;
    free(arg);
    start.fn(start.arg);
    return NULL;
}

int pica_sim_actor(void (*fn)(void *arg), void *arg, const char *name) {
    if (!pica__simulated()) {
        return -ESHUTDOWN;
    }
    struct start *start = malloc(sizeof *start);
    if (start == NULL) {
        return -ENOMEM;
    }
    *start = (struct start){fn, arg};
    pica__sim_thread *t = pica__sim_thread_make(actor_main, start, name != NULL ? name : "actor");
    if (t == NULL) {
        free(start);
        return -EAGAIN;
    }
    t->actor = true;
    t->detached = true;
    return 0;
}

static int over(void) {
    return pica__simulated() && !pica__the_sim.ending && !pica__sim_child_killed() ? 0 : -ESHUTDOWN;
}

/* After letting others run: what is behind fd; NULL if it is all over. */
static pica__sim_file *file_now(int fd) {
    if (over() < 0) {
        return NULL;
    }
    pica__sim_point();
    return over() < 0 ? NULL : pica__sim_file_of(fd);
}

static int64_t deadline_of(double seconds) {
    double when = (double)pica__sim_time() + seconds * 1e9;
    return when >= 9e18 ? INT64_MAX : when < 0 ? 0 : (int64_t)when;
}

int pica_sim_sleep(double seconds) {
    int64_t deadline = over() < 0 ? 0 : deadline_of(seconds);
    while (over() == 0 && pica__sim_time() < deadline) {
        (void)pica__sim_block(deadline, "a sleep");
    }
    return over();
}

int pica_sim_file(const char *path, const void *data, size_t size) {
    return over() < 0 ? -ESHUTDOWN : pica__sim_disk_put(path, data, size);
}

void pica_sim_signal(int signum) {
    if (over() == 0) {
        pica__sim_point();
    }
    if (over() == 0 && !pica__the_sim.settling) {
        (void)raise(signum);
    }
}

/* --- waiting for descriptors --- */

struct actor_watch {
    pica__sim_watch watch;
    pica__sim_thread *thread;
    unsigned events;
};

static void actor_notify(pica__sim_watch *watch, unsigned revents) {
    struct actor_watch *w = PICA__CONTAINER_OF(watch, struct actor_watch, watch);
    if ((revents & (w->events | POLLERR | POLLHUP)) != 0) {
        pica__sim_wake(w->thread);
    }
}

/* Until something may have changed: 0, -ETIMEDOUT, -ESHUTDOWN. */
static int wait_for(pica__sim_file *file, unsigned events, int64_t deadline) {
    struct actor_watch w = {{{NULL, NULL}, actor_notify}, pica__sim_current(), events};
    pica__list_init(&w.watch.link);
    pica__sim_watch_add(file, &w.watch);
    (void)pica__sim_block(deadline, "a descriptor");
    if (over() == 0) {
        pica__sim_watch_remove(&w.watch);
    }
    return over() < 0 ? -ESHUTDOWN : pica__sim_time() >= deadline ? -ETIMEDOUT : 0;
}

ssize_t pica_sim_read(int fd, void *buffer, size_t size, double limit) {
    int64_t deadline = over() < 0 ? 0 : deadline_of(limit);
    for (;;) {
        pica__sim_file *file = file_now(fd);
        if (file == NULL) {
            return -ESHUTDOWN;
        }
        if (file->kind == PICA__SIM_DISK) {
            return 0; /* /dev/null */
        }
        ssize_t n = pica__sim_stream_read(file, buffer, size);
        if (n != -EAGAIN) {
            return n;
        }
        int rc = wait_for(file, POLLIN, deadline);
        if (rc < 0) {
            return rc;
        }
    }
}

int pica_sim_write(int fd, const void *buffer, size_t size) {
    const char *at = buffer;
    if (fd >= 0 && fd < PICA__SIM_FD) { /* a process that inherited it */
        ssize_t ignored = write(fd, buffer, size);
        (void)ignored;
        return 0;
    }
    while (size > 0) {
        pica__sim_file *file = file_now(fd);
        if (file == NULL) {
            return -ESHUTDOWN;
        }
        if (file->kind == PICA__SIM_DISK) {
            return 0;
        }
        struct iovec part = {(void *)(uintptr_t)at, size};
        ssize_t n = pica__sim_stream_write(file, &part, 1);
        if (n >= 0) {
            at += n;
            size -= (size_t)n;
        } else if (n != -EAGAIN) {
            return (int)n;
        } else {
            int rc = wait_for(file, POLLOUT, INT64_MAX);
            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

/* --- connections --- */

struct actor_connect {
    pica__sim_connecting connecting;
    pica__sim_thread *thread;
    int result;
};

static void actor_connected(pica__sim_connecting *c, int result) {
    struct actor_connect *a = PICA__CONTAINER_OF(c, struct actor_connect, connecting);
    a->result = result;
    pica__sim_wake(a->thread);
}

int pica_sim_connect(const pica_address *address) {
    if (over() < 0) {
        return -ESHUTDOWN;
    }
    int fd = pica__sim_socket(address->storage.ss_family, SOCK_STREAM, 0);
    if (fd < 0 || over() < 0) {
        return fd < 0 ? fd : -ESHUTDOWN;
    }
    struct actor_connect a = {.thread = pica__sim_current(), .result = 1};
    pica__sim_connect_begin(&a.connecting, pica__sim_file_of(fd),
                            (const struct sockaddr *)&address->storage, address->length,
                            actor_connected);
    while (a.result > 0 && over() == 0) {
        (void)pica__sim_block(INT64_MAX, "a connection");
    }
    if (over() < 0) {
        pica__sim_event_cancel(&a.connecting.event);
        return -ESHUTDOWN;
    }
    if (a.result < 0) {
        (void)pica__sim_close(fd);
        return a.result;
    }
    return fd;
}

int pica_sim_listen(const pica_address *address) {
    if (over() < 0) {
        return -ESHUTDOWN;
    }
    int fd = pica__sim_socket(address->storage.ss_family, SOCK_STREAM, 0);
    pica__sim_file *file = fd < 0 ? NULL : file_now(fd);
    if (file == NULL) {
        return fd < 0 ? fd : -ESHUTDOWN;
    }
    int rc = pica__sim_bind_file(file, (const struct sockaddr *)&address->storage, address->length);
    rc = rc == 0 ? pica__sim_listen_file(file, 64) : rc;
    if (rc < 0) {
        (void)pica__sim_close(fd);
        return rc;
    }
    return fd;
}

int pica_sim_accept(int fd) {
    for (;;) {
        pica__sim_file *listener = file_now(fd);
        if (listener == NULL) {
            return -ESHUTDOWN;
        }
        pica__sim_file *file;
        int rc = pica__sim_accept_file(listener, &file);
        if (rc != -EAGAIN) {
            return rc;
        }
        rc = wait_for(listener, POLLIN, INT64_MAX);
        if (rc < 0) {
            return rc;
        }
    }
}

/* --- datagrams --- */

int pica_sim_datagram(const pica_address *local) {
    if (over() < 0) {
        return -ESHUTDOWN;
    }
    int fd = pica__sim_socket(local != NULL ? local->storage.ss_family : AF_INET, SOCK_DGRAM, 0);
    pica__sim_file *file = fd < 0 ? NULL : file_now(fd);
    if (file == NULL) {
        return fd < 0 ? fd : -ESHUTDOWN;
    }
    int rc = local == NULL ? 0
                           : pica__sim_bind_file(file, (const struct sockaddr *)&local->storage,
                                                 local->length);
    if (rc < 0) {
        (void)pica__sim_close(fd);
        return rc;
    }
    return fd;
}

int pica_sim_send(int fd, const void *buffer, size_t size, const pica_address *to) {
    for (;;) {
        pica__sim_file *file = file_now(fd);
        if (file == NULL) {
            return -ESHUTDOWN;
        }
        ssize_t n = pica__sim_datagram_send(file, buffer, size, (const struct sockaddr *)&to->storage,
                                            to->length);
        if (n != -EAGAIN) {
            return n < 0 ? (int)n : 0;
        }
        int rc = wait_for(file, POLLOUT, pica__sim_time() + 1000000); /* Unix: nobody tells */
        if (rc < 0 && rc != -ETIMEDOUT) {
            return rc;
        }
    }
}

ssize_t pica_sim_receive(int fd, void *buffer, size_t size, pica_address *from, double limit) {
    int64_t deadline = over() < 0 ? 0 : deadline_of(limit);
    for (;;) {
        pica__sim_file *file = file_now(fd);
        if (file == NULL) {
            return -ESHUTDOWN;
        }
        ssize_t n = pica__sim_datagram_receive(file, buffer, size, from, NULL);
        if (n != -EAGAIN) {
            return n;
        }
        int rc = wait_for(file, POLLIN, deadline);
        if (rc < 0) {
            return rc;
        }
    }
}

void pica_sim_finish(int fd) {
    pica__sim_file *file = file_now(fd);
    if (file != NULL) {
        pica__sim_stream_finish(file);
    }
}

void pica_sim_close(int fd) {
    if (file_now(fd) != NULL) {
        (void)pica__sim_close(fd);
    }
}

void pica_sim_reset(int fd) {
    pica__sim_file *file = file_now(fd);
    if (file != NULL) {
        file->linger_reset = true;
        (void)pica__sim_close(fd);
    }
}
