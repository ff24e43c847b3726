/* Unstarted tasks that found no stack: under a limit on stacks, or when memory has ended.
 *
 * They wait in rt->starved, the oldest first. Whoever has nothing better to do, and gets a stack,
 * starts the oldest; a worker that is about to park looks once more, so that a stack that lies idle
 * and a task that wants one do not miss each other:
 *     task:   into the list; its worker looks on, and parks at last: tries for a stack, under the pool's lock
 *     stack:  into the pool, under its lock; list not empty: wakes a worker, which tries
 * So that no stacks lie with workers that sleep, these keep none while there is a limit.
 *
 * When nothing can ever free a stack, the oldest fails. That is known when all workers are quiet:
 * each says so itself (pica__worker.doze) after it has found nothing to do and just before it
 * sleeps, and distinguishes whether timers or operations may wake it. The last one to fall asleep
 * finds all others quiet and not yet notified. What plain threads may still do cannot be known.
 *
 * Lock order: starved.lock, then idle.lock. The first makes sure that one failure ends the quiet
 * before anybody else looks.
 */
#include <stdio.h>

#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "runtime/worker.h"

static bool any_starved(pica_runtime *rt) {
    return atomic_load_explicit(&rt->starved.count, memory_order_relaxed) != 0;
}

void pica__starved_put(pica__worker *worker, pica_task *task) {
    pica_runtime *rt = worker->rt;
    pica__lock(&rt->starved.lock);
    pica__fifo_push(&rt->starved.fifo, &task->start.node);
    uint32_t old = atomic_fetch_add_explicit(&rt->starved.count, 1, memory_order_seq_cst);
    pica__unlock(&rt->starved.lock);
    for (unsigned i = 0; old == 0 && rt->config.max_stacks == 0 && i < rt->workers; i++) {
        /* They fell asleep without saying that they are quiet: see pica__may_starve. The fence in
         * the wake is the partner of the one in pica__idle_enter. */
        pica__worker_wake(&rt->worker[i]);
    }
}

/* With the lock: the oldest, or NULL. Its start entry's reference comes with it. */
static pica_task *pop_locked(pica_runtime *rt) {
    pica__fifo_node *node = pica__fifo_pop(&rt->starved.fifo);
    if (node == NULL) {
        return NULL;
    }
    atomic_fetch_sub_explicit(&rt->starved.count, 1, memory_order_seq_cst);
    return PICA__CONTAINER_OF(PICA__CONTAINER_OF(node, pica__work, node), pica_task, start);
}

static void give_standing_back(pica__worker *worker) {
    pica__fiber *fiber = worker->standing;
    if (fiber != NULL) {
        worker->standing = NULL;
        pica__fiber_free(worker, fiber);
    }
}

/* Ends a task of a start entry without running it. */
static void fail(pica_runtime *rt, pica_task *task) {
    if (pica__task_claim(task)) {
        int code = pica__cancel_take(task) ? PICA_ECANCELED : -ENOMEM;
        if (code == -ENOMEM) {
            char limit[64] = ""; /* else the pool has said what there is too little of */
            if (rt->config.max_stacks != 0) {
                (void)snprintf(limit, sizeof limit, " (limit: %zu stacks, PICA_MAX_STACKS)", rt->config.max_stacks);
            }
            pica__log(PICA_LOG_ERROR, "no stack for task '%s' and none can become free%s: it ends with ENOMEM",
                      pica_task_name(task), limit);
        }
        pica__task_end_unstarted(task, code);
    }
    pica__task_unref(task);
}

/* A stack of its own is not one of those that are limited: without memory for it now, it fails. */
static void run_own_stack(pica__worker *worker, pica_task *task) {
    pica__fiber *fiber = pica__fiber_new_sized(task->stack_pages * PICA__STACK_UNIT, pica__runner);
    if (fiber == NULL) {
        fail(worker->rt, task);
        return;
    }
    pica__fiber_free(worker, fiber);
    pica__run_entry(worker, pica__entry_start(task));
}

