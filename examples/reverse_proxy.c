/* An HTTP/1.1 reverse proxy.
 *
 *     pica-reverse-proxy --backend ADDRESS:PORT [--listen PORT] [--host ADDRESS] [--timeout SECONDS]
 *                        [--keep SECONDS, for which idle connections to the backend stay]
 * Prints "listening PORT". A connection's task reads a request's head, takes a connection to the
 * backend from the pool or makes one, and passes the answer on. Meanwhile a second task, feed, passes
 * the request's body on, and then watches the client: one that goes away, or only ends its side, ends
 * its request at the backend. Bodies, by length or chunked, flow piece by piece and no faster than
 * they are taken, so memory is bounded. Every wait has the time-out: the client's ends with 408, the
 * backend's with 504; 502 if it is not there or answers badly. A kept connection may have been closed
 * by the backend: that is looked at when it is taken, and if the end crosses the request, that is
 * repeated on a new one, provided that it has no body and does no harm twice.
 * SIGTERM or SIGINT: what is under way has two seconds; the exit code is 0. */
#include <limits.h>

#include "examples/proxy/body.h"
#include "examples/proxy/head.h"
#include "examples/proxy/pool.h"
#include "examples/support/serve.h"

enum { MAX_CLIENTS = 1000 };
#define VIA "Via: 1.1 pica\r\n"
#define CLOSE "Connection: close\r\n\r\n"
static double limit; /* --timeout, in seconds */
static char backend_host[64];
static unsigned backend_port;

struct exchange {
    struct head request, answer;
    struct backend backend;
    struct way up, down;
    int fault;  /* of the client; written by feed, read when that has ended, as the next */
    bool late;  /* the backend did not take the body in time */
    atomic_bool feeding; /* feed has begun, and measures the client's time */
    atomic_bool fed;     /* the body has gone up, or does not go on */
    bool begun; /* something of an answer came */
    bool told;  /* the client got something of it */
    bool last;  /* the client's connection ends with it */
};

static int refuse(pica_writer *writer, const char *status) {
    char text[128];
    int n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: 0\r\n" CLOSE, status);
    return pica_writer_write(writer, text, (size_t)n);
}

/* The task that passes the request's body on, and then waits for the client to go away. */
static int feed(void *arg) {
    struct exchange *x = arg;
    const char *data;
    ssize_t had, n = 0;
    x->feeding = true;
    int rc = pica_timeout_enter(&x->up.timer, limit);
    if (rc >= 0) {
        rc = x->request.chunked ? body_copy_chunked(&x->up)
                                : body_copy(&x->up, head_length(&x->request), true);
        rc = pica_timeout_exit(&x->up.timer, rc);
        rc = rc == -EMSGSIZE ? -EPROTO : rc; /* the line of a chunk */
    }
    bool late = rc == PICA_ETIMEDOUT && x->up.failed;
    x->fed = true;
    while (rc >= 0) {
        had = (ssize_t)pica_reader_buffered(x->up.from); /* requests sent ahead may wait there */
        n = pica_reader_more(x->up.from, &data);
        rc = n == had ? PICA_EINCOMPLETE : n < 0 ? (int)n : 0;
    }
    if (late || (rc != PICA_ECANCELED && rc != -EMSGSIZE && !x->up.failed)) {
        x->fault = late ? 0 : rc;
        x->late = late;
        pica_writer_abort(x->backend.writer); /* ends the other task's wait for an answer */
    }
    return 0;
}

/* Passes one answer on. */
static int respond(struct exchange *x) {
    struct head *a = &x->answer;
    const char *data;
    size_t size = 0;
    ssize_t n = 0;
    do {
        bool fed;
        do { /* the backend's time begins when it has the body; until then it is the client's, which feed
              * measures, or feed has found no stack */
            fed = x->fed;
            n = pica_timeout_enter(&x->down.timer, limit);
            if (n >= 0) {
                n = pica_reader_readuntil(x->down.from, "\r\n\r\n", 4, &data, &size);
                n = pica_timeout_exit(&x->down.timer, (int)n);
            }
        } while (n == PICA_ETIMEDOUT && !fed && x->feeding);
        x->begun = x->begun || n > 0 || size > 0 || pica_reader_buffered(x->down.from) > 0;
        if (n < 0 || !head_parse(a, data, (size_t)n, false) || a->status == 101 ||
            (a->chunked && x->request.old)) {
            return n < 0 ? (int)n : -EPROTO;
        }
        if (a->status < 200 && !x->request.old) { /* 100 Continue, and others like it */
            x->told = true;
            head_add(a, "\r\n", 2);
            body_put(&x->down, a->text, a->size);
            n = pica_timeout_enter(&x->down.timer, limit);
            n = n < 0 ? n : pica_timeout_exit(&x->down.timer, body_flush(&x->down));
        }
    } while (n >= 0 && a->status < 200);

    bool none = x->request.is_head || a->status == 204 || a->status == 304;
    bool to_end = !none && !a->chunked && a->length < 0;
    a->close = a->close || to_end;
    x->last = x->request.close || to_end || ending || !x->up.sent;
    const char *end = x->last ? VIA CLOSE : VIA "\r\n";
    head_add(a, end, strlen(end));
    x->told = true;
    n = n < 0 ? n : pica_timeout_enter(&x->down.timer, limit);
    if (n < 0) {
        return (int)n;
    }
    body_put(&x->down, a->text, a->size);
    int rc = none || a->length == 0 ? body_flush(&x->down)
             : a->chunked ? body_copy_chunked(&x->down)
                          : body_copy(&x->down, to_end ? ULLONG_MAX : head_length(a), true);
    rc = pica_timeout_exit(&x->down.timer, rc);
    return rc == PICA_EINCOMPLETE && to_end ? 0 : rc;
}

