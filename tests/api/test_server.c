/* Servers: start, placement, and the orders in which they can end. */
#include "tests/support/machine.h"
#include "tests/support/stream_pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static int echo_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    (void)arg;
    for (;;) {
        const char *data;
        ssize_t n = pica_reader_peek(reader, &data);
        if (n <= 0) {
            return (int)n;
        }
        int rc = pica_writer_write(writer, data, (size_t)n);
        PT_EQ(pica_reader_consume(reader, (size_t)n), 0);
        rc = rc == 0 ? pica_writer_drain(writer) : rc;
        if (rc < 0) {
            return rc;
        }
    }
}

static struct side connect_to(pica_server *server) {
    pica_address address;
    pica_socket *socket;
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_REQUIRE(pica_connect(&socket, &address) == 0);
    return side_of(socket, 0);
}

static void expect_echo(struct side s, const char *text) {
    char buf[64];
    PT_EQ(pica_writer_write(s.writer, text, strlen(text)), 0);
    if (PT_EQ(pica_reader_readexactly(s.reader, buf, strlen(text), NULL), 0)) {
        PT_EQ(memcmp(buf, text, strlen(text)), 0);
    }
}

static void expect_end(struct side s) {
    char byte;
    PT_EQ(pica_reader_read(s.reader, &byte, 1), 0);
}

static void end_server(pica_server *server) {
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    PT_EQ(pica_server_connections(server), 0);
    pica_server_release(server);
}

static void serve_some(pica_server *server) {
    enum { CLIENTS = 20 };
    struct side clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(server);
    }
    for (int i = 0; i < CLIENTS; i++) {
        expect_echo(clients[i], "hello");
    }
    PT_EQ(pica_server_connections(server), CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        expect_echo(clients[i], "again");
        PT_EQ(pica_writer_write_eof(clients[i].writer), 0);
        expect_end(clients[i]);
        end_side(clients[i]);
    }
    end_server(server);
}

TASK_TEST(ipv4) {
    (void)arg;
    pica_server *server;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    serve_some(server);
    return 0;
}

TASK_TEST(ipv6) {
    (void)arg;
    pica_server *server;
    int rc = pica_start_server(&server, "::1", 0, echo_handler, NULL, NULL);
    if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) {
        PT_SKIP("no IPv6 here");
    }
    PT_REQUIRE(rc == 0);
    serve_some(server);
    return 0;
}

/* All interfaces: IPv4 reaches the server, whether it listens on IPv6 or not. */
TASK_TEST(all_interfaces) {
    (void)arg;
    pica_server *server;
    pica_address address;
    struct side s;
    PT_REQUIRE(pica_start_server(&server, NULL, 0, echo_handler, NULL, NULL) == 0);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_REQUIRE(pica_open_connection("127.0.0.1", pica_address_port(&address), 0, &s.reader,
                                    &s.writer) == 0);
    expect_echo(s, "hello");
    end_side(s);
    end_server(server);
    return 0;
}

static void unix_path(char path[64], const char *name) {
    snprintf(path, 64, "/tmp/pica-test-%d-%s", (int)getpid(), name);
    unlink(path);
}

static bool exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

TASK_TEST(unix_file) {
    (void)arg;
    pica_server *server;
    char path[64];
    struct stat st;
    unix_path(path, "file");
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.unix_mode = 0620;
    PT_REQUIRE(pica_start_unix_server(&server, path, echo_handler, NULL, &options) == 0);
    PT_EQ(lstat(path, &st), 0);
    PT_EQ(st.st_mode & 0777, 0620);
    serve_some(server);
    PT_CHECK(!exists(path));
    return 0;
}

TASK_TEST(unix_abstract) {
    (void)arg;
    pica_server *server;
    char name[64];
    snprintf(name, sizeof name, "@pica-test-%d", (int)getpid());
    PT_REQUIRE(pica_start_unix_server(&server, name, echo_handler, NULL, NULL) == 0);
    serve_some(server);
    return 0;
}

/* A file that a dead server left is replaced; a live server's or a file of another kind is not;
 * and what has taken our file's place is left alone. */
