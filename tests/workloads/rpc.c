/* Calls over one connection, many at once, with limits and cancellations: each answer reaches its own call, each
 * call ends once, and no limit passes early. */
#include "tests/workloads/workload.h"

enum { CONNECTIONS = 2, TRIES = 8, CALLERS = 5, CALLS = 3, SLOTS = CALLERS * CALLS };

struct message {
    uint16_t id;
    uint16_t value;
};

/* One connection of a client. */
struct channel {
    pica_reader *reader;
    pica_writer *writer;
    pica_lock lock;
    pica_future *pending[SLOTS]; /* under the lock; a reference */
    bool broken;                 /* under the lock */
};

static pica_address address;

struct request {
    pica_writer *writer;
    struct message message;
};

static int handle(void *arg) {
    struct request *r = arg;
    int rc = pica_sleep(0.001 * (r->message.value % 7));
    r->message.value = (uint16_t)(r->message.value * 3);
    return rc < 0 ? rc : pica_writer_write(r->writer, &r->message, sizeof r->message);
}

static int serve(pica_reader *reader, pica_writer *writer, void *arg) {
    struct request request[SLOTS];
    pica_task *task[SLOTS];
    int n = 0;
    int rc = 0;
    (void)arg;
    while (n < SLOTS && rc == 0) {
        request[n].writer = writer;
        rc = pica_reader_readexactly(reader, &request[n].message, sizeof request[n].message, NULL);
        if (rc == 0) {
            task[n] = wl_task(handle, &request[n], "request");
            n++;
        }
    }
    if (rc < 0 && rc != PICA_EINCOMPLETE) {
        pica_writer_abort(writer); /* or both sides may close with bytes pending that neither reads */
    }
    for (int i = 0; i < n; i++) {
        (void)wl_join(task[i]);
    }
    return rc;
}

static void broken(struct channel *c) {
    while (pica_lock_acquire(&c->lock) < 0) {
    }
    c->broken = true;
    for (int i = 0; i < SLOTS; i++) {
        if (c->pending[i] != NULL) {
            (void)pica_future_set_exception(c->pending[i], -ECONNRESET, NULL);
        }
    }
    pica_lock_release(&c->lock);
}

static int receives(void *arg) {
    struct channel *c = arg;
    struct message m;
    int rc;
    while ((rc = pica_reader_readexactly(c->reader, &m, sizeof m, NULL)) == 0) {
        WL_CHECK(m.id < SLOTS);
        while (pica_lock_acquire(&c->lock) < 0) {
        }
        pica_future *future = c->pending[m.id % SLOTS];
        if (future != NULL) { /* else its caller has left */
            int set = pica_future_set_result(future, (void *)(uintptr_t)(m.value + 1u), NULL);
            WL_CHECK(set == 0 || pica_future_cancelled(future));
        }
        pica_lock_release(&c->lock);
    }
    if (rc != PICA_EINCOMPLETE) {
        pica_writer_abort(c->writer);
    }
    broken(c);
    return 0;
}

/* The result, or an error. */
static int call(struct channel *c, unsigned id, unsigned value, double limit) {
    struct message m = {(uint16_t)id, (uint16_t)value};
    pica_future *future;
    if (pica_future_new(&future) < 0) {
        return -ENOMEM;
    }
    int rc = pica_lock_acquire(&c->lock);
    if (rc < 0) {
        pica_future_unref(future);
        return rc;
    }
    bool lost = c->broken;
    c->pending[id] = future;
    pica_lock_release(&c->lock);
    double before = pica_time();
    void *result = NULL;
    rc = lost ? -ECONNRESET : pica_writer_write(c->writer, &m, sizeof m);
    rc = rc == 0 ? pica_wait_for(future, limit, &result) : rc;
    if (rc == PICA_ETIMEDOUT) {
        WL_CHECK(pica_time() - before >= limit - 1e-6);
    }
    int again;
    while ((again = pica_lock_acquire(&c->lock)) < 0) {
        rc = rc < 0 ? rc : again;
    }
    c->pending[id] = NULL;
    pica_lock_release(&c->lock);
    pica_future_unref(future);
    return rc < 0 ? rc : (int)(uintptr_t)result - 1;
}

struct caller {
    struct channel *channel;
    unsigned id;
};

static int calls(void *arg) {
    struct caller *caller = arg;
    for (unsigned i = 0; i < CALLS; i++) {
        unsigned value = wl_choose(1000);
        double limit = wl_choose(2) == 0 ? 0.002 : 5.0;
        int rc = call(caller->channel, caller->id * CALLS + i, value, limit);
        if (rc >= 0) {
            WL_EQ(rc, value * 3);
        } else if (rc == PICA_ECANCELED) {
            return rc;
        } else if (rc != PICA_ETIMEDOUT && (wl_strict() || rc != PICA_ECLOSED)) {
            (void)WL_OK(rc);
        }
    }
    return 0;
}

static void run_calls(struct channel *c) {
    struct caller caller[CALLERS];
    pica_task *task[CALLERS];
    pica_task *receiver = wl_task(receives, c, "receiver");
    for (unsigned i = 0; i < CALLERS; i++) {
        caller[i] = (struct caller){c, i};
        task[i] = wl_task(calls, &caller[i], "caller");
    }
    (void)pica_sleep(0.001 * wl_choose(5));
    pica_task_cancel(task[0]);
    for (int i = 0; i < CALLERS; i++) {
        int rc = wl_join(task[i]);
        WL_CHECK(rc == 0 || (i == 0 && rc == PICA_ECANCELED));
    }
    pica_writer_close(c->writer);
    WL_EQ(wl_join(receiver), 0);
}

int wl_rpc(void *arg) {
    pica_server *server;
    (void)arg;
    if (!wl_serve(&server, &address, serve)) {
        return 0;
    }
    for (int i = 0, done = 0; i < TRIES && done < CONNECTIONS; i++) {
        struct channel channel = {.lock = PICA_LOCK_INIT};
        if (WL_OK(pica_open_connection("127.0.0.1", pica_address_port(&address), 0, &channel.reader,
                                       &channel.writer))) {
            run_calls(&channel);
            pica_writer_release(channel.writer);
            done++;
        }
    }
    pica_server_close(server);
    WL_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    wl_drain();
    return 0;
}
