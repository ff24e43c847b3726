/* pica_queue: join, shutdown, and threads that put and get. */
#include <pica.h>

#include <pthread.h>

#include "tests/support/parked.h"
#include "tests/support/pt.h"
#include "tests/support/queue_user.h"

/* --- join --- */

PARKED_TEST(join) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 0);
    PT_EQ(pica_queue_join(&queue), 0);
    PT_EQ(pica_queue_task_done(&queue), -ERANGE);
    for (int round = 0; round < 3; round++) {
        struct user u[3];
        pica_task *task[3];
        for (intptr_t i = 0; i < 3; i++) {
            PT_EQ(pica_queue_put_nowait(&queue, item(i)), 0);
        }
        for (unsigned i = 0; i < 3; i++) {
            u[i] = (struct user){&queue, NULL, 1, 1};
            task[i] = parked(i, join_once, &u[i]);
        }
        for (int i = 0; i < 3; i++) {
            expect(&queue, i);
            parked_settle(0);
            PT_EQ(u[0].rc, 1);
            PT_EQ(pica_queue_task_done(&queue), 0);
        }
        for (int i = 0; i < 3; i++) {
            PT_EQ(pica_join(task[i], NULL), 0);
            PT_EQ(u[i].rc, 0);
        }
        PT_EQ(pica_queue_task_done(&queue), -ERANGE);
    }
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* Items that were handed over count too, and a cancellation wins over the end of the join. */
PARKED_TEST(join_hand_over_and_cancel) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 1);
    struct user getter = {&queue, NULL, 1, 1};
    pica_task *get_task = parked(0, get_once, &getter);
    PT_EQ(pica_queue_put(&queue, item(1)), 0);
    PT_EQ(pica_join(get_task, NULL), 0);
    PT_EQ(pica_queue_put(&queue, item(2)), 0);
    struct user putter = {&queue, item(3), 1, 1};
    pica_task *put_task = parked(0, put_once, &putter);
    expect(&queue, 2);
    expect(&queue, 3);
    PT_EQ(pica_join(put_task, NULL), 0);

    struct user u[2] = {{&queue, NULL, 1, 1}, {&queue, NULL, 1, 1}};
    pica_task *task[2] = {parked(0, join_once, &u[0]), parked(0, join_once, &u[1])};
    PT_EQ(pica_task_cancel(task[0]), 1);
    PT_EQ(pica_join(task[0], NULL), 0);
    PT_EQ(u[0].rc, PICA_ECANCELED);
    for (int i = 0; i < 3; i++) {
        PT_EQ(u[1].rc, 1);
        PT_EQ(pica_queue_task_done(&queue), 0);
    }
    PT_EQ(pica_task_cancel(task[1]), 1);
    PT_EQ(pica_join(task[1], NULL), 0);
    PT_EQ(u[1].rc, PICA_ECANCELED);
    PT_EQ(pica_queue_task_done(&queue), -ERANGE);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* --- shutdown --- */

PARKED_TEST(shutdown_with_getters) {
    (void)arg;
    pica_queue queue;
    struct user u[MANY];
    pica_task *task[MANY];
    void *got = NULL;
    pica_queue_init(&queue, 0);
    for (int i = 0; i < MANY; i++) {
        u[i] = (struct user){&queue, item(-1), 1, 1};
        task[i] = parked((unsigned)i, get_once, &u[i]);
    }
    pica_queue_shutdown(&queue, 0, NULL);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(u[i].rc, PICA_ESHUTDOWN);
        PT_EQ(u[i].pending, 0);
        PT_EQ(number(u[i].item), -1);
    }
    PT_EQ(pica_queue_get(&queue, &got), PICA_ESHUTDOWN);
    PT_EQ(pica_queue_get_nowait(&queue, &got), PICA_ESHUTDOWN);
    PT_EQ(pica_queue_put(&queue, item(1)), PICA_ESHUTDOWN);
    PT_EQ(pica_queue_put_nowait(&queue, item(1)), PICA_ESHUTDOWN);
    PT_EQ(pica_queue_join(&queue), 0);
    pica_queue_shutdown(&queue, 0, NULL);
    pica_queue_shutdown(&queue, 1, NULL);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* What is in the queue can still be got; what waits to get in cannot. */
PARKED_TEST(shutdown_with_putters) {
    (void)arg;
    pica_queue queue;
    void *got = NULL;
    struct user u[3];
    pica_task *task[3];
    pica_queue_init(&queue, 2);
    PT_EQ(pica_queue_put(&queue, item(0)), 0);
    PT_EQ(pica_queue_put(&queue, item(1)), 0);
    for (int i = 0; i < 3; i++) {
        u[i] = (struct user){&queue, item(10 + i), 1, 1};
        task[i] = parked((unsigned)i, put_once, &u[i]);
    }
    struct user joiner = {&queue, NULL, 1, 1};
    pica_task *join_task = parked(0, join_once, &joiner);
    pica_queue_shutdown(&queue, 0, count_destroyed);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(u[i].rc, PICA_ESHUTDOWN);
    }
    PT_EQ(pica_queue_put(&queue, item(5)), PICA_ESHUTDOWN);
    PT_EQ(pica_queue_size(&queue), 2);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_queue_get(&queue, &got), 0);
        PT_EQ(number(got), i);
        PT_EQ(joiner.rc, 1);
        PT_EQ(pica_queue_task_done(&queue), 0);
    }
    PT_EQ(pica_queue_get(&queue, &got), PICA_ESHUTDOWN);
    PT_EQ(pica_join(join_task, NULL), 0);
    PT_EQ(joiner.rc, 0);
    PT_EQ(destroyed[0] + destroyed[1], 0);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* The items go, and those who join do not wait for them, but for those that were got before. */
