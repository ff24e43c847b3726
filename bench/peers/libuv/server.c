/* Echo and HTTP servers on libuv, written the plain way: a contestant of the network bench.
 *
 * One loop for each thread. Thread 0 also accepts and deals the connections round robin, as the
 * floors do; a connection then belongs to its thread's loop for good. All connections of a loop read
 * into one buffer, since libuv hands over what it has read before it reads again. Answers go out by
 * uv_try_write, which is one system call and no allocation; what the kernel does not take is copied
 * into a uv_write, and until that is done nothing more is read from the client.
 *
 * The HTTP server parses with llhttp, through its table of callbacks, answers all complete requests
 * of a read with one write, and sends the same bytes as every other contestant. TCP_NODELAY,
 * inherited from the listener, options, signals and counters are those of bench/floor/setup.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <llhttp.h>
#include <uv.h>

#include <stdbool.h>

#include "bench/floor/answer.h"
#include "bench/floor/setup.h"

#define READ_SIZE 16384u
#define OUT_SIZE 16384u

struct worker {
    uv_loop_t loop;
    unsigned index;
    uv_async_t arrival;
    uv_mutex_t lock;       /* of arrived */
    struct conn *arrived;  /* put here by thread 0, taken by the worker's own */
    size_t out_size;       /* answers of the read that is being parsed */
    char out[OUT_SIZE];
    char in[READ_SIZE];
};

struct conn {
    uv_tcp_t tcp; /* first: libuv's callbacks get its address */
    struct worker *worker;
    llhttp_t parser;
    bool last; /* no more requests after those that were answered */
    int fd;    /* until libuv has it */
    struct conn *next;
};

/* What the kernel did not take of an answer. */
struct rest {
    uv_write_t write;
    char bytes[];
};

static struct floor_options options;
static struct worker workers[FLOOR_MAX_THREADS];

static void must(int rc, const char *what) {
    if (rc < 0) {
        floor_die(what, -rc);
    }
}

static void on_closed(uv_handle_t *handle) {
    free(handle); /* the whole connection */
}

static void end(struct conn *c) {
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    }
}

/* --- writing --- */

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);
static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buffer);

static void on_written(uv_write_t *write, int status) {
    struct conn *c = (struct conn *)write->handle;
    free(write); /* the first member of a struct rest */
    if (status < 0) {
        end(c);
    } else if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) == 0) {
        if (c->last) {
            end(c);
        } else {
            (void)uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
        }
    }
}

/* 0, or a negative error: the connection is broken. */
static int send_later(struct conn *c, const char *bytes, size_t size) {
    struct rest *rest = malloc(sizeof *rest + size);
    if (rest == NULL) {
        return UV_ENOMEM;
    }
    memcpy(rest->bytes, bytes, size);
    uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)size);
    int rc = uv_write(&rest->write, (uv_stream_t *)&c->tcp, &buffer, 1, on_written);
    if (rc < 0) {
        free(rest);
        return rc;
    }
    return uv_read_stop((uv_stream_t *)&c->tcp);
}

static int send_now(struct conn *c, char *bytes, size_t size) {
    uv_buf_t buffer = uv_buf_init(bytes, (unsigned)size);
    int sent = uv_try_write((uv_stream_t *)&c->tcp, &buffer, 1);
    if (sent == UV_EAGAIN) { /* also: something waits to be written before */
        sent = 0;
    }
    if (sent < 0 || (size_t)sent == size) {
        return sent < 0 ? sent : 0;
    }
    return send_later(c, bytes + sent, size - (size_t)sent);
}

/* --- HTTP --- */

static int send_out(struct conn *c) {
    size_t size = c->worker->out_size;
    c->worker->out_size = 0;
    return size == 0 ? 0 : send_now(c, c->worker->out, size);
}

static int on_message_complete(llhttp_t *parser) {
    struct conn *c = parser->data;
    struct worker *worker = c->worker;
    if (FLOOR_RESPONSE_SIZE > OUT_SIZE - worker->out_size && send_out(c) < 0) {
        return HPE_USER;
    }
    memcpy(worker->out + worker->out_size, FLOOR_RESPONSE, FLOOR_RESPONSE_SIZE);
    worker->out_size += FLOOR_RESPONSE_SIZE;
    floor_count_add(worker->index, 1);
    c->last = !llhttp_should_keep_alive(parser);
    return 0;
}

