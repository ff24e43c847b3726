/* Cancellation: requests are counted, delivered once, and passed on along awaits.
 *
 * A chain of awaits (a waits for b, b waits for c, ...) is walked in a loop, so its length costs no
 * stack. At each step at most two words are held: the claim on the awaiter is given back only when it
 * is known whether the next task took the request over. If it did, the awaiter's own cancellation is
 * no longer pending: it will learn of it through the result of what it awaits, and if that ignores
 * the cancel, so does the awaiter. If the next task had ended already, the awaiter's stays pending.
 */
#include "runtime/base/check.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "runtime/worker.h"

enum request { ENDED, RECORDED, CLAIMED };

/* Counts a request and sets CANCEL; claims the task if it waits. */
static enum request request(pica_task *task) {
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        uint32_t state = pica__task_state(old);
        if (state == PICA__TASK_DONE) {
            return ENDED;
        }
        uint32_t new = old | (uint32_t)PICA__TASK_CANCEL;
        if (old < UINT32_MAX - (uint32_t)PICA__TASK_COUNT) { /* the count stops at its limit */
            new += (uint32_t)PICA__TASK_COUNT;
        }
        if (state == PICA__TASK_WAITING) {
            new = (new & ~(uint32_t)PICA__TASK_STATE) | (uint32_t)PICA__TASK_CLAIMED;
        }
        if (atomic_compare_exchange_weak_explicit(&task->word, &old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            if (state != PICA__TASK_WAITING) {
                return RECORDED;
            }
            PICA__MOVED(TASK, PICA__TASK_WAITING, PICA__TASK_CLAIMED);
            return CLAIMED;
        }
    }
}

/* Gives a claim back. withdrawn: the wait was taken back, the task resumes with task->outcome. */
static void release(pica_task *task, bool clear_cancel, bool withdrawn) {
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        uint32_t state = pica__task_state(old);
        PICA__CHECK(state == PICA__TASK_FIRED || state == PICA__TASK_CLAIMED);
        PICA__CHECK(!(withdrawn && state == PICA__TASK_FIRED));
        bool resume = withdrawn || state == PICA__TASK_FIRED;
        uint32_t new = (old & ~(uint32_t)PICA__TASK_STATE) |
                       (uint32_t)(resume ? PICA__TASK_RUNNING : PICA__TASK_WAITING);
        if (clear_cancel) {
            new &= ~(uint32_t)PICA__TASK_CANCEL;
        }
        if (atomic_compare_exchange_weak_explicit(&task->word, &old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            PICA__MOVED(TASK, state, pica__task_state(new));
            if (resume) {
                pica__ready(task);
            }
            return;
        }
    }
}

/* The task is claimed and waits for something else than a task. */
static void cancel_wait(pica_task *task) {
    pica__wait *wait = task->wait;
    if (wait->target != NULL) {
        bool passed_on = pica_future_cancel(wait->target) == 1;
        release(task, passed_on, false);
        return;
    }
    if (pica__simulated()) {
        pica__sim_point(); /* what is waited for may come now that it is claimed */
    }
    bool withdrawn = wait->ops->cancel(wait);
    if (pica__simulated()) {
        pica__sim_point();
    }
    if (withdrawn) {
        task->outcome = PICA_ECANCELED;
    }
    release(task, withdrawn, withdrawn);
}

bool pica__cancel(pica_task *task) {
    enum request r = request(task);
    if (r != CLAIMED) {
        return r == RECORDED;
    }
    pica_task *held = NULL; /* our reference to `task`, from the second step on */
    for (;;) {
        pica_future *target = task->wait->target;
        if (target == NULL || !target->is_task) {
            cancel_wait(task);
            break;
        }
        /* The awaiter holds a reference to its target as long as it waits, and it waits at least as
         * long as the claim; ours keeps the target after that. */
        pica_task *next = pica_task_ref((pica_task *)target);
        pica__future_mark_seen(target);
        r = request(next);
        release(task, r != ENDED && task->wait->ops != &pica__member_ops, false);
        pica__task_unref(held);
        held = next;
        task = next;
        if (r != CLAIMED) {
            break;
        }
    }
    pica__task_unref(held);
    return true;
}

int pica_task_cancel(pica_task *task) {
    pica_runtime *rt = task->loop->rt;
    bool visiting = pica__visit(rt);
    pica__future_mark_seen(&task->future);
    bool recorded = pica__cancel(task);
    pica__visit_end(rt, visiting);
    return recorded;
}

int pica_task_cancelling(const pica_task *task) {
    return (int)(atomic_load_explicit(&((pica_task *)(uintptr_t)task)->word,
                                      memory_order_relaxed) /
                 PICA__TASK_COUNT);
}

int pica_task_uncancel(pica_task *task) {
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        uint32_t new = old;
        if (old >= PICA__TASK_COUNT && pica__task_state(old) != PICA__TASK_DONE) {
            new -= (uint32_t)PICA__TASK_COUNT;
        }
        if (new < PICA__TASK_COUNT) {
            new &= ~(uint32_t)PICA__TASK_CANCEL;
        }
        if (atomic_compare_exchange_weak_explicit(&task->word, &old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            return (int)(new / PICA__TASK_COUNT);
        }
    }
}

int pica_checkpoint(void) {
    pica_task *task = pica__current();
    if (PICA__UNLIKELY(task == NULL)) {
        return PICA_ENOTASK;
    }
    return PICA__UNLIKELY(pica__cancel_take(task)) ? PICA_ECANCELED : 0;
}
