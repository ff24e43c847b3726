/* Suspension, resumption, and the claim of cancellers. The protocol stands in wait.h. */
#include "runtime/wait.h"

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/run.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/worker.h"

PICA__NO_TSAN pica_task *pica__current(void) {
    pica__worker *worker = pica__self();
    return worker == NULL ? NULL : worker->current;
}

/* What the context that runs next needs to publish a suspension. Lies on the suspended stack. */
struct suspension {
    pica__wait *wait;
    bool (*commit)(pica__wait *wait);
};

static PICA__EACH void suspend_commit(pica__worker *worker, void *arg) {
    struct suspension *s = arg;
    pica__wait *wait = s->wait;
    pica_task *task = wait->task;
    (void)worker;
    if (PICA__UNLIKELY(!s->commit(wait))) {
        /* Satisfied, or cancelled: the task is still RUNNING and nobody else knows the node. The commit
         * has read the task's stack, which the task will write again; the queue orders the two, out of
         * the sanitizer's sight. */
        pica__tsan_give(&task->word);
        pica__ready(task);
    }
}

/* In the task's own context. Acquire: what the one who fired wrote is visible from here on. */
PICA__TSAN_APART static int resumed(pica__wait *wait) {
    (void)atomic_load_explicit(&wait->task->word, memory_order_acquire);
    int outcome = wait->task->outcome;
    if (PICA__UNLIKELY(outcome == PICA_ECANCELED)) {
        (void)pica__cancel_take(wait->task); /* what was requested since is delivered with it */
    }
    return outcome;
}

PICA__NO_TSAN static PICA__INLINE int suspend_claimed(pica__wait *wait, bool (*commit)(pica__wait *wait)) {
    pica__worker *worker = pica__self();
    pica_task *task = wait->task;
    struct suspension suspension = {wait, commit};
    pica__task_serial_end(task);
    void *context = pica__tsan_enter(worker->tsan);
    task->fiber = worker->fiber;
    pica__leave_task_here(worker, suspend_commit, &suspension);
    pica__tsan_leave(context);
    pica__task_serial_begin(task);
    return resumed(wait);
}

PICA__NO_TSAN static PICA__INLINE int suspend(pica__wait *wait, bool (*commit)(pica__wait *wait)) {
    wait->task->waits++;
    wait->task->wait = wait;
    wait->task->outcome = 0;
    return suspend_claimed(wait, commit);
}

PICA__NO_TSAN PICA__HOT int pica__suspend(pica__wait *wait, bool (*commit)(pica__wait *wait)) {
    return suspend(wait, commit);
}

PICA__NO_TSAN int pica__suspend_claimed(pica__wait *wait, bool (*commit)(pica__wait *wait)) {
    return suspend_claimed(wait, commit);
}

/* Asks for the lines of the stack that the task touches when it resumes, well before it does: they lie around its
 * wait. With 1024 connections that is 2 % of an echo request; a hint, so what is not there does no harm. */
static inline void stack_prefetch(const pica__wait *wait) {
    for (int i = -3; i <= 2; i++) {
        __builtin_prefetch((const char *)wait + i * PICA__CACHELINE, 1);
    }
}

/* Also those of the callers, up to the fiber at the top of the stack: there lies what the task works with, such as the
 * state of a parser. In the time of a system call all come; one after the other each is waited for. */
static inline void callers_prefetch(const pica__wait *wait, const struct pica__fiber *top) {
    const char *end = (const char *)wait + 12 * PICA__CACHELINE;
    end = (uintptr_t)end < (uintptr_t)top ? end : (const char *)top;
    for (const char *line = (const char *)wait + 3 * PICA__CACHELINE; line < end; line += PICA__CACHELINE) {
        __builtin_prefetch(line, 1);
    }
}

