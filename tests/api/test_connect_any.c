/* Connecting to one of several addresses, and to hosts by name. Hosts that do not answer are played by
 * listeners of this machine whose queue is full. */
#include <pica.h>

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/procfs.h"
#include "tests/support/short_memory.h"
#include "tests/support/tasks.h"

/* --- connecting --- */

/* Makes lists by hand. */
struct hosts {
    pica_addrinfo info[16];
    size_t n;
};

static void add(struct hosts *h, const pica_address *address) {
    pica_addrinfo *info = &h->info[h->n];
    PT_REQUIRE(h->n < 16);
    memset(info, 0, sizeof *info);
    info->address = *address;
    info->type = SOCK_STREAM;
    if (h->n++ > 0) {
        info[-1].next = info;
    }
}

static pica_socket *listens(const char *host, int backlog, pica_address *address) {
    pica_socket *listener = NULL;
    struct pica_listen_options o = PICA_LISTEN_OPTIONS_INIT;
    o.backlog = backlog;
    PT_REQUIRE(pica_address_ip(address, host, 0) == 0);
    int rc = pica_listen(&listener, address, &o);
    if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) {
        PT_SKIP("there is no IPv6");
    }
    PT_REQUIRE(rc == 0);
    PT_REQUIRE(pica_socket_name(listener, address) == 0);
    return listener;
}

/* An address that refuses: somebody has it and does not listen. Returns the descriptor that has it. */
static int refuses(const char *host, pica_address *address) {
    PT_REQUIRE(pica_address_ip(address, host, 0) == 0);
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address->storage, address->length) != 0) {
        PT_SKIP("there is no IPv6");
    }
    PT_REQUIRE(getsockname(fd, (struct sockaddr *)&address->storage, &address->length) == 0);
    return fd;
}

/* A listener that takes nobody and whose queue is full: connecting to it hangs, as to a host that drops what
 * it gets. */
struct hole {
    pica_address address;
    pica_socket *listener;
    pica_socket *fill[8];
    size_t n;
};

static void hole_open(struct hole *hole, const char *host) {
    hole->listener = listens(host, 1, &hole->address);
    hole->n = 0;
    int rc = 0;
    while (rc == 0 && hole->n < 8) {
        pica_timeout t;
        PT_REQUIRE(pica_timeout_enter(&t, 0.1) == 0);
        rc = pica_timeout_exit(&t, pica_connect(&hole->fill[hole->n], &hole->address));
        hole->n += rc == 0;
    }
    PT_EQ(rc, PICA_ETIMEDOUT);
}

static void hole_close(struct hole *hole) {
    for (size_t i = 0; i < hole->n; i++) {
        pica_socket_close(hole->fill[i]);
    }
    pica_socket_close(hole->listener);
}

static void connected_to(pica_socket *socket, const pica_address *address) {
    pica_address peer;
    PT_EQ(pica_socket_peer(socket, &peer), 0);
    PT_EQ(pica_address_port(&peer), pica_address_port(address));
    PT_EQ(peer.storage.ss_family, address->storage.ss_family);
    pica_socket_close(socket);
}

static uint64_t sockets_open(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
    return stats.sockets;
}

/* Sockets are closed by their loops, a little later: waits until as many are left as there were. */
static void until_closed(uint64_t sockets, long fds) {
    while (sockets_open() > sockets || procfs_fds() > fds) {
        PT_REQUIRE(pica_sleep(0.0005) == 0);
    }
    PT_EQ(sockets_open(), sockets);
    PT_EQ(procfs_fds(), fds);
}

/* An hour between attempts: what follows a failure at once does not depend on it. */
static struct pica_connect_options patient(void) {
    struct pica_connect_options o = PICA_CONNECT_OPTIONS_INIT;
    o.delay = 3600;
    return o;
}

TASK_TEST(next_one_at_once_after_a_failure) {
    (void)arg;
    struct hosts h = {.n = 0};
    pica_address dead[3], alive;
    int fd[3];
    pica_socket *socket = NULL, *listener = listens("127.0.0.1", 0, &alive);
    struct pica_connect_options o = patient();
    for (int i = 0; i < 3; i++) {
        fd[i] = refuses(i == 1 ? "::1" : "127.0.0.1", &dead[i]);
        add(&h, &dead[i]);
    }
    add(&h, &alive);
    PT_EQ(pica_connect_any(&socket, h.info, &o), 0);
    connected_to(socket, &alive);
    PT_EQ(pica_connect_any(&socket, &h.info[3], &o), 0); /* and one alone */
    connected_to(socket, &alive);
    PT_EQ(pica_connect_any(&socket, h.info, NULL), 0);
    connected_to(socket, &alive);
    for (int i = 0; i < 3; i++) {
        close(fd[i]);
    }
    pica_socket_close(listener);
    return 0;
}

