/* A server's back door: what it is doing, and what would hold up a loop if it were called there. A client sends
 * lines; each is answered by some lines and one that is a dot.
 *
 *     stats        the runtime's numbers, as Prometheus reads them
 *     tasks        each task, and what it waits for
 *     hash TEXT    a long computation, on a pool of two threads of its own
 *     owner PATH   who owns a file: a blocking call of the C library, on the default pool
 *     wait         answered when the file --watch was changed: inotify, a descriptor that the loop watches
 *     next PATH    what comes next from a FIFO: the same for one task
 *
 *     pica-admin-server [--host ADDRESS] [--port PORT] [--watch FILE]
 *
 * Prints "listening PORT". SIGTERM or SIGINT end it. Whoever can connect may ask for any file that it may read: it
 * stays on loopback, or behind something that knows its clients. */
#define _GNU_SOURCE /* memfd_create */
#include <pica.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "examples/support/serve.h"

enum { MAX_LINE = 1024, HASH_ROUNDS = 1 << 22, HASH_THREADS = 2 };

static const char *const names[] = {"--host", "--port", "--watch", NULL};
static const char *values[] = {"127.0.0.1", "0", "", NULL};
static pica_executor *pool;
static pica_event changed = PICA_EVENT_INIT;

static int put(pica_writer *writer, const char *text) {
    return pica_writer_write(writer, text, strlen(text));
}

static int answer_stats(pica_writer *writer, char *argument) {
    (void)argument;
    pica_runtime *rt = pica_current_runtime();
    size_t size = (size_t)pica_runtime_format_stats(rt, NULL, 0) + 256; /* numbers may grow meanwhile */
    char *text = malloc(size);
    if (text == NULL) {
        return -ENOMEM;
    }
    (void)pica_runtime_format_stats(rt, text, size);
    int rc = put(writer, text);
    free(text);
    return rc;
}

/* A dump goes to a descriptor, as a handler of signals has nothing else; memory will do. */
static int answer_tasks(pica_writer *writer, char *argument) {
    char text[4096];
    ssize_t n = 0;
    (void)argument;
    int fd = memfd_create("tasks", MFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = pica_dump(fd);
    rc = rc >= 0 && lseek(fd, 0, SEEK_SET) != 0 ? -errno : rc;
    while (rc >= 0 && (n = read(fd, text, sizeof text)) > 0) {
        rc = pica_writer_write(writer, text, (size_t)n);
    }
    rc = rc >= 0 && n < 0 ? -errno : rc;
    close(fd);
    return rc;
}

/* --- what blocks or computes: plain functions, on threads --- */

struct hash {
    const char *text;
    uint64_t sum;
};

static int hash(void *arg) {
    struct hash *h = arg;
    h->sum = UINT64_C(0xcbf29ce484222325);
    for (int round = 0; round < HASH_ROUNDS; round++) {
        for (const char *c = h->text; *c != 0; c++) {
            h->sum = (h->sum ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
        }
    }
    return 0;
}

static int answer_hash(pica_writer *writer, char *argument) {
    struct hash h = {argument, 0};
    char line[32];
    int rc = pica_run_in_executor(pool, hash, &h); /* nobody else is held up */
    (void)snprintf(line, sizeof line, "%016" PRIx64 "\n", h.sum);
    return rc < 0 ? rc : put(writer, line);
}

struct owner {
    const char *path;
    char name[256];
};

static int owner(void *arg) {
    struct owner *o = arg;
    struct stat st;
    struct passwd entry, *found = NULL;
    char memory[4096];
    if (stat(o->path, &st) != 0) {
        return -errno;
    }
    (void)getpwuid_r(st.st_uid, &entry, memory, sizeof memory, &found);
    (void)snprintf(o->name, sizeof o->name, "%s\n", found != NULL ? found->pw_name : "(none)");
    return 0;
}

static int answer_owner(pica_writer *writer, char *argument) {
    struct owner o = {argument, ""};
    int rc = pica_to_thread(owner, &o);
    return rc < 0 ? rc : put(writer, o.name);
}

/* --- descriptors that others made --- */

/* On the loop, whenever inotify has something: all who wait now are told. */
static void on_change(void *arg) {
    char events[4096];
    while (read(*(int *)arg, events, sizeof events) > 0) {
    }
    pica_event_set(&changed);
    pica_event_clear(&changed);
}

static int answer_wait(pica_writer *writer, char *argument) {
    (void)argument;
    if (*values[2] == 0) {
        return -ENOENT;
    }
    int rc = pica_event_wait(&changed);
    return rc < 0 ? rc : put(writer, "changed\n");
}

static int answer_next(pica_writer *writer, char *argument) {
    char text[MAX_LINE];
    int fd = open(argument, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = pica_poll(fd, POLLIN);
    ssize_t n = rc < 0 ? 0 : read(fd, text, sizeof text);
    rc = n < 0 ? -errno : rc;
    close(fd);
    rc = rc < 0 ? rc : pica_writer_write(writer, text, (size_t)n);
    return rc < 0 || (n > 0 && text[n - 1] == '\n') ? rc : put(writer, "\n");
}

/* --- clients --- */

static const struct {
    const char *name;
    int (*answer)(pica_writer *writer, char *argument);
} commands[] = {{"stats", answer_stats}, {"tasks", answer_tasks}, {"hash", answer_hash},
                {"owner", answer_owner}, {"wait", answer_wait},   {"next", answer_next}};

static int answer(pica_writer *writer, char *line) {
    char *argument = strchr(line, ' ');
    argument = argument != NULL ? argument : line + strlen(line);
    if (*argument != 0) {
        *argument++ = 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(line, commands[i].name) == 0) {
            return commands[i].answer(writer, argument);
        }
    }
    return -EINVAL;
}

static int serve_client(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *data;
    char line[MAX_LINE + 1];
    ssize_t n = 0;
    int rc = 0;
    (void)arg;
    while (rc >= 0 && (n = pica_reader_readline(reader, &data)) > 0) {
        size_t length = (size_t)n;
        memcpy(line, data, length); /* no longer than the server's limit */
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) {
            length--;
        }
        line[length] = 0;
        rc = answer(writer, line);
        if (rc < 0 && rc != PICA_ECANCELED) {
            char text[MAX_LINE];
            (void)snprintf(text, sizeof text, "error: %s\n", pica_strerror(rc));
            rc = put(writer, text);
        }
        rc = rc < 0 ? rc : put(writer, ".\n");
        rc = rc < 0 ? rc : pica_writer_drain(writer);
    }
    return rc < 0 ? rc : (int)n;
}

static int amain(void *arg) {
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.limit = MAX_LINE;
    (void)arg;
    int notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int rc = notify < 0 ? -errno : pica_executor_new(&pool, HASH_THREADS);
    if (rc >= 0 && *values[2] != 0) {
        rc = inotify_add_watch(notify, values[2], IN_CLOSE_WRITE) < 0 ? -errno : 0;
        rc = rc < 0 ? rc : pica_add_reader(notify, on_change, &notify);
    }
    rc = rc < 0 ? rc : serve(values[0], values[1], serve_client, &options, 2.0);
    (void)pica_remove_reader(notify);
    pica_executor_release(pool);
    if (notify >= 0) {
        close(notify);
    }
    return rc;
}

int main(int argc, char **argv) {
    return serve_main(argc, argv, names, values, amain);
}
