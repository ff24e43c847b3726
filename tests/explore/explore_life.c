/* Scenarios over a runtime's life: runtime.c, worker_life.c, and what of worker.c, registry.c, handle.c and thread.c
 * meets its end. One model thread controls: it makes a runtime, runs and closes it. */
#include <errno.h>

#include <pica/future.h>
#include <pica/loop.h>
#include <pica/thread.h>

#include "tests/explore/life.h"

static struct shared {
    pica_runtime *rt;
    pica_future *future;
    pica_task *child;
    int result[3];
    int started;
    int calls, drops;
    int data; /* plain: handed over by what is tried */
} * s;

/* Told by something outside: an edge that carries what the teller has seen. */
static struct told {
    ex_edge edge;
    bool is;
} runs, called;

__attribute__((no_sanitize("thread"))) static bool is_told(void *arg) {
    return ((struct told *)arg)->is;
}

__attribute__((no_sanitize("thread"))) static void tell(struct told *t) {
    ex_event(t);
    ex_give(&t->edge);
    t->is = true;
}

static void hear(struct told *t) {
    ex_wait(t, is_told, t);
    ex_take(&t->edge);
}

__attribute__((no_sanitize("thread"))) static void begin(unsigned workers, unsigned seats) {
    ex_life(workers, seats);
    s = ex_alloc(sizeof *s);
    ex_edge_init(&runs.edge);
    ex_edge_init(&called.edge);
    runs.is = called.is = false;
}

static void make(void) {
    EX_CHECK(pica_runtime_new(&s->rt, NULL) == 0);
    tell(&runs);
}

static void finish(void) {
    ex_life_over(s->rt);
}

/* --- run and stop --- */

static void runs_forever(void *arg) {
    (void)arg;
    make();
    EX_CHECK(pica_run_forever(s->rt) == 0);
    EX_CHECK(pica_close(s->rt) == 0);
}

static void stopper(void *arg) {
    (void)arg;
    hear(&runs);
    pica_stop(s->rt);
}

static void setup_stop(void) {
    begin(1, 0);
    ex_thread("control", runs_forever, NULL, false);
    ex_thread("stopper", stopper, NULL, false);
}

static void setup_stop_two(void) {
    begin(2, 0);
    ex_thread("control", runs_forever, NULL, false);
    ex_thread("stopper", stopper, NULL, false);
}

/* --- a worker that cannot start --- */

static void cannot_start(void *arg) {
    (void)arg;
    EX_CHECK(pica_runtime_new(&s->rt, NULL) == -EMFILE);
}

static void setup_refused(void) {
    begin(2, 0);
    ex_life_refuse(-EMFILE);
    ex_thread("control", cannot_start, NULL, false);
}

static void finish_refused(void) {
    EX_CHECK(s->rt == NULL);
    ex_life_over(NULL);
}

/* --- a main task that somebody outside lets end: at once the runtime is closed --- */

static int awaits_future(void *arg) {
    (void)arg;
    void *value = NULL;
    s->started++;
    int rc = pica_await(s->future, &value);
    EX_CHECK(rc < 0 || *(int *)value == 1);
    return rc < 0 ? rc : 5;
}

static void runs_main(void *arg) {
    make();
    s->result[0] = pica_run_until_complete(s->rt, *(pica_fn *)arg, NULL);
    EX_CHECK(pica_close(s->rt) == 0);
}

static void completer(void *arg) {
    (void)arg;
    hear(&runs);
    s->data = 1;
    (void)pica_future_set_result(s->future, &s->data, NULL);
}

static void begin_main(unsigned workers, unsigned seats, const pica_fn *fn) {
    begin(workers, seats);
    EX_CHECK(pica_future_new(&s->future) == 0);
    ex_thread("control", runs_main, (void *)(uintptr_t)fn, false);
}

static const pica_fn awaits_future_fn = awaits_future;

static void setup_future(void) {
    begin_main(1, 1, &awaits_future_fn);
    ex_thread("completer", completer, NULL, false);
}

static void setup_future_two(void) {
    begin_main(2, 1, &awaits_future_fn);
    ex_thread("completer", completer, NULL, false);
}

static void finish_future(void) {
    EX_CHECK(s->result[0] == 5 && s->started == 1);
    finish();
}

/* --- a task that never ends by itself, and handles that are still armed --- */

static int for_ever(void *arg) {
    (void)arg;
    s->started++;
    s->result[1] = pica_await(s->future, NULL);
    return s->result[1];
}

static void counts_call(void *arg) {
    (void)arg;
    s->calls++;
}

static int ends_at_once(void *arg) {
    (void)arg;
    return 0;
}

/* One that must be told, or one that may end while it is about to be. */
static int leaves_child(void *arg) {
    (void)arg;
    pica_fn fn = ex_choose(2) == 0 ? for_ever : ends_at_once;
    return pica_create_task(NULL, fn, NULL) == 0 ? 5 : -EIO;
}

static const pica_fn leaves_child_fn = leaves_child;

static void setup_tasks(void) {
    begin_main(1, 2, &leaves_child_fn);
}

/* It was told, or never began; either way it has gone. */
static void finish_tasks(void) {
    EX_CHECK(s->result[0] == 5);
    EX_CHECK(s->result[1] == (s->started == 1 ? PICA_ECANCELED : 0));
    finish();
}

static int leaves_calls(void *arg) {
    (void)arg;
    EX_CHECK(pica_call_later(1, counts_call, NULL, NULL) == 0);
    EX_CHECK(pica_call_soon(counts_call, NULL, NULL) == 0);
    return 5;
}

static const pica_fn leaves_calls_fn = leaves_calls;

static void setup_calls(void) {
    begin_main(1, 1, &leaves_calls_fn);
}

