/* The HTTP example's server in the simulator, with one client that sends what the script says, in the pieces that it
 * says, and then closes, half-closes or just waits.
 *
 * A parser that is written here knows the beginning of what was sent as far as it is without doubt: plain requests,
 * whose answers it knows byte for byte, and then perhaps something that no request begins with. The server must answer
 * exactly that, in that order; behind it, whatever it sends must be whole responses. It must end the connection by
 * itself when what came is garbage or a request was the last one, at the latest when its --idle time is over, and
 * hold no more memory than its limits say; virtual time makes a hang a deadlock or a time-out of the client. */
int http_server_main(int argc, char **argv);
#define main http_server_main
#include "examples/http_server.c"
#undef main

#include <pica/testing.h>

#include "tests/fuzz/fuzz.h"

enum { PORT = 8080, SENT_MAX = 8 << 10, GOT_MAX = 256 << 10, PIECES_MAX = 64 };

static struct {
    char sent[SENT_MAX + 1];
    size_t size;
    size_t piece[PIECES_MAX]; /* sizes of all but the last */
    unsigned pieces;
    unsigned pause; /* in front of which piece the client rests */
    enum { WAITS, FINISHES, LEAVES, SIGNALS } end;
    char want[GOT_MAX]; /* the answers to what is known */
    size_t want_size;
    enum {
        UNKNOWN,
        PARTIAL,
        GARBAGE,
        LAST
    } then; /* what comes behind that: LAST: nothing more is answered */
    char got[GOT_MAX];
    size_t got_size;
    bool done;
} world;

/* --- the second parser --- */

struct request {
    char method[8];
    char path[64];
    size_t body_at, body_size;
    bool last;
};

static bool is_token(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

/* A line without its CRLF: its length, or -1 if it is not whole, or -2 if it has a doubtful character. */
static int line_at(size_t at) {
    size_t end = at;
    while (end < world.size && world.sent[end] >= ' ' && world.sent[end] < 0x7f) {
        end++;
    }
    if (end + 1 >= world.size && (end == world.size || world.sent[end] == '\r')) {
        return -1;
    }
    return world.sent[end] == '\r' && world.sent[end + 1] == '\n' ? (int)(end - at) : -2;
}

/* "Name: value" with a name that means nothing here, or Content-Length, or Connection. */
static bool header_known(struct request *r, const char *line, int length, bool *has_length) {
    char name[64], value[128];
    int colon = 0;
    while (colon < length && is_token(line[colon])) {
        colon++;
    }
    if (colon == 0 || colon >= 60 || length - colon >= 120 || line[colon] != ':' ||
        line[colon + 1] != ' ') {
        return false;
    }
    (void)snprintf(name, sizeof name, "%.*s", colon, line);
    (void)snprintf(value, sizeof value, "%.*s", length - colon - 2, line + colon + 2);
    if (strcasecmp(name, "Content-Length") == 0) {
        size_t digits = strspn(value, "0123456789");
        if (*has_length || digits == 0 || digits > 5 || value[digits] != '\0') {
            return false;
        }
        *has_length = true;
        r->body_size = (size_t)strtoul(value, NULL, 10);
        return true;
    }
    if (strcasecmp(name, "Connection") == 0) {
        r->last = strcmp(value, "close") == 0;
        return r->last || strcmp(value, "keep-alive") == 0;
    }
    static const char *const meaningful[] = {"Transfer-Encoding", "Expect", "Upgrade",
                                             "Proxy-Connection"};
    for (size_t i = 0; i < sizeof meaningful / sizeof meaningful[0]; i++) {
        if (strcasecmp(name, meaningful[i]) == 0) {
            return false;
        }
    }
    return true;
}

/* The request that begins at `at`: 1, with its end in *end; 0 if it is not whole; -1 in doubt; -2 if no request begins
 * so. */
static int request_at(size_t at, struct request *r, size_t *end) {
    static const char *const methods[] = {"GET ", "HEAD ", "POST ", "PUT ", "DELETE "};
    bool has_length = false;
    memset(r, 0, sizeof *r);
    if (at == world.size) {
        return 0;
    }
    unsigned char first = (unsigned char)world.sent[at];
    if (first < 9 || first > 'z' || (first >= '0' && first <= '9')) {
        return -2;
    }
    int length = line_at(at);
    if (length < 0) {
        return length == -1 ? 0 : -1;
    }
    const char *line = world.sent + at;
    size_t i = 0;
    while (i < 5 && strncmp(line, methods[i], strlen(methods[i])) != 0) {
        i++;
    }
    static const char version[] = " HTTP/1.1";
    int tail = (int)sizeof version - 1;
    int from = i < 5 ? (int)strlen(methods[i]) : 0;
    int path = length - tail - from;
    if (i == 5 || path < 1 || path >= (int)sizeof r->path || line[from] != '/' ||
        strncmp(line + length - tail, version, (size_t)tail) != 0) {
        return -1;
    }
    (void)snprintf(r->method, sizeof r->method, "%.*s", from - 1, methods[i]);
    (void)snprintf(r->path, sizeof r->path, "%.*s", path, line + from);
    if (strspn(r->path, "/abcdefghijklmnopqrstuvwxyz0123456789?=&.") != strlen(r->path)) {
        return -1;
    }
    for (;;) {
        at += (size_t)length + 2;
        length = line_at(at);
        if (length < 0) {
            return length == -1 ? 0 : -1;
        }
        if (length == 0) {
            break;
        }
        if (!header_known(r, world.sent + at, length, &has_length)) {
            return -1;
        }
    }
    r->body_at = at + 2;
    *end = r->body_at + r->body_size;
    return *end <= world.size ? 1 : 0;
}

/* --- what is to be answered --- */

static void want(const char *data, size_t size) {
    FUZZ_CHECK(size <= GOT_MAX - world.want_size);
    memcpy(world.want + world.want_size, data, size);
    world.want_size += size;
}

static void want_answer(const char *status, const char *type, const char *body, size_t size,
                        const struct request *r) {
    char head[200];
    int n =
        snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%s%sContent-Length: %zu\r\n%s\r\n", status,
                 type, type[0] != '\0' ? "\r\n" : "", size, r->last ? "Connection: close\r\n" : "");
    want(head, (size_t)n);
    if (strcmp(r->method, "HEAD") != 0) {
        want(body, size);
    }
}

