/* Programs under a profiler: SIGPROF comes at any instruction, on whatever stack the thread stands on, and its handler
 * walks that stack. Nothing may fail with EINTR, with SA_RESTART and without, and nothing may be lost.
 *
 * Two kinds of profilers. One by processor time (setitimer, ITIMER_PROF) interrupts those who compute. One by the
 * clock, a thread of its own that sends the signal to each other thread all the time, interrupts those who wait: the
 * workers in the kernel, threads of pools, whoever holds a lock. Each workload goes on until handlers have run on
 * workers, and on the stacks of tasks. */
#include <pica.h>

#include <errno.h>
#include <execinfo.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "runtime/base/compiler.h"
#include "tests/support/machine.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"

#define SANITIZED (PICA__TSAN || PICA__ASAN)

/* --- the profiler --- */

enum { MARKS = 64, MARK_REACH = 64 << 10, DEPTH = 64 };
/* Where tasks stand: the address of a variable of theirs, or 0. Written by tasks, read by the handler; relaxed, a
 * stale one is the address of a stack all the same. */
static _Atomic uintptr_t marks[MARKS];
/* What the handlers have seen: all calls, those on workers, on the stacks of tasks, and with frames to show for it.
 * Added by handlers, read by workloads; relaxed. */
static atomic_long ticks, on_workers, on_tasks, walked;

static bool is_on_a_task(uintptr_t here) {
    for (int i = 0; i < MARKS; i++) {
        uintptr_t mark = atomic_load_explicit(&marks[i], memory_order_relaxed);
        if (mark != 0 && here - mark + MARK_REACH < 2 * (uintptr_t)MARK_REACH) {
            return true;
        }
    }
    return false;
}

/* The handler's accesses to errno are those of its thread, one after the other. The thread sanitizer knows tasks, and
 * takes errno for something that two of them share. */
__attribute__((noinline, no_sanitize("thread"))) static int errno_get(void) {
    return errno;
}
__attribute__((noinline, no_sanitize("thread"))) static void errno_set(int value) {
    errno = value;
}

static void on_prof(int number) {
    int saved = errno_get();
    void *frames[DEPTH];
    (void)number;
    atomic_fetch_add_explicit(&ticks, 1, memory_order_relaxed);
    if (pica_current_loop() != NULL) {
        atomic_fetch_add_explicit(&on_workers, 1, memory_order_relaxed);
    }
    if (is_on_a_task((uintptr_t)(void *)frames)) {
        atomic_fetch_add_explicit(&on_tasks, 1, memory_order_relaxed);
    }
    if (backtrace(frames, DEPTH) > 2) {
        atomic_fetch_add_explicit(&walked, 1, memory_order_relaxed);
    }
    errno_set(saved);
}

static atomic_bool sending;

