/* Plain threads that run coroutines in a runtime: waiting, cancelling, results. */
#include <pica.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/support/tasks.h"

enum { THREADS = 4 };

/* A runtime that another thread runs. */
struct server {
    pica_runtime *rt;
    pthread_t thread;
    int rc;
};

static void *server_main(void *arg) {
    struct server *s = arg;
    s->rc = pica_run_forever(s->rt);
    return NULL;
}

static int fence(void *arg) {
    (void)arg;
    return 0;
}

static void server_start(struct server *s) {
    pica_thread_future *f = NULL;
    PT_REQUIRE(pica_runtime_new(&s->rt, NULL) == 0);
    PT_REQUIRE(pthread_create(&s->thread, NULL, server_main, s) == 0);
    PT_REQUIRE(pica_run_coroutine_threadsafe(s->rt, fence, NULL, &f) == 0);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1); /* it runs */
    pica_thread_future_free(f);
}

static void server_stop(struct server *s) {
    pica_stop(s->rt);
    pthread_join(s->thread, NULL);
    PT_EQ(s->rc, 0);
    PT_EQ(pica_close(s->rt), 0);
}

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static int yields_then(void *arg) {
    int rc = pica_sleep(1e-5);
    return rc < 0 ? rc : code(arg);
}

static int forever(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

static int returns_value(void *arg) {
    PT_EQ(pica_return(arg, value_destroy), 0);
    return yields_then((void *)0);
}

static int fails(void *arg) {
    return pica_fail(-EIO, "thread %d", *(int *)arg);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int waits_for_all(void *arg) {
    (void)arg;
    return pica_wait_all_tasks(0);
}

static void wait_for_all(struct server *s) {
    pica_thread_future *f = NULL;
    PT_EQ(pica_run_coroutine_threadsafe(s->rt, waits_for_all, NULL, &f), 0);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    pica_thread_future_free(f);
}

PT_TEST(results) {
    struct server s;
    server_start(&s);
    static const int codes[] = {0, 5, -EIO, PICA_ECANCELED};
    for (int i = 0; i < 8; i++) {
        pica_thread_future *f = NULL;
        int expected = codes[i / 2];
        PT_EQ(pica_run_coroutine_threadsafe(s.rt, i % 2 == 0 ? code : yields_then,
                                            (void *)(intptr_t)expected, &f),
              0);
        PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
        PT_EQ(pica_thread_future_wait(f, 0), 1);
        PT_EQ(pica_thread_future_result(f, NULL), expected);
        PT_CHECK(pica_thread_future_exception(f) == NULL);
        PT_EQ(pica_thread_future_cancel(f), 0);
        pica_thread_future_free(f);
    }
    pica_thread_future_free(NULL);
    server_stop(&s);
}

PT_TEST(values) {
    struct server s;
    struct value *v[2] = {value_new(1), value_new(1)};
    server_start(&s);
    pica_thread_future *f = NULL;
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, returns_value, v[0], &f), 0);
    PT_EQ(pica_thread_future_wait(f, 1e3), 1);
    for (int i = 0; i < 3; i++) {
        void *value = NULL;
        PT_EQ(pica_thread_future_result(f, &value), 0);
        PT_CHECK(value == v[0]);
        PT_EQ(v[0]->destroyed, 0);
    }
    pica_thread_future_free(f);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, returns_value, v[1], NULL), 0); /* detached */
    wait_for_all(&s);
    server_stop(&s);
    values_check();
}

PT_TEST(errors) {
    struct server s;
    int number = 9;
    pica_thread_future *f = NULL;
    server_start(&s);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, fails, &number, &f), 0);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_result(f, NULL), -EIO);
    pica_error *error = pica_thread_future_exception(f);
    PT_CHECK(error != NULL);
    PT_STR_EQ(pica_error_message(error), "thread 9");
    pica_error_ref(error); /* borrowed until the handle goes */
    pica_thread_future_free(f);
    PT_STR_EQ(pica_error_message(error), "thread 9");
    pica_error_unref(error);
    server_stop(&s);
}

