/* The life of a runtime: run, stop, run again, close, and who may call what from where. */
#include <pica.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/tasks.h"

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static void *code_of(int n) {
    return (void *)(intptr_t)n;
}

static int yields_then(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : code(arg);
}

static int forever(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

static pica_runtime *runtime_new(void) {
    pica_runtime *rt = NULL;
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    return rt;
}

/* --- pica_run --- */

static int tells_thread(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return (int)pica_runtime_workers(pica_current_runtime());
}

/* One worker needs no thread beside the caller's, unless it is asked for. */
PT_TEST(hosted) {
    PT_REQUIRE(unsetenv("PICA_DEBUG") == 0);
    pthread_t thread;
    int workers = pica_run(tells_thread, &thread);
    PT_EQ(pthread_equal(thread, pthread_self()) != 0, workers == 1);
    PT_REQUIRE(setenv("PICA_DEBUG", "unhosted", 1) == 0);
    PT_EQ(pica_run(tells_thread, &thread), workers);
    PT_CHECK(!pthread_equal(thread, pthread_self()));
}

PT_TEST(results) {
    static const int codes[] = {0, 42, -EIO, PICA_ECANCELED, PICA_EINVALSTATE, INT32_MAX};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        PT_EQ(pica_run(code, code_of(codes[i])), codes[i]);
        PT_EQ(pica_run(yields_then, code_of(codes[i])), codes[i]);
        PT_EQ(pica_run_opts(yields_then, code_of(codes[i]), NULL), codes[i]);
    }
}

struct cleanup {
    pica_future *begun;
    struct value *ended;
};

static int cleans_up(void *arg) {
    struct cleanup *c = arg;
    signal_future(c->begun);
    int rc = pica_sleep(PICA_FOREVER);
    PT_EQ(rc, PICA_ECANCELED);
    PT_EQ(pica_yield(), 0); /* it may take its time */
    PT_EQ(pica_sleep(0.002), 0);
    value_destroy(c->ended);
    return rc;
}

static struct cleanup left[5];

static int leaves_tasks(void *arg) {
    for (int i = 0; i < 5; i++) {
        left[i] = (struct cleanup){new_future(), value_new(1)};
        PT_EQ(pica_create_task(NULL, cleans_up, &left[i]), 0);
    }
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_await(left[i].begun, NULL), 0);
        pica_future_unref(left[i].begun);
    }
    return code(arg);
}

/* Every other task is cancelled and awaited before it returns, whatever main's result is. */
PT_TEST(tasks_are_ended) {
    PT_EQ(pica_run(leaves_tasks, code_of(3)), 3);
    PT_EQ(pica_run(leaves_tasks, code_of(-EIO)), -EIO);
    values_check();
}

static int creates_while_closing(void *arg) {
    pica_task *task = NULL;
    signal_future(arg);
    PT_EQ(pica_sleep(PICA_FOREVER), PICA_ECANCELED);
    PT_EQ(pica_create_task(&task, code, NULL), PICA_ECLOSED);
    PT_CHECK(task == NULL);
    pica_loop *loop = pica_current_loop();
    pica_thread_future *f = NULL;
    pica_async *async = NULL;
    PT_EQ(pica_call_soon_threadsafe(loop, NULL, NULL, NULL), PICA_ECLOSED);
    PT_EQ(pica_loop_call_later(loop, 1, NULL, NULL, NULL), PICA_ECLOSED);
    PT_EQ(pica_loop_call_at(loop, 1, NULL, NULL, NULL), PICA_ECLOSED);
    PT_EQ(pica_run_coroutine_threadsafe(pica_current_runtime(), code, NULL, &f), PICA_ECLOSED);
    PT_EQ(pica_async_new(&async, loop, NULL, NULL), PICA_ECLOSED);
    return 0;
}

static int leaves_a_creator(void *arg) {
    pica_future *begun = new_future();
    (void)arg;
    PT_EQ(pica_create_task(NULL, creates_while_closing, begun), 0);
    PT_EQ(pica_await(begun, NULL), 0);
    pica_future_unref(begun);
    return 0;
}

