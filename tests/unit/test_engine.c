/* What every engine promises: the same cases on io_uring and on epoll. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "tests/support/pt.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <pica/base.h>

#include "io/engine/engine.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"

/* An operation, and what it was told. */
struct probe {
    pica__op op;
    int completions;
    int last;          /* the last result */
    bool ended;
    pica__engine *engine;
    struct probe *cancels; /* cancelled from within the callback */
    int fds[512];      /* of accepts */
};

static void completed(pica__op *op, int result, bool more) {
    struct probe *p = PICA__CONTAINER_OF(op, struct probe, op);
    PT_CHECK(!p->ended);
    if (op->kind == PICA__OP_ACCEPT && result >= 0) {
        p->fds[p->completions] = result;
    }
    p->completions++;
    p->last = result;
    p->ended = !more;
    if (p->cancels != NULL && pica__op_in_flight(&p->cancels->op)) {
        pica__engine_cancel(p->engine, &p->cancels->op);
        p->cancels = NULL;
    }
}

static void probe_init(struct probe *p, pica__engine *engine, enum pica__op_kind kind, int fd) {
    memset(p, 0, sizeof *p);
    pica__op_init(&p->op, kind, fd, completed);
    p->engine = engine;
}

static void poll_init(struct probe *p, pica__engine *engine, int fd, unsigned events, bool multishot) {
    probe_init(p, engine, PICA__OP_POLL, fd);
    p->op.events = events;
    p->op.multishot = multishot;
}

static void submit(struct probe *p) {
    p->ended = false;
    PT_EQ(pica__engine_submit(p->engine, &p->op), 0);
}

/* Waits until the probe has had n completions, for at most two seconds. */
static void wait_for(struct probe *p, int n) {
    int64_t end = pica__now() + 2 * INT64_C(1000000000);
    while (p->completions < n && pica__now() < end) {
        (void)pica__engine_wait(p->engine, pica__now() + 50000000);
    }
    PT_EQ(p->completions, n);
}

/* Some turns in which nothing must come. */
static void wait_quietly(pica__engine *engine) {
    for (int i = 0; i < 4; i++) {
        (void)pica__engine_wait(engine, 0);
    }
}

static void cancel(struct probe *p) {
    int before = p->completions;
    pica__engine_cancel(p->engine, &p->op);
    PT_EQ(p->completions, before); /* never inside */
    int64_t end = pica__now() + 2 * INT64_C(1000000000);
    while (!p->ended && pica__now() < end) {
        (void)pica__engine_wait(p->engine, pica__now() + 50000000);
    }
    PT_CHECK(p->ended && !pica__op_in_flight(&p->op));
}

static pica__engine *engine_new(int kind) {
    pica__config config;
    PT_REQUIRE(pica__config_from_env(&config) == 0);
    config.engine = kind;
    pica__engine *engine;
    int rc = pica__engine_create(&engine, &config);
    if (kind == PICA__ENGINE_URING && (rc == -EPERM || rc == -ENOSYS)) {
        PT_SKIP("no io_uring here");
    }
    PT_REQUIRE(rc == 0);
    return engine;
}

/* CASE(name) { ... engine ... } on both. */
#define CASE(name)                                                  \
    static void name(pica__engine *engine);                         \
    PT_TEST(name##_uring) {                                         \
        pica__engine *engine = engine_new(PICA__ENGINE_URING);      \
        name(engine);                                               \
        PT_EQ(pica__engine_in_flight(engine), 1); /* the engine's own */         \
        pica__engine_destroy(engine);                               \
    }                                                               \
    PT_TEST(name##_epoll) {                                         \
        pica__engine *engine = engine_new(PICA__ENGINE_EPOLL);      \
        name(engine);                                               \
        PT_EQ(pica__engine_in_flight(engine), 1);                                \
        pica__engine_destroy(engine);                               \
    }                                                               \
    static void name(pica__engine *engine)