/* The one that was soon may have been called; the other one cannot, as no time passes. */
static void finish_calls(void) {
    EX_CHECK(s->result[0] == 5 && s->calls <= 1);
    finish();
}

/* --- a thread calls into the loop, and what it calls lets the runtime end --- */

static void completes(void *arg) {
    (void)arg;
    s->data = 1;
    (void)pica_future_set_result(s->future, &s->data, NULL);
}

static void caller(void *arg) {
    (void)arg;
    hear(&runs);
    EX_CHECK(pica_call_soon_threadsafe(pica_runtime_loop(s->rt, 0), completes, NULL, NULL) == 0);
}

static void setup_call(void) {
    begin_main(1, 1, &awaits_future_fn);
    ex_thread("caller", caller, NULL, false);
}

static void setup_call_two(void) {
    begin_main(2, 1, &awaits_future_fn);
    ex_thread("caller", caller, NULL, false);
}

/* --- a thread cancels its call while the loop comes to it --- */

static void writes_data(void *arg) {
    (void)arg;
    tell(&called);
    s->calls++;
}

static void handle_canceller(void *arg) {
    (void)arg;
    pica_handle *handle;
    hear(&runs);
    pica_loop *loop = pica_runtime_loop(s->rt, 0);
    EX_CHECK(pica_call_soon_threadsafe(loop, writes_data, NULL, &handle) == 0);
    if (ex_choose(2) == 1) {
        hear(&called);
    }
    s->result[1] = pica_handle_cancel(handle);
    pica_handle_unref(handle);
    EX_CHECK(s->result[1] != 0 || s->calls == 1); /* it has run: what it did is seen */
    EX_CHECK(pica_call_soon_threadsafe(loop, completes, NULL, NULL) == 0);
}

static void setup_handle(void) {
    begin_main(1, 1, &awaits_future_fn);
    ex_thread("canceller", handle_canceller, NULL, false);
}

static void finish_handle(void) {
    EX_CHECK(s->calls == (s->result[1] == 1 ? 0 : 1));
    finish_future();
}

/* --- a thread runs a coroutine, which lets the runtime end, and keeps its handle beyond --- */

static int completes_task(void *arg) {
    completes(arg);
    return 6;
}

static void submitter(void *arg) {
    (void)arg;
    pica_thread_future *f;
    hear(&runs);
    EX_CHECK(pica_run_coroutine_threadsafe(s->rt, completes_task, NULL, &f) == 0);
    EX_CHECK(pica_thread_future_wait(f, PICA_FOREVER) == 1);
    s->result[1] = pica_thread_future_result(f, NULL);
    pica_thread_future_free(f);
}

static void setup_coroutine(void) {
    begin_main(1, 2, &awaits_future_fn);
    ex_thread("submitter", submitter, NULL, false);
}

static void finish_coroutine(void) {
    EX_CHECK(s->result[0] == 5 && s->result[1] == 6);
    finish();
}

/* --- a reference to a task is let go of while the runtime ends --- */

static int hands_out_child(void *arg) {
    (void)arg;
    EX_CHECK(pica_create_task(&s->child, for_ever, NULL) == 0);
    tell(&called);
    return 5;
}

static const pica_fn hands_out_child_fn = hands_out_child;

static void holder(void *arg) {
    (void)arg;
    hear(&called);
    (void)pica_task_cancel(s->child);
    pica_task_unref(s->child);
}

static void setup_reference(void) {
    begin_main(1, 2, &hands_out_child_fn);
    ex_thread("holder", holder, NULL, false);
}

static void finish_reference(void) {
    EX_CHECK(s->result[0] == 5 && ex_is_freed(s->child));
    finish();
}

const struct ex_scenario ex_scenarios[] = {
    {"life.stop", "run, and a stop from another thread, before or during it", setup_stop, finish,
     NULL, {2, 0}, {1, 1}, {1, 1}, NULL},
    {"life.stop_two", "the same with two workers", setup_stop_two, finish, NULL, {0, 0}, {0, 1},
     {0, 1}, NULL},
    {"life.refused", "one of two workers cannot start", setup_refused, finish_refused, NULL, {1, 0},
     {1, 1}, {1, 1}, NULL},
    {"life.future", "a thread completes what is awaited, and is still at it at the end",
     setup_future, finish_future, NULL, {1, 0}, {1, 1}, {1, 1}, NULL},
    {"life.future_two", "the same with two workers", setup_future_two, finish_future, NULL, {0, 0},
     {0, 1}, {0, 0}, NULL},
    {"life.tasks", "the end cancels a task that waits, or has not begun", setup_tasks, finish_tasks,
     NULL, {1, 0}, {1, 1}, {1, 1}, NULL},
    {"life.calls", "the end drops a timer and a call", setup_calls, finish_calls, NULL, {1, 0},
     {1, 1}, {1, 1}, NULL},
    {"life.call", "a thread's call into the loop lets the runtime end", setup_call, finish_future,
     NULL, {1, 0}, {1, 1}, {1, 1}, NULL},
    {"life.call_two", "the same with two workers", setup_call_two, finish_future, NULL, {0, 0},
     {0, 0}, {0, 0}, NULL},
    {"life.handle", "a thread's call is cancelled while the loop comes to it", setup_handle,
     finish_handle, NULL, {1, 0}, {1, 1}, {1, 0}, NULL},
    {"life.coroutine", "a thread's coroutine lets the runtime end; its handle outlives that",
     setup_coroutine, finish_coroutine, NULL, {1, 0}, {0, 1}, {1, 0}, NULL},
    {"life.reference", "a task is cancelled and let go of while the runtime ends", setup_reference,
     finish_reference, NULL, {1, 0}, {0, 1}, {0, 1}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
