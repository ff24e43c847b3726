/* Serves the files below a directory: HTTP/1.1, GET and HEAD, parts of files, and only if they have changed.
 *
 *     pica-static-file-server [--host ADDRESS] [--port PORT] [--idle SECONDS] [--grace SECONDS] DIRECTORY
 *
 * Prints "listening PORT"; port 0, the default, lets the kernel choose. A listener that was inherited (LISTEN_FDS) is
 * taken instead, so that one server can take over from another. What a request names is opened beneath
 * DIRECTORY by the kernel's rules (openat2): no "..", absolute path or link leads out. A file goes from the page
 * cache to the socket without a copy. A client gets --idle seconds for a request, and for each MiB of an
 * answer. SIGTERM or SIGINT: no new connections; after --grace seconds the open ones are cut. */
#define _GNU_SOURCE /* strptime */
#include <pica.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/files/request.h"
#include "examples/support/serve.h"

enum { MAX_HEAD = 8 << 10, PIECE = 1 << 20 };

static const char *host = "127.0.0.1", *folder_path;
static const char *port = "0";
static double idle = 30.0, grace = 2.0;
static pica_file *folder;

static const char *reason(int status) {
    return status == 200 ? "OK" : status == 206 ? "Partial Content" : status == 304 ? "Not Modified"
           : status == 400 ? "Bad Request" : status == 403 ? "Forbidden" : status == 404 ? "Not Found"
           : status == 405 ? "Method Not Allowed" : status == 414 ? "URI Too Long"
           : status == 416 ? "Range Not Satisfiable" : status == 431 ? "Request Header Fields Too Large"
           : "Service Unavailable";
}

/* What is sent of a file. */
struct part {
    int status;
    int64_t first, size, whole;
    time_t changed;
};

static int write_head(pica_writer *writer, const struct request *r, const struct part *part) {
    char head[384], date[DATE_SIZE], range[80] = "", length[48] = "";
    int status = part->status;
    put_date(date, part->changed);
    if (status == 206) {
        snprintf(range, sizeof range, "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)part->first,
                 (long long)(part->first + part->size - 1), (long long)part->whole);
    } else if (status == 416) {
        snprintf(range, sizeof range, "Content-Range: bytes */%lld\r\n", (long long)part->whole);
    }
    if (status != 304) {
        snprintf(length, sizeof length, "Content-Length: %lld\r\n", (long long)part->size);
    }
    bool file = status < 400 || status == 416;
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\n%s%s%s%s%s%s%s%s\r\n", status, reason(status), length,
                     file ? "Last-Modified: " : "", file ? date : "", file ? "\r\n" : "", range,
                     status == 200 ? "Accept-Ranges: bytes\r\n" : "",
                     status == 405 ? "Allow: GET, HEAD\r\n" : "", r->keep ? "" : "Connection: close\r\n");
    return pica_writer_write(writer, head, (size_t)n);
}

/* The file's bytes, a MiB within each limit. */
static int send_file(pica_writer *writer, pica_file *file, const struct part *part) {
    int rc = 0;
    int64_t end = part->first + part->size;
    for (int64_t at = part->first; rc >= 0 && at < end; at += PIECE) {
        size_t piece = end - at < PIECE ? (size_t)(end - at) : (size_t)PIECE;
        pica_timeout timeout;
        rc = pica_timeout_enter(&timeout, idle);
        if (rc >= 0) {
            rc = pica_timeout_exit(&timeout, (int)pica_writer_sendfile(writer, file, at, piece, NULL));
            rc = rc < 0 ? rc : (size_t)rc < piece ? -EIO : 0; /* it was truncated meanwhile */
        }
    }
    return rc;
}

/* Chooses what to send of the file; rc: how opening it went. */
static struct part choose_part(const struct request *r, pica_file *file, int rc) {
    struct stat st = {.st_size = 0};
    struct part part = {.status = 200};
    rc = rc < 0 ? rc : pica_file_stat(file, &st);
    if (rc < 0 || !S_ISREG(st.st_mode)) {
        part.status = rc == -EACCES || rc == -EXDEV ? 403
                      : rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM ? 503 : 404;
        return part;
    }
    time_t now = time(NULL);
    part.changed = st.st_mtime < now ? st.st_mtime : now; /* no later than this very answer */
    part.size = part.whole = st.st_size;
    part.status = choose(r, &part.first, &part.size, part.changed);
    part.size = part.status == 200 || part.status == 206 ? part.size : 0;
    return part;
}

static int answer(pica_writer *writer, struct request *r) {
    pica_file *file = NULL;
    struct part part = {.status = r->status};
    int rc = r->status != 0 ? 0 : pica_file_open_beneath(&file, folder, r->path, O_RDONLY, 0);
    if (rc == PICA_ECANCELED) {
        return rc;
    }
    if (r->status == 0) {
        part = choose_part(r, file, rc);
    }
    rc = write_head(writer, r, &part);
    if (rc >= 0 && !r->head) {
        rc = send_file(writer, file, &part);
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

static int amain(void *arg) {
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    (void)arg;
    options.limit = MAX_HEAD;
    int rc = pica_file_open(&folder, folder_path, O_RDONLY | O_DIRECTORY, 0);
    rc = rc < 0 ? rc : serve(host, port, handle, &options, grace);
    pica_file_release(folder);
    return rc;
}

int main(int argc, char **argv) {
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        char option = argv[i][2];
        host = option == 'h' ? argv[i + 1] : host;
        port = option == 'p' ? argv[i + 1] : port;
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
