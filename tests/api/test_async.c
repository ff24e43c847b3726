/* pica_async: triggered from signal handlers and threads, merged, and gone when it is freed. */
#include <pica.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/tasks.h"

enum { THREADS = 3, SENDS = 2000 };

struct counter {
    pica_async *async;
    pica_loop *loop;
    atomic_int calls;
    atomic_int running;
    pica_future *told; /* completed at the first call, if there is one */
};

static void called(void *arg) {
    struct counter *c = arg;
    PT_EQ(atomic_fetch_add(&c->running, 1), 0);
    PT_CHECK(pica_current_loop() == c->loop);
    PT_CHECK(pica_current_task() == NULL);
    if (atomic_fetch_add(&c->calls, 1) == 0 && c->told != NULL) {
        signal_future(c->told);
    }
    atomic_fetch_sub(&c->running, 1);
}

static struct counter *counter_new(pica_loop *loop) {
    struct counter *c = calloc(1, sizeof *c);
    PT_REQUIRE(c != NULL);
    c->loop = loop;
    c->told = new_future();
    PT_EQ(pica_async_new(&c->async, loop, called, c), 0);
    return c;
}

static void complete(void *arg) {
    signal_future(arg);
}

static void settle(pica_loop *loop) {
    for (int i = 0; i < 2; i++) { /* a call that was merged into a running one comes after it */
        pica_future *f = new_future();
        PT_EQ(pica_call_soon_threadsafe(loop, complete, f, NULL), 0);
        PT_EQ(pica_await(f, NULL), 0);
        pica_future_unref(f);
    }
}

static void counter_free(struct counter *c) {
    pica_async_free(c->async);
    settle(c->loop);
    pica_future_unref(c->told);
    free(c);
}

/* --- sending --- */

TASK_TEST(one_send_one_call) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    for (unsigned i = 0; i < 2 * pica_runtime_workers(rt) && i < 16; i++) {
        struct counter *c = counter_new(pica_runtime_loop(rt, i % pica_runtime_workers(rt)));
        PT_EQ(c->calls, 0);
        pica_async_send(c->async);
        PT_EQ(pica_await(c->told, NULL), 0);
        settle(c->loop);
        PT_EQ(c->calls, 1);
        pica_async_send(c->async);
        settle(c->loop);
        PT_EQ(c->calls, 2); /* after each send that came behind a call */
        counter_free(c);
    }
    return 0;
}

static int merged_main(void *arg) {
    (void)arg;
    struct counter *c = counter_new(pica_current_loop());
    for (int i = 0; i < 10; i++) {
        pica_async_send(c->async);
    }
    PT_EQ(c->calls, 0);
    settle(c->loop);
    PT_EQ(c->calls, 1);
    counter_free(c);
    return 0;
}

TASK_TEST(sends_are_merged) {
    return pica_join(spawn_pinned(0, merged_main, arg), NULL);
}

/* A send from within the call, or while it runs, leads to another one. */
static void sends_again(void *arg) {
    struct counter *c = arg;
    if (atomic_fetch_add(&c->calls, 1) < 4) {
        pica_async_send(c->async);
        pica_async_send(c->async);
    } else {
        signal_future(c->told);
    }
}

TASK_TEST(send_while_it_runs) {
    (void)arg;
    struct counter *c = calloc(1, sizeof *c);
    PT_REQUIRE(c != NULL);
    c->loop = pica_current_loop();
    c->told = new_future();
    PT_EQ(pica_async_new(&c->async, c->loop, sends_again, c), 0);
    pica_async_send(c->async);
    PT_EQ(pica_await(c->told, NULL), 0);
    settle(c->loop);
    PT_EQ(c->calls, 5);
    counter_free(c);
    return 0;
}

/* No send is lost: what was written before the last one is seen by a call. */
struct feeder {
    atomic_int sent; /* written before each send */
    int seen;        /* on the loop */
    pica_future *all;
    pica_async *async;
};

