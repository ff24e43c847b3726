/* Datagram endpoints: whole datagrams, truncation, peers, errors, options, Unix sockets. What is sent over
 * loopback, or over a Unix socket, is there to be received when the send has returned. */
#include <pica.h>

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/datagrams.h"

/* --- one by one --- */

/* Between two endpoints that know each other by address only, and two that are connected. */
static void talk(endpoint *a, endpoint *b) {
    char buffer[64];
    pica_address from, a_name = name_of(a), b_name = name_of(b);
    SEND_TEXT(a, "one", &b_name);
    SEND_TEXT(a, "", &b_name);
    SEND_TEXT(a, "three", &b_name);
    PT_EQ(pica_datagram_recv(b, buffer, sizeof buffer, &from, NULL), 3);
    PT_EQ(memcmp(buffer, "one", 3), 0);
    same(&from, &a_name);
    PT_EQ(pica_datagram_recv(b, buffer, sizeof buffer, &from, NULL), 0);
    same(&from, &a_name);
    expect(b, "three");
    SEND_TEXT(b, "back", &from);
    expect(a, "back");
}

TASK_TEST(ipv4) {
    (void)arg;
    endpoint *a = open_on("127.0.0.1"), *b = open_on("127.0.0.1");
    talk(a, b);
    pica_datagram_release(a);
    pica_datagram_release(b);
    pica_datagram_release(NULL);
    return 0;
}

TASK_TEST(ipv6) {
    (void)arg;
    pica_address local = ip("::1", 0);
    endpoint *a, *b;
    int rc = pica_datagram_open(&a, &local, NULL, NULL);
    if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) {
        PT_SKIP("no IPv6");
    }
    PT_REQUIRE(rc == 0);
    b = open_on("::1");
    talk(a, b);
    pica_datagram_release(a);
    pica_datagram_release(b);
    return 0;
}

/* An IPv6 endpoint hears IPv4 as well, unless it was asked not to. */
TASK_TEST(v6only) {
    (void)arg;
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    pica_address any = ip(NULL, 0);
    if (any.storage.ss_family != AF_INET6) {
        PT_SKIP("no IPv6");
    }
    endpoint *both, *six, *a = open_on("127.0.0.1");
    PT_REQUIRE(pica_datagram_open(&both, &any, NULL, NULL) == 0);
    any = name_of(both);
    pica_address to = ip("127.0.0.1", pica_address_port(&any));
    SEND_TEXT(a, "four", &to);
    expect(both, "four");
    pica_datagram_release(both);

    options.v6only = 1;
    any = ip("::", 0);
    PT_REQUIRE(pica_datagram_open(&six, &any, NULL, &options) == 0);
    any = name_of(six);
    /* The port is free for IPv4. */
    to = ip("0.0.0.0", pica_address_port(&any));
    PT_EQ(pica_datagram_open(&both, &to, NULL, NULL), 0);
    pica_datagram_release(both);
    pica_datagram_release(six);
    pica_datagram_release(a);
    return 0;
}

TASK_TEST(connected) {
    (void)arg;
    endpoint *server = open_on("127.0.0.1"), *client = open_to(server);
    pica_address a = name_of(client), b, other_name = name_of(server);
    PT_EQ(pica_datagram_peer(client, &b), 0);
    same(&b, &other_name);
    PT_EQ(pica_datagram_peer(server, &b), -ENOTCONN);
    PT_EQ(pica_datagram_send(server, "x", 1, NULL), -EDESTADDRREQ);
    SEND_TEXT(client, "ask", NULL);
    expect(server, "ask");
    /* A stranger is not heard. */
    endpoint *stranger = open_on("127.0.0.1");
    SEND_TEXT(stranger, "strange", &a);
    SEND_TEXT(server, "answer", &a);
    expect(client, "answer");
    pica_datagram_release(stranger);
    pica_datagram_release(client);
    pica_datagram_release(server);
    return 0;
}

/* The whole length is told, the rest is gone, the next datagram is whole. */
static void truncation(endpoint *a, endpoint *b) {
    char buffer[8] = "xxxxxxx";
    pica_address to = name_of(b);
    unsigned flags = 99;
    SEND_TEXT(a, "0123456789", &to);
    SEND_TEXT(a, "01234567", &to);
    SEND_TEXT(a, "0123456789", &to);
    SEND_TEXT(a, "end", &to);
    PT_EQ(pica_datagram_recv(b, buffer, 4, NULL, &flags), 10);
    PT_EQ(flags, PICA_DATAGRAM_TRUNCATED);
    PT_EQ(memcmp(buffer, "0123xxx", 8), 0);
    PT_EQ(pica_datagram_recv(b, buffer, 8, NULL, &flags), 8);
    PT_EQ(flags, 0);
    PT_EQ(pica_datagram_recv(b, NULL, 0, NULL, &flags), 10);
    PT_EQ(flags, PICA_DATAGRAM_TRUNCATED);
    expect(b, "end");
}

