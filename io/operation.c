/* One kernel operation of one task. It lies, with all that the wait needs, on the waiting task's stack; a
 * canceller on any thread asks the engine's owner to cancel it, and the task goes on when the terminal
 * completion has come:
 *
 *     NEW --commit (owner)--> IDLE, and it is submitted
 *     NEW --asked (any thread)--> ENDED: the commit fires it, and does not submit
 *     IDLE --asked (any thread)--> ASKED --message (owner)--> CANCELLING --completion--> fired
 *     IDLE --completion (owner)--> DONE: fired
 *     ASKED --completion (owner)--> DONE: fired by the message, which lies on the same stack
 *
 * Where the engine has no operations on files, a thread of a pool runs those (io/file_now.c), and completes them
 * itself. Cancelled, one that is still queued is withdrawn, in state ASKED, in which no completion fires and all
 * of this stays; one that runs is waited for, as it would be in the kernel.
 */
#include "io/operation.h"

#include "io/file_now.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/worker.h"

enum { NEW, IDLE, ENDED, ASKED, CANCELLING, DONE };

/* Who finds it NEW or IDLE asks; all others are too late, or not the first. */
static void ask(pica__operation *w) {
    uint32_t state = atomic_load_explicit(&w->state, memory_order_relaxed);
    while (state == NEW || state == IDLE) {
        if (atomic_compare_exchange_weak_explicit(&w->state, &state, state == NEW ? ENDED : ASKED,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
            PICA__MOVED(OPERATION, state, state == NEW ? ENDED : ASKED);
            if (state == IDLE) {
                pica__call_soon(w->loop, &w->cancel);
            }
            return;
        }
    }
}

static bool op_cancel(pica__wait *wait) {
    pica__operation *w = PICA__CONTAINER_OF(wait, pica__operation, wait);
    if (!w->shielded) {
        ask(w);
    }
    return false; /* it ends by its completion */
}

static const struct pica__wait_ops op_wait_ops = {"operation", op_cancel};

void pica__operation_abort(pica__operation *w) {
    atomic_store_explicit(&w->aborted, true, memory_order_relaxed);
    ask(w);
}

/* What the task gets for what the kernel said. asked: before it said so. */
static int result_of(pica__operation *w, int result, bool asked) {
    /* A kernel thread that waited is interrupted. */
    if (asked && (result == -EINTR || result == -ECANCELED)) {
        return atomic_load_explicit(&w->aborted, memory_order_relaxed) ? PICA_ECLOSED : PICA_ECANCELED;
    }
    return result;
}

static void op_cancel_at_owner(pica__call *call) {
    pica__operation *w = PICA__CONTAINER_OF(call, pica__operation, cancel);
    pica_executor *pool = w->pool;
    if (pool != NULL && pica__executor_withdraw(pool, &w->job)) {
        PICA__MOVED(OPERATION, ASKED, PICA__OPERATION_WITHDRAWN);
        pica__wait_fire(&w->wait, result_of(w, PICA_ECANCELED, true));
        return;
    }
    uint32_t expected = ASKED;
    /* Acquire on failure: the result is a thread's of a pool. */
    if (!atomic_compare_exchange_strong_explicit(&w->state, &expected, CANCELLING, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        pica__wait_fire(&w->wait, result_of(w, w->result, true));
        return;
    }
    PICA__MOVED(OPERATION, ASKED, CANCELLING);
    if (pool == NULL) {
        pica__engine_cancel(w->loop->engine, w->op);
    } /* else it runs, and may have been fired by now */
}

static void op_complete(pica__op *op, int result, bool more) {
    pica__operation *w = atomic_load_explicit(&op->owner, memory_order_relaxed);
    (void)more;
    w->result = result;
    uint32_t old = atomic_exchange_explicit(&w->state, DONE, memory_order_acq_rel);
    PICA__MOVED(OPERATION, old, DONE);
    if (old != ASKED) {
        pica__wait_fire(&w->wait, result_of(w, result, old == CANCELLING));
    }
}

static void job_run(pica__job *job) {
    pica__operation *w = PICA__CONTAINER_OF(job, pica__operation, job);
    w->result = pica__file_now(PICA__CONTAINER_OF(w->op, pica__op_file, op));
}

static void job_end(pica__job *job, int refused) {
    pica__operation *w = PICA__CONTAINER_OF(job, pica__operation, job);
    w->refused = refused != 0;
    op_complete(w->op, refused != 0 ? refused : w->result, false);
}

/* Whether the operation goes to a pool; then *rc says whether there is one. */
static bool goes_to_pool(pica__operation *w, int *rc) {
    *rc = 0;
    if (w->op->kind < PICA__OP_OPEN || pica__engine_has_files(w->loop->engine)) {
        return false;
    }
    w->job.run = job_run;
    w->job.end = job_end;
    *rc = pica__pool_get(&w->pool, w->loop->rt, PICA__POOL_FILES);
    return true;
}

static bool op_commit(pica__wait *wait) {
    pica__operation *w = PICA__CONTAINER_OF(wait, pica__operation, wait);
    w->loop = pica__self()->loop;
    int rc;
    bool pooled = goes_to_pool(w, &rc);
    if (w->shielded) {
        pica__wait_publish_uncancellable(wait);
    } else if (!pica__wait_publish(wait)) {
        return false;
    }
    uint32_t expected = NEW;
    if (!atomic_compare_exchange_strong_explicit(&w->state, &expected, IDLE, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        pica__wait_fire(wait, result_of(w, PICA_ECANCELED, true));
        return true;
    }
    PICA__MOVED(OPERATION, NEW, IDLE);
    if (rc == 0) {
        rc = pooled ? pica__executor_submit(w->pool, &w->job)
                    : pica__engine_submit(w->loop->engine, w->op);
    }
    if (rc < 0) { /* else it may be over by now */
        w->refused = true;
        op_complete(w->op, rc, false);
    }
    return true;
}

void pica__operation_init(pica__operation *w, pica_task *task, pica__op *op) {
    *w = (pica__operation){.wait = {&op_wait_ops, task, NULL, ~op->fd}, .op = op};
    op->complete = op_complete;
    atomic_store_explicit(&op->owner, w, memory_order_relaxed);
    pica__call_init(&w->cancel, op_cancel_at_owner);
    atomic_init(&w->state, NEW);
    atomic_init(&w->aborted, false);
}

int pica__operation_wait(pica__operation *w) {
    return pica__suspend(&w->wait, op_commit);
}

int pica__operation_run(pica_task *task, pica__op *op) {
    pica__operation w;
    pica__operation_init(&w, task, op);
    return pica__operation_wait(&w);
}

int pica__operation_begin(pica_task **task) {
    *task = pica__current();
    if (*task == NULL) {
        return PICA_ENOTASK;
    }
    return pica__cancel_take(*task) ? PICA_ECANCELED : 0;
}
