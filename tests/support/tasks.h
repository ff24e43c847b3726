/* What tests of tasks share: cases that run in every mode, values that count their destruction, and a
 * way to give a task its turn.
 *
 * A promise that does not speak of order must hold in any order, so a TASK_TEST is four cases: as it
 * comes, in asyncio's order (_fifo), with tasks that move to another worker at every suspension
 * (_migrate), and with ready tasks taken at random (_shuffle). A FIFO_TEST is one whose body knows
 * what runs when: everything lives on one loop, in the order in which it became ready. */
#ifndef TASKS_H
#define TASKS_H

#include <pica.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "tests/support/pt.h"

/* A value that counts how often it was destroyed. */
struct value {
    atomic_int destroyed;
    int expected; /* of those from value_new: at the end of the run */
};

static inline void value_destroy(void *p) {
    struct value *v = p;
    atomic_fetch_add(&v->destroyed, 1);
}

enum { VALUES = 256 };
static struct value values[VALUES];
static atomic_uint values_used;

/* A value whose count is checked when the runtime is gone: when exactly the last reference to a task
 * goes is nobody's promise, only that it does. */
static inline struct value *value_new(int expected) {
    unsigned i = atomic_fetch_add(&values_used, 1);
    PT_REQUIRE(i < VALUES);
    values[i].expected = expected;
    return &values[i];
}

static inline void values_check(void) {
    for (unsigned i = 0; i < atomic_load(&values_used); i++) {
        if (atomic_load(&values[i].destroyed) != values[i].expected) {
            PT_FAIL("value %u was destroyed %d times, expected %d", i,
                    atomic_load(&values[i].destroyed), values[i].expected);
        }
    }
}

static inline void tasks_run(pica_fn fn, int order, const char *debug) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.order = order;
    if (debug != NULL) {
        PT_REQUIRE(setenv("PICA_DEBUG", debug, 1) == 0);
    }
    PT_EQ(pica_run_opts(fn, NULL, &options), 0);
    values_check();
}

#define TASK_TEST_TIMEOUT(name, seconds)                        \
    static int body_##name(void *arg);                          \
    PT_TEST_TIMEOUT(name, seconds) {                            \
        tasks_run(body_##name, PICA_ORDER_FREE, NULL);          \
    }                                                           \
    PT_TEST_TIMEOUT(name##_fifo, seconds) {                     \
        tasks_run(body_##name, PICA_ORDER_FIFO, NULL);          \
    }                                                           \
    PT_TEST_TIMEOUT(name##_migrate, seconds) {                  \
        tasks_run(body_##name, PICA_ORDER_FREE, "migrate");     \
    }                                                           \
    PT_TEST_TIMEOUT(name##_shuffle, seconds) {                  \
        tasks_run(body_##name, PICA_ORDER_FREE, "shuffle");     \
    }                                                           \
    static int body_##name(void *arg)
#define TASK_TEST(name) TASK_TEST_TIMEOUT(name, PT_DEFAULT_TIMEOUT)

#define FIFO_TEST(name)                                \
    static int body_##name(void *arg);                 \
    PT_TEST(name) {                                    \
        tasks_run(body_##name, PICA_ORDER_FIFO, NULL); \
    }                                                  \
    static int body_##name(void *arg)

static inline pica_task *spawn(pica_fn fn, void *arg) {
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task(&task, fn, arg) == 0);
    return task;
}

static inline pica_task *spawn_pinned(unsigned loop, pica_fn fn, void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_runtime *rt = pica_current_runtime();
    options.loop = pica_runtime_loop(rt, loop % pica_runtime_workers(rt));
    options.pinned = 1;
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task_opts(&task, fn, arg, &options) == 0);
    return task;
}

/* In a FIFO_TEST: everything that is ready runs until it suspends. */
static inline void turn(void) {
    PT_EQ(pica_yield(), 0);
}

static inline pica_task *spawn_and_turn(pica_fn fn, void *arg) {
    pica_task *task = spawn(fn, arg);
    turn();
    return task;
}

static inline pica_future *new_future(void) {
    pica_future *future = NULL;
    PT_REQUIRE(pica_future_new(&future) == 0);
    return future;
}

/* Completes a future: "this has happened". */
static inline void signal_future(pica_future *future) {
    PT_EQ(pica_future_set_result(future, NULL, NULL), 0);
}

/* Steps of a test, in the order in which they were taken. */
struct trace {
    char text[512];
    size_t length;
};

static inline void trace_add(struct trace *t, const char *step) {
    if (t->length != 0 && t->length + 1 < sizeof t->text) {
        t->text[t->length++] = ' ';
    }
    while (*step != 0 && t->length + 1 < sizeof t->text) {
        t->text[t->length++] = *step++;
    }
    t->text[t->length] = 0;
}

#endif
