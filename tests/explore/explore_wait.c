/* Scenarios over the task word, wait nodes, cancellation along awaits, futures and tasks: runtime/wait.c, cancel.c,
 * future.c, await.c, task.c, registry.c. */
#include <pica/future.h>

#include "runtime/wait.h"
#include "tests/explore/tasks.h"

/* What the scenarios share; made anew by each setup. */
static struct shared {
    pica_task *a, *b;
    pica_future *future;
    int data; /* plain: handed over by what is tried */
    int result[3];
    int items[3];
} * s;

static void begin_shared(void) {
    s = ex_alloc(sizeof *s);
}

static void begin(void) {
    (void)ex_runtime();
    begin_shared();
}

/* Whoever still looks at a wait that is over is found: what lies below will be overwritten. */
static void scribble(void) {
    enum { DEPTH = 1024 };
    ex_touch((char *)__builtin_frame_address(0) - DEPTH, DEPTH);
}

/* The word at the end: RUNNING; a cancellation that was not told is pending. */
static void check_word(pica_task *task, unsigned requests, bool told) {
    uint32_t word = atomic_load_explicit(&task->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_RUNNING);
    EX_CHECK(word / PICA__TASK_COUNT == requests);
    EX_CHECK(requests == 0 || pica__cancel_pending(word) == !told);
}

static void canceller(void *arg) {
    EX_CHECK(pica_task_cancel(*(pica_task **)arg) == 1);
}

/* --- the protocol of wait.h itself, with a node that is freed as soon as the wait is over --- */

struct node {
    pica__wait wait;
    bool linked; /* under node_lock */
};

static struct node *node;
static struct node *waiting; /* under node_lock */
static pica__lock_t node_lock;

static bool node_commit(pica__wait *wait) {
    pica__lock(&node_lock);
    bool waits = pica__wait_publish(wait);
    if (waits) {
        waiting = node;
        node->linked = true;
    }
    pica__unlock(&node_lock);
    return waits;
}

static bool node_withdraw(pica__wait *wait) {
    struct node *n = (struct node *)(void *)wait;
    pica__lock(&node_lock);
    bool linked = n->linked;
    n->linked = false;
    waiting = linked ? NULL : waiting;
    pica__unlock(&node_lock);
    return linked;
}

static const struct pica__wait_ops node_ops = {"node", node_withdraw};

static void node_waiter(void *arg) {
    (void)arg;
    node = ex_alloc(sizeof *node);
    node->wait = (pica__wait){&node_ops, s->a, NULL, 0};
    node->linked = false;
    s->result[0] = pica__suspend(&node->wait, node_commit);
    ex_free(node, sizeof *node);
}

/* What the worker does for the task sees what the firer did before. */
static int node_ahead(void *arg) {
    EX_CHECK(*(int *)arg == 1);
    return 7;
}

static void node_waiter_ahead(void *arg) {
    (void)arg;
    bool called;
    node = ex_alloc(sizeof *node);
    node->wait = (pica__wait){&node_ops, s->a, NULL, 0};
    node->linked = false;
    s->result[0] = pica__suspend_ahead(&node->wait, node_commit, node_ahead, &s->data, &called);
    EX_CHECK(called == (s->result[0] == 7));
    ex_free(node, sizeof *node);
}

static void node_fire(int result) {
    pica__lock(&node_lock);
    struct node *n = waiting;
    if (n != NULL) {
        n->linked = false;
        waiting = NULL;
    }
    pica__unlock(&node_lock);
    if (n != NULL) {
        pica__wait_fire(&n->wait, result);
    }
}

static void node_firer(void *arg) {
    (void)arg;
    node_fire(7);
}

static void node_firer_ahead(void *arg) {
    (void)arg;
    s->data = 1;
    node_fire(0);
}

static void node_race(void (*waiter)(void *arg), void (*firer)(void *arg)) {
    begin();
    waiting = NULL;
    pica__lock_init(&node_lock);
    ex_name(&node_lock, "node lock");
    s->a = ex_body("waiter", waiter, NULL);
    ex_thread("firer", firer, NULL, false);
    ex_thread("canceller", canceller, &s->a, false);
}

static void setup_node(void) {
    node_race(node_waiter, node_firer);
}

static void setup_node_ahead(void) {
    node_race(node_waiter_ahead, node_firer_ahead);
}

static void finish_node(void) {
    EX_CHECK(s->result[0] == 7 || s->result[0] == PICA_ECANCELED);
    check_word(s->a, 1, s->result[0] == PICA_ECANCELED);
}

/* --- futures --- */