PT_TEST(limits) {
    struct server s;
    pica_thread_future *f = NULL;
    server_start(&s);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, forever, NULL, &f), 0);
    PT_EQ(pica_thread_future_wait(f, NAN), -EINVAL);
    PT_EQ(pica_thread_future_wait(f, 0), 0);
    PT_EQ(pica_thread_future_wait(f, -1), 0);
    PT_EQ(pica_thread_future_wait(f, -PICA_FOREVER), 0);
    double begin = now();
    PT_EQ(pica_thread_future_wait(f, 0.01), 0);
    PT_CHECK(now() - begin >= 0.01);
    PT_EQ(pica_thread_future_result(f, NULL), PICA_EINVALSTATE);
    PT_CHECK(pica_thread_future_exception(f) == NULL);
    PT_EQ(pica_thread_future_cancel(f), 1);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_result(f, NULL), PICA_ECANCELED);
    PT_EQ(pica_thread_future_cancel(f), 0);
    pica_thread_future_free(f);
    server_stop(&s);
}

static int ignores(void *arg) {
    PT_EQ(forever(NULL), PICA_ECANCELED);
    return code(arg);
}

static int begun_then(void *arg) {
    signal_future(arg);
    return ignores((void *)8);
}

static int awaits(void *arg) {
    return pica_await(arg, NULL);
}

PT_TEST(cancel_is_a_request) {
    struct server s;
    pica_thread_future *f = NULL;
    pica_thread_future *begun = NULL;
    pica_future *told = new_future();
    server_start(&s);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, awaits, told, &begun), 0);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, begun_then, told, &f), 0);
    PT_EQ(pica_thread_future_wait(begun, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_cancel(f), 1);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_result(f, NULL), 8);
    pica_thread_future_free(f);
    pica_thread_future_free(begun);
    server_stop(&s);
    pica_future_unref(told);
}

/* The handle goes, the task stays. */
PT_TEST(freed_before_the_end) {
    struct server s;
    struct value *v = value_new(1);
    server_start(&s);
    for (int i = 0; i < 50; i++) {
        pica_thread_future *f = NULL;
        PT_EQ(pica_run_coroutine_threadsafe(s.rt, yields_then, NULL, &f), 0);
        pica_thread_future_free(f);
    }
    pica_thread_future *f = NULL;
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, returns_value, v, &f), 0);
    pica_thread_future_free(f);
    wait_for_all(&s);
    server_stop(&s);
    values_check();
}

/* --- many threads wait for one --- */

static void *waits_main(void *arg) {
    PT_EQ(pica_thread_future_wait(arg, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_result(arg, NULL), 6);
    return NULL;
}

static int six_when(void *arg) {
    int rc = pica_await(arg, NULL);
    return rc < 0 ? rc : 6;
}

PT_TEST(many_wait) {
    struct server s;
    pica_thread_future *f = NULL;
    pica_future *go = new_future();
    pthread_t thread[THREADS];
    server_start(&s);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, six_when, go, &f), 0);
    for (int i = 0; i < THREADS; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, waits_main, f) == 0);
    }
    PT_EQ(pica_thread_future_wait(f, 0.005), 0);
    signal_future(go);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    pica_thread_future_free(f);
    server_stop(&s);
    pica_future_unref(go);
}

/* --- many threads submit --- */

static int sum_of(void *arg) {
    atomic_int *sum = arg;
    int rc = pica_yield();
    atomic_fetch_add(sum, 1);
    return rc;
}

struct submitter {
    struct server *s;
    atomic_int *sum;
    pthread_t thread;
};

static void *submits_main(void *arg) {
    struct submitter *me = arg;
    for (int i = 0; i < 200; i++) {
        pica_thread_future *f = NULL;
        PT_EQ(pica_run_coroutine_threadsafe(me->s->rt, sum_of, me->sum, i % 4 == 0 ? NULL : &f), 0);
        if (i % 4 == 1) {
            PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
            PT_EQ(pica_thread_future_result(f, NULL), 0);
        }
        pica_thread_future_free(f); /* also while it runs */
    }
    return NULL;
}

