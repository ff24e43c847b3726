/* Tasks that are known to wait, for tests that must say who came first.
 *
 * A pinned task runs on its loop only, and tasks posted to one loop begin in order. So when a task
 * that was posted behind another one to the same loop has ended, the first has run until it
 * suspended. No time passes in that proof: it holds however slow the machine is. */
#ifndef PARKED_H
#define PARKED_H

#include <pica.h>

#include "tests/support/pt.h"

struct parked_body {
    pica_fn fn;
};

static inline unsigned parked_workers(void) {
    return pica_runtime_workers(pica_current_runtime());
}

/* A task pinned to loop i (modulo their number). */
static inline pica_task *parked_spawn(unsigned i, pica_fn fn, void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task = NULL;
    options.loop = pica_runtime_loop(pica_current_runtime(), i % parked_workers());
    options.pinned = 1;
    PT_REQUIRE(pica_create_task_opts(&task, fn, arg, &options) == 0);
    return task;
}

static inline int parked_fence(void *arg) {
    (void)arg;
    return 0;
}

/* Returns when all that was spawned on loop i before has suspended or ended. */
static inline void parked_settle(unsigned i) {
    PT_EQ(pica_join(parked_spawn(i, parked_fence, NULL), NULL), 0);
}

/* Spawns a task and lets it run until it suspends. */
static inline pica_task *parked(unsigned i, pica_fn fn, void *arg) {
    pica_task *task = parked_spawn(i, fn, arg);
    parked_settle(i);
    return task;
}

static inline int parked_main(void *arg) {
    const struct parked_body *body = arg;
    return pica_join(parked_spawn(0, body->fn, NULL), NULL);
}

/* A case whose body is a task pinned to loop 0: between two of its suspensions nothing else that is
 * pinned there runs. */
#define PARKED_TEST_TIMEOUT(name, seconds)           \
    static int body_##name(void *arg);               \
    PT_TEST_TIMEOUT(name, seconds) {                 \
        struct parked_body parked_b = {body_##name}; \
        PT_EQ(pica_run(parked_main, &parked_b), 0);  \
    }                                                \
    static int body_##name(void *arg)
#define PARKED_TEST(name) PARKED_TEST_TIMEOUT(name, PT_DEFAULT_TIMEOUT)

#endif
