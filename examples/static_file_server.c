/* Serves the files below a directory: HTTP/1.1, GET and HEAD.
 *
 *     pica-static-file-server [--host ADDRESS] [--port PORT] [--idle SECONDS] [--grace SECONDS] DIRECTORY
 *
 * Prints "listening PORT"; port 0, the default, lets the kernel choose. What a request names is opened beneath
 * DIRECTORY by the kernel's rules (openat2): no "..", absolute path or link leads out. A file goes from the page
 * cache to the socket without a copy. A client gets --idle seconds for a request, and for each MiB of an
 * answer. SIGTERM or SIGINT: no new connections; after --grace seconds the open ones are cut. */
#include <pica.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_HEAD = 8 << 10, MAX_PATH = 1 << 10, PIECE = 1 << 20 };

static const char *host = "127.0.0.1", *folder_path;
static unsigned port;
static double idle = 30.0, grace = 2.0;
static pica_file *folder;

struct request {
    char path[MAX_PATH];
    bool head, keep;
    int status; /* 0, or why it is refused */
};

static const char *reason(int status) {
    return status == 200 ? "OK" : status == 400 ? "Bad Request" : status == 403 ? "Forbidden"
           : status == 404 ? "Not Found" : status == 405 ? "Method Not Allowed"
           : status == 414 ? "URI Too Long" : status == 431 ? "Request Header Fields Too Large"
           : "Service Unavailable";
}

static int hex(char c) {
    const char *digits = "0123456789abcdefABCDEF", *at = c != 0 ? strchr(digits, c) : NULL;
    return at == NULL ? -1 : at - digits < 16 ? (int)(at - digits) : (int)(at - digits) - 6;
}

/* Takes the escapes out, and what is behind the path; makes it relative. */
static int take_path(struct request *r, const char *from, size_t size) {
    size_t n = 0;
    if (size == 0 || from[0] != '/') {
        return 400;
    }
    for (size_t i = 0; i < size && from[i] != '?' && from[i] != '#'; i++) {
        int c = (unsigned char)from[i];
        if (c == '%') {
            int high = i + 2 < size ? hex(from[i + 1]) : -1, low = i + 2 < size ? hex(from[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                return 400;
            }
            c = high * 16 + low;
            i += 2;
        }
        if (n == MAX_PATH - sizeof("index.html")) {
            return 414;
        }
        if (n > 0 || c != '/') {
            r->path[n++] = (char)c;
        }
    }
    strcpy(r->path + n, n == 0 || r->path[n - 1] == '/' ? "index.html" : "");
    return 0;
}

static bool line_is(const char *line, size_t size, const char *name, const char *value) {
    size_t n = strlen(name);
    if (size < n || strncasecmp(line, name, n) != 0) {
        return false;
    }
    n += strspn(line + n, " \t");
    return strncasecmp(line + n, value, strlen(value)) == 0;
}

/* The head, which ends with an empty line. */
static void parse(struct request *r, const char *head, size_t size) {
    const char *end = head + size, *line_end = memchr(head, '\n', size);
    const char *path = memchr(head, ' ', (size_t)(line_end - head));
    const char *version = path != NULL ? memchr(path + 1, ' ', (size_t)(line_end - path - 1)) : NULL;
    *r = (struct request){.status = 400};
    if (version == NULL || line_end - version < 9 || memcmp(version, " HTTP/1.", 8) != 0) {
        return;
    }
    r->keep = version[8] != '0';
    r->head = path - head == 4 && memcmp(head, "HEAD", 4) == 0;
    r->status = take_path(r, path + 1, (size_t)(version - path - 1));
    if (!r->head && (path - head != 3 || memcmp(head, "GET", 3) != 0)) {
        r->status = 405;
        r->keep = false; /* there may be a body */
    }
    for (const char *line = line_end + 1; line < end; line = line_end + 1) {
        line_end = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)(line_end - line);
        if (line_is(line, n, "connection:", "close") || line_is(line, n, "transfer-encoding:", "") ||
            (line_is(line, n, "content-length:", "") && !line_is(line, n, "content-length:", "0\r"))) {
            r->keep = false;
        }
    }
}

static int write_head(pica_writer *writer, const struct request *r, int status, long long size) {
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\nContent-Length: %lld\r\n%s%s\r\n", status, reason(status), size,
                     status == 405 ? "Allow: GET, HEAD\r\n" : "", r->keep ? "" : "Connection: close\r\n");
    return pica_writer_write(writer, head, (size_t)n);
}

