/* Sleeping, yielding, and time-out scopes. */
#include <math.h>
#include <pica/timeout.h>

#include "runtime/alarm.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/relax.h"
#include "runtime/loop.h"
#include "runtime/run.h"
#include "runtime/san.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "runtime/worker.h"

/* --- yield --- */

static void yield_switch_commit(pica__worker *worker, void *arg) {
    pica__ready_last(worker, arg);
}

PICA__NO_TSAN void pica__yield(pica_task *self) {
    pica__worker *worker = pica__self();
    pica__task_serial_end(self);
    void *context = pica__tsan_enter(worker->tsan);
    self->fiber = worker->fiber;
    pica__leave_task_here(worker, yield_switch_commit, self);
    pica__tsan_leave(context);
    pica__task_serial_begin(self);
}

int pica_yield(void) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (pica__cancel_take(task)) {
        return PICA_ECANCELED;
    }
    pica__yield(task);
    return pica__cancel_take(task) ? PICA_ECANCELED : 0;
}

PICA__NO_TSAN static void end_turn(void) {
    pica__worker *worker = pica__self();
    void *context = pica__tsan_enter(worker->tsan);
    pica__worker_end_turn(worker);
    pica__tsan_leave(context);
}

int pica__yield_turn(void) {
    if (pica__current() != NULL) {
        end_turn();
    }
    return pica_yield();
}

/* --- sleep --- */

struct sleep_node {
    pica__wait wait;
    pica__timer timer;
    pica_loop *loop;
    int64_t when;
};

static bool sleep_withdraw(pica__wait *wait) {
    return pica__timer_cancel(&PICA__CONTAINER_OF(wait, struct sleep_node, wait)->timer);
}

static const struct pica__wait_ops sleep_ops = {"sleep", sleep_withdraw};

static void sleep_due(pica__timer *timer) {
    pica__wait_fire(&PICA__CONTAINER_OF(timer, struct sleep_node, timer)->wait, 0);
}

static bool sleep_commit(pica__wait *wait) {
    struct sleep_node *node = PICA__CONTAINER_OF(wait, struct sleep_node, wait);
    pica_loop *loop = node->loop;
    bool earliest = false;
    bool waits = false;
    pica__lock(&loop->timers.lock);
    int rc = pica__timer_push_locked(loop, &node->timer, node->when, &earliest);
    if (rc < 0) {
        wait->task->outcome = rc;
    } else if (pica__wait_publish(wait)) {
        waits = true;
    } else {
        pica__timer_take_out(loop, &node->timer);
    }
    pica__unlock(&loop->timers.lock);
    if (waits && earliest) {
        pica__timer_wake(loop);
    }
    return waits;
}

PICA__NO_TSAN static pica_loop *nearest_loop(void) {
    return pica__self()->loop;
}

int pica_sleep(double seconds) {
    if (isnan(seconds)) {
        return -EINVAL;
    }
    if (seconds <= 0) {
        return pica_yield();
    }
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    struct sleep_node node = {
        .wait = {&sleep_ops, task, NULL, 0},
        .loop = nearest_loop(),
        .when = pica__deadline(seconds),
    };
    pica__timer_init(&node.timer, sleep_due);
    int rc = pica__suspend(&node.wait, sleep_commit);
    /* Observation: a cancellation that came after the timer still wins. */
    return rc == 0 && pica__cancel_take(task) ? PICA_ECANCELED : rc;
}

/* --- time-out scopes ---
 *
 * State: ACTIVE -> EXPIRING -> EXPIRED by the loop that fires the timer, before and after it cancels
 * the task; or ACTIVE -> FINISHED by an exit that took the timer out. An exit that comes between the
 * two waits for EXPIRED, which is as long as one cancel takes: so after exit no cancel of this scope
 * can arrive, and the timer, if it lies in the caller's frame, is out.
 *
 * Most tasks open one scope after the other, none inside of another, and most end long before their time. So
 * a task has one timer that stays in the heap from scope to scope, its alarm: to enter and to exit touches the alarm
 * and nothing of its neighbours. A scope inside of one, or of a task that runs on the stack of the one that awaits it and
 * has the alarm, has a timer of its own. */

