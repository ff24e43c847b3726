/* A UDP echo server: what comes goes back to its sender, as far as it fits --size bytes. Each loop has a
 * socket of its own and a task that takes what has come, up to a batch, and sends it back with one call.
 * SIGTERM or SIGINT end it, with exit code 0; a second signal kills.
 *     pica-udp-echo [--host ADDRESS] [--port PORT] [--size BYTES]
 * Prints "listening PORT"; port 0, the default, lets the kernel choose. */
#include <pica.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOPS = 1024, BATCH = 64 };

static const char *host = "127.0.0.1";
static unsigned port;
static size_t size = 65507; /* the longest that UDP over IPv4 can carry */
static pica_event stop = PICA_EVENT_INIT;

/* The first signal ends it in peace; from now on they do what they did before. */
static void on_end(void *arg) {
    pica_remove_signal_handler(SIGTERM);
    pica_remove_signal_handler(SIGINT);
    pica_event_set(arg);
}

/* Sends all, whatever becomes of each: a client that is gone is no reason to stop. */
static int answer(pica_datagram_endpoint *endpoint, struct pica_datagram *batch, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        batch[i].length = batch[i].length < size ? batch[i].length : size;
    }
    for (unsigned i = 0; i < n;) {
        int sent = pica_datagram_send_many(endpoint, batch + i, n - i);
        if (sent == PICA_ECLOSED || sent == PICA_ECANCELED || sent == -ENOMEM) {
            return sent;
        }
        i += sent > 0 ? (unsigned)sent : 1;
    }
    return 0;
}

static int echo(void *arg) {
    pica_datagram_endpoint *endpoint = arg;
    /* One line apart from a power of two, or all would meet in the same sets of the cache. */
    size_t stride = (size + 63) / 64 * 64 + 64;
    struct pica_datagram *batch = calloc(BATCH, sizeof *batch);
    char *buffers = malloc(BATCH * stride); /* of which only what is used has pages */
    int rc = batch == NULL || buffers == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; rc == 0 && i < BATCH; i++) {
        batch[i].buffer = buffers + i * stride;
        batch[i].size = size;
    }
    while (rc == 0) {
        int n = pica_datagram_recv_many(endpoint, batch, BATCH);
        rc = n < 0 ? n : answer(endpoint, batch, (unsigned)n);
    }
    free(buffers);
    free(batch);
    return rc == PICA_ECLOSED ? 0 : rc;
}

/* One on each loop. The first shares its port only once it is bound, so a second copy fails. */
static int open_all(pica_datagram_endpoint **endpoints, unsigned n) {
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    pica_address address;
    int on = 1, rc = pica_address_ip(&address, host, port);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        options.loop = pica_runtime_loop(pica_current_runtime(), i);
        options.reuse_port = i > 0;
        rc = pica_datagram_open(&endpoints[i], &address, NULL, &options);
        if (rc == 0 && i == 0) {
            rc = pica_datagram_setopt(endpoints[0], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
            rc = rc < 0 ? rc : pica_datagram_name(endpoints[0], &address);
        }
    }
    port = pica_address_port(&address);
    return rc;
}

static int serve(pica_datagram_endpoint **endpoints, unsigned n) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *tasks[LOOPS] = {NULL};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        options.loop = pica_runtime_loop(pica_current_runtime(), i);
        rc = pica_create_task_opts(&tasks[i], echo, endpoints[i], &options);
    }
    if (rc == 0) {
        printf("listening %u\n", port);
        fflush(stdout);
        rc = pica_event_wait(&stop);
    }
    for (unsigned i = 0; i < n; i++) {
        pica_datagram_close(endpoints[i]);
        int ended = tasks[i] == NULL ? 0 : pica_join(tasks[i], NULL);
        rc = rc < 0 ? rc : ended;
        pica_datagram_release(endpoints[i]);
    }
    return rc;
}

static int amain(void *arg) {
    pica_datagram_endpoint *endpoints[LOOPS] = {NULL};
    unsigned n = pica_runtime_workers(pica_current_runtime());
    int rc = open_all(endpoints, n);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGTERM, on_end, arg);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGINT, on_end, arg);
    if (rc < 0) {
        return rc; /* what was opened in vain, the end of the runtime closes */
    }
    return serve(endpoints, n);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *value = argv[i + 1]; /* NULL at the end */
        if (value != NULL && strcmp(argv[i], "--host") == 0) {
            host = value;
        } else if (value != NULL && strcmp(argv[i], "--port") == 0) {
            port = (unsigned)strtoul(value, NULL, 10);
        } else if (value != NULL && strcmp(argv[i], "--size") == 0) {
            size = strtoul(value, NULL, 10);
        } else {
            fprintf(stderr, "usage: %s [--host A] [--port P] [--size BYTES]\n", argv[0]);
            return 2;
        }
    }
    int rc = pica_run(amain, &stop);
    if (rc < 0) {
        fprintf(stderr, "udp_echo: %s\n", pica_strerror(rc));
    }
    return rc < 0;
}
