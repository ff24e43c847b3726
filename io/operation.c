/* One kernel operation of one task. It lies, with all that the wait needs, on the waiting task's stack; a
 * canceller on any thread asks the engine's owner to cancel it, and the task goes on when the terminal
 * completion has come:
 *
 *     IDLE --cancel (any thread)--> ASKED --message (owner)--> CANCELLING --completion--> fired
 *     IDLE --completion (owner)--> DONE: fired
 *     ASKED --completion (owner)--> DONE: fired by the message, which lies on the same stack
 */
#include "io/operation.h"

#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "runtime/worker.h"

enum { IDLE, ASKED, CANCELLING, DONE };

struct op_wait {
    pica__wait wait;
    pica__op *op;
    pica_loop *loop;   /* whose engine has the operation */
    pica__call cancel;
    int result;
    /* See above. Compare-and-swapped by cancellers, exchanged by the owner; acq_rel. */
    _Atomic uint32_t state;
};

static bool op_cancel(pica__wait *wait) {
    struct op_wait *w = PICA__CONTAINER_OF(wait, struct op_wait, wait);
    uint32_t expected = IDLE;
    if (atomic_compare_exchange_strong(&w->state, &expected, ASKED)) {
        pica__call_soon(w->loop, &w->cancel);
    }
    return false; /* it ends by its completion */
}

static const struct pica__wait_ops op_wait_ops = {"operation", op_cancel};

static void op_cancel_at_owner(pica__call *call) {
    struct op_wait *w = PICA__CONTAINER_OF(call, struct op_wait, cancel);
    uint32_t expected = ASKED;
    if (atomic_compare_exchange_strong(&w->state, &expected, CANCELLING)) {
        pica__engine_cancel(w->loop->engine, w->op);
    } else {
        pica__wait_fire(&w->wait, w->result);
    }
}

static void op_complete(pica__op *op, int result, bool more) {
    struct op_wait *w = op->owner;
    (void)more;
    w->result = result;
    if (atomic_exchange(&w->state, DONE) != ASKED) {
        pica__wait_fire(&w->wait, result);
    }
}

static bool op_commit(pica__wait *wait) {
    struct op_wait *w = PICA__CONTAINER_OF(wait, struct op_wait, wait);
    w->loop = pica__self()->loop;
    if (!pica__wait_publish(wait)) {
        return false;
    }
    int rc = pica__engine_submit(w->loop->engine, w->op);
    if (rc < 0) {
        op_complete(w->op, rc, false);
    }
    return true;
}

int pica__operation_run(pica_task *task, pica__op *op) {
    struct op_wait w = {.wait = {&op_wait_ops, task, NULL, ~op->fd}, .op = op};
    op->complete = op_complete;
    op->owner = &w;
    pica__call_init(&w.cancel, op_cancel_at_owner);
    atomic_init(&w.state, IDLE);
    return pica__suspend(&w.wait, op_commit);
}

int pica__operation_begin(pica_task **task) {
    *task = pica__current();
    if (*task == NULL) {
        return PICA_ENOTASK;
    }
    return pica__cancel_take(*task) ? PICA_ECANCELED : 0;
}
