/* Scenarios over the objects of sync/, events, locks and queues, and with them over the task word: what a wait is
 * ended by, a grant, a cancel, or both at once. */
#include <pica/sync.h>

#include "runtime/wait.h"
#include "tests/explore/tasks.h"

/* What the scenarios share; made anew by each setup. */
static struct shared {
    pica_task *a, *b;
    pica_event event;
    pica_lock lock;
    pica_queue queue;
    int data; /* plain: handed over by what is tried */
    int result[2];
    unsigned holders;
    int items[2];
} * s;

static void begin(void) {
    (void)ex_runtime();
    s = ex_alloc(sizeof *s);
    pica_event_init(&s->event);
    pica_lock_init(&s->lock);
    pica_queue_init(&s->queue, 0);
}

/* The word at the end: RUNNING; a cancellation that was not told is pending. */
static void check_word(pica_task *task, unsigned requests, bool told) {
    uint32_t word = atomic_load_explicit(&task->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_RUNNING);
    EX_CHECK(word / PICA__TASK_COUNT == requests);
    EX_CHECK(requests == 0 || pica__cancel_pending(word) == !told);
}

/* What was written before a cancel is seen by the task that learns of it. */
static int cancel_data;

static void canceller(void *arg) {
    EX_CHECK(pica_task_cancel(*(pica_task **)arg) == 1);
}

static void telling_canceller(void *arg) {
    cancel_data = 1;
    canceller(arg);
}

/* --- event: publish, fire and cancel --- */

static void event_waiter(void *arg) {
    (void)arg;
    s->result[0] = pica_event_wait(&s->event);
    if (s->result[0] == 0) {
        EX_CHECK(s->data == 1);
    }
}

static void told_waiter(void *arg) {
    (void)arg;
    s->result[0] = pica_event_wait(&s->event);
    EX_CHECK(cancel_data == 1);
}

static void looker(void *arg) {
    (void)arg;
    if (pica_event_is_set(&s->event)) {
        EX_CHECK(s->data == 1);
    }
}

static void event_setter(void *arg) {
    (void)arg;
    s->data = 1;
    pica_event_set(&s->event);
}

static void setup_event(void) {
    begin();
    s->a = ex_body("waiter", event_waiter, NULL);
    ex_thread("setter", event_setter, NULL, false);
}

static void setup_event_look(void) {
    setup_event();
    ex_thread("looker", looker, NULL, false);
}

/* Clear, look for work, wait: no set is missed, also one that found the flag set. */
static _Atomic unsigned work;

static void event_server(void *arg) {
    (void)arg;
    unsigned seen = 0;
    while (seen != 2) {
        EX_CHECK(pica_event_wait(&s->event) == 0);
        pica_event_clear(&s->event);
        seen = atomic_load_explicit(&work, memory_order_relaxed);
    }
    s->result[0] = 1;
}

static void event_client(void *arg) {
    (void)arg;
    atomic_store_explicit(&work, 1, memory_order_relaxed);
    pica_event_set(&s->event);
    atomic_store_explicit(&work, 2, memory_order_relaxed);
    pica_event_set(&s->event);
}

static void setup_event_clear(void) {
    begin();
    atomic_init(&work, 0);
    ex_name(&work, "work");
    ex_name(&s->event, "event");
    s->a = ex_body("server", event_server, NULL);
    ex_thread("client", event_client, NULL, false);
}

static void finish_event_clear(void) {
    EX_CHECK(s->result[0] == 1);
}

static void finish_event(void) {
    EX_CHECK(s->result[0] == 0);
    check_word(s->a, 0, false);
}

static void setup_event_cancel(void) {
    setup_event();
    ex_thread("canceller", canceller, &s->a, false);
}

static void finish_cancelled(void) {
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    check_word(s->a, 1, s->result[0] == PICA_ECANCELED);
    EX_CHECK(pica_event_is_set(&s->event));
}

/* Two cancels and a set: still one resumption, and one of the requests is told. */
static void setup_event_cancel_twice(void) {
    setup_event_cancel();
    ex_thread("canceller 2", canceller, &s->a, false);
}

static void finish_cancelled_twice(void) {
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    uint32_t word = atomic_load_explicit(&s->a->word, memory_order_relaxed);
    EX_CHECK(pica__task_state(word) == PICA__TASK_RUNNING && word / PICA__TASK_COUNT == 2);
    EX_CHECK(s->result[0] != 0 || pica__cancel_pending(word));
}

/* Nothing but the cancel ends it. */
static void setup_cancel_only(void) {
    begin();
    cancel_data = 0;
    s->a = ex_body("waiter", told_waiter, NULL);
    ex_thread("canceller", telling_canceller, &s->a, false);
}

static void finish_cancel_only(void) {
    EX_CHECK(s->result[0] == PICA_ECANCELED);
    check_word(s->a, 1, true);
}

/* A task that only asks. */
static void asker(void *arg) {
    (void)arg;
    s->result[0] = pica_checkpoint();
    if (s->result[0] == PICA_ECANCELED) {
        EX_CHECK(cancel_data == 1);
    }
}

static void setup_checkpoint(void) {
    begin();
    cancel_data = 0;
    s->a = ex_body("asker", asker, NULL);
    ex_thread("canceller", telling_canceller, &s->a, false);
}

static void finish_checkpoint(void) {
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    check_word(s->a, 1, s->result[0] == PICA_ECANCELED);
}

/* The waiter frees the event once its wait is over: a set must not touch it after that. */
static pica_event *freed_event;

static void event_freer(void *arg) {
    (void)arg;
    EX_CHECK(pica_event_wait(freed_event) == 0);
    ex_free(freed_event, sizeof *freed_event);
}

