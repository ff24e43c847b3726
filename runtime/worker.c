/* The worker's loop: turns, stealing, parking. What runs where stands in worker.h, the idle protocol in idle.h,
 * how a worker begins and ends in worker_life.c.
 *
 * A turn: I/O, timers, inbox, the callbacks that are there now, then tasks until none is left or the
 * budget (steps, or 100 us of time) is spent. So everything is looked at within a bounded number of
 * steps. After a turn that did nothing the worker looks elsewhere, then parks.
 */
#include "runtime/worker.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/park.h"
#include "runtime/base/sim/sim.h"
#include "runtime/deadlock.h"
#include "runtime/rt.h"
#include "runtime/run.h"
#include "runtime/san.h"
#include "runtime/slow.h"

#if PICA__TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum {
    TURN_STEPS = 64,    /* tasks run between two looks at I/O */
    SHARED_TURNS = 61,  /* turns between two looks at the shared queue while there is other work */
    BACKLOG = 64,       /* with as many tasks queued, I/O is looked at in one turn of BACKLOG_TURNS only */
    BACKLOG_TURNS = 16,
    STEAL_WORTH = 4,    /* queued tasks that make an unasked steal worth it: fewer run sooner at home */
    WAKE_WORTH = 8,     /* tasks readied by one batch of completions that are worth a wake */
    STEAL_MAX = PICA__DEQUE_CAPACITY / 2,
    BLOCKS_MAX = 64     /* small buffers that a worker keeps */
};
#define WATCH_NS INT64_C(2000000)
#define WATCH_AWAKE_NS INT64_C(12000000) /* of a watcher whose own I/O wakes it more often than that */
#define GUARD_NS INT64_C(32000000)
#define DEADLOCK_NS INT64_C(1000000000) /* of quiet before a deadlock is told */
#define LONG_LOOKS 4 /* looks in a row that find a worker stuck: then the system does not only hold it up */
#define LINGER_NS INT64_C(100000000) /* so long after the last step somebody watches; at most half as long again */

/* Both run in the task's context, and unseen by the sanitizer: the links are the worker's, the contents
 * are handed over by pica__tsan_give and _get. */
PICA__NO_TSAN static struct pica__block *block_pop(pica__worker *worker) {
    struct pica__block *block = worker->blocks;
    if (block == NULL) {
        return NULL;
    }
    worker->blocks = block->next;
    worker->block_count--;
    return block;
}

PICA__NO_TSAN static bool block_push(pica__worker *worker, void *memory) {
    if (worker == NULL || worker->block_count >= BLOCKS_MAX) {
        return false;
    }
    struct pica__block *block = memory;
    block->next = worker->blocks;
    worker->blocks = block;
    worker->block_count++;
    return true;
}

void *pica__block_get(void) {
    pica__worker *worker = pica__self();
    struct pica__block *block = worker == NULL ? NULL : block_pop(worker);
    if (block == NULL) {
        return pica__alloc(PICA__BLOCK_SIZE);
    }
    pica__tsan_get(block);
    return block;
}

void pica__block_put(void *memory) {
    pica__tsan_give(memory);
    if (!block_push(pica__self(), memory)) {
        pica__free(memory, PICA__BLOCK_SIZE);
    }
}

void pica__worker_buffers_free(pica__worker *worker) {
    for (struct pica__block *block; (block = block_pop(worker)) != NULL;) {
        pica__tsan_get(block);
        pica__free(block, PICA__BLOCK_SIZE);
    }
    pica__free(worker->scratch, PICA__SCRATCH_SIZE);
}

PICA__NO_TSAN char *pica__worker_scratch(pica__worker *worker) {
    if (worker->scratch == NULL) {
        worker->scratch = pica__alloc(PICA__SCRATCH_SIZE);
    }
    return worker->scratch;
}

/* --- running --- */

/* The worker has found something to do (found), or gives up searching. Before what it found is run, which may
 * take long: as long as it is counted, nobody is woken for anything else. */
static inline void stop_searching(pica__worker *worker, bool found) {
    if (PICA__LIKELY(!worker->searching)) {
        return;
    }
    worker->searching = false;
    if (pica__idle_end_search(worker->rt) && found) {
        /* The last searcher: producers relied on it, so somebody else must come for the rest. */
        pica__idle_notify(worker->rt);
    }
}

