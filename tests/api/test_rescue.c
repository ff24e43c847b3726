/* A worker that computes for a long time does not hold back who connects to its loop's listener: others accept. */
#include "tests/support/stream_pair.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

enum { CLIENTS = 24 };
static atomic_bool computing, finished, computed;
static atomic_int answered; /* while it computed */

static int handler(pica_reader *reader, pica_writer *writer, void *arg) {
    char byte;
    (void)arg;
    if (pica_reader_read(reader, &byte, 1) != 1) {
        return 0;
    }
    if (byte == 'c') {
        atomic_store(&computing, true);
        /* Until all have been answered: for ever, if nobody else accepted. */
        double end = pica_time() + 15 * pt_time_scale();
        while (!atomic_load(&finished) && pica_time() < end) {
        }
        atomic_store(&computed, true);
    }
    return pica_writer_write(writer, &byte, 1);
}

static int connect_plain(const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PT_REQUIRE(fd >= 0 && connect(fd, (const struct sockaddr *)to, sizeof *to) == 0);
    return fd;
}

static void *clients(void *arg) {
    const struct sockaddr_in *to = arg;
    char byte = 'c';
    int busy = connect_plain(to);
    PT_EQ(send(busy, &byte, 1, MSG_NOSIGNAL), 1);
    while (!atomic_load(&computing)) {
        const struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    /* One after the other; about half of them come to the stuck loop's listener if there are two. */
    for (int i = 0; i < CLIENTS; i++) {
        byte = 'x';
        int fd = connect_plain(to);
        PT_EQ(send(fd, &byte, 1, MSG_NOSIGNAL), 1);
        PT_EQ(recv(fd, &byte, 1, 0), 1);
        atomic_fetch_add(&answered, !atomic_load(&computed));
        close(fd);
    }
    atomic_store(&finished, true);
    PT_EQ(recv(busy, &byte, 1, 0), 1);
    close(busy);
    return NULL;
}

TASK_TEST(clients_of_a_stuck_loop) {
    pica_server *server;
    pica_address address;
    pthread_t thread;
    (void)arg;
    if (pica_runtime_workers(pica_current_runtime()) < 2) {
        PT_SKIP("nobody else is there");
    }
    PT_REQUIRE(pica_start_server(&server, "127.0.0.1", 0, handler, NULL, NULL) == 0);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_REQUIRE(pthread_create(&thread, NULL, clients, &address.storage) == 0);
    while (!atomic_load(&finished)) {
        PT_EQ(pica_sleep(0.05), 0);
    }
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    PT_EQ(pthread_join(thread, NULL), 0);
    PT_EQ(atomic_load(&answered), CLIENTS);
    return 0;
}

/* --- how many others take: at first no more than leaves loops even --- */

enum { AT_ONCE = 12, ROUNDS = 20 };
static _Atomic double came[AT_ONCE]; /* when, on loops other than the stuck one */
static atomic_int arrived;
static pica_event served;

static int note_arrival(pica_reader *reader, pica_writer *writer, void *arg) {
    (void)reader, (void)writer, (void)arg;
    int i = atomic_fetch_add(&arrived, 1);
    atomic_store(&came[i], pica_time());
    return pica_event_wait(&served); /* or there were room again */
}

static int client_of(const pica_address *to) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PT_REQUIRE(fd >= 0 && connect(fd, (const struct sockaddr *)&to->storage, to->length) == 0);
    return fd;
}

/* As a callback: that stays on the loop that listens. */
static void compute_until_all_came(void *arg) {
    int clients[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) {
        clients[i] = client_of(arg);
    }
    double end = pica_time() + 15 * pt_time_scale();
    while (atomic_load(&arrived) < AT_ONCE && pica_time() < end) {
    }
    for (int i = 0; i < AT_ONCE; i++) {
        close(clients[i]);
    }
    pica_event_set(&served);
}

/* How long after the first of some clients that come to a stuck loop the last is taken. */
static double last_after(const char *name, unsigned nr) {
    pica_server *server;
    pica_address address;
    char path[64];
    snprintf(path, sizeof path, "%s-%u", name, nr);
    pica_event_clear(&served);
    atomic_store(&arrived, 0);
    PT_REQUIRE(pica_start_unix_server(&server, path, note_arrival, NULL, NULL) == 0);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    PT_REQUIRE(pica_call_soon(compute_until_all_came, &address, NULL) == 0);
    PT_EQ(pica_event_wait(&served), 0);
    PT_EQ(atomic_load(&arrived), AT_ONCE);
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    return atomic_load(&came[AT_ONCE - 1]) - atomic_load(&came[0]);
}

TASK_TEST(few_at_first) {
    char name[48];
    double longest = 0;
    (void)arg;
    if (pica_runtime_workers(pica_current_runtime()) < 2) {
        PT_SKIP("nobody else is there");
    }
    pica_event_init(&served);
    snprintf(name, sizeof name, "@pica-test-few-%d", (int)getpid());
    /* Three looks, 2 ms apart, take one client for each other loop, and one more; then come all. The first may be seen
     * late, so not each round tells. */
    for (unsigned i = 0; i < ROUNDS && longest < 0.003; i++) {
        longest = last_after(name, i);
    }
    PT_CHECK(longest >= 0.003);
    return 0;
}

/* --- a chain: the one that takes what lies behind a stuck worker gets stuck, too --- */

static pica_future *gates[2];
static atomic_bool third_ran;

static bool third_runs_meanwhile(void) {
    double end = pica_time() + 5 * pt_time_scale();
    while (!atomic_load(&third_ran) && pica_time() < end) {
    }
    return atomic_load(&third_ran);
}

static int second(void *arg) {
    (void)arg;
    PT_EQ(pica_await(gates[0], NULL), 0);
    PT_EQ(pica_future_set_result(gates[1], NULL, NULL), 0);
    PT_CHECK(third_runs_meanwhile());
    return 0;
}

static int third(void *arg) {
    (void)arg;
    PT_EQ(pica_await(gates[1], NULL), 0);
    atomic_store(&third_ran, true);
    return 0;
}

TASK_TEST(work_behind_the_one_that_watched) {
    pica_task *tasks[2];
    (void)arg;
    if (pica_runtime_workers(pica_current_runtime()) < 3) {
        PT_SKIP("the third would have nobody");
    }
    PT_REQUIRE(pica_future_new(&gates[0]) == 0 && pica_future_new(&gates[1]) == 0);
    PT_REQUIRE(pica_create_task(&tasks[0], second, NULL) == 0);
    PT_REQUIRE(pica_create_task(&tasks[1], third, NULL) == 0);
    PT_EQ(pica_sleep(0.5), 0); /* so long that nobody watches any more */
    PT_EQ(pica_future_set_result(gates[0], NULL, NULL), 0);
    PT_CHECK(third_runs_meanwhile());
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
        pica_future_unref(gates[i]);
    }
    return 0;
}

PT_MAIN()