CASE(an_edge_for_each_arrival) {
    int fds[2];
    struct probe p;
    PT_REQUIRE(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    poll_init(&p, engine, fds[0], POLLIN, true);
    submit(&p);
    wait_quietly(engine);
    PT_EQ(p.completions, 0);
    for (int i = 1; i <= 3; i++) {
        PT_EQ(write(fds[1], "x", 1), 1);
        wait_for(&p, i);
        PT_EQ(p.last & POLLIN, POLLIN);
        PT_CHECK(!p.ended);
    }
    close(fds[1]);
    wait_for(&p, 4);
    PT_EQ(p.last & POLLHUP, POLLHUP);
    if (!p.ended) {
        cancel(&p);
    }
    close(fds[0]);
}

CASE(what_is_ready_before_is_told) {
    int fds[2];
    struct probe p;
    PT_REQUIRE(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    PT_EQ(write(fds[1], "x", 1), 1);
    poll_init(&p, engine, fds[0], POLLIN, false);
    for (int i = 1; i <= 3; i++) { /* one-shot, and still ready: told each time */
        submit(&p);
        wait_for(&p, i);
        PT_CHECK(p.ended);
    }
    close(fds[0]);
    close(fds[1]);
}

CASE(several_operations_on_one_descriptor) {
    int fds[2];
    struct probe in, in_too, out;
    PT_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    poll_init(&in, engine, fds[0], POLLIN, true);
    poll_init(&in_too, engine, fds[0], POLLIN, false);
    poll_init(&out, engine, fds[0], POLLOUT, false);
    submit(&in);
    submit(&in_too);
    submit(&out);
    wait_for(&out, 1);
    PT_CHECK(out.ended && in.completions == 0 && in_too.completions == 0);
    in.cancels = &in_too; /* whichever comes first: the other ends once */
    PT_EQ(write(fds[1], "x", 1), 1);
    wait_for(&in, 1);
    wait_quietly(engine);
    PT_EQ(in_too.completions, 1);
    PT_CHECK(in_too.ended && (in_too.last == -ECANCELED || (in_too.last & POLLIN) != 0));
    cancel(&in);
    close(fds[0]);
    close(fds[1]);
}

CASE(a_cancel_ends_it_once) {
    int fds[2];
    struct probe p;
    PT_REQUIRE(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    for (int i = 0; i < 2; i++) {
        poll_init(&p, engine, fds[0], POLLIN, i == 1);
        submit(&p);
        wait_quietly(engine);
        pica__engine_cancel(engine, &p.op);
        cancel(&p);
        PT_EQ(p.completions, 1);
        PT_EQ(p.last, -ECANCELED);
    }
    PT_EQ(write(fds[1], "x", 1), 1); /* nobody is told */
    wait_quietly(engine);
    PT_EQ(p.completions, 1);
    close(fds[0]);
    close(fds[1]);
}

CASE(a_descriptor_that_does_not_exist) {
    struct probe p;
    poll_init(&p, engine, 4000, POLLIN, true);
    submit(&p);
    wait_for(&p, 1);
    PT_CHECK(p.ended);
    PT_CHECK(p.last == -EBADF || (p.last & POLLNVAL) != 0);
    poll_init(&p, engine, -1, POLLIN, false);
    submit(&p);
    wait_for(&p, 1);
    PT_CHECK(p.ended && p.last < 0);
}

CASE(a_regular_file_is_always_ready) {
    struct probe p;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    PT_REQUIRE(fd >= 0);
    poll_init(&p, engine, fd, POLLIN, false);
    submit(&p);
    wait_for(&p, 1);
    PT_CHECK(p.ended && (p.last & POLLIN) != 0);
    poll_init(&p, engine, fd, POLLPRI, false); /* but not for this, ever */
    submit(&p);
    wait_for(&p, 1);
    PT_EQ(p.last, -EINVAL);
    close(fd);
}

CASE(a_number_that_stands_for_another_file) {
    int fds[2], others[2];
    struct probe p;
    PT_REQUIRE(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    PT_EQ(write(fds[1], "x", 1), 1);
    poll_init(&p, engine, fds[0], POLLIN, false);
    submit(&p);
    wait_for(&p, 1);
    int kept = dup(fds[0]); /* so that the kernel does not forget it */
    PT_REQUIRE(pipe2(others, O_CLOEXEC | O_NONBLOCK) == 0);
    PT_REQUIRE(dup3(others[0], fds[0], O_CLOEXEC) == fds[0]);
    submit(&p);
    PT_EQ(write(fds[1], "y", 1), 1); /* to the old file */
    wait_quietly(engine);
    PT_EQ(p.completions, 1);
    PT_EQ(write(others[1], "z", 1), 1);
    wait_for(&p, 2);
    PT_EQ(p.last & POLLIN, POLLIN);
    close(kept);
    close(fds[0]);
    close(fds[1]);
    close(others[0]);
    close(others[1]);
}

static int listener(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    PT_REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)address, length) == 0 && listen(fd, 512) == 0 &&
               getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* A connect. */
struct connecting {
    pica__op_connect connect;
    int result;
    bool ended;
};

static void connected(pica__op *op, int result, bool more) {
    struct connecting *c = PICA__CONTAINER_OF(op, struct connecting, connect.op);
    PT_CHECK(!more && !c->ended);
    c->result = result;
    c->ended = true;
}

/* On a new descriptor. */
static int connect_submit(pica__engine *engine, struct connecting *c, const void *address, size_t length) {
    const struct sockaddr *to = address;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PT_REQUIRE(fd >= 0);
    *c = (struct connecting){.connect = {.address = to, .length = (socklen_t)length}};
    pica__op_init(&c->connect.op, PICA__OP_CONNECT, fd, connected);
    PT_EQ(pica__engine_submit(engine, &c->connect.op), 0);
    return fd;
}

static int connect_result(pica__engine *engine, struct connecting *c) {
    int64_t end = pica__now() + 2 * INT64_C(1000000000);
    while (!c->ended && pica__now() < end) {
        (void)pica__engine_wait(engine, pica__now() + 50000000);
    }
    PT_CHECK(c->ended);
    return c->result;
}

CASE(connects_and_many_accepts) {
    enum { CLIENTS = 200 };
    static struct probe accepts;
    struct sockaddr_in address;
    int fd = listener(&address);
    int clients[CLIENTS];
    for (int i = 0; i < CLIENTS / 2; i++) { /* before anybody accepts */
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        PT_REQUIRE(connect(clients[i], (struct sockaddr *)&address, sizeof address) == 0);
    }
    probe_init(&accepts, engine, PICA__OP_ACCEPT, fd);
    accepts.op.multishot = true;
    submit(&accepts);
    wait_for(&accepts, CLIENTS / 2);
    for (int i = CLIENTS / 2; i < CLIENTS; i++) {
        struct connecting c;
        clients[i] = connect_submit(engine, &c, &address, sizeof address);
        PT_EQ(connect_result(engine, &c), 0);
    }
    wait_for(&accepts, CLIENTS);
    PT_CHECK(!accepts.ended);
    cancel(&accepts);
    for (int i = 0; i < CLIENTS; i++) {
        PT_EQ(fcntl(accepts.fds[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        close(accepts.fds[i]);
        close(clients[i]);
    }
    close(fd);
}

CASE(accepts_one_by_one) {
    struct probe p;
    struct sockaddr_in address;
    int fd = listener(&address);
    int clients[3];
    probe_init(&p, engine, PICA__OP_ACCEPT, fd);
    for (int i = 0; i < 3; i++) {
        submit(&p);
        wait_quietly(engine);
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        PT_REQUIRE(connect(clients[i], (struct sockaddr *)&address, sizeof address) == 0);
        wait_for(&p, i + 1);
        PT_CHECK(p.ended);
    }
    submit(&p);
    wait_quietly(engine);
    cancel(&p);
    PT_EQ(p.last, -ECANCELED);
    for (int i = 0; i < 3; i++) {
        close(p.fds[i]);
        close(clients[i]);
    }
    close(fd);
}

CASE(an_accept_without_descriptors) {
    struct probe p;
    struct sockaddr_in address;
    int fd = listener(&address);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    probe_init(&p, engine, PICA__OP_ACCEPT, fd);
    p.op.multishot = true;
    PT_REQUIRE(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    struct rlimit old, none;
    PT_REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none = (struct rlimit){0, old.rlim_max};
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    submit(&p); /* the ring looks at the limit here */
    wait_for(&p, 1);
    PT_CHECK(p.ended);
    PT_EQ(p.last, -EMFILE);
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
    submit(&p);
    p.completions = 0;
    wait_for(&p, 1); /* it was not lost */
    close(p.fds[0]);
    cancel(&p);
    close(client);
    close(fd);
}

CASE(a_connect_that_is_refused) {
    struct sockaddr_in address;
    struct connecting c;
    close(listener(&address));
    int fd = connect_submit(engine, &c, &address, sizeof address);
    PT_EQ(connect_result(engine, &c), -ECONNREFUSED);
    close(fd);
}

/* Accepts until all have connected: the kernel says which of those that wait comes next. */
static void accept_all(pica__engine *engine, int fd, struct connecting *c, int count) {
    int64_t end = pica__now() + 2 * INT64_C(1000000000);
    for (int ended = 0; ended < count && pica__now() < end;) {
        int accepted = accept(fd, NULL, NULL);
        if (accepted >= 0) {
            close(accepted);
        }
        (void)pica__engine_wait(engine, pica__now() + 1000000);
        ended = 0;
        for (int i = 0; i < count; i++) {
            ended += c[i].ended;
        }
    }
    for (int i = 0; i < count; i++) {
        PT_CHECK(c[i].ended);
        PT_EQ(c[i].result, 0);
    }
}

CASE(a_unix_backlog_that_is_full) {
    enum { CLIENTS = 4 };
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Autobound to an abstract name. */
    PT_REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0 && listen(fd, 0) == 0 &&
               getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    struct connecting c[CLIENTS];
    int clients[CLIENTS];
    int ended = 0;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_submit(engine, &c[i], &address, length);
        (void)pica__engine_wait(engine, pica__now() + 1000000);
        ended += c[i].ended;
    }
    PT_CHECK(ended < CLIENTS);
    pica__engine_cancel(engine, &c[CLIENTS - 1].connect.op);
    int result = connect_result(engine, &c[CLIENTS - 1]);
    PT_CHECK(result == -ECANCELED || result == -EINTR);
    accept_all(engine, fd, c, CLIENTS - 1);
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i]);
    }
    close(fd);
}

static void *waker(void *arg) {
    pica__engine_wake(arg);
    return NULL;
}

CASE(a_wake_ends_a_wait) {
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, waker, engine) == 0);
        PT_EQ(pica__engine_wait(engine, pica__now() + 10 * INT64_C(1000000000)), 1);
        pthread_join(thread, NULL);
    }
    pica__engine_wake(engine); /* before the wait */
    PT_EQ(pica__engine_wait(engine, INT64_MAX), 1);
}

