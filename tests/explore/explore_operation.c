/* Scenarios over io/operation.c: one kernel operation of one task, and who ends it. */
#include "io/operation.h"

#include <errno.h>

#include "tests/explore/home.h"

enum { RESULT = 42 };

static pica_task *task;
static pica__op *op;
static pica__operation *operation;
static pica__operation *known; /* under known_lock: for who aborts */
static pica__lock_t known_lock;
static int result;

/* The operation's memory goes as soon as the wait is over. */
static void waiter(void *arg) {
    (void)arg;
    pica__operation_init(operation, task, op);
    result = pica__operation_wait(operation);
    ex_free(operation, sizeof *operation);
    ex_free(op, sizeof *op);
}

/* No cancellation ends it. */
static void shielded_waiter(void *arg) {
    (void)arg;
    pica__operation_init(operation, task, op);
    operation->shielded = true;
    result = pica__operation_wait(operation);
    ex_free(operation, sizeof *operation);
    ex_free(op, sizeof *op);
}

/* The same for one that others may abort. */
static void known_waiter(void *arg) {
    (void)arg;
    pica__operation_init(operation, task, op);
    pica__lock(&known_lock);
    known = operation;
    pica__unlock(&known_lock);
    result = pica__operation_wait(operation);
    pica__lock(&known_lock);
    known = NULL;
    pica__unlock(&known_lock);
    ex_free(operation, sizeof *operation);
    ex_free(op, sizeof *op);
}

static void canceller(void *arg) {
    (void)arg;
    EX_CHECK(pica_task_cancel(task) == 1);
}

static void aborter(void *arg) {
    (void)arg;
    pica__lock(&known_lock);
    if (known != NULL) {
        pica__operation_abort(known);
    }
    pica__unlock(&known_lock);
}

static void setup_with(void (*body)(void *), unsigned spontaneous) {
    pica_runtime *rt = ex_runtime();
    op = ex_alloc(sizeof *op);
    operation = ex_alloc(sizeof *operation);
    known = NULL;
    pica__lock_init(&known_lock);
    result = -1;
    pica__op_init(op, PICA__OP_READ, EX_FD, NULL);
    ex_name(&operation->state, "operation");
    task = ex_body("task", body, NULL);
    ex_at_home(task);
    ex_home(rt, spontaneous, RESULT);
}

static bool pending(void) {
    return pica__cancel_pending(atomic_load_explicit(&task->word, memory_order_relaxed));
}

static void setup_complete(void) {
    setup_with(waiter, 1);
}

static void finish_complete(void) {
    EX_CHECK(result == RESULT && ex_in_flight() == 0);
}

static void setup_cancel(void) {
    setup_with(waiter, 0);
    ex_thread("canceller", canceller, NULL, false);
}

static void setup_complete_cancel(void) {
    setup_with(waiter, 1);
    ex_thread("canceller", canceller, NULL, false);
}

/* A result is delivered, and the cancellation that it beat stays pending; or the task was cancelled. */
static void finish_cancel(void) {
    EX_CHECK(ex_in_flight() == 0 && ex_succeeded() == (result == RESULT));
    EX_CHECK(result == RESULT || result == PICA_ECANCELED);
    EX_CHECK(pending() == (result == RESULT));
}

static void setup_shielded(void) {
    setup_with(shielded_waiter, 1);
    ex_thread("canceller", canceller, NULL, false);
}

static void finish_shielded(void) {
    EX_CHECK(result == RESULT && pending() && ex_in_flight() == 0);
}

static void setup_abort(void) {
    setup_with(known_waiter, 1);
    ex_thread("aborter", aborter, NULL, false);
}

static void finish_abort(void) {
    EX_CHECK(ex_in_flight() == 0 && ex_succeeded() == (result == RESULT));
    EX_CHECK(result == RESULT || result == PICA_ECLOSED);
}

static void setup_abort_cancel(void) {
    setup_with(known_waiter, 1);
    ex_thread("aborter", aborter, NULL, false);
    ex_thread("canceller", canceller, NULL, false);
}

static void finish_abort_cancel(void) {
    EX_CHECK(ex_in_flight() == 0 && ex_succeeded() == (result == RESULT));
    EX_CHECK(result == RESULT || result == PICA_ECLOSED || result == PICA_ECANCELED);
    EX_CHECK(result == PICA_ECANCELED || pending());
}

const struct ex_scenario ex_scenarios[] = {
    {"operation.complete", "an operation completes", setup_complete, finish_complete, NULL, {EX_ALL, 0},
     {3, 2}, {3, 2}, NULL},
    {"operation.cancel", "one that never completes is cancelled; perhaps it succeeds then", setup_cancel,
     finish_cancel, NULL, {3, 0}, {2, 1}, {2, 1}, NULL},
    {"operation.complete_cancel", "completion meets cancel", setup_complete_cancel, finish_cancel, NULL,
     {3, 0}, {2, 1}, {2, 1}, NULL},
    {"operation.shielded", "a cancel does not end it", setup_shielded, finish_shielded, NULL, {3, 0}, {2, 1},
     {2, 1}, NULL},
    {"operation.abort", "completion meets the end of the object", setup_abort, finish_abort, NULL, {3, 0},
     {2, 1}, {2, 1}, NULL},
    {"operation.abort_cancel", "all three", setup_abort_cancel, finish_abort_cancel, NULL, {2, 0}, {1, 1},
     {1, 1}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
