/* Servers: limits, the ways to end their clients, given and inherited listeners, options. */
#include "tests/support/short_memory.h"
#include "tests/support/stream_pair.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

static int echo_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *data;
    ssize_t n;
    (void)arg;
    while ((n = pica_reader_peek(reader, &data)) > 0) {
        int rc = pica_writer_write(writer, data, (size_t)n);
        PT_EQ(pica_reader_consume(reader, (size_t)n), 0);
        rc = rc == 0 ? pica_writer_drain(writer) : rc;
        if (rc < 0) {
            return rc;
        }
    }
    return (int)n;
}

static struct side connect_to(pica_server *server) {
    pica_address address;
    pica_socket *socket;
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_REQUIRE(pica_connect(&socket, &address) == 0);
    return side_of(socket, 0);
}

static void expect_echo(struct side s) {
    char buf[5];
    PT_EQ(pica_writer_write(s.writer, "hello", 5), 0);
    if (PT_EQ(pica_reader_readexactly(s.reader, buf, 5, NULL), 0)) {
        PT_EQ(memcmp(buf, "hello", 5), 0);
    }
}

static void end_server(pica_server *server) {
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    PT_EQ(pica_server_connections(server), 0);
    pica_server_release(server);
}

/* With a limit the next client waits in the backlog, connected but not served, until one has ended. */
enum { LIMIT = 3, CLIENTS = 12 };

static void serve_with_limit(pica_server *server) {
    struct side s[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        s[i] = connect_to(server);
    }
    for (int i = 0; i < CLIENTS; i++) {
        expect_echo(s[i]); /* waits until its turn has come */
        PT_CHECK(pica_server_connections(server) <= LIMIT);
        if (i + LIMIT < CLIENTS) {
            char byte;
            pica_timeout t;
            PT_EQ(pica_writer_write(s[i + LIMIT].writer, "x", 1), 0);
            PT_EQ(pica_timeout_enter(&t, 0.02), 0);
            ssize_t n = pica_reader_read(s[i + LIMIT].reader, &byte, 1);
            PT_EQ(pica_timeout_exit(&t, (int)n), PICA_ETIMEDOUT); /* nobody serves it */
        }
        end_side(s[i]);
        if (i + LIMIT < CLIENTS) {
            char byte;
            PT_EQ(pica_reader_read(s[i + LIMIT].reader, &byte, 1), 1);
        }
    }
    end_server(server);
}

TASK_TEST(limit_tcp) {
    (void)arg;
    pica_server *server;
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.max_connections = LIMIT;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, &options) == 0);
    serve_with_limit(server);
    return 0;
}

TASK_TEST(limit_unix) {
    (void)arg;
    pica_server *server;
    char name[64];
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.max_connections = LIMIT;
    snprintf(name, sizeof name, "@pica-limit-%d", (int)getpid());
    PT_REQUIRE(pica_start_unix_server(&server, name, echo_handler, NULL, &options) == 0);
    serve_with_limit(server);
    return 0;
}

/* A server at its limit can be closed. */
TASK_TEST(limit_reached_at_the_end) {
    (void)arg;
    pica_server *server;
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.max_connections = 1;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, &options) == 0);
    struct side a = connect_to(server);
    struct side b = connect_to(server);
    expect_echo(a);
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed_for(server, 0.02), PICA_ETIMEDOUT);
    expect_echo(a);
    end_side(a);
    PT_EQ(pica_server_wait_closed_for(server, 10), 0);
    pica_server_release(server);
    end_side(b);
    return 0;
}

/* A handler that never reads on its own account: only the end of its streams lets it go. */
static int waiting_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    char byte;
    int rc = pica_writer_write(writer, "hi", 2);
    PT_CHECK(rc == 0 || rc == PICA_ECLOSED); /* the client may have it, and the end come, before this returns */
    ssize_t n = pica_reader_read(reader, &byte, 1);
    atomic_store((_Atomic int *)arg, n == 0 ? 1 : (int)n);
    return 0;
}

static void end_clients(void (*end)(pica_server *server)) {
    pica_server *server;
    static _Atomic int seen;
    char buf[2];
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, waiting_handler, &seen, NULL) == 0);
    struct side s[4];
    for (int i = 0; i < 4; i++) {
        s[i] = connect_to(server);
        PT_EQ(pica_reader_readexactly(s[i].reader, buf, 2, NULL), 0);
    }
    pica_server_close(server);
    end(server);
    PT_EQ(pica_server_wait_closed_for(server, 10), 0);
    PT_EQ(atomic_load(&seen), PICA_ECLOSED);
    for (int i = 0; i < 4; i++) {
        ssize_t n = pica_reader_read(s[i].reader, buf, 1);
        PT_CHECK(n == 0 || n == -ECONNRESET);
        end_side(s[i]);
    }
    end(server); /* nobody is there any more */
    pica_server_release(server);
}

TASK_TEST(close_clients) {
    (void)arg;
    end_clients(pica_server_close_clients);
    return 0;
}

