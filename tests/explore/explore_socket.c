/* Scenarios over io/socket.c and socket_side.c: readiness, the use word, closing. */
#include "io/socket.h"

#include <errno.h>

#include "io/listener.h"
#include "runtime/base/sys_message.h"
#include "tests/explore/home.h"

static pica_runtime *rt;
static pica_socket *sock;
static pica_task *reader, *writer;
static ssize_t got[2];
static ssize_t sent;
static unsigned writable_calls;

static void begin(void) {
    rt = ex_runtime();
    got[0] = got[1] = sent = -1;
    writable_calls = 0;
}

static void begin_socket(void) {
    ex_room(1);
    EX_CHECK(pica__socket_adopt(&sock, EX_FD, &rt->loop[0]) == 0);
    (void)pica__socket_ref(sock); /* of the task that uses it, beside the closer's */
    ex_quiet(&rt->sockets, sizeof rt->sockets);
    ex_name(&sock->use, "use");
    ex_name(&sock->rd.state, "rd");
    ex_name(&sock->wr.state, "wr");
    ex_name(&sock->posted, "posted");
    ex_name(&sock->refs, "refs");
}

/* --- reading --- */

static void read_one(void *arg) {
    char byte;
    *(ssize_t *)arg = pica_recv(sock, &byte, 1);
    pica__socket_unref(sock); /* of begin_socket */
}

static void read_two(void *arg) {
    (void)arg;
    char bytes[2];
    got[0] = pica_recv(sock, bytes, 2);
    if (got[0] == 1) {
        got[1] = pica_recv(sock, bytes, 2);
    }
    pica__socket_unref(sock);
}

static void peer(void *arg) {
    (void)arg;
    ex_peer_sends(1);
}

static void peer_twice(void *arg) {
    (void)arg;
    ex_peer_sends(1);
    ex_peer_sends(1);
}

static void canceller(void *arg) {
    EX_CHECK(pica_task_cancel(*(pica_task **)arg) == 1);
}

static void closer(void *arg) {
    (void)arg;
    ex_be_worker(false);
    pica_socket_close(sock);
}

static void setup_read(void (*body)(void *), bool at_home) {
    begin();
    reader = ex_body("reader", body, &got[0]);
    if (at_home) {
        ex_at_home(reader);
    }
    ex_home(rt, 0, 0);
    begin_socket();
}

static void setup_recv(void) {
    setup_read(read_one, false);
    ex_thread("peer", peer, NULL, false);
}

static void setup_recv_home(void) {
    setup_read(read_one, true);
    ex_thread("peer", peer, NULL, false);
}

static void finish_recv(void) {
    EX_CHECK(got[0] == 1 && ex_unread() == 0);
}

static void setup_recv_two(void) {
    setup_read(read_two, false);
    ex_thread("peer", peer_twice, NULL, false);
}

static void finish_recv_two(void) {
    EX_CHECK(got[0] + (got[1] < 0 ? 0 : got[1]) == 2 && ex_unread() == 0);
}

static void setup_recv_cancel(void) {
    setup_recv();
    ex_thread("canceller", canceller, &reader, false);
}

/* Cancelled means that nothing was taken. */
static void finish_recv_cancel(void) {
    EX_CHECK(got[0] == 1 || got[0] == PICA_ECANCELED);
    EX_CHECK(ex_unread() == (got[0] == 1 ? 0 : 1));
    uint32_t word = atomic_load_explicit(&reader->word, memory_order_relaxed);
    EX_CHECK(pica__cancel_pending(word) == (got[0] == 1));
}

static void setup_recv_close(void) {
    setup_recv();
    ex_thread("closer", closer, NULL, false);
}

static void setup_recv_close_home(void) {
    setup_recv_home();
    ex_thread("closer", closer, NULL, false);
}

static void finish_close(void) {
    EX_CHECK(got[0] == 1 || got[0] == PICA_ECLOSED);
    EX_CHECK(ex_in_flight() == 0 && ex_fd_closed() && ex_is_freed(sock));
}

/* Somebody reads, another one tries to: one of them is told. */
static void setup_busy(void) {
    setup_read(read_one, false);
    ex_thread("peer", peer_twice, NULL, false);
    (void)pica__socket_ref(sock);
    writer = ex_body("reader 2", read_one, &got[1]);
}