static void deadlines(pica__engine *engine) {
    static const int64_t lengths[] = {1, 1000, 100000, 1500000, 7000001};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        int64_t deadline = pica__now() + lengths[i];
        while (pica__now() < deadline) {
            (void)pica__engine_wait(engine, deadline);
            PT_CHECK(pica__now() >= deadline);
        }
    }
    (void)pica__engine_wait(engine, pica__now() - 1000000);
    (void)pica__engine_wait(engine, 0);
}

CASE(a_wait_ends_at_its_deadline_and_not_before) {
    deadlines(engine);
}

PT_TEST(deadlines_in_milliseconds) {
    pica__config config;
    pica__engine *engine;
    PT_REQUIRE(pica__config_from_env(&config) == 0);
    config.engine = PICA__ENGINE_EPOLL;
    config.without |= PICA__WITHOUT_EPOLL_PWAIT2;
    PT_REQUIRE(pica__engine_create(&engine, &config) == 0);
    deadlines(engine);
    pica__engine_destroy(engine);
}

/* Waits that each end early, by a wake, until a time that moves on: an engine may then leave the kernel's timer alone. */
static void wait_early(pica__engine *engine, int64_t length) {
    for (int i = 0; i < 40; i++) {
        pica__engine_wake(engine);
        PT_CHECK(pica__engine_wait(engine, pica__now() + length) > 0);
    }
}

