/* Servers by name: a listener for each address that a host has. No network beyond this machine's own: the names are
 * those of a getaddrinfo of our own, which the library calls since a program's symbols come first. It passes on to
 * the C library what it does not know. */
#include <pica.h>

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/procfs.h"
#include "tests/support/short_memory.h"
#include "tests/support/tasks.h"

/* --- the stand-in --- */

static sem_t entered; /* "slow.test" is being asked for */
static sem_t go;      /* it may be answered */
static atomic_int asked;

typedef int (*get_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* The answers for several numeric hosts, one behind the other, as one list. */
static int chain(get_fn real, const char *const hosts[], const char *service,
                 const struct addrinfo *hints, struct addrinfo **found) {
    struct addrinfo **end = found;
    for (int i = 0; hosts[i] != NULL; i++) {
        int rc = real(hosts[i], service, hints, end);
        PT_REQUIRE(rc == 0);
        while (*end != NULL) {
            end = &(*end)->ai_next;
        }
    }
    return 0;
}

__attribute__((visibility("default"))) int getaddrinfo(const char *host, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found) {
    static const char *const both[] = {"127.0.0.1", "::1", "127.0.0.1", "::1", NULL};
    static const char *const absent[] = {"198.51.100.1", "127.0.0.1", NULL}; /* none of ours, and one */
    static const char *const nowhere[] = {"198.51.100.1", "203.0.113.1", NULL};
    static const char *const two[] = {"127.0.0.1", "127.0.0.2", NULL};
    static const char *const any[] = {"0.0.0.0", "::", NULL};
    get_fn real = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    atomic_fetch_add(&asked, 1);
    if (host == NULL) {
        return real(host, service, hints, found);
    }
    if (strcmp(host, "slow.test") == 0) {
        sem_post(&entered);
        while (sem_wait(&go) != 0) {
        }
        return chain(real, both, service, hints, found);
    }
    const char *const *hosts = strcmp(host, "both.test") == 0      ? both
                               : strcmp(host, "absent.test") == 0  ? absent
                               : strcmp(host, "nowhere.test") == 0 ? nowhere
                               : strcmp(host, "any.test") == 0     ? any
                               : strcmp(host, "two.test") == 0     ? two
                                                                   : NULL;
    return hosts != NULL ? chain(real, hosts, service, hints, found)
                         : real(host, service, hints, found);
}

/* --- helpers --- */

static bool have_ipv6(void) {
    pica_address address;
    PT_REQUIRE(pica_address_ip(&address, "::1", 0) == 0);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool have = fd >= 0 && bind(fd, (struct sockaddr *)&address.storage, address.length) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return have;
}

static int echo(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *data;
    ssize_t n;
    (void)arg;
    while ((n = pica_reader_peek(reader, &data)) > 0) {
        PT_EQ(pica_writer_write(writer, data, (size_t)n), 0);
        PT_EQ(pica_reader_consume(reader, (size_t)n), 0);
    }
    return (int)n;
}

static pica_socket *connect_to(const pica_address *address) {
    pica_socket *socket = NULL;
    PT_REQUIRE(pica_connect(&socket, address) == 0);
    return socket;
}

static void expect_echo(pica_socket *socket) {
    char back[4] = "";
    PT_EQ(pica_sendall(socket, "ping", 4), 0);
    for (size_t got = 0; got < sizeof back;) {
        ssize_t n = pica_recv(socket, back + got, sizeof back - got);
        PT_REQUIRE(n > 0);
        got += (size_t)n;
    }
    PT_EQ(memcmp(back, "ping", 4), 0);
}

static void expect_service(const pica_address *address) {
    pica_socket *socket = connect_to(address);
    expect_echo(socket);
    pica_socket_close(socket);
}

static void end_server(pica_server *server) {
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
}

/* What listens on this machine and is ours. */
static int listeners(void) {
    int n = 0;
    for (int fd = 3; fd < 1024; fd++) {
        int on = 0;
        socklen_t size = sizeof on;
        n += getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on != 0;
    }
    return n;
}

static int workers(void) {
    return (int)pica_runtime_workers(pica_current_runtime());
}

/* A port that is free on both families, as far as anybody can know. */
static unsigned free_port(void) {
    pica_server *server = NULL;
    pica_address address;
    PT_REQUIRE(pica_start_server(&server, NULL, 0, echo, NULL, NULL) == 0);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    end_server(server);
    return pica_address_port(&address);
}

/* A server on a port that was free just now. */
static pica_server *start_at(const char *host, unsigned *port) {
    pica_server *server = NULL;
    int rc = -EADDRINUSE;
    for (int i = 0; i < 20 && rc == -EADDRINUSE; i++) { /* others take ports of this machine, too */
        *port = free_port();
        rc = pica_start_server_host(&server, host, *port, echo, NULL, NULL);
    }
    PT_REQUIRE(rc == 0);
    return server;
}

/* --- addresses --- */

/* Whatever this machine calls localhost. */
TASK_TEST(localhost) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address[8];
    PT_REQUIRE(pica_start_server_host(&server, "localhost", 0, echo, NULL, NULL) == 0);
    unsigned n = pica_server_addresses(server, address, 8);
    PT_REQUIRE(n >= 1 && n <= 8);
    PT_EQ(listeners(), (int)n * workers());
    for (unsigned i = 0; i < n; i++) {
        PT_CHECK(pica_address_port(&address[i]) != 0);
        for (int k = 0; k < 20; k++) {
            expect_service(&address[i]);
        }
    }
    end_server(server);
    PT_EQ(listeners(), 0);
    return 0;
}

