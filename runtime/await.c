/* Awaiting a future or a task: in place, or by suspending.
 *
 * In place. An unstarted task that is awaited runs as a call on the awaiter's stack. The awaiter is
 * WAITING meanwhile, with a node that names the task as its target, so that cancelling works as
 * always; the node is in no list and nobody fires it: the return of the call ends the wait. If the
 * task suspends, the shared stack is parked with it; its owner could not have gone on anyway.
 * Not in place: pinned tasks, tasks of another loop or runtime, tasks with a stack size of their own,
 * and with little room left on the stack. When the turn's budget is spent the awaiter lets others run
 * first, so that a loop of awaits reaches I/O; then it tries again, rather than parking its stack and
 * asking for another one.
 */
#include "runtime/base/check.h"
#include "runtime/base/transitions.h"
#include "runtime/error.h"
#include "runtime/fpcheck.h"
#include "runtime/future.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "runtime/worker.h"

struct await_node {
    pica__wait wait;
    pica__waiter waiter;
    pica_future *future;
};

static bool await_withdraw(pica__wait *wait) {
    struct await_node *node = PICA__CONTAINER_OF(wait, struct await_node, wait);
    return pica__future_withdraw(node->future, &node->waiter);
}

static const struct pica__wait_ops await_ops = {"await", NULL};
const struct pica__wait_ops pica__member_ops = {"gather", NULL};
static const struct pica__wait_ops shield_ops = {"shield", await_withdraw};

static void await_done(pica__waiter *waiter, pica_future *future) {
    struct await_node *node = PICA__CONTAINER_OF(waiter, struct await_node, waiter);
    (void)future;
    pica__wait_fire(&node->wait, 0);
}

static bool await_commit(pica__wait *wait) {
    struct await_node *node = PICA__CONTAINER_OF(wait, struct await_node, wait);
    pica_future *future = node->future;
    pica__lock(&future->lock);
    bool waits = false;
    if (atomic_load_explicit(&future->state, memory_order_relaxed) & PICA__FUTURE_DONE) {
        wait->task->outcome = 0;
    } else if (pica__wait_publish(wait)) {
        pica__list_push_back(&future->waiters, &node->waiter.link);
        waits = true;
    }
    pica__unlock(&future->lock);
    return waits;
}

/* Suspends until the future is done (0), or a cancellation came (PICA_ECANCELED). */
static int await_suspend(pica_task *self, pica_future *future, bool shield) {
    struct await_node node = {
        .wait = {shield ? &shield_ops : &await_ops, self, shield ? NULL : future, 0},
        .waiter = {.done = await_done},
        .future = future,
    };
    return pica__suspend(&node.wait, await_commit);
}

/* --- in place --- */

enum { TURN_OVER = 1 };

static bool in_place_commit(pica__wait *wait) {
    pica_task *task = wait->task;
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        uint32_t state = pica__task_state(old);
        PICA__CHECK(state == PICA__TASK_WAITING || state == PICA__TASK_CLAIMED);
        bool claimed = state == PICA__TASK_CLAIMED;
        uint32_t next = claimed ? PICA__TASK_FIRED : PICA__TASK_RUNNING;
        if (atomic_compare_exchange_weak_explicit(&task->word, &old,
                                                  (old & ~(uint32_t)PICA__TASK_STATE) | next,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
            PICA__MOVED(TASK, state, next);
            return claimed; /* then the claimer resumes us */
        }
    }
}

/* The awaiter is alone on its stack again: WAITING -> RUNNING. A canceller that holds a claim looks at
 * the node on this stack, so the awaiter leaves the stack until the claim is given back. */
static void in_place_return(pica__wait *wait) {
    pica_task *self = wait->task;
    uint32_t old = atomic_load_explicit(&self->word, memory_order_relaxed);
    while (pica__task_state(old) == PICA__TASK_WAITING) {
        if (atomic_compare_exchange_weak_explicit(
                &self->word, &old, (old & ~(uint32_t)PICA__TASK_STATE) | PICA__TASK_RUNNING,
                memory_order_acquire, memory_order_relaxed)) {
            PICA__MOVED(TASK, PICA__TASK_WAITING, PICA__TASK_RUNNING);
            return;
        }
    }
    (void)pica__suspend_claimed(wait, in_place_commit);
}

/* Whether the stack has room for another task, which may expect half of a stack. */
static bool room_for_task(const pica__worker *worker) {
    const pica__stack *stack = &worker->fiber->stack;
    return pica__fiber_room(worker) >= (size_t)(stack->hi - stack->lo) / 2;
}

/* What libstdc++ knows of the awaiter's exceptions (fiber.c), if it suspended in a catch block or in a
 * destructor: a task that runs in place begins without any, as it would on a stack of its own. When
 * it ends it has none left. */
struct eh_aside {
    void *globals[2];
    bool any;
};

PICA__NO_TSAN static void eh_set_aside(const pica__worker *worker, struct eh_aside *aside) {
    void **globals = worker->eh_globals;
    aside->any = globals != NULL && (globals[0] != NULL || globals[1] != NULL);
    if (PICA__UNLIKELY(aside->any)) {
        aside->globals[0] = globals[0];
        aside->globals[1] = globals[1];
        globals[0] = NULL;
        globals[1] = NULL;
    }
}

PICA__NO_TSAN static void eh_put_back(const pica__worker *worker, const struct eh_aside *aside) {
    if (PICA__UNLIKELY(aside->any)) {
        worker->eh_globals[0] = aside->globals[0];
        worker->eh_globals[1] = aside->globals[1];
    }
}

