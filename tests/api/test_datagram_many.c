/* Datagrams by the batch; multicast; and endpoints without memory, in callbacks, and at the runtime's end. */
#include <pica.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/datagrams.h"
#include "tests/support/short_memory.h"

/* --- batches --- */

enum { BATCH = 300 };

struct batch {
    struct pica_datagram all[BATCH];
    char buffers[BATCH][8];
};

static struct batch *batch_new(void) {
    struct batch *b = calloc(1, sizeof *b);
    PT_REQUIRE(b != NULL);
    for (int i = 0; i < BATCH; i++) {
        b->all[i].buffer = b->buffers[i];
        b->all[i].size = sizeof b->buffers[i];
    }
    return b;
}

static unsigned send_all(endpoint *e, struct pica_datagram *all, unsigned n) {
    unsigned sent = 0;
    while (sent < n) {
        int rc = pica_datagram_send_many(e, all + sent, n - sent);
        if (!PT_CHECK(rc > 0)) {
            break;
        }
        sent += (unsigned)rc;
    }
    return sent;
}

/* Numbers go over in batches of all sizes and come in order, with their sender. */
static void go_over(endpoint *a, endpoint *b, const pica_address *to) {
    struct batch *out = batch_new(), *in = batch_new();
    pica_address a_name = name_of(a);
    for (unsigned size = 1; size <= BATCH; size = size * 3 + 1) {
        for (unsigned i = 0; i < size; i++) {
            out->all[i].length = i % 9; /* also empty ones */
            memset(out->buffers[i], (int)(i + size), 8);
            out->all[i].address = *to;
        }
        PT_EQ(send_all(a, out->all, size), size);
        for (unsigned got = 0; got < size;) {
            int n = pica_datagram_recv_many(b, in->all, BATCH);
            PT_REQUIRE(n > 0 && got + (unsigned)n <= size);
            for (unsigned i = 0; i < (unsigned)n; i++, got++) {
                PT_EQ(in->all[i].length, got % 9);
                PT_EQ(in->all[i].flags, 0);
                PT_EQ(memcmp(in->buffers[i], out->buffers[got], got % 9), 0);
                PT_EQ(pica_address_port(&in->all[i].address), pica_address_port(&a_name));
                PT_EQ(in->all[i].address.length, a_name.length);
            }
        }
    }
    free(out);
    free(in);
}

TASK_TEST(batches) {
    (void)arg;
    endpoint *a = open_on("127.0.0.1"), *b = open_on("127.0.0.1"), *c;
    pica_address to = name_of(b), nobody = {.length = 0};
    struct batch *none = batch_new();
    go_over(a, b, &to);
    PT_EQ(pica_datagram_recv_many(b, none->all, 0), 0);
    PT_EQ(pica_datagram_send_many(b, none->all, 0), 0);
    PT_EQ(pica_datagram_send_many(b, none->all, 2), -EDESTADDRREQ);
    PT_REQUIRE(pica_datagram_open(&c, NULL, &to, NULL) == 0);
    go_over(c, b, &nobody);
    free(none);
    pica_datagram_release(a);
    pica_datagram_release(b);
    pica_datagram_release(c);
    return 0;
}

/* A batch stops at what cannot be sent; then that is told. */
TASK_TEST(batch_with_faults) {
    (void)arg;
    static char big[70000];
    endpoint *a = open_on("127.0.0.1"), *b = open_on("127.0.0.1");
    struct batch *out = batch_new();
    for (int i = 0; i < 5; i++) {
        out->all[i].length = 1;
        out->all[i].address = name_of(b);
    }
    out->all[2].length = 9; /* longer than its buffer */
    PT_EQ(pica_datagram_send_many(a, out->all, 5), 2);
    PT_EQ(pica_datagram_send_many(a, out->all + 2, 3), -EINVAL);
    out->all[2].buffer = big;
    out->all[2].length = out->all[2].size = sizeof big;
    PT_EQ(pica_datagram_send_many(a, out->all, 5), 2);
    PT_EQ(pica_datagram_send_many(a, out->all + 2, 3), -EMSGSIZE);
    PT_EQ(pica_datagram_send_many(a, out->all + 3, 2), 2);
    unsigned got = 0;
    while (got < 6) {
        int n = pica_datagram_recv_many(b, out->all, 2);
        PT_REQUIRE(n > 0);
        got += (unsigned)n;
    }
    PT_EQ(got, 6);
    free(out);
    pica_datagram_release(a);
    pica_datagram_release(b);
    return 0;
}