static void freed_setter(void *arg) {
    (void)arg;
    pica_event_set(freed_event);
}

static void setup_event_free(void) {
    begin();
    freed_event = ex_alloc(sizeof *freed_event);
    pica_event_init(freed_event);
    s->a = ex_body("waiter", event_freer, NULL);
    ex_thread("setter", freed_setter, NULL, false);
}

/* --- lock: hand-over and cancel --- */

static void lock_user(void *arg) {
    int *result = arg;
    *result = pica_lock_acquire(&s->lock);
    if (*result == 0) {
        EX_CHECK(s->holders++ == 0);
        s->data++;
        s->holders--;
        EX_CHECK(pica_lock_release(&s->lock) == 0);
    }
}

static void setup_lock(void) {
    begin();
    s->a = ex_body("a", lock_user, &s->result[0]);
    s->b = ex_body("b", lock_user, &s->result[1]);
    ex_name(&s->lock, "lock");
}

static void finish_lock(void) {
    EX_CHECK(s->result[0] == 0 && s->result[1] == 0 && s->data == 2);
    EX_CHECK(!pica_lock_locked(&s->lock));
}

static void setup_lock_cancel(void) {
    setup_lock();
    ex_thread("canceller", canceller, &s->b, false);
}

static void finish_lock_cancel(void) {
    EX_CHECK(s->result[0] == 0);
    EX_CHECK(s->result[1] == 0 || s->result[1] == PICA_ECANCELED);
    EX_CHECK(s->data == (s->result[1] == 0 ? 2 : 1));
    EX_CHECK(!pica_lock_locked(&s->lock)); /* a grant that met a cancel was not lost */
    check_word(s->b, 1, s->result[1] == PICA_ECANCELED);
}

/* --- queue: an item is never lost --- */

static void getter(void *arg) {
    int *result = arg;
    void *item = NULL;
    *result = pica_queue_get(&s->queue, &item);
    if (*result == 0) {
        EX_CHECK(++*(int *)item == 1);
    }
}

static void putter(void *arg) {
    EX_CHECK(pica_queue_put_nowait(&s->queue, arg) == 0);
}

static void putter_two(void *arg) {
    (void)arg;
    putter(&s->items[0]);
    putter(&s->items[1]);
}

static void finish_items(unsigned n) {
    void *item;
    while (pica_queue_get_nowait(&s->queue, &item) == 0) {
        EX_CHECK(++*(int *)item == 1);
    }
    for (unsigned i = 0; i < n; i++) {
        EX_CHECK(s->items[i] == 1);
    }
}

static void setup_queue_cancel(void) {
    begin();
    s->a = ex_body("getter", getter, &s->result[0]);
    ex_thread("putter", putter, &s->items[0], false);
    ex_thread("canceller", canceller, &s->a, false);
}

static void finish_queue_cancel(void) {
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    finish_items(1);
    check_word(s->a, 1, s->result[0] == PICA_ECANCELED);
}

/* Two wait, one of them is cancelled, one item comes: the other gets it if the cancelled one does not. */
static void setup_queue_two(void) {
    begin();
    s->a = ex_body("getter a", getter, &s->result[0]);
    s->b = ex_body("getter b", getter, &s->result[1]);
    ex_thread("putter", putter_two, NULL, false);
    ex_thread("canceller", canceller, &s->a, false);
}

static void finish_queue_two(void) {
    EX_CHECK(s->result[0] == 0 || s->result[0] == PICA_ECANCELED);
    EX_CHECK(s->result[1] == 0);
    finish_items(2);
}

const struct ex_scenario ex_scenarios[] = {
    {"sync.event", "a wait and a set: woken once, with what was written before", setup_event, finish_event,
     NULL, {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"sync.event_look", "one waits, one looks", setup_event_look, finish_event, NULL, {EX_ALL, 0}, {2, 1},
     {2, 1}, NULL},
    {"sync.event_clear", "clear, look, wait", setup_event_clear, finish_event_clear, NULL, {3, 0}, {2, 2},
     {2, 2}, NULL},
    {"sync.event_free", "who waited frees the event", setup_event_free, NULL, NULL, {EX_ALL, 0}, {3, 2},
     {3, 2}, NULL},
    {"sync.event_cancel", "a wait, a set and a cancel: one of them ends it", setup_event_cancel,
     finish_cancelled, NULL, {3, 0}, {2, 2}, {2, 1}, NULL},
    {"sync.event_cancel_twice", "two cancels and a set", setup_event_cancel_twice, finish_cancelled_twice,
     NULL, {2, 0}, {2, 1}, {2, 1}, NULL},
    {"sync.cancel_only", "only a cancel ends the wait", setup_cancel_only, finish_cancel_only, NULL,
     {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"sync.checkpoint", "a cancel and a task that asks", setup_checkpoint, finish_checkpoint, NULL,
     {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"sync.lock", "two hold a lock, one after the other", setup_lock, finish_lock, NULL, {3, 0}, {2, 2},
     {2, 2}, NULL},
    {"sync.lock_cancel", "a hand-over meets a cancel: the lock is not lost", setup_lock_cancel,
     finish_lock_cancel, NULL, {3, 0}, {2, 1}, {2, 1}, NULL},
    {"sync.queue_cancel", "an item meets a cancel: it is not lost", setup_queue_cancel,
     finish_queue_cancel, NULL, {3, 0}, {2, 1}, {2, 1}, NULL},
    {"sync.queue_two", "two get, one of them cancelled, two items", setup_queue_two, finish_queue_two, NULL,
     {1, 0}, {1, 1}, {1, 1}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
