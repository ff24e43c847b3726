/* Datagrams: requests and answers over UDP, some of which are lost, come twice or late, with several tasks at one
 * endpoint and cancellations; and an order that Unix datagrams keep. What comes is whole and was sent, and an answer
 * is that of its request. */
#include "tests/workloads/workload.h"

#include <stdio.h>
#include <unistd.h>

enum { SERVERS = 3, CLIENTS = 4, ROUNDS = 4, TRIES = 8, SIZE = 48, BATCH = 3, LETTERS = 12 };

/* A request, and its answer. */
struct message {
    uint16_t client, number;
    char fill[SIZE];
};

static pica_datagram_endpoint *server;
static pica_address address;

/* Whether this is an error of the world; then the call may be made again. */
static bool try_again(long rc) {
    bool over = rc == PICA_ECLOSED || rc == PICA_ECANCELED;
    if (!over && rc < 0) {
        (void)WL_OK(rc);
    }
    return !over;
}

static int serves(void *arg) {
    struct message m;
    pica_address from;
    unsigned flags;
    ssize_t n = 0;
    (void)arg;
    while (try_again(n)) {
        n = pica_datagram_recv(server, &m, sizeof m, &from, &flags);
        if (n >= 0) {
            WL_CHECK(n >= (ssize_t)offsetof(struct message, fill) && n <= (ssize_t)sizeof m && flags == 0);
            WL_CHECK(wl_matches(m.fill, m.client, m.number, (size_t)n - offsetof(struct message, fill)));
            WL_CHECK(pica_address_port(&from) != 0);
            ssize_t rc = pica_datagram_send(server, &m, (size_t)n, &from);
            if (rc == PICA_ECANCELED) {
                (void)pica_datagram_send(server, &m, (size_t)n, &from); /* what was taken is answered */
            }
            n = rc;
        }
    }
    return (int)n;
}

/* The same with batches. */
static int serves_many(void *arg) {
    struct message m[BATCH];
    struct pica_datagram batch[BATCH];
    int n = 0;
    (void)arg;
    for (int i = 0; i < BATCH; i++) {
        batch[i] = (struct pica_datagram){.buffer = &m[i], .size = sizeof m[i]};
    }
    while (try_again(n)) {
        n = pica_datagram_recv_many(server, batch, BATCH);
        WL_CHECK(n != 0 && n <= BATCH);
        for (int sent = 0; sent < n;) {
            int k = pica_datagram_send_many(server, batch + sent, (unsigned)(n - sent));
            if (k < 0) {
                n = k; /* the rest gets no answer */
            }
            sent += k;
        }
    }
    return n;
}

/* Until the answer to m has come: 1; 0: this try has failed. */
static int answer(pica_datagram_endpoint *endpoint, const struct message *m, size_t size) {
    struct message got;
    unsigned flags;
    size_t room = wl_choose(2) == 0 ? sizeof got : offsetof(struct message, fill);
    for (;;) {
        ssize_t n = pica_datagram_recv(endpoint, &got, room, NULL, &flags);
        if (n < 0) {
            return n == PICA_ECANCELED ? (int)n : WL_OK(n);
        }
        WL_EQ(got.client, m->client);
        WL_CHECK(got.number <= m->number);
        WL_EQ(flags, (size_t)n > room ? PICA_DATAGRAM_TRUNCATED : 0);
        if (got.number == m->number) { /* else one that was asked for before has come again */
            WL_EQ(n, size);
            WL_CHECK(memcmp(&got, m, (size_t)n < room ? (size_t)n : room) == 0);
            return 1;
        }
    }
}

static int ask(pica_datagram_endpoint *endpoint, struct message *m) {
    size_t length = wl_choose(SIZE);
    size_t size = offsetof(struct message, fill) + length;
    wl_pattern(m->fill, m->client, m->number, length);
    for (int i = 0; i < TRIES; i++) {
        pica_timeout timeout;
        int rc = pica_timeout_enter(&timeout, wl_strict() ? 5 : 0.05);
        if (wl_lacks(rc)) {
            continue;
        }
        WL_EQ(rc, 0);
        rc = pica_datagram_send(endpoint, m, size, NULL);
        rc = rc == 0 ? answer(endpoint, m, size) : rc;
        rc = pica_timeout_exit(&timeout, rc);
        if (rc == 1) {
            return 1;
        }
        if (wl_strict() || rc != PICA_ETIMEDOUT) {
            (void)WL_OK(rc);
        }
    }
    return 0;
}

static int client(void *arg) {
    struct message m = {.client = (uint16_t)(uintptr_t)arg};
    pica_datagram_endpoint *endpoint;
    int rc = pica_datagram_open(&endpoint, NULL, &address, NULL);
    if (!WL_OK(rc)) {
        return 0;
    }
    for (; m.number < ROUNDS; m.number++) {
        rc = ask(endpoint, &m);
        WL_CHECK(rc == 1 || !wl_strict());
    }
    pica_datagram_release(endpoint);
    return 0;
}