TASK_TEST(first_one_wins) {
    (void)arg;
    struct hosts h = {.n = 0};
    pica_address first, second;
    pica_socket *socket = NULL;
    pica_socket *a = listens("::1", 0, &first), *b = listens("127.0.0.1", 0, &second);
    add(&h, &first);
    add(&h, &second);
    struct pica_connect_options o = patient();
    PT_EQ(pica_connect_any(&socket, h.info, &o), 0);
    connected_to(socket, &first);
    pica_socket_close(a);
    pica_socket_close(b);
    return 0;
}

/* A host that does not answer: the next is tried after the delay, and no earlier; the hanging attempt is
 * closed when the other has won. */
TASK_TEST(delay) {
    (void)arg;
    struct hosts h = {.n = 0};
    struct hole hole;
    pica_address alive;
    pica_socket *socket = NULL, *listener = listens("127.0.0.1", 0, &alive);
    hole_open(&hole, "::1");
    add(&h, &hole.address);
    add(&h, &alive);
    uint64_t before = sockets_open();
    long fds = procfs_fds();
    for (int i = 0; i < 2; i++) {
        struct pica_connect_options o = PICA_CONNECT_OPTIONS_INIT;
        o.delay = i == 0 ? 0 : 0.05;
        double start = pica_time();
        PT_EQ(pica_connect_any(&socket, h.info, &o), 0);
        double took = pica_time() - start;
        PT_CHECK(took >= (i == 0 ? 0.25 : 0.05));
        connected_to(socket, &alive);
        until_closed(before, fds);
    }
    hole_close(&hole);
    pica_socket_close(listener);
    return 0;
}

/* Families take turns: after the IPv6 address that hangs comes the IPv4 one, though three of IPv6 stand
 * before it. With an hour between attempts only the second can be reached: by the failure of the first. */
TASK_TEST(families_take_turns) {
    (void)arg;
    struct hosts h = {.n = 0};
    struct hole hole;
    pica_address dead, alive;
    pica_socket *socket = NULL, *listener = listens("127.0.0.1", 0, &alive);
    struct pica_connect_options o = patient();
    int fd = refuses("::1", &dead);
    hole_open(&hole, "::1");
    add(&h, &dead);
    add(&h, &hole.address);
    add(&h, &hole.address);
    add(&h, &alive);
    PT_EQ(pica_connect_any(&socket, h.info, &o), 0);
    connected_to(socket, &alive);
    close(fd);
    hole_close(&hole);
    pica_socket_close(listener);
    return 0;
}

TASK_TEST(all_fail) {
    (void)arg;
    struct hosts h = {.n = 0};
    pica_address dead[2], other;
    pica_socket *socket = NULL;
    int fd[2] = {refuses("127.0.0.1", &dead[0]), refuses("::1", &dead[1])};
    PT_REQUIRE(pica_address_ip(&other, "255.255.255.255", 80) == 0); /* ENETUNREACH or EACCES */
    add(&h, &dead[0]);
    add(&h, &dead[1]);
    PT_EQ(pica_connect_any(&socket, h.info, NULL), -ECONNREFUSED);
    PT_REQUIRE(pica_current_error() != NULL);
    const char *message = pica_error_message(pica_current_error());
    for (int i = 0; i < 2; i++) {
        char text[64];
        pica_address_format(&dead[i], text, sizeof text);
        PT_CHECK(strstr(message, text) != NULL);
    }
    PT_CHECK(socket == NULL);
    for (int i = 0; i < 12; i++) {
        add(&h, &other); /* a long story is cut */
    }
    PT_CHECK(pica_connect_any(&socket, h.info, NULL) < 0);
    PT_CHECK(strlen(pica_error_message(pica_current_error())) < 600);
    close(fd[0]);
    close(fd[1]);

    h.info[0].type = SOCK_DGRAM;
    h.info[0].next = NULL;
    PT_EQ(pica_connect_any(&socket, h.info, NULL), -EINVAL);
    struct pica_connect_options o = PICA_CONNECT_OPTIONS_INIT;
    o.delay = -1;
    PT_EQ(pica_connect_any(&socket, &h.info[1], &o), -EINVAL);
    o.delay = __builtin_nan("");
    PT_EQ(pica_connect_any(&socket, &h.info[1], &o), -EINVAL);
    return 0;
}

/* --- cancelling --- */

struct connecting {
    const pica_addrinfo *list;
    double delay;
};

static int connects(void *arg) {
    const struct connecting *c = arg;
    struct pica_connect_options o = PICA_CONNECT_OPTIONS_INIT;
    pica_socket *socket = NULL;
    o.delay = c->delay;
    int rc = pica_connect_any(&socket, c->list, &o);
    pica_socket_close(socket);
    return rc;
}

