/* A chat: what one client writes goes to all others, line by line.
 *
 *     pica-chat-server [--host ADDRESS] [--port PORT] [--clients MAX]
 *     nc 127.0.0.1 PORT                      the first line is the nickname
 *
 * Prints "listening PORT"; port 0, the default, lets the kernel choose. Each client has two tasks: the
 * handler reads its lines and puts each into the queue of every other client, the sender takes them
 * from the client's own queue and writes them. A line is one block, counted by the queues it is in.
 * A client that reads more slowly than the others write loses its connection: once its queue is full
 * and the network takes nothing more, it is cut. So it costs at most QUEUE lines and HIGH bytes, and
 * nobody waits for it. A line above MAX_LINE bytes is thrown away and its writer told. At MAX clients
 * the next ones wait in the kernel's backlog. SIGTERM or SIGINT: the clients get what is queued, for a
 * second at most; the exit code is 0. A second signal kills.
 *
 * The lock guards the list of clients. While it is held, whoever is in the list is alive: a handler
 * takes its client out before it returns. Nothing done under it suspends. */
#include <pica.h>

#include <stdarg.h>

#include "examples/support/serve.h"

enum { MAX_LINE = 1024, MAX_NAME = 20, QUEUE = 64, HIGH = 64 << 10, LOW = 16 << 10 };
static const double name_time = 30.0; /* seconds to say the nickname */
static const char name_bytes[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

struct line {
    atomic_uint refs;
    size_t size;
    char text[];
};

struct client {
    struct client *next; /* under the lock */
    bool cut;            /* under the lock: it was too slow */
    char name[MAX_NAME + 1];
    pica_reader *reader;
    pica_writer *writer; /* only the sender writes */
    pica_queue queue;    /* of lines, each a reference */
};

static pica_lock lock = PICA_LOCK_INIT;
static struct client *clients; /* under the lock */

static void line_unref(void *arg) {
    struct line *line = arg;
    if (line != NULL && atomic_fetch_sub(&line->refs, 1) == 1) {
        free(line);
    }
}

/* A line with one reference, without what could steer a terminal; NULL if there is no memory. */
PICA_PRINTF(1, 2) static struct line *line_new(const char *format, ...) {
    char text[MAX_LINE + MAX_NAME + 64];
    va_list list;
    va_start(list, format);
    size_t size = (size_t)vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    struct line *line = malloc(sizeof(*line) + size + 1);
    if (line != NULL) {
        atomic_init(&line->refs, 1);
        line->size = size + 1;
        for (size_t i = 0; i < size; i++) {
            line->text[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
        }
        line->text[size] = '\n';
    }
    return line;
}

/* True if a queue is full only because its sender had no turn yet: the network waits for us. */
static bool must_wait(const struct client *from) {
    const struct client *c = clients;
    while (c != NULL && (c == from || pica_queue_size(&c->queue) < QUEUE ||
                         pica_writer_pending(c->writer) > LOW)) {
        c = c->next;
    }
    return c != NULL;
}

/* Gives the line, whose reference it takes, to all but from, and cuts who is too slow for it. */
static int say(const struct client *from, struct line *line) {
    int rc = line == NULL ? -ENOMEM : pica_lock_acquire(&lock);
    while (rc >= 0 && must_wait(from)) {
        pica_lock_release(&lock);
        rc = pica_yield();
        rc = rc < 0 ? rc : pica_lock_acquire(&lock);
    }
    for (struct client *c = rc < 0 ? NULL : clients; c != NULL; c = c->next) {
        if (c != from) {
            atomic_fetch_add(&line->refs, 1);
            int put = pica_queue_put_nowait(&c->queue, line);
            if (put < 0) {
                line_unref(line);
            }
            if (put < 0 && put != PICA_ESHUTDOWN) { /* which is of one that ends already */
                c->cut = true;
                pica_writer_abort(c->writer);
            }
        }
    }
    if (rc >= 0) {
        pica_lock_release(&lock);
    }
    line_unref(line);
    return rc;
}

/* Gives a line to this client alone. Called by its own handler, which waits while its queue is full. */
static int tell(struct client *c, const char *text) {
    struct line *line = line_new("* %s", text);
    int rc = line == NULL ? -ENOMEM : pica_queue_put(&c->queue, line);
    if (rc < 0) {
        line_unref(line);
    }
    return rc;
}

/* The task that writes to a client. */
static int send_lines(void *arg) {
    struct client *c = arg;
    void *item;
    int rc = 0;
    while (rc >= 0 && (rc = pica_queue_get(&c->queue, &item)) >= 0) {
        struct line *line = item;
        rc = pica_writer_write(c->writer, line->text, line->size);
        line_unref(line);
        rc = rc < 0 ? rc : pica_writer_drain(c->writer);
    }
    if (rc != PICA_ESHUTDOWN) {
        pica_queue_shutdown(&c->queue, 1, line_unref); /* nobody waits for room in it any more */
        pica_writer_abort(c->writer);                  /* ends the handler's read, too */
    }
    return 0;
}

/* The length of the next line without its end; a last line that has no end does not count. */
static int next_line(struct client *c, const char **line) {
    for (bool skipping = false;; skipping = false) { /* the rest of a line that was too long */
        size_t size;
        ssize_t n;
        while ((n = pica_reader_readuntil(c->reader, "\n", 1, line, &size)) == -EMSGSIZE) {
            pica_reader_consume(c->reader, size);
            int rc = skipping ? 0 : tell(c, "that line was too long");
            if (rc < 0) {
                return rc;
            }
            skipping = true;
        }
        if (n < 0 || !skipping) {
            return (int)(n > 1 && (*line)[n - 2] == '\r' ? n - 2 : n < 0 ? n : n - 1);
        }
    }
}

/* Reads the nickname, and enters the client into the list under it. */
static int enter(struct client *c) {
    const char *line;
    pica_timeout timeout;
    int n = tell(c, "your nickname?");
    n = n < 0 ? n : pica_timeout_enter(&timeout, name_time);
    n = n < 0 ? n : pica_timeout_exit(&timeout, next_line(c, &line));
    bool good = n > 0 && n <= MAX_NAME;
    good = good && strspn(memcpy(c->name, line, (size_t)n), name_bytes) == (size_t)n;
    int rc = n < 0 ? n : pica_lock_acquire(&lock);
    if (rc < 0) {
        return rc;
    }
    for (struct client *other = clients; other != NULL; other = other->next) {
        good = good && strcmp(other->name, c->name) != 0;
    }
    if (good) {
        c->next = clients;
        clients = c;
    }
    pica_lock_release(&lock);
    return good ? 0 : (tell(c, "taken, or not 1 to 20 letters, digits, - and _"), -EINVAL);
}

static void leave(struct client *c) {
    while (pica_lock_acquire(&lock) < 0) {
        /* Cancelled, which is delivered once for each request: leaving cannot be skipped. */
    }
    struct client **link = &clients;
    while (*link != c) {
        link = &(*link)->next;
    }
    *link = c->next;
    pica_lock_release(&lock);
    if (!ending) { /* else nobody needs to hear that all are leaving */
        (void)say(c, line_new("* %s %s", c->name, c->cut ? "was too slow" : "left"));
    }
}

static int handle(pica_reader *reader, pica_writer *writer, void *arg) {
    struct client c = {.reader = reader, .writer = writer};
    pica_task *sender;
    const char *line;
    (void)arg;
    pica_queue_init(&c.queue, QUEUE);
    (void)pica_writer_set_limits(writer, HIGH, LOW);
    int rc = pica_create_task(&sender, send_lines, &c);
    if (rc >= 0) {
        rc = enter(&c);
        if (rc >= 0) {
            rc = tell(&c, "welcome");
            rc = rc < 0 ? rc : say(&c, line_new("* %s joined", c.name));
            while (rc >= 0 && (rc = next_line(&c, &line)) >= 0) {
                rc = rc == 0 ? 0 : say(&c, line_new("%s: %.*s", c.name, rc, line));
            }
            leave(&c);
        }
        pica_queue_shutdown(&c.queue, 0, NULL); /* what is in it is still sent */
        while (pica_join(sender, NULL) == -ENOMEM) {
            (void)pica_yield(); /* it has no stack yet, and needs c */
        }
    }
    pica_queue_destroy(&c.queue, line_unref);
    return rc == PICA_EINCOMPLETE ? 0 : rc;
}

static const char *const names[] = {"--host", "--port", "--clients", NULL};
static const char *values[] = {"127.0.0.1", "0", "1000"};

static int amain(void *arg) {
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    (void)arg;
    options.limit = MAX_LINE;
    options.max_connections = strtoul(values[2], NULL, 10);
    options.keepalive = 60; /* who vanished is noticed, some day */
    return serve(values[0], values[1], handle, &options, 0);
}

int main(int argc, char **argv) {
    return serve_main(argc, argv, names, values, amain);
}