static void finish_busy(void) {
    EX_CHECK(got[0] == 1 || got[1] == 1);
    EX_CHECK((got[0] == 1 && got[1] == 1) || got[0] == -EBUSY || got[1] == -EBUSY);
}

/* One that keeps the rules of an accept: it takes READY back when it found nothing. */
static void take_two(void *arg) {
    (void)arg;
    char byte;
    unsigned n = 0;
    while (n < 2) {
        uint32_t seen = atomic_load_explicit(&sock->rd.state, memory_order_acquire);
        if ((seen & PICA__SIDE_READY) != 0 && pica__sys_recv(EX_FD, &byte, 1, 0) == 1) {
            n++;
            continue;
        }
        pica__socket_clear_readable(sock, seen);
        EX_CHECK(pica__socket_wait_readable(sock) == 0);
    }
    got[0] = 2;
}

static void setup_clear(void) {
    setup_read(take_two, false);
    ex_thread("peer", peer_twice, NULL, false);
}

static void finish_clear(void) {
    EX_CHECK(got[0] == 2 && ex_unread() == 0);
}

/* --- writing --- */

static void write_three(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < 3 && (sent = pica_send(sock, "a", 1)) == 1; i++) {
    }
    pica__socket_unref(sock);
}

static void peer_reads(void *arg) {
    (void)arg;
    ex_peer_reads(1);
}

static void peer_reads_twice(void *arg) {
    (void)arg;
    ex_peer_reads(1);
    ex_peer_reads(1);
}

static void setup_send(void) {
    begin();
    writer = ex_body("writer", write_three, NULL);
    ex_home(rt, 0, 0);
    begin_socket();
    ex_thread("peer", peer_reads_twice, NULL, false);
}

static void finish_send(void) {
    EX_CHECK(sent == 1 && ex_in_flight() == 0);
}

static void setup_send_close(void) {
    setup_send();
    ex_thread("closer", closer, NULL, false);
}

static void finish_send_close(void) {
    EX_CHECK(sent == 1 || sent == PICA_ECLOSED);
    EX_CHECK(ex_in_flight() == 0 && ex_fd_closed() && ex_is_freed(sock));
}

/* The background callback of a writer: called once. */
static void writable(void *arg) {
    (void)arg;
    writable_calls++;
}

static void asks_writable(void *arg) {
    (void)arg;
    ex_be_worker(false);
    char byte = 0;
    struct iovec one = {&byte, 1};
    EX_CHECK(pica__socket_begin(sock, PICA__SOCKET_WRITING) == 0);
    ssize_t n = pica__socket_sendv_begun(sock, &one, 1);
    EX_CHECK(n == -EAGAIN || n == 1);
    pica__socket_on_writable(sock, writable, NULL);
    pica__socket_end(sock, PICA__SOCKET_WRITING);
}

static void setup_writable(void) {
    begin();
    ex_home(rt, 0, 0);
    begin_socket();
    ex_room(0);
    ex_thread("writer", asks_writable, NULL, false);
    ex_thread("peer", peer_reads, NULL, false);
}

static void finish_writable(void) {
    EX_CHECK(writable_calls == 1);
}

/* --- the use word: a stream is released while somebody reads --- */

static unsigned released;
static unsigned *of_stream; /* plain: the reader's in its turn, then of whoever ends the stream */

static void turn(void *arg) {
    (void)arg;
    if (pica__socket_read_begin(sock) != 0) {
        return;
    }
    of_stream[0]++;
    if (pica__socket_read_end(sock)) {
        released++;
        ex_free(of_stream, 2 * sizeof *of_stream);
    }
}

static unsigned free_at_once;

static void releaser(void *arg) {
    (void)arg;
    of_stream[1]++; /* a writer's, up to the release */
    if (pica__socket_read_release(sock)) {
        free_at_once++;
        ex_free(of_stream, 2 * sizeof *of_stream);
    }
}

static void setup_release(void) {
    begin();
    released = 0;
    free_at_once = 0;
    of_stream = ex_alloc(2 * sizeof *of_stream);
    ex_home(rt, 0, 0);
    begin_socket();
    ex_thread("reader", turn, NULL, false);
    ex_thread("releaser", releaser, NULL, false);
}

static void finish_release(void) {
    EX_CHECK(released + free_at_once == 1);
}

/* --- a listener: every connection is somebody's, also one that comes when it ends --- */

enum { CONNECTION = 100 };