static void sees(void *arg) {
    struct feeder *f = arg;
    int sent = atomic_load_explicit(&f->sent, memory_order_relaxed);
    PT_CHECK(sent >= f->seen);
    if (f->seen < THREADS * SENDS && sent == THREADS * SENDS) {
        signal_future(f->all);
    }
    f->seen = sent;
}

static void *feeder_main(void *arg) {
    struct feeder *f = arg;
    for (int i = 0; i < SENDS; i++) {
        atomic_fetch_add_explicit(&f->sent, 1, memory_order_relaxed);
        pica_async_send(f->async);
    }
    return NULL;
}

TASK_TEST(no_send_is_lost) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    struct feeder f = {.all = new_future()};
    pthread_t thread[THREADS];
    PT_EQ(pica_async_new(&f.async, pica_runtime_loop(rt, pica_runtime_workers(rt) - 1), sees, &f),
          0);
    for (int i = 0; i < THREADS; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, feeder_main, &f) == 0);
    }
    PT_EQ(pica_await(f.all, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    settle(pica_runtime_loop(rt, pica_runtime_workers(rt) - 1));
    pica_async_free(f.async);
    settle(pica_runtime_loop(rt, pica_runtime_workers(rt) - 1));
    pica_future_unref(f.all);
    return 0;
}

/* --- freeing --- */

static int freed_main(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct counter *c = counter_new(pica_current_loop());
        if (i % 2 == 0) {
            pica_async_send(c->async); /* queued when it is freed */
        }
        pica_async_free(c->async);
        settle(c->loop);
        PT_EQ(c->calls, 0);
        pica_future_unref(c->told);
        free(c);
    }
    pica_async_free(NULL);
    return 0;
}

TASK_TEST(freed_before_the_call) {
    return pica_join(spawn_pinned(0, freed_main, arg), NULL);
}

static void frees_itself(void *arg) {
    struct counter *c = arg;
    atomic_fetch_add(&c->calls, 1);
    if (atomic_load(&c->running) != 0) {
        pica_async_send(c->async);
    }
    pica_async_free(c->async);
    signal_future(c->told);
}

TASK_TEST(freed_by_its_call) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct counter *c = calloc(1, sizeof *c);
        PT_REQUIRE(c != NULL);
        c->loop = pica_current_loop();
        c->told = new_future();
        c->running = i; /* 1: it sends once more before it goes */
        PT_EQ(pica_async_new(&c->async, c->loop, frees_itself, c), 0);
        pica_async_send(c->async);
        PT_EQ(pica_await(c->told, NULL), 0);
        settle(c->loop);
        PT_EQ(c->calls, 1);
        pica_future_unref(c->told);
        free(c);
    }
    return 0;
}

/* It may outlive its runtime, queued or not. */
static struct counter outliving[2];

static int leaves_behind(void *arg) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        outliving[i] = (struct counter){.loop = pica_current_loop()};
        PT_EQ(pica_async_new(&outliving[i].async, outliving[i].loop, called, &outliving[i]), 0);
    }
    pica_async_send(outliving[1].async);
    return 0;
}

PT_TEST(outlives_the_runtime) {
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_run(leaves_behind, NULL), 0);
        PT_EQ(outliving[0].calls, 0);
        PT_CHECK(outliving[1].calls <= 1);
        pica_async_free(outliving[0].async);
        pica_async_free(outliving[1].async);
    }
}

/* --- from signal handlers --- */

static struct counter *in_handler;
static atomic_int handled, left;

static void handler(int signal) {
    (void)signal;
    atomic_fetch_add(&handled, 1);
    pica_async_send(in_handler->async);
    atomic_fetch_add(&left, 1);
}

static void handle(int signal, void (*how)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = how;
    action.sa_flags = SA_RESTART;
    PT_REQUIRE(sigaction(signal, &action, NULL) == 0);
}

static void raises(void *arg) {
    (void)arg;
    PT_EQ(raise(SIGUSR1), 0);
}

static void *raises_main(void *arg) {
    raises(arg);
    return NULL;
}

