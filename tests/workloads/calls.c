/* Callbacks and what else comes from outside of tasks: triggers, watched descriptors, pools that close, events that are
 * set and cleared, results that are taken. What was asked for comes, what was ended does not come any more. */
#include "tests/workloads/workload.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SENDERS = 3, SENDS = 5, WAITERS = 4, JOBS = 4, CROWD = 40, BYTES = 6, TRIES = 8 };

/* Waits for something that is to come soon. */
static bool comes(bool (*has_come)(void *arg), void *arg) {
    for (int i = 0; i < 2000; i++) {
        if (has_come(arg)) {
            return true;
        }
        (void)pica_sleep(0.01);
    }
    return false;
}

/* --- triggers --- */

struct trigger {
    pica_async *async;
    atomic_uint sent, seen;
    atomic_bool freed;
    unsigned again; /* so often it triggers itself */
    bool frees;     /* itself, with a trigger under way or without */
};

static void triggered(void *arg) {
    struct trigger *t = arg;
    WL_CHECK(!atomic_load(&t->freed));
    atomic_store(&t->seen, atomic_load(&t->sent));
    if (t->again > 0) {
        t->again--;
        pica_async_send(t->async);
    }
    if (t->frees) {
        atomic_store(&t->freed, true);
        pica_async_free(t->async);
    }
}

static int sends(void *arg) {
    struct trigger *t = arg;
    for (int i = 0; i < SENDS; i++) {
        atomic_fetch_add(&t->sent, 1);
        pica_async_send(t->async);
        (void)(wl_choose(2) == 0 ? pica_yield() : pica_sleep(0.0002 * wl_choose(4)));
    }
    return 0;
}

static bool all_seen(void *arg) {
    struct trigger *t = arg;
    return atomic_load(&t->seen) == atomic_load(&t->sent);
}

static bool is_freed(void *arg) {
    return atomic_load(&((struct trigger *)arg)->freed);
}

static void triggers(void) {
    struct trigger t = {.again = 3};
    pica_task *task[SENDERS];
    if (!WL_OK(pica_async_new(&t.async, pica_current_loop(), triggered, &t))) {
        return;
    }
    for (int i = 0; i < SENDERS; i++) {
        task[i] = wl_task(sends, &t, "sends");
    }
    for (int i = 0; i < SENDERS; i++) {
        WL_EQ(wl_join(task[i]), 0);
    }
    WL_CHECK(comes(all_seen, &t));
    if (wl_choose(2) == 0) {
        pica_async_send(t.async); /* may be under way at the end, and then does not come */
    }
    /* Pinned to the loop, no call of it can have begun. */
    pica_async_free(t.async);
    atomic_store(&t.freed, true);
    static struct trigger own;
    own = (struct trigger){.frees = true, .again = wl_choose(2)};
    if (WL_OK(pica_async_new(&own.async, pica_current_loop(), triggered, &own))) {
        pica_async_send(own.async);
        WL_CHECK(comes(is_freed, &own));
    }
}

/* --- events --- */

static pica_event event;
static atomic_uint waits, woken;

static int waits_for_it(void *arg) {
    (void)arg;
    atomic_fetch_add(&waits, 1);
    int rc = pica_event_wait(&event);
    atomic_fetch_add(&woken, rc == 0);
    return rc;
}

static bool all_wait(void *arg) {
    (void)arg;
    return atomic_load(&waits) == WAITERS;
}

static void events(void) {
    pica_task *task[WAITERS];
    pica_event_init(&event);
    for (int round = 0; round < 2; round++) {
        atomic_store(&waits, 0);
        atomic_store(&woken, 0);
        for (int i = 0; i < WAITERS; i++) {
            task[i] = wl_task(waits_for_it, NULL, "waits");
        }
        WL_CHECK(comes(all_wait, NULL));
        if (round == 0) {
            pica_event_set(&event);
            pica_event_clear(&event); /* may be too early for some: they are cancelled below */
        }
        for (int i = 0; i < WAITERS; i++) {
            pica_task_cancel(task[i]);
            int rc = wl_join(task[i]);
            WL_CHECK(rc == PICA_ECANCELED || (rc == 0 && round == 0));
        }
        WL_CHECK(round == 0 || atomic_load(&woken) == 0);
    }
    pica_event_set(&event);
    WL_EQ(pica_event_wait(&event), 0);
}

/* --- a pool that closes --- */

static pica_executor *pool;
static atomic_uint ran;

static int works(void *arg) {
    (void)arg;
    if (!pica_simulated()) {
        (void)usleep(500);
    }
    atomic_fetch_add(&ran, 1);
    return 7;
}

static int calls_pool(void *arg) {
    (void)arg;
    return pica_run_in_executor(pool, works, NULL);
}