static void batch_truncated(endpoint *a, endpoint *b, const pica_address *to) {
    struct batch *in = batch_new();
    for (int length = 7; length <= 9; length++) {
        PT_EQ(pica_datagram_send(a, "123456789", (size_t)length, to), 0);
    }
    int got = pica_datagram_recv_many(b, in->all, 4);
    PT_EQ(got, 3);
    for (int i = 0; i < got; i++) {
        PT_EQ(in->all[i].length, 7 + i);
        PT_EQ(in->all[i].flags, i == 2 ? PICA_DATAGRAM_TRUNCATED : 0);
        PT_EQ(memcmp(in->buffers[i], "12345678", i == 0 ? 7 : 8), 0);
    }
    free(in);
}

TASK_TEST(truncated_in_a_batch) {
    (void)arg;
    endpoint *a = open_on("127.0.0.1"), *b = open_on("127.0.0.1"), *c, *d;
    pica_address to = name_of(b), from;
    batch_truncated(a, b, &to);
    pica_datagram_release(a);
    pica_datagram_release(b);
    char name[64];
    snprintf(name, sizeof name, "@pica-many-%d", (int)getpid());
    PT_REQUIRE(pica_address_unix(&to, name) == 0);
    PT_REQUIRE(pica_datagram_open(&c, &to, NULL, NULL) == 0);
    PT_REQUIRE(pica_datagram_open(&d, NULL, &to, NULL) == 0);
    batch_truncated(d, c, NULL);
    /* A sender without an address. */
    struct batch *in = batch_new();
    from = in->all[0].address = ip("127.0.0.1", 1);
    PT_EQ(pica_datagram_send(d, "x", 1, NULL), 0);
    PT_EQ(pica_datagram_recv_many(c, in->all, 1), 1);
    PT_CHECK(from.length != 0);
    PT_EQ(in->all[0].address.length, 0);
    PT_EQ(in->all[0].address.storage.ss_family, AF_UNSPEC);
    free(in);
    pica_datagram_release(c);
    pica_datagram_release(d);
    return 0;
}

/* A short batch is believed to be all: what comes later must wake the receiver all the same. */
struct ball {
    endpoint *e;
    int rounds;
};

static int returns(void *arg) {
    struct ball *ball = arg;
    struct batch *b = batch_new();
    int rc = 0;
    for (int i = 0; i < ball->rounds && rc >= 0; i++) {
        rc = pica_datagram_recv_many(ball->e, b->all, BATCH);
        rc = rc < 0 ? rc : pica_datagram_send_many(ball->e, b->all, (unsigned)rc);
    }
    free(b);
    return rc < 0 ? rc : 0;
}

TASK_TEST(back_and_forth) {
    (void)arg;
    struct ball ball = {open_on("127.0.0.1"), 2000};
    pica_address to = name_of(ball.e);
    endpoint *e;
    PT_REQUIRE(pica_datagram_open(&e, NULL, &to, NULL) == 0);
    pica_task *task = spawn(returns, &ball);
    for (int i = 0; i < ball.rounds; i++) {
        int got = -1;
        PT_EQ(pica_datagram_send(e, &i, sizeof i, NULL), 0);
        PT_EQ(pica_datagram_recv(e, &got, sizeof got, NULL, NULL), sizeof got);
        PT_EQ(got, i);
    }
    PT_EQ(pica_join(task, NULL), 0);
    pica_datagram_release(e);
    pica_datagram_release(ball.e);
    return 0;
}

static int receive_many(void *arg) {
    char buffer[8];
    struct pica_datagram one = {buffer, sizeof buffer, 0, 0, {.length = 0}};
    return pica_datagram_recv_many(arg, &one, 1);
}