PT_TEST(closing) {
    PT_EQ(pica_run(leaves_a_creator, NULL), 0);
}

/* --- from inside --- */

static int nests(void *arg) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    pica_runtime *other = arg;
    pica_runtime *own = pica_current_runtime();
    PT_EQ(pica_run(code, code_of(1)), -EDEADLK);
    PT_EQ(pica_run_opts(code, code_of(1), &options), -EDEADLK);
    PT_EQ(pica_run_until_complete(own, code, code_of(1)), -EDEADLK);
    PT_EQ(pica_run_until_complete(other, code, code_of(1)), -EDEADLK);
    PT_EQ(pica_run_forever(own), -EDEADLK);
    PT_EQ(pica_close(own), -EDEADLK);
    PT_EQ(pica_close(other), -EDEADLK);
    return 0;
}

struct nested {
    pica_runtime *other;
    pica_future *told;
};

static void nests_in_callback(void *arg) {
    struct nested *n = arg;
    PT_EQ(nests(n->other), 0);
    signal_future(n->told);
}

static int nests_everywhere(void *arg) {
    struct nested n = {arg, new_future()};
    PT_EQ(nests(arg), 0);
    PT_EQ(pica_call_soon(nests_in_callback, &n, NULL), 0);
    PT_EQ(pica_await(n.told, NULL), 0);
    pica_future_unref(n.told);
    return 0;
}

PT_TEST(nesting_is_refused) {
    pica_runtime *other = runtime_new();
    PT_EQ(pica_run(nests_everywhere, other), 0);
    PT_EQ(pica_run_until_complete(other, code, code_of(2)), 2);
    PT_EQ(pica_close(other), 0);
}

/* --- run_until_complete --- */

PT_TEST(nothing_was_run) {
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_close(runtime_new()), 0);
    }
}

PT_TEST(many_runs) {
    pica_runtime *rt = runtime_new();
    for (int i = 0; i < 200; i++) {
        PT_EQ(pica_run_until_complete(rt, i % 2 == 0 ? code : yields_then, code_of(i)), i);
    }
    PT_EQ(pica_close(rt), 0);
}

struct ticker {
    atomic_int ticks;
    pica_future *go;
    pica_task *task;
};

static int ticks(void *arg) {
    struct ticker *t = arg;
    atomic_fetch_add(&t->ticks, 1);
    PT_EQ(pica_await(t->go, NULL), 0);
    atomic_fetch_add(&t->ticks, 1);
    PT_EQ(pica_sleep(0.005), 0);
    atomic_fetch_add(&t->ticks, 1);
    return 7;
}

