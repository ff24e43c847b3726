/* The runtime object: the workers, what they share, and its life.
 *
 * Life (rt->phase), changed by the controlling thread, which holds rt->control:
 *     PAUSED -> RUNNING -> PAUSED ... -> CLOSING -> ENDING
 * Workers obey the phase between turns: in PAUSED they sleep on it, in RUNNING and CLOSING they work
 * (in CLOSING no task can be created), in ENDING they stop, and leave when the word changes once
 * more. The word is run * 4 + phase, where run
 * counts the runs, so that a worker that slept through a whole run still makes its one turn of it.
 */
#ifndef PICA__RUNTIME_RT_H
#define PICA__RUNTIME_RT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/runtime.h>

#include "runtime/base/env.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/stack.h"
#include "runtime/executor.h"
#include "runtime/idle.h"
#include "runtime/san.h"
#include "runtime/worker.h"

enum { PICA__PAUSED = 0, PICA__RUNNING = 1, PICA__CLOSING = 2, PICA__ENDING = 3 };

struct pica_runtime {
    pica__config config;
    unsigned workers;
    pica__worker *worker;     /* array */
    pica_loop *loop;          /* array, one per worker */
    pica__stack_pool *stacks;
    bool handle_signals;      /* SIGINT and SIGTERM cancel the main task */
    uint32_t forks;           /* of the process that made it: a forked child may not use it */

    /* run * 4 + PAUSED..ENDING. Written by the controlling thread (release), read by workers (acquire); also
     * the word on which paused workers sleep. */
    _Alignas(PICA__CACHELINE) _Atomic uint32_t phase;
    /* Workers that have seen PAUSED, or have left. Added by workers (acq_rel); the controlling thread
     * sleeps on it. */
    _Atomic uint32_t stopped;
    /* Set by pica_stop and by the end of the awaited task, seq_cst; the controlling thread sleeps on
     * it. */
    _Atomic uint32_t stop_requested;
    /* 1 while a thread is in run or close: exchanged by it. */
    _Atomic uint32_t control;
    /* A start error of a worker, 0 if there was none. Workers compare-and-swap it once. */
    _Atomic int start_error;

    /* Bumped (release) when no task is left; a plain thread sleeps on it. */
    _Alignas(PICA__CACHELINE) _Atomic uint32_t drained;
    /* 1 + how many tasks may be left for a drain to be satisfied; 0: nobody waits. Written by drainers
     * (seq_cst) before they count, read by tasks that end (seq_cst) after they were counted out. */
    _Atomic uint64_t drain_mark;
    /* Tasks in pica_wait_all_tasks. */
    struct {
        pica__lock_t lock;
        pica__link waiters;
    } drain;

    pica__idle idle;
    struct {
        pica__lock_t lock;
        pica__fifo fifo;                /* pica__work: START or RESUME */
        /* Its length. Changed under the lock, read by workers without it. */
        _Atomic size_t count;
    } shared;

    /* Unstarted tasks that found no stack (starved.c). */
    struct {
        pica__lock_t lock;
        pica__fifo fifo;                /* pica_task.start */
        /* Its length. Changed under the lock (seq_cst); read by workers, and after a fence by
         * whoever gives a stack back. */
        _Atomic uint32_t count;
        bool always;                    /* constant: stacks are limited, or deadlocks are looked for */
    } starved;
    /* Descriptors held by handles, listeners, watches (io/poll.c) and processes. Added and subtracted (acq_rel) by whoever opens and
     * closes one; close waits for 0, sleeping on `drained`. */
    _Atomic uint64_t sockets;
    /* Threads, other than the workers, that are just making something runnable here. Added (relaxed)
     * before that can be seen, so that whoever saw it also sees the visitor; subtracted (release) as
     * their last touch; awaited (acquire) by the thread that ends the runtime. */
    _Atomic uint32_t visitors;

    /* What watches for slow steps (slow.c), NULL without PICA_DEBUG=slow. Written when the runtime starts and
     * is freed (release), read by signal handlers on its workers (acquire). */
    _Atomic(struct pica__slow *) slow;
    /* In pica__runtimes, from when its threads have started until they are told to end: see dump.c. */
    pica__link listed;
    uint64_t serial;          /* unique in the process, constant */
    /* Dumps that are just looking at this runtime. Added (relaxed) under the lock of the list, subtracted
     * (release) by the dump, awaited (acquire) by whoever takes the runtime out of the list. */
    _Atomic uint32_t dumpers;

    /* Shares in the memory of a runtime that was closed: one for each loop that still has task objects,
     * and close's own. Set by close, subtracted (acq_rel) by who gives one back; the last frees. */
    _Atomic uint64_t shares;

