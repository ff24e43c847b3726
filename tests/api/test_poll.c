/* Foreign descriptors: pica_poll, and callbacks for readers and writers. */
#include <pica.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/tasks.h"

static void pair(int fds[2]) {
    PT_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
}

static void end_pair(int fds[2]) {
    close(fds[0]);
    close(fds[1]);
}

static void put(int fd) {
    PT_REQUIRE(write(fd, "x", 1) == 1);
}

/* --- pica_poll --- */

static int polls_in(void *arg) {
    return pica_poll(*(int *)arg, POLLIN);
}

TASK_TEST(poll_waits_and_tells_the_events) {
    int fds[2];
    pair(fds);
    PT_EQ(pica_poll(fds[0], POLLOUT), POLLOUT);
    pica_task *task = spawn(polls_in, &fds[0]);
    PT_EQ(pica_yield(), 0);
    put(fds[1]);
    PT_EQ(pica_join(task, NULL), POLLIN);
    PT_EQ(pica_poll(fds[0], POLLIN | POLLOUT), POLLIN | POLLOUT); /* nothing was taken */
    (void)arg;
    end_pair(fds);
    return 0;
}

TASK_TEST(poll_tells_the_end_and_errors) {
    int fds[2];
    PT_REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    close(fds[1]);
    PT_EQ(pica_poll(fds[0], 0), POLLHUP); /* also if nothing was asked for */
    close(fds[0]);
    PT_REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    close(fds[0]);
    PT_CHECK((pica_poll(fds[1], POLLOUT) & POLLERR) != 0);
    close(fds[1]);
    PT_EQ(pica_poll(fds[1], POLLIN), -EBADF);
    PT_EQ(pica_poll(-1, POLLIN), -EBADF);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    PT_CHECK((pica_poll(file, POLLIN) & POLLIN) != 0); /* always */
    close(file);
    (void)arg;
    return 0;
}

TASK_TEST(many_tasks_poll_one_descriptor) {
    int fds[2];
    pica_task *tasks[20];
    pair(fds);
    for (int i = 0; i < 20; i++) {
        tasks[i] = spawn(polls_in, &fds[0]);
    }
    PT_EQ(pica_yield(), 0);
    put(fds[1]);
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_join(tasks[i], NULL), POLLIN);
    }
    (void)arg;
    end_pair(fds);
    return 0;
}

static int cancelled_before(void *arg) {
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_poll(*(int *)arg, POLLOUT), PICA_ECANCELED); /* ready, but the cancellation comes first */
    PT_EQ(pica_poll(*(int *)arg, POLLOUT), POLLOUT);
    return 0;
}

TASK_TEST(poll_is_cancelled) {
    int fds[2];
    pair(fds);
    for (int i = 0; i < 50; i++) {
        pica_task *task = spawn(polls_in, &fds[0]);
        for (int k = 0; k < i % 3; k++) {
            PT_EQ(pica_yield(), 0);
        }
        PT_EQ(pica_task_cancel(task), 1);
        PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    }
    pica_task *task = spawn(cancelled_before, &fds[0]);
    PT_EQ(pica_join(task, NULL), 0);
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 0.01), 0);
    PT_EQ(pica_timeout_exit(&t, pica_poll(fds[0], POLLIN)), PICA_ETIMEDOUT);
    (void)arg;
    end_pair(fds);
    return 0;
}

PT_TEST(outside_a_runtime) {
    PT_EQ(pica_poll(0, POLLIN), PICA_ENOTASK);
    PT_EQ(pica_add_reader(0, (pica_callback)abort, NULL), PICA_ENOTASK);
    PT_EQ(pica_add_writer(0, (pica_callback)abort, NULL), PICA_ENOTASK);
    PT_EQ(pica_remove_reader(0), PICA_ENOTASK);
    PT_EQ(pica_remove_writer(0), PICA_ENOTASK);
}

/* --- callbacks --- */