static PICA__NOINLINE void run_work(pica__worker *worker, pica__work *work) {
    stop_searching(worker, true);
    switch (work->kind) {
        case PICA__WORK_CALL:
        case PICA__WORK_USER: {
            pica__call *call = PICA__CONTAINER_OF(work, pica__call, work);
            pica__count(&worker->stats.callbacks, 1);
            pica__tsan_get(worker->loop); /* see pica__task_serial_begin */
            pica__lock_none("a callback");
            call->fn(call);
            pica__tsan_give(worker->loop);
            break;
        }
        case PICA__WORK_START:
            pica__run_entry(worker,
                            pica__entry_start(PICA__CONTAINER_OF(work, pica_task, start)));
            break;
        case PICA__WORK_RESUME:
            pica__run_entry(worker, (uintptr_t)PICA__CONTAINER_OF(work, pica_task, ready));
            break;
    }
}

static PICA__NOINLINE bool run_waiting(pica__worker *worker) {
    pica__work *work = pica__shared_pop(worker->rt);
    if (work == NULL) {
        if (!pica__may_starve(worker->rt) || !pica__starved_can_run(worker)) {
            return false;
        }
        stop_searching(worker, true);
        return pica__starved_run(worker);
    }
    run_work(worker, work);
    return true;
}

/* What waits for any worker: the shared queue, then tasks that found no stack. The look is a hint: before it sleeps,
 * a worker makes sure. */
static inline bool run_shared(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    return PICA__UNLIKELY(atomic_load_explicit(&rt->shared.count, memory_order_relaxed) != 0 ||
                          pica__may_starve(rt)) &&
           run_waiting(worker);
}

static PICA__NOINLINE void run_callbacks(pica__worker *worker, uint64_t n) {
    pica_loop *loop = worker->loop;
    while (n-- != 0) {
        pica__fifo_node *node = pica__fifo_pop(&loop->ready);
        pica__count(&loop->ready_count, UINT64_MAX);
        run_work(worker, PICA__CONTAINER_OF(node, pica__work, node));
    }
}

static inline bool run_tasks(pica__worker *worker) {
    bool any = false;
    if (PICA__UNLIKELY(worker->tick % SHARED_TURNS == 0)) {
        any = run_shared(worker);
    }
    uintptr_t entry;
    while ((entry = pica__worker_pick(worker)) != 0) {
        any = true;
        stop_searching(worker, true);
        pica__run_entry_here(worker, entry);
    }
    return any;
}

/* What I/O makes ready comes behind what is queued, so with enough of that there is no hurry; taking more in than is
 * run would overflow the deque, and what overflows waits long. */
static bool io_is_due(pica__worker *worker) {
    return pica__deque_size(&worker->deque) < BACKLOG || worker->tick % BACKLOG_TURNS == 0;
}

static PICA__NOINLINE bool fire_timers(pica__worker *worker) {
    pica_loop *loop = worker->loop;
    int64_t now = pica__now();
    worker->turn_start = now;
    return pica__loop_deadline(loop) <= now && pica__loop_fire_timers(loop, now) > 0;
}

/* One round of the loop. Whether a timer is due is asked of the clock only where the wait has not told (engine.h,
 * `ahead`): with limits on every read that is a read of the clock for each request. */