/* Sends the request to one connection of the backend, and the answer to the client. */
static int attempt(struct exchange *x, bool fresh) {
    pica_task *feeder;
    struct head *r = &x->request;
    int rc = pool_take(&x->backend, backend_host, backend_port, HEAD_MAX, limit, fresh);
    if (rc < 0) {
        return rc;
    }
    x->up.to = x->backend.writer;
    x->down.from = x->backend.reader;
    x->up.failed = false;
    x->up.sent = !r->chunked && r->length <= 0;
    x->feeding = false;
    x->fed = x->up.sent;
    rc = pica_writer_write(x->up.to, r->text, r->size);
    rc = rc < 0 ? rc : pica_create_task(&feeder, feed, x);
    if (rc >= 0) {
        rc = respond(x);
        pica_task_cancel(feeder);
        while (pica_join(feeder, NULL) == -ENOMEM) {
            (void)pica_yield(); /* it has no stack yet, and needs x */
        }
    }
    bool done = rc >= 0 && x->up.sent && !x->up.failed && x->fault == 0;
    pool_give(&x->backend, done && !x->answer.close && pica_reader_buffered(x->down.from) == 0);
    return rc;
}

/* One request and its answer. 1: the connection goes on; 0: it ends; negative: it is cut. */
static int exchange(struct exchange *x, const char *data, size_t size) {
    struct head *r = &x->request;
    if (!head_parse(r, data, size, true)) {
        return refuse(x->down.to, "400 Bad Request");
    }
    head_add(r, VIA "\r\n", sizeof(VIA "\r\n") - 1);
    int rc = attempt(x, false);
    if (rc < 0 && rc != PICA_ETIMEDOUT && rc != PICA_ECANCELED && x->backend.since > 0 && !x->begun &&
        x->fault == 0 && r->repeatable && !r->chunked && r->length <= 0) {
        rc = attempt(x, true);
    }
    if (rc >= 0) {
        return x->last ? 0 : 1;
    }
    bool gone = x->fault < 0 && x->fault != -EPROTO && x->fault != PICA_ETIMEDOUT;
    if (gone || x->told || rc == PICA_ECANCELED) {
        return rc;
    }
    return refuse(x->down.to, x->fault == -EPROTO           ? "400 Bad Request"
                              : x->fault == PICA_ETIMEDOUT ? "408 Request Timeout"
                              : rc == PICA_ETIMEDOUT || x->late ? "504 Gateway Timeout"
                                                           : "502 Bad Gateway");
}

/* Waits for a request and serves it; results as of exchange. */
static int next(pica_reader *reader, pica_writer *writer) {
    const char *data;
    pica_timeout timer;
    int n = pica_timeout_enter(&timer, limit);
    n = n < 0 ? n : pica_timeout_exit(&timer, (int)pica_reader_peek(reader, &data));
    if (n <= 0) {
        return n == PICA_ETIMEDOUT ? 0 : n;
    }
    n = pica_timeout_enter(&timer, limit);
    if (n >= 0) {
        n = (int)pica_reader_readuntil(reader, "\r\n\r\n", 4, &data, NULL);
        n = pica_timeout_exit(&timer, n);
    }
    if (n == -EMSGSIZE || n == PICA_ETIMEDOUT) {
        return refuse(writer, n == -EMSGSIZE ? "431 Request Header Fields Too Large"
                                             : "408 Request Timeout");
    }
    struct exchange *x = n < 0 ? NULL : calloc(1, sizeof(*x)); /* so that idle connections are small */
    if (x == NULL) {
        return n < 0 ? n : refuse(writer, "503 Service Unavailable");
    }
    x->up.from = reader;
    x->down.to = writer;
    x->up.limit = x->down.limit = limit;
    n = exchange(x, data, (size_t)n);
    free(x);
    return n;
}

static int handle(pica_reader *reader, pica_writer *writer, void *arg) {
    int rc = 1;
    (void)arg;
    while (rc > 0 && !ending) {
        rc = next(reader, writer);
    }
    if (rc >= 0) {
        body_linger(reader, writer, limit);
    }
    pica_writer_abort(writer); /* nothing is left, or nobody to take it */
    return rc;
}

static const char *const names[] = {"--host", "--listen", "--backend", "--timeout", "--keep", NULL};
static const char *values[] = {"127.0.0.1", "0", "", "30", "10"};

static int amain(void *arg) {
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    char *colon = strrchr(values[2], ':');
    size_t size = colon != NULL ? (size_t)(colon - values[2]) : 0;
    (void)arg;
    options.limit = HEAD_MAX;
    options.max_connections = MAX_CLIENTS;
    limit = strtod(values[3], NULL);
    pool_time = strtod(values[4], NULL);
    if (size == 0 || size >= sizeof(backend_host) || !(limit > 0) || !(pool_time > 0)) {
        return -EINVAL;
    }
    memcpy(backend_host, values[2], size);
    backend_port = (unsigned)strtoul(colon + 1, NULL, 10);
    int rc = pica_create_task(NULL, pool_reap, NULL);
    return rc < 0 ? rc : serve(values[0], values[1], handle, &options, 2.0);
}

int main(int argc, char **argv) {
    return serve_main(argc, argv, names, values, amain);
}
