/* What a server does around its handlers, for examples that are about the handlers: options from the
 * command line, a listener of its own or an inherited one, the line "listening PORT", and an end in order when SIGTERM or SIGINT comes. Then no
 * new connections are accepted, the open ones have `grace` seconds to finish, after which their
 * handlers are cancelled and get one second more. The exit code is 0. A second signal kills. */
#ifndef PICA_EXAMPLES_SERVE_H
#define PICA_EXAMPLES_SERVE_H

#include <pica.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pica_event serve_stop = PICA_EVENT_INIT;
static atomic_bool ending; /* written by serve, read by every handler */

/* The first signal ends it in peace; from now on they do what they did before. */
static void serve_on_end(void *arg) {
    pica_remove_signal_handler(SIGTERM);
    pica_remove_signal_handler(SIGINT);
    pica_event_set(arg);
}

static int serve_until_signal(pica_server *server, double grace) {
    int rc = pica_event_wait(&serve_stop);
    atomic_store(&ending, true);
    pica_server_close(server);
    if (rc >= 0 && pica_server_wait_closed_for(server, grace) < 0) {
        pica_server_cancel_clients(server);
        if (pica_server_wait_closed_for(server, 1.0) < 0) {
            pica_server_abort_clients(server);
            (void)pica_server_wait_closed_for(server, 1.0);
        }
    }
    return rc;
}

/* On the listener that whoever started this process has opened for it, as systemd does, or an older server that
 * this one takes over from; else on a port of its own. */
static int serve_start(pica_server **server, const char *host, const char *port, pica_client_connected handler,
                       const struct pica_server_options *options) {
    pica_socket *inherited;
    int rc = pica_listen_fds(&inherited, 1);
    if (rc <= 0) {
        return rc < 0 ? rc : pica_start_server(server, host, (unsigned)strtoul(port, NULL, 10), handler, NULL, options);
    }
    rc = pica_start_server_socket(server, inherited, handler, NULL, options);
    if (rc < 0) {
        pica_socket_close(inherited);
    }
    return rc;
}

/* Serves until a signal comes. Suspends. Task. */
static int serve(const char *host, const char *port, pica_client_connected handler,
                 const struct pica_server_options *options, double grace) {
    pica_server *server = NULL;
    pica_address address;
    int rc = serve_start(&server, host, port, handler, options);
    rc = rc < 0 ? rc : pica_server_address(server, &address);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGTERM, serve_on_end, &serve_stop);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGINT, serve_on_end, &serve_stop);
    if (rc >= 0) {
        printf("listening %u\n", pica_address_port(&address));
        fflush(stdout);
        rc = serve_until_signal(server, grace);
    }
    pica_server_release(server);
    return rc;
}

/* Runs amain with the values that the command line has for the options; names ends with NULL. The
 * result is main's. */
static inline int serve_main(int argc, char **argv, const char *const names[], const char *values[],
                      pica_fn amain) {
    for (int i = 1; i < argc; i += 2) {
        int k = 0;
        while (names[k] != NULL && strcmp(argv[i], names[k]) != 0) {
            k++;
        }
        if (names[k] == NULL || argv[i + 1] == NULL) {
            fprintf(stderr, "usage: %s", argv[0]);
            for (k = 0; names[k] != NULL; k++) {
                fprintf(stderr, " [%s %s]", names[k], values[k]);
            }
            fputs("\n", stderr);
            return 2;
        }
        values[k] = argv[i + 1];
    }
    int rc = pica_run(amain, NULL);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], pica_strerror(rc));
    }
    return rc < 0;
}

#endif
