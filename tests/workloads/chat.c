/* Chat by sockets: what a member says goes to all others. What a member hears of another one comes in the order
 * in which that said it. */
#include "tests/workloads/workload.h"

enum { MEMBERS = 4, SAYS = 3, QUEUE = 64, TRIES = 8 };

/* One line: who, and which of what that one said. */
struct line {
    unsigned char who, number;
};

struct member {
    pica_socket *socket;
    pica_queue queue; /* of struct line, packed into the pointer */
    bool here;
};

static pica_lock lock; /* of the members */
static struct member member[MEMBERS];
static unsigned members;
static bool hosting;
static pica_address address;

static int speaks(void *arg) {
    struct member *m = arg;
    void *item;
    int rc;
    while ((rc = pica_queue_get(&m->queue, &item)) == 0) {
        struct line line = {(unsigned char)((uintptr_t)item >> 8), (unsigned char)(uintptr_t)item};
        rc = pica_sendall(m->socket, &line, sizeof line);
        if (!WL_OK(rc)) {
            break;
        }
    }
    return 0;
}

/* All of size bytes: 1; 0 at the end; -1 after an error of the world. Then nobody reads here any more: the other end,
 * which may wait for room, is told, and so is who sends here. */
static int recv_all(pica_socket *socket, void *buffer, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = pica_recv(socket, (char *)buffer + got, size - got);
        if (!WL_OK(n)) {
            (void)pica_socket_shutdown(socket, SHUT_RDWR);
            return -1;
        }
        if (n == 0) {
            return 0;
        }
        got += (size_t)n;
    }
    return 1;
}

static int hears(void *arg) {
    struct member *m = arg;
    struct line line;
    pica_task *speaker = wl_task(speaks, m, "speaker");
    while (recv_all(m->socket, &line, sizeof line) > 0) {
        WL_EQ(pica_lock_acquire(&lock), 0);
        for (unsigned i = 0; i < members; i++) {
            if (&member[i] != m && member[i].here) {
                uintptr_t item = (uintptr_t)line.who << 8 | line.number | (uintptr_t)1 << 16;
                WL_EQ(pica_queue_put_nowait(&member[i].queue, (void *)item), 0);
            }
        }
        pica_lock_release(&lock);
    }
    WL_EQ(pica_lock_acquire(&lock), 0);
    m->here = false;
    pica_lock_release(&lock);
    pica_queue_shutdown(&m->queue, 0, NULL);
    (void)wl_join(speaker);
    pica_queue_destroy(&m->queue, NULL);
    pica_socket_close(m->socket);
    return 0;
}

/* True if it was cancelled meanwhile. */
static bool acquire(void) {
    int rc;
    bool cancelled = false;
    while ((rc = pica_lock_acquire(&lock)) == PICA_ECANCELED) {
        cancelled = true;
    }
    WL_EQ(rc, 0);
    return cancelled;
}

/* Owns the listener. It is cancelled while it is hosting if not all can come. */
static int host(void *arg) {
    pica_socket *listener = arg;
    pica_task *task[MEMBERS];
    bool over = false;
    unsigned n = 0;
    while (n < MEMBERS && !over) {
        pica_socket *socket;
        int rc = pica_accept(listener, &socket, NULL);
        over = rc == PICA_ECANCELED;
        if (rc == 0) {
            over = acquire();
            member[n].socket = socket;
            member[n].here = true;
            pica_queue_init(&member[n].queue, QUEUE);
            members = n + 1;
            pica_lock_release(&lock);
            task[n] = wl_task(hears, &member[n], "host of a member");
            n++;
        } else if (!over) {
            (void)WL_OK(rc);
        }
    }
    pica_socket_close(listener);
    (void)acquire();
    hosting = false;
    pica_lock_release(&lock);
    (void)pica_checkpoint(); /* a cancellation that came last: else this task would count as cancelled */
    for (unsigned i = 0; i < n; i++) {
        WL_EQ(wl_join(task[i]), 0);
    }
    return 0;
}

struct client {
    unsigned who;
    pica_socket *socket;
    unsigned heard;
};

static int listens(void *arg) {
    struct client *c = arg;
    int last[MEMBERS];
    struct line line;
    memset(last, -1, sizeof last);
    while (recv_all(c->socket, &line, sizeof line) > 0) {
        WL_CHECK(line.who < MEMBERS && line.who != c->who);
        WL_CHECK(line.number > last[line.who % MEMBERS]);
        last[line.who % MEMBERS] = line.number;
        c->heard++;
    }
    return 0;
}

static int client(void *arg) {
    struct client c = {.who = (unsigned)(uintptr_t)arg};
    if (!WL_OK(pica_connect(&c.socket, &address))) {
        return 0;
    }
    pica_task *listener = wl_task(listens, &c, "listener");
    bool good = true;
    for (unsigned i = 0; i < SAYS && good; i++) {
        struct line line = {(unsigned char)c.who, (unsigned char)i};
        good = WL_OK(pica_sendall(c.socket, &line, sizeof line));
        (void)pica_sleep(0.001 * wl_choose(3));
    }
    (void)pica_sleep(0.5); /* for what the others say */
    (void)pica_socket_shutdown(c.socket, SHUT_WR);
    WL_EQ(wl_join(listener), 0);
    pica_socket_close(c.socket);
    return 0;
}

int wl_chat(void *arg) {
    (void)arg;
    pica_socket *listener;
    pica_lock_init(&lock);
    members = 0;
    memset(member, 0, sizeof member);
    bool listens_now = false;
    for (int i = 0; i < TRIES && !listens_now; i++) {
        WL_EQ(pica_address_ip(&address, "127.0.0.1", 0), 0);
        listens_now = WL_OK(pica_listen(&listener, &address, NULL));
    }
    if (!listens_now) {
        return 0;
    }
    WL_EQ(pica_socket_name(listener, &address), 0);
    hosting = true;
    pica_task *hosts = wl_task(host, listener, "host");
    pica_task *task[MEMBERS];
    int n = 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (pica_sim_keep()) {
            task[n++] = wl_task(client, (void *)(uintptr_t)i, "member");
        }
    }
    for (int i = 0; i < n; i++) {
        WL_EQ(wl_join(task[i]), 0);
    }
    WL_EQ(pica_lock_acquire(&lock), 0);
    if (hosting) { /* not all have come */
        pica_task_cancel(hosts);
    }
    pica_lock_release(&lock);
    if (wl_join(hosts) == PICA_ECANCELED) { /* it has not even begun */
        pica_socket_close(listener);
    }
    wl_drain();
    return 0;
}