struct user {
    int fd;
    int calls;      /* loop only */
    int limit;      /* removes itself at this call; 0: never */
    bool takes;     /* reads a byte at each call */
    bool writer;
    bool over;      /* was removed: no call may come */
    pica_loop *loop;
    pica_future *told; /* completed at the limit */
};

static void on_ready(void *arg) {
    struct user *u = arg;
    char byte;
    PT_CHECK(pica_current_loop() == u->loop);
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(!u->over);
    if (u->takes) {
        PT_EQ(read(u->fd, &byte, 1), 1);
    }
    if (++u->calls == u->limit) {
        PT_EQ(u->writer ? pica_remove_writer(u->fd) : pica_remove_reader(u->fd), 1);
        PT_EQ(u->writer ? pica_remove_writer(u->fd) : pica_remove_reader(u->fd), 0);
        u->over = true;
        signal_future(u->told);
    }
}

static struct user user_of(int fd, int limit) {
    return (struct user){.fd = fd, .limit = limit, .loop = pica_current_loop(), .told = new_future()};
}

static void user_waits(struct user *u) {
    PT_EQ(pica_await(u->told, NULL), 0);
    pica_future_unref(u->told);
}

TASK_TEST(reader_is_called_as_long_as_it_is_ready) {
    int fds[2];
    pair(fds);
    struct user u = user_of(fds[0], 10);
    PT_EQ(pica_add_reader(fds[0], on_ready, &u), 0);
    PT_EQ(pica_sleep(0.002), 0);
    put(fds[1]); /* one byte, which nobody takes: ten calls */
    user_waits(&u);
    PT_EQ(u.calls, 10);
    struct user taker = user_of(fds[0], 3);
    taker.takes = true;
    put(fds[1]);
    put(fds[1]);
    PT_EQ(pica_add_reader(fds[0], on_ready, &taker), 0);
    user_waits(&taker);
    PT_EQ(pica_poll(fds[0], POLLIN | POLLOUT), POLLOUT);
    (void)arg;
    end_pair(fds);
    return 0;
}

TASK_TEST(reader_and_writer_are_two) {
    int fds[2];
    pair(fds);
    struct user r = user_of(fds[0], 5), w = user_of(fds[0], 5);
    w.writer = true;
    PT_EQ(pica_remove_reader(fds[0]), 0);
    PT_EQ(pica_add_reader(fds[0], on_ready, &r), 0);
    PT_EQ(pica_remove_writer(fds[0]), 0);
    PT_EQ(pica_add_writer(fds[0], on_ready, &w), 0);
    user_waits(&w);
    PT_EQ(r.calls, 0);
    put(fds[1]);
    user_waits(&r);
    (void)arg;
    end_pair(fds);
    return 0;
}

struct swap {
    struct user first, second;
};

/* On the loop: what was replaced is not called any more. */
static void replace(void *arg) {
    struct swap *s = arg;
    s->first.over = true;
    PT_EQ(pica_add_reader(s->first.fd, on_ready, &s->second), 0);
}

TASK_TEST(second_add_replaces) {
    int fds[2];
    pair(fds);
    struct swap s = {user_of(fds[0], 0), user_of(fds[0], 5)};
    put(fds[1]);
    PT_EQ(pica_add_reader(fds[0], on_ready, &s.first), 0);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_call_soon(replace, &s, NULL), 0);
    user_waits(&s.second);
    PT_EQ(pica_remove_reader(fds[0]), 0);
    pica_future_unref(s.first.told);
    (void)arg;
    end_pair(fds);
    return 0;
}

/* A number that now means another file, registered again without a removal, is watched as what it is. */
TASK_TEST(replaced_by_another_file) {
    int a[2], b[2];
    pair(a);
    pair(b);
    struct user old = user_of(a[0], 0), new = user_of(a[0], 2);
    PT_EQ(pica_add_reader(a[0], on_ready, &old), 0);
    PT_EQ(pica_sleep(0.002), 0);
    PT_REQUIRE(dup2(b[0], a[0]) == a[0]);
    PT_EQ(pica_add_reader(a[0], on_ready, &new), 0);
    put(b[1]);
    user_waits(&new);
    PT_EQ(old.calls, 0);
    pica_future_unref(old.told);
    (void)arg;
    end_pair(a);
    end_pair(b);
    return 0;
}