static void asks(void) {
    pica_task *servers[SERVERS], *clients[CLIENTS];
    for (int i = 0; i < SERVERS; i++) {
        servers[i] = wl_task(i == 0 ? serves_many : serves, NULL, "server");
    }
    for (uintptr_t i = 0; i < CLIENTS; i++) {
        clients[i] = wl_task(client, (void *)i, "client");
    }
    (void)pica_sleep(0.001 * wl_choose(4));
    pica_task_cancel(servers[SERVERS - 1]); /* in line, with the turn, or at work */
    WL_EQ(wl_join(servers[SERVERS - 1]), PICA_ECANCELED);
    for (int i = 0; i < CLIENTS; i++) {
        WL_EQ(wl_join(clients[i]), 0);
    }
    pica_datagram_close(server);
    for (int i = 0; i < SERVERS - 1; i++) {
        WL_EQ(wl_join(servers[i]), PICA_ECLOSED);
    }
}

/* --- Unix: nothing is lost, and the order stays --- */

static int hears(void *arg) {
    pica_datagram_endpoint *endpoint = arg;
    unsigned char last = 0;
    while (last < LETTERS) {
        unsigned char number;
        pica_address from;
        ssize_t n = pica_datagram_recv(endpoint, &number, 1, &from, NULL);
        if (n == PICA_ECLOSED || n == PICA_ECANCELED) {
            return (int)n; /* the simulation has failed and ends */
        }
        if (WL_OK(n)) {
            WL_EQ(n, 1);
            WL_EQ(number, last + 1);
            WL_EQ(from.length, 0);
            last = number;
        }
        if (wl_choose(3) == 0) {
            (void)pica_sleep(0.001);
        }
    }
    return 0;
}

static void letters(const pica_address *at, bool connected) {
    pica_datagram_endpoint *to, *from;
    if (!WL_OK(pica_datagram_open(&to, at, NULL, NULL))) {
        return;
    }
    /* Without an own name: a path of the same family that is not bound to. */
    if (WL_OK(pica_datagram_open(&from, NULL, at, NULL))) {
        pica_task *task = wl_task(hears, to, "hears");
        for (unsigned char number = 1; number <= LETTERS;) {
            int rc = pica_datagram_send(from, &number, 1, connected ? NULL : at);
            if (rc == PICA_ECLOSED || rc == PICA_ECANCELED) {
                break;
            }
            number = (unsigned char)(number + WL_OK(rc));
        }
        WL_EQ(wl_join(task), 0);
        pica_datagram_release(from);
    }
    pica_datagram_release(to);
}

/* --- nobody is there --- */

static void nobody(void) {
    pica_datagram_endpoint *endpoint;
    pica_address at = address; /* that of the server, which is closed */
    if (!WL_OK(pica_datagram_open(&endpoint, NULL, &at, NULL))) {
        return;
    }
    bool refused = false;
    for (int i = 0; i < TRIES && !refused; i++) {
        char c;
        pica_timeout timeout;
        if (!WL_OK(pica_timeout_enter(&timeout, 0.2))) {
            continue;
        }
        int rc = pica_datagram_send(endpoint, "x", 1, NULL);
        ssize_t n = rc == 0 ? pica_datagram_recv(endpoint, &c, 1, NULL, NULL) : rc;
        n = pica_timeout_exit(&timeout, (int)n);
        refused = n == -ECONNREFUSED;
        WL_CHECK(n < 0);
    }
    WL_CHECK(refused || !wl_strict());
    pica_datagram_release(endpoint);
}

int wl_datagram(void *arg) {
    char path[64];
    pica_address at;
    (void)arg;
    WL_EQ(pica_address_ip(&address, "127.0.0.1", 0), 0);
    bool open = false;
    for (int i = 0; i < TRIES && !open; i++) {
        open = WL_OK(pica_datagram_open(&server, &address, NULL, NULL));
    }
    if (!open) {
        return 0;
    }
    WL_EQ(pica_datagram_name(server, &address), 0);
    asks();
    pica_datagram_release(server);
    for (int i = 0; i < 100 && wl_strict(); i++) {
        (void)pica_yield(); /* its home loop closes the descriptor */
    }
    nobody();
    (void)snprintf(path, sizeof path, "/tmp/pica-letters-%d", pica_simulated() ? 0 : (int)getpid());
    WL_EQ(pica_address_unix(&at, path), 0);
    letters(&at, wl_choose(2) == 0);
    (void)unlink(path); /* in a simulation there is none */
    wl_drain();
    return 0;
}