/* The file's bytes, a MiB within each limit. */
static int send_file(pica_writer *writer, pica_file *file, int64_t size) {
    int rc = 0;
    for (int64_t at = 0; rc >= 0 && at < size; at += PIECE) {
        size_t piece = size - at < PIECE ? (size_t)(size - at) : (size_t)PIECE;
        pica_timeout timeout;
        rc = pica_timeout_enter(&timeout, idle);
        if (rc >= 0) {
            rc = pica_timeout_exit(&timeout, (int)pica_writer_sendfile(writer, file, at, piece, NULL));
            rc = rc < 0 ? rc : (size_t)rc < piece ? -EIO : 0; /* it was truncated meanwhile */
        }
    }
    return rc;
}

static int answer(pica_writer *writer, struct request *r) {
    pica_file *file = NULL;
    struct stat st = {.st_size = 0};
    int rc = r->status != 0 ? 0 : pica_file_open_beneath(&file, folder, r->path, O_RDONLY, 0);
    int status = r->status != 0 ? r->status : 200;
    if (rc == PICA_ECANCELED) {
        return rc;
    }
    if (status == 200) {
        rc = rc < 0 ? rc : pica_file_stat(file, &st);
        status = rc == -EACCES || rc == -EXDEV ? 403 : rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM ? 503
                 : rc < 0 || !S_ISREG(st.st_mode) ? 404 : 200;
    }
    rc = write_head(writer, r, status, status == 200 ? (long long)st.st_size : 0);
    if (rc >= 0 && status == 200 && !r->head) {
        rc = send_file(writer, file, st.st_size);
    }
    pica_file_release(file);
    return rc < 0 ? rc : pica_writer_drain(writer);
}

static int handle(pica_reader *reader, pica_writer *writer, void *arg) {
    struct request r = {.keep = true};
    int rc = 0;
    (void)arg;
    while (rc >= 0 && r.keep) {
        const char *head;
        pica_timeout timeout;
        rc = pica_timeout_enter(&timeout, idle);
        ssize_t n = rc < 0 ? rc : pica_reader_readuntil(reader, "\r\n\r\n", 4, &head, NULL);
        rc = rc < 0 ? rc : pica_timeout_exit(&timeout, (int)n);
        if (rc == -EMSGSIZE) {
            r = (struct request){.status = 431};
        } else if (rc < 0) {
            break;
        } else {
            parse(&r, head, (size_t)n);
        }
        rc = answer(writer, &r);
    }
    if (rc < 0 && rc != PICA_EINCOMPLETE) { /* that is the end between two requests */
        pica_writer_abort(writer);
    }
    return rc;
}

static pica_event stop = PICA_EVENT_INIT;

/* The first signal ends it in peace; from now on they do what they did before. */
static void on_end(void *arg) {
    pica_remove_signal_handler(SIGTERM);
    pica_remove_signal_handler(SIGINT);
    pica_event_set(arg);
}

static int serve(pica_server *server) {
    int rc = pica_event_wait(&stop);
    pica_server_close(server);
    if (rc >= 0 && pica_server_wait_closed_for(server, grace) < 0) {
        pica_server_cancel_clients(server);
        rc = pica_server_wait_closed(server);
    }
    return rc;
}

static int amain(void *arg) {
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    pica_server *server = NULL;
    pica_address address;
    options.limit = MAX_HEAD;
    int rc = pica_file_open(&folder, folder_path, O_RDONLY | O_DIRECTORY, 0);
    rc = rc < 0 ? rc : pica_start_server(&server, host, port, handle, arg, &options);
    rc = rc < 0 ? rc : pica_server_address(server, &address);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGTERM, on_end, &stop);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGINT, on_end, &stop);
    if (rc >= 0) {
        printf("listening %u\n", pica_address_port(&address));
        fflush(stdout);
        rc = serve(server);
    }
    pica_server_release(server);
    pica_file_release(folder);
    return rc;
}

int main(int argc, char **argv) {
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        char option = argv[i][2];
        host = option == 'h' ? argv[i + 1] : host;
        port = option == 'p' ? (unsigned)strtoul(argv[i + 1], NULL, 10) : port;
        idle = option == 'i' ? strtod(argv[i + 1], NULL) : idle;
        grace = option == 'g' ? strtod(argv[i + 1], NULL) : grace;
    }
    if (i != argc - 1) {
        fprintf(stderr, "usage: %s [--host A] [--port P] [--idle S] [--grace S] DIRECTORY\n", argv[0]);
        return 2;
    }
    folder_path = argv[i];
    int rc = pica_run(amain, NULL);
    if (rc < 0) {
        fprintf(stderr, "static_file_server: %s\n", pica_strerror(rc));
    }
    return rc < 0;
}
