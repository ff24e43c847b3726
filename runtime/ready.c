/* Where a task goes that may run, and where a worker finds the next one: see the head of worker.h. */
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/sim/sim.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/worker.h"

/* Steps in a turn before the loop looks at I/O, timers and its inbox, and how long a turn may take. */
enum { TURN_CHECK = 8, LIFO_STREAK = 3 };
#define TURN_NS INT64_C(100000)

/* --- the shared queue --- */

void pica__shared_push(pica_runtime *rt, pica__work *work) {
    pica__lock(&rt->shared.lock);
    pica__fifo_push(&rt->shared.fifo, &work->node);
    atomic_store_explicit(&rt->shared.count,
                          atomic_load_explicit(&rt->shared.count, memory_order_relaxed) + 1,
                          memory_order_release);
    pica__unlock(&rt->shared.lock);
}

pica__work *pica__shared_pop(pica_runtime *rt) {
    if (atomic_load_explicit(&rt->shared.count, memory_order_acquire) == 0) {
        return NULL;
    }
    pica__lock(&rt->shared.lock);
    pica__fifo_node *node = pica__fifo_pop(&rt->shared.fifo);
    if (node != NULL) {
        atomic_store_explicit(&rt->shared.count,
                              atomic_load_explicit(&rt->shared.count, memory_order_relaxed) - 1,
                              memory_order_release);
    }
    pica__unlock(&rt->shared.lock);
    return node == NULL ? NULL : PICA__CONTAINER_OF(node, pica__work, node);
}

static void shared_push_entry(pica_runtime *rt, uintptr_t entry) {
    pica_task *task = pica__entry_task(entry);
    pica__shared_push(rt, entry & PICA__ENTRY_START ? &task->start : &task->ready);
}

/* --- the deque --- */

/* A full deque: drops dead start entries; if that did not make room, half goes to the shared
 * queue. */
static PICA__COLD void deque_make_room(pica__worker *worker) {
    size_t n = pica__deque_size(&worker->deque);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        uintptr_t entry = pica__deque_take(&worker->deque);
        if (entry == 0) {
            return; /* thieves were faster */
        }
        pica_task *task = pica__entry_task(entry);
        if ((entry & PICA__ENTRY_START) != 0 &&
            pica__task_state(atomic_load_explicit(&task->word, memory_order_relaxed)) !=
                PICA__TASK_NEW) {
            pica__task_unref(task);
        } else if (kept++ < PICA__DEQUE_CAPACITY / 2) {
            bool pushed = pica__deque_push(&worker->deque, entry);
            PICA__CHECK(pushed);
        } else {
            shared_push_entry(worker->rt, entry);
        }
    }
}

static PICA__HOT void deque_push(pica__worker *worker, uintptr_t entry) {
    while (PICA__UNLIKELY(!pica__deque_push(&worker->deque, entry))) {
        deque_make_room(worker);
    }
}

/* --- making runnable --- */

/* Debugging and simulation: the task moves to another worker, always or sometimes. False: it stays. */
static PICA__COLD bool push_elsewhere(pica__worker *worker, pica_task *task) {
    pica_runtime *rt = worker->rt;
    if (rt->workers == 1 ||
        (pica__simulated() && !rt->config.debug_migrate && !pica__sim_migrate())) {
        return false;
    }
    unsigned step = 1 + pica__random_next(&worker->random) % (rt->workers - 1);
    pica__loop_post(&rt->loop[(worker->index + step) % rt->workers], &task->ready);
    return true;
}

static void ready_here(pica__worker *worker, pica_task *task) {
    if (PICA__UNLIKELY(worker->debug_migrate) && push_elsewhere(worker, task)) {
        return;
    }
    if (PICA__LIKELY(worker->current == NULL)) {
        /* From a completion, a timer or a callback: the loop runs it right after this turn's I/O. Who
         * else is woken is decided once for the batch. */
        if (task->ahead == NULL) { /* else there is time later */
            __builtin_prefetch(task->fiber, 1);
        }
        deque_push(worker, (uintptr_t)task);
        worker->ready_pushed++;
        return;
    }
    pica_task *old = atomic_exchange_explicit(&worker->lifo, task, memory_order_acq_rel);
    if (old != NULL) {
        deque_push(worker, (uintptr_t)old);
        pica__idle_notify(worker->rt);
    }
}

/* From a thread that is no worker of the runtime. */
static PICA__NOINLINE void push_from_outside(pica_runtime *rt, pica_task *task, pica__work *work) {
    bool visiting = pica__visit(rt);
    if (task->pinned || rt->config.fifo) {
        pica__loop_post(task->loop, work);
    } else {
        pica__shared_push(rt, work);
        pica__idle_notify(rt);
    }
    pica__visit_end(rt, visiting);
}

