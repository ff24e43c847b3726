/* Sockets, streams, servers, names and datagrams that run short of memory. See nth.h. */
#include "tests/faults/nth.h"

#include <fcntl.h>
#include <netdb.h>
#include <string.h>

/* Where the other side had no memory, a connection may be lost, or nobody come. */
#define LOST -ECONNRESET, -EPIPE, PICA_EINCOMPLETE, PICA_ETIMEDOUT
/* Seconds to wait for a peer of this process that may have had no memory for us. */
static const double patience = 0.1;

enum { LARGE = 300 << 10 };
static char large[LARGE];

/* --- a server that echoes, and clients --- */

static int echo(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *data;
    ssize_t n = 0;
    int rc = 0;
    (void)arg;
    while (rc >= 0 && (n = pica_reader_peek(reader, &data)) > 0) {
        rc = pica_writer_write(writer, data, (size_t)n);
        (void)pica_reader_consume(reader, (size_t)n);
        NTH_STEP(rc, pica_writer_drain(writer));
    }
    if (rc < 0) {
        pica_writer_abort(writer); /* bytes are missing: an end in order would tell a lie */
    }
    return rc < 0 ? rc : (int)n;
}

/* In the scope of a time-out: a line, bytes, and the end. */
static int talk(pica_reader *reader, pica_writer *writer) {
    struct iovec parts[] = {{(void *)(uintptr_t) "some ", 5}, {(void *)(uintptr_t) "text\n", 5}};
    const char *line = NULL;
    char bytes[64];
    pica_writer_cork(writer);
    int rc = pica_writer_writelines(writer, parts, 2);
    NTH_STEP(rc, pica_writer_write(writer, large, 32));
    int sent = pica_writer_uncork(writer);
    NTH_STEP(rc, sent);
    NTH_STEP(rc, pica_writer_drain(writer));
    ssize_t n = rc == 0 ? pica_reader_readline(reader, &line) : 0;
    if (n > 0) {
        PT_CHECK(n <= 10 && memcmp(line, "some text\n", (size_t)n) == 0);
    }
    rc = n < 0 ? (int)n : rc == 0 && n < 10 ? PICA_EINCOMPLETE : rc;
    NTH_STEP(rc, pica_reader_readexactly(reader, bytes, 32, NULL));
    NTH_STEP(rc, pica_writer_write_eof(writer));
    n = rc == 0 ? pica_reader_readuntil(reader, "end", 3, &line, NULL) : 0;
    return rc == 0 ? n == PICA_EINCOMPLETE ? 0 : (int)n : rc;
}

static int talk_and_end(int rc, pica_reader *reader, pica_writer *writer) {
    pica_timeout t;
    if (rc == 0 && (rc = pica_timeout_enter(&t, patience)) == 0) {
        rc = pica_timeout_exit(&t, talk(reader, writer));
    }
    pica_writer_abort(writer);
    pica_writer_release(writer);
    return rc;
}

static int connect_and_talk(const pica_address *address) {
    pica_reader *reader = NULL;
    pica_writer *writer = NULL;
    int rc = pica_open_connection("127.0.0.1", pica_address_port(address), 0, &reader, &writer);
    if (writer == NULL) {
        PT_CHECK(rc < 0);
        return rc;
    }
    return talk_and_end(rc, reader, writer);
}

/* Ends a server as programs do; with or without memory it must go. */
static int end_server(int rc, pica_server *server) {
    if (server != NULL) {
        pica_server_close(server);
        pica_server_cancel_clients(server);
        PT_EQ(pica_server_wait_closed(server), 0);
    }
    pica_server_release(server);
    return rc;
}

static int serve_one(int rc, pica_server *server) {
    pica_address address;
    NTH_STEP(rc, pica_server_address(server, &address));
    NTH_STEP(rc, connect_and_talk(&address));
    return end_server(rc, server);
}

NTH(servers,
    "pica_start_server pica_open_connection pica_writer_write pica_writer_writelines pica_reader_readline "
    "pica_reader_readuntil pica_reader_peek pica_writer_uncork",
    LOST) {
    pica_server *server = NULL;
    int rc = pica_start_server(&server, "127.0.0.1", 0, echo, NULL, NULL);
    return serve_one(rc, server);
}

NTH(limited_server, "pica_start_server pica_server_wait_closed_for", LOST) {
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    pica_server *server = NULL;
    pica_address address;
    options.max_connections = 1;
    int rc = pica_start_server(&server, "127.0.0.1", 0, echo, NULL, &options);
    NTH_STEP(rc, pica_server_address(server, &address));
    NTH_STEP(rc, connect_and_talk(&address));
    NTH_STEP(rc, connect_and_talk(&address));
    if (rc == 0) {
        pica_server_close(server);
        rc = pica_server_wait_closed_for(server, 60);
    }
    return end_server(rc, server);
}

