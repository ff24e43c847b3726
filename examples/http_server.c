/* An HTTP/1.1 server: one task for each connection, the parser is llhttp.
 *
 *     pica-http-server [--host ADDRESS] [--port PORT] [--idle SECONDS] [--grace SECONDS]
 *     curl http://127.0.0.1:PORT/                            Hello, World!
 *     curl --data-binary @FILE http://127.0.0.1:PORT/echo    the body back, up to 1 MiB
 *
 * Prints "listening PORT"; port 0, the default: any. Requests that came in one read are answered with one send, or
 * with one for each 4 KiB of them, after which others get their turn. The parser eats the bytes where the reader has
 * them, so an idle connection holds no buffer, and gets no more at a time than a head may still have. Every wait has
 * a limit: --idle seconds for the next bytes, for a whole head, and for a client that does not read. What a client
 * still sends after it was refused is read slowly, up to 4 MiB, so that it can see why. SIGTERM or SIGINT: no new
 * connections, and every client's task is cancelled, which means "be done soon": requests in flight are answered
 * with Connection: close, idle connections end. After --grace seconds the rest is cancelled for good. The exit code
 * is 0; a second signal kills. SIGUSR1 prints "served A B ...", each worker's steps. */
#include <pica.h>

#include <llhttp.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OUT: the answers to 16 plain requests; with it the task's stack still fits into one page. PIECE: bytes that are parsed
 * before others get their turn. */
enum { MAX_HEAD = 16 << 10, MAX_BODY = 1 << 20, OUT = 1280, PIECE = 4 << 10 };
/* Seconds for the peer to read its last answer, and for a request that crossed our end. */
static const double linger_time = 1.0, last_look = 0.1;
/* Between two reads of what comes behind a refused request: read as it comes, it costs what requests do. */
static const double linger_pause = 0.01;

static const char *host = "127.0.0.1";
static unsigned port;
static double idle = 30.0, grace = 5.0;
static atomic_bool draining; /* written by amain, read by every connection */

struct conn {
    llhttp_t parser; /* first: the callbacks get its address */
    pica_reader *reader;
    pica_writer *writer;
    pica_timeout limit; /* of the present wait */
    enum { BETWEEN, IN_HEAD, IN_BODY } phase;
    const char *mark, *end; /* in the piece being parsed: where the last head begins; the end */
    size_t head;            /* bytes of the head that came in earlier pieces; 0 outside of one */
    char *body;             /* of MAX_BODY bytes while a body for /echo comes in, else NULL */
    size_t body_size;
    double deadline;    /* of a head that came in part; 0: none */
    const char *refuse; /* the status with which the parser was stopped */
    int error;          /* of a write */
    char url[8];        /* its beginning, enough for the paths we know */
    uint8_t url_size, expect; /* expect: how much of "\nexpect:" the head's last bytes are */
    bool closing; /* nothing after the last answer */
    bool told;    /* the first cancel was seen */
    bool corked;  /* the writer keeps answers, which are sent together with those in out */
    size_t out_size;
    char out[OUT];
};

/* The answer that most requests get, in one piece. */
static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                            "Content-Length: 13\r\n\r\nHello, World!";

/* Hands the answers to the writer, and what did not fit behind them; it sends them with those that follow. */
static void put_out(struct conn *c, const char *more, size_t size) {
    struct iovec parts[] = {{c->out, c->out_size}, {(void *)(uintptr_t)more, size}};
    if (!c->corked) {
        pica_writer_cork(c->writer);
        c->corked = true;
    }
    int rc = pica_writer_writelines(c->writer, parts, 2);
    c->error = rc < 0 ? rc : c->error;
    c->out_size = 0;
}