static PICA__INLINE bool turn(pica__worker *worker) {
    pica_loop *loop = worker->loop;
    worker->tick++;
    worker->budget = TURN_STEPS;
    bool any = false;
    bool polled = worker->polled; /* just now, on the way out of sleep */
    worker->polled = false;
    if (PICA__UNLIKELY(!polled) && pica__engine_has_work(loop->engine) && io_is_due(worker)) {
        any = pica__engine_wait(loop->engine, 0) > 0;
        polled = true;
    }
    worker->turn_start = 0; /* known at the first look at the clock, after some steps */
    if (PICA__UNLIKELY(pica__loop_deadline(loop) < (polled ? loop->engine->ahead : INT64_MAX))) {
        any |= fire_timers(worker);
    }
    if (PICA__UNLIKELY(!pica__inbox_empty(&loop->inbox))) {
        pica__loop_drain_inbox(loop);
    }
    /* Exactly the callbacks that are there now: what they add comes after the next look at I/O. */
    uint64_t callbacks = atomic_load_explicit(&loop->ready_count, memory_order_relaxed);
    if (PICA__UNLIKELY(callbacks != 0)) {
        any = true;
        run_callbacks(worker, callbacks);
    }
    if (worker->ready_pushed >= WAKE_WORTH) {
        pica__idle_notify(worker->rt);
    }
    worker->ready_pushed = 0;
    if (worker->turn_start == 0 && pica__deque_size(&worker->deque) > 1) {
        worker->turn_start = pica__now(); /* one task alone needs no clock */
    }
    if (PICA__UNLIKELY(atomic_load_explicit(&worker->newest, memory_order_relaxed) != NULL)) {
        pica__worker_age_newest(worker);
    }
    any |= run_tasks(worker);
    return any;
}

/* --- stealing --- */

/* Takes work from a victim into our deque and returns one entry to run, or 0. stuck: the victim has not
 * finished a step for a while, so its LIFO slot is fair game too. */
static PICA__NOINLINE uintptr_t steal_from(pica__worker *worker, pica__worker *victim, bool stuck) {
    if (pica__simulated()) {
        pica__sim_point();
    }
    uintptr_t entries[STEAL_MAX];
    size_t n = pica__deque_steal(&victim->deque, entries, STEAL_MAX);
    uintptr_t first = 0;
    if (n > 0) {
        first = entries[0];
        for (size_t i = 1; i < n; i++) {
            bool pushed = pica__deque_push(&worker->deque, entries[i]);
            PICA__CHECK(pushed); /* ours is empty, or we would not steal */
        }
    } else if (atomic_load_explicit(&victim->newest, memory_order_relaxed) != NULL) {
        pica_task *task = atomic_exchange_explicit(&victim->newest, NULL, memory_order_acq_rel);
        first = task == NULL ? 0 : pica__entry_start(task);
        n = first != 0;
    }
    if (first == 0 && stuck && atomic_load_explicit(&victim->lifo, memory_order_relaxed) != NULL) {
        first = (uintptr_t)atomic_exchange_explicit(&victim->lifo, NULL, memory_order_acq_rel);
        n = first != 0;
    }
    if (n > 0) {
        pica__count(&worker->stats.steals, n);
    }
    return first;
}

static size_t stealable(pica__worker *victim) {
    return pica__deque_size(&victim->deque) +
           (atomic_load_explicit(&victim->newest, memory_order_relaxed) != NULL);
}

static uintptr_t steal(pica__worker *worker, size_t worth) {
    pica_runtime *rt = worker->rt;
    if (pica__simulated()) {
        int policy = pica__sim_steal();
        if (policy < 0) {
            return 0;
        }
        worth = policy > 0 ? 1 : worth;
    }
    unsigned start = pica__random_next(&worker->random) % rt->workers;
    for (unsigned i = 0; i < rt->workers; i++) {
        pica__worker *victim = &rt->worker[(start + i) % rt->workers];
        if (victim != worker && stealable(victim) >= worth) {
            uintptr_t entry = steal_from(worker, victim, false);
            if (entry != 0) {
                return entry;
            }
        }
    }
    return 0;
}

/* What a watcher looks for: a worker that made no step since the last look. What is behind it is taken. Of clients
 * first only some (loop.h): whom the system held up for a moment, as happens to each, gets its own. */
static PICA__NOINLINE uintptr_t steal_from_stuck(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    uintptr_t entry = 0;
    for (unsigned i = 0; i < rt->workers; i++) {
        pica__worker *victim = &rt->worker[i];
        uint64_t steps = atomic_load_explicit(&victim->steps, memory_order_relaxed);
        struct pica__seen *seen = &worker->seen[i];
        bool stuck = steps == seen->steps &&
                     atomic_load_explicit(&victim->sleep, memory_order_relaxed) == PICA__AWAKE;
        *seen = (struct pica__seen){steps, stuck ? seen->looks + 1 : 0};
        if (victim != worker && stuck) {
            pica__loop_rescue(victim->loop, seen->looks >= LONG_LOOKS);
            entry = entry == 0 ? steal_from(worker, victim, true) : entry;
        }
    }
    return entry;
}