bool pica__starved_run(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    if (PICA__LIKELY(!any_starved(rt)) || !pica__worker_stand(worker)) {
        return false;
    }
    pica__lock(&rt->starved.lock);
    pica_task *task = pop_locked(rt);
    pica__unlock(&rt->starved.lock);
    if (task == NULL) {
        return false;
    }
    if ((task->pinned || worker->fifo) && task->loop != worker->loop) {
        give_standing_back(worker); /* the other worker will need it */
        pica__loop_post(task->loop, &task->start);
    } else if (task->own_stack) {
        run_own_stack(worker, task);
    } else {
        pica__run_entry(worker, pica__entry_start(task));
    }
    return true;
}

bool pica__starved_can_run(pica__worker *worker) {
    return PICA__UNLIKELY(any_starved(worker->rt)) && pica__worker_stand(worker);
}

void pica__starved_release(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    if (rt->config.max_stacks != 0 || any_starved(rt)) {
        give_standing_back(worker);
        pica__stack_cache_flush(&worker->stacks);
    }
}

void pica__runtime_stack_freed(pica_runtime *rt) {
    if (PICA__LIKELY(rt->config.max_stacks == 0 && !any_starved(rt))) {
        return; /* without a limit a stack is missed only when memory ended, and then all look again */
    }
    /* No fence: the stack went back under the pool's lock, and who misses one looks into the pool, after it has entered
     * the list, under the same lock. Either it found this one, or what it entered is seen here. (A stack that went
     * into this worker's cache is for nobody else, until the worker gives it back and looks itself: it parks.) */
    if (any_starved(rt)) {
        pica__idle_notify(rt);
    }
}

bool pica__others_quiet(pica__worker *self) {
    pica_runtime *rt = self->rt;
    bool quiet = atomic_load_explicit(&rt->shared.count, memory_order_acquire) == 0;
    pica__lock(&rt->idle.lock);
    quiet =
        quiet && (rt->workers == 1 ||
                  atomic_load_explicit(&rt->idle.sleeping, memory_order_relaxed) == rt->workers);
    for (unsigned i = 0; quiet && i < rt->workers; i++) {
        pica__worker *other = &rt->worker[i];
        /* In this order: who notified it did so before it fell quiet itself. The idle lock keeps
         * the other from leaving its sleep and beginning another one between the two looks. */
        quiet = other == self ||
                (atomic_load_explicit(&other->doze, memory_order_seq_cst) == PICA__DOZE_QUIET &&
                 atomic_load_explicit(&other->sleep, memory_order_relaxed) == PICA__SLEEPING);
    }
    pica__unlock(&rt->idle.lock);
    return quiet;
}

bool pica__starved_doze(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    pica_loop *loop = worker->loop;
    /* One operation is the loop's own wake-up. */
    bool pends = pica__loop_deadline(loop) != INT64_MAX ||
                 pica__engine_in_flight(loop->engine) > 1;
    atomic_store_explicit(&worker->doze, pends ? PICA__DOZE_PENDS : PICA__DOZE_QUIET,
                          memory_order_seq_cst);
    if (!any_starved(rt) || pends) {
        return false;
    }
    pica_task *task = NULL;
    pica__lock(&rt->starved.lock);
    if (pica__others_quiet(worker)) {
        task = pop_locked(rt);
        if (task != NULL) {
            atomic_store_explicit(&worker->doze, PICA__DOZE_NOT, memory_order_seq_cst);
        }
    }
    pica__unlock(&rt->starved.lock);
    if (task != NULL) {
        fail(rt, task);
    }
    return task != NULL;
}

void pica__starved_undoze(pica__worker *worker) {
    atomic_store_explicit(&worker->doze, PICA__DOZE_NOT, memory_order_seq_cst);
}

void pica__starved_drop(pica_runtime *rt) {
    pica_task *task;
    while ((task = pop_locked(rt)) != NULL) {
        pica__task_unref(task);
    }
}