static void *late_waker(void *arg) {
    usleep(100000); /* that is what is measured */
    pica__engine_wake(arg);
    return NULL;
}

/* Whatever is left of those, a deadline holds, and a wait without one ends by a wake only. */
CASE(a_deadline_holds_after_others_that_moved_on) {
    static const int64_t ms = 1000000, lengths[] = {30, 10000, 60}, next[] = {60, 5, 10};
    for (int i = 0; i < 3; i++) {
        int returns = 0;
        wait_early(engine, lengths[i] * ms);
        int64_t deadline = pica__now() + next[i] * ms;
        do {
            PT_EQ(pica__engine_wait(engine, deadline), 0);
        } while (pica__now() < deadline && ++returns < 10);
        PT_CHECK(returns <= 1); /* for the time that moved on */
        PT_CHECK(pica__now() >= deadline && pica__now() < deadline + 2000 * ms);
    }
    pthread_t thread;
    wait_early(engine, 30 * ms);
    PT_REQUIRE(pthread_create(&thread, NULL, late_waker, engine) == 0);
    PT_EQ(pica__engine_wait(engine, INT64_MAX), 1);
    pthread_join(thread, NULL);
}

/* Who goes by `ahead` does not ask the clock; so it must not stay behind. */
CASE(a_time_ahead_is_told_of_when_it_comes) {
    int64_t length = 20 * INT64_C(1000000);
    for (int i = 0; i < 3; i++) {
        wait_early(engine, length);
        PT_CHECK(strcmp(engine->ops->name, "epoll") != 0 || engine->ahead != INT64_MAX);
        int64_t now = pica__now(), last = now + length, end = last + 2 * INT64_C(1000000000);
        do {
            (void)pica__engine_wait(engine, 0);
            now = pica__now(); /* once: the next may be much later */
        } while (now < end && (engine->ahead <= now || now < last));
        PT_CHECK(engine->ahead > now);
    }
}