/* Looks for work at other workers; runs one piece of it. */
static PICA__NOINLINE bool run_stolen(pica__worker *worker) {
    if (!worker->searching) {
        worker->searching = pica__idle_begin_search(worker->rt);
        if (!worker->searching) {
            return false;
        }
        uintptr_t entry = steal(worker, STEAL_WORTH);
        if (entry != 0) {
            stop_searching(worker, true);
            pica__run_entry(worker, entry);
        }
        return entry != 0;
    }
    uintptr_t entry = steal(worker, 1);
    if (entry != 0) {
        stop_searching(worker, true);
        pica__run_entry(worker, entry);
    }
    return entry != 0;
}

/* Looks for work outside; runs one piece of it. */
static inline bool run_from_elsewhere(pica__worker *worker) {
    return run_shared(worker) || (!worker->alone && !worker->fifo && run_stolen(worker));
}

/* --- parking --- */

/* For the second look: what this worker would steal. */
static PICA__NOINLINE bool anything_elsewhere(const pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    if (worker->fifo || (pica__simulated() && pica__sim_steal() < 0)) {
        return false; /* it would not get what it sees */
    }
    for (unsigned i = 0; i < rt->workers; i++) {
        if (i != worker->index && stealable(&rt->worker[i]) >= STEAL_WORTH) {
            return true;
        }
    }
    return false;
}

/* The second look of the idle protocol: anything that came before SLEEPING was visible. */
static inline bool anything(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    pica_loop *loop = worker->loop;
    /* All at once, since there is mostly none of it. */
    unsigned any = (unsigned)!pica__fifo_empty(&loop->ready) | (unsigned)!pica__inbox_empty(&loop->inbox) |
                   (unsigned)(atomic_load_explicit(&rt->phase, memory_order_acquire) != worker->seen_phase) |
                   (unsigned)(atomic_load_explicit(&rt->shared.count, memory_order_acquire) != 0) |
                   (unsigned)pica__worker_any_queued(worker);
    if (PICA__UNLIKELY(any != 0) || (PICA__UNLIKELY(pica__may_starve(rt)) && pica__starved_can_run(worker)) ||
        (PICA__LIKELY(worker->hosted) && pica__worker_host_due(worker))) {
        return true;
    }
    return !worker->alone && anything_elsewhere(worker);
}

/* Whether anybody made a step within the last LINGER_NS, as far as those saw who came here. Asked in each sleep of the
 * last one awake, so the others' counters, which are in their caches, are read only when it is long since they grew. */
static bool active_lately(pica_runtime *rt, int64_t now) {
    int64_t quiet = now - atomic_load_explicit(&rt->idle.active, memory_order_relaxed);
    if (quiet < LINGER_NS / 2) {
        return true;
    }
    uint64_t steps = 0;
    for (unsigned i = 0; i < rt->workers; i++) {
        steps += atomic_load_explicit(&rt->worker[i].steps, memory_order_relaxed);
    }
    if (steps != atomic_load_explicit(&rt->idle.steps, memory_order_relaxed)) {
        atomic_store_explicit(&rt->idle.steps, steps, memory_order_relaxed);
        atomic_store_explicit(&rt->idle.active, now, memory_order_relaxed);
        return true;
    }
    return quiet < LINGER_NS;
}

/* What a sleeper is besides: see idle.h. */
enum duty { NO_DUTY, WATCH, GUARD };

static bool take_duty(_Atomic uint32_t *held) {
    return atomic_load_explicit(held, memory_order_relaxed) == 0 &&
           atomic_exchange_explicit(held, 1, memory_order_seq_cst) == 0;
}

/* While others are awake, and for a while after, two sleepers sleep with a bound. */
static PICA__NOINLINE enum duty begin_duty(pica__worker *worker) {
    pica__idle *idle = &worker->rt->idle;
    if (worker->fifo ||
        (atomic_load_explicit(&idle->watched, memory_order_relaxed) != 0 &&
         atomic_load_explicit(&idle->guarded, memory_order_relaxed) != 0)) {
        return NO_DUTY;
    }
    worker->watch_start = pica__now();
    if (atomic_load_explicit(&idle->sleeping, memory_order_relaxed) == worker->rt->workers &&
        !active_lately(worker->rt, worker->watch_start)) {
        return NO_DUTY;
    }
    return take_duty(&idle->watched) ? WATCH : take_duty(&idle->guarded) ? GUARD : NO_DUTY;
}