static bool path_of(const struct request *r, const char *path) {
    size_t size = strlen(path);
    return strncmp(r->path, path, size) == 0 && (r->path[size] == '\0' || r->path[size] == '?');
}

static void want_for(const struct request *r) {
    bool get = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    if (path_of(r, "/echo") && strcmp(r->method, "POST") == 0) {
        want_answer("200 OK", "Content-Type: application/octet-stream", world.sent + r->body_at,
                    r->body_size, r);
    } else if (path_of(r, "/echo")) {
        want_answer("405 Method Not Allowed", "Allow: POST", "", 0, r);
    } else if (!path_of(r, "/")) {
        want_answer("404 Not Found", "Content-Type: text/plain", "Not Found\n", 10, r);
    } else if (!get) {
        want_answer("405 Method Not Allowed", "Allow: GET, HEAD", "", 0, r);
    } else {
        want_answer("200 OK", "Content-Type: text/plain", "Hello, World!", 13, r);
    }
}

static void make_wanted(void) {
    struct request r;
    size_t at = 0;
    int rc;
    world.want_size = 0;
    while ((rc = request_at(at, &r, &at)) == 1) {
        want_for(&r);
        if (r.last) {
            world.then = LAST;
            return;
        }
    }
    world.then = rc == 0 ? PARTIAL : rc == -2 ? GARBAGE : UNKNOWN;
    if (rc == -2) {
        static const char refused[] =
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        want(refused, sizeof refused - 1);
    }
}

/* Behind what was known: responses, each whole but for bodies of HEAD, which nobody knows of here. */
static void check_rest(const char *at, size_t size) {
    while (size > 0) {
        FUZZ_CHECK(size >= 9 && memcmp(at, "HTTP/1.1 ", 9) == 0);
        const char *end = memmem(at, size, "\r\n\r\n", 4);
        FUZZ_CHECK(end != NULL);
        const char *next = memmem(end + 4, size - (size_t)(end + 4 - at), "HTTP/1.1 ", 9);
        size_t length = next != NULL ? (size_t)(next - at) : size;
        at += length;
        size -= length;
    }
}