enum { ACTIVE, EXPIRING, EXPIRED, FINISHED };

struct timeout {
    pica__timer own;
    pica__timer *armed;    /* own, or the alarm's; NULL: none */
    pica_task *task;
    int entry_count;       /* cancel requests when the scope was entered */
    bool entry_pending;    /* one of them was not delivered yet */
    /* The loop that fires writes EXPIRING and EXPIRED (release); the task reads them (acquire). */
    _Atomic uint32_t state;
};
_Static_assert(sizeof(struct timeout) <= sizeof(pica_timeout), "pica_timeout is too small");

static struct timeout *timeout_of(pica_timeout *timeout) {
    return (struct timeout *)(void *)timeout;
}

static void expire(struct timeout *t) {
    atomic_store_explicit(&t->state, EXPIRING, memory_order_release);
    (void)pica__cancel(t->task);
    atomic_store_explicit(&t->state, EXPIRED, memory_order_release);
}

static void own_due(pica__timer *timer) {
    expire(PICA__CONTAINER_OF(timer, struct timeout, own));
}

static void alarm_due(pica__timer *timer) {
    expire(PICA__CONTAINER_OF(timer, struct pica__task_alarm, timer)->scope);
}

/* That of the stack, for a task that has none: NULL if another one has it. */
PICA__NO_TSAN static PICA__NOINLINE struct pica__task_alarm *alarm_take(pica_task *task) {
    struct pica__task_alarm *alarm = &pica__self()->fiber->alarm;
    if (alarm->task != NULL) {
        return NULL;
    }
    alarm->task = task;
    pica__timer_init(&alarm->timer, alarm_due);
    alarm->scope = NULL;
    alarm->limit = 0;
    alarm->ns = 0;
    task->alarm = alarm;
    return alarm;
}

/* As pica__nanoseconds. A task mostly has the same limit again and again. alarm: the task's, or NULL. */
static inline int64_t alarm_nanoseconds(struct pica__task_alarm *alarm, double limit) {
    if (PICA__UNLIKELY(alarm == NULL)) {
        return pica__nanoseconds(limit);
    }
    if (PICA__UNLIKELY(alarm->limit != limit)) {
        alarm->limit = limit;
        alarm->ns = pica__nanoseconds(limit);
    }
    return alarm->ns;
}

/* Its timer is out, or rests. */
static void timeout_unarm(struct timeout *t) {
    if (t->armed != &t->own) {
        t->task->alarm->scope = NULL;
    }
    t->armed = NULL;
}

static int timeout_arm(struct timeout *t, double limit) {
    if (limit <= 0) {
        (void)pica__cancel(t->task);
        atomic_store_explicit(&t->state, EXPIRED, memory_order_relaxed);
        return 0;
    }
    struct pica__task_alarm *alarm = PICA__LIKELY(t->task->alarm != NULL) ? t->task->alarm : alarm_take(t->task);
    int64_t ns = alarm_nanoseconds(alarm, limit);
    if (ns >= PICA__TIME_END) {
        return 0; /* more than a hundred years */
    }
    pica_loop *loop = nearest_loop();
    int rc;
    if (PICA__LIKELY(alarm != NULL && alarm->scope == NULL)) {
        alarm->scope = t;
        t->armed = &alarm->timer;
        rc = pica__alarm_set(loop, t->armed, ns);
    } else {
        pica__timer_init(&t->own, own_due);
        t->armed = &t->own;
        rc = pica__timer_arm(loop, t->armed, pica__now() + ns);
    }
    if (PICA__UNLIKELY(rc < 0)) {
        timeout_unarm(t);
    }
    return rc;
}