/* The same, asleep: the wake comes while it waits. */
static void *soon_waker(void *arg) {
    usleep(1000); /* until it sleeps; if it does not yet, another of the waits does */
    pica__engine_wake(arg);
    return NULL;
}

static void sleep_early(pica__engine *engine) {
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, soon_waker, engine) == 0);
        while (pica__engine_wait(engine, pica__now() + 1000000000) == 0) {
            /* once it may return for a time that moved on; if the wake is lost, the case's time runs out */
        }
        pthread_join(thread, NULL);
    }
}

static void watch_pipes(pica__engine *engine, int n, struct probe p[], int fds[][2]) {
    for (int i = 0; i < n; i++) {
        PT_REQUIRE(pipe2(fds[i], O_CLOEXEC | O_NONBLOCK) == 0);
        poll_init(&p[i], engine, fds[i][0], POLLIN, true);
        submit(&p[i]);
    }
}

/* A loop that has such waits and some sockets may wait for them elsewhere from then on: no event is lost by that. */
CASE(sockets_go_on_after_waits_with_limits) {
    enum { PIPES = 8 };
    static struct probe p[PIPES];
    static int fds[PIPES][2];
    watch_pipes(engine, PIPES, p, fds);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < PIPES; i++) {
            char got;
            wait_quietly(engine);
            int before = p[i].completions;
            int64_t end = pica__now() + 2 * INT64_C(1000000000);
            PT_EQ(write(fds[i][1], "x", 1), 1);
            while (p[i].completions == before && pica__now() < end) {
                (void)pica__engine_wait(engine, pica__now() + 50000000);
            }
            PT_CHECK(p[i].completions > before); /* once more where it moves: readiness may be told twice */
            PT_EQ(read(fds[i][0], &got, 1), 1);
        }
        sleep_early(engine);
    }
    if (strcmp(engine->ops->name, "io_uring") == 0) {
        PT_CHECK(atomic_load(&engine->part) != NULL);
        PT_EQ(engine->ahead, atomic_load(&engine->part)->ahead);
    }
    for (int i = 0; i < PIPES; i++) {
        cancel(&p[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
}

/* What lay ready by the hundred comes in several waits, each descriptor once. */
CASE(a_flood_comes_in_pieces) {
    enum { PIPES = 300 };
    static struct probe p[PIPES];
    static int fds[PIPES][2];
    watch_pipes(engine, PIPES, p, fds);
    wait_quietly(engine);
    for (int i = 0; i < PIPES; i++) {
        PT_EQ(write(fds[i][1], "x", 1), 1);
    }
    int delivered = 0, waits = 0;
    while (delivered < PIPES && waits < 100) {
        int n = pica__engine_wait(engine, pica__now() + 100000000);
        PT_CHECK(n <= 200);
        delivered += n;
        waits++;
        if (waits == 1) { /* what is on its way to a descriptor that nobody waits for any more is dropped */
            cancel(&p[PIPES - 1]);
        }
    }
    for (int i = 0; i < PIPES; i++) {
        PT_CHECK(p[i].completions >= 1 && p[i].completions <= 2);
        if (!p[i].ended) {
            cancel(&p[i]);
        }
        close(fds[i][0]);
        close(fds[i][1]);
    }
}

PT_MAIN()
