/* The worker: a thread that runs tasks and one loop.
 *
 * On the worker's loop fiber: polling, timers, the inbox, callbacks, stealing, parking. On task
 * stacks: only tasks; a suspension there takes the next ready task and switches to it directly, and
 * goes to the loop fiber when there is none or the turn's budget is spent.
 *
 * Where runnable tasks are, in the order in which the owner looks:
 *     lifo     the task that was woken last; a limited number in a row
 *     deque    the others, oldest first
 *     newest   the task that was created last and is not started: the deque's youngest end, kept
 *              apart so that an await that follows its creation takes it back without leaving a
 *              dead entry
 *     loop->ready   pinned tasks (and all tasks in fifo order), between callbacks
 *     rt->shared    from other threads, and overflow
 * Thieves take from deque, then newest, then (if the owner is stuck) lifo.
 */
#ifndef PICA__RUNTIME_WORKER_H
#define PICA__RUNTIME_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/random.h"
#include "runtime/base/stack.h"
#include "runtime/base/stack_cache.h"
#include "runtime/deque.h"
#include "runtime/fiber.h"
#include "runtime/loop.h"
#include "runtime/self.h"

struct pica_runtime;

/* worker->sleep: see idle.h. */
enum { PICA__AWAKE = 0, PICA__SLEEPING = 1, PICA__NOTIFIED = 2 };

/* worker->doze: awake; asleep with timers or operations pending; asleep until somebody wakes it. */
enum { PICA__DOZE_NOT = 0, PICA__DOZE_PENDS = 1, PICA__DOZE_QUIET = 2 };

/* What a watcher saw of a worker. */
struct pica__seen {
    uint64_t steps;
    unsigned looks;           /* in a row that found it stuck */
};

typedef struct pica__worker {
    struct pica_runtime *rt;
    pica_loop *loop;          /* the lease: the loop that this worker runs */
    unsigned index;
    bool fifo;                /* constant: PICA_ORDER=fifo */
    bool simulated;           /* constant: pica__simulated(), here where no page is touched for it */
    bool alone;               /* constant: the only worker */
    bool hosted;              /* constant: runs on the controlling thread (worker_life.c) */
    bool left;                /* the loop has ended; the controlling thread looks, if hosted */
    bool debug_migrate;       /* constant; also in simulations: see ready.c */
    bool debug_shuffle;       /* constant; the same */

    /* --- what runs; owner only --- */
    pica_task *current;       /* NULL on the loop fiber */
    pica__fiber *fiber;       /* the one that runs */
    pica__fiber *standing;    /* idle, ready to start a task; or NULL */
    pica__fiber *loop_fiber;
    pica__fiber native;       /* the thread's own stack; left at the start, for the end */
    pica__commit_fn commit;   /* to be run by the context that is being switched to */
    void *commit_arg;
    pica__stack_cache stacks;
    int budget;               /* steps left in this turn */
    unsigned lifo_streak;     /* tasks taken from lifo in a row */
    unsigned tick;            /* turns, for the look at the shared queue */
    int64_t turn_start;       /* ns, when the turn began */
    unsigned ready_pushed;    /* tasks made ready on the loop fiber since the last wake decision */
    bool polled;              /* the engine was waited for since the last turn */
    bool searching;           /* counted in rt->idle.searching */
    uint32_t seen_phase;      /* rt->phase as last obeyed */
    struct pica__seen *seen;  /* of each worker, at the last look as a watcher */
    int64_t watch_start;      /* ns, when it last fell asleep with a duty */
    bool woken_early;         /* from the last sleep as a watcher: by its own I/O, before it would have looked */
    pica__random random;
    pthread_t thread;
    struct pica__block *blocks; /* small buffers at hand; owner only */
    unsigned block_count;
    void *altstack;           /* for the report of an overflow */
    struct {                  /* what the controlling thread waits for while it lends itself */
        _Atomic uint32_t *word;
        uint32_t value;
        int64_t deadline;     /* ns of pica__now, INT64_MAX: none */
    } host;
    void **eh_globals;        /* this thread's exception state in libstdc++, NULL without it */
    char *scratch;            /* 64 KiB for reads, made at first use */
    void *tsan;               /* the sanitizer's context of this thread (san.h) */
#if PICA__DEBUG
    uint64_t fp_control;      /* of the thread when it started (fpcheck.h) */
#endif

    /* --- shared --- */
    /* The task woken last, or NULL. Owner and thieves exchange it, acq_rel. */
    _Alignas(PICA__CACHELINE) _Atomic(pica_task *) lifo;
    /* The unstarted task created last, or NULL. Owner exchanges; takers compare-and-swap or
     * exchange, acq_rel. Owns a start entry's reference. */
    _Atomic(pica_task *) newest;
    /* Steps run so far. Written by the owner (relaxed), read by thieves and statistics: two equal
     * readings some time apart mean that the owner is stuck in one step. */
    _Atomic uint64_t steps;
    pica__deque deque;

    /* AWAKE, SLEEPING or NOTIFIED: see idle.h. */
    _Alignas(PICA__CACHELINE) _Atomic uint32_t sleep;
    /* Whether the worker sleeps and what can wake it: PICA__DOZE_... Written by the owner, read by
     * one that looks whether all are quiet; seq_cst (starved.c). */
    _Atomic uint32_t doze;
    /* Whether the worker sleeps through a pause of the runtime, or has stopped for good. Written by the owner, read by the watcher of
     * slow steps, relaxed. */
    _Atomic bool resting;
    /* In rt->idle's list; under its lock. */
    bool idle_listed;
    pica__link idle_link;

    /* Written by the owner with pica__count, read by statistics and by the watcher of slow steps (slow.c);
     * all relaxed. */
    struct {
        _Atomic uint64_t created, inplace, steals, parks, wakes;
        _Atomic uint64_t callbacks;       /* run from the loop's FIFO, the library's own among them */
        _Atomic uint64_t received, sent;  /* bytes on sockets */
        _Atomic uint64_t rescued;         /* connections accepted for another's loop */
    } stats;
} pica__worker;