TASK_TEST(unix_files_of_others) {
    (void)arg;
    pica_server *server, *second;
    char path[64], away[64];
    unix_path(path, "others");
    unix_path(away, "away");

    PT_REQUIRE(pica_start_unix_server(&server, path, echo_handler, NULL, NULL) == 0);
    PT_EQ(pica_start_unix_server(&second, path, echo_handler, NULL, NULL), -EADDRINUSE);
    PT_CHECK(exists(path));
    PT_EQ(rename(path, away), 0);
    end_server(server);
    PT_CHECK(exists(away));

    /* What was moved away is now a socket file that nobody listens on. */
    PT_REQUIRE(pica_start_unix_server(&server, away, echo_handler, NULL, NULL) == 0);
    PT_EQ(unlink(away), 0);
    int fd = open(away, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    PT_CHECK(fd >= 0);
    close(fd);
    end_server(server);
    PT_CHECK(exists(away));
    PT_EQ(pica_start_unix_server(&server, away, echo_handler, NULL, NULL), -EADDRINUSE);
    PT_CHECK(exists(away));
    PT_EQ(unlink(away), 0);
    return 0;
}

TASK_TEST(bad_arguments) {
    (void)arg;
    pica_server *server;
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    PT_EQ(pica_start_server(&server, "nonsense", 0, echo_handler, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server(&server, "127.0.0.1", 65536, echo_handler, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server(&server, "127.0.0.1", 0, NULL, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server(NULL, "127.0.0.1", 0, echo_handler, NULL, NULL), -EINVAL);
    options.size--;
    PT_EQ(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, &options), -EINVAL);
    PT_EQ(pica_start_unix_server(&server, "/no/such/place/s", echo_handler, NULL, NULL), -ENOENT);
    pica_server_release(NULL);
    return 0;
}

/* The port is ours alone, although our loops share it; and it is free again afterwards. */
TASK_TEST(port_is_exclusive) {
    (void)arg;
    pica_server *server, *second;
    pica_address address;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    unsigned port = pica_address_port(&address);
    PT_CHECK(port != 0);
    PT_EQ(pica_start_server(&second, "127.0.0.1", port, echo_handler, NULL, NULL), -EADDRINUSE);
    struct side s = connect_to(server);
    expect_echo(s, "still here");
    end_side(s);
    end_server(server);
    PT_EQ(pica_start_server(&second, "127.0.0.1", port, echo_handler, NULL, NULL), 0);
    end_server(second);
    return 0;
}

/* --- placement ------------------------------------------------------------------------------ */

#define LOOPS_MAX 64

static atomic_int on_loop[LOOPS_MAX];

static int counting_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    unsigned i = pica_loop_index(pica_task_loop(pica_current_task()));
    PT_REQUIRE(i < LOOPS_MAX);
    atomic_fetch_add(&on_loop[i], 1);
    return echo_handler(reader, writer, arg);
}

static int rescued(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_REQUIRE(pica_runtime_get_stats(pica_current_runtime(), &stats) == 0);
    return (int)stats.rescued;
}

static void expect_even(pica_server *server) {
    enum { CLIENTS = 64 };
    struct side clients[CLIENTS];
    int before = rescued();
    for (int i = 0; i < LOOPS_MAX; i++) {
        atomic_store(&on_loop[i], 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(server);
        PT_EQ(pica_yield(), 0); /* or this worker were stuck itself */
    }
    for (int i = 0; i < CLIENTS; i++) {
        expect_echo(clients[i], "x");
    }
    unsigned workers = pica_runtime_workers(pica_current_runtime());
    int least = CLIENTS, most = 0;
    for (unsigned i = 0; i < workers; i++) {
        int n = atomic_load(&on_loop[i]);
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    /* A worker that the system holds up gets none of what others accept in its stead. */
    int held_up = rescued() - before;
    PT_CHECK(most - least <= 2 + held_up);
    for (int i = 0; i < CLIENTS; i++) {
        end_side(clients[i]);
    }
    end_server(server);
}

TASK_TEST(placement_is_even) {
    (void)arg;
    pica_server *server;
    char name[64];
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, counting_handler, NULL, NULL) == 0);
    expect_even(server);
    /* With one listener for all, everything comes in on one loop. */
    snprintf(name, sizeof name, "@pica-test-even-%d", (int)getpid());
    PT_REQUIRE(pica_start_unix_server(&server, name, counting_handler, NULL, NULL) == 0);
    expect_even(server);
    return 0;
}

/* --- ends ----------------------------------------------------------------------------------- */

static int wait_closed(void *arg) {
    return pica_server_wait_closed(arg);
}

TASK_TEST(wait_closed_waits_for_both) {
    (void)arg;
    pica_server *server;
    pica_task *before, *cancelled, *after;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    PT_REQUIRE(pica_create_task(&before, wait_closed, server) == 0);
    PT_REQUIRE(pica_create_task(&cancelled, wait_closed, server) == 0);
    struct side s = connect_to(server);
    expect_echo(s, "one");
    pica_task_cancel(cancelled);
    PT_EQ(pica_join(cancelled, NULL), PICA_ECANCELED);
    pica_server_close(server);
    pica_server_close(server);
    PT_REQUIRE(pica_create_task(&after, wait_closed, server) == 0);
    /* Closing leaves open connections alone. */
    expect_echo(s, "two");
    PT_EQ(pica_future_done(PICA_FUTURE(before)), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(after)), 0);
    end_side(s);
    PT_EQ(pica_join(before, NULL), 0);
    PT_EQ(pica_join(after, NULL), 0);
    PT_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    return 0;
}

/* Whoever was connected when the server closed is served. */
TASK_TEST(close_takes_the_established) {
    (void)arg;
    enum { CLIENTS = 50 };
    for (int round = 0; round < 5; round++) {
        pica_server *server;
        struct side clients[CLIENTS];
        PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = connect_to(server);
        }
        pica_server_close(server);
        for (int i = 0; i < CLIENTS; i++) {
            expect_echo(clients[i], "hello");
        }
        pica_address address;
        pica_socket *late;
        PT_EQ(pica_server_address(server, &address), 0);
        for (int i = 0; i < CLIENTS; i++) {
            end_side(clients[i]);
        }
        PT_EQ(pica_server_wait_closed(server), 0);
        PT_EQ(pica_connect(&late, &address), -ECONNREFUSED);
        pica_server_release(server);
    }
    return 0;
}