static unsigned accepted_count, stopped_count;

static void accepted(void *arg, int fd) {
    (void)arg;
    EX_CHECK(fd == CONNECTION && stopped_count == 0);
    accepted_count++;
}

static void stopped(void *arg) {
    (void)arg;
    EX_CHECK(stopped_count++ == 0);
}

static void stopper(void *arg) {
    (void)arg;
    ex_be_worker(false);
    pica__listener_stop(sock, stopped, NULL);
}

static void rescuer(void *arg) {
    (void)arg;
    ex_be_worker(false);
    pica__loop_rescue(&rt->loop[0], true);
}

static void begin_listener(unsigned connections) {
    begin();
    accepted_count = 0;
    stopped_count = 0;
    ex_home(rt, connections, CONNECTION);
    begin_socket();
    ex_be_worker(true); /* as it is started on the home loop */
    struct pica__listener_use use_as = {.accepted = accepted, .shared = true};
    EX_CHECK(pica__listener_make(sock, &use_as, NULL) == 0);
    pica__listener_start(sock);
}

static void setup_accept(void) {
    begin_listener(2);
}

static void finish_accept(void) {
    EX_CHECK(accepted_count == 2 && stopped_count == 0 && ex_in_flight() == 1); /* it goes on */
}

static void setup_accept_stop(void) {
    begin_listener(1);
    ex_thread("stopper", stopper, NULL, false);
}

static void setup_accept_rescue(void) {
    begin_listener(0);
    ex_thread("stopper", stopper, NULL, false);
    ex_thread("rescuer", rescuer, NULL, false);
}

static void finish_accept_stop(void) {
    EX_CHECK(accepted_count == ex_succeeded() && stopped_count == 1 && ex_in_flight() == 0);
}

const struct ex_scenario ex_scenarios[] = {
    {"socket.accept", "a listener arms its accept again", setup_accept, finish_accept, NULL, {2, 0}, {1, 1},
     {1, 1}, NULL},
    {"socket.accept_stop", "a connection comes while the listener ends", setup_accept_stop,
     finish_accept_stop, NULL, {2, 0}, {1, 1}, {1, 1}, NULL},
    {"socket.accept_rescue", "another worker looks at it while it ends", setup_accept_rescue,
     finish_accept_stop, NULL, {2, 0}, {2, 1}, {2, 1}, NULL},
    {"socket.recv", "a byte comes while a task away from the socket's home waits", setup_recv, finish_recv,
     NULL, {3, 0}, {2, 2}, {2, 1}, NULL},
    {"socket.recv_home", "the same at home", setup_recv_home, finish_recv, NULL, {3, 0}, {2, 2}, {2, 1},
     NULL},
    {"socket.recv_two", "two bytes, one after the other", setup_recv_two, finish_recv_two, NULL, {2, 0},
     {2, 1}, {2, 1}, NULL},
    {"socket.clear", "two bytes, and readiness that is taken back", setup_clear, finish_clear, NULL, {2, 0},
     {2, 1}, {2, 1}, NULL},
    {"socket.recv_cancel", "a byte meets a cancel: it is not lost", setup_recv_cancel, finish_recv_cancel,
     NULL, {2, 0}, {1, 1}, {1, 1}, NULL},
    {"socket.recv_close", "a wait meets a close: the descriptor is closed once, at the end",
     setup_recv_close, finish_close, NULL, {1, 0}, {1, 1}, {1, 1}, NULL},
    {"socket.recv_close_home", "the same at home", setup_recv_close_home, finish_close, NULL, {2, 0}, {1, 1},
     {1, 1}, NULL},
    {"socket.busy", "two readers", setup_busy, finish_busy, NULL, {1, 0}, {1, 0}, {1, 1}, NULL},
    {"socket.send", "the kernel is full", setup_send, finish_send, NULL, {2, 0}, {2, 1}, {2, 1}, NULL},
    {"socket.send_close", "the kernel is full, and the socket is closed", setup_send_close,
     finish_send_close, NULL, {1, 0}, {1, 1}, {1, 1}, NULL},
    {"socket.writable", "the background callback comes once", setup_writable, finish_writable, NULL, {3, 0},
     {2, 1}, {2, 1}, NULL},
    {"socket.release", "a reader's turn ends, or the release finds nobody", setup_release, finish_release,
     NULL, {EX_ALL, 0}, {3, 1}, {3, 2}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
