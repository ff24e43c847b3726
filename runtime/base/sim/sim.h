/*
 * The simulator as the seams see it.
 *
 * While it is on, one thread of the process carries all simulated ones (threads.c): the workers of
 * runtimes, the threads of pools, and the actors of a scenario. Each seam (clock, parking, relaxing, chance,
 * threads, system calls on descriptors, the engine) asks pica__simulated() first and comes here instead of to
 * the system. A thread of the system that is none of the simulation's is refused: the process ends with a
 * message, since whatever it did would not come again with the same seed.
 *
 * Nothing here may be called while the simulator is off, but what says so.
 */
#ifndef PICA__RUNTIME_BASE_SIM_SIM_H
#define PICA__RUNTIME_BASE_SIM_SIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/compiler.h"

/* Whether a simulation is under way. Written by the thread that begins and ends it, relaxed: that thread is the
 * only one that may see it on. */
extern _Atomic bool pica__sim_on;

static inline bool pica__simulated(void) {
#if PICA__MODEL
    return false; /* the explorer has models of its own */
#endif
    return PICA__UNLIKELY(atomic_load_explicit(&pica__sim_on, memory_order_relaxed));
}

/* Simulated descriptors are numbers from here on: no system hands out so many. */
#define PICA__SIM_FD (1 << 24)

static inline bool pica__sim_fd(int fd) {
#if PICA__MODEL
    return false;
#endif
    return PICA__UNLIKELY(fd >= PICA__SIM_FD);
}

/* The clock, in ns. A switch point. */
int64_t pica__sim_now(void);
/* Lets others run: what this thread waits for can only come from them. */
void pica__sim_relax(void);
/* As pica__park_wait and pica__park_wake. */
void pica__sim_park_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);
void pica__sim_park_wake(_Atomic uint32_t *word);
/* A seed for somebody's generator; never 0. */
uint64_t pica__sim_random_seed(void);
/* May let another thread run. Where the order of things between threads matters and no other seam is near. */
void pica__sim_point(void);

/* Whether the allocation under way fails, in a simulation that has asked for it by pica__alloc_fail_at. */
bool pica__sim_enomem(void);

/* Ends the process if the calling thread is none of the simulation's. Async-signal-safe. */
void pica__sim_check_thread(void);

/* Threads; see runtime/base/thread.h. The number is the thread's own as long as it was not joined or detached. */
int pica__sim_thread_start(uintptr_t *number, void *(*main)(void *arg), void *arg);
void pica__sim_thread_set_name(const char *name);
void pica__sim_thread_join(uintptr_t number);
void pica__sim_thread_detach(uintptr_t number);
uintptr_t pica__sim_thread_self(void);

/* A runtime ends that had so many. */
void pica__sim_count(unsigned workers, uint64_t tasks);
/* Whether a task that was made ready goes to another worker. A switch point. */
bool pica__sim_migrate(void);
/* How many workers a runtime has if nobody says. */
unsigned pica__sim_workers(void);
/* Whether a worker that may steal must not (-1), should in any case (1), or decides itself (0). */
int pica__sim_steal(void);

#endif