TASK_TEST(cancel_clients) {
    (void)arg;
    enum { CLIENTS = 20 };
    pica_server *server;
    struct side clients[CLIENTS];
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(server);
        if (i % 2 == 0) {
            expect_echo(clients[i], "x");
        }
    }
    pica_server_close(server);
    for (int i = 1; i < CLIENTS; i += 2) {
        expect_echo(clients[i], "x");
    }
    pica_server_cancel_clients(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    PT_EQ(pica_server_connections(server), 0);
    for (int i = 0; i < CLIENTS; i++) {
        expect_end(clients[i]);
        end_side(clients[i]);
    }
    pica_server_cancel_clients(server);
    pica_server_release(server);
    return 0;
}

/* Also a connection whose task has not started is told to end. */
TASK_TEST(cancel_clients_at_once) {
    (void)arg;
    enum { CLIENTS = 30 };
    for (int round = 0; round < 20; round++) {
        pica_server *server;
        struct side clients[CLIENTS];
        PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = connect_to(server);
        }
        while (pica_server_connections(server) < CLIENTS) {
            PT_EQ(pica_yield(), 0);
        }
        pica_server_cancel_clients(server);
        pica_server_close(server);
        PT_EQ(pica_server_wait_closed(server), 0);
        for (int i = 0; i < CLIENTS; i++) {
            expect_end(clients[i]);
            end_side(clients[i]);
        }
        pica_server_release(server);
    }
    return 0;
}

static int big_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    (void)reader;
    char *all = malloc(BIG);
    PT_REQUIRE(all != NULL);
    for (size_t i = 0; i < BIG; i++) {
        all[i] = (char)pattern(i);
    }
    PT_EQ(pica_writer_write(writer, all, BIG), 0);
    free(all);
    return arg == NULL ? 0 : pica_writer_drain(writer);
}

/* What a handler left behind is sent, and the server waits for that. */
TASK_TEST(end_of_handler_sends_what_is_pending) {
    (void)arg;
    pica_server *server;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, big_handler, NULL, NULL) == 0);
    struct side s = connect_to(server);
    char first;
    PT_EQ(pica_reader_readexactly(s.reader, &first, 1, NULL), 0);
    PT_EQ((unsigned char)first, pattern(0));
    pica_server_close(server);
    pica_task *waiting;
    PT_REQUIRE(pica_create_task(&waiting, wait_closed, server) == 0);
    /* Time in which a server that does not wait for the rest would end. */
    PT_EQ(pica_sleep(0.02), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(waiting)), 0);
    PT_EQ(pica_server_connections(server), 1);
    size_t total = 1;
    for (;;) {
        const char *data;
        ssize_t n = pica_reader_peek(s.reader, &data);
        PT_CHECK(n >= 0);
        if (n <= 0) {
            break;
        }
        for (ssize_t i = 0; i < n; i++) {
            PT_REQUIRE((unsigned char)data[i] == pattern(total + (size_t)i));
        }
        total += (size_t)n;
        PT_EQ(pica_reader_consume(s.reader, (size_t)n), 0);
    }
    PT_EQ(total, BIG);
    PT_EQ(pica_join(waiting, NULL), 0);
    end_side(s);
    pica_server_release(server);
    return 0;
}

/* A peer that never reads cannot hold back a server that cancels: neither in the handler's drain,
 * nor in the flush after the handler. */
TASK_TEST(cancel_beats_a_stuck_peer) {
    static int drain = 1;
    (void)arg;
    for (int k = 0; k < 2; k++) {
        pica_server *server;
        void *how = k == 0 ? &drain : NULL;
        PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, big_handler, how, NULL) == 0);
        struct side s = connect_to(server);
        char first;
        PT_EQ(pica_reader_readexactly(s.reader, &first, 1, NULL), 0);
        pica_server_close(server);
        pica_server_cancel_clients(server);
        PT_EQ(pica_server_wait_closed(server), 0);
        pica_server_release(server);
        end_side(s);
    }
    return 0;
}