PICA__EACH int pica_timeout_enter(pica_timeout *timeout, double limit) {
    struct timeout *t = timeout_of(timeout);
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (isnan(limit)) {
        return -EINVAL;
    }
    uint32_t word = atomic_load_explicit(&task->word, memory_order_relaxed);
    t->armed = NULL;
    t->task = task;
    t->entry_count = (int)(word / PICA__TASK_COUNT);
    t->entry_pending = pica__cancel_pending(word);
    atomic_init(&t->state, ACTIVE);
    return timeout_arm(t, limit);
}

/* True if the scope did not expire: its timer is out, or rests. Otherwise the cancel has been made. */
static bool timeout_disarm(struct timeout *t) {
    pica__timer *armed = t->armed;
    if (PICA__UNLIKELY(armed == NULL)) {
        return atomic_load_explicit(&t->state, memory_order_relaxed) != EXPIRED; /* of a limit that was over already */
    }
    bool active = armed == &t->own ? pica__timer_cancel(armed) : pica__alarm_rest(armed);
    if (PICA__UNLIKELY(!active)) {
        /* Taken out by the loop, which has cancelled us, or is about to do so. */
        pica__backoff backoff = {0};
        while (atomic_load_explicit(&t->state, memory_order_acquire) != EXPIRED) {
            pica__relax(&backoff);
        }
    }
    timeout_unarm(t);
    return active;
}

PICA__EACH int pica_timeout_exit(pica_timeout *timeout, int rc) {
    struct timeout *t = timeout_of(timeout);
    if (timeout_disarm(t)) {
        atomic_store_explicit(&t->state, FINISHED, memory_order_relaxed);
        return rc;
    }
    /* One that was pending when the scope was entered is somebody else's, like one that came since. */
    bool ours = pica_task_uncancel(t->task) <= t->entry_count && !t->entry_pending;
    if (ours) {
        (void)pica__cancel_take(t->task); /* if it was never delivered: it must not be later */
    }
    return ours && rc == PICA_ECANCELED ? PICA_ETIMEDOUT : rc;
}

int pica_timeout_expired(const pica_timeout *timeout) {
    const struct timeout *t = (const struct timeout *)(const void *)timeout;
    uint32_t state =
        atomic_load_explicit(&((struct timeout *)(uintptr_t)t)->state, memory_order_acquire);
    return state == EXPIRING || state == EXPIRED;
}

/* Of one with the alarm, which stays where it is. */
static int timeout_move(struct timeout *t, int64_t ns) {
    int rc = pica__alarm_set_again(nearest_loop(), t->armed, ns);
    if (PICA__UNLIKELY(rc == -ENOMEM)) {
        timeout_unarm(t);
    }
    return rc;
}

PICA__EACH int pica_timeout_reschedule(pica_timeout *timeout, double limit) {
    struct timeout *t = timeout_of(timeout);
    if (isnan(limit)) {
        return -EINVAL;
    }
    if (PICA__LIKELY(t->armed != NULL && t->armed != &t->own)) {
        int64_t ns = alarm_nanoseconds(t->task->alarm, limit);
        int rc = PICA__LIKELY(ns > 0 && ns < PICA__TIME_END) ? timeout_move(t, ns) : PICA_EINVALSTATE;
        if (PICA__LIKELY(rc != PICA_EINVALSTATE)) {
            return rc;
        }
    }
    if (!timeout_disarm(t)) {
        return PICA_EINVALSTATE;
    }
    return timeout_arm(t, limit);
}

int pica_wait_for(pica_future *future, double limit, void **value) {
    if (pica_future_done(future) && !isnan(limit)) {
        return pica_await(future, value);
    }
    pica_timeout timeout;
    int rc = pica_timeout_enter(&timeout, limit);
    if (rc < 0) {
        return rc;
    }
    int code = pica_await(future, value);
    rc = pica_timeout_exit(&timeout, code);
    if (code == PICA_ECANCELED && rc == PICA_ETIMEDOUT && !pica_future_cancelled(future)) {
        rc = pica_await(future, value); /* it was done before the cancellation reached it */
    }
    return rc;
}
