/* The idle protocol: see idle.h, where the reasons stand. */
#include "runtime/idle.h"

#include "runtime/base/check.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/worker.h"

void pica__idle_init(pica__idle *idle) {
    atomic_init(&idle->searching, 0);
    atomic_init(&idle->sleeping, 0);
    atomic_init(&idle->watched, 0);
    atomic_init(&idle->guarded, 0);
    atomic_init(&idle->steps, 0);
    atomic_init(&idle->active, 0);
    atomic_init(&idle->looked, 0);
    pica__lock_init(&idle->lock);
    pica__list_init(&idle->sleepers);
}

/* Without the fence of the caller: it has one. */
static void wake_if_sleeping(pica__worker *worker) {
    uint32_t expected = PICA__SLEEPING;
    if (atomic_load_explicit(&worker->sleep, memory_order_relaxed) == PICA__SLEEPING &&
        atomic_compare_exchange_strong_explicit(&worker->sleep, &expected, PICA__NOTIFIED,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        PICA__MOVED(SLEEP, PICA__SLEEPING, PICA__NOTIFIED);
        pica__engine_wake(worker->loop->engine);
    }
}

void pica__worker_wake(pica__worker *worker) {
    /* The partner of the fence in pica__idle_enter: either we see SLEEPING, or the sleeper's second
     * look sees our message. */
    atomic_thread_fence(memory_order_seq_cst);
    wake_if_sleeping(worker);
}

void pica__idle_notify(pica_runtime *rt) {
    if (rt->workers == 1) {
        pica__worker_wake(&rt->worker[0]); /* from outside; it may be asleep */
        return;
    }
    pica__idle *idle = &rt->idle;
    /* Partner of the fence in pica__idle_enter, which stands behind the end of a search, too: either we see a sleeper
     * and no searcher and wake one, or whoever just went to sleep or stopped searching sees our
     * work. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&idle->searching, memory_order_relaxed) != 0 ||
        atomic_load_explicit(&idle->sleeping, memory_order_relaxed) == 0) {
        return;
    }
    if (pica__simulated()) {
        pica__sim_point();
    }
    pica__lock(&idle->lock);
    pica__link *first = pica__list_pop_front(&idle->sleepers);
    pica__worker *worker = NULL;
    if (first != NULL) {
        worker = PICA__CONTAINER_OF(first, pica__worker, idle_link);
        worker->idle_listed = false;
        atomic_fetch_sub_explicit(&idle->sleeping, 1, memory_order_seq_cst);
        /* On behalf of the one that is woken, so that the next producer wakes nobody. */
        atomic_fetch_add_explicit(&idle->searching, 1, memory_order_seq_cst);
    }
    pica__unlock(&idle->lock);
    if (worker != NULL) {
        wake_if_sleeping(worker);
    }
}

bool pica__idle_begin_search(pica_runtime *rt) {
    uint32_t searching = atomic_load_explicit(&rt->idle.searching, memory_order_relaxed);
    if (2 * searching >= rt->workers) {
        return false;
    }
    atomic_fetch_add_explicit(&rt->idle.searching, 1, memory_order_seq_cst);
    return true;
}

bool pica__idle_end_search(pica_runtime *rt) {
    uint32_t old = atomic_fetch_sub_explicit(&rt->idle.searching, 1, memory_order_seq_cst);
    PICA__CHECK(old > 0);
    /* No fence: who goes to sleep has one in pica__idle_enter, who found something and was the last one in
     * pica__idle_notify; nobody looks at anything before. */
    return old == 1;
}

static PICA__NOINLINE void list_enter(pica__worker *worker) {
    pica__idle *idle = &worker->rt->idle;
    pica__lock(&idle->lock);
    pica__list_push_front(&idle->sleepers, &worker->idle_link);
    worker->idle_listed = true;
    atomic_fetch_add_explicit(&idle->sleeping, 1, memory_order_seq_cst);
    pica__unlock(&idle->lock);
}

/* True if somebody else took the worker off the list. */
static PICA__NOINLINE bool list_leave(pica__worker *worker) {
    pica__idle *idle = &worker->rt->idle;
    pica__lock(&idle->lock);
    bool chosen = !worker->idle_listed;
    if (worker->idle_listed) {
        pica__list_remove(&worker->idle_link);
        worker->idle_listed = false;
        atomic_fetch_sub_explicit(&idle->sleeping, 1, memory_order_seq_cst);
    }
    pica__unlock(&idle->lock);
    return chosen;
}

void pica__idle_enter(pica__worker *worker) {
    /* Before the list: who takes us off it counts us as a searcher and must not find us AWAKE, or we would
     * sleep through it, and be counted for ever. Ordered by the lock. */
    PICA__MOVED(SLEEP, PICA__AWAKE, PICA__SLEEPING);
    atomic_store_explicit(&worker->sleep, PICA__SLEEPING, memory_order_relaxed);
    if (!worker->alone) {
        list_enter(worker);
    }
    /* Store before load: what follows looks at the queues once more. */
    atomic_thread_fence(memory_order_seq_cst);
}

bool pica__idle_leave(pica__worker *worker) {
    bool chosen = !worker->alone && list_leave(worker);
    PICA__MOVED(SLEEP, atomic_load_explicit(&worker->sleep, memory_order_relaxed), PICA__AWAKE);
    atomic_store_explicit(&worker->sleep, PICA__AWAKE, memory_order_relaxed);
    return chosen;
}
