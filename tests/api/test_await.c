/* pica_await, pica_shield, pica_join: what they return and what they pass on, whether the awaited task
 * runs in place, was suspended, or has ended. */
#include <pica.h>

#include <pthread.h>

#include "tests/support/tasks.h"

enum { MANY = 30 };

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static void *code_of(int n) {
    return (void *)(intptr_t)n;
}

static int waits(void *arg) {
    return pica_await(arg, NULL);
}

PT_TEST(outside_a_task) {
    pica_future *f = new_future();
    void *value = NULL;
    PT_EQ(pica_await(f, &value), PICA_ENOTASK);
    PT_EQ(pica_shield(f, &value), PICA_ENOTASK);
    signal_future(f);
    PT_EQ(pica_await(f, &value), PICA_ENOTASK);
    PT_EQ(pica_shield(f, &value), PICA_ENOTASK);
    pica_future_unref(f);
}

/* --- results --- */

TASK_TEST(future_results) {
    (void)arg;
    struct value v = {0};
    for (int round = 0; round < 2; round++) { /* shield gives what await gives */
        int (*wait)(pica_future *, void **) = round == 0 ? pica_await : pica_shield;
        void *value = &round;
        pica_future *f = new_future();
        PT_EQ(pica_future_set_result(f, &v, value_destroy), 0);
        for (int i = 0; i < 3; i++) {
            PT_EQ(wait(f, &value), 0);
            PT_CHECK(value == &v); /* borrowed: each looker sees it */
        }
        PT_EQ(wait(f, NULL), 0);
        pica_future_unref(f);
        PT_EQ(v.destroyed, round + 1);
        f = new_future();
        PT_EQ(pica_future_set_exception(f, -EIO, NULL), 0);
        PT_EQ(wait(f, &value), -EIO);
        PT_EQ(wait(f, &value), -EIO);
        pica_future_unref(f);
        f = new_future();
        PT_EQ(pica_future_cancel(f), 1);
        PT_EQ(wait(f, &value), PICA_ECANCELED);
        PT_EQ(pica_task_cancelling(pica_current_task()), 0);
        pica_future_unref(f);
    }
    return 0;
}

/* An await of what is done does not suspend. */
FIFO_TEST(done_does_not_suspend) {
    (void)arg;
    pica_future *f = new_future();
    signal_future(f);
    pica_task *task = spawn(code, code_of(4));
    PT_EQ(pica_await(f, NULL), 0);
    PT_EQ(pica_shield(f, NULL), 0);
    PT_EQ(pica_wait_for(f, 1, NULL), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    PT_EQ(pica_join(task, NULL), 4);
    pica_future_unref(f);
    return 0;
}

static void *completes_main(void *arg) {
    signal_future(arg);
    return NULL;
}

TASK_TEST(completed_by_a_thread) {
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        pica_future *f = new_future();
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, completes_main, f) == 0);
        PT_EQ(pica_await(f, NULL), 0);
        pica_future_unref(f); /* while the completer may still be inside */
        pthread_join(thread, NULL);
    }
    return 0;
}

struct waiter {
    pica_future *future;
    struct trace *trace;
    char name[4];
    void *value;
};

static int notes(void *arg) {
    struct waiter *w = arg;
    int rc = pica_await(w->future, &w->value);
    if (w->trace != NULL) {
        trace_add(w->trace, w->name);
    }
    return rc;
}

TASK_TEST(many_waiters) {
    (void)arg;
    struct value v = {0};
    struct waiter w[MANY];
    pica_task *task[MANY];
    pica_future *f = new_future();
    for (int i = 0; i < MANY; i++) {
        w[i] = (struct waiter){f, NULL, "", NULL};
        task[i] = spawn(notes, &w[i]);
    }
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_future_set_result(f, &v, value_destroy), 0);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
        PT_CHECK(w[i].value == &v);
    }
    pica_future_unref(f);
    PT_EQ(v.destroyed, 1);
    return 0;
}

FIFO_TEST(woken_in_order) {
    (void)arg;
    struct trace trace = {"", 0};
    struct waiter w[5];
    pica_future *f = new_future();
    pica_task *task[5];
    for (int i = 0; i < 5; i++) {
        w[i] = (struct waiter){f, &trace, {(char)('a' + i)}, NULL};
        task[i] = spawn(notes, &w[i]);
    }
    turn();
    signal_future(f);
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    PT_STR_EQ(trace.text, "a b c d e");
    pica_future_unref(f);
    return 0;
}

