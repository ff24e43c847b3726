/* How a task suspends, is resumed, and is cancelled: the wait node and the task's word.
 *
 * The task word (pica_task.word) is the one place where completion and cancellation of a wait are
 * decided. State, with the function that makes each transition:
 *
 *     NEW ------pica__task_claim------> RUNNING         a worker or an awaiter starts it
 *     RUNNING --pica__wait_publish----> WAITING         in the commit of a suspension
 *     WAITING --pica__wait_fire-------> RUNNING         what it waited for happened
 *     WAITING --pica__cancel----------> CLAIMED         a canceller looks at the wait node
 *     CLAIMED --pica__wait_fire-------> FIRED           it happened meanwhile: recorded
 *     CLAIMED --release---------------> WAITING         not withdrawn: the wait goes on
 *     CLAIMED --withdrawn-------------> RUNNING         the cancel won
 *     FIRED ----release---------------> RUNNING         the claimer delivers the completion
 *     RUNNING --pica__task_end--------> DONE
 *     WAITING --await in place--------> RUNNING         the task that ran on its stack ended
 *
 * RUNNING means that the task is somebody's to run: it runs, or it is on its way through a queue (its one
 * resume entry), or a yield puts it there. A state of its own for "queued" was rejected: nobody decides
 * anything by it, and every resumption would change the word once more.
 *
 * Beside the state lie the CANCEL bit (a cancellation that was not delivered yet) and the count of
 * requests. All changes are atomic read-modify-writes with acq_rel: the word carries the hand-over
 * of the whole task from the thread that suspended it to the thread that resumes it.
 *
 * The protocol. A wait node lies on the stack of the task that waits. Whoever unlinks it from the
 * object's list, under the object's lock, must fire it, once. A canceller first claims the word;
 * while it is claimed the task cannot resume, so node and object stay; then it asks the node's
 * cancel function to withdraw, which takes the object's lock and tells whether the node was still
 * linked. Thus the object's lock decides between grant and cancel, and nothing granted is lost.
 *
 * A suspension is published only after the context was saved: pica__suspend hands a commit function
 * to the context that runs next. Commit locks the object, looks again, and either reports "satisfied"
 * or publishes and links. It may not touch the node after that.
 *
 * Lock order: object lock, then nothing. The word is changed under object locks, never the reverse.
 *
 * Several of these orders do the same work: a change acquires the word, and so does the task when it has
 * resumed. tests/explore (explore_wait.c, explore_sync.c) runs them in every order within a bound; survivors.txt
 * there says which are doubled, and by what.
 */
#ifndef PICA__RUNTIME_WAIT_H
#define PICA__RUNTIME_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/future.h>
#include <pica/task.h>

enum {
    PICA__TASK_NEW = 0,
    PICA__TASK_RUNNING = 1,
    PICA__TASK_WAITING = 2,
    PICA__TASK_CLAIMED = 3,
    PICA__TASK_FIRED = 4,
    PICA__TASK_DONE = 5,
    PICA__TASK_STATE = 7,       /* mask */
    PICA__TASK_CANCEL = 1 << 3, /* a cancellation is pending */
    PICA__TASK_COUNT = 1 << 8   /* one request; the count fills the bits from here on */
};

struct pica__wait;

struct pica__wait_ops {
    /* What it is, for dumps. */
    const char *what;
    /* Withdraws the node from what it waits for: true if it was still linked (the task is then
     * resumed with PICA_ECANCELED), false if it has been or will be fired. Called by a canceller
     * that holds the claim, on any thread. NULL for awaits, which pass the cancel on to target. */
    bool (*cancel)(struct pica__wait *wait);
};
/* Those of an await in place of one member of a group: the cancellation stays pending though it was
 * passed on to target, because the one that waits has others to pass it on to. */
extern const struct pica__wait_ops pica__member_ops;

/* What a worker does for a task that it resumes: see pica__suspend_ahead. */
typedef int (*pica__ahead_fn)(void *arg);

/* One suspension of one task. Lies on the task's stack. */
typedef struct pica__wait {
    const struct pica__wait_ops *ops;
    pica_task *task;
    pica_future *target; /* awaits: the future that a cancel is passed on to; else NULL */
    int about; /* for dumps: the complement of the descriptor that the wait is about, or 0 */
} pica__wait;

/* The current task, or NULL: what every suspending call asks first. */
pica_task *pica__current(void);

/* Suspends the current task. commit(wait) runs once the context is saved, on the context that runs
 * next: it returns true if the task now waits (it called pica__wait_publish, which succeeded, and
 * linked the node), false if the task is to go on with what it left in task->outcome, or 0. Returns the
 * outcome. */
int pica__suspend(pica__wait *wait, bool (*commit)(pica__wait *wait));
/* The same for a task whose word is not RUNNING: wait is task->wait already, and a canceller may be reading
 * that. */
int pica__suspend_claimed(pica__wait *wait, bool (*commit)(pica__wait *wait));
/* As pica__suspend, for a task whose next step is a system call that needs nothing of its stack. If the outcome is 0,
 * the worker that resumes the task calls ahead(arg) in its name before it switches there, and what that returns (never
 * PICA_ECANCELED) is the outcome; *called tells. ahead may not suspend, and runs on some other stack, above a frame
 * of the runtime. With many connections the stack is in no cache: it is asked for, and comes during the call. */
int pica__suspend_ahead(pica__wait *wait, bool (*commit)(pica__wait *wait), pica__ahead_fn ahead, void *arg,
                        bool *called);
/* By the worker, in the runtime's context, before it switches to a suspended task: what the task asked for. */
void pica__wait_ahead(pica_task *task, void *runtime);

/* Lets others run, the current task behind them all. A cancellation stays pending. */
void pica__yield(pica_task *self);

/* pica_yield for a task that has had a long turn: the worker's turn ends with it, so the loop looks at I/O and
 * timers before anything else runs. (After a mere yield up to 64 steps may come before that, were it all of
 * this task alone.) */
int pica__yield_turn(void);

/* RUNNING -> WAITING, in a commit, under the object's lock, before the node is linked. False if a
 * cancellation is pending: it was consumed, the outcome is PICA_ECANCELED, and commit must return
 * false. */
bool pica__wait_publish(pica__wait *wait);
/* The same for waits that must not be cut short: a pending cancellation stays pending. */
void pica__wait_publish_uncancellable(pica__wait *wait);

/* Resumes the task with result. By whoever unlinked the node, once. The node must not be touched
 * afterwards. Any thread. */
void pica__wait_fire(pica__wait *wait, int result);
/* The same by one that knows the task, and need not look at the node, which is mostly in no cache. */
void pica__wait_fire_task(pica_task *task, int result);

/* True if a cancellation was pending; it is consumed: the caller returns PICA_ECANCELED. */
bool pica__cancel_take(pica_task *task);
/* One look at the word, for the entry of kernel operations. */
static inline bool pica__cancel_pending(uint32_t word) {
    return (word & PICA__TASK_CANCEL) != 0;
}

/* Records a request and passes it on along awaits, in a loop, one claim at a time. Returns false if
 * the task had ended. The caller holds a reference. */
bool pica__cancel(pica_task *task);

#endif