static void pools(void) {
    pica_task *task[JOBS];
    unsigned done = 0;
    atomic_store(&ran, 0);
    if (!WL_OK(pica_executor_new(&pool, 1))) {
        return;
    }
    for (int i = 0; i < JOBS; i++) {
        task[i] = wl_task(calls_pool, NULL, "calls");
    }
    for (unsigned i = wl_choose(6); i > 0; i--) {
        (void)pica_yield();
    }
    pica_executor_close(pool);
    for (int i = 0; i < JOBS; i++) {
        int rc = wl_join(task[i]);
        WL_CHECK(rc == 7 || rc == PICA_ECLOSED || (!wl_strict() && (rc == -EAGAIN || rc == -ENOMEM)));
        done += rc == 7;
    }
    WL_EQ(pica_executor_wait_closed(pool), 0);
    WL_EQ(atomic_load(&ran), done);
    pica_executor_release(pool);
}

/* --- results that are taken, and many stacks at once --- */

static int gives(void *arg) {
    (void)pica_yield();
    return pica_return(arg, NULL);
}

static int sleeps(void *arg) {
    (void)arg;
    return pica_sleep(0.002);
}

static void results(void) {
    static int value;
    void *taken;
    pica_task *task = wl_task(gives, &value, "gives");
    WL_EQ(pica_await(pica_task_future(task), NULL), 0);
    WL_EQ(pica_future_take(pica_task_future(task), &taken), 0);
    WL_CHECK(taken == &value);
    WL_EQ(pica_future_take(pica_task_future(task), &taken), PICA_EINVALSTATE);
    pica_task_unref(task);
    pica_task *crowd[CROWD];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < CROWD; i++) {
            crowd[i] = wl_task(sleeps, NULL, "sleeps");
        }
        for (int i = 0; i < CROWD; i++) {
            WL_EQ(wl_join(crowd[i]), 0);
        }
    }
}

/* --- watched descriptors --- */

static struct {
    int fd[2]; /* what is written to the second one comes at the first */
    pica_address at;
    atomic_uint got;
    atomic_bool removed;
} line;

static bool line_open(int port) {
    if (!pica_simulated()) {
        return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, line.fd) == 0;
    }
    WL_EQ(pica_address_ip(&line.at, "127.0.0.1", 50000u + (unsigned)port), 0);
    line.fd[0] = pica_sim_datagram(&line.at);
    if (!WL_OK(line.fd[0])) {
        return false;
    }
    line.fd[1] = pica_sim_datagram(NULL);
    if (!WL_OK(line.fd[1])) {
        pica_sim_close(line.fd[0]);
        return false;
    }
    return true;
}

static void line_close(void) {
    for (int i = 0; i < 2; i++) {
        if (pica_simulated()) {
            pica_sim_close(line.fd[i]);
        } else {
            (void)close(line.fd[i]);
        }
    }
}

static void readable(void *arg) {
    char c;
    (void)arg;
    WL_CHECK(!atomic_load(&line.removed));
    ssize_t n = pica_simulated() ? pica_sim_receive(line.fd[0], &c, 1, NULL, 0) : read(line.fd[0], &c, 1);
    if (n == 1) {
        atomic_fetch_add(&line.got, 1);
    }
}

static bool has_all(void *arg) {
    (void)arg;
    return atomic_load(&line.got) >= BYTES;
}

static void watches(void) {
    bool open = false;
    atomic_store(&line.got, 0);
    atomic_store(&line.removed, false);
    for (int i = 0; i < TRIES && !open; i++) {
        open = line_open(i);
    }
    if (!open) {
        return;
    }
    if (!WL_OK(pica_add_reader(line.fd[0], readable, NULL))) {
        line_close();
        return;
    }
    for (int i = 0; i < BYTES; i++) {
        if (pica_simulated()) {
            (void)WL_OK(pica_sim_send(line.fd[1], "x", 1, &line.at));
        } else {
            WL_EQ(write(line.fd[1], "x", 1), 1);
        }
        (void)pica_sleep(0.0005 * wl_choose(3));
    }
    if (wl_strict()) {
        WL_CHECK(comes(has_all, NULL)); /* else some may have been lost */
    } else {
        (void)pica_sleep(0.02);
    }
    (void)WL_OK(pica_poll(line.fd[0], POLLOUT));
    WL_EQ(pica_remove_reader(line.fd[0]), 1);
    atomic_store(&line.removed, true);
    (void)pica_sleep(0.05); /* its end is on its way */
    line_close();
}

static int on_one_loop(void *arg) {
    (void)arg;
    triggers();
    watches();
    return 0;
}

int wl_calls(void *arg) {
    (void)arg;
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.pinned = 1;
    pica_task *task;
    int rc;
    do {
        rc = pica_create_task_opts(&task, on_one_loop, NULL, &options);
    } while (wl_lacks(rc));
    WL_EQ(rc, 0);
    events();
    pools();
    results();
    WL_EQ(wl_join(task), 0);
    wl_drain();
    return 0;
}