/* The thread's start routine; arg is the worker. */
void *pica__worker_main(void *arg);
/* Turns until the runtime ends. On the loop fiber. */
void pica__worker_loop(pica__worker *worker);
void pica__worker_buffers_free(pica__worker *worker);

/* The controlling thread sleeps until *word is not value any more, or deadline has passed, or for no reason;
 * and whoever changes the word wakes it (any thread, async-signal-safe). If it hosts a worker, that works
 * meanwhile. */
void pica__control_wait(struct pica_runtime *rt, _Atomic uint32_t *word, uint32_t value,
                        int64_t deadline);
void pica__control_wake(struct pica_runtime *rt, _Atomic uint32_t *word);
/* Makes the calling thread the worker's host. Errors as of a worker's start. And ends that, when the loop has
 * ended (worker->left). */
int pica__host_begin(pica__worker *worker);
void pica__host_end(pica__worker *worker);
/* By a hosted worker's loop: whether its host has something to do, and back to it. */
bool pica__worker_host_late(const pica__worker *worker);
static inline bool pica__worker_host_due(const pica__worker *worker) {
    return PICA__UNLIKELY(atomic_load_explicit(worker->host.word, memory_order_acquire) != worker->host.value) ||
           (PICA__UNLIKELY(worker->host.deadline != INT64_MAX) && pica__worker_host_late(worker));
}
void pica__worker_to_host(pica__worker *worker);

/* Puts a suspended task where a worker finds it, once for each suspension. Any thread. */
void pica__ready(pica_task *task);
/* The same for a task that yielded, behind all others here. On its worker. */
void pica__ready_last(pica__worker *worker, pica_task *task);
/* Makes an unstarted task runnable; takes over a start entry's reference. placed: its loop was chosen,
 * rather than inherited, so it begins there. Any thread. */
void pica__ready_unstarted(pica_task *task, bool placed);

/* The next thing to run without going to the loop: an entry as in the deque, 0 if there is none or
 * the turn is over. */
uintptr_t pica__worker_pick_queued(pica__worker *worker);
/* Whether there may be one, without a look at the turn. */
static inline bool pica__worker_any_queued(pica__worker *worker) {
    return ((unsigned)pica__deque_any(&worker->deque) |
            (unsigned)(atomic_load_explicit(&worker->lifo, memory_order_relaxed) != NULL) |
            (unsigned)(atomic_load_explicit(&worker->newest, memory_order_relaxed) != NULL)) != 0;
}
static inline uintptr_t pica__worker_pick(pica__worker *worker) {
    return pica__worker_any_queued(worker) ? pica__worker_pick_queued(worker) : 0;
}
/* No step follows in this turn; somebody may come for what is queued. */
void pica__worker_end_turn(pica__worker *worker);
/* Once a turn: the task created last joins the deque, or tasks that keep that filled would starve it. */
void pica__worker_age_newest(pica__worker *worker);
/* Adds to a counter that only its owner writes: a relaxed load and a relaxed store, never a locked
 * instruction. Compilers make three instructions of that; on x86-64 one does the same. */
static inline void pica__count(_Atomic uint64_t *counter, uint64_t n) {
#if defined(__x86_64__) && !PICA__TSAN && !PICA__MODEL
    __asm__ inline("addq %1, %0" : "+m"(*(uint64_t *)(void *)counter) : "er"(n) : "cc");
#else
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
#endif
}
/* Counts a step. */
static inline void pica__worker_step(pica__worker *worker) {
    pica__count(&worker->steps, 1);
}

/* Small buffers of PICA__BLOCK_SIZE bytes for what is held only while there is something in it, kept at
 * hand by the present worker; without one (a stream freed by a thread that closes the runtime) they come
 * from the heap. They may be put back elsewhere than they came from. NULL without memory. */
enum { PICA__BLOCK_SIZE = 2048 };
struct pica__block {
    struct pica__block *next;
};
void *pica__block_get(void);
void pica__block_put(void *block);

/* The 64 KiB buffer of the present worker for short use without suspension; NULL without memory. */
enum { PICA__SCRATCH_SIZE = 64 * 1024 };
char *pica__worker_scratch(pica__worker *worker);

/* Switching between tasks and the loop: run.c, run.h. */
/* From the loop fiber: runs one entry, and whatever follows it directly; returns to the loop. */
void pica__run_entry(pica__worker *worker, uintptr_t entry);
/* Entry of a fiber that starts tasks. */
void pica__runner(void *fiber);
/* Makes sure that worker->standing exists; false without a stack. */
bool pica__worker_stand(pica__worker *worker);

#define PICA__ENTRY_START ((uintptr_t)1)
static inline uintptr_t pica__entry_start(pica_task *task) {
    return (uintptr_t)task | PICA__ENTRY_START;
}
static inline pica_task *pica__entry_task(uintptr_t entry) {
    return (pica_task *)(entry & ~PICA__ENTRY_START);
}

#endif