/* Both families on one port, addresses that come twice counted once. */
TASK_TEST(both_families) {
    (void)arg;
    if (!have_ipv6()) {
        PT_SKIP("there is no IPv6");
    }
    pica_address address[3], first;
    unsigned port;
    pica_server *server = start_at("both.test", &port);
    memset(address, 0, sizeof address);
    PT_EQ(pica_server_addresses(server, address, 0), 2);
    PT_EQ(pica_server_addresses(server, address, 1), 2);
    PT_EQ(address[1].length, 0);
    PT_EQ(pica_server_addresses(server, address, 3), 2);
    PT_EQ(address[0].storage.ss_family, AF_INET);
    PT_EQ(address[1].storage.ss_family, AF_INET6);
    PT_EQ(pica_address_port(&address[0]), port);
    PT_EQ(pica_address_port(&address[1]), port);
    PT_EQ(pica_server_address(server, &first), 0);
    PT_EQ(memcmp(&first, &address[0], sizeof first), 0);
    PT_EQ(listeners(), 2 * workers());
    pica_socket *a = connect_to(&address[0]), *b = connect_to(&address[1]);
    expect_echo(a);
    expect_echo(b);
    PT_EQ(pica_server_connections(server), 2); /* those of both */
    for (int i = 0; i < 40; i++) {
        expect_service(&address[i % 2]);
    }
    pica_server_close(server);
    pica_server_close_clients(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    pica_socket_close(a);
    pica_socket_close(b);
    return 0;
}

/* Port 0: each its own. */
TASK_TEST(port_0) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address[2];
    PT_REQUIRE(pica_start_server_host(&server, "two.test", 0, echo, NULL, NULL) == 0);
    PT_EQ(pica_server_addresses(server, address, 2), 2);
    PT_CHECK(pica_address_port(&address[0]) != 0);
    PT_CHECK(pica_address_port(&address[1]) != 0);
    for (int i = 0; i < 10; i++) {
        expect_service(&address[i % 2]);
    }
    end_server(server);
    return 0;
}

static void serves_all_interfaces(pica_server *server) {
    pica_address address, local;
    PT_EQ(pica_server_addresses(server, &address, 1), 1);
    for (int i = 0; i < 2; i++) {
        if (i == 0 || have_ipv6()) {
            const char *host = i == 0 ? "127.0.0.1" : "::1";
            PT_REQUIRE(pica_address_ip(&local, host, pica_address_port(&address)) == 0);
            expect_service(&local);
        }
    }
    end_server(server);
}

TASK_TEST(all_interfaces_and_numbers) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address;
    atomic_store(&asked, 0);
    PT_REQUIRE(pica_start_server_host(&server, NULL, 0, echo, NULL, NULL) == 0);
    serves_all_interfaces(server);
    PT_REQUIRE(pica_start_server_host(&server, "", 0, echo, NULL, NULL) == 0);
    serves_all_interfaces(server);
    PT_REQUIRE(pica_start_server_host(&server, "127.0.0.1", 0, echo, NULL, NULL) == 0);
    PT_EQ(pica_server_address(server, &address), 0);
    PT_EQ(address.storage.ss_family, AF_INET);
    expect_service(&address);
    end_server(server);
    PT_EQ(atomic_load(&asked), 0);
    return 0;
}

