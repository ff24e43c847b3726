/* Several tasks on one datagram endpoint: senders that wait for room, receivers in line, closing, cancellation,
 * one endpoint for each loop. */
#include <pica.h>

#include <string.h>

#include "tests/support/datagrams.h"

/* --- senders --- */

struct sends {
    endpoint *e;
    const pica_address *to;
    int count;
    atomic_int sent;
};

static int send_numbers(void *arg) {
    struct sends *s = arg;
    for (int i = 0; i < s->count; i++) {
        int rc = pica_datagram_send(s->e, &i, sizeof i, s->to);
        if (rc < 0) {
            return rc;
        }
        atomic_fetch_add(&s->sent, 1);
    }
    return 0;
}

/* More than a Unix receiver's queue holds: the sender waits, and all arrives in order. */
static void full_queue(bool by_address) {
    enum { COUNT = 300 };
    pica_address at = unix_name();
    pica_address own = unix_name();
    endpoint *receiver, *sender;
    PT_REQUIRE(pica_datagram_open(&receiver, &at, NULL, NULL) == 0);
    PT_REQUIRE(pica_datagram_open(&sender, &own, by_address ? NULL : &at, NULL) == 0);
    struct sends s = {sender, by_address ? &at : NULL, COUNT, 0};
    pica_task *task = spawn(send_numbers, &s);
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_sleep(0.001), 0); /* that it fills up, if it did not yet */
    }
    PT_CHECK(atomic_load(&s.sent) < COUNT);
    for (int i = 0; i < COUNT; i++) {
        int number = -1;
        PT_EQ(pica_datagram_recv(receiver, &number, sizeof number, NULL, NULL), sizeof number);
        PT_EQ(number, i);
    }
    PT_EQ(pica_join(task, NULL), 0);
    pica_datagram_release(receiver);
    pica_datagram_release(sender);
}

TASK_TEST(sender_waits_for_its_peer) {
    (void)arg;
    full_queue(false);
    return 0;
}

TASK_TEST(sender_waits_for_an_address) {
    (void)arg;
    full_queue(true);
    return 0;
}

/* Several senders wait in line: cancelled, closed, and served in turn. */
TASK_TEST(senders_in_line) {
    (void)arg;
    enum { COUNT = 4 };
    pica_address at = unix_name();
    endpoint *receiver, *sender;
    PT_REQUIRE(pica_datagram_open(&receiver, &at, NULL, NULL) == 0);
    PT_REQUIRE(pica_datagram_open(&sender, NULL, &at, NULL) == 0);
    struct sends s[COUNT];
    pica_task *tasks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        s[i] = (struct sends){sender, NULL, 100, 0};
        tasks[i] = spawn(send_numbers, &s[i]);
    }
    PT_EQ(pica_sleep(0.01), 0);
    PT_EQ(pica_task_cancel(tasks[0]), 1);
    PT_EQ(pica_join(tasks[0], NULL), PICA_ECANCELED);
    PT_EQ(pica_task_cancel(tasks[3]), 1);
    PT_EQ(pica_join(tasks[3], NULL), PICA_ECANCELED);
    int got = 0, number;
    while (atomic_load(&s[1].sent) + atomic_load(&s[2].sent) < 150) {
        PT_EQ(pica_datagram_recv(receiver, &number, sizeof number, NULL, NULL), sizeof number);
        got++;
    }
    pica_datagram_close(sender);
    int one = pica_join(tasks[1], NULL), two = pica_join(tasks[2], NULL);
    PT_CHECK((one == 0 && atomic_load(&s[1].sent) == 100) || one == PICA_ECLOSED);
    PT_CHECK((two == 0 && atomic_load(&s[2].sent) == 100) || two == PICA_ECLOSED);
    /* What was reported as sent is there. */
    int total = 0;
    for (int i = 0; i < COUNT; i++) {
        total += atomic_load(&s[i].sent);
    }
    for (; got < total; got++) {
        PT_EQ(pica_datagram_recv(receiver, &number, sizeof number, NULL, NULL), sizeof number);
    }
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 0.005), 0);
    PT_EQ(pica_timeout_exit(&t, (int)pica_datagram_recv(receiver, &number, 4, NULL, NULL)),
          PICA_ETIMEDOUT);
    pica_datagram_release(sender);
    pica_datagram_release(receiver);
    return 0;
}

/* --- several tasks --- */

struct receives {
    endpoint *e;
    atomic_int *counts; /* by number */
    int ended;
};

static int receive_numbers(void *arg) {
    struct receives *r = arg;
    for (;;) {
        int number[2] = {-1, -1};
        ssize_t n = pica_datagram_recv(r->e, number, sizeof number, NULL, NULL);
        if (n < 0) {
            return (int)n;
        }
        PT_EQ(n, sizeof(int));
        if (number[0] == r->ended) {
            return 0;
        }
        PT_REQUIRE(number[0] >= 0 && number[0] < r->ended);
        atomic_fetch_add(&r->counts[number[0]], 1);
    }
}

