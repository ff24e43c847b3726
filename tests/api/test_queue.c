/* pica_queue: order, bounds, hand-over, cancellation. */
#include <pica.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "tests/support/parked.h"
#include "tests/support/pt.h"
#include "tests/support/queue_user.h"

/* --- without waiting --- */

PT_TEST(without_runtime) {
    pica_queue queue;
    void *got;
    pica_queue_init(&queue, 3);
    PT_EQ(pica_queue_maxsize(&queue), 3);
    expect_empty(&queue);
    PT_EQ(pica_queue_put(&queue, item(1)), PICA_ENOTASK);
    PT_EQ(pica_queue_get(&queue, &got), PICA_ENOTASK);
    PT_EQ(pica_queue_join(&queue), PICA_ENOTASK);
    expect_empty(&queue);
    for (intptr_t i = 0; i < 3; i++) {
        PT_EQ(pica_queue_put_nowait(&queue, item(i)), 0);
        PT_EQ(pica_queue_size(&queue), i + 1);
    }
    PT_EQ(pica_queue_put_nowait(&queue, item(3)), -EAGAIN);
    PT_EQ(pica_queue_size(&queue), 3);
    expect(&queue, 0);
    PT_EQ(pica_queue_put_nowait(&queue, item(3)), 0);
    PT_EQ(pica_queue_put_nowait(&queue, item(4)), -EAGAIN);
    for (intptr_t i = 1; i < 4; i++) {
        expect(&queue, i);
    }
    expect_empty(&queue);
    pica_queue_destroy(&queue, NULL);
}

/* The ring grows at every place of its head, and keeps the order. */
PT_TEST(grows) {
    for (intptr_t turned = 0; turned < 40; turned++) {
        pica_queue queue;
        intptr_t in = 0;
        intptr_t out = 0;
        pica_queue_init(&queue, 0);
        PT_EQ(pica_queue_maxsize(&queue), 0);
        for (; in < turned; in++) {
            PT_EQ(pica_queue_put_nowait(&queue, item(in)), 0);
            expect(&queue, out++);
        }
        for (; in < turned + 200; in++) {
            PT_EQ(pica_queue_put_nowait(&queue, item(in)), 0);
            PT_EQ(pica_queue_size(&queue), in + 1 - out);
            if (in % 3 == 0) {
                expect(&queue, out++);
            }
        }
        while (out < in) {
            expect(&queue, out++);
        }
        expect_empty(&queue);
        pica_queue_destroy(&queue, NULL);
    }
}

/* A bound that is no power of two, reached by growing. */
PT_TEST(odd_bound) {
    pica_queue queue;
    pica_queue_init(&queue, 77);
    for (int round = 0; round < 3; round++) {
        intptr_t n = 0;
        for (; pica_queue_put_nowait(&queue, item(n)) == 0; n++) {
        }
        PT_EQ(n, 77);
        for (intptr_t i = 0; i < 50; i++) {
            expect(&queue, i);
        }
        for (; n < 77 + 50; n++) {
            PT_EQ(pica_queue_put_nowait(&queue, item(n)), 0);
        }
        PT_EQ(pica_queue_put_nowait(&queue, item(n)), -EAGAIN);
        for (intptr_t i = 50; i < n; i++) {
            expect(&queue, i);
        }
        expect_empty(&queue);
    }
    pica_queue_destroy(&queue, NULL);
}

PT_TEST(destroy_releases_what_is_left) {
    pica_queue queue;
    pica_queue_init(&queue, 0);
    for (intptr_t i = 0; i < 40; i++) {
        PT_EQ(pica_queue_put_nowait(&queue, item(i)), 0);
        if (i < 20) {
            expect(&queue, i);
        }
    }
    pica_queue_destroy(&queue, count_destroyed);
    for (int i = 0; i < 64; i++) {
        PT_EQ(destroyed[i], i >= 20 && i < 40);
    }
}

/* --- memory --- */

static atomic_bool no_memory; /* true only while a put is to fail */

static void *scarce_alloc(void *ctx, size_t size) {
    (void)ctx;
    return atomic_load(&no_memory) ? NULL : malloc(size);
}

static void *scarce_realloc(void *ctx, void *p, size_t old, size_t size) {
    (void)ctx;
    (void)old;
    return realloc(p, size);
}

static void scarce_free(void *ctx, void *p, size_t size) {
    (void)ctx;
    (void)size;
    free(p);
}

