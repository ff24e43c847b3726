/* Clients for the example HTTP server, which knows nothing of them:
 *
 *     PICA_ENGINE=sim PICA_SIM_SEED=7 PICA_SIM_SCENARIO=.../http.so pica-http-server --port 8080
 *
 * Each client asks a few times, in pieces of random size, some without waiting for answers, some leaving early; what
 * comes back must be, byte for byte, the beginning of the right answers, and all of them if nothing broke the
 * connection. When the clients are done the server gets a SIGTERM. */
#include <pica/testing.h>

#include <pica/net.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 6, REQUESTS = 4, BODY = 300, PORT = 8080, TRIES = 30 };

int pica_sim_scenario(void);

static pica_address address;
static int left; /* clients that are not done */

struct text {
    size_t size;
    char bytes[8192];
};

static void add(struct text *text, const char *bytes, size_t size) {
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

/* Requests, and what a good server answers. */
static void make(struct text *requests, struct text *answers, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        char line[200];
        char body[BODY];
        if (pica_sim_choose(3) != 0) {
            static const char get[] = "GET / HTTP/1.1\r\nHost: sim\r\n\r\n";
            static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                        "Content-Length: 13\r\n\r\nHello, World!";
            add(requests, get, sizeof get - 1);
            add(answers, hello, sizeof hello - 1);
            continue;
        }
        size_t size = 1 + pica_sim_choose(BODY);
        for (size_t k = 0; k < size; k++) {
            body[k] = (char)('a' + (k * 7 + i) % 26);
        }
        int length = snprintf(line, sizeof line,
                              "POST /echo HTTP/1.1\r\nHost: sim\r\nContent-Length: %zu\r\n\r\n", size);
        add(requests, line, (size_t)length);
        add(requests, body, size);
        length = snprintf(line, sizeof line,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                          "Content-Length: %zu\r\n\r\n",
                          size);
        add(answers, line, (size_t)length);
        add(answers, body, size);
    }
}

static int reach(void) {
    for (int i = 0; i < TRIES; i++) {
        int fd = pica_sim_connect(&address);
        if (fd >= 0 || fd == -ESHUTDOWN) {
            return fd;
        }
        (void)pica_sim_sleep(0.01 * (1 + pica_sim_choose(10)));
    }
    return -ECONNREFUSED;
}

static int send_pieces(int fd, const struct text *text) {
    for (size_t at = 0; at < text->size;) {
        size_t n = 1 + pica_sim_choose(200);
        n = n < text->size - at ? n : text->size - at;
        int rc = pica_sim_write(fd, text->bytes + at, n);
        if (rc < 0) {
            return rc;
        }
        if (pica_sim_choose(8) == 0) {
            (void)pica_sim_sleep(0.001 * pica_sim_choose(20));
        }
        at += n;
    }
    return 0;
}

static void talk(int fd) {
    struct text requests = {0, {0}};
    struct text answers = {0, {0}};
    make(&requests, &answers, 1 + pica_sim_choose(REQUESTS));
    bool sent = send_pieces(fd, &requests) == 0;
    if (pica_sim_choose(8) == 0) {
        pica_sim_reset(fd);
        return;
    }
    size_t got = 0;
    ssize_t n = 1;
    while (got < answers.size) {
        char buffer[300];
        n = pica_sim_read(fd, buffer, 1 + pica_sim_choose(sizeof buffer - 1), 120.0);
        if (n <= 0) {
            break;
        }
        if ((size_t)n > answers.size - got || memcmp(buffer, answers.bytes + got, (size_t)n) != 0) {
            pica_sim_fail("a client got a wrong answer: %.*s", (int)n, buffer);
            return;
        }
        got += (size_t)n;
    }
    if (n == -ETIMEDOUT && sent) {
        pica_sim_fail("a client waits for an answer that does not come");
    }
    if (n != -ESHUTDOWN) {
        pica_sim_close(fd);
    }
}

static void client(void *arg) {
    (void)arg;
    if (pica_sim_keep()) {
        (void)pica_sim_sleep(0.001 * pica_sim_choose(100));
        int fd = reach();
        if (fd >= 0) {
            talk(fd);
        }
    }
    if (--left == 0) {
        (void)pica_sim_sleep(0.1 * pica_sim_choose(3));
        pica_sim_signal(SIGTERM);
    }
}

int pica_sim_scenario(void) {
    int rc = pica_address_ip(&address, "127.0.0.1", PORT);
    left = CLIENTS;
    for (int i = 0; i < CLIENTS && rc == 0; i++) {
        rc = pica_sim_actor(client, NULL, "client");
    }
    return rc;
}