static int begins(void *arg) {
    struct ticker *t = arg;
    t->task = spawn(ticks, t);
    while (atomic_load(&t->ticks) == 0) {
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

static int joins(void *arg) {
    struct ticker *t = arg;
    return pica_join(t->task, NULL);
}

/* A task stays suspended between two runs and goes on in the next: nothing runs in between, and what
 * happened meanwhile is not lost. */
PT_TEST(suspended_between_runs) {
    pica_runtime *rt = runtime_new();
    struct ticker t = {.go = new_future()};
    PT_EQ(pica_run_until_complete(rt, begins, &t), 0);
    PT_EQ(t.ticks, 1);
    signal_future(t.go); /* by a thread outside, while nothing runs */
    PT_EQ(pica_future_done(PICA_FUTURE(t.task)), 0);
    PT_EQ(t.ticks, 1);
    PT_EQ(pica_run_until_complete(rt, joins, &t), 7);
    PT_EQ(t.ticks, 3);
    PT_EQ(pica_close(rt), 0);
    pica_future_unref(t.go);
}

static int starts_sleeper(void *arg) {
    struct ticker *t = arg;
    t->task = spawn(forever, NULL);
    PT_EQ(pica_yield(), 0);
    return 0;
}

static int cancels(void *arg) {
    struct ticker *t = arg;
    PT_EQ(pica_task_cancel(t->task), 1);
    return pica_join(t->task, NULL);
}

PT_TEST(cancelled_between_runs) {
    pica_runtime *rt = runtime_new();
    for (int i = 0; i < 2; i++) {
        struct ticker t = {.go = NULL};
        PT_EQ(pica_run_until_complete(rt, starts_sleeper, &t), 0);
        if (i == 0) {
            PT_EQ(pica_task_cancel(t.task), 1); /* from outside, while nothing runs */
            PT_EQ(pica_run_until_complete(rt, joins, &t), PICA_ECANCELED);
        } else {
            PT_EQ(pica_run_until_complete(rt, cancels, &t), PICA_ECANCELED);
        }
    }
    PT_EQ(pica_close(rt), 0);
}

/* --- stop --- */

static int stops_itself(void *arg) {
    struct ticker *t = arg;
    pica_stop(pica_current_runtime());
    PT_EQ(pica_await(t->go, NULL), 0);
    atomic_fetch_add(&t->ticks, 1);
    return 5;
}

/* The run ends, the task does not: it goes on in a later run. */
PT_TEST(stopped_before_main_ended) {
    pica_runtime *rt = runtime_new();
    struct ticker t = {.go = new_future()};
    PT_EQ(pica_run_until_complete(rt, stops_itself, &t), PICA_EINVALSTATE);
    PT_EQ(t.ticks, 0);
    signal_future(t.go);
    for (int i = 0; atomic_load(&t.ticks) == 0; i++) {
        PT_EQ(pica_run_until_complete(rt, yields_then, code_of(1)), 1);
    }
    PT_EQ(t.ticks, 1);
    PT_EQ(pica_close(rt), 0);
    pica_future_unref(t.go);
}

static int stops_and_ends(void *arg) {
    pica_stop(pica_current_runtime());
    return code(arg);
}

/* A stop belongs to the run in which it was made, or to the next. */
PT_TEST(stop_is_used_up) {
    pica_runtime *rt = runtime_new();
    for (int i = 0; i < 100; i++) {
        int rc = pica_run_until_complete(rt, stops_and_ends, code_of(1));
        PT_CHECK(rc == 1 || rc == PICA_EINVALSTATE);
        PT_EQ(pica_run_until_complete(rt, yields_then, code_of(2)), 2);
    }
    PT_EQ(pica_close(rt), 0);
}

static void stops(void *arg) {
    pica_stop(arg);
}

static void *stops_main(void *arg) {
    pica_stop(arg);
    return NULL;
}

PT_TEST(run_forever) {
    pica_runtime *rt = runtime_new();
    unsigned workers = pica_runtime_workers(rt);
    for (unsigned i = 0; i < 20; i++) {
        pica_loop *loop = pica_runtime_loop(rt, i % workers);
        PT_EQ(i % 2 == 0 ? pica_call_soon_threadsafe(loop, stops, rt, NULL)
                         : pica_loop_call_later(loop, 0.001, stops, rt, NULL),
              0);
        PT_EQ(pica_run_forever(rt), 0);
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, stops_main, rt) == 0);
        PT_EQ(pica_run_forever(rt), 0);
        pthread_join(thread, NULL);
    }
    PT_EQ(pica_close(rt), 0);
}

/* A stop before a run: one turn of each loop, so what is queued there runs, and what that adds does
 * not. */
struct turned {
    atomic_int first, second;
};

static void second_turn(void *arg) {
    atomic_fetch_add(&((struct turned *)arg)->second, 1);
}

static void first_turn(void *arg) {
    struct turned *t = arg;
    atomic_fetch_add(&t->first, 1);
    PT_EQ(pica_call_soon(second_turn, t, NULL), 0);
}

PT_TEST(stopped_before_it_runs) {
    pica_runtime *rt = runtime_new();
    unsigned workers = pica_runtime_workers(rt);
    for (int i = 1; i <= 20; i++) {
        struct turned t = {.first = 0};
        for (unsigned k = 0; k < workers; k++) {
            PT_EQ(pica_call_soon_threadsafe(pica_runtime_loop(rt, k), first_turn, &t, NULL), 0);
        }
        pica_stop(rt);
        pica_stop(rt);
        PT_EQ(pica_run_forever(rt), 0);
        PT_EQ(t.first, (int)workers);
        PT_EQ(t.second, 0); /* it stays queued */
        pica_stop(rt);
        PT_EQ(pica_run_forever(rt), 0);
        PT_EQ(t.second, (int)workers);
    }
    PT_EQ(pica_close(rt), 0);
}

