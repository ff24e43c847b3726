/* Pipes in the socket layer: reading and writing without a socket's calls, and a write whose reader is gone, which
 * is an error and never a signal. */
#include <pica.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/socket.h"
#include "runtime/base/sys_process.h"
#include "tests/support/pt.h"

#define RUN(name)                             \
    static int main_##name(void *arg);        \
    PT_TEST(name) {                           \
        PT_EQ(pica_run(main_##name, NULL), 0); \
    }                                         \
    static int main_##name(void *arg)

static void pipe_sockets(pica_socket **reads, pica_socket **writes) {
    int fds[2];
    PT_REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    PT_REQUIRE(pica__socket_adopt(reads, fds[0], pica_current_loop()) == 0);
    PT_REQUIRE(pica__socket_adopt(writes, fds[1], pica_current_loop()) == 0);
    PT_CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
    PT_CHECK((fcntl(fds[1], F_GETFL) & O_NONBLOCK) != 0);
}

static char big[1 << 20];

static int sends_big(void *arg) {
    int rc = pica_sendall(arg, big, sizeof big);
    pica_socket_close(arg);
    return rc;
}

RUN(data_goes_through) {
    pica_socket *r, *w;
    (void)arg;
    pipe_sockets(&r, &w);
    struct iovec parts[2] = {{"ab", 2}, {"cd", 2}};
    char got[4096];
    PT_EQ(pica_sendv(w, parts, 2), 4);
    PT_EQ(pica_recv(r, got, sizeof got), 4);
    PT_CHECK(memcmp(got, "abcd", 4) == 0);
    for (size_t i = 0; i < sizeof big; i++) {
        big[i] = (char)(i * 31);
    }
    pica_task *task;
    PT_REQUIRE(pica_create_task(&task, sends_big, w) == 0);
    size_t at = 0;
    ssize_t n;
    while ((n = pica_recv(r, got, sizeof got)) > 0) {
        PT_CHECK(memcmp(got, big + at, (size_t)n) == 0);
        at += (size_t)n;
    }
    PT_EQ(n, 0); /* the end */
    PT_EQ(at, sizeof big);
    PT_EQ(pica_join(task, NULL), 0);
    pica_socket_close(r);
    return 0;
}

RUN(write_without_reader) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        int fds[2];
        pica_socket *w;
        PT_REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
        PT_REQUIRE(pica__socket_adopt(&w, fds[1], pica_current_loop()) == 0);
        close(fds[0]);
        PT_EQ(pica_send(w, "x", 1), -EPIPE); /* SIGPIPE would end the case */
        pica_socket_close(w);
    }
    return 0;
}

PT_TEST(no_signal_is_left_or_lost) {
    int fds[2];
    sigset_t pipe_set, pending;
    struct iovec one = {"x", 1};
    PT_REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    close(fds[0]);
    PT_EQ(pica__sys_writev_quiet(fds[1], &one, 1), -EPIPE);
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    PT_REQUIRE(pthread_sigmask(SIG_BLOCK, &pipe_set, NULL) == 0);
    PT_REQUIRE(sigpending(&pending) == 0);
    PT_EQ(sigismember(&pending, SIGPIPE), 0);
    /* One that was somebody else's stays. */
    PT_REQUIRE(raise(SIGPIPE) == 0);
    PT_EQ(pica__sys_writev_quiet(fds[1], &one, 1), -EPIPE);
    PT_REQUIRE(sigpending(&pending) == 0);
    PT_EQ(sigismember(&pending, SIGPIPE), 1);
    close(fds[1]);
}

PT_MAIN()