static int out_of_memory(void *arg) {
    pica_queue queue;
    (void)arg;
    pica_queue_init(&queue, 0);
    atomic_store(&no_memory, true);
    PT_EQ(pica_queue_put(&queue, item(0)), -ENOMEM);
    PT_EQ(pica_queue_put_nowait(&queue, item(0)), -ENOMEM);
    PT_EQ(pica_queue_task_done(&queue), -ERANGE);
    expect_empty(&queue);
    atomic_store(&no_memory, false);
    intptr_t n = 0;
    PT_EQ(pica_queue_put(&queue, item(n++)), 0);
    atomic_store(&no_memory, true);
    int rc;
    while ((rc = pica_queue_put(&queue, item(n))) == 0) {
        n++;
    }
    PT_EQ(rc, -ENOMEM);
    PT_EQ(pica_queue_size(&queue), n);
    expect(&queue, 0);
    PT_EQ(pica_queue_put(&queue, item(n++)), 0);
    PT_EQ(pica_queue_put_nowait(&queue, item(n)), -ENOMEM);
    atomic_store(&no_memory, false);
    PT_EQ(pica_queue_put_nowait(&queue, item(n++)), 0);
    for (intptr_t i = 1; i < n; i++) {
        expect(&queue, i);
        PT_EQ(pica_queue_task_done(&queue), 0);
    }
    PT_EQ(pica_queue_task_done(&queue), 0);
    PT_EQ(pica_queue_task_done(&queue), -ERANGE);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* A put that finds no memory fails and changes nothing. */
PT_TEST(out_of_memory) {
    static const struct pica_allocator scarce = {scarce_alloc, scarce_realloc, scarce_free, NULL};
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    options.allocator = &scarce;
    PT_EQ(pica_run_opts(out_of_memory, NULL, &options), 0);
}

/* --- hand-over --- */

PARKED_TEST(getters_in_order) {
    (void)arg;
    pica_queue queue;
    struct user u[MANY];
    pica_task *task[MANY];
    pica_queue_init(&queue, 0);
    for (int i = 0; i < MANY; i++) {
        u[i] = (struct user){&queue, NULL, 1, 1};
        task[i] = parked((unsigned)i, get_once, &u[i]);
    }
    for (intptr_t i = 0; i < MANY; i++) {
        PT_EQ(pica_queue_put_nowait(&queue, item(100 + i)), 0);
        PT_EQ(pica_queue_size(&queue), 0);
    }
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(u[i].rc, 0);
        PT_EQ(number(u[i].item), 100 + i);
    }
    expect_empty(&queue);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

PARKED_TEST(putters_in_order) {
    (void)arg;
    pica_queue queue;
    struct user u[MANY];
    pica_task *task[MANY];
    pica_queue_init(&queue, 2);
    PT_EQ(pica_queue_put(&queue, item(0)), 0);
    PT_EQ(pica_queue_put(&queue, item(1)), 0);
    for (int i = 0; i < MANY; i++) {
        u[i] = (struct user){&queue, item(2 + i), 1, 1};
        task[i] = parked((unsigned)i, put_once, &u[i]);
    }
    for (int i = 0; i < MANY + 2; i++) {
        PT_EQ(pica_queue_size(&queue), i <= MANY ? 2 : MANY + 2 - i);
        expect(&queue, i);
    }
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_EQ(u[i].rc, 0);
    }
    expect_empty(&queue);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* An item given to a waiting getter cannot be taken by one who comes before that one runs. */
PARKED_TEST(no_barging_getter) {
    (void)arg;
    pica_queue queue;
    void *got = NULL;
    pica_queue_init(&queue, 0);
    struct user u = {&queue, NULL, 1, 1};
    pica_task *task = parked(0, get_once, &u);
    PT_EQ(pica_queue_put_nowait(&queue, item(1)), 0);
    PT_EQ(pica_queue_get_nowait(&queue, &got), -EAGAIN);
    PT_EQ(pica_queue_put_nowait(&queue, item(2)), 0);
    PT_EQ(pica_queue_get(&queue, &got), 0);
    PT_EQ(number(got), 2);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(number(u.item), 1);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* A place that became free while a putter waited is that putter's. */
PARKED_TEST(no_barging_putter) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 1);
    PT_EQ(pica_queue_put_nowait(&queue, item(0)), 0);
    struct user u = {&queue, item(1), 1, 1};
    pica_task *task = parked(0, put_once, &u);
    expect(&queue, 0);
    PT_EQ(pica_queue_put_nowait(&queue, item(2)), -EAGAIN);
    expect(&queue, 1);
    PT_EQ(pica_queue_put_nowait(&queue, item(2)), 0);
    expect(&queue, 2);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(u.rc, 0);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* --- cancellation --- */

PARKED_TEST(cancel_waiting_getter) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 0);
    for (int gone = 0; gone < 3; gone++) {
        struct user u[3];
        pica_task *task[3];
        for (int i = 0; i < 3; i++) {
            u[i] = (struct user){&queue, item(-1), 1, 1};
            task[i] = parked((unsigned)i, get_once, &u[i]);
        }
        PT_EQ(pica_task_cancel(task[gone]), 1);
        PT_EQ(pica_join(task[gone], NULL), 0);
        PT_EQ(u[gone].rc, PICA_ECANCELED);
        PT_EQ(u[gone].pending, 0);
        PT_EQ(number(u[gone].item), -1);
        intptr_t next = 10;
        for (int i = 0; i < 3; i++) {
            if (i != gone) {
                PT_EQ(pica_queue_put(&queue, item(next)), 0);
                PT_EQ(pica_join(task[i], NULL), 0);
                PT_EQ(number(u[i].item), next++);
            }
        }
        expect_empty(&queue);
    }
    pica_queue_destroy(&queue, NULL);
    return 0;
}