static int failing_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    char byte;
    (void)arg;
    PT_EQ(pica_reader_readexactly(reader, &byte, 1, NULL), 0);
    PT_EQ(pica_writer_write(writer, "bye", 3), 0);
    return -EPROTO;
}

TASK_TEST(failed_handler_closes) {
    (void)arg;
    pica_server *server;
    char buf[3];
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, failing_handler, NULL, NULL) == 0);
    struct side s = connect_to(server);
    PT_EQ(pica_writer_write(s.writer, "x", 1), 0);
    PT_EQ(pica_reader_readexactly(s.reader, buf, 3, NULL), 0);
    expect_end(s);
    end_side(s);
    end_server(server);
    return 0;
}

/* The end of the runtime takes everything with it. */
TASK_TEST(end_of_run_with_open_connections) {
    (void)arg;
    pica_server *server;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    struct side a = connect_to(server);
    struct side b = connect_to(server);
    expect_echo(a, "x");
    end_side(a);
    end_side(b);
    pica_server_release(server);
    return 0;
}

static int leave_server_main(void *arg) {
    PT_REQUIRE(pica_start_server(arg, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    struct side a = connect_to(*(pica_server **)arg);
    expect_echo(a, "x");
    end_side(a);
    return 0;
}

/* One that nobody closed does not hold the end up. */
PT_TEST(end_of_run_with_open_server) {
    struct timespec begin, end;
    pica_server *server = NULL;
    PT_EQ(clock_gettime(CLOCK_MONOTONIC, &begin), 0);
    PT_EQ(pica_run(leave_server_main, &server), 0);
    PT_EQ(clock_gettime(CLOCK_MONOTONIC, &end), 0);
    PT_CHECK(end.tv_sec - begin.tv_sec < 5); /* the grace for tasks that do not end is 10 s */
    pica_server_release(server);
}

static int end_server_main(void *arg) {
    (void)arg;
    pica_server *server;
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, echo_handler, NULL, NULL) == 0);
    end_server(server);
    return 0;
}

PT_TEST(start_and_end_many_times) {
    for (int i = 0; i < 50; i++) {
        PT_EQ(pica_run(end_server_main, NULL), 0);
    }
}

/* A plain client that comes again and again until it is refused; each visit is served whole. */
struct visitor {
    pthread_t thread;
    struct sockaddr_in to;
    atomic_int visits;
};

static int visit(int fd, const struct sockaddr_in *to) {
    char buf[5];
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) {
        return errno;
    }
    if (send(fd, "hello", 5, MSG_NOSIGNAL) != 5 || recv(fd, buf, 5, MSG_WAITALL) != 5) {
        return errno == 0 ? ENODATA : errno;
    }
    return 0;
}

static void *visitor_run(void *arg) {
    struct visitor *v = arg;
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        PT_REQUIRE(fd >= 0);
        rc = visit(fd, &v->to);
        close(fd);
        atomic_fetch_add(&v->visits, rc == 0);
    }
    PT_EQ(rc, ECONNREFUSED);
    return NULL;
}

/* Closing while clients come: each is served or refused, none is reset. The address is this process's
 * own, so that a late SYN cannot reach somebody who got the port next. */
TASK_TEST(close_resets_nobody) {
    (void)arg;
    char host[32];
    unsigned pid = (unsigned)getpid();
    snprintf(host, sizeof host, "127.%u.%u.%u", 1 + (pid >> 16) % 200, (pid >> 8) % 256, pid % 256);
    for (int round = 0; round < 6; round++) {
        pica_server *server;
        pica_address address;
        struct visitor visitors[2] = {0};
        PT_REQUIRE(pica_start_server(&server, host, 0, echo_handler, NULL, NULL) == 0);
        PT_REQUIRE(pica_server_address(server, &address) == 0);
        for (int i = 0; i < 2; i++) {
            memcpy(&visitors[i].to, &address.storage, sizeof visitors[i].to);
            PT_REQUIRE(pthread_create(&visitors[i].thread, NULL, visitor_run, &visitors[i]) == 0);
        }
        for (int i = 0; i < 2; i++) {
            while (atomic_load(&visitors[i].visits) < 10 + round) {
                PT_EQ(pica_sleep(1e-3), 0);
            }
        }
        end_server(server);
        for (int i = 0; i < 2; i++) {
            PT_EQ(pthread_join(visitors[i].thread, NULL), 0);
        }
    }
    return 0;
}

PT_MAIN()