/* What runs in the batch of the stop still runs, and no user code runs outside of a run. */
struct guarded {
    atomic_bool inside;
    pica_runtime *rt;
    atomic_int steps;
};

static int runs_always(void *arg) {
    struct guarded *g = arg;
    for (;;) {
        PT_CHECK(atomic_load(&g->inside));
        atomic_fetch_add(&g->steps, 1);
        int rc = pica_yield();
        if (rc < 0) {
            return rc;
        }
    }
}

PT_TEST(nothing_runs_outside_of_a_run) {
    struct guarded g = {.rt = runtime_new()};
    pica_thread_future *f[4];
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_run_coroutine_threadsafe(g.rt, runs_always, &g, &f[i]), 0);
    }
    for (int i = 0; i < 30; i++) {
        atomic_store(&g.inside, true);
        PT_EQ(pica_run_until_complete(g.rt, yields_then, code_of(1)), 1);
        atomic_store(&g.inside, false);
        int steps = atomic_load(&g.steps);
        PT_EQ(pica_thread_future_wait(f[0], 0.001), 0);
        PT_EQ(atomic_load(&g.steps), steps);
    }
    atomic_store(&g.inside, true); /* the close lets them end */
    for (int i = 0; i < 4; i++) {
        pica_thread_future_free(f[i]);
    }
    PT_EQ(pica_close(g.rt), 0);
}

static pica_runtime *stopped_by_signal;

static void stop_handler(int signal) {
    (void)signal;
    pica_stop(stopped_by_signal);
}

static void raises(void *arg) {
    (void)arg;
    PT_EQ(raise(SIGUSR1), 0);
}

PT_TEST(stopped_by_a_signal) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = stop_handler;
    PT_REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
    stopped_by_signal = runtime_new();
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_call_soon_threadsafe(pica_runtime_loop(stopped_by_signal, 0), raises, NULL, NULL),
              0);
        PT_EQ(pica_run_forever(stopped_by_signal), 0);
    }
    PT_EQ(pica_close(stopped_by_signal), 0);
}

/* --- two controllers --- */

struct controller {
    pica_runtime *rt;
    pica_future *running;
};

static int is_busy(void *arg) {
    struct controller *c = arg;
    signal_future(c->running);
    return forever(NULL);
}

static void *controls_main(void *arg) {
    struct controller *c = arg;
    return (void *)(intptr_t)pica_run_until_complete(c->rt, is_busy, c);
}

PT_TEST(one_controller_at_a_time) {
    struct controller c = {runtime_new(), new_future()};
    pthread_t thread;
    void *rc = NULL;
    PT_REQUIRE(pthread_create(&thread, NULL, controls_main, &c) == 0);
    while (!pica_future_done(c.running)) {
        sched_yield();
    }
    PT_EQ(pica_run_until_complete(c.rt, code, NULL), -EBUSY);
    PT_EQ(pica_run_forever(c.rt), -EBUSY);
    PT_EQ(pica_close(c.rt), -EBUSY);
    pica_stop(c.rt);
    pthread_join(thread, &rc);
    PT_EQ((intptr_t)rc, PICA_EINVALSTATE);
    PT_EQ(pica_run_until_complete(c.rt, code, code_of(3)), 3);
    PT_EQ(pica_close(c.rt), 0);
    pica_future_unref(c.running);
}

/* --- close --- */

static int awaits(void *arg) {
    return pica_await(arg, NULL);
}

static int starts_forever(void *arg) {
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_create_task(NULL, forever, NULL), 0);
        PT_EQ(pica_create_task(NULL, awaits, arg), 0);
    }
    return pica_yield();
}

