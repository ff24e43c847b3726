/* A proxy between clients and a server that answers with the bytes of the client's stream: each direction is
 * carried to its end, byte for byte. */
#include "tests/workloads/workload.h"

enum { CLIENTS = 3, BYTES = 200 };

static pica_address back, front;

static int answer(pica_reader *reader, pica_writer *writer, void *arg) {
    char buffer[50];
    ssize_t n;
    (void)arg;
    while ((n = pica_reader_read(reader, buffer, sizeof buffer)) > 0) {
        int rc = pica_writer_write(writer, buffer, (size_t)n);
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

struct half {
    pica_reader *from;
    pica_writer *to;
};

static int carry(void *arg) {
    struct half *half = arg;
    const char *data;
    ssize_t n;
    while ((n = pica_reader_peek(half->from, &data)) > 0) {
        int rc = pica_writer_write(half->to, data, (size_t)n);
        (void)pica_reader_consume(half->from, (size_t)n);
        rc = rc == 0 ? pica_writer_drain(half->to) : rc;
        if (rc < 0) {
            n = rc;
            break;
        }
    }
    if (n == 0) {
        n = pica_writer_write_eof(half->to);
    }
    if (n == 0) {
        return 0;
    }
    pica_writer_abort(half->to); /* the other direction waits for what follows */
    return (int)n;
}

static int serve(pica_reader *reader, pica_writer *writer, void *arg) {
    pica_reader *up_reader;
    pica_writer *up_writer;
    (void)arg;
    int rc = pica_open_connection("127.0.0.1", pica_address_port(&back), 0, &up_reader, &up_writer);
    if (rc < 0) {
        pica_writer_abort(writer);
        return rc;
    }
    struct half up = {reader, up_writer};
    struct half down = {up_reader, writer};
    pica_task *task = wl_task(carry, &up, "up");
    rc = carry(&down);
    if (rc < 0) {
        pica_task_cancel(task);
    }
    int up_rc = pica_await(pica_task_future(task), NULL);
    pica_task_unref(task);
    if (rc < 0 || up_rc < 0) {
        pica_writer_abort(writer);
    }
    pica_writer_release(up_writer);
    return rc;
}

static int send_part(void *arg) {
    struct half *half = arg;
    unsigned id = (unsigned)(uintptr_t)half->from;
    char buffer[BYTES];
    wl_pattern(buffer, id, 0, BYTES);
    for (size_t at = 0; at < BYTES;) {
        size_t n = 1 + wl_choose(BYTES);
        n = n < BYTES - at ? n : BYTES - at;
        int rc = pica_writer_write(half->to, buffer + at, n);
        rc = rc == 0 ? pica_writer_drain(half->to) : rc;
        if (rc < 0) {
            if (wl_lacks(rc)) {
                pica_writer_abort(half->to); /* or the answer's end is waited for */
            }
            return rc;
        }
        at += n;
    }
    return pica_writer_write_eof(half->to);
}

static int client(void *arg) {
    unsigned id = (unsigned)(uintptr_t)arg;
    pica_reader *reader;
    pica_writer *writer;
    if (!WL_OK(pica_open_connection("127.0.0.1", pica_address_port(&front), 0, &reader, &writer))) {
        return 0;
    }
    struct half half = {(pica_reader *)(uintptr_t)id, writer};
    pica_task *sender = wl_task(send_part, &half, "sender");
    char buffer[BYTES + 1];
    size_t got = 0;
    ssize_t n;
    while ((n = pica_reader_read(reader, buffer + got, sizeof buffer - got)) > 0) {
        got += (size_t)n;
        if (got > BYTES) {
            wl_fail(__FILE__, __LINE__, "more came back than was sent");
            break;
        }
    }
    WL_CHECK(WL_OK(n == PICA_ECLOSED && wl_memory ? 0 : n) || !wl_strict());
    WL_CHECK(wl_matches(buffer, id, 0, got));
    int sent = wl_join(sender);
    if (WL_OK(sent) && wl_strict()) { /* else the proxy may have ended the connection */
        WL_EQ(got, BYTES);
    }
    pica_writer_release(writer);
    return 0;
}

int wl_proxy(void *arg) {
    pica_server *server, *proxy;
    (void)arg;
    if (!wl_serve(&server, &back, answer)) {
        return 0;
    }
    if (wl_serve(&proxy, &front, serve)) {
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
        pica_server_close(proxy);
        WL_EQ(pica_server_wait_closed(proxy), 0);
        pica_server_release(proxy);
    }
    pica_server_release(server);
    wl_drain();
    return 0;
}
