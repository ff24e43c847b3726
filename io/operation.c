/* One kernel operation of one task. It lies, with all that the wait needs, on the waiting task's stack; a
 * canceller on any thread asks the engine's owner to cancel it, and the task goes on when the terminal
 * completion has come:
 *
 *     NEW --commit (owner)--> IDLE, and it is submitted
 *     NEW --asked (any thread)--> ENDED: the commit fires it, and does not submit
 *     IDLE --asked (any thread)--> ASKED --message (owner)--> CANCELLING --completion--> fired
 *     IDLE --completion (owner)--> DONE: fired
 *     ASKED --completion (owner)--> DONE: fired by the message, which lies on the same stack
 */
#include "io/operation.h"

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
    uint32_t expected = ASKED;
    if (atomic_compare_exchange_strong_explicit(&w->state, &expected, CANCELLING,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        pica__engine_cancel(w->loop->engine, w->op);
    } else {
        pica__wait_fire(&w->wait, result_of(w, w->result, true));
    }
}

static void op_complete(pica__op *op, int result, bool more) {
    pica__operation *w = op->owner;
    (void)more;
    w->result = result;
    uint32_t old = atomic_exchange_explicit(&w->state, DONE, memory_order_acq_rel);
    if (old != ASKED) {
        pica__wait_fire(&w->wait, result_of(w, result, old == CANCELLING));
    }
}

static bool op_commit(pica__wait *wait) {
    pica__operation *w = PICA__CONTAINER_OF(wait, pica__operation, wait);
    w->loop = pica__self()->loop;
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
    int rc = pica__engine_submit(w->loop->engine, w->op);
    if (rc < 0) {
        w->refused = true;
        op_complete(w->op, rc, false);
    }
    return true;
}

void pica__operation_init(pica__operation *w, pica_task *task, pica__op *op) {
    *w = (pica__operation){.wait = {&op_wait_ops, task, NULL, ~op->fd}, .op = op};
    op->complete = op_complete;
    op->owner = w;
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