/* "0.0.0.0" and "::" by name: one port for both, since IPv6 takes IPv6 alone. */
TASK_TEST(all_interfaces_by_name) {
    (void)arg;
    if (!have_ipv6()) {
        PT_SKIP("there is no IPv6");
    }
    unsigned port;
    pica_address local;
    pica_server *server = start_at("any.test", &port);
    PT_EQ(pica_server_addresses(server, NULL, 0), 2);
    PT_REQUIRE(pica_address_ip(&local, "::1", port) == 0);
    expect_service(&local);
    PT_REQUIRE(pica_address_ip(&local, "127.0.0.1", port) == 0);
    expect_service(&local);
    end_server(server);
    return 0;
}

/* An address that is not ours is passed over; if there is no other it is the error. */
TASK_TEST(absent_addresses) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address[2];
    PT_REQUIRE(pica_start_server_host(&server, "absent.test", 0, echo, NULL, NULL) == 0);
    PT_EQ(pica_server_addresses(server, address, 2), 1);
    expect_service(&address[0]);
    end_server(server);
    PT_EQ(pica_start_server_host(&server, "nowhere.test", 0, echo, NULL, NULL), -EADDRNOTAVAIL);
    PT_CHECK(server == NULL);
    PT_EQ(pica_start_server_host(&server, "198.51.100.1", 0, echo, NULL, NULL), -EADDRNOTAVAIL);
    PT_CHECK(server == NULL);
    return 0;
}

/* --- lists --- */

TASK_TEST(lists) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address[4];
    pica_addrinfo info[5];
    memset(info, 0, sizeof info);
    for (int i = 0; i < 4; i++) {
        info[i].next = &info[i + 1];
    }
    PT_REQUIRE(pica_address_ip(&info[0].address, "127.0.0.3", 0) == 0);
    info[0].type = SOCK_DGRAM; /* not for us */
    PT_REQUIRE(pica_address_unix(&info[1].address, "@not-for-us") == 0);
    PT_REQUIRE(pica_address_ip(&info[2].address, "127.0.0.2", 0) == 0);
    PT_REQUIRE(pica_address_ip(&info[3].address, "127.0.0.3", 0) == 0);
    info[3].type = SOCK_STREAM;
    info[4].address = info[2].address;
    PT_REQUIRE(pica_start_server_list(&server, info, echo, NULL, NULL) == 0);
    PT_EQ(pica_server_addresses(server, address, 4), 2);
    PT_EQ(listeners(), 2 * workers());
    expect_service(&address[0]);
    expect_service(&address[1]);
    end_server(server);
    info[1].next = NULL;
    PT_EQ(pica_start_server_list(&server, info, echo, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server_list(&server, NULL, echo, NULL, NULL), -EINVAL);
    return 0;
}

/* --- errors --- */

static void fails_whole(const char *host, unsigned port, int expected, const char *text) {
    pica_server *server = NULL;
    int before = listeners();
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_start_server_host(&server, host, port, echo, NULL, NULL), expected);
        PT_CHECK(server == NULL);
        PT_EQ(listeners(), before); /* at once */
        PT_REQUIRE(pica_current_error() != NULL);
        PT_CHECK(strstr(pica_error_message(pica_current_error()), text) != NULL);
    }
}

TASK_TEST(port_in_use) {
    (void)arg;
    unsigned port;
    char name[64];
    pica_server *server = start_at("localhost", &port);
    pica_server *second = NULL;
    snprintf(name, sizeof name, "127.0.0.1:%u", port);
    fails_whole("localhost", port, -EADDRINUSE, "could not listen on ");
    fails_whole("two.test", port, -EADDRINUSE, name);
    pica_addrinfo list[3]; /* the last one fails: those before it go as well */
    memset(list, 0, sizeof list);
    list[0].next = &list[1];
    list[1].next = &list[2];
    PT_REQUIRE(pica_address_ip(&list[0].address, "127.0.0.3", port) == 0);
    PT_REQUIRE(pica_address_ip(&list[1].address, "127.0.0.2", port) == 0);
    PT_REQUIRE(pica_address_ip(&list[2].address, "127.0.0.1", port) == 0);
    int before = listeners();
    PT_EQ(pica_start_server_list(&second, list, echo, NULL, NULL), -EADDRINUSE);
    PT_CHECK(second == NULL);
    PT_EQ(listeners(), before);
    list[1].next = NULL;
    PT_REQUIRE(pica_start_server_list(&second, list, echo, NULL, NULL) == 0); /* the ports are free */
    PT_EQ(listeners(), before + 2 * workers());
    end_server(second);
    PT_EQ(listeners(), before);
    end_server(server);
    second = NULL;
    PT_REQUIRE(pica_start_server_host(&second, "localhost", port, echo, NULL, NULL) == 0);
    end_server(second);
    return 0;
}