PARKED_TEST(cancel_waiting_putter) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 1);
    for (int gone = 0; gone < 3; gone++) {
        struct user u[3];
        pica_task *task[3];
        PT_EQ(pica_queue_put(&queue, item(50)), 0);
        for (int i = 0; i < 3; i++) {
            u[i] = (struct user){&queue, item(i), 1, 1};
            task[i] = parked((unsigned)i, put_once, &u[i]);
        }
        PT_EQ(pica_task_cancel(task[gone]), 1);
        PT_EQ(pica_join(task[gone], NULL), 0);
        PT_EQ(u[gone].rc, PICA_ECANCELED);
        expect(&queue, 50);
        for (int i = 0; i < 3; i++) {
            if (i != gone) {
                expect(&queue, i);
                PT_EQ(pica_join(task[i], NULL), 0);
                PT_EQ(u[i].rc, 0);
            }
        }
        expect_empty(&queue);
    }
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* Served, then cancelled before it could run: it has its item, and is still to be cancelled. */
PARKED_TEST(cancel_after_the_hand_over) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 1);
    struct user getter = {&queue, NULL, 1, 1};
    pica_task *task = parked(0, get_once, &getter);
    PT_EQ(pica_queue_put_nowait(&queue, item(5)), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(getter.rc, 0);
    PT_EQ(number(getter.item), 5);
    PT_EQ(getter.pending, PICA_ECANCELED);

    PT_EQ(pica_queue_put_nowait(&queue, item(6)), 0);
    struct user putter = {&queue, item(7), 1, 1};
    task = parked(0, put_once, &putter);
    expect(&queue, 6);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), 0);
    PT_EQ(putter.rc, 0);
    PT_EQ(putter.pending, PICA_ECANCELED);
    expect(&queue, 7);
    expect_empty(&queue);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* Cancelled, then served before it could run: the item goes to the next, or stays. */
PARKED_TEST(cancel_before_the_hand_over) {
    (void)arg;
    pica_queue queue;
    pica_queue_init(&queue, 1);
    struct user u[2] = {{&queue, NULL, 1, 1}, {&queue, NULL, 1, 1}};
    pica_task *first = parked(0, get_once, &u[0]);
    pica_task *second = parked(0, get_once, &u[1]);
    PT_EQ(pica_task_cancel(first), 1);
    PT_EQ(pica_queue_put_nowait(&queue, item(5)), 0);
    PT_EQ(pica_join(first, NULL), 0);
    PT_EQ(pica_join(second, NULL), 0);
    PT_EQ(u[0].rc, PICA_ECANCELED);
    PT_EQ(u[1].rc, 0);
    PT_EQ(number(u[1].item), 5);
    expect_empty(&queue);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

/* A pending cancellation is delivered by a call that would wait, and only by such a one. */
PARKED_TEST(cancel_before_the_call) {
    (void)arg;
    pica_queue queue;
    void *got = NULL;
    pica_task *self = pica_current_task();
    pica_queue_init(&queue, 1);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_queue_put(&queue, item(1)), 0);
    PT_EQ(pica_queue_put(&queue, item(2)), PICA_ECANCELED);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_queue_get(&queue, &got), 0);
    PT_EQ(number(got), 1);
    PT_EQ(pica_queue_get(&queue, &got), PICA_ECANCELED);
    PT_EQ(pica_task_cancel(self), 1);
    PT_EQ(pica_queue_join(&queue), PICA_ECANCELED);
    PT_EQ(pica_checkpoint(), 0);
    PT_EQ(pica_queue_task_done(&queue), 0);
    PT_EQ(pica_queue_join(&queue), 0);
    expect_empty(&queue);
    while (pica_task_uncancel(self) > 0) {
    }
    pica_queue_destroy(&queue, NULL);
    return 0;
}

PARKED_TEST(time_limits) {
    (void)arg;
    pica_queue queue;
    pica_timeout timeout;
    void *got = NULL;
    pica_queue_init(&queue, 1);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_timeout_enter(&timeout, i * 0.01), 0);
        PT_EQ(pica_timeout_exit(&timeout, pica_queue_get(&queue, &got)), PICA_ETIMEDOUT);
    }
    PT_EQ(pica_queue_put(&queue, item(1)), 0);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_timeout_enter(&timeout, i * 0.01), 0);
        PT_EQ(pica_timeout_exit(&timeout, pica_queue_put(&queue, item(2))), PICA_ETIMEDOUT);
        PT_EQ(pica_timeout_enter(&timeout, i * 0.01), 0);
        PT_EQ(pica_timeout_exit(&timeout, pica_queue_join(&queue)), PICA_ETIMEDOUT);
    }
    PT_EQ(pica_timeout_enter(&timeout, 60), 0);
    PT_EQ(pica_timeout_exit(&timeout, pica_queue_get(&queue, &got)), 0);
    PT_EQ(number(got), 1);
    expect_empty(&queue);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

PT_MAIN()