/* Returns PICA_ECANCELED if a cancellation was pending, else 0. */
PICA__NO_TSAN static int run_in_place(pica_task *self, pica_task *task,
                                      const struct pica__wait_ops *ops) {
    pica__wait wait = {ops, self, &task->future, 0};
    int rc = 0;
    self->waits++;
    self->wait = &wait;
    self->outcome = 0;
    while (!pica__wait_publish(&wait)) {
        (void)pica__cancel(task); /* claimed but not begun: it ends without running */
        rc = self->outcome;
        self->outcome = 0;
    }
    pica__worker *worker = pica__self();
    pica__count(&worker->stats.inplace, 1);
    pica__worker_step(worker);
    pica__fp_check("awaited another");
    struct eh_aside aside;
    eh_set_aside(worker, &aside);
    pica__task_execute(task);
    worker = pica__self();
    worker->current = self;
    eh_put_back(worker, &aside);
#if PICA__TSAN
    pica__tsan_leave(self->tsan_fiber);
#endif
    in_place_return(&wait);
    return rc;
}

/* Takes the task out of the runnable ones if it is the youngest; otherwise its entry stays, dead. */
static void unqueue(pica__worker *worker, pica_task *task) {
    pica_task *expected = task;
    if (atomic_load_explicit(&worker->newest, memory_order_relaxed) == task &&
        atomic_compare_exchange_strong_explicit(&worker->newest, &expected, NULL,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        pica__task_unref(task);
    }
}

/* In the runtime's context: may `task` run here? Claims it if so. */
static bool claim_in_place(pica__worker *worker, pica_task *self, pica_task *task, int *rc) {
    if (task->pinned || task->own_stack || task->loop != self->loop || worker->fifo) {
        return false;
    }
    if (!room_for_task(worker)) {
        if (!pica__worker_stand(worker)) {
            *rc = -ENOMEM;
        }
        return false;
    }
    if (worker->budget <= 0) {
        *rc = TURN_OVER;
        return false;
    }
    worker->budget--;
    if (!pica__task_claim(task)) {
        return false;
    }
    unqueue(worker, task);
    if (self->pinned) {
        task->pinned = true; /* it shares our stack, so it cannot leave our worker */
    }
    return true;
}

PICA__NO_TSAN bool pica__await_in_place(pica_task *self, pica_task *task, bool keeps, int *rc) {
    *rc = 0;
    pica__worker *worker = pica__self();
    void *context = pica__tsan_enter(worker->tsan);
    bool claimed = claim_in_place(worker, self, task, rc);
    pica__tsan_leave(context);
    if (claimed) {
        int cancelled = run_in_place(self, task, keeps ? &pica__member_ops : &await_ops);
        *rc = keeps ? cancelled : 0; /* else the task's own result tells */
    }
    return claimed;
}

/* --- the public calls --- */

/* Waits until the future is done. A cancellation of the caller is passed on to the future, unless
 * shielded. Returns 0, or PICA_ECANCELED (shielded, or it came too late to be passed on), -ENOMEM.
 * Too late means that a task has ended; its future may be done only a moment later. */
static int await_done_or_cancelled(pica_task *self, pica_future *future, bool shield) {
    bool late = false;
    while (!pica__future_is_done(future)) {
        if (!shield && pica__cancel_take(self) && pica_future_cancel(future) == 0) {
            late = true;
        }
        if (!shield && future->is_task) {
            pica_task *task = (pica_task *)future;
            uint32_t word = atomic_load_explicit(&task->word, memory_order_relaxed);
            int rc = 0;
            if (pica__task_state(word) == PICA__TASK_NEW &&
                (pica__await_in_place(self, task, false, &rc) || rc != 0)) {
                if (rc < 0) {
                    return rc;
                }
                if (rc == TURN_OVER) {
                    pica__yield(self);
                }
                continue;
            }
        }
        /* Not shielded, the cancellation came just before the wait began: it goes to what we are about
         * to await, unless that has been done meanwhile. */
        if (await_suspend(self, future, shield) == PICA_ECANCELED) {
            if (shield) {
                return PICA_ECANCELED;
            }
            late |= pica_future_cancel(future) == 0;
        }
    }
    return late ? PICA_ECANCELED : 0;
}

static int await_any(pica_future *future, void **value, bool shield) {
    pica_task *self = pica__current();
    if (self == NULL) {
        return PICA_ENOTASK;
    }
    if (&self->future == future) {
        return -EDEADLK;
    }
    if (!pica__future_is_done(future)) {
        int rc = await_done_or_cancelled(self, future, shield);
        if (rc < 0) {
            return rc;
        }
        /* Observation: a cancellation that is still pending wins, the future keeps its value. */
        if (pica__cancel_take(self)) {
            return PICA_ECANCELED;
        }
    }
    int code = pica_future_result(future, value);
    if (code < 0 && (future->error != NULL || self->error != NULL)) {
        pica__task_carry_error(self, future->error);
    }
    return code;
}

int pica_await(pica_future *future, void **value) {
    return await_any(future, value, false);
}

int pica_shield(pica_future *future, void **value) {
    return await_any(future, value, true);
}

int pica_join(pica_task *task, void **value) {
    int code = pica_await(&task->future, NULL);
    if (code == PICA_ENOTASK || !pica__future_is_done(&task->future)) {
        return code;
    }
    if (value != NULL) {
        *value = NULL;
        if (code >= 0) { /* not for a caller that was cancelled: it would not look */
            (void)pica_future_take(&task->future, value);
        }
    }
    pica_task_unref(task);
    return code;
}