/* Each datagram goes to one of the tasks, and each task ends by one of the last ones. */
TASK_TEST(several_receivers) {
    (void)arg;
    enum { TASKS = 7, NUMBERS = 700 };
    static atomic_int counts[NUMBERS];
    endpoint *e = open_on("127.0.0.1"), *sender = open_to(e);
    struct receives r = {e, counts, NUMBERS};
    pica_task *tasks[TASKS];
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = i % 2 != 0 ? spawn_pinned((unsigned)i, receive_numbers, &r)
                              : spawn(receive_numbers, &r);
    }
    for (int i = 0; i < NUMBERS; i++) {
        PT_EQ(pica_datagram_send(sender, &i, sizeof i, NULL), 0);
        if (i % 8 == 0) {
            PT_EQ(pica_yield(), 0);
        }
        while (i >= 100 && atomic_load(&counts[i - 100]) == 0) {
            PT_EQ(pica_yield(), 0); /* or the kernel's queue overflows */
        }
    }
    for (int i = 0; i < TASKS; i++) {
        int last = NUMBERS;
        PT_EQ(pica_datagram_send(sender, &last, sizeof last, NULL), 0);
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    for (int i = 0; i < NUMBERS; i++) {
        PT_EQ(atomic_load(&counts[i]), 1);
    }
    pica_datagram_release(sender);
    pica_datagram_release(e);
    return 0;
}

static struct trace trace;

static int receive_one(void *arg) {
    char text[16] = "";
    ssize_t n = pica_datagram_recv(*(endpoint **)arg, text, sizeof text - 1, NULL, NULL);
    trace_add(&trace, pica_task_name(pica_current_task()));
    trace_add(&trace, n < 0 ? pica_err_name((int)n) : text);
    return n < 0 ? (int)n : 0;
}

static pica_task *spawn_named(const char *name, endpoint **e) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task = NULL;
    options.name = name;
    options.loop = pica_runtime_loop(pica_current_runtime(), 0);
    PT_REQUIRE(pica_create_task_opts(&task, receive_one, e, &options) == 0);
    return task;
}

/* First come, first served; who is cancelled leaves the line. */
FIFO_TEST(receivers_in_order) {
    (void)arg;
    endpoint *e = open_on("127.0.0.1"), *sender = open_to(e);
    static const char *const names[] = {"A", "B", "C", "D", "E"};
    pica_task *tasks[5];
    for (int i = 0; i < 5; i++) {
        tasks[i] = spawn_named(names[i], &e);
        turn();
    }
    PT_EQ(pica_task_cancel(tasks[0]), 1);
    PT_EQ(pica_task_cancel(tasks[2]), 1);
    for (int i = 0; i < 3; i++) {
        turn();
    }
    SEND_TEXT(sender, "1", NULL);
    SEND_TEXT(sender, "2", NULL);
    SEND_TEXT(sender, "3", NULL);
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_join(tasks[i], NULL), i == 0 || i == 2 ? PICA_ECANCELED : 0);
    }
    PT_STR_EQ(trace.text, "A ECANCELED C ECANCELED B 1 D 2 E 3");
    pica_datagram_release(sender);
    pica_datagram_release(e);
    return 0;
}

/* Closing wakes the one that waits for the kernel and those in line. */
TASK_TEST(close_with_waiters) {
    (void)arg;
    pica_task *tasks[5];
    endpoint *e = open_on("127.0.0.1");
    atomic_int counts[1] = {0};
    struct receives r = {e, counts, 1};
    for (int i = 0; i < 5; i++) {
        tasks[i] = spawn(receive_numbers, &r);
    }
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_yield(), 0);
    }
    PT_EQ(pica_sleep(0.001), 0);
    pica_datagram_close(e);
    pica_datagram_close(e);
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_join(tasks[i], NULL), PICA_ECLOSED);
    }
    /* And it stays closed. */
    char byte = 0;
    pica_address address = ip("127.0.0.1", 9);
    struct pica_datagram one = {&byte, 1, 1, 0, address};
    PT_EQ(pica_datagram_recv(e, &byte, 1, NULL, NULL), PICA_ECLOSED);
    PT_EQ(pica_datagram_send(e, &byte, 1, &address), PICA_ECLOSED);
    PT_EQ(pica_datagram_recv_many(e, &one, 1), PICA_ECLOSED);
    PT_EQ(pica_datagram_send_many(e, &one, 1), PICA_ECLOSED);
    PT_EQ(pica_datagram_name(e, &address), PICA_ECLOSED);
    PT_EQ(pica_datagram_set_ttl(e, 1), PICA_ECLOSED);
    pica_datagram_release(e);
    return 0;
}