struct race {
    int fd;
    atomic_int calls;
    atomic_bool running;
};

static void counts(void *arg) {
    struct race *r = arg;
    atomic_store(&r->running, true);
    atomic_fetch_add(&r->calls, 1);
    atomic_store(&r->running, false);
}

/* From tasks of all workers, on all loops: no call begins after the removal. */
static int adds_and_removes(void *arg) {
    struct race *r = arg;
    pica_runtime *rt = pica_current_runtime();
    pica_loop *loop = pica_runtime_loop(rt, (unsigned)r->fd % pica_runtime_workers(rt));
    for (int i = 0; i < 200; i++) {
        PT_EQ(pica_loop_add_reader(loop, r->fd, counts, r), 0);
        for (int k = 0; k < i % 4; k++) {
            PT_EQ(pica_yield(), 0);
        }
        PT_EQ(pica_loop_remove_reader(loop, r->fd), 1);
        while (atomic_load(&r->running)) {
        }
        int calls = atomic_load(&r->calls);
        PT_EQ(pica_yield(), 0);
        if (i % 16 == 0) {
            PT_EQ(pica_sleep(0.0001), 0);
        }
        PT_CHECK(atomic_load(&r->calls) <= calls + 1); /* one that had begun, and was not seen running yet */
    }
    return 0;
}

TASK_TEST(removed_from_elsewhere) {
    enum { N = 6 };
    int fds[N][2];
    struct race races[N];
    pica_task *tasks[N];
    for (int i = 0; i < N; i++) {
        pair(fds[i]);
        put(fds[i][1]);
        races[i].fd = fds[i][0];
        atomic_init(&races[i].calls, 0);
        atomic_init(&races[i].running, false);
        tasks[i] = spawn(adds_and_removes, &races[i]);
    }
    for (int i = 0; i < N; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    PT_EQ(pica_sleep(0.01), 0); /* let a late call of a freed frame show itself */
    for (int i = 0; i < N; i++) {
        end_pair(fds[i]);
    }
    (void)arg;
    return 0;
}

TASK_TEST(bad_arguments) {
    int fds[2];
    pair(fds);
    struct user u = user_of(fds[0], 0);
    PT_EQ(pica_add_reader(fds[0], NULL, &u), -EINVAL);
    PT_EQ(pica_add_reader(-1, on_ready, &u), -EBADF);
    end_pair(fds);
    PT_EQ(pica_add_reader(fds[0], on_ready, &u), -EBADF);
    PT_EQ(pica_remove_reader(fds[0]), 0);
    pica_future_unref(u.told);
    (void)arg;
    return 0;
}

static int late_fds[2];
static struct user late;

/* The main task ends with registrations: one that is ready all the time, one that never is. */
static int ends_with_registrations(void *arg) {
    static struct user never;
    pair(late_fds);
    put(late_fds[1]);
    late = user_of(late_fds[0], 0);
    never = user_of(late_fds[1], 0);
    PT_EQ(pica_add_reader(late_fds[0], on_ready, &late), 0);
    PT_EQ(pica_add_reader(late_fds[1], on_ready, &never), 0);
    PT_EQ(pica_add_writer(late_fds[1], on_ready, &late), 0);
    pica_future_unref(late.told);
    pica_future_unref(never.told);
    (void)arg;
    return 0;
}

PT_TEST(closing_runtime_drops_them) {
    tasks_run(ends_with_registrations, PICA_ORDER_FREE, NULL);
    int calls = late.calls;
    usleep(2000);
    PT_EQ(late.calls, calls);
    end_pair(late_fds);
}

PT_MAIN()