static llhttp_settings_t settings; /* complete before the first thread starts */

static int answer_requests(struct conn *c, const char *bytes, size_t size) {
    llhttp_errno_t error = llhttp_execute(&c->parser, bytes, size);
    int rc = send_out(c);
    if (error != HPE_OK && !c->last) {
        return UV_EPROTO;
    }
    if (rc == 0 && c->last) {
        bool waits = uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) > 0;
        rc = waits ? uv_read_stop((uv_stream_t *)&c->tcp) : UV_EOF;
    }
    return rc;
}

/* --- reading --- */

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buffer) {
    struct conn *c = (struct conn *)handle;
    (void)hint;
    *buffer = uv_buf_init(c->worker->in, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    struct conn *c = (struct conn *)stream;
    int rc = size < 0 ? (int)size : 0; /* 0: nothing was there after all */
    if (size > 0 && options.mode == FLOOR_HTTP) {
        rc = answer_requests(c, buffer->base, (size_t)size);
    } else if (size > 0) {
        floor_count_add(c->worker->index, (uint64_t)size);
        rc = send_now(c, buffer->base, (size_t)size);
    }
    if (rc < 0) {
        end(c);
    }
}

/* --- connections --- */

/* On the thread of its worker. */
static void start(struct conn *c) {
    if (uv_tcp_init(&c->worker->loop, &c->tcp) < 0) {
        close(c->fd);
        free(c);
        return;
    }
    int rc = uv_tcp_open(&c->tcp, c->fd);
    if (rc < 0) {
        close(c->fd);
        end(c);
        return;
    }
    llhttp_init(&c->parser, HTTP_REQUEST, &settings);
    c->parser.data = c;
    if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) < 0) {
        end(c);
    }
}

static void on_arrival(uv_async_t *arrival) {
    struct worker *worker = (struct worker *)arrival->data;
    uv_mutex_lock(&worker->lock);
    struct conn *c = worker->arrived;
    worker->arrived = NULL;
    uv_mutex_unlock(&worker->lock);
    while (c != NULL) {
        struct conn *next = c->next;
        start(c);
        c = next;
    }
}

static void deal(int fd) {
    static unsigned next; /* thread 0 only */
    struct worker *worker = &workers[next];
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return;
    }
    c->worker = worker;
    c->fd = fd;
    next = (next + 1) % options.threads;
    if (worker->index == 0) {
        start(c);
        return;
    }
    uv_mutex_lock(&worker->lock);
    c->next = worker->arrived;
    worker->arrived = c;
    uv_mutex_unlock(&worker->lock);
    (void)uv_async_send(&worker->arrival);
}

/* libuv's uv_accept wants a handle of the listener's own loop; a descriptor goes to any. */
static void on_connections(uv_poll_t *poll, int status, int events) {
    uv_os_fd_t listener;
    (void)events;
    if (status < 0 || uv_fileno((uv_handle_t *)poll, &listener) < 0) {
        return;
    }
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            deal(fd);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void run(void *arg) {
    struct worker *worker = arg;
    uv_run(&worker->loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv) {
    static uv_poll_t accepting;
    options = floor_parse(argc, argv);
    int listener = floor_start(&options);
    signal(SIGPIPE, SIG_IGN);
    llhttp_settings_init(&settings);
    settings.on_message_complete = on_message_complete;
    for (unsigned i = 0; i < options.threads; i++) {
        workers[i].index = i;
        workers[i].arrival.data = &workers[i];
        must(uv_loop_init(&workers[i].loop), "uv_loop_init");
        must(uv_mutex_init(&workers[i].lock), "uv_mutex_init");
        must(uv_async_init(&workers[i].loop, &workers[i].arrival, on_arrival), "uv_async_init");
    }
    must(uv_poll_init(&workers[0].loop, &accepting, listener), "uv_poll_init");
    must(uv_poll_start(&accepting, UV_READABLE, on_connections), "uv_poll_start");
    for (unsigned i = 1; i < options.threads; i++) {
        uv_thread_t id;
        must(uv_thread_create(&id, run, &workers[i]), "uv_thread_create");
    }
    floor_ready(listener);
    run(&workers[0]);
    return 0;
}