/* On a task's stack, in a callback, on a thread that the library does not know. */
TASK_TEST(signal_on_every_kind_of_thread) {
    (void)arg;
    in_handler = counter_new(pica_current_loop());
    handle(SIGUSR1, handler);
    raises(NULL);
    settle(in_handler->loop);
    PT_EQ(in_handler->calls, 1);
    PT_EQ(pica_call_soon(raises, NULL, NULL), 0);
    settle(in_handler->loop);
    settle(in_handler->loop);
    PT_EQ(in_handler->calls, 2);
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, raises_main, NULL) == 0);
    pthread_join(thread, NULL);
    settle(in_handler->loop);
    PT_EQ(in_handler->calls, 3);
    PT_EQ(handled, 3);
    counter_free(in_handler);
    return 0;
}

/* ThreadSanitizer keeps a signal for the task that it hit, which may not run again. */
#if !defined(__has_feature)
#define __has_feature(x) 0
#endif
#if !__has_feature(thread_sanitizer)
/* A signal hits whatever runs: the loop's own code, switches, the kernel. A thread sends them to each
 * worker and to the process in turn, and waits for each, so that every handler is known to have been
 * there and none is still on its way when the trigger is freed. */
enum { SIGNALS = 1000, TARGETS_MAX = 64 };

struct storm {
    struct counter *counter;
    pthread_t target[TARGETS_MAX]; /* the workers' threads */
    unsigned targets;
    atomic_bool over;
};

static void nothing(void *arg) {
    (void)arg;
}

static int works(void *arg) {
    struct storm *s = arg;
    for (int i = 0; !atomic_load(&s->over); i++) {
        int rc = i % 8 == 0 ? pica_sleep(1e-5) : pica_yield();
        PT_EQ(rc, 0);
        PT_EQ(pica_call_soon_threadsafe(s->counter->loop, nothing, NULL, NULL), 0);
    }
    return 0;
}

static int tells_thread(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return 0;
}

/* Until *n is at least `least`. */
static void await_count(atomic_int *n, int least) {
    while (atomic_load(n) < least) {
        const struct timespec pause = {0, 20000};
        nanosleep(&pause, NULL);
    }
}

static void *storm_main(void *arg) {
    struct storm *s = arg;
    for (int i = 0; i < SIGNALS; i++) {
        int calls = atomic_load(&s->counter->calls);
        unsigned at = (unsigned)i % (s->targets + 1);
        PT_EQ(at < s->targets ? pthread_kill(s->target[at], SIGALRM) : kill(getpid(), SIGALRM), 0);
        await_count(&left, i + 1);
        if (i % 10 == 0) {
            await_count(&s->counter->calls, calls + 1); /* a trigger that is stuck ends here */
        }
    }
    atomic_store(&s->over, true);
    return NULL;
}

TASK_TEST_TIMEOUT(signal_anywhere, 60) {
    (void)arg;
    struct storm s = {.counter = counter_new(pica_current_loop())};
    in_handler = s.counter;
    handle(SIGALRM, handler);
    s.targets = pica_runtime_workers(pica_current_runtime());
    PT_REQUIRE(s.targets <= TARGETS_MAX);
    for (unsigned i = 0; i < s.targets; i++) {
        PT_EQ(pica_join(spawn_pinned(i, tells_thread, &s.target[i]), NULL), 0);
    }
    pica_task *task[4];
    for (unsigned i = 0; i < 4; i++) {
        task[i] = i % 2 == 0 ? spawn(works, &s) : spawn_pinned(i, works, &s);
    }
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, storm_main, &s) == 0);
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    pthread_join(thread, NULL);
    PT_EQ(handled, SIGNALS);
    settle(s.counter->loop);
    PT_CHECK(s.counter->calls >= SIGNALS / 10);
    PT_CHECK(s.counter->calls <= SIGNALS);
    int before = atomic_load(&s.counter->calls);
    pica_async_send(s.counter->async);
    settle(s.counter->loop);
    PT_EQ(s.counter->calls, before + 1);
    counter_free(s.counter);
    return 0;
}

#endif

PT_MAIN()