static void awaiter(void *arg) {
    (void)arg;
    void *value = NULL;
    s->result[0] = pica_await(s->future, &value);
    EX_CHECK((s->result[0] == 0) == (value != NULL));
    if (value != NULL) {
        EX_CHECK(*(int *)value == 1);
    }
}

static void shielded_awaiter(void *arg) {
    (void)arg;
    void *value = NULL;
    s->result[0] = pica_shield(s->future, &value);
    if (s->result[0] == 0) {
        EX_CHECK(*(int *)value == 1);
    }
}

static void completer(void *arg) {
    (void)arg;
    s->data = 1;
    s->result[1] = pica_future_set_result(s->future, &s->data, NULL);
}

static void begin_future(void) {
    begin();
    EX_CHECK(pica_future_new(&s->future) == 0);
    ex_name(&s->future->state, "state");
    ex_name(&s->future->lock, "future lock");
}

static void setup_future(void) {
    begin_future();
    s->a = ex_body("awaiter", awaiter, NULL);
    ex_thread("completer", completer, NULL, false);
}

static void finish_future(void) {
    EX_CHECK(s->result[0] == 0 && s->result[1] == 0);
    check_word(s->a, 0, false);
}

static void setup_future_cancel(void) {
    setup_future();
    ex_thread("canceller", canceller, &s->a, false);
}

/* Either the result or the cancellation has come to the future, and to who awaits it. */
static void finish_future_cancel(void) {
    bool cancelled = pica_future_cancelled(s->future);
    EX_CHECK(s->result[1] == (cancelled ? PICA_EINVALSTATE : 0));
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    EX_CHECK(!cancelled || s->result[0] == PICA_ECANCELED);
    uint32_t word = atomic_load_explicit(&s->a->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_RUNNING && word / PICA__TASK_COUNT == 1);
    EX_CHECK(s->result[0] == PICA_ECANCELED || pica__cancel_pending(word));
    EX_CHECK(pica__list_empty(&s->future->waiters));
}

static void setup_shield_cancel(void) {
    begin_future();
    s->a = ex_body("awaiter", shielded_awaiter, NULL);
    ex_thread("completer", completer, NULL, false);
    ex_thread("canceller", canceller, &s->a, false);
}

static void finish_shield_cancel(void) {
    EX_CHECK(s->result[1] == 0 && !pica_future_cancelled(s->future));
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    EX_CHECK(pica__list_empty(&s->future->waiters));
    check_word(s->a, 1, s->result[0] == PICA_ECANCELED);
}

/* The awaiter has the last reference, and lets go of it as soon as it has the result. */
static void awaiter_unref(void *arg) {
    awaiter(arg);
    pica_future_unref(s->future);
}

static void setup_future_unref(void) {
    begin_future();
    s->a = ex_body("awaiter", awaiter_unref, NULL);
    ex_thread("completer", completer, NULL, false);
}

static void finish_future_unref(void) {
    EX_CHECK(s->result[0] == 0 && ex_is_freed(s->future));
}

/* Two complete: one of them. */
static void completer_two(void *arg) {
    (void)arg;
    s->items[1] = 1;
    s->result[2] = pica_future_set_result(s->future, &s->items[1], NULL);
}

static void setup_future_race(void) {
    setup_future();
    ex_thread("completer 2", completer_two, NULL, false);
}

static void finish_future_race(void) {
    EX_CHECK(s->result[0] == 0);
    EX_CHECK((s->result[1] == 0) != (s->result[2] == 0));
}

/* --- tasks --- */

static int returns_five(void *arg) {
    (void)arg;
    s->items[0]++;
    return 5;
}

static void joiner(void *arg) {
    (void)arg;
    s->result[0] = pica_await(&s->b->future, NULL);
    scribble();
}

/* Lets go of the task; whoever is last frees it. */
static void unref_joiner(void *arg) {
    joiner(arg);
    pica_task_unref(s->b);
}

/* A worker finds the start entry while another task awaits it, and perhaps runs it in place: one of them. */
static void setup_claim(void) {
    begin();
    s->b = ex_task("started", returns_five, NULL, true);
    s->a = ex_body("joiner", unref_joiner, NULL);
}

static void finish_claim(void) {
    EX_CHECK(s->result[0] == 5 && s->items[0] == 1 && ex_is_freed(s->b));
    check_word(s->a, 0, false);
}

/* One waits until it is the only task that is left: the end of the other is not missed. */
static int drains(void *arg) {
    (void)arg;
    return pica_wait_all_tasks(0);
}

static void setup_drain(void) {
    (void)ex_counting_runtime();
    begin_shared();
    s->a = ex_task("drainer", drains, NULL, true);
    s->b = ex_task("other", returns_five, NULL, true);
}