/* Steps of all tasks while the main task sleeps: others that wait make none. */
static uint64_t steps_meanwhile(void) {
    struct pica_runtime_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &before), 0);
    PT_EQ(pica_sleep(0.02), 0);
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &after), 0);
    return after.steps - before.steps;
}

static int receive_twice(void *arg) {
    int rc = receive_many(arg);
    PT_EQ(rc, 1);
    char byte;
    return (int)pica_datagram_recv(arg, &byte, 1, NULL, NULL);
}

static int fills(void *arg) {
    int rc;
    do {
        rc = pica_datagram_send(arg, "x", 1, NULL);
    } while (rc == 0);
    return rc;
}

/* Who waits does not run in circles: neither receivers, in line or not, before and after something came, nor
 * senders to a full peer. */
TASK_TEST(waiting_is_idle) {
    (void)arg;
    enum { TASKS = 3 };
    endpoint *e = open_on("127.0.0.1"), *a = open_on("127.0.0.1"), *full, *sender;
    pica_address to = name_of(e);
    char name[64];
    pica_task *tasks[2 * TASKS];
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = spawn(receive_twice, e);
    }
    PT_EQ(pica_sleep(0.005), 0);
    PT_CHECK(steps_meanwhile() < 20);
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_datagram_send(a, "x", 1, &to), 0);
    }
    PT_EQ(pica_sleep(0.005), 0);
    PT_CHECK(steps_meanwhile() < 20);
    snprintf(name, sizeof name, "@pica-full-%d", (int)getpid());
    PT_REQUIRE(pica_address_unix(&to, name) == 0);
    PT_REQUIRE(pica_datagram_open(&full, &to, NULL, NULL) == 0);
    PT_REQUIRE(pica_datagram_open(&sender, NULL, &to, NULL) == 0);
    for (int i = TASKS; i < 2 * TASKS; i++) {
        tasks[i] = spawn(fills, sender);
    }
    PT_EQ(pica_sleep(0.005), 0);
    PT_CHECK(steps_meanwhile() < 20);
    pica_datagram_close(e);
    pica_datagram_close(sender);
    for (int i = 0; i < 2 * TASKS; i++) {
        PT_EQ(pica_join(tasks[i], NULL), PICA_ECLOSED);
    }
    pica_datagram_release(e);
    pica_datagram_release(a);
    pica_datagram_release(sender);
    pica_datagram_release(full);
    return 0;
}

/* Batches and single receives stand in one line. */
TASK_TEST(batch_in_line) {
    (void)arg;
    endpoint *e = open_on("127.0.0.1"), *a = open_on("127.0.0.1");
    pica_address to = name_of(e);
    pica_task *tasks[4];
    for (int i = 0; i < 4; i++) {
        tasks[i] = spawn(receive_many, e);
    }
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_sleep(0.001), 0);
    PT_EQ(pica_task_cancel(tasks[1]), 1);
    PT_EQ(pica_join(tasks[1], NULL), PICA_ECANCELED);
    PT_EQ(pica_datagram_send(a, "x", 1, &to), 0);
    PT_EQ(pica_datagram_send(a, "y", 1, &to), 0);
    PT_EQ(pica_datagram_send(a, "z", 1, &to), 0);
    PT_EQ(pica_join(tasks[0], NULL), 1);
    PT_EQ(pica_join(tasks[2], NULL), 1);
    PT_EQ(pica_join(tasks[3], NULL), 1);
    pica_datagram_release(a);
    pica_datagram_release(e);
    return 0;
}

/* --- multicast --- */

static bool hears(endpoint *e, const char *text) {
    char buffer[16];
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, text == NULL ? 0.01 : 5.0 * pt_time_scale()), 0);
    int n = pica_timeout_exit(&t, (int)pica_datagram_recv(e, buffer, sizeof buffer, NULL, NULL));
    return text == NULL ? n == PICA_ETIMEDOUT
                        : n == (int)strlen(text) && memcmp(buffer, text, (size_t)n) == 0;
}

static int option_of(endpoint *e, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    PT_EQ(pica_datagram_getopt(e, level, name, &value, &length), 0);
    return value;
}