PT_TEST(many_submit) {
    struct server s;
    struct submitter me[THREADS];
    atomic_int sum = 0;
    server_start(&s);
    for (int i = 0; i < THREADS; i++) {
        me[i] = (struct submitter){&s, &sum, 0};
        PT_REQUIRE(pthread_create(&me[i].thread, NULL, submits_main, &me[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(me[i].thread, NULL);
    }
    wait_for_all(&s);
    PT_EQ(sum, THREADS * 200);
    server_stop(&s);
}

/* --- from inside --- */

struct inside {
    pica_thread_future *future; /* of the task's own runtime */
    pica_future *go;
};

static int waits_inside(void *arg) {
    struct inside *i = arg;
    PT_EQ(pica_thread_future_wait(i->future, 1), -EDEADLK);
    PT_EQ(pica_thread_future_wait(i->future, PICA_FOREVER), -EDEADLK);
    PT_EQ(pica_thread_future_wait(i->future, 0), -EDEADLK);
    return 3;
}

static void waits_in_callback(void *arg) {
    struct inside *i = arg;
    PT_EQ(pica_thread_future_wait(i->future, 1), -EDEADLK);
    signal_future(i->go);
}

static int inside_main(void *arg) {
    struct inside *i = arg;
    PT_EQ(waits_inside(i), 3);
    PT_EQ(pica_call_soon(waits_in_callback, i, NULL), 0);
    return pica_await(i->go, NULL);
}

PT_TEST(waiting_on_a_worker_of_its_own) {
    struct server s;
    server_start(&s);
    struct inside i = {.go = new_future()};
    pica_thread_future *f = NULL;
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, fence, NULL, &i.future), 0);
    PT_EQ(pica_run_coroutine_threadsafe(s.rt, inside_main, &i, &f), 0);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_result(f, NULL), 0);
    pica_thread_future_free(f);
    pica_thread_future_free(i.future);
    server_stop(&s);
    pica_future_unref(i.go);
}

/* A worker of another runtime may wait: it blocks, but nothing that it waits for. */
static int waits_elsewhere(void *arg) {
    struct server *s = arg;
    pica_thread_future *f = NULL;
    PT_EQ(pica_run_coroutine_threadsafe(s->rt, yields_then, (void *)4, &f), 0);
    PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
    int rc = pica_thread_future_result(f, NULL);
    pica_thread_future_free(f);
    return rc;
}

PT_TEST(waiting_on_a_worker_of_another) {
    struct server s;
    server_start(&s);
    PT_EQ(pica_run(waits_elsewhere, &s), 4);
    server_stop(&s);
}

/* --- a runtime that does not run --- */

PT_TEST(starts_when_the_runtime_runs) {
    pica_runtime *rt = NULL;
    pica_thread_future *f[3];
    PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_run_coroutine_threadsafe(rt, i == 2 ? forever : yields_then, (void *)2, &f[i]),
              0);
    }
    PT_EQ(pica_thread_future_wait(f[0], 0.01), 0);
    PT_EQ(pica_thread_future_cancel(f[1]), 1);
    PT_EQ(pica_run_until_complete(rt, fence, NULL), 0);
    while (pica_thread_future_wait(f[0], 0) == 0) {
        PT_EQ(pica_run_until_complete(rt, fence, NULL), 0);
    }
    PT_EQ(pica_thread_future_result(f[0], NULL), 2);
    while (pica_thread_future_wait(f[1], 0) == 0) {
        PT_EQ(pica_run_until_complete(rt, fence, NULL), 0);
    }
    PT_EQ(pica_thread_future_result(f[1], NULL), PICA_ECANCELED);
    pica_thread_future_free(f[0]);
    pica_thread_future_free(f[1]);
    pica_thread_future_free(f[2]);
    PT_EQ(pica_close(rt), 0);
}

/* A handle may be read after its runtime has been closed: the close has ended the task. */
struct closer {
    pica_runtime *rt;
    pica_thread_future *future;
};

static void *sees_the_end(void *arg) {
    struct closer *c = arg;
    PT_EQ(pica_thread_future_wait(c->future, PICA_FOREVER), 1);
    PT_EQ(pica_thread_future_result(c->future, NULL), PICA_ECANCELED);
    pica_thread_future_free(c->future);
    return NULL;
}

PT_TEST(ended_by_close) {
    struct closer c;
    pthread_t thread;
    PT_REQUIRE(pica_runtime_new(&c.rt, NULL) == 0);
    PT_EQ(pica_run_coroutine_threadsafe(c.rt, forever, NULL, &c.future), 0);
    PT_REQUIRE(pthread_create(&thread, NULL, sees_the_end, &c) == 0);
    PT_EQ(pica_run_until_complete(c.rt, fence, NULL), 0);
    PT_EQ(pica_close(c.rt), 0);
    pthread_join(thread, NULL);
}

PT_MAIN()