TASK_TEST(abort_clients) {
    (void)arg;
    end_clients(pica_server_abort_clients);
    return 0;
}

/* A listener of one's own; and closing that server leaves the other holder of the listener alone. */
TASK_TEST(given_socket) {
    (void)arg;
    pica_address address, bound;
    pica_socket *listener, *again;
    pica_server *server;
    PT_REQUIRE(pica_address_ip(&address, "127.0.0.1", 0) == 0);
    PT_REQUIRE(pica_listen(&listener, &address, NULL) == 0);
    PT_REQUIRE(pica_socket_name(listener, &bound) == 0);
    PT_EQ(pica_start_server_socket(NULL, listener, echo_handler, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server_socket(&server, NULL, echo_handler, NULL, NULL), -EINVAL);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PT_REQUIRE(fd >= 0);
    PT_EQ(pica_socket_adopt(NULL, fd), -EINVAL);
    close(fd);
    PT_EQ(pica_socket_adopt(&again, fd), -EBADF);
    PT_REQUIRE(pica_start_server_socket(&server, listener, echo_handler, NULL, NULL) == 0);
    struct side s = connect_to(server);
    expect_echo(s);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_EQ(pica_address_port(&address), pica_address_port(&bound));
    end_side(s);
    end_server(server);
    return 0;
}

/* A server that does not start leaves the listener, and the file that it has, to who gave it. */
static int given_without_memory(void *arg) {
    char path[64];
    pica_address address;
    pica_socket *listener;
    pica_server *server = NULL;
    (void)arg;
    snprintf(path, sizeof path, "/tmp/pica-test-given-%d", (int)getpid());
    PT_REQUIRE(pica_address_unix(&address, path) == 0);
    PT_REQUIRE(pica_listen(&listener, &address, NULL) == 0);
    int rc = -ENOMEM;
    for (long i = 1; rc == -ENOMEM && i < 100; i++) {
        atomic_store(&fail_in, i);
        rc = pica_start_server_socket(&server, listener, echo_handler, NULL, NULL);
        atomic_store(&fail_in, 0);
        PT_EQ(access(path, F_OK), 0);
        PT_CHECK((rc == 0) == (server != NULL));
        PT_CHECK(i == 1 ? rc == -ENOMEM : rc == 0 || rc == -ENOMEM);
    }
    PT_REQUIRE(rc == 0);
    struct side s = connect_to(server);
    expect_echo(s);
    end_side(s);
    end_server(server);
    return 0;
}

PT_TEST(given_socket_without_memory) {
    struct pica_runtime_options options = short_of_memory();
    options.workers = 1;
    PT_EQ(pica_run_opts(given_without_memory, NULL, &options), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
}

/* What does not come up for want of memory leaves no file that would be in the way. kind: of what. */
static int open_unix(const char *path, int kind) {
    pica_address address;
    pica_server *server = NULL;
    pica_socket *listener = NULL;
    pica_datagram_endpoint *endpoint = NULL;
    int rc = pica_address_unix(&address, path);
    if (kind == 0) {
        rc = rc < 0 ? rc : pica_start_unix_server(&server, path, echo_handler, NULL, NULL);
        if (rc == 0) {
            end_server(server);
        }
    } else if (kind == 1) {
        rc = rc < 0 ? rc : pica_listen(&listener, &address, NULL);
        pica_socket_close(listener);
    } else {
        rc = rc < 0 ? rc : pica_datagram_open(&endpoint, &address, NULL, NULL);
        pica_datagram_release(endpoint);
    }
    return rc;
}

static int no_file_without_memory(void *arg) {
    char path[64];
    (void)arg;
    snprintf(path, sizeof path, "/tmp/pica-test-left-%d", (int)getpid());
    for (int kind = 0; kind < 3; kind++) {
        int rc = -ENOMEM;
        long i = 0;
        while (rc == -ENOMEM && ++i < 100) {
            atomic_store(&fail_in, i);
            rc = open_unix(path, kind);
            atomic_store(&fail_in, 0);
            PT_CHECK(rc == 0 || access(path, F_OK) != 0);
            (void)unlink(path);
        }
        PT_EQ(rc, 0);
        PT_CHECK(i > 1);
    }
    return 0;
}

PT_TEST(no_file_without_memory) {
    struct pica_runtime_options options = short_of_memory();
    options.workers = 1;
    PT_EQ(pica_run_opts(no_file_without_memory, NULL, &options), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
}

/* The restart of a server: the old one and the new one have the same listener, clients come all the time, and
 * each of them is served by one or the other. */
static int restarting_client(void *arg) {
    pica_address *address = arg;
    for (int i = 0; i < 50; i++) {
        pica_socket *socket;
        PT_REQUIRE(pica_connect(&socket, address) == 0);
        struct side s = side_of(socket, 0);
        expect_echo(s);
        end_side(s);
    }
    return 0;
}

TASK_TEST(restart_loses_nobody) {
    (void)arg;
    pica_address address;
    pica_socket *listener;
    pica_server *server;
    PT_REQUIRE(pica_address_ip(&address, "127.0.0.1", 0) == 0);
    PT_REQUIRE(pica_listen(&listener, &address, NULL) == 0);
    PT_REQUIRE(pica_socket_name(listener, &address) == 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* finds the listener's descriptor */
    PT_REQUIRE(fd >= 0);
    int shared = -1;
    for (int i = fd - 1; i > 2 && shared < 0; i--) {
        int on = 0;
        socklen_t size = sizeof on;
        if (getsockopt(i, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on != 0) {
            shared = fcntl(i, F_DUPFD_CLOEXEC, 3);
        }
    }
    close(fd);
    PT_REQUIRE(shared >= 0);
    PT_REQUIRE(pica_start_server_socket(&server, listener, echo_handler, NULL, NULL) == 0);
    pica_task *client[4];
    for (int i = 0; i < 4; i++) {
        PT_REQUIRE(pica_create_task(&client[i], restarting_client, &address) == 0);
    }
    for (int round = 0; round < 5; round++) {
        pica_socket *next;
        pica_server *successor;
        int copy = fcntl(shared, F_DUPFD_CLOEXEC, 3);
        PT_REQUIRE(copy >= 0);
        PT_EQ(pica_sleep(0.005), 0);
        PT_REQUIRE(pica_socket_adopt(&next, copy) == 0);
        PT_REQUIRE(pica_start_server_socket(&successor, next, echo_handler, NULL, NULL) == 0);
        pica_server_close(server);
        PT_EQ(pica_server_wait_closed_for(server, 10), 0);
        pica_server_release(server);
        server = successor;
    }
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(client[i], NULL), 0);
    }
    end_server(server);
    close(shared);
    return 0;
}

static int inheriting(void *arg) {
    pica_socket *sockets[2];
    pica_server *server;
    (void)arg;
    PT_EQ(pica_listen_fds(sockets, 2), 1);
    PT_CHECK(sockets[1] == NULL);
    PT_CHECK(getenv("LISTEN_FDS") == NULL);
    PT_EQ(fcntl(3, F_GETFD), FD_CLOEXEC);
    PT_REQUIRE(pica_start_server_socket(&server, sockets[0], echo_handler, NULL, NULL) == 0);
    struct side s = connect_to(server);
    expect_echo(s);
    end_side(s);
    end_server(server);
    PT_EQ(pica_listen_fds(sockets, 2), 0);
    PT_EQ(setenv("LISTEN_FDS", "x", 1), 0);
    PT_EQ(pica_listen_fds(sockets, 2), -EINVAL);
    return 0;
}

PT_TEST(inherited) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char pid[16];
    if (fcntl(3, F_GETFD) >= 0) {
        PT_SKIP("descriptor 3 is taken");
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    PT_REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 8) == 0);
    if (fd != 3) {
        PT_REQUIRE(dup2(fd, 3) == 3);
        close(fd);
    }
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    PT_EQ(setenv("LISTEN_PID", pid, 1), 0);
    PT_EQ(setenv("LISTEN_FDS", "1", 1), 0);
    PT_EQ(pica_run(inheriting, NULL), 0);
    PT_EQ(pica_listen_fds(NULL, 0), PICA_ENOTASK);
}

/* Options reach the connections. */
static int tuned_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    pica_socket *socket = pica_writer_socket(writer);
    int value = 0;
    socklen_t size = sizeof value;
    (void)reader;
    (void)arg;
    PT_EQ(pica_socket_getopt(socket, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    PT_EQ(value, 0);
    PT_EQ(pica_socket_getopt(socket, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    PT_EQ(value, 1);
    PT_EQ(pica_socket_getopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), 0);
    PT_EQ(value, 77);
    PT_EQ(pica_socket_getopt(socket, SOL_SOCKET, SO_RCVBUF, &value, &size), 0);
    PT_EQ(value, 2 * 32768);
    PT_EQ(pica_socket_getopt(socket, SOL_SOCKET, SO_SNDBUF, &value, &size), 0);
    PT_EQ(value, 2 * 16384);
    return 0;
}

TASK_TEST(tuned) {
    (void)arg;
    pica_server *server, *second;
    pica_address address;
    char byte;
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.delay = 1;
    options.keepalive = 77;
    options.receive_buffer = 32768;
    options.send_buffer = 16384;
    options.reuse_port = 1;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, tuned_handler, NULL, &options) == 0);
    struct side s = connect_to(server);
    PT_EQ(pica_reader_read(s.reader, &byte, 1), 0);
    end_side(s);
    /* reuse_port: a second server may have the same port. */
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_EQ(pica_start_server(&second, "127.0.0.1", pica_address_port(&address), tuned_handler, NULL,
                            &options),
          0);
    end_server(second);
    end_server(server);
    options.keepalive = -1;
    PT_EQ(pica_start_server(&server, "127.0.0.1", 0, tuned_handler, NULL, &options), -EINVAL);
    return 0;
}

PT_MAIN()