/* Several tasks await one task, which has begun, not begun, or ended. */
TASK_TEST(many_await_a_task) {
    (void)arg;
    for (int when = 0; when < 3; when++) {
        pica_future *go = new_future();
        pica_task *target = spawn(waits, go);
        if (when > 0) {
            PT_EQ(pica_yield(), 0);
        }
        if (when > 1) {
            PT_EQ(pica_future_set_exception(go, -EPIPE, NULL), 0);
            PT_EQ(pica_await(PICA_FUTURE(target), NULL), -EPIPE);
        }
        pica_task *task[MANY];
        for (int i = 0; i < MANY; i++) {
            task[i] = spawn(waits, PICA_FUTURE(target));
        }
        PT_EQ(pica_yield(), 0);
        if (when <= 1) {
            PT_EQ(pica_future_set_exception(go, -EPIPE, NULL), 0);
        }
        for (int i = 0; i < MANY; i++) {
            PT_EQ(pica_join(task[i], NULL), -EPIPE);
        }
        pica_task_unref(target);
        pica_future_unref(go);
    }
    return 0;
}

static int awaits_itself(void *arg) {
    (void)arg;
    pica_task *self = pica_current_task();
    pica_future *f = PICA_FUTURE(self);
    PT_EQ(pica_await(f, NULL), -EDEADLK);
    PT_EQ(pica_shield(f, NULL), -EDEADLK);
    PT_EQ(pica_wait_for(f, 1e3, NULL), -EDEADLK);
    PT_EQ(pica_join(self, NULL), -EDEADLK);
    PT_EQ(pica_yield(), 0);
    return 8;
}

TASK_TEST(itself) {
    (void)arg;
    PT_EQ(pica_join(spawn(awaits_itself, NULL), NULL), 8);
    return 0;
}

/* --- in place and not --- */

static int yields_then(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : code(arg);
}

TASK_TEST(every_kind_of_task) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    for (int i = 0; i < 48; i++) {
        struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
        options.pinned = i & 1;
        options.stack_size = i & 2 ? 128 * 1024 : 0;
        options.loop =
            i & 4 ? pica_runtime_loop(rt, (unsigned)i % pica_runtime_workers(rt)) : NULL;
        pica_fn fn = i & 8 ? yields_then : code;
        pica_task *task = NULL;
        PT_EQ(pica_create_task_opts(&task, fn, code_of(i), &options), 0);
        if (i & 16) {
            PT_EQ(pica_yield(), 0);
        }
        PT_EQ(i & 32 ? pica_wait_for(PICA_FUTURE(task), 1e3, NULL)
                     : pica_shield(PICA_FUTURE(task), NULL),
              i);
        PT_EQ(pica_join(task, NULL), i);
    }
    return 0;
}

static int fibonacci(void *arg) {
    intptr_t n = (intptr_t)arg;
    if (n < 2) {
        return (int)n;
    }
    pica_task *a = spawn(fibonacci, (void *)(n - 1));
    pica_task *b = spawn(fibonacci, (void *)(n - 2));
    int x = pica_join(a, NULL);
    int y = pica_join(b, NULL);
    return x < 0 || y < 0 ? -EIO : x + y;
}

TASK_TEST(tree) {
    (void)arg;
    PT_EQ(pica_join(spawn(fibonacci, code_of(13)), NULL), 233);
    return 0;
}

/* Deeper than any stack: an awaited task runs in place only while there is room. */
struct level {
    int depth;
    bool suspend;
};

static int descends(void *arg) {
    struct level *l = arg;
    if (l->depth == 0) {
        return l->suspend ? pica_yield() : 0;
    }
    struct level next = {l->depth - 1, l->suspend};
    volatile char frame[512];
    frame[0] = 1;
    int rc = pica_join(spawn(descends, &next), NULL);
    return rc < 0 ? rc : rc + frame[0];
}

TASK_TEST(deep) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct level l = {2000, i == 1};
        PT_EQ(pica_join(spawn(descends, &l), NULL), 2000);
    }
    return 0;
}

/* What runs in place may suspend and go on elsewhere, with its awaiter below it on one stack. */
static int suspends_often(void *arg) {
    pica_task *self = pica_current_task();
    int local[8];
    for (int i = 0; i < 8; i++) {
        local[i] = i;
        PT_EQ(i % 4 == 3 ? pica_sleep(1e-5) : pica_yield(), 0);
        PT_CHECK(pica_current_task() == self);
    }
    for (int i = 0; i < 8; i++) {
        PT_EQ(local[i], i);
    }
    return code(arg);
}

