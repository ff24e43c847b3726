/* An echo server: every byte that a client sends comes back. An idle connection holds no buffer:
 * the handler looks at the bytes where the reader has them (peek), writes them, and takes them
 * from the reader (consume). SIGTERM or SIGINT end it: no new connections, the open ones have
 * --grace seconds to finish, then they are cut; the exit code is 0. A second signal kills. SIGUSR1
 * prints "served A B ...", the steps of each worker's tasks so far.
 *
 *     pica-echo-server [--host ADDRESS] [--port PORT] [--unix PATH] [--grace SECONDS]
 *
 * Prints "listening PORT" (or the path); port 0, the default, lets the kernel choose.
 */
#include <pica.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *host = "127.0.0.1", *path;
static unsigned port;
static double grace = 2.0;

static pica_event stop = PICA_EVENT_INIT;

/* The first signal ends it in peace; from now on they do what they did before. */
static void on_end(void *arg) {
    (void)arg;
    pica_remove_signal_handler(SIGTERM);
    pica_remove_signal_handler(SIGINT);
    pica_event_set(&stop);
}

static void on_ask(void *arg) {
    printf("served");
    for (unsigned i = 0; i < pica_runtime_workers(arg); i++) {
        printf(" %llu", (unsigned long long)pica_runtime_worker_steps(arg, i));
    }
    puts("");
    fflush(stdout);
}

static int echo(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *data;
    ssize_t n = 0;
    int rc = 0;

    (void)arg;
    while (rc >= 0 && (n = pica_reader_peek(reader, &data)) > 0) {
        rc = pica_writer_write(writer, data, (size_t)n);
        pica_reader_consume(reader, (size_t)n);
        if (rc >= 0) {
            /* Waits while the client takes nothing, and so reads no more from it. */
            rc = pica_writer_drain(writer);
        }
    }
    rc = rc < 0 ? rc : (int)n;
    if (rc == PICA_ECANCELED) {
        /* The grace is over: what is left is not worth waiting for. */
        pica_writer_abort(writer);
    }
    return rc;
}

static int announce(pica_server *server) {
    pica_address address;
    int rc = pica_server_address(server, &address);
    if (path != NULL) {
        printf("listening %s\n", path);
    } else if (rc >= 0) {
        printf("listening %u\n", pica_address_port(&address));
    }
    fflush(stdout);
    return rc;
}

/* Serves until a signal comes, and then lets the connections end. */
static int serve(pica_server *server) {
    int rc = pica_event_wait(&stop);
    pica_server_close(server);
    if (rc >= 0 && pica_server_wait_closed_for(server, grace) < 0) {
        pica_server_cancel_clients(server);
        (void)pica_server_wait_closed_for(server, 1.0);
    }
    return rc;
}

static int amain(void *arg) {
    pica_server *server = NULL;

    int rc = path != NULL ? pica_start_unix_server(&server, path, echo, arg, NULL)
                          : pica_start_server(&server, host, port, echo, arg, NULL);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGTERM, on_end, NULL);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGINT, on_end, NULL);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGUSR1, on_ask, pica_current_runtime());
    rc = rc < 0 ? rc : announce(server);
    rc = rc < 0 ? rc : serve(server);
    pica_server_release(server);
    return rc;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *value = argv[i + 1]; /* NULL at the end */
        if (value != NULL && strcmp(argv[i], "--host") == 0) {
            host = value;
        } else if (value != NULL && strcmp(argv[i], "--port") == 0) {
            port = (unsigned)strtoul(value, NULL, 10);
        } else if (value != NULL && strcmp(argv[i], "--unix") == 0) {
            path = value;
        } else if (value != NULL && strcmp(argv[i], "--grace") == 0) {
            grace = strtod(value, NULL);
        } else {
            fprintf(stderr, "usage: %s [--host A] [--port P] [--unix PATH] [--grace S]\n", argv[0]);
            return 2;
        }
    }
    int rc = pica_run(amain, NULL);
    if (rc < 0) {
        fprintf(stderr, "echo_server: %s\n", pica_strerror(rc));
    }
    return rc < 0;
}