/* Joins on an interface where sending works too; 0 if there is none. Nothing leaves the machine: by the time
 * to live. */
static unsigned find_interface(endpoint *member, endpoint *sender, const pica_address *group) {
    PT_EQ(pica_datagram_set_multicast_ttl(sender, 0), 0);
    for (unsigned i = 1; i < 16; i++) {
        if (pica_datagram_join(member, group, i) == 0) {
            if (pica_datagram_set_multicast_interface(sender, i) == 0 &&
                pica_datagram_send(sender, "probe", 5, group) == 0) {
                return i;
            }
            PT_EQ(pica_datagram_leave(member, group, i), 0);
        }
    }
    return 0;
}

static void multicast(const char *any, const char *group_text, const char *no_group) {
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    pica_address local = ip(any, 0);
    endpoint *member, *second, *outside, *sender;
    options.reuse_addr = 1;
    options.v6only = 1;
    if (pica_datagram_open(&member, &local, NULL, &options) != 0) {
        PT_SKIP("no IPv6");
    }
    local = name_of(member);
    pica_address group = ip(group_text, pica_address_port(&local)), wrong = ip(no_group, 0);
    PT_REQUIRE(pica_datagram_open(&second, &local, NULL, &options) == 0);
    outside = open_on(any);
    sender = open_on(any);
    unsigned interface = find_interface(member, sender, &group);
    if (interface == 0) {
        PT_SKIP("the kernel refuses multicast");
    }
    PT_CHECK(hears(member, "probe"));
    PT_EQ(pica_datagram_join(member, &group, interface), -EADDRINUSE);
    PT_EQ(pica_datagram_join(member, &wrong, interface), -EINVAL);
    PT_EQ(pica_datagram_join(second, &group, interface), 0);
    PT_EQ(pica_datagram_send(sender, "all", 3, &group), 0);
    PT_CHECK(hears(member, "all"));
    PT_CHECK(hears(second, "all"));
    PT_CHECK(hears(outside, NULL));
    PT_EQ(pica_datagram_set_multicast_loop(sender, 0), 0);
    bool six = group.storage.ss_family == AF_INET6;
    int level = six ? IPPROTO_IPV6 : IPPROTO_IP;
    PT_EQ(option_of(sender, level, six ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP), 0);
    PT_EQ(pica_datagram_set_multicast_loop(sender, 1), 0);
    PT_EQ(pica_datagram_set_multicast_ttl(sender, 7), 0);
    PT_EQ(option_of(sender, level, six ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL), 7);
    PT_EQ(pica_datagram_set_multicast_ttl(sender, 256), -EINVAL);
    PT_EQ(pica_datagram_set_multicast_ttl(sender, -1), -EINVAL);
    PT_EQ(pica_datagram_set_ttl(sender, 9), 0);
    PT_EQ(option_of(sender, level, six ? IPV6_UNICAST_HOPS : IP_TTL), 9);
    PT_EQ(pica_datagram_set_ttl(sender, 0), -EINVAL);
    PT_EQ(pica_datagram_set_multicast_ttl(sender, 0), 0);
    PT_EQ(pica_datagram_leave(member, &group, interface), 0);
    PT_EQ(pica_datagram_leave(member, &group, interface), -EADDRNOTAVAIL);
    PT_EQ(pica_datagram_leave(second, &group, interface), 0);
    PT_EQ(pica_datagram_send(sender, "none", 4, &group), 0);
    PT_CHECK(hears(second, NULL));
    pica_datagram_release(member);
    pica_datagram_release(second);
    pica_datagram_release(outside);
    pica_datagram_release(sender);
}

TASK_TEST(multicast_ipv4) {
    (void)arg;
    multicast("0.0.0.0", "239.192.7.1", "127.0.0.1");
    return 0;
}

TASK_TEST(multicast_ipv6) {
    (void)arg;
    multicast("::", "ff01::7:1", "::1");
    return 0;
}

/* --- no memory --- */

static endpoint *left_open;