static inline void put(struct conn *c, const char *data, size_t size) {
    if (size > OUT - c->out_size) {
        put_out(c, data, size);
        return;
    }
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

/* status may carry headers behind it. (With snprintf each connection would keep more stack.) */
static void answer(struct conn *c, const char *status, const char *body, size_t size) {
    char digits[24] = "", *number = &digits[sizeof(digits) - 1];
    for (size_t left = size; left > 0 || *number == '\0'; left /= 10) {
        *--number = (char)('0' + left % 10);
    }
    const char *keep = c->parser.http_minor == 0 ? "Connection: keep-alive\r\n" : "";
    const char *parts[] = {"HTTP/1.1 ", status, "\r\nContent-Length: ", number, "\r\n",
                           c->closing ? "Connection: close\r\n" : keep, "\r\n"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        put(c, parts[i], strlen(parts[i]));
    }
    if (size > 0 && c->parser.method != HTTP_HEAD) {
        put(c, body, size);
    }
}

static bool path_is(const struct conn *c, const char *path, size_t size) {
    return c->url_size >= size && memcmp(c->url, path, size) == 0 && (c->url_size == size || c->url[size] == '?');
}

static void route(struct conn *c) {
    bool echo = path_is(c, "/echo", 5);
    if (echo && c->parser.method == HTTP_POST) {
        answer(c, "200 OK\r\nContent-Type: application/octet-stream", c->body, c->body_size);
        free(c->body);
        c->body = NULL;
    } else if (echo) {
        answer(c, "405 Method Not Allowed\r\nAllow: POST", "", 0);
    } else if (!path_is(c, "/", 1)) {
        answer(c, "404 Not Found\r\nContent-Type: text/plain", "Not Found\n", 10);
    } else if (c->parser.method != HTTP_GET && c->parser.method != HTTP_HEAD) {
        answer(c, "405 Method Not Allowed\r\nAllow: GET, HEAD", "", 0);
    } else {
        answer(c, "200 OK\r\nContent-Type: text/plain", "Hello, World!", 13);
    }
}

/* Stops the parser, which returns what this returns; the answer follows then. */
static int refuse(struct conn *c, const char *status) {
    c->refuse = status;
    return HPE_USER;
}

/* Whether the head has a line "Expect:", as far as it came. Only heads that came in pieces or that
 * announce a body are looked at for this; the others need no callback for each header. */
static bool expects(struct conn *c) {
    static const char line[] = "\nexpect:";
    for (const char *at = c->mark; at < c->end && line[c->expect] != 0; at++) {
        if (c->expect == 1 && (*at == '\r' || *at == '\n')) {
            break; /* the empty line: what follows is the body */
        }
        c->expect = *at == '\n' ? 1 : (*at | 0x20) == line[c->expect] ? c->expect + 1 : 0;
    }
    return line[c->expect] == 0;
}

/* The parser's callbacks, inside llhttp_execute. A URL may come in pieces; heads count from it. */
static int on_url(llhttp_t *parser, const char *at, size_t size) {
    struct conn *c = (struct conn *)parser;
    if (c->url_size == 0) {
        c->mark = at;
        c->head = 0;
    }
    for (size_t i = 0; i < size && c->url_size < sizeof(c->url); i++) {
        c->url[c->url_size++] = at[i];
    }
    return 0;
}

static int on_headers_complete(llhttp_t *parser) {
    struct conn *c = (struct conn *)parser;
    c->phase = IN_BODY;
    c->head = 0;
    c->deadline = 0;
    c->body_size = 0;
    parser->upgrade = 0; /* no other protocol is spoken here: an answer in HTTP/1.1 declines */
    if (parser->content_length > MAX_BODY) {
        return refuse(c, "413 Content Too Large");
    }
    bool body = (parser->flags & F_CHUNKED) != 0 || parser->content_length > 0;
    if (body && parser->http_minor > 0 && expects(c)) {
        put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t size) {
    struct conn *c = (struct conn *)parser;
    if (size > MAX_BODY - c->body_size) {
        return refuse(c, "413 Content Too Large");
    }
    if (parser->method == HTTP_POST && path_is(c, "/echo", 5)) {
        if (c->body == NULL && (c->body = malloc(MAX_BODY)) == NULL) {
            return refuse(c, "503 Service Unavailable");
        }
        memcpy(c->body + c->body_size, at, size);
    }
    c->body_size += size;
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    struct conn *c = (struct conn *)parser;
    if (parser->method == HTTP_GET && c->url_size == 1 && c->url[0] == '/' && !draining &&
        parser->http_minor == 1 && (parser->flags & F_CONNECTION_CLOSE) == 0) {
        put(c, hello, sizeof(hello) - 1);
    } else {
        c->closing = draining || !llhttp_should_keep_alive(parser);
        route(c);
    }
    c->phase = BETWEEN;
    c->mark = c->end;
    c->url_size = 0;
    c->expect = 0;
    return c->closing ? HPE_PAUSED : 0;
}

static const llhttp_settings_t settings = {.on_url = on_url, .on_headers_complete = on_headers_complete,
                                           .on_body = on_body, .on_message_complete = on_message_complete};
#include "examples/llhttp/bind.h" /* the parser works without it, too, but looks into settings */

/* Whether a call that was cancelled is to go on: the first cancel only says "be done soon". */
static bool first_cancel(struct conn *c, ssize_t rc) {
    if (rc != PICA_ECANCELED || !draining || c->told) {
        return false;
    }
    c->told = true;
    pica_task_uncancel(pica_current_task());
    return true;
}

/* Lets others have their turn: 0, or negative. */
static ssize_t rest(struct conn *c, double seconds) {
    (void)pica_timeout_reschedule(&c->limit, PICA_FOREVER);
    int rc = pica_sleep(seconds);
    return first_cancel(c, rc) ? 0 : rc;
}

/* Waits for bytes (how many there are; 0: the end), or for room if data is NULL. */
static ssize_t wait_for(struct conn *c, const char **data, double limit) {
    limit = data != NULL && c->phase == BETWEEN && draining ? last_look : limit;
    ssize_t rc = pica_timeout_reschedule(&c->limit, limit);
    if (rc != -ENOMEM) { /* else the last limit may be over just now, which ends this wait */
        rc = data != NULL ? pica_reader_peek(c->reader, data) : pica_writer_drain(c->writer);
    }
    if (rc == PICA_ECANCELED) {
        rc = pica_timeout_exit(&c->limit, (int)rc);
        (void)pica_timeout_enter(&c->limit, PICA_FOREVER);
    }
    return first_cancel(c, rc) ? wait_for(c, data, limit) : rc;
}

/* Parses in pieces, none larger than what a head may still have. */
static int parse(struct conn *c, const char *data, size_t size) {
    int err = HPE_OK;
    for (const char *end = data + size; data < end && err == HPE_OK; data = c->end) {
        size_t room = MAX_HEAD - c->head;
        c->mark = data;
        c->end = (size_t)(end - data) < room ? end : data + room;
        err = (int)llhttp_execute(&c->parser, data, (size_t)(c->end - data));
        if (err == HPE_OK && c->phase != IN_BODY && llhttp_finish(&c->parser) != HPE_OK) {
            c->phase = IN_HEAD;
            (void)expects(c);
            c->head += (size_t)(c->end - c->mark);
            c->deadline = c->deadline > 0 ? c->deadline : pica_time() + idle;
            err = c->head < MAX_HEAD ? HPE_OK : refuse(c, "431 Request Header Fields Too Large");
        }
    }
    return err;
}

/* Takes a piece of data, and answers the requests that it completes. */
static int answer_piece(struct conn *c, const char *data, size_t size) {
    int err = parse(c, data, size);
    if (err != HPE_OK && err != HPE_PAUSED) {
        c->closing = true;
        answer(c, c->refuse != NULL ? c->refuse : "400 Bad Request", "", 0);
    }
    pica_reader_consume(c->reader, size);
    int rc = pica_writer_write(c->writer, c->out, c->out_size);
    c->out_size = 0;
    rc = c->corked && rc == 0 ? pica_writer_uncork(c->writer) : rc;
    c->corked = false;
    return c->error < 0 ? c->error : rc;
}

/* Lets the peer read its last answer: closing while it still sends would reset the connection. */
static ssize_t linger(struct conn *c) {
    const char *data;
    ssize_t taken = 0, n = 0;
    double end = pica_time() + idle;
    (void)pica_writer_write_eof(c->writer);
    while (n >= 0 && taken < 4 * MAX_BODY && pica_time() < end && (n = wait_for(c, &data, linger_time)) > 0) {
        pica_reader_consume(c->reader, (size_t)n);
        taken += n;
        n = rest(c, linger_pause);
    }
    return n == PICA_ETIMEDOUT ? 0 : n;
}

static ssize_t serve_requests(struct conn *c) {
    const char *data;
    ssize_t rc = 0;
    while (rc >= 0 && !c->closing) {
        rc = wait_for(c, &data, c->deadline > 0 ? c->deadline - pica_time() : idle);
        if (rc <= 0) {
            rc = rc == PICA_ETIMEDOUT ? 0 : rc;
            break;
        }
        size_t size = (size_t)rc;
        rc = answer_piece(c, data, size < PIECE ? size : PIECE);
        rc = rc == 0 && pica_writer_pending(c->writer) > 0 ? wait_for(c, NULL, idle) : rc;
        if (rc >= 0 && size > PIECE && c->phase != IN_BODY) { /* a body is only copied */
            rc = rest(c, 0);
        }
    }
    if (rc >= 0 && c->closing) {
        rc = linger(c);
    }
    if (rc >= 0) {
        /* All of it, within the limit: the server itself would wait without one. */
        (void)pica_writer_set_limits(c->writer, 0, 0);
        rc = pica_writer_pending(c->writer) > 0 ? wait_for(c, NULL, idle) : 0;
    }
    return rc;
}

static int handle(pica_reader *reader, pica_writer *writer, void *arg) {
    struct conn c = {.reader = reader, .writer = writer};
    (void)arg;
    llhttp_init(&c.parser, HTTP_REQUEST, &settings);
    (void)pica_timeout_enter(&c.limit, PICA_FOREVER); /* the waits set it */
    ssize_t rc = pica_timeout_exit(&c.limit, (int)serve_requests(&c));
    free(c.body);
    if (rc < 0) {
        pica_writer_abort(writer);
    }
    return (int)rc;
}

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

/* Serves until a signal comes, and then lets the connections end. */
static int serve(pica_server *server) {
    int rc = pica_event_wait(&stop);
    atomic_store(&draining, true);
    pica_server_close(server);
    /* Before the first cancel, what was accepted last starts: else its task would never run. */
    double limits[] = {last_look, grace, linger_time};
    for (int i = 0; rc >= 0 && i < 3 && pica_server_wait_closed_for(server, limits[i]) < 0; i++) {
        pica_server_cancel_clients(server);
    }
    return rc;
}

static int amain(void *arg) {
    pica_server *server = NULL;
    pica_address address;
    int rc = pica_start_server(&server, host, port, handle, arg, NULL);
    rc = rc < 0 ? rc : pica_server_address(server, &address);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGTERM, on_end, NULL);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGINT, on_end, NULL);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGUSR1, on_ask, pica_current_runtime());
    if (rc >= 0) {
        printf("listening %u\n", pica_address_port(&address));
        fflush(stdout);
        rc = serve(server);
    }
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
        } else if (value != NULL && strcmp(argv[i], "--idle") == 0) {
            idle = strtod(value, NULL);
        } else if (value != NULL && strcmp(argv[i], "--grace") == 0) {
            grace = strtod(value, NULL);
        } else {
            fprintf(stderr, "usage: %s [--host A] [--port P] [--idle S] [--grace S]\n", argv[0]);
            return 2;
        }
    }
    int rc = pica_run(amain, NULL);
    if (rc < 0) {
        fprintf(stderr, "http_server: %s\n", pica_strerror(rc));
    }
    return rc < 0;
}
