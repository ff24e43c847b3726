/* Chains of awaits, 100,000 long, cancelled at their head: the request walks to the end in a loop, so
 * its length costs no stack; the last wait is withdrawn, and each task ends with the code of the one
 * that it awaited. */
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/compiler.h"
#include "tests/support/pt.h"

/* ThreadSanitizer knows about 8000 contexts at most, and a task needs one. */
enum { LENGTH = PICA__TSAN ? 2000 : PICA__ASAN ? 20000 : 100000 };

struct chain {
    int length;
    int step;              /* in place: how many links share a stack before one gets its own */
    pica_task **task;      /* suspended chains: all of them */
    /* All written by tasks, read by the main task after it has joined or counted them. */
    atomic_int begun;
    atomic_int cancelled;
    atomic_int other;
    pica_future *ready;    /* completed by the last link before it waits */
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
    /* All have begun when the last has said so and the others have been counted; those that have not
     * suspended yet will find the cancellation when they do. */
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

static void run(pica_fn fn, int length, int step, bool from_thread) {
    struct shape shape = {length, step, from_thread};
    PT_EQ(pica_run(fn, &shape), 0);
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