TASK_TEST(unknown_host) {
    (void)arg;
    pica_server *server = NULL;
    int rc = pica_start_server_host(&server, "no.such.host.invalid", 0, echo, NULL, NULL);
    PT_CHECK(rc == PICA_EAI_NONAME || rc == PICA_EAI_AGAIN || rc == PICA_EAI_FAIL);
    PT_REQUIRE(pica_current_error() != NULL);
    PT_CHECK(strstr(pica_error_message(pica_current_error()), "no.such.host.invalid") != NULL);
    PT_CHECK(server == NULL);
    return 0;
}

TASK_TEST(bad_arguments) {
    (void)arg;
    pica_server *server = NULL;
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    atomic_store(&asked, 0);
    PT_EQ(pica_start_server_host(&server, "localhost", 65536, echo, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server_host(&server, "localhost", 0, NULL, NULL, NULL), -EINVAL);
    PT_EQ(pica_start_server_host(NULL, "localhost", 0, echo, NULL, NULL), -EINVAL);
    options.backlog = -1;
    PT_EQ(pica_start_server_host(&server, "localhost", 0, echo, NULL, &options), -EINVAL);
    PT_EQ(atomic_load(&asked), 0); /* before the look-up */
    PT_CHECK(server == NULL);
    return 0;
}

PT_TEST(outside_of_tasks) {
    pica_server *server = NULL;
    pica_addrinfo one;
    memset(&one, 0, sizeof one);
    PT_REQUIRE(pica_address_ip(&one.address, "127.0.0.1", 0) == 0);
    PT_EQ(pica_start_server_host(&server, "localhost", 0, echo, NULL, NULL), PICA_ENOTASK);
    PT_EQ(pica_start_server_host(&server, "127.0.0.1", 0, echo, NULL, NULL), PICA_ENOTASK);
    PT_EQ(pica_start_server_host(&server, NULL, 0, echo, NULL, NULL), PICA_ENOTASK);
    PT_EQ(pica_start_server_list(&server, &one, echo, NULL, NULL), PICA_ENOTASK);
}

/* --- cancellation --- */

static int serves_slowly(void *arg) {
    pica_server *server = NULL;
    int rc = pica_start_server_host(&server, arg, 0, echo, NULL, NULL);
    PT_CHECK((rc == 0) == (server != NULL));
    if (rc == 0) {
        end_server(server);
    }
    return rc;
}

static char slow[] = "slow.test";
static char number[] = "127.0.0.1";

TASK_TEST(cancelled_during_the_look_up) {
    (void)arg;
    PT_REQUIRE(sem_init(&entered, 0, 0) == 0);
    PT_REQUIRE(sem_init(&go, 0, 0) == 0);
    pica_task *task = spawn(serves_slowly, slow);
    while (sem_trywait(&entered) != 0) {
        PT_REQUIRE(pica_sleep(0.0005) == 0);
    }
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    PT_EQ(listeners(), 0);
    PT_EQ(sem_post(&go), 0); /* what it finds now is nobody's */
    PT_EQ(sem_post(&go), 0);
    task = spawn(serves_slowly, slow); /* and the same unhindered */
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(listeners(), 0);
    return 0;
}

static int cancelled_at_entry(void *arg) {
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(serves_slowly(arg), PICA_ECANCELED);
    return pica_checkpoint();
}

TASK_TEST(cancelled_before) {
    (void)arg;
    atomic_store(&asked, 0);
    PT_EQ(pica_join(spawn(cancelled_at_entry, slow), NULL), 0);
    PT_EQ(pica_join(spawn(cancelled_at_entry, number), NULL), 0);
    PT_EQ(pica_join(spawn(cancelled_at_entry, NULL), NULL), 0);
    PT_EQ(atomic_load(&asked), 0);
    return 0;
}

/* --- limits --- */

enum { LIMIT = 2, CLIENTS = 24 };
static atomic_int inside, most;

static int counting_echo(pica_reader *reader, pica_writer *writer, void *arg) {
    int now = atomic_fetch_add(&inside, 1) + 1;
    int seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) {
    }
    int rc = echo(reader, writer, arg);
    atomic_fetch_sub(&inside, 1);
    return rc;
}

static int client(void *arg) {
    for (int i = 0; i < 5; i++) {
        expect_service(arg);
    }
    return 0;
}

