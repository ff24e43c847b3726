/* Tasks that work while others cancel them all the time, for tests of what must hold all the same.
 * */
#ifndef VICTIMS_H
#define VICTIMS_H

#include <pica.h>

#include <stdatomic.h>
#include <stdint.h>

#include "tests/support/pt.h"

enum { VICTIMS = 24 };

static struct {
    pica_task *task[VICTIMS];
    atomic_uint begun;
    atomic_uint ended;
    atomic_ulong cancelled; /* calls that a cancellation ended */
} victims;

/* Fewer rounds where each takes longer; never more than n. */
static inline int rounds(int n) {
    double scale = pt_time_scale();
    int scaled = scale > 1 ? (int)(n / scale) : n;
    return scaled > 0 ? scaled : 1;
}

/* Numbers that differ between tasks and need no state of a thread. */
static inline uint32_t scramble(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Half of them run one function, half the other. */
static inline void victims_start(pica_fn even, pica_fn odd) {
    for (unsigned i = 0; i < VICTIMS; i++) {
        PT_REQUIRE(pica_create_task(&victims.task[i], i % 2 ? odd : even, NULL) == 0);
    }
}

/* Called by each victim at first; gives it a seed. Before all have begun nobody is cancelled: a
 * task that is cancelled before it begins never does. */
static inline uint32_t victim_begin(void) {
    return atomic_fetch_add(&victims.begun, 1) + 1;
}

/* Called by each victim at last. */
static inline int victim_end(void) {
    atomic_fetch_add(&victims.ended, 1);
    return 0;
}

/* A case goes on at least until so many calls were cancelled that it means something. */
static inline bool victims_suffered(void) {
    return atomic_load(&victims.cancelled) >= 100;
}

/* What a victim does about a result: takes the request back if it was one. */
static inline void victim_note(int rc) {
    if (rc == PICA_ECANCELED) {
        (void)pica_task_uncancel(pica_current_task());
        atomic_fetch_add(&victims.cancelled, 1);
    } else {
        PT_CHECK(rc == 0 || rc == PICA_ETIMEDOUT);
    }
}

static inline int victims_torturer(void *arg) {
    uint32_t *random = arg;
    while (atomic_load(&victims.begun) < VICTIMS) {
        PT_EQ(pica_yield(), 0);
    }
    while (atomic_load(&victims.ended) < VICTIMS) {
        (void)pica_task_cancel(victims.task[scramble(random) % VICTIMS]);
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

/* Cancels victims at random until all have ended of themselves. */
static inline void victims_torment(void) {
    uint32_t random[2] = {1, 2};
    pica_task *task[2];
    for (int i = 0; i < 2; i++) {
        PT_REQUIRE(pica_create_task(&task[i], victims_torturer, &random[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    for (unsigned i = 0; i < VICTIMS; i++) {
        int rc = pica_join(victims.task[i], NULL);
        PT_CHECK(rc == 0 || rc == PICA_ECANCELED); /* the last request came too late */
    }
    PT_CHECK(victims_suffered());
}

#endif