PICA__NO_TSAN PICA__INLINED int pica__suspend_ahead(pica__wait *wait, bool (*commit)(pica__wait *wait),
                                                     pica__ahead_fn ahead, void *arg, bool *called) {
    pica_task *task = wait->task;
    task->ahead = ahead;
    task->ahead_arg = arg;
    int outcome = suspend(wait, commit);
    *called = task->ahead == NULL;
    task->ahead = NULL;
    return outcome;
}

/* In the task's context. Acquire: as in resumed. */
PICA__TSAN_APART static int ahead_call(pica_task *task, pica__ahead_fn ahead) {
    (void)atomic_load_explicit(&task->word, memory_order_acquire);
    return ahead(task->ahead_arg);
}

PICA__NO_TSAN PICA__EACH void pica__wait_ahead(pica_task *task, void *runtime) {
    pica__ahead_fn ahead = task->ahead;
    if (ahead != NULL && task->outcome == 0) {
        task->ahead = NULL;
        __builtin_prefetch(task->fiber, 1);
        /* The alarm, mostly that of the limit of this read. */
        __builtin_prefetch((const char *)task->fiber + PICA__CACHELINE, 1);
        stack_prefetch(task->wait);
        callers_prefetch(task->wait, task->fiber);
#if PICA__TSAN
        pica__tsan_leave(task->tsan_fiber);
#endif
        task->outcome = ahead_call(task, ahead);
        (void)pica__tsan_enter(runtime);
    }
}

PICA__EACH bool pica__wait_publish(pica__wait *wait) {
    pica_task *task = wait->task;
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        PICA__CHECK(pica__task_state(old) == PICA__TASK_RUNNING);
        bool cancelled = PICA__UNLIKELY(pica__cancel_pending(old));
        uint32_t new =
            cancelled ? old & ~(uint32_t)PICA__TASK_CANCEL
                      : (old & ~(uint32_t)PICA__TASK_STATE) | (uint32_t)PICA__TASK_WAITING;
        if (cancelled) {
            task->outcome = PICA_ECANCELED;
        }
        if (atomic_compare_exchange_weak_explicit(&task->word, &old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            if (!cancelled) {
                PICA__MOVED(TASK, PICA__TASK_RUNNING, PICA__TASK_WAITING);
            }
            return !cancelled;
        }
    }
}

void pica__wait_publish_uncancellable(pica__wait *wait) {
    uint32_t old = atomic_fetch_xor_explicit(
        &wait->task->word, PICA__TASK_RUNNING ^ PICA__TASK_WAITING, memory_order_acq_rel);
    PICA__CHECK(pica__task_state(old) == PICA__TASK_RUNNING);
    PICA__MOVED(TASK, PICA__TASK_RUNNING, PICA__TASK_WAITING);
}

PICA__HOT void pica__wait_fire_task(pica_task *task, int result) {
    task->outcome = result;
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        uint32_t state = pica__task_state(old);
        PICA__CHECK(state == PICA__TASK_WAITING || state == PICA__TASK_CLAIMED);
        uint32_t next = PICA__LIKELY(state == PICA__TASK_WAITING) ? PICA__TASK_RUNNING : PICA__TASK_FIRED;
        if (atomic_compare_exchange_weak_explicit(&task->word, &old,
                                                  (old & ~(uint32_t)PICA__TASK_STATE) | next,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
            PICA__MOVED(TASK, state, next);
            if (next == PICA__TASK_RUNNING) {
                pica__ready(task);
            }
            return;
        }
    }
}

void pica__wait_fire(pica__wait *wait, int result) {
    stack_prefetch(wait);
    pica__wait_fire_task(wait->task, result);
}

PICA__HOT bool pica__cancel_take(pica_task *task) {
    if (PICA__LIKELY(!pica__cancel_pending(atomic_load_explicit(&task->word, memory_order_relaxed)))) {
        return false;
    }
    uint32_t old = atomic_fetch_and_explicit(&task->word, ~(uint32_t)PICA__TASK_CANCEL,
                                             memory_order_acq_rel);
    return pica__cancel_pending(old);
}