TASK_TEST(truncated) {
    (void)arg;
    endpoint *a = open_on("127.0.0.1"), *b = open_on("127.0.0.1");
    truncation(a, b);
    pica_datagram_release(a);
    pica_datagram_release(b);
    return 0;
}

TASK_TEST(too_long) {
    (void)arg;
    static char big[65536];
    endpoint *a = open_on("127.0.0.1"), *b = open_on("127.0.0.1");
    pica_address to = name_of(b);
    PT_EQ(pica_datagram_send(a, big, 65508, &to), -EMSGSIZE);
    PT_EQ(pica_datagram_send(a, big, 65507, &to), 0);
    PT_EQ(pica_datagram_recv(b, big, sizeof big, NULL, NULL), 65507);
    to.length = 3;
    PT_EQ(pica_datagram_send(a, big, 1, &to), -EINVAL);
    pica_datagram_release(a);
    pica_datagram_release(b);
    return 0;
}

/* What nobody takes comes back as one error, and the endpoint goes on. */
TASK_TEST(refused) {
    (void)arg;
    char byte;
    endpoint *lost;
    pica_address nobody = ip("127.0.0.1", 1); /* tcpmux: nobody has it */
    PT_REQUIRE(pica_datagram_open(&lost, NULL, &nobody, NULL) == 0);
    SEND_TEXT(lost, "x", NULL);
    PT_EQ(pica_datagram_recv(lost, &byte, 1, NULL, NULL), -ECONNREFUSED);
    SEND_TEXT(lost, "x", NULL); /* the error was told: once */
    PT_EQ(pica_datagram_send(lost, "x", 1, NULL), -ECONNREFUSED);
    struct pica_datagram many[2] = {{&byte, 1, 0, 0, {.length = 0}}, {&byte, 1, 0, 0, {.length = 0}}};
    SEND_TEXT(lost, "x", NULL);
    PT_EQ(pica_datagram_recv_many(lost, many, 2), -ECONNREFUSED);
    /* And it waits again, rather than to run in circles. */
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 0.01), 0);
    PT_EQ(pica_timeout_exit(&t, (int)pica_datagram_recv(lost, &byte, 1, NULL, NULL)),
          PICA_ETIMEDOUT);
    pica_datagram_release(lost);
    return 0;
}

/* --- opening --- */

TASK_TEST(bad_arguments) {
    (void)arg;
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    pica_address four = ip("127.0.0.1", 0), six = ip("::1", 9), none = {.length = 0};
    endpoint *e = (endpoint *)&four;
    PT_EQ(pica_datagram_open(&e, NULL, NULL, NULL), -EINVAL);
    PT_EQ(pica_datagram_open(&e, &four, &six, NULL), -EINVAL);
    options.size--;
    PT_EQ(pica_datagram_open(&e, &four, NULL, &options), -EINVAL);
    options.size++;
    options.receive_buffer = -1;
    PT_EQ(pica_datagram_open(&e, &four, NULL, &options), -EINVAL);
    options.receive_buffer = 0;
    options.send_buffer = -1;
    PT_EQ(pica_datagram_open(&e, &four, NULL, &options), -EINVAL);
    PT_CHECK(pica_datagram_open(&e, &none, NULL, NULL) < 0);
    PT_EQ(e == (endpoint *)&four, 1); /* untouched */
    return 0;
}

TASK_TEST(address_in_use) {
    (void)arg;
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    endpoint *a = open_on("127.0.0.1"), *b = NULL, *c = NULL;
    pica_address at = name_of(a);
    PT_EQ(pica_datagram_open(&b, &at, NULL, NULL), -EADDRINUSE);
    options.reuse_port = 1; /* one that shares and one that does not */
    PT_EQ(pica_datagram_open(&b, &at, NULL, &options), -EADDRINUSE);
    at = ip("127.0.0.1", 0);
    PT_REQUIRE(pica_datagram_open(&b, &at, NULL, &options) == 0);
    at = name_of(b);
    PT_EQ(pica_datagram_open(&c, &at, NULL, &options), 0);
    pica_datagram_release(c);
    pica_datagram_release(b);
    pica_datagram_release(a);
    options.reuse_port = 0;
    options.reuse_addr = 1;
    at = ip("127.0.0.1", 0);
    PT_REQUIRE(pica_datagram_open(&b, &at, NULL, &options) == 0);
    at = name_of(b);
    PT_EQ(pica_datagram_open(&c, &at, NULL, &options), 0);
    pica_datagram_release(c);
    pica_datagram_release(b);
    return 0;
}