TASK_TEST(cancelled_while_several_hang) {
    (void)arg;
    struct hosts h = {.n = 0};
    struct hole hole[2];
    hole_open(&hole[0], "::1");
    hole_open(&hole[1], "127.0.0.1");
    for (int i = 0; i < 12; i++) {
        add(&h, &hole[i % 2].address);
    }
    uint64_t before = sockets_open();
    long fds = procfs_fds();
    for (int i = 0; i < 10; i++) {
        struct connecting c = {h.info, i < 5 ? 0.0001 : 3600};
        pica_task *task = spawn(connects, &c);
        PT_EQ(pica_sleep(0.001 * i), 0);
        PT_EQ(pica_task_cancel(task), 1);
        PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
        PT_EQ(sockets_open(), before);
        PT_EQ(procfs_fds(), fds);
    }
    hole_close(&hole[0]);
    hole_close(&hole[1]);
    return 0;
}

/* Races that are won, lost and called off at the same moments: each returns a connection or says that it has
 * none, and none is left. */
TASK_TEST(storm_of_races) {
    enum { N = 60 };
    (void)arg;
    static pica_task *task[N];
    struct hosts h = {.n = 0};
    pica_address dead, alive, alive6;
    pica_socket *a = listens("127.0.0.1", 1000, &alive), *b = listens("::1", 1000, &alive6);
    int fd = refuses("127.0.0.1", &dead);
    add(&h, &dead);
    for (int i = 0; i < 4; i++) {
        add(&h, i % 2 == 0 ? &alive : &alive6);
    }
    uint64_t before = sockets_open();
    long fds = procfs_fds();
    struct connecting c = {h.info, 1e-6};
    int won = 0;
    for (int i = 0; i < N; i++) {
        task[i] = spawn(connects, &c);
        if (i >= 2) {
            (void)pica_task_cancel(task[i - 2]);
        }
        PT_EQ(pica_yield(), 0);
    }
    for (int i = 0; i < N; i++) {
        int rc = pica_join(task[i], NULL);
        won += rc == 0;
        PT_CHECK(rc == 0 || rc == PICA_ECANCELED);
    }
    PT_CHECK(won >= 2);
    until_closed(before, fds);
    close(fd);
    pica_socket_close(a);
    pica_socket_close(b);
    return 0;
}

/* No descriptors: every attempt says so. */
TASK_TEST(no_descriptors) {
    (void)arg;
    struct hosts h = {.n = 0};
    pica_address alive;
    pica_socket *socket = NULL, *listener = listens("127.0.0.1", 0, &alive);
    struct rlimit old, none;
    add(&h, &alive);
    add(&h, &alive);
    PT_REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none = old;
    none.rlim_cur = 3;
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    int rc = pica_connect_any(&socket, h.info, NULL);
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
    PT_EQ(rc, -EMFILE);
    PT_EQ(pica_connect_any(&socket, h.info, NULL), 0);
    connected_to(socket, &alive);
    pica_socket_close(listener);
    return 0;
}

/* --- streams by name --- */

static bool unknown(int rc) {
    return rc == PICA_EAI_NONAME || rc == PICA_EAI_AGAIN || rc == PICA_EAI_FAIL;
}

static int echoes(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *line;
    ssize_t n = pica_reader_readline(reader, &line);
    (void)arg;
    return n < 0 ? (int)n : pica_writer_write(writer, line, (size_t)n);
}

TASK_TEST(streams_by_name) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address;
    pica_reader *reader;
    pica_writer *writer;
    const char *line = NULL;
    PT_REQUIRE(pica_start_server(&server, NULL, 0, echoes, NULL, NULL) == 0);
    PT_EQ(pica_server_address(server, &address), 0);
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (int i = 0; i < 2; i++) {
        PT_REQUIRE(pica_open_connection(hosts[i], pica_address_port(&address), 0, &reader, &writer) ==
                   0);
        PT_EQ(pica_writer_write(writer, "hello\n", 6), 0);
        PT_EQ(pica_reader_readline(reader, &line), 6);
        pica_writer_release(writer);
    }
    PT_CHECK(unknown(pica_open_connection("no.such.host.invalid", 1, 0, &reader, &writer)));
    PT_EQ(pica_open_connection("localhost", 1, 0, NULL, NULL), -EINVAL);
    pica_server_release(server);
    return 0;
}

/* --- no memory --- */

static int has_no_memory(void *arg) {
    struct hosts h = {.n = 0};
    pica_address alive;
    pica_socket *socket = NULL, *listener = listens("127.0.0.1", 100, &alive);
    (void)arg;
    for (int i = 0; i < 3; i++) {
        add(&h, &alive);
    }
    bool hit = true;
    for (long i = 1; hit; i++) {
        atomic_store(&fail_in, i);
        int rc = pica_connect_any(&socket, h.info, NULL);
        hit = atomic_exchange(&fail_in, 0) == 0;
        PT_CHECK(rc == -ENOMEM || rc == 0); /* if it was one attempt's, the next may succeed */
        if (rc == 0) {
            pica_socket_close(socket);
        }
    }
    pica_socket_close(listener);
    return 0;
}

PT_TEST(no_memory) {
    struct pica_runtime_options options = short_of_memory();
    PT_EQ(pica_run_opts(has_no_memory, NULL, &options), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
}

PT_MAIN()
