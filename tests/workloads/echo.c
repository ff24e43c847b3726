/* An echo server with streams: what comes back is, byte for byte, what was sent, then the end. */
#include "tests/workloads/workload.h"

enum { CLIENTS = 5, ROUNDS = 4, PIECE = 64, TRIES = 3 };

static pica_address address;

static int serve(pica_reader *reader, pica_writer *writer, void *arg) {
    (void)arg;
    const char *data;
    ssize_t n;
    while ((n = pica_reader_peek(reader, &data)) > 0) {
        int rc = pica_writer_write(writer, data, (size_t)n);
        WL_EQ(pica_reader_consume(reader, (size_t)n), 0);
        rc = rc == 0 ? pica_writer_drain(writer) : rc;
        n = rc < 0 ? rc : n;
        if (n < 0) {
            break;
        }
    }
    if (n < 0) {
        pica_writer_abort(writer); /* or both sides may close with bytes pending that neither reads */
    }
    return (int)n;
}

/* One connection. False: the world was in the way. */
static bool talk(unsigned id) {
    pica_reader *reader;
    pica_writer *writer;
    if (!WL_OK(pica_open_connection("127.0.0.1", pica_address_port(&address), 0, &reader, &writer))) {
        return false;
    }
    char buffer[PIECE];
    bool good = true;
    size_t at = 0;
    for (int i = 0; i < ROUNDS && good; i++) {
        size_t size = 1 + wl_choose(PIECE);
        wl_pattern(buffer, id, at, size);
        good = WL_OK(pica_writer_write(writer, buffer, size)) && WL_OK(pica_writer_drain(writer));
        memset(buffer, 0, size);
        good = good && WL_OK(pica_reader_readexactly(reader, buffer, size, NULL));
        if (good && !wl_matches(buffer, id, at, size)) {
            wl_fail(__FILE__, __LINE__, "client %u got other bytes than it sent", id);
        }
        at += size;
        if (wl_choose(4) == 0) {
            (void)pica_sleep(0.001);
        }
    }
    if (good) {
        good = WL_OK(pica_writer_write_eof(writer));
        ssize_t n = pica_reader_read(reader, buffer, sizeof buffer);
        good = good && WL_OK(n);
        WL_CHECK(n <= 0);
    }
    pica_writer_close(writer);
    (void)pica_writer_wait_closed(writer);
    pica_writer_release(writer);
    return good;
}

static int client(void *arg) {
    unsigned id = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < TRIES; i++) {
        if (talk(id)) {
            return 0;
        }
    }
    return 0;
}

int wl_echo(void *arg) {
    (void)arg;
    pica_server *server;
    if (!wl_serve(&server, &address, serve)) {
        return 0;
    }
    pica_task *task[CLIENTS];
    int n = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (pica_sim_keep()) {
            task[n++] = wl_task(client, (void *)(uintptr_t)i, "client");
        }
    }
    for (int i = 0; i < n; i++) {
        WL_EQ(wl_join(task[i]), 0);
    }
    pica_server_close(server);
    WL_EQ(pica_server_wait_closed(server), 0);
    WL_EQ(pica_server_connections(server), 0);
    pica_server_release(server);
    wl_drain();
    return 0;
}