static int awaits_often(void *arg) {
    int sum = 0;
    for (int i = 0; i < 10; i++) {
        sum += pica_join(spawn(suspends_often, arg), NULL);
    }
    return sum;
}

TASK_TEST(in_place_suspends) {
    (void)arg;
    pica_task *task[MANY];
    for (int i = 0; i < MANY; i++) {
        task[i] = spawn(awaits_often, code_of(i));
    }
    for (int i = MANY - 1; i >= 0; i--) {
        PT_EQ(pica_join(task[i], NULL), 10 * i);
    }
    return 0;
}

/* --- no stack for what is awaited --- */

__attribute__((noinline)) static int awaits_with_little_room(pica_task *task) {
    volatile char block[160 * 1024]; /* more than half of a stack */
    for (size_t i = 0; i < sizeof block; i += 4096) {
        block[i] = 1;
    }
    __asm__ volatile("" : : "r"(block) : "memory"); /* or a compiler keeps only what is touched */
    return pica_await(PICA_FUTURE(task), NULL) + block[4096] - 1;
}

static int one_stack(void *arg) {
    (void)arg;
    pica_task *task = spawn(code, code_of(6));
    PT_EQ(awaits_with_little_room(task), -ENOMEM);
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0); /* nothing was consumed */
    PT_EQ(pica_join(task, NULL), 6);               /* here there is room */
    return 0;
}

PT_TEST(no_stack_to_be_had) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    options.max_stacks = 1;
    options.stack_size = 256 * 1024;
    PT_EQ(pica_run_opts(one_stack, NULL, &options), 0);
}

/* --- what a cancellation reaches --- */

static int forever(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

struct chain {
    int depth;
    bool suspended_first; /* the next link has begun before it is awaited */
    bool pinned;
    int ignores;          /* the link that swallows the cancellation; -1: none */
    pica_future *begun[8];
    pica_future *ready[8]; /* told when only the wait is left to be done */
    int count[8];
    int rc[8];
};

struct chain_link {
    struct chain *chain;
    int index;
};

static int chain_link_main(void *arg) {
    struct chain_link *l = arg;
    struct chain *c = l->chain;
    int rc;
    signal_future(c->begun[l->index]);
    if (l->index == c->depth - 1) {
        signal_future(c->ready[l->index]);
        rc = forever(NULL);
    } else {
        struct chain_link next = {c, l->index + 1};
        pica_task *task = c->pinned ? spawn_pinned((unsigned)l->index, chain_link_main, &next)
                                    : spawn(chain_link_main, &next);
        if (c->suspended_first) {
            PT_EQ(pica_shield(c->begun[l->index + 1], NULL), 0);
        }
        signal_future(c->ready[l->index]);
        rc = pica_join(task, NULL);
    }
    PT_EQ(pica_checkpoint(), 0);
    c->count[l->index] = pica_task_cancelling(pica_current_task());
    c->rc[l->index] = rc;
    return l->index == c->ignores ? 5 : rc;
}

static void run_chain(struct chain *c) {
    for (int i = 0; i < c->depth; i++) {
        c->begun[i] = new_future();
        c->ready[i] = new_future();
    }
    struct chain_link first = {c, 0};
    pica_task *head = spawn(chain_link_main, &first);
    for (int i = 0; i < c->depth; i++) {
        PT_EQ(pica_shield(c->ready[i], NULL), 0);
    }
    PT_EQ(pica_task_cancel(head), 1);
    PT_EQ(pica_join(head, NULL), c->ignores >= 0 ? 5 : PICA_ECANCELED);
    for (int i = 0; i < c->depth; i++) {
        PT_EQ(c->count[i], 1); /* each was asked, by the one that awaits it */
        PT_EQ(c->rc[i], c->ignores > i ? 5 : PICA_ECANCELED);
        pica_future_unref(c->begun[i]);
        pica_future_unref(c->ready[i]);
    }
}

/* Each passes it on to the next and waits for its end; if one swallows it, those above have nothing to
 * notice. */
TASK_TEST(cancel_goes_down_the_chain) {
    (void)arg;
    for (int depth = 1; depth <= 6; depth += depth == 1 ? 1 : 4) {
        for (int ignores = -1; ignores < depth; ignores++) {
            for (int kind = 0; kind < 4; kind++) {
                struct chain c = {.depth = depth,
                                  .suspended_first = (kind & 1) != 0,
                                  .pinned = (kind & 2) != 0,
                                  .ignores = ignores};
                run_chain(&c);
            }
        }
    }
    return 0;
}

/* The await returns only when the awaited task has ended, however long that takes. */
struct slow {
    pica_future *begun, *cancelled, *go;
    bool ended;
};

static int ends_slowly(void *arg) {
    struct slow *s = arg;
    signal_future(s->begun);
    PT_EQ(forever(NULL), PICA_ECANCELED);
    signal_future(s->cancelled);
    PT_EQ(pica_await(s->go, NULL), 0);
    s->ended = true;
    return PICA_ECANCELED;
}

static int awaits_slow(void *arg) {
    struct slow *s = arg;
    int rc = pica_join(spawn(ends_slowly, s), NULL);
    PT_CHECK(s->ended);
    return rc;
}

TASK_TEST(waits_for_the_end) {
    (void)arg;
    struct slow s = {new_future(), new_future(), new_future(), false};
    pica_task *task = spawn(awaits_slow, &s);
    PT_EQ(pica_shield(s.begun, NULL), 0);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_shield(s.cancelled, NULL), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 0);
    signal_future(s.go);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    pica_future_unref(s.begun);
    pica_future_unref(s.cancelled);
    pica_future_unref(s.go);
    return 0;
}