TASK_TEST(buffer_sizes_and_broadcast) {
    (void)arg;
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    pica_address local = ip("127.0.0.1", 0), all = ip("255.255.255.255", 9);
    endpoint *e, *plain = open_on("127.0.0.1");
    int value;
    socklen_t length = sizeof value;
    options.receive_buffer = 10000;
    options.send_buffer = 20000;
    options.broadcast = 1;
    PT_REQUIRE(pica_datagram_open(&e, &local, NULL, &options) == 0);
    PT_EQ(pica_datagram_getopt(e, SOL_SOCKET, SO_RCVBUF, &value, &length), 0);
    PT_EQ(value, 20000);
    PT_EQ(pica_datagram_getopt(e, SOL_SOCKET, SO_SNDBUF, &value, &length), 0);
    PT_EQ(value, 40000);
    PT_EQ(pica_datagram_getopt(e, SOL_SOCKET, SO_BROADCAST, &value, &length), 0);
    PT_EQ(value, 1);
    PT_EQ(pica_datagram_send(plain, "x", 1, &all), -EACCES);
    value = pica_datagram_send(e, "x", 1, &all);
    PT_CHECK(value != -EACCES); /* there may be no network to send it to */
    pica_datagram_release(plain);
    pica_datagram_release(e);
    return 0;
}

TASK_TEST(no_descriptors) {
    (void)arg;
    struct rlimit old, none;
    pica_address local = ip("127.0.0.1", 0);
    endpoint *e = NULL;
    PT_REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none = old;
    none.rlim_cur = 3;
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    PT_EQ(pica_datagram_open(&e, &local, NULL, NULL), -EMFILE);
    PT_EQ(e == NULL, 1);
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
    PT_EQ(pica_datagram_open(&e, &local, NULL, NULL), 0);
    pica_datagram_release(e);
    return 0;
}

/* --- Unix --- */

TASK_TEST(unix_sockets) {
    (void)arg;
    char buffer[8];
    pica_address a_name = unix_name(), b_name = unix_name(), from;
    endpoint *a, *b, *anonymous;
    PT_REQUIRE(pica_datagram_open(&a, &a_name, NULL, NULL) == 0);
    PT_REQUIRE(pica_datagram_open(&b, &b_name, NULL, NULL) == 0);
    talk(a, b);
    truncation(a, b);
    PT_REQUIRE(pica_datagram_open(&anonymous, NULL, &a_name, NULL) == 0);
    SEND_TEXT(anonymous, "who", NULL);
    from.length = 99;
    PT_EQ(pica_datagram_recv(a, buffer, sizeof buffer, &from, NULL), 3);
    PT_EQ(from.length, 0);
    PT_EQ(pica_datagram_set_ttl(a, 3), -EINVAL);
    PT_EQ(pica_datagram_join(a, &b_name, 0), -EINVAL);
    pica_datagram_release(a);
    pica_datagram_release(b);
    pica_datagram_release(anonymous);
    return 0;
}

/* A file that nobody has open any more is in nobody's way; one that somebody has is. */
TASK_TEST(unix_file) {
    (void)arg;
    char path[64];
    pica_address at;
    endpoint *a, *b;
    snprintf(path, sizeof path, "/tmp/pica-datagram-%d", (int)getpid());
    PT_REQUIRE(pica_address_unix(&at, path) == 0);
    PT_REQUIRE(pica_datagram_open(&a, &at, NULL, NULL) == 0);
    PT_EQ(pica_datagram_open(&b, &at, NULL, NULL), -EADDRINUSE);
    pica_datagram_release(a);
    int rc;
    while ((rc = pica_datagram_open(&b, &at, NULL, NULL)) == -EADDRINUSE) {
        PT_EQ(pica_yield(), 0); /* the close may be a little later */
    }
    PT_EQ(rc, 0);
    pica_datagram_release(b);
    PT_EQ(unlink(path), 0);
    return 0;
}

PT_TEST(outside_a_task) {
    pica_address local = ip("127.0.0.1", 0);
    endpoint *e = NULL;
    PT_EQ(pica_datagram_open(&e, &local, NULL, NULL), PICA_ENOTASK);
    PT_EQ(e == NULL, 1);
}

PT_MAIN()