static void check_answers(void) {
    size_t both = world.got_size < world.want_size ? world.got_size : world.want_size;
    if (memcmp(world.got, world.want, both) != 0 ||
        (world.end != LEAVES && world.got_size < world.want_size)) {
        FUZZ_FAIL("wanted: %.*s\ngot: %.*s", (int)world.want_size, world.want, (int)world.got_size,
                  world.got);
    }
    if (world.then == UNKNOWN || world.then == PARTIAL) {
        check_rest(world.got + both, world.got_size - both);
    } else {
        FUZZ_CHECK(world.got_size <= world.want_size);
    }
}

/* --- the client and the server --- */

static void receive(int fd) {
    for (;;) {
        FUZZ_CHECK(world.got_size < GOT_MAX);
        /* Longer than all that the server waits for. */
        ssize_t n = pica_sim_read(fd, world.got + world.got_size, GOT_MAX - world.got_size, 300.0);
        if (n == 0 || n == -ECONNRESET) {
            FUZZ_CHECK(n == 0 || world.then == UNKNOWN || world.then == PARTIAL ||
                       world.size > 4096);
            return;
        }
        if (n < 0) {
            FUZZ_FAIL("the server keeps the connection: %zd", n);
        }
        world.got_size += (size_t)n;
    }
}

static bool send_pieces(int fd) {
    size_t at = 0;
    for (unsigned i = 0; i <= world.pieces; i++) {
        size_t n = i < world.pieces ? world.piece[i] : world.size;
        n = n < world.size - at ? n : world.size - at;
        if (i == world.pause) {
            (void)pica_sim_sleep(0.01);
        }
        if (n != 0 && pica_sim_write(fd, world.sent + at, n) < 0) {
            return false; /* the server has ended it, which the answers tell */
        }
        at += n;
    }
    return true;
}

static void client(void *arg) {
    pica_address address;
    int fd;
    (void)arg;
    FUZZ_EQ(pica_address_ip(&address, "127.0.0.1", PORT), 0);
    while ((fd = pica_sim_connect(&address)) == -ECONNREFUSED) {
        (void)pica_sim_sleep(0.001);
    }
    FUZZ_CHECK(fd >= 0);
    bool sent = send_pieces(fd);
    if (world.end == SIGNALS) {
        pica_sim_signal(SIGTERM);
    } else if (sent && world.end == FINISHES) {
        pica_sim_finish(fd);
    }
    if (world.end != LEAVES) {
        receive(fd);
    }
    pica_sim_close(fd);
    world.done = true;
    if (world.end != SIGNALS) {
        pica_sim_signal(SIGTERM);
    }
}

static void scenario(void *arg) {
    (void)arg;
    FUZZ_EQ(pica_sim_actor(client, NULL, "client"), 0);
}

static int quiet_main(void *arg) {
    pica_server *server = NULL;
    int rc = pica_start_server(&server, "127.0.0.1", PORT, handle, NULL, NULL);
    rc = rc < 0 ? rc : pica_add_signal_handler(SIGTERM, on_end, NULL);
    rc = rc < 0 ? rc : serve(server);
    pica_server_release(server);
    (void)arg;
    return rc;
}

/* The script: how it ends, the sizes of the pieces, and behind them what is sent. */
static unsigned make_world(struct script s) {
    unsigned seed = script_below(&s, 256);
    unsigned what = script_byte(&s);
    world.end = what % 4;
    world.pieces = what / 4;
    for (unsigned i = 0; i < world.pieces; i++) {
        world.piece[i] = 1 + script_byte(&s);
    }
    world.pause = script_below(&s, PIECES_MAX);
    world.size = s.size < SENT_MAX ? s.size : SENT_MAX;
    memset(world.sent, 0, sizeof world.sent);
    if (world.size != 0) {
        memcpy(world.sent, s.data, world.size);
    }
    world.got_size = 0;
    world.done = false;
    return seed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    unsigned seed = make_world((struct script){data, size});
    options.workers = 1 + seed % 2;
    options.faults = -1;
    options.storm = -1;
    options.check = -1;
    options.scenario = scenario;
    fuzz_quiet();
    make_wanted();
    atomic_store(&draining, false);
    pica_event_clear(&stop);
    FUZZ_EQ(pica_sim_run(seed, &options, quiet_main, NULL), 0);
    FUZZ_CHECK(world.done);
    if (world.end != SIGNALS) {
        check_answers();
    }
    return 0;
}