static void finish_drain(void) {
    EX_CHECK(pica_future_result(&s->a->future, NULL) == 0);
    EX_CHECK(pica_future_result(&s->b->future, NULL) == 5);
}

/* Awaited only, so it runs in place; its awaiter is cancelled meanwhile: that reaches it, or stays pending. */
static int in_place(void *arg) {
    (void)arg;
    s->items[0]++;
    return pica_checkpoint() < 0 ? PICA_ECANCELED : 5;
}

static void setup_in_place_cancel(void) {
    begin();
    s->b = ex_task("in place", in_place, NULL, false);
    s->a = ex_body("joiner", joiner, NULL);
    ex_thread("canceller", canceller, &s->a, false);
}

static void finish_in_place_cancel(void) {
    uint32_t word = atomic_load_explicit(&s->a->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_RUNNING && word / PICA__TASK_COUNT == 1);
    EX_CHECK(s->result[0] == PICA_ECANCELED || (s->result[0] == 5 && pica__cancel_pending(word)));
    word = atomic_load_explicit(&s->b->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_DONE);
}

/* a awaits b, which awaits the future: a cancel of a goes all the way, or comes too late. */
static int link_of_chain(void *arg) {
    (void)arg;
    int rc = pica_await(s->future, NULL);
    return rc < 0 ? rc : 5;
}

static void setup_chain(void) {
    begin_future();
    s->b = ex_task("b", link_of_chain, NULL, true);
    s->a = ex_body("a", joiner, NULL);
    ex_thread("canceller", canceller, &s->a, false);
}

static void finish_chain(void) {
    /* Nobody completes the future, so the cancel must have come through. */
    EX_CHECK(s->result[0] == PICA_ECANCELED);
    EX_CHECK(pica_future_cancelled(s->future) || pica_future_done(s->future) == 0);
    uint32_t word = atomic_load_explicit(&s->b->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_DONE);
}

static void setup_chain_complete(void) {
    setup_chain();
    ex_thread("completer", completer, NULL, false);
}

static void finish_chain_complete(void) {
    EX_CHECK(s->result[0] == PICA_ECANCELED || s->result[0] == 5);
    uint32_t word = atomic_load_explicit(&s->a->word, memory_order_relaxed);
    EX_CHECK(s->result[0] == PICA_ECANCELED || pica__cancel_pending(word) ||
             pica_future_done(s->future));
    word = atomic_load_explicit(&s->b->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_DONE);
}

const struct ex_scenario ex_scenarios[] = {
    {"wait.node", "publish, fire and cancel of a node that is freed at once", setup_node, finish_node, NULL,
     {3, 0}, {2, 1}, {2, 1}, NULL},
    {"wait.node_ahead", "the same, with something that the worker does first", setup_node_ahead, finish_node, NULL,
     {3, 0}, {2, 1}, {2, 1}, NULL},
    {"wait.drain", "a task waits for the end of all others", setup_drain, finish_drain, NULL, {3, 0},
     {2, 2}, {2, 2}, NULL},
    {"wait.claim", "a start entry and an await: the task runs once", setup_claim, finish_claim, NULL,
     {2, 0}, {1, 1}, {2, 1}, NULL},
    {"wait.in_place_cancel", "a cancel of the awaiter of a task that runs in place", setup_in_place_cancel,
     finish_in_place_cancel, NULL, {3, 0}, {2, 1}, {2, 1}, NULL},
    {"wait.chain", "a cancel along two awaits", setup_chain, finish_chain, NULL, {2, 0}, {1, 1}, {1, 1},
     NULL},
    {"wait.chain_complete", "the same, while the last one completes", setup_chain_complete,
     finish_chain_complete, NULL, {1, 0}, {1, 0}, {1, 1}, NULL},
    {"wait.future", "a future is awaited and completed", setup_future, finish_future, NULL, {EX_ALL, 0},
     {3, 2}, {3, 2}, NULL},
    {"wait.future_cancel", "completion and cancel: one decision", setup_future_cancel,
     finish_future_cancel, NULL, {3, 0}, {2, 1}, {2, 1}, NULL},
    {"wait.shield_cancel", "the cancel of a shielded await leaves the future", setup_shield_cancel,
     finish_shield_cancel, NULL, {3, 0}, {2, 1}, {2, 1}, NULL},
    {"wait.future_unref", "the awaiter frees the future", setup_future_unref, finish_future_unref, NULL,
     {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"wait.future_race", "two completers", setup_future_race, finish_future_race, NULL, {3, 0}, {2, 1},
     {2, 1}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