/* Cancellations meet closing and arriving datagrams: nothing is lost and nobody is left. */
TASK_TEST(cancel_storm) {
    (void)arg;
    enum { TASKS = 6, ROUNDS = 60 };
    for (int round = 0; round < ROUNDS; round++) {
        endpoint *e = open_on("127.0.0.1"), *sender = open_to(e);
        atomic_int counts[1] = {0};
        struct receives r = {e, counts, 1};
        pica_task *tasks[TASKS];
        int zero = 0, sent = 3;
        for (int i = 0; i < TASKS; i++) {
            tasks[i] = spawn(receive_numbers, &r);
        }
        PT_EQ(pica_yield(), 0);
        for (int i = 0; i < sent; i++) {
            PT_EQ(pica_datagram_send(sender, &zero, sizeof zero, NULL), 0);
            (void)pica_task_cancel(tasks[(round + i) % TASKS]);
        }
        while (atomic_load(&counts[0]) < sent) {
            PT_EQ(pica_yield(), 0); /* three tasks are left to receive what the others did not */
        }
        if (round % 2 != 0) {
            pica_datagram_close(e);
        }
        for (int i = 0; i < TASKS; i++) {
            (void)pica_task_cancel(tasks[i]);
        }
        for (int i = 0; i < TASKS; i++) {
            int rc = pica_join(tasks[i], NULL);
            PT_CHECK(rc == PICA_ECANCELED || (round % 2 != 0 && rc == PICA_ECLOSED));
        }
        pica_datagram_release(e);
        pica_datagram_release(sender);
    }
    return 0;
}

/* A pending cancellation comes first, and takes nothing. */
TASK_TEST(cancelled_at_entry) {
    (void)arg;
    char byte;
    endpoint *e = open_on("127.0.0.1"), *sender = open_to(e);
    struct pica_datagram one = {&byte, 1, 1, 0, {.length = 0}};
    SEND_TEXT(sender, "a", NULL);
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_datagram_recv(e, &byte, 1, NULL, NULL), PICA_ECANCELED);
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_datagram_recv_many(e, &one, 1), PICA_ECANCELED);
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_datagram_send(sender, "lost", 4, NULL), PICA_ECANCELED);
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_datagram_send_many(sender, &one, 1), PICA_ECANCELED);
    SEND_TEXT(sender, "b", NULL);
    expect(e, "a");
    expect(e, "b");
    pica_datagram_release(sender);
    pica_datagram_release(e);
    return 0;
}

/* One that always has something to receive lets others run. */
static atomic_bool other_ran;

static int runs(void *arg) {
    (void)arg;
    atomic_store(&other_ran, true);
    return 0;
}

FIFO_TEST(a_flood_lets_others_run) {
    (void)arg;
    endpoint *e = open_on("127.0.0.1");
    pica_address self = name_of(e);
    pica_task *task = spawn_pinned(0, runs, NULL);
    for (int i = 0; i < 10000 && !atomic_load(&other_ran); i++) {
        SEND_TEXT(e, "x", &self);
        expect(e, "x");
    }
    PT_CHECK(atomic_load(&other_ran));
    PT_EQ(pica_join(task, NULL), 0);
    pica_datagram_release(e);
    return 0;
}

/* One endpoint for each loop on one address. */
TASK_TEST(one_for_each_loop) {
    (void)arg;
    enum { CLIENTS = 40 };
    struct pica_datagram_options options = PICA_DATAGRAM_OPTIONS_INIT;
    unsigned workers = pica_runtime_workers(pica_current_runtime());
    endpoint *e[64];
    pica_task *tasks[64];
    atomic_int counts[1] = {0};
    struct receives r[64];
    pica_address at = ip("127.0.0.1", 0);
    PT_REQUIRE(workers <= 64);
    options.reuse_port = 1;
    for (unsigned i = 0; i < workers; i++) {
        options.loop = pica_runtime_loop(pica_current_runtime(), i);
        PT_REQUIRE(pica_datagram_open(&e[i], &at, NULL, &options) == 0);
        at = name_of(e[i]);
        r[i] = (struct receives){e[i], counts, 1};
        tasks[i] = spawn_pinned(i, receive_numbers, &r[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        int zero = 0;
        endpoint *client = open_on("127.0.0.1");
        PT_EQ(pica_datagram_send(client, &zero, sizeof zero, &at), 0);
        pica_datagram_release(client);
    }
    while (atomic_load(&counts[0]) < CLIENTS) {
        PT_EQ(pica_yield(), 0);
    }
    for (unsigned i = 0; i < workers; i++) {
        pica_datagram_close(e[i]);
        PT_EQ(pica_join(tasks[i], NULL), PICA_ECLOSED);
        pica_datagram_release(e[i]);
    }
    return 0;
}

PT_MAIN()