NTH(unix_server, "pica_start_unix_server pica_open_unix_connection", LOST) {
    pica_server *server = NULL;
    pica_reader *reader = NULL;
    pica_writer *writer = NULL;
    static int number; /* a name is free again a little after its listener was closed */
    char path[64];
    snprintf(path, sizeof path, "@pica-nth-%d-%d", (int)getpid(), number++);
    int rc = pica_start_unix_server(&server, path, echo, NULL, NULL);
    NTH_STEP(rc, pica_open_unix_connection(path, 0, &reader, &writer));
    rc = writer != NULL ? talk_and_end(rc, reader, writer) : rc;
    return end_server(rc, server);
}

NTH(host_server, "pica_start_server_host", LOST) {
    pica_server *server = NULL;
    int rc = pica_start_server_host(&server, "127.0.0.1", 0, echo, NULL, NULL);
    return serve_one(rc, server);
}

static void list_of_two(pica_addrinfo list[2]) {
    memset(list, 0, 2 * sizeof *list);
    PT_REQUIRE(pica_address_ip(&list[0].address, "127.0.0.1", 0) == 0);
    PT_REQUIRE(pica_address_ip(&list[1].address, "127.0.0.2", 0) == 0);
    list[0].next = &list[1];
}

NTH(list_server, "pica_start_server_list", LOST) {
    pica_server *server = NULL;
    pica_addrinfo list[2];
    list_of_two(list);
    int rc = pica_start_server_list(&server, list, echo, NULL, NULL);
    return serve_one(rc, server);
}

NTH(socket_server, "pica_start_server_socket pica_listen", LOST) {
    pica_server *server = NULL;
    pica_socket *listener = NULL;
    pica_address address;
    PT_REQUIRE(pica_address_ip(&address, "127.0.0.1", 0) == 0);
    int rc = pica_listen(&listener, &address, NULL);
    NTH_STEP(rc, pica_start_server_socket(&server, listener, echo, NULL, NULL));
    if (server == NULL) {
        pica_socket_close(listener); /* still ours */
    }
    return serve_one(rc, server);
}

/* --- sockets --- */

static int connected(pica_socket **listener, pica_socket **a, pica_socket **b) {
    pica_address address;
    PT_REQUIRE(pica_address_ip(&address, "127.0.0.1", 0) == 0);
    int rc = pica_listen(listener, &address, NULL);
    NTH_STEP(rc, pica_socket_name(*listener, &address));
    NTH_STEP(rc, pica_connect(a, &address));
    NTH_STEP(rc, pica_accept(*listener, b, NULL));
    return rc;
}

static int fills(void *arg) {
    return pica_sendall(arg, large, LARGE);
}

NTH(sockets, "pica_connect pica_accept pica_listen pica_recv pica_sendall", 0) {
    pica_socket *listener = NULL, *a = NULL, *b = NULL;
    pica_task *task = NULL;
    char *buffer = malloc(LARGE);
    int rc = connected(&listener, &a, &b);
    NTH_STEP(rc, pica_create_task(&task, fills, a));
    ssize_t n = rc;
    for (size_t got = 0; rc == 0 && got < LARGE; got += (size_t)n) {
        n = pica_recv(b, buffer, LARGE);
        rc = n < 0 ? (int)n : n == 0 ? PICA_EINCOMPLETE : 0;
        n = n < 0 ? 0 : n;
    }
    pica_socket_close(b); /* before the join: a sender that nobody reads from has to end */
    rc = nth_join(rc, task);
    pica_socket_close(a);
    pica_socket_close(listener);
    free(buffer);
    return rc;
}

NTH(streams, "pica_open_socket pica_writer_drain pica_reader_read pica_reader_more", 0) {
    pica_socket *listener = NULL, *a = NULL, *b = NULL;
    pica_reader *reader = NULL, *unused = NULL;
    pica_writer *writer = NULL, *back = NULL;
    const char *view = NULL;
    int rc = connected(&listener, &a, &b);
    NTH_STEP(rc, pica_open_socket(a, 0, &unused, &writer));
    NTH_STEP(rc, pica_open_socket(b, LARGE, &reader, &back));
    for (int i = 0; rc == 0 && i < 8; i++) { /* far more than the kernel takes at once */
        rc = pica_writer_write(writer, large, LARGE);
    }
    ssize_t n = rc == 0 ? pica_reader_peek(reader, &view) : 0;
    n = n > 0 ? pica_reader_more(reader, &view) : n;
    n = n > 0 ? pica_reader_consume(reader, (size_t)n) : n;
    rc = n < 0 ? (int)n : rc;
    n = rc == 0 ? pica_reader_read(reader, large, LARGE) : 1;
    rc = n < 0 ? (int)n : n == 0 ? PICA_EINCOMPLETE : rc;
    if (back != NULL) {
        pica_writer_abort(back); /* the other end sees it */
    }
    if (writer != NULL) {
        PT_CHECK(pica_writer_drain(writer) <= 0);
        pica_writer_abort(writer);
        PT_CHECK(pica_writer_wait_closed(writer) <= 0);
    }
    pica_socket_close(writer == NULL ? a : NULL);
    pica_socket_close(back == NULL ? b : NULL);
    pica_writer_release(writer);
    pica_writer_release(back);
    pica_socket_close(listener);
    return rc;
}