/* By one that has something to run, which may be long: somebody must look after it. */
static PICA__NOINLINE void call_watcher(pica__worker *worker) {
    pica__idle *idle = &worker->rt->idle;
    if (!worker->fifo &&
        atomic_load_explicit(&idle->watched, memory_order_seq_cst) == 0 &&
        atomic_load_explicit(&idle->guarded, memory_order_seq_cst) == 0) {
        pica__idle_notify(worker->rt);
    }
}

static void end_duty(pica__worker *worker, enum duty duty) {
    pica__idle *idle = &worker->rt->idle;
    if (duty != NO_DUTY) {
        atomic_store_explicit(duty == WATCH ? &idle->watched : &idle->guarded, 0, memory_order_seq_cst);
    }
}

/* By a watcher that is back. */
static PICA__NOINLINE void look_after_others(pica__worker *worker) {
    worker->budget = TURN_STEPS;
    uintptr_t entry = steal_from_stuck(worker);
    if (entry != 0) {
        stop_searching(worker, true);
        call_watcher(worker); /* who watched is busy now, too */
        pica__run_entry(worker, entry);
    }
}

/* Until when one with a duty sleeps. A bound that comes while others keep the watcher awake is a wake for nothing. So
 * one that comes back early all the time anyway, and looks then, has a longer one; once that has passed it is
 * precise again. */
static int64_t duty_bound(const pica__worker *worker, enum duty duty) {
    return worker->watch_start + (duty == GUARD ? GUARD_NS : worker->woken_early ? WATCH_AWAKE_NS : WATCH_NS);
}

/* Whether a watcher that is back looks after the others. One that is kept busy by its own I/O looks, too. */
static bool look_is_due(pica_runtime *rt, int64_t now, bool early) {
    bool due = !early || now - atomic_load_explicit(&rt->idle.looked, memory_order_relaxed) >= WATCH_NS;
    if (due) {
        atomic_store_explicit(&rt->idle.looked, now, memory_order_relaxed);
    }
    return due;
}

/* Among others, off the list of sleepers by now: others are woken. busy: there is something to run here. */
static PICA__NOINLINE void after_sleep(pica__worker *worker, enum duty duty, bool busy) {
    end_duty(worker, duty);
    if (busy) {
        call_watcher(worker);
    }
    if (duty == WATCH) {
        int64_t now = pica__now();
        worker->woken_early = now - worker->watch_start < WATCH_NS;
        if (look_is_due(worker->rt, now, worker->woken_early)) {
            look_after_others(worker);
        }
    }
}

static void park(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    bool searched = worker->searching;
    stop_searching(worker, false);
    if (PICA__UNLIKELY(pica__may_starve(rt))) {
        pica__starved_release(worker);
    }
    pica__idle_enter(worker);
    if (PICA__UNLIKELY(worker->simulated)) {
        pica__sim_point();
    }
    bool doze = PICA__UNLIKELY(pica__may_starve(rt));
    if (PICA__UNLIKELY(anything(worker) || (doze && pica__starved_doze(worker)))) {
        /* Who put it there may have relied on the search that we had not given up yet, also for what it put
         * there besides: so we search on. */
        if (pica__idle_leave(worker) || (searched && pica__idle_begin_search(rt))) {
            worker->searching = true;
        }
        return;
    }
    enum duty duty = worker->alone ? NO_DUTY : begin_duty(worker);
    int64_t timer = pica__loop_deadline_to_sleep(worker->loop);
    int64_t deadline = timer;
    if (worker->hosted && PICA__UNLIKELY(worker->host.deadline < deadline)) {
        deadline = worker->host.deadline;
    }
    if (duty != NO_DUTY) {
        int64_t bound = duty_bound(worker, duty);
        deadline = deadline < bound ? deadline : bound;
    }
    bool suspect = doze && deadline == INT64_MAX && pica__deadlock_suspected(worker);
    if (PICA__UNLIKELY(suspect)) {
        deadline = pica__now() + DEADLOCK_NS;
    }
    pica__count(&worker->stats.parks, 1);
    int delivered = pica__engine_wait(worker->loop->engine, deadline);
    if (PICA__UNLIKELY(doze)) {
        if (suspect && delivered == 0 && pica__now() >= deadline) {
            pica__deadlock_check(worker);
        }
        pica__starved_undoze(worker);
    }
    worker->polled = true;
    if (atomic_load_explicit(&worker->sleep, memory_order_relaxed) == PICA__NOTIFIED) {
        pica__count(&worker->stats.wakes, 1);
    }
    if (pica__idle_leave(worker)) {
        worker->searching = true;
    }
    if (!worker->alone) {
        after_sleep(worker, duty, delivered > 0 || (deadline == timer && timer != INT64_MAX));
    }
}