PARKED_TEST(shutdown_immediate) {
    (void)arg;
    pica_queue queue;
    void *got = NULL;
    pica_queue_init(&queue, 0);
    for (intptr_t i = 0; i < 20; i++) {
        PT_EQ(pica_queue_put(&queue, item(i)), 0);
    }
    expect(&queue, 0);
    struct user joiner = {&queue, NULL, 1, 1};
    pica_task *join_task = parked(0, join_once, &joiner);
    pica_queue_shutdown(&queue, 0, NULL);
    PT_EQ(pica_queue_size(&queue), 19);
    pica_queue_shutdown(&queue, 1, count_destroyed);
    pica_queue_shutdown(&queue, 1, count_destroyed);
    for (int i = 0; i < 20; i++) {
        PT_EQ(destroyed[i], i > 0);
    }
    PT_EQ(pica_queue_size(&queue), 0);
    PT_EQ(pica_queue_get(&queue, &got), PICA_ESHUTDOWN);
    parked_settle(0);
    PT_EQ(joiner.rc, 1);
    PT_EQ(pica_queue_task_done(&queue), 0);
    PT_EQ(pica_queue_task_done(&queue), -ERANGE);
    PT_EQ(pica_join(join_task, NULL), 0);
    PT_EQ(joiner.rc, 0);
    pica_queue_destroy(&queue, count_destroyed);
    return 0;
}

/* Joiners of items that are thrown away are released at once. */
PARKED_TEST(shutdown_immediate_releases_joiners) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 1);
    PT_EQ(pica_queue_put(&queue, item(1)), 0);
    struct user joiner = {&queue, NULL, 1, 1};
    struct user putter = {&queue, item(2), 1, 1};
    pica_task *join_task = parked(1, join_once, &joiner);
    pica_task *put_task = parked(2, put_once, &putter);
    pica_queue_shutdown(&queue, 1, count_destroyed);
    PT_EQ(pica_join(join_task, NULL), 0);
    PT_EQ(pica_join(put_task, NULL), 0);
    PT_EQ(joiner.rc, 0);
    PT_EQ(putter.rc, PICA_ESHUTDOWN);
    PT_EQ(destroyed[1], 1);
    PT_EQ(destroyed[2], 0);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

static pica_queue reentered;

static void destroy_and_call_again(void *p) {
    void *got;
    count_destroyed(p);
    PT_EQ(pica_queue_put_nowait(&reentered, p), PICA_ESHUTDOWN);
    PT_EQ(pica_queue_get_nowait(&reentered, &got), PICA_ESHUTDOWN);
    pica_queue_shutdown(&reentered, 1, count_destroyed);
}

/* Destructors may call the queue: nothing is locked over them. */
PT_TEST(destructor_calls_the_queue) {
    pica_queue_init(&reentered, 0);
    for (intptr_t i = 0; i < 3; i++) {
        PT_EQ(pica_queue_put_nowait(&reentered, item(i)), 0);
    }
    pica_queue_shutdown(&reentered, 1, destroy_and_call_again);
    for (int i = 0; i < 3; i++) {
        PT_EQ(destroyed[i], 1);
    }
    pica_queue_destroy(&reentered, NULL);
}

/* --- threads --- */

enum { THREAD_ITEMS = 2000 };

static void *put_from_thread(void *arg) {
    for (intptr_t i = 0; i < THREAD_ITEMS; i++) {
        PT_EQ(pica_queue_put_nowait(arg, item(i)), 0);
    }
    pica_queue_shutdown(arg, 0, NULL);
    return NULL;
}

/* A thread feeds a task, in order, and ends the queue. */
PARKED_TEST(fed_by_a_thread) {
    (void)arg;
    pica_queue queue;
    pthread_t thread;
    void *got = NULL;
    intptr_t n = 0;
    pica_queue_init(&queue, 0);
    PT_REQUIRE(pthread_create(&thread, NULL, put_from_thread, &queue) == 0);
    while (pica_queue_get(&queue, &got) == 0) {
        PT_EQ(number(got), n++);
        PT_EQ(pica_queue_task_done(&queue), 0);
    }
    PT_EQ(n, THREAD_ITEMS);
    PT_EQ(pica_queue_join(&queue), 0);
    PT_EQ(pthread_join(thread, NULL), 0);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

static void *get_from_thread(void *arg) {
    void *got = NULL;
    for (intptr_t i = 0; i < 3; i++) {
        PT_EQ(pica_queue_get_nowait(arg, &got), 0);
        PT_EQ(number(got), i);
    }
    PT_EQ(pica_queue_get_nowait(arg, &got), -EAGAIN);
    return NULL;
}

/* A thread takes what waiting tasks put. */
PARKED_TEST(emptied_by_a_thread) {
    (void)arg;
    pica_queue queue;
    pthread_t thread;
    struct user u[2];
    pica_task *task[2];
    pica_queue_init(&queue, 1);
    PT_EQ(pica_queue_put(&queue, item(0)), 0);
    for (int i = 0; i < 2; i++) {
        u[i] = (struct user){&queue, item(1 + i), 1, 1};
        task[i] = parked((unsigned)i, put_once, &u[i]);
    }
    PT_REQUIRE(pthread_create(&thread, NULL, get_from_thread, &queue) == 0);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(u[i].rc, 0);
    }
    PT_EQ(pthread_join(thread, NULL), 0);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

PT_MAIN()