NTH(adopted, "pica_socket_adopt", 0) {
    pica_socket *s[2] = {NULL, NULL};
    int fds[2];
    PT_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        NTH_STEP(rc, pica_socket_adopt(&s[i], fds[i]));
        if (s[i] == NULL) {
            close(fds[i]); /* still ours */
        }
    }
    for (int i = 0; i < 2; i++) {
        pica_socket_close(s[i]);
    }
    return rc;
}

static pica_socket *inherited[2];

static int take_inherited(void *arg) {
    (void)arg;
    int rc = pica_listen_fds(inherited, 2);
    for (int i = 0; i < 2; i++) {
        if (inherited[i] != NULL) {
            pica_socket_close(inherited[i]);
        } else {
            close(3 + i); /* still ours */
        }
    }
    return rc == 2 ? 0 : rc;
}

/* Plain: before a runtime has descriptors, 3 and 4 are free. */
NTH_PLAIN(inherited, "pica_listen_fds", 0) {
    char pid[16];
    int fds[2];
    if (fcntl(3, F_GETFD) >= 0 || fcntl(4, F_GETFD) >= 0) {
        PT_SKIP("descriptor 3 or 4 is taken");
    }
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    PT_REQUIRE(setenv("LISTEN_PID", pid, 1) == 0 && setenv("LISTEN_FDS", "2", 1) == 0);
    PT_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0 && fds[0] == 3 && fds[1] == 4);
    inherited[0] = inherited[1] = NULL;
    int rc = pica_run(take_inherited, NULL);
    if (fcntl(3, F_GETFD) >= 0) { /* main has not begun */
        close(3);
        close(4);
    }
    return rc;
}

/* --- names --- */

NTH(names, "pica_getaddrinfo pica_connect_host pica_connect_any", LOST, PICA_EAI_AGAIN) {
    pica_server *server = NULL;
    pica_addrinfo *list = NULL, two[2];
    pica_socket *a = NULL, *b = NULL;
    pica_address address;
    list_of_two(two);
    int rc = pica_getaddrinfo("127.0.0.1", "80", NULL, &list);
    pica_freeaddrinfo(list);
    NTH_STEP(rc, pica_start_server(&server, "127.0.0.1", 0, echo, NULL, NULL));
    NTH_STEP(rc, pica_server_address(server, &address));
    NTH_STEP(rc, pica_connect_host(&a, "127.0.0.1", pica_address_port(&address), NULL));
    if (rc == 0) {
        two[1].address = address;
        PT_REQUIRE(pica_address_ip(&two[0].address, "127.0.0.3", 1) == 0); /* nobody there */
        rc = pica_connect_any(&b, two, NULL);
        rc = rc == -ECONNREFUSED ? -ENOMEM : rc; /* of the other address: the first error is told */
    }
    pica_socket_close(a);
    pica_socket_close(b);
    return end_server(rc, server);
}

/* --- datagrams --- */

NTH(datagrams,
    "pica_datagram_open pica_datagram_recv_many pica_datagram_send_many pica_datagram_recv "
    "pica_datagram_send",
    0) {
    enum { BATCH = 80 };
    static char bytes[BATCH][8];
    struct pica_datagram batch[BATCH];
    pica_datagram_endpoint *a = NULL, *b = NULL;
    pica_address address;
    PT_REQUIRE(pica_address_ip(&address, "127.0.0.1", 0) == 0);
    int rc = pica_datagram_open(&a, &address, NULL, NULL);
    NTH_STEP(rc, pica_datagram_name(a, &address));
    NTH_STEP(rc, pica_datagram_open(&b, NULL, &address, NULL));
    memset(batch, 0, sizeof batch);
    for (int i = 0; i < BATCH; i++) {
        batch[i].buffer = bytes[i];
        batch[i].size = batch[i].length = sizeof bytes[i];
    }
    NTH_STEP(rc, pica_datagram_send(b, "x", 1, NULL));
    NTH_STEP(rc, pica_datagram_recv(a, bytes[0], 8, NULL, NULL) == 1 ? 0 : PICA_EINCOMPLETE);
    int sent = rc == 0 ? pica_datagram_send_many(b, batch, BATCH) : 0, got = 0;
    rc = sent < 0 ? sent : rc;
    while (rc >= 0 && got < sent) {
        rc = pica_datagram_recv_many(a, batch, BATCH);
        got += rc < 0 ? 0 : rc;
    }
    pica_datagram_release(a);
    pica_datagram_release(b);
    return rc < 0 ? rc : 0;
}

PT_MAIN()
