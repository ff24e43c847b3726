/* A peer that sends as fast as it is read from must not hold back the others of its loop: after a bounded number
 * of its bytes everything that came meanwhile is looked at.
 *
 * One worker. The flood lies in the kernel before it is read, so nothing makes its reader wait; and what the
 * other task waits for is sent when the worker has looked at its I/O for the last time. So how much of the flood
 * is read before the other one answers is decided by the library alone. */
#include "tests/support/stream_pair.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* What may be read before an answer. Two turns, since one may begin between the look at I/O and the other task;
 * each ends when 64 KiB were read, by a read that may bring as much. */
enum { TURN = 64 << 10, SMALL = 2 * (TURN + (4 << 10)), LARGE = 2 * (TURN + TURN), ENOUGH = 1 << 20 };

struct flood {
    pica_socket *socket; /* from here it is read, by one of the two */
    pica_reader *reader;
    size_t size;         /* what lies in the kernel */
    size_t seen;         /* what was read of it */
    size_t calls;
    pica_socket *ask, *asked; /* the other task waits for bytes in asked */
    atomic_int answers; /* by one task, looked at by the other */
    char memory[ENOUGH];
};

/* One call: what it read. */
typedef ssize_t read_fn(struct flood *f);

struct how {
    read_fn *read;
    bool stream;
    size_t bytes, calls; /* so many may come before an answer */
};

static void tcp_pair(int fds[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *at = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int much = ENOUGH; /* so that the kernel hands out much without waiting for the sender */
    PT_REQUIRE(listener >= 0);
    PT_REQUIRE(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &much, sizeof much) == 0);
    PT_REQUIRE(bind(listener, at, length) == 0 && listen(listener, 1) == 0);
    PT_REQUIRE(getsockname(listener, at, &length) == 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    PT_REQUIRE(fds[0] >= 0 && connect(fds[0], at, length) == 0);
    fds[1] = accept(listener, NULL, NULL);
    PT_REQUIRE(fds[1] >= 0);
    close(listener);
}

/* Sends until the kernel takes no more. */
static size_t fill(int fd) {
    static const char zeros[16 << 10];
    size_t size = 0;
    ssize_t n;
    while ((n = send(fd, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
        size += (size_t)n;
    }
    return size;
}

static int answers(void *arg) {
    struct flood *f = arg;
    char byte;
    ssize_t n;
    while ((n = pica_recv(f->asked, &byte, 1)) == 1) {
        atomic_fetch_add(&f->answers, 1);
    }
    return (int)n;
}

/* Asks, reads until the answer, and looks how much that was. More than once: a turn begins with each answer. */
static void ask(struct flood *f, const struct how *how) {
    for (int i = 0; i < 3; i++) {
        SEND(f->ask, "?");
        size_t seen = f->seen, called = f->calls;
        while (atomic_load(&f->answers) == i && f->seen + LARGE < f->size) {
            ssize_t n = how->read(f);
            if (!PT_CHECK(n > 0)) {
                return;
            }
            f->seen += (size_t)n;
            f->calls++;
        }
        PT_EQ(atomic_load(&f->answers), i + 1);
        if (f->seen - seen > how->bytes || f->calls - called > how->calls) {
            PT_FAIL("%zu bytes in %zu calls before the answer", f->seen - seen, f->calls - called);
        }
    }
}

static int amain(void *arg) {
    static struct flood f;
    int fds[2];
    pica_writer *writer = NULL;
    pica_task *task;
    tcp_pair(fds);
    f.size = fill(fds[0]);
    PT_REQUIRE(f.size >= ENOUGH);
    connect_unix(&f.ask, &f.asked);
    PT_REQUIRE(pica_create_task(&task, answers, &f) == 0);
    PT_EQ(pica_sleep(0.001), 0); /* it waits, and its poll is armed */
    PT_REQUIRE(pica_socket_adopt(&f.socket, fds[1]) == 0);
    const struct how *how = arg;
    if (how->stream) {
        PT_REQUIRE(pica_open_socket(f.socket, 0, &f.reader, &writer) == 0);
    }
    ask(&f, how);
    pica_socket_close(f.ask);
    PT_EQ(pica_join(task, NULL), 0);
    pica_socket_close(f.asked);
    if (writer != NULL) {
        pica_writer_release(writer);
    } else {
        pica_socket_close(f.socket);
    }
    close(fds[0]);
    return 0;
}

#define FLOOD_TEST(name, stream, bytes, calls)                                \
    static ssize_t read_##name(struct flood *f);                         \
    PT_TEST(name) {                                                      \
        struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT; \
        struct how how = {read_##name, stream, bytes, calls};            \
        options.workers = 1;                                             \
        PT_EQ(pica_run_opts(amain, &how, &options), 0);                  \
    }                                                                    \
    static ssize_t read_##name(struct flood *f)

FLOOD_TEST(recv, false, SMALL, 1000) {
    return pica_recv(f->socket, f->memory, 4096);
}

FLOOD_TEST(recv_of_one_byte, false, SMALL, 2 * 64 + 2) {
    return pica_recv(f->socket, f->memory, 1);
}

FLOOD_TEST(recv_of_much, false, LARGE, 1000) {
    return pica_recv(f->socket, f->memory, sizeof f->memory);
}

FLOOD_TEST(reader_read, true, SMALL, 1000) {
    return pica_reader_read(f->reader, f->memory, 4096);
}

FLOOD_TEST(reader_read_of_much, true, LARGE, 1000) {
    return pica_reader_read(f->reader, f->memory, sizeof f->memory);
}

FLOOD_TEST(reader_peek, true, LARGE, 1000) {
    const char *data;
    ssize_t n = pica_reader_peek(f->reader, &data);
    if (n > 0) {
        pica_reader_consume(f->reader, (size_t)n);
    }
    return n;
}

PT_MAIN()