    pica__pools pools;        /* of threads for blocking calls */

    /* Whether a deadlock was reported. Exchanged by workers, relaxed. */
    _Atomic bool deadlock_told;

    pica_task_error_hook task_error;
    void *task_error_ctx;
};

/* Gives shares in a closed runtime's memory back. Any thread. It may be gone afterwards. */
void pica__runtime_put(pica_runtime *rt, uint64_t shares);

/* Puts one task into the shared queue. Any thread. Does not wake. */
void pica__shared_push(pica_runtime *rt, pica__work *work);
/* Takes the oldest, or NULL. */
pica__work *pica__shared_pop(pica_runtime *rt);

/* Around what a thread that may be no worker does to a runtime that may end as a consequence of it. */
static inline bool pica__visit(pica_runtime *rt) {
    pica__worker *worker = pica__self();
    if (PICA__LIKELY(worker != NULL && worker->rt == rt)) {
        return false;
    }
    if (pica__simulated()) {
        pica__sim_check_thread();
    }
    atomic_fetch_add_explicit(&rt->visitors, 1, memory_order_relaxed);
    return true;
}
static inline void pica__visit_end(pica_runtime *rt, bool visiting) {
    if (visiting) {
        atomic_fetch_sub_explicit(&rt->visitors, 1, memory_order_release);
    }
}

/* The registry of a loop. Tasks lock it when they create and end others, and must not be ordered by
 * that in the eyes of the sanitizer. */
static inline void pica__registry_lock(pica_loop *loop) {
    pica__tsan_hide();
    pica__lock(&loop->registry.lock);
}
static inline void pica__registry_unlock(pica_loop *loop) {
    pica__unlock(&loop->registry.lock);
    pica__tsan_show();
}

/* All runtimes of the process, in the order of their serials; dump.c. */
struct pica__runtime_list {
    pica__lock_t lock;
    pica__link list;          /* pica_runtime.listed */
    uint64_t serial;          /* the last one given */
};
extern struct pica__runtime_list pica__runtimes;
/* Entering it, and leaving it once no dump looks. */
void pica__runtime_list(pica_runtime *rt);
void pica__runtime_unlist(pica_runtime *rt);
/* A task of this home ended: counts it out and wakes whoever drains. */
void pica__task_ended(pica_loop *loop);
/* Not less than the tasks that were alive at some moment during the call. */
uint64_t pica__runtime_alive(pica_runtime *rt);
/* A descriptor was closed: counts it out, and tells a runtime that closes. */
void pica__socket_gone(pica_runtime *rt);
/* Asks every task that has not ended, except one, to end. Any thread. */
void pica__runtime_cancel_all(pica_runtime *rt, pica_task *except);

/* Tasks without stacks: starved.c. Where there is no limit and none is starved, and deadlocks are not looked for,
 * which costs one look, the workers leave the rest of it out; the first that is starved wakes them all. */
static inline bool pica__may_starve(pica_runtime *rt) {
    return ((unsigned)rt->starved.always | atomic_load_explicit(&rt->starved.count, memory_order_relaxed)) != 0;
}
/* An unstarted task found no stack; takes over the start entry's reference. */
void pica__starved_put(pica__worker *worker, pica_task *task);
/* By the loop: starts the oldest if there is one and a stack for it; true if something was done. */
bool pica__starved_run(pica__worker *worker);
/* Whether that would start one. Gets the stack. */
bool pica__starved_can_run(pica__worker *worker);
/* By a worker about to park: gives its idle stacks back where they may be missed. */
void pica__starved_release(pica__worker *worker);
/* Whether the caller, a worker, is the only one that is not asleep for good. */
bool pica__others_quiet(pica__worker *self);
/* By a worker that has nothing to do, just before it sleeps. If nothing can ever free a stack, fails
 * the oldest task that has none; true if so: then the worker does not sleep. */
bool pica__starved_doze(pica__worker *worker);
void pica__starved_undoze(pica__worker *worker);
/* At the end: drops the entries of tasks that were run or failed without them. */
void pica__starved_drop(pica_runtime *rt);
/* A stack went back to the pool. */
void pica__runtime_stack_freed(pica_runtime *rt);
static inline uint32_t pica__phase(pica_runtime *rt) {
    return atomic_load_explicit(&rt->phase, memory_order_acquire) & 3;
}
/* How often this process's line was forked: to be compared with the number of an earlier moment. */
uint32_t pica__fork_count(void);
/* 0, or PICA_EFORKED. */
int pica__runtime_check(const pica_runtime *rt);

#endif
