/* Chains of awaits, 100,000 long (or as long as guards allow), cancelled at their head: the request walks to the end in a loop,
 * so its length costs no stack; the last wait is withdrawn, and each task ends with the code of the
 * one that it awaited. */
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/compiler.h"
#include "tests/support/log_lines.h"
#include "tests/support/pt.h"
#include "tests/support/stacks.h"

/* ThreadSanitizer knows about 8000 contexts at most, and a task needs one. */
enum { LENGTH = PICA__TSAN ? 2000 : PICA__ASAN ? 20000 : 100000 };

struct chain {
    int length;
    int step;         /* in place: how many links share a stack before one gets its own */
    pica_task **task; /* suspended chains: all of them */
    /* All written by tasks, read by the main task after it has joined or counted them. */
    atomic_int begun;
    atomic_int cancelled;
    atomic_int other;
    pica_future *ready; /* completed by the last link before it waits */
    pica_event never;
};

struct link {
    struct chain *chain;
    int index;
};

static int last_link(struct chain *c) {
    PT_EQ(pica_future_set_result(c->ready, NULL, NULL), 0);
    return c->length % 2 == 0 ? pica_event_wait(&c->never) : pica_sleep(1e6);
}

static int note(struct chain *c, int rc) {
    atomic_fetch_add(rc == PICA_ECANCELED ? &c->cancelled : &c->other, 1);
    return rc;
}

/* --- a link creates the next one and awaits it --- */

static int building_link(void *arg) {
    struct link *l = arg;
    struct chain *c = l->chain;
    int index = l->index;
    atomic_fetch_add(&c->begun, 1);
    if (index == c->length - 1) {
        return note(c, last_link(c));
    }
    struct link next = {c, index + 1};
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    /* A pinned task is never run in place, nor is anything on its stack free to move. */
    options.pinned = c->step != 0 && index % c->step == c->step - 1;
    pica_task *task = NULL;
    int rc = pica_create_task_opts(&task, building_link, &next, &options);
    PT_REQUIRE(rc == 0);
    return note(c, pica_join(task, NULL));
}

/* --- a link awaits the one made before it, which has suspended --- */

static int waiting_link(void *arg) {
    struct link *l = arg;
    struct chain *c = l->chain;
    atomic_fetch_add(&c->begun, 1);
    if (l->index == c->length - 1) {
        return note(c, last_link(c));
    }
    return note(c, pica_await(PICA_FUTURE(c->task[l->index + 1]), NULL));
}

static void chain_init(struct chain *c, int length, int step) {
    memset(c, 0, sizeof *c);
    c->length = length;
    c->step = step;
    PT_REQUIRE(pica_future_new(&c->ready) == 0);
}

static void chain_check(struct chain *c) {
    PT_EQ(atomic_load(&c->begun), c->length);
    PT_EQ(atomic_load(&c->cancelled), c->length);
    PT_EQ(atomic_load(&c->other), 0);
    pica_future_unref(c->ready);
    PT_EQ(pica_wait_all_tasks(0), 0);
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
    PT_EQ(stats.tasks_alive, 1);
}

static void *cancel_from_thread(void *arg) {
    PT_EQ(pica_task_cancel(arg), 1);
    return NULL;
}

static void cancel_head(pica_task *head, bool from_thread) {
    if (!from_thread) {
        PT_EQ(pica_task_cancel(head), 1);
        return;
    }
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, cancel_from_thread, head) == 0);
    pthread_join(thread, NULL);
}

struct shape {
    int length;
    int step;
    bool from_thread;
};

static int building_main(void *arg) {
    const struct shape *s = arg;
    struct chain c;
    chain_init(&c, s->length, s->step);
    struct link first = {&c, 0};
    pica_task *head = NULL;
    PT_REQUIRE(pica_create_task(&head, building_link, &first) == 0);
    /* The head must not run in place of the main task, which would be cancelled with it. */
    PT_EQ(pica_shield(c.ready, NULL), 0);
    cancel_head(head, s->from_thread);
    PT_EQ(pica_join(head, NULL), PICA_ECANCELED);
    chain_check(&c);
    return 0;
}