/* A limit counts the connections of all addresses together, and none of them is forgotten at it. */
TASK_TEST(limit) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address[2];
    pica_task *task[CLIENTS];
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.max_connections = LIMIT;
    atomic_store(&most, 0);
    PT_REQUIRE(pica_start_server_host(&server, "two.test", 0, counting_echo, NULL, &options) == 0);
    PT_EQ(pica_server_addresses(server, address, 2), 2);
    PT_EQ(listeners(), 2); /* one for each address */
    for (int i = 0; i < CLIENTS; i++) {
        task[i] = spawn(client, &address[i % 2]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    PT_CHECK(atomic_load(&most) <= LIMIT);
    PT_CHECK(atomic_load(&most) > 0);
    end_server(server);
    return 0;
}

/* While one connection holds the only place, clients of both addresses wait; each gets it in the end. */
TASK_TEST(limit_of_one) {
    (void)arg;
    pica_server *server = NULL;
    pica_address address[2];
    pica_socket *waiting[4];
    struct pica_server_options options = PICA_SERVER_OPTIONS_INIT;
    options.max_connections = 1;
    PT_REQUIRE(pica_start_server_host(&server, "two.test", 0, echo, NULL, &options) == 0);
    PT_EQ(pica_server_addresses(server, address, 2), 2);
    pica_socket *first = connect_to(&address[0]);
    expect_echo(first);
    for (int i = 0; i < 4; i++) {
        waiting[i] = connect_to(&address[i % 2]);
    }
    for (int i = 0; i < 3; i++) {
        expect_echo(first);
        PT_EQ(pica_server_connections(server), 1);
    }
    pica_socket_close(first);
    for (int i = 0; i < 4; i++) { /* whose turn it is, is the server's choice: all go on together */
        PT_EQ(pica_sendall(waiting[i], "ping", 4), 0);
        PT_EQ(pica_socket_shutdown(waiting[i], SHUT_WR), 0);
    }
    for (int i = 0; i < 4; i++) {
        char back[8];
        ssize_t n, got = 0;
        while ((n = pica_recv(waiting[i], back, sizeof back)) > 0) {
            got += n;
        }
        PT_EQ(n, 0);
        PT_EQ(got, 4);
        pica_socket_close(waiting[i]);
    }
    end_server(server);
    return 0;
}

/* --- nothing left to be had --- */

static int has_no_descriptors(void *arg) {
    (void)arg;
    pica_server *server = NULL;
    struct rlimit all, few;
    PT_REQUIRE(getrlimit(RLIMIT_NOFILE, &all) == 0);
    int next = dup(0);
    PT_REQUIRE(next >= 0);
    close(next);
    bool done = false;
    int failed = 0;
    for (int spare = 0; !done; spare++) {
        few = (struct rlimit){(rlim_t)next + (rlim_t)spare, all.rlim_max};
        PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
        int rc = pica_start_server_host(&server, "two.test", 0, echo, NULL, NULL);
        PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &all) == 0);
        done = rc == 0;
        PT_CHECK(done || rc == -EMFILE);
        PT_CHECK(done || listeners() == 0);
        PT_CHECK(done == (server != NULL));
        failed += !done;
    }
    PT_CHECK(failed >= 2 * workers()); /* each socket, and each number that was taken before */
    end_server(server);
    return 0;
}

PT_TEST(no_descriptors) {
    PT_EQ(pica_run(has_no_descriptors, NULL), 0);
}

static int has_no_memory(void *arg) {
    (void)arg;
    PT_EQ(serves_slowly(number), 0);
    bool hit = true;
    int failed = 0;
    for (long i = 1; hit; i++) {
        pica_server *server = NULL;
        atomic_store(&fail_in, i);
        int rc = pica_start_server_host(&server, "two.test", 0, echo, NULL, NULL);
        hit = atomic_exchange(&fail_in, 0) == 0;
        PT_CHECK(rc == -ENOMEM || rc == 0);
        PT_CHECK((rc == 0) == (server != NULL));
        failed += rc < 0;
        if (rc == 0) {
            end_server(server);
        }
        PT_EQ(pica_yield(), 0);
    }
    PT_CHECK(failed >= 3 + 2 * workers()); /* the look-up, its result, the server, the sockets */
    return 0;
}

PT_TEST(no_memory) {
    struct pica_runtime_options options = short_of_memory();
    PT_EQ(pica_run_opts(has_no_memory, NULL, &options), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
}

/* A runtime that ends closes what is open. */
static int leaves_it_open(void *arg) {
    PT_REQUIRE(pica_start_server_host(arg, "two.test", 0, echo, NULL, NULL) == 0);
    return 0;
}

PT_TEST(end_of_run) {
    for (int i = 0; i < 5; i++) {
        pica_server *server = NULL;
        PT_EQ(pica_run(leaves_it_open, &server), 0);
        PT_EQ(listeners(), 0);
        pica_server_release(server);
    }
}

PT_MAIN()