/* The one by the clock. */
static void *send_to_all(void *arg) {
    sigset_t set;
    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    long self = (long)syscall(SYS_gettid);
    while (atomic_load(&sending)) {
        DIR *dir = opendir("/proc/self/task");
        PT_REQUIRE(dir != NULL);
        struct dirent *e;
        while ((e = readdir(dir)) != NULL) {
            long tid = strtol(e->d_name, NULL, 10);
            if (tid > 0 && tid != self) {
                (void)syscall(SYS_tgkill, (long)getpid(), tid, (long)SIGPROF); /* it may be gone by now */
            }
        }
        closedir(dir);
        /* Its pace. With sanitizers a walk takes long, and signals must not be all that a thread has time for. */
        struct timespec pause = {0, SANITIZED ? 4000000 : 1000000};
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

struct profile {
    int flags;
    bool by_clock;
};

static void profiled(pica_fn workload, struct profile how) {
    struct sigaction action = {.sa_handler = on_prof, .sa_flags = how.flags};
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    void *frames[DEPTH];
    pthread_t sender;
    need_walks_from_anywhere();
    PT_CHECK(backtrace(frames, DEPTH) > 0); /* loads what it needs, which is no work for a handler */
    PT_REQUIRE(sigaction(SIGPROF, &action, NULL) == 0);
    atomic_store(&sending, how.by_clock);
    if (how.by_clock) {
        PT_REQUIRE(pthread_create(&sender, NULL, send_to_all, NULL) == 0);
    } else {
        PT_REQUIRE(setitimer(ITIMER_PROF, &every, NULL) == 0);
    }
    PT_EQ(pica_run(workload, NULL), 0);
    if (how.by_clock) {
        atomic_store(&sending, false);
        PT_REQUIRE(pthread_join(sender, NULL) == 0);
    } else {
        PT_REQUIRE(setitimer(ITIMER_PROF, &never, NULL) == 0);
    }
    PT_CHECK(atomic_load(&walked) > 0);
    printf("    %ld signals, %ld on workers, %ld on stacks of tasks, %ld walks\n", atomic_load(&ticks),
           atomic_load(&on_workers), atomic_load(&on_tasks), atomic_load(&walked));
}

enum { ENOUGH = SANITIZED ? 5 : 10 };

/* Whether the profiler has seen what it should; the case's time-out is the limit. */
static bool seen_enough(void) {
    return atomic_load(&on_workers) >= ENOUGH && atomic_load(&on_tasks) >= ENOUGH;
}

#define PROFILED_TEST(name)                                               \
    static int main_##name(void *arg);                                    \
    PT_TEST_TIMEOUT(name##_restart, 60) {                                 \
        profiled(main_##name, (struct profile){SA_RESTART, false});       \
    }                                                                     \
    PT_TEST_TIMEOUT(name##_interrupted, 60) {                             \
        profiled(main_##name, (struct profile){0, false});                \
    }                                                                     \
    PT_TEST_TIMEOUT(name##_by_clock_restart, 60) {                        \
        profiled(main_##name, (struct profile){SA_RESTART, true});        \
    }                                                                     \
    PT_TEST_TIMEOUT(name##_by_clock_interrupted, 60) {                    \
        profiled(main_##name, (struct profile){0, true});                 \
    }                                                                     \
    static int main_##name(void *arg)

/* --- echo --- */

enum { CLIENTS = 8, ROUNDS = SANITIZED ? 10 : 40, LARGEST = 100000 };
static atomic_long echoed;

static void mark_here(int slot, const void *here) {
    atomic_store_explicit(&marks[slot], (uintptr_t)here, memory_order_relaxed);
}

static int echo(pica_reader *reader, pica_writer *writer, void *arg) {
    const char *data;
    ssize_t n;
    (void)arg;
    while ((n = pica_reader_peek(reader, &data)) > 0) {
        atomic_fetch_add(&echoed, n);
        PT_EQ(pica_writer_write(writer, data, (size_t)n), 0);
        PT_EQ(pica_reader_consume(reader, (size_t)n), 0);
        PT_EQ(pica_writer_drain(writer), 0);
    }
    PT_EQ(n, 0);
    return 0;
}

struct client {
    unsigned port;
    int slot;
    long sent;
};

static unsigned char pattern(size_t at) {
    return (unsigned char)((at * 2654435761u) >> 13);
}

/* One message there and back. */
static void round_trip(pica_reader *reader, pica_writer *writer, size_t seed, size_t size) {
    unsigned char *message = malloc(2 * size), *back = message + size;
    PT_REQUIRE(message != NULL);
    for (size_t i = 0; i < size; i++) {
        message[i] = pattern(seed + i);
    }
    size_t got = 0;
    PT_EQ(pica_writer_write(writer, message, size), 0);
    PT_EQ(pica_reader_readexactly(reader, back, size, &got), 0);
    PT_EQ(got, size);
    PT_EQ(memcmp(message, back, size), 0);
    free(message);
}

static int client_main(void *arg) {
    struct client *c = arg;
    pica_reader *reader;
    pica_writer *writer;
    PT_REQUIRE(pica_open_connection("127.0.0.1", c->port, 0, &reader, &writer) == 0);
    mark_here(c->slot, &writer);
    for (size_t i = 0; i < ROUNDS; i++) {
        size_t size = 1 + (i * 7919 + (size_t)c->slot * 104729) % LARGEST;
        round_trip(reader, writer, i, size);
        c->sent += (long)size;
    }
    mark_here(c->slot, NULL);
    pica_writer_close(writer);
    PT_EQ(pica_writer_wait_closed(writer), 0);
    pica_writer_release(writer);
    return 0;
}

/* A server, its clients, and what both have counted. */
static void echo_once(void) {
    pica_server *server = NULL;
    pica_address address;
    pica_task *task[CLIENTS];
    struct client client[CLIENTS];
    long sent = 0;
    atomic_store(&echoed, 0);
    PT_REQUIRE(pica_start_server_host(&server, "localhost", 0, echo, NULL, NULL) == 0);
    PT_REQUIRE(pica_server_address(server, &address) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        client[i] = (struct client){pica_address_port(&address), i, 0};
        PT_REQUIRE(pica_create_task(&task[i], client_main, &client[i]) == 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        sent += client[i].sent;
    }
    pica_server_close(server);
    PT_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    PT_EQ(atomic_load(&echoed), sent);
}

PROFILED_TEST(echoes) {
    (void)arg;
    do {
        echo_once();
    } while (!seen_enough());
    return 0;
}

/* --- computing --- */

enum { LEVELS = 8, LEAF = SANITIZED ? 2000 : 20000 };

struct node {
    int level;
    int slot;
    uint64_t seed, sum;
};

static uint64_t crunch(uint64_t x) {
    for (int i = 0; i < LEAF; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

/* Either two children of half the seed's range, or a leaf. */
static int node_main(void *arg) {
    struct node *n = arg;
    mark_here(n->slot, &n);
    if (n->level == LEVELS) {
        n->sum = crunch(n->seed);
    } else {
        struct node child[2];
        pica_task *task[2];
        for (unsigned i = 0; i < 2; i++) {
            child[i] = (struct node){n->level + 1, (n->slot * 2 + (int)i + 1) % MARKS, n->seed * 2 + i, 0};
            PT_REQUIRE(pica_create_task(&task[i], node_main, &child[i]) == 0);
        }
        for (int i = 0; i < 2; i++) {
            PT_EQ(pica_join(task[i], NULL), 0);
        }
        n->sum = child[0].sum + child[1].sum;
    }
    mark_here(n->slot, NULL);
    return 0;
}

PROFILED_TEST(computes) {
    uint64_t expected = 0;
    (void)arg;
    for (uint64_t i = 1u << LEVELS; i < 2u << LEVELS; i++) {
        expected += crunch(i);
    }
    do {
        struct node root = {0, 0, 1, 0};
        pica_task *task;
        PT_REQUIRE(pica_create_task(&task, node_main, &root) == 0);
        PT_EQ(pica_join(task, NULL), 0);
        PT_EQ(root.sum, expected);
    } while (!seen_enough());
    return 0;
}

/* --- all that waits in some other way --- */

static int on_thread(void *arg) {
    return (int)(intptr_t)arg;
}

static void through_a_file(const char *path) {
    pica_file *file = NULL;
    char text[4096], back[sizeof text];
    memset(text, 'x', sizeof text);
    PT_REQUIRE(pica_file_open(&file, path, O_RDWR | O_CREAT | O_TRUNC, 0600) == 0);
    PT_EQ(pica_file_write(file, text, sizeof text), sizeof text);
    PT_EQ(pica_file_fsync(file, 1), 0);
    PT_EQ(pica_file_pread(file, back, sizeof back, 0), sizeof back);
    PT_EQ(memcmp(text, back, sizeof text), 0);
    PT_EQ(pica_file_close(file), 0);
}

static void through_a_child(void) {
    static const char *const echo_it[] = {"/bin/cat", NULL};
    struct pica_process_options options = PICA_PROCESS_OPTIONS_INIT;
    pica_process *process = NULL;
    void *out = NULL;
    size_t size = 0;
    int code = -1;
    options.in = PICA_PIPE;
    options.out = PICA_PIPE;
    PT_REQUIRE(pica_create_subprocess_exec(&process, echo_it, &options) == 0);
    PT_EQ(pica_process_communicate(process, "hello", 5, &out, &size, NULL, NULL), 0);
    PT_EQ(size, 5);
    PT_EQ(out != NULL && size == 5 ? memcmp(out, "hello", 5) : 1, 0);
    PT_EQ(pica_process_wait(process, &code), 0);
    PT_EQ(code, 0);
    free(out);
    pica_process_release(process);
}

static int waits_main(void *arg) {
    int slot = (int)(intptr_t)arg;
    char path[64];
    snprintf(path, sizeof path, "/tmp/pica-profiled-%d-%d", (int)getpid(), slot);
    mark_here(slot, &slot);
    do {
        pica_addrinfo *list = NULL;
        double begin = pica_time();
        PT_EQ(pica_sleep(0.003), 0);
        PT_CHECK(pica_time() - begin >= 0.003); /* an interrupted wait is not a shorter one */
        PT_EQ(pica_to_thread(on_thread, (void *)(intptr_t)slot), slot);
        PT_EQ(pica_getaddrinfo("localhost", "80", NULL, &list), 0);
        pica_freeaddrinfo(list);
        through_a_file(path);
        through_a_child();
        for (int i = 0; i < 10; i++) {
            (void)crunch((uint64_t)slot + 1); /* something for the profiler to find */
        }
    } while (!seen_enough());
    mark_here(slot, NULL);
    PT_EQ(unlink(path), 0);
    return 0;
}

PROFILED_TEST(waits) {
    enum { WAITERS = 4 };
    pica_task *task[WAITERS];
    (void)arg;
    for (int i = 0; i < WAITERS; i++) {
        PT_REQUIRE(pica_create_task(&task[i], waits_main, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < WAITERS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 0;
}

PT_MAIN()