static int waiting_main(void *arg) {
    const struct shape *s = arg;
    struct chain c;
    chain_init(&c, s->length, s->step);
    c.task = calloc((size_t)s->length, sizeof c.task[0]);
    struct link *link = calloc((size_t)s->length, sizeof link[0]);
    PT_REQUIRE(c.task != NULL && link != NULL);
    for (int i = s->length - 1; i >= 0; i--) {
        link[i] = (struct link){&c, i};
        PT_REQUIRE(pica_create_task(&c.task[i], waiting_link, &link[i]) == 0);
        if (i % 64 == 0) {
            PT_EQ(pica_yield(), 0);
        }
    }
    /* All have begun when the last has said so and the others have been counted; those that have
     * not suspended yet will find the cancellation when they do. */
    PT_EQ(pica_await(c.ready, NULL), 0);
    while (atomic_load(&c.begun) < s->length) {
        PT_EQ(pica_yield(), 0);
    }
    cancel_head(c.task[0], s->from_thread);
    for (int i = 0; i < s->length; i++) {
        PT_EQ(pica_join(c.task[i], NULL), PICA_ECANCELED);
    }
    chain_check(&c);
    free(link);
    free(c.task);
    return 0;
}

/* The runtime says at its end if somebody still refers to tasks. */
static void log_line(void *ctx, int level, const char *text) {
    (void)ctx;
    if (level <= PICA_LOG_WARN && !log_line_of_engine(text)) {
        PT_FAIL("logged: %s", text);
    }
}

static void run_quietly(pica_fn fn, void *arg) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.log = log_line;
    PT_EQ(pica_run_opts(fn, arg, &options), 0);
}

static void run(pica_fn fn, int length, int step, bool from_thread) {
    struct shape shape = {(int)stacks_at_most((size_t)length), step, from_thread};
    run_quietly(fn, &shape);
}

/* --- a cancellation that comes when the awaited task has ended, but is not done yet --- */

struct late {
    /* Set by the child's worker once the task cannot be cancelled any more; read by the parent. */
    atomic_bool ended;
    /* Set by the parent's loop, which runs when the parent has suspended; read by the child's. */
    atomic_bool suspended;
};

static int ending_child(void *arg) {
    (void)arg;
    return 7;
}

/* Between the end of the child and the completion of its future. */
static void linger(void *arg) {
    struct late *late = arg;
    const struct timespec pause = {0, 1000000};
    atomic_store(&late->ended, true);
    while (!atomic_load(&late->suspended)) {
        nanosleep(&pause, NULL);
    }
}

static void parent_suspended(void *arg) {
    struct late *late = arg;
    atomic_store(&late->suspended, true);
}

static int late_main(void *arg) {
    struct late late = {false, false};
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_runtime *rt = pica_current_runtime();
    pica_task *child = NULL;
    (void)arg;
    if (pica_runtime_workers(rt) == 1) {
        return 0; /* the parent cannot run meanwhile */
    }
    options.loop = pica_runtime_loop(rt, 1);
    options.pinned = 1;
    options.arg_destroy = linger;
    PT_REQUIRE(pica_create_task_opts(&child, ending_child, &late, &options) == 0);
    while (!atomic_load(&late.ended)) {
        PT_EQ(pica_yield(), 0);
    }
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_call_soon(parent_suspended, &late, NULL), 0);
    /* Nothing was there to be cancelled, so the cancellation is the parent's; but the await ends
     * only when the child has. */
    PT_EQ(pica_await(PICA_FUTURE(child), NULL), PICA_ECANCELED);
    PT_EQ(pica_future_done(PICA_FUTURE(child)), 1);
    PT_EQ(pica_join(child, NULL), 7);
    return 0;
}

static int late_pinned_main(void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task = NULL;
    options.loop = pica_runtime_loop(pica_current_runtime(), 0);
    options.pinned = 1; /* away from the worker that lingers */
    PT_REQUIRE(pica_create_task_opts(&task, late_main, arg, &options) == 0);
    return pica_join(task, NULL);
}

PT_TEST_TIMEOUT(cancelled_while_the_awaited_ends, 60) {
    for (int i = 0; i < 5; i++) {
        run_quietly(late_pinned_main, NULL);
    }
}

PT_TEST_TIMEOUT(in_place, 60) {
    run(building_main, LENGTH, 0, false);
}

PT_TEST_TIMEOUT(in_place_with_pinned_links, 60) {
    run(building_main, LENGTH + 1, 3, false);
}

PT_TEST_TIMEOUT(in_place_from_a_thread, 60) {
    run(building_main, LENGTH, 50, true);
}

PT_TEST_TIMEOUT(suspended, 60) {
    run(waiting_main, LENGTH, 0, false);
}

PT_TEST_TIMEOUT(suspended_from_a_thread, 60) {
    run(waiting_main, LENGTH + 1, 0, true);
}

PT_MAIN()