PICA__EACH void pica__ready(pica_task *task) {
    pica_runtime *rt = task->loop->rt;
    pica__worker *worker = pica__self();
    if (PICA__UNLIKELY(worker == NULL || worker->rt != rt)) {
        push_from_outside(rt, task, &task->ready);
        return;
    }
    void *context = pica__tsan_enter(worker->tsan);
    if (PICA__UNLIKELY(task->pinned || worker->fifo)) {
        pica__loop_post(task->loop, &task->ready);
    } else {
        ready_here(worker, task);
    }
    pica__tsan_leave(context);
}

void pica__ready_last(pica__worker *worker, pica_task *task) {
    if (task->pinned || worker->fifo) {
        pica__loop_post(task->loop, &task->ready);
    } else if (!worker->debug_migrate || !push_elsewhere(worker, task)) {
        deque_push(worker, (uintptr_t)task);
    }
}

/* An unstarted task of this worker: the youngest end of its queue. */
static PICA__NOINLINE void unstarted_here(pica__worker *worker, pica_task *task) {
    pica_task *old = atomic_exchange_explicit(&worker->newest, task, memory_order_acq_rel);
    if (old != NULL) {
        deque_push(worker, pica__entry_start(old));
    }
    /* One that is alone is mostly awaited next, so a wake for each would be a waste: somebody who watches,
     * and takes it if this worker gets stuck, is enough. */
    if (worker->rt->workers > 1 &&
        (old != NULL ||
         atomic_load_explicit(&worker->rt->idle.watched, memory_order_relaxed) == 0)) {
        pica__idle_notify(worker->rt);
    }
}

void pica__ready_unstarted(pica_task *task, bool placed) {
    pica_runtime *rt = task->loop->rt;
    pica__worker *worker = pica__self();
    if (worker == NULL || worker->rt != rt) {
        push_from_outside(rt, task, &task->start);
        return;
    }
    void *context = pica__tsan_enter(worker->tsan);
    pica__count(&worker->stats.created, 1);
    if (task->pinned || worker->fifo || (placed && task->loop != worker->loop)) {
        /* Without `placed` every child of a task that has moved would go to its home loop, and one
         * that is awaited at once would leave a dead entry in the inbox there. */
        pica__loop_post(task->loop, &task->start);
    } else {
        unstarted_here(worker, task);
    }
    pica__tsan_leave(context);
}

/* --- what is next --- */

/* Debugging: moves the oldest entry to the back, sometimes. In simulations between two steps others may run. */
static PICA__COLD void shuffle(pica__worker *worker) {
    if (pica__simulated()) {
        pica__sim_point();
        if (!worker->rt->config.debug_shuffle) {
            return;
        }
    }
    if ((pica__random_next(&worker->random) & 1) != 0) {
        uintptr_t entry = pica__deque_take(&worker->deque);
        if (entry != 0) {
            deque_push(worker, entry);
        }
    }
}

PICA__NOINLINE void pica__worker_end_turn(pica__worker *worker) {
    worker->budget = 0;
    if (pica__deque_size(&worker->deque) != 0) {
        pica__idle_notify(worker->rt); /* what is queued has waited long enough to be moved */
    }
}

static bool turn_is_over(pica__worker *worker) {
    if (worker->budget <= 0) {
        return true;
    }
    worker->budget--;
    if (worker->budget % TURN_CHECK != 0) {
        return false;
    }
    int64_t now = pica__now();
    if (worker->turn_start == 0) {
        worker->turn_start = now;
    } else if (now - worker->turn_start > TURN_NS) {
        pica__worker_end_turn(worker);
        return true;
    }
    return false;
}

static pica_task *take_lifo(pica__worker *worker) {
    if (atomic_load_explicit(&worker->lifo, memory_order_relaxed) == NULL) {
        return NULL;
    }
    return atomic_exchange_explicit(&worker->lifo, NULL, memory_order_acq_rel);
}

static uintptr_t take_newest(pica__worker *worker) {
    if (atomic_load_explicit(&worker->newest, memory_order_relaxed) == NULL) {
        return 0;
    }
    pica_task *task = atomic_exchange_explicit(&worker->newest, NULL, memory_order_acq_rel);
    return task == NULL ? 0 : pica__entry_start(task);
}

PICA__NOINLINE void pica__worker_age_newest(pica__worker *worker) {
    uintptr_t entry = take_newest(worker);
    if (entry != 0) {
        deque_push(worker, entry);
    }
}

PICA__EACH PICA__NOINLINE uintptr_t pica__worker_pick_queued(pica__worker *worker) {
    if (worker->fifo || turn_is_over(worker)) {
        return 0;
    }
    if (PICA__UNLIKELY(worker->debug_shuffle)) {
        shuffle(worker);
    }
    pica_task *task;
    if (worker->lifo_streak < LIFO_STREAK && (task = take_lifo(worker)) != NULL) {
        worker->lifo_streak++;
        return (uintptr_t)task;
    }
    worker->lifo_streak = 0;
    uintptr_t entry = worker->alone ? pica__deque_take_alone(&worker->deque)
                                    : pica__deque_take(&worker->deque);
    if (entry != 0) {
        return entry;
    }
    task = take_lifo(worker);
    return task != NULL ? (uintptr_t)task : take_newest(worker);
}