PT_TEST(close_ends_what_never_began) {
    pica_runtime *rt = runtime_new();
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_run_coroutine_threadsafe(rt, forever, NULL, NULL), 0);
    }
    PT_EQ(pica_close(rt), 0);
}

PT_TEST(close_ends_what_waits) {
    pica_runtime *rt = runtime_new();
    pica_future *never = new_future();
    PT_EQ(pica_run_until_complete(rt, starts_forever, never), 0);
    PT_EQ(pica_close(rt), 0);
    pica_future_unref(never);
}

/* A task that does not end when it is asked to: given up after a while, and said so. */
struct logged {
    atomic_int count;
    char text[256];
};

static void log_hook(void *ctx, int level, const char *text) {
    struct logged *l = ctx;
    if (level == PICA_LOG_ERROR && atomic_fetch_add(&l->count, 1) == 0) {
        strncpy(l->text, text, sizeof l->text - 1);
    }
}

static int never_ends(void *arg) {
    while (pica_shield(arg, NULL) != 0) {
    }
    return 0;
}

static int leaves_stubborn(void *arg) {
    PT_EQ(pica_create_task(NULL, never_ends, arg), 0);
    return pica_yield();
}

PT_TEST_HIDDEN(close_gives_up, 60) {
    static struct logged logged;
    static pica_future *never;
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = log_hook;
    options.log_ctx = &logged;
    never = new_future();
    double begin = pica_time();
    PT_EQ(pica_run_opts(leaves_stubborn, never, &options), 0);
    PT_CHECK(pica_time() - begin >= 1);
    PT_EQ(logged.count, 1);
    PT_CHECK(strstr(logged.text, "1 task") != NULL);
}

/* --- several runtimes --- */

enum { RUNTIMES = 3 };

struct ring {
    pica_future *token[RUNTIMES + 1];
};

struct place {
    struct ring *ring;
    int index;
    pthread_t thread;
    pica_runtime *rt;
};

static int passes_token(void *arg) {
    struct place *p = arg;
    p->rt = pica_current_runtime();
    PT_EQ(pica_await(p->ring->token[p->index], NULL), 0);
    PT_CHECK(pica_current_runtime() == p->rt);
    signal_future(p->ring->token[p->index + 1]);
    return p->index;
}

static void *place_main(void *arg) {
    struct place *p = arg;
    PT_EQ(pica_run(passes_token, p), p->index);
    return NULL;
}

PT_TEST(several_at_once) {
    for (int round = 0; round < 10; round++) {
        struct ring ring;
        struct place place[RUNTIMES];
        for (int i = 0; i <= RUNTIMES; i++) {
            ring.token[i] = new_future();
        }
        for (int i = 0; i < RUNTIMES; i++) {
            place[i] = (struct place){&ring, i, 0, NULL};
            PT_REQUIRE(pthread_create(&place[i].thread, NULL, place_main, &place[i]) == 0);
        }
        signal_future(ring.token[0]);
        for (int i = 0; i < RUNTIMES; i++) {
            pthread_join(place[i].thread, NULL);
        }
        PT_EQ(pica_future_done(ring.token[RUNTIMES]), 1);
        for (int i = 0; i <= RUNTIMES; i++) {
            pica_future_unref(ring.token[i]);
        }
    }
}

/* Two that exist at once, run in turn by one thread; a loop of the other is refused. */
static int uses_other_loop(void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_runtime *other = arg;
    pica_task *task = NULL;
    options.loop = pica_runtime_loop(other, 0);
    PT_EQ(pica_create_task_opts(&task, code, NULL, &options), -EINVAL);
    PT_CHECK(task == NULL);
    PT_CHECK(pica_current_runtime() != other);
    return 0;
}

PT_TEST(side_by_side) {
    pica_runtime *a = runtime_new();
    pica_runtime *b = runtime_new();
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_run_until_complete(a, uses_other_loop, b), 0);
        PT_EQ(pica_run_until_complete(b, uses_other_loop, a), 0);
    }
    PT_EQ(pica_close(a), 0);
    PT_EQ(pica_run_until_complete(b, code, code_of(4)), 4);
    PT_EQ(pica_close(b), 0);
}

PT_MAIN()
