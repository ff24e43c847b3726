/* Floor: edge-triggered epoll with plain recv and send, one epoll instance for each thread.
 *
 * Thread 0 also accepts, and deals a connection to a thread by adding it to that thread's epoll
 * instance, which is allowed from any thread; from then on only its thread touches it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "bench/floor/answer.h"
#include "bench/floor/plain.h"
#include "bench/floor/setup.h"

#define EVENTS 256

struct server {
    struct floor_options options;
    int listener;
    int polls[FLOOR_MAX_THREADS]; /* complete before the first thread starts */
    unsigned next;                /* thread the next connection goes to; thread 0 only */
};

struct thread {
    struct server *server;
    unsigned index;
    char buffer[PLAIN_READ_SIZE];
};

static void deal(struct server *server, int fd) {
    struct plain *plain = calloc(1, sizeof *plain);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = plain};
    if (plain == NULL) {
        close(fd);
        return;
    }
    plain->fd = fd;
    if (epoll_ctl(server->polls[server->next], EPOLL_CTL_ADD, fd, &event) < 0) {
        close(fd);
        free(plain);
        return;
    }
    server->next = (server->next + 1) % server->options.threads;
}

/* Out of descriptors is not an end: the listener is level triggered and will be reported again. */
static void accept_all(struct server *server) {
    for (;;) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            deal(server, fd);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* Each descriptor is reported at most once in a batch, so the record can go at once. */
static void close_one(struct plain *plain) {
    close(plain->fd);
    free(plain->kept);
    free(plain);
}

static void *serve(void *arg) {
    struct thread *thread = arg;
    struct server *server = thread->server;
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(server->polls[thread->index], events, EVENTS, -1);
        if (n < 0 && errno != EINTR) {
            floor_die("epoll_wait", errno);
        }
        for (int i = 0; i < n; i++) {
            struct plain *plain = events[i].data.ptr;
            bool hang_up = (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            if (plain == NULL) {
                accept_all(server);
            } else if (!plain_serve(plain, server->options.mode, thread->index, thread->buffer,
                                    hang_up)) {
                close_one(plain);
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    static struct server server;
    static struct thread threads[FLOOR_MAX_THREADS];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    server.options = floor_parse(argc, argv);
    server.listener = floor_start(&server.options);
    floor_fill_responses();
    for (unsigned i = 0; i < server.options.threads; i++) {
        threads[i].server = &server;
        threads[i].index = i;
        server.polls[i] = epoll_create1(EPOLL_CLOEXEC);
        if (server.polls[i] < 0) {
            floor_die("epoll_create1", errno);
        }
    }
    if (epoll_ctl(server.polls[0], EPOLL_CTL_ADD, server.listener, &event) < 0) {
        floor_die("epoll_ctl", errno);
    }
    for (unsigned i = 1; i < server.options.threads; i++) {
        pthread_t id;
        int error = pthread_create(&id, NULL, serve, &threads[i]);
        if (error != 0) {
            floor_die("pthread_create", error);
        }
    }
    floor_ready(server.listener);
    serve(&threads[0]);
    return 0;
}