static int without_memory(void *arg) {
    char byte = 'x';
    struct pica_datagram one = {&byte, 1, 1, 0, {.length = 0}};
    pica_address local = ip("127.0.0.1", 0);
    endpoint *e = NULL;
    (void)arg;
    atomic_store(&fail_in, 1);
    PT_EQ(pica_datagram_open(&e, &local, NULL, NULL), -ENOMEM);
    PT_EQ(atomic_load(&fail_in), 0);
    PT_EQ(e == NULL, 1);
    PT_REQUIRE(pica_datagram_open(&e, &local, NULL, NULL) == 0);
    one.address = name_of(e);
    /* The worker's scratch memory, which no batch has asked for yet. */
    atomic_store(&fail_in, 1);
    PT_EQ(pica_datagram_send_many(e, &one, 1), -ENOMEM);
    PT_EQ(atomic_load(&fail_in), 0);
    atomic_store(&fail_in, 1);
    PT_EQ(pica_datagram_recv_many(e, &one, 1), -ENOMEM);
    PT_EQ(atomic_load(&fail_in), 0);
    PT_EQ(pica_datagram_send_many(e, &one, 1), 1);
    PT_EQ(pica_datagram_recv_many(e, &one, 1), 1);
    pica_datagram_release(e);
    PT_REQUIRE(pica_datagram_open(&left_open, &local, NULL, NULL) == 0);
    return 0;
}

/* Also: what is open when the runtime ends is closed by it (the harness looks at descriptors), and the
 * memory goes with the user's close. */
PT_TEST(no_memory_and_left_open) {
    struct pica_runtime_options options = short_of_memory();
    options.workers = 1; /* which allocates in its tasks and between them */
    PT_EQ(pica_run_opts(without_memory, NULL, &options), 0);
    PT_CHECK(atomic_load(&live_bytes) > 0);
    pica_datagram_release(left_open);
    PT_EQ(atomic_load(&live_bytes), 0);
}

/* --- the runtime's end --- */

static int waits_for_ever(void *arg) {
    char byte;
    int rc = (int)pica_datagram_recv(arg, &byte, 1, NULL, NULL);
    PT_EQ(rc, PICA_ECANCELED);
    /* While the runtime ends endpoints can be used. */
    endpoint *own = open_on("127.0.0.1");
    pica_address self = name_of(own);
    PT_EQ(pica_datagram_send(arg, "x", 1, &self), 0);
    PT_EQ(pica_datagram_recv(own, &byte, 1, NULL, NULL), 1);
    pica_datagram_release(own);
    return rc;
}

static int leaves_receivers(void *arg) {
    (void)arg;
    left_open = open_on("127.0.0.1");
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_create_task(NULL, waits_for_ever, left_open), 0);
    }
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

PT_TEST(receivers_at_the_end) {
    PT_EQ(pica_run(leaves_receivers, NULL), 0);
    pica_datagram_release(left_open);
}

/* --- callbacks --- */

static void in_callback(void *arg) {
    pica_address local = ip("127.0.0.1", 0);
    char byte = 0;
    struct pica_datagram one = {&byte, 1, 1, 0, {.length = 0}};
    endpoint *e = NULL;
    PT_EQ(pica_datagram_open(&e, &local, NULL, NULL), 0);
    PT_EQ(pica_datagram_recv(e, &byte, 1, NULL, NULL), PICA_ENOTASK);
    PT_EQ(pica_datagram_send(e, &byte, 1, &local), PICA_ENOTASK);
    PT_EQ(pica_datagram_recv_many(e, &one, 1), PICA_ENOTASK);
    PT_EQ(pica_datagram_send_many(e, &one, 1), PICA_ENOTASK);
    PT_EQ(pica_datagram_send_many(e, &one, 0), PICA_ENOTASK);
    pica_datagram_release(e);
    signal_future(arg);
}

TASK_TEST(callbacks) {
    (void)arg;
    pica_future *done = new_future();
    PT_EQ(pica_call_soon(in_callback, done, NULL), 0);
    PT_EQ(pica_await(done, NULL), 0);
    pica_future_unref(done);
    return 0;
}

PT_MAIN()