/* --- life --- */

static bool obey(pica__worker *worker);

/* The phase is a new one, or a pause: now. As obey. */
static PICA__NOINLINE bool obey_phase(pica__worker *worker, uint32_t now) {
    pica_runtime *rt = worker->rt;
    if ((now & 3) == PICA__PAUSED && now / 4 != worker->seen_phase / 4) {
        (void)turn(worker); /* a run that was stopped before it began: one turn all the same */
    }
    worker->seen_phase = now;
    if ((now & 3) == PICA__PAUSED) {
        stop_searching(worker, true);
        pica__count(&worker->stats.parks, 1);
        atomic_fetch_add_explicit(&rt->stopped, 1, memory_order_acq_rel);
        pica__park_wake(&rt->stopped);
        atomic_store_explicit(&worker->resting, true, memory_order_relaxed);
        while (atomic_load_explicit(&rt->phase, memory_order_acquire) == now) {
            if (worker->hosted) {
                pica__worker_to_host(worker);
            } else {
                pica__park_wait(&rt->phase, now, INT64_MAX);
            }
        }
        atomic_store_explicit(&worker->resting, false, memory_order_relaxed);
        return obey(worker);
    }
    return (now & 3) != PICA__ENDING;
}

/* Follows the phase. False: leave. */
static bool obey(pica__worker *worker) {
    uint32_t now = atomic_load_explicit(&worker->rt->phase, memory_order_acquire);
    return PICA__LIKELY(now == worker->seen_phase && (now & 3) != PICA__PAUSED) || obey_phase(worker, now);
}

/* Whether this worker has tasks or callbacks left, as far as it knows without a look: then it makes another turn before
 * it looks at anything else. Tasks are left when the turn has run out. What else may have come up meanwhile is seen on
 * the way to sleep. */
static inline bool has_more(const pica__worker *worker) {
    return worker->budget <= 0 || !pica__fifo_empty(&worker->loop->ready);
}

/* The end. What the library queued for itself must still be done, or what it is about would leak; what
 * users queued is dropped by the thread that closes. */
static PICA__COLD void run_own_calls(pica__worker *worker) {
    pica_loop *loop = worker->loop;
    pica__loop_drain_inbox(loop);
    uint64_t n = atomic_load_explicit(&loop->ready_count, memory_order_relaxed);
    for (; n != 0; n--) {
        pica__fifo_node *node = pica__fifo_pop(&loop->ready);
        pica__work *work = PICA__CONTAINER_OF(node, pica__work, node);
        if (work->kind == PICA__WORK_CALL) {
            pica__count(&loop->ready_count, UINT64_MAX);
            run_work(worker, work);
        } else {
            pica__fifo_push(&loop->ready, node);
        }
    }
}

PICA__EACH void pica__worker_loop(pica__worker *worker) {
    while (obey(worker)) {
        if (PICA__LIKELY(worker->hosted) && pica__worker_host_due(worker)) {
            pica__worker_to_host(worker);
            continue;
        }
        bool any = turn(worker);
        if (any) {
            stop_searching(worker, true);
        }
        if (any && PICA__UNLIKELY(has_more(worker))) {
            continue;
        }
        if (!run_from_elsewhere(worker)) {
            park(worker);
        }
    }
    run_own_calls(worker);
}
