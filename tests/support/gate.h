/* What tests of pools of threads share: a blocking function that they let go, and calls made by tasks. */
#ifndef GATE_H
#define GATE_H

#include <pica.h>

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/procfs.h"
#include "tests/support/pt.h"

static inline int code(void *arg) {
    return (int)(intptr_t)arg;
}

/* A blocking function that tests let go, and that counts who is in it. */
struct gate {
    sem_t entered;
    sem_t go;
    atomic_int inside;
    atomic_int most;
    atomic_int calls;
};

static inline void gate_init(struct gate *g) {
    memset(g, 0, sizeof *g);
    PT_REQUIRE(sem_init(&g->entered, 0, 0) == 0);
    PT_REQUIRE(sem_init(&g->go, 0, 0) == 0);
}

static inline void gate_wait(sem_t *sem) {
    while (sem_wait(sem) != 0) {
    }
}

static inline int pass(void *arg) {
    struct gate *g = arg;
    int now = atomic_fetch_add(&g->inside, 1) + 1;
    int most = atomic_load(&g->most);
    while (now > most && !atomic_compare_exchange_weak(&g->most, &most, now)) {
    }
    atomic_fetch_add(&g->calls, 1);
    PT_EQ(sem_post(&g->entered), 0);
    gate_wait(&g->go);
    atomic_fetch_sub(&g->inside, 1);
    return 7;
}

/* In a task, without holding up its worker. */
static inline void until_entered(struct gate *g, int times) {
    while (times > 0) {
        if (sem_trywait(&g->entered) == 0) {
            times--;
        } else {
            PT_REQUIRE(pica_sleep(0.0005) == 0);
        }
    }
}

static inline void open_gate(struct gate *g, int times) {
    for (int i = 0; i < times; i++) {
        PT_EQ(sem_post(&g->go), 0);
    }
}

struct through {
    pica_executor *executor;
    pica_fn fn;
    void *arg;
};

static inline int calls(void *arg) {
    struct through *t = arg;
    return pica_run_in_executor(t->executor, t->fn, t->arg);
}

#endif