/* A shield breaks the link, in one direction. */
struct shielded {
    pica_future *begun;
    pica_task *inner;
    int rc;
};

static int shields(void *arg) {
    struct shielded *s = arg;
    signal_future(s->begun);
    s->rc = pica_shield(PICA_FUTURE(s->inner), NULL);
    return s->rc;
}

TASK_TEST(shield_from_above) {
    (void)arg;
    pica_future *go = new_future();
    struct shielded s = {new_future(), spawn(waits, go), 1};
    pica_task *outer = spawn(shields, &s);
    PT_EQ(pica_shield(s.begun, NULL), 0);
    PT_EQ(pica_task_cancel(outer), 1);
    PT_EQ(pica_join(outer, NULL), PICA_ECANCELED);
    PT_EQ(pica_future_done(PICA_FUTURE(s.inner)), 0);
    PT_EQ(pica_task_cancelling(s.inner), 0);
    signal_future(go);
    PT_EQ(pica_join(s.inner, NULL), 0);
    pica_future_unref(go);
    pica_future_unref(s.begun);
    return 0;
}

TASK_TEST(shield_from_below) {
    (void)arg;
    pica_future *go = new_future();
    struct shielded s = {new_future(), spawn(waits, go), 1};
    pica_task *outer = spawn(shields, &s);
    PT_EQ(pica_shield(s.begun, NULL), 0);
    PT_EQ(pica_task_cancel(s.inner), 1);
    PT_EQ(pica_await(PICA_FUTURE(outer), NULL), PICA_ECANCELED);
    PT_EQ(pica_task_cancelling(outer), 0);
    pica_task_unref(outer);
    PT_EQ(pica_join(s.inner, NULL), PICA_ECANCELED);
    pica_future_unref(go);
    pica_future_unref(s.begun);
    return 0;
}

/* --- across runtimes --- */

struct across {
    pica_future *there; /* completed by the other runtime */
    pica_future *back;  /* completed by this one */
    pica_task *task;    /* written before there is completed */
};

static int other_main(void *arg) {
    struct across *a = arg;
    pica_task *task = spawn(waits, a->back);
    a->task = pica_task_ref(task);
    signal_future(a->there);
    int rc = pica_join(task, NULL);
    return rc < 0 ? rc : 1;
}

static void *other_thread(void *arg) {
    PT_EQ(pica_run(other_main, arg), 1);
    return NULL;
}

/* Futures belong to no runtime; a task may be awaited from another one. */
TASK_TEST(of_another_runtime) {
    (void)arg;
    for (int i = 0; i < 5; i++) {
        struct across a = {.there = new_future(), .back = new_future()};
        pthread_t thread;
        PT_REQUIRE(pthread_create(&thread, NULL, other_thread, &a) == 0);
        PT_EQ(pica_await(a.there, NULL), 0);
        pica_task *task = a.task;
        if (i % 2 == 0) {
            signal_future(a.back);
            PT_EQ(pica_await(PICA_FUTURE(task), NULL), 0);
        } else {
            pica_task *here = spawn(waits, PICA_FUTURE(task));
            PT_EQ(pica_yield(), 0);
            signal_future(a.back);
            PT_EQ(pica_join(here, NULL), 0);
        }
        pica_task_unref(task);
        pthread_join(thread, NULL);
        pica_future_unref(a.there);
        pica_future_unref(a.back);
    }
    return 0;
}

PT_MAIN()
