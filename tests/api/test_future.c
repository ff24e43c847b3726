/* pica_future: states, results, who owns the value, and done callbacks. */
#include <pica.h>

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/tasks.h"

enum { CODE = -EIO, THREADS = 6 };

PT_TEST(fresh) {
    pica_future *f = new_future();
    void *value = &f;
    PT_EQ(pica_future_done(f), 0);
    PT_EQ(pica_future_cancelled(f), 0);
    PT_EQ(pica_future_result(f, &value), PICA_EINVALSTATE);
    PT_EQ(pica_future_result(f, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_take(f, &value), PICA_EINVALSTATE);
    PT_CHECK(value == &f);
    PT_CHECK(pica_future_exception(f) == NULL);
    pica_future_unref(f);
    pica_future_unref(NULL);
}

PT_TEST(result) {
    struct value a = {0};
    struct value b = {0};
    pica_future *f = new_future();
    PT_EQ(pica_future_set_result(f, &a, value_destroy), 0);
    PT_EQ(pica_future_done(f), 1);
    PT_EQ(pica_future_cancelled(f), 0);
    for (int i = 0; i < 3; i++) {
        void *value = NULL;
        PT_EQ(pica_future_result(f, &value), 0);
        PT_CHECK(value == &a);
    }
    PT_EQ(pica_future_result(f, NULL), 0);
    PT_CHECK(pica_future_exception(f) == NULL);
    /* Whoever comes second keeps what it brought. */
    PT_EQ(pica_future_set_result(f, &b, value_destroy), PICA_EINVALSTATE);
    PT_EQ(pica_future_set_exception(f, CODE, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_cancel(f), 0);
    PT_EQ(pica_future_cancelled(f), 0);
    PT_EQ(pica_future_result(f, NULL), 0);
    PT_EQ(a.destroyed, 0);
    pica_future_unref(f);
    PT_EQ(a.destroyed, 1);
    PT_EQ(b.destroyed, 0);
}

PT_TEST(result_without_value_or_destructor) {
    pica_future *f = new_future();
    void *value = &f;
    PT_EQ(pica_future_set_result(f, NULL, value_destroy), 0);
    PT_EQ(pica_future_result(f, &value), 0);
    PT_CHECK(value == NULL);
    PT_EQ(pica_future_take(f, &value), 0);
    PT_EQ(pica_future_take(f, &value), 0);
    pica_future_unref(f);
    f = new_future();
    PT_EQ(pica_future_set_result(f, &f, NULL), 0);
    PT_EQ(pica_future_result(f, &value), 0);
    PT_CHECK(value == &f);
    pica_future_unref(f);
}

PT_TEST(references) {
    struct value a = {0};
    pica_future *f = new_future();
    PT_CHECK(pica_future_ref(f) == f);
    PT_EQ(pica_future_set_result(f, &a, value_destroy), 0);
    pica_future_unref(f);
    PT_EQ(a.destroyed, 0);
    PT_EQ(pica_future_result(f, NULL), 0);
    pica_future_unref(f);
    PT_EQ(a.destroyed, 1);
}

PT_TEST(exception) {
    pica_future *f = new_future();
    pica_error *error = pica_error_new(CODE, NULL, "disk %d", 7);
    PT_REQUIRE(error != NULL);
    PT_EQ(pica_future_set_exception(f, 0, error), -EINVAL);
    PT_EQ(pica_future_set_exception(f, 5, error), -EINVAL);
    PT_EQ(pica_future_done(f), 0);
    PT_EQ(pica_future_set_exception(f, CODE, error), 0);
    pica_error_unref(error); /* the future has a reference of its own */
    PT_EQ(pica_future_done(f), 1);
    PT_EQ(pica_future_cancelled(f), 0);
    for (int i = 0; i < 3; i++) {
        void *value = &f;
        PT_EQ(pica_future_result(f, &value), CODE);
        PT_CHECK(value == NULL);
    }
    PT_CHECK(pica_future_exception(f) == error);
    PT_STR_EQ(pica_error_message(pica_future_exception(f)), "disk 7");
    PT_EQ(pica_future_set_exception(f, -EPERM, error), PICA_EINVALSTATE);
    PT_EQ(pica_future_set_result(f, NULL, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_cancel(f), 0);
    pica_future_unref(f);
}

PT_TEST(cancel) {
    struct value a = {0};
    pica_future *f = new_future();
    PT_EQ(pica_future_cancel(f), 1);
    PT_EQ(pica_future_done(f), 1);
    PT_EQ(pica_future_cancelled(f), 1);
    PT_EQ(pica_future_cancel(f), 0);
    PT_EQ(pica_future_set_result(f, &a, value_destroy), PICA_EINVALSTATE);
    PT_EQ(pica_future_set_exception(f, CODE, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_result(f, NULL), PICA_ECANCELED);
    PT_CHECK(pica_future_exception(f) == NULL);
    pica_future_unref(f);
    PT_EQ(a.destroyed, 0);
}

/* As in asyncio: the code alone does not make a future a cancelled one. */
PT_TEST(cancelled_code_as_exception) {
    pica_future *f = new_future();
    PT_EQ(pica_future_set_exception(f, PICA_ECANCELED, NULL), 0);
    PT_EQ(pica_future_cancelled(f), 0);
    PT_EQ(pica_future_result(f, NULL), PICA_ECANCELED);
    pica_future_unref(f);
}

PT_TEST(take) {
    struct value a = {0};
    void *value = NULL;
    pica_future *f = new_future();
    PT_EQ(pica_future_set_result(f, &a, value_destroy), 0);
    PT_EQ(pica_future_take(f, &value), 0);
    PT_CHECK(value == &a);
    PT_EQ(pica_future_take(f, &value), PICA_EINVALSTATE);
    pica_future_unref(f);
    PT_EQ(a.destroyed, 0); /* it is the taker's now */

    f = new_future();
    PT_EQ(pica_future_set_exception(f, CODE, NULL), 0);
    PT_EQ(pica_future_take(f, &value), CODE);
    PT_CHECK(value == NULL);
    PT_EQ(pica_future_take(f, &value), CODE);
    pica_future_unref(f);
}

/* --- any thread --- */

struct contest {
    pica_future *future;
    pthread_barrier_t start;
    /* Written by the winner before it completes, read by whoever sees the future done. */
    int payload[THREADS];
    struct value value[THREADS];
    atomic_int winners;
    atomic_int takers;
};

struct contestant {
    struct contest *c;
    int id;
    pthread_t thread;
};

static void *contestant_main(void *arg) {
    struct contestant *me = arg;
    struct contest *c = me->c;
    pthread_barrier_wait(&c->start);
    c->payload[me->id] = 100 + me->id;
    int rc = me->id == 0   ? pica_future_cancel(c->future) - 1
             : me->id == 1 ? pica_future_set_exception(c->future, CODE, NULL)
                           : pica_future_set_result(c->future, &c->value[me->id], value_destroy);
    atomic_fetch_add(&c->winners, rc == 0);
    PT_CHECK(rc == 0 || (me->id == 0 ? rc == -1 : rc == PICA_EINVALSTATE));
    PT_EQ(pica_future_done(c->future), 1);
    void *value = NULL;
    rc = pica_future_result(c->future, &value);
    int winner = rc == PICA_ECANCELED ? 0 : rc == CODE ? 1 : (int)((struct value *)value - c->value);
    PT_EQ(pica_future_cancelled(c->future), winner == 0);
    PT_EQ(c->payload[winner], 100 + winner);
    return NULL;
}

PT_TEST(one_completion_wins) {
    struct contestant t[THREADS];
    int sum = 0;
    for (int round = 0; round < 300; round++) {
        struct contest c = {.future = new_future()};
        PT_REQUIRE(pthread_barrier_init(&c.start, NULL, THREADS) == 0);
        for (int i = 0; i < THREADS; i++) {
            t[i] = (struct contestant){&c, i, 0};
            PT_REQUIRE(pthread_create(&t[i].thread, NULL, contestant_main, &t[i]) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(t[i].thread, NULL);
        }
        PT_EQ(c.winners, 1);
        bool has_value = pica_future_result(c.future, NULL) == 0;
        pica_future_unref(c.future);
        sum = 0;
        for (int i = 0; i < THREADS; i++) {
            sum += c.value[i].destroyed;
        }
        PT_EQ(sum, has_value);
        pthread_barrier_destroy(&c.start);
    }
}

static void *taker_main(void *arg) {
    struct contest *c = arg;
    void *value = NULL;
    pthread_barrier_wait(&c->start);
    int rc = pica_future_take(c->future, &value);
    PT_CHECK((rc == 0 && value == &c->value[0]) || rc == PICA_EINVALSTATE);
    atomic_fetch_add(&c->takers, rc == 0);
    pica_future_unref(c->future);
    return NULL;
}

PT_TEST(one_taker_wins) {
    for (int round = 0; round < 300; round++) {
        struct contest c = {.future = new_future()};
        pthread_t thread[THREADS];
        PT_REQUIRE(pthread_barrier_init(&c.start, NULL, THREADS) == 0);
        PT_EQ(pica_future_set_result(c.future, &c.value[0], value_destroy), 0);
        for (int i = 0; i < THREADS; i++) {
            pica_future_ref(c.future);
            PT_REQUIRE(pthread_create(&thread[i], NULL, taker_main, &c) == 0);
        }
        pica_future_unref(c.future);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(thread[i], NULL);
        }
        PT_EQ(c.takers, 1);
        PT_EQ(c.value[0].destroyed, 0);
        pthread_barrier_destroy(&c.start);
    }
}

/* --- a task is a future that nobody else completes --- */

static int returns_7(void *arg) {
    (void)arg;
    return 7;
}

TASK_TEST(task_as_future) {
    (void)arg;
    struct value a = {0};
    pica_task *task = spawn(returns_7, NULL);
    pica_future *f = PICA_FUTURE(task);
    PT_EQ(pica_future_set_result(f, &a, value_destroy), -EINVAL);
    PT_EQ(pica_future_set_exception(f, CODE, NULL), -EINVAL);
    PT_EQ(pica_await(f, NULL), 7);
    PT_EQ(pica_future_set_result(f, &a, value_destroy), -EINVAL);
    PT_EQ(pica_future_result(f, NULL), 7);
    PT_EQ(pica_future_done(f), 1);
    PT_EQ(pica_future_cancelled(f), 0);
    PT_EQ(pica_future_cancel(f), 0);
    pica_future_unref(f); /* the reference of the task is the future's */
    PT_EQ(a.destroyed, 0);
    return 0;
}

PT_MAIN()
