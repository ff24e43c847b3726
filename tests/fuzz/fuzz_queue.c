/* The queue between tasks (sync/queue.c) against a model: tasks that put, get and join, the calls that do not wait, growth
 * without memory, cancellation of who waits or was just served, and both kinds of shutdown. Runs in the simulator, on
 * one worker or several: after what starts a task the script rests until nothing runs, so that the model, which is
 * sequential, knows the order. */
#include <pica.h>
#include <pica/testing.h>

#include <errno.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "tests/fuzz/fuzz.h"

enum { WAITERS = 24, ITEMS = 600, STEPS = 300, FIRST_RING = 16 };

enum kind { PUT, GET, JOIN };

/* A task that makes one call, and what the model says of it. */
struct waiter {
    pica_task *task;
    enum kind kind;
    void *item; /* to put; or what was got */
    int rc;     /* what the call returned */
    bool returned;
    /* The model's: */
    bool waits;
    int expected; /* once it does not wait */
    void *gets;
    bool late; /* a join that was let go and then cancelled at once: either is right */
};

static struct script script;
static pica_queue queue;
static struct waiter waiter[WAITERS];
static char item[ITEMS];   /* items are pointers into it */
static unsigned items;     /* made so far */
static unsigned destroyed; /* items that shutdown has destroyed */
static bool destroying;

static struct {
    void *in[ITEMS];
    unsigned count;
    struct waiter *order[WAITERS]; /* all who wait, first come first */
    unsigned waiting;
    size_t maxsize, unfinished, ring;
    bool shut;
} model;

/* --- the model --- */

static void model_wait(struct waiter *w) {
    w->waits = true;
    model.order[model.waiting++] = w;
}

static void model_release(struct waiter *w, int rc) {
    unsigned i = 0;
    while (model.order[i] != w) {
        i++;
    }
    model.waiting--;
    memmove(&model.order[i], &model.order[i + 1], (model.waiting - i) * sizeof model.order[0]);
    w->waits = false;
    w->expected = rc;
}

static struct waiter *model_first(enum kind kind) {
    for (unsigned i = 0; i < model.waiting; i++) {
        if (model.order[i]->kind == kind) {
            return model.order[i];
        }
    }
    return NULL;
}

static void model_release_all(enum kind kind, int rc) {
    for (struct waiter *w; (w = model_first(kind)) != NULL;) {
        model_release(w, rc);
    }
}

static void *model_pop(void) {
    void *first = model.in[0];
    model.count--;
    memmove(&model.in[0], &model.in[1], model.count * sizeof model.in[0]);
    return first;
}

/* 0, PICA_ESHUTDOWN, -EAGAIN, or -ENOMEM where the ring has to grow. */
static int model_put(void *what, bool no_memory) {
    struct waiter *getter = model_first(GET);
    if (model.shut) {
        return PICA_ESHUTDOWN;
    }
    if (getter != NULL) {
        getter->gets = what;
        model_release(getter, 0);
    } else if (model.maxsize != 0 && model.count == model.maxsize) {
        return -EAGAIN;
    } else {
        if (model.count == model.ring) {
            if (no_memory) {
                return -ENOMEM;
            }
            model.ring = model.ring == 0 ? FIRST_RING : model.ring * 2;
            model.ring =
                model.maxsize != 0 && model.ring > model.maxsize ? model.maxsize : model.ring;
        }
        model.in[model.count++] = what;
    }
    model.unfinished++;
    return 0;
}

static int model_get(void **what) {
    if (model.count == 0) {
        return model.shut ? PICA_ESHUTDOWN : -EAGAIN;
    }
    *what = model_pop();
    struct waiter *putter = model_first(PUT);
    if (putter != NULL) {
        model_release(putter, 0);
        model.in[model.count++] = putter->item;
        model.unfinished++;
    }
    return 0;
}

static int model_done(size_t n) {
    if (n > model.unfinished) {
        return -ERANGE;
    }
    bool last = model.unfinished == n && n != 0;
    model.unfinished -= n;
    if (last) {
        model_release_all(JOIN, 0);
    }
    return 0;
}

/* --- both --- */

static int call(void *arg) {
    struct waiter *w = arg;
    w->rc = w->kind == PUT   ? pica_queue_put(&queue, w->item)
            : w->kind == GET ? pica_queue_get(&queue, &w->item)
                             : pica_queue_join(&queue);
    w->returned = true;
    return 0;
}

/* What was to return has, with the right result, and its place is free again. */
static void settle(void) {
    int rc = pica_sleep(1.0);
    FUZZ_EQ(rc, 0);
    for (unsigned i = 0; i < WAITERS; i++) {
        struct waiter *w = &waiter[i];
        if (w->task == NULL) {
            continue;
        }
        FUZZ_EQ(w->returned, !w->waits);
        if (!w->waits) {
            FUZZ_CHECK(w->rc == w->expected || (w->late && w->rc == PICA_ECANCELED));
            FUZZ_CHECK(w->kind != GET || w->item == w->gets);
            pica_task_unref(w->task);
            w->task = NULL;
        }
    }
    FUZZ_EQ(pica_queue_size(&queue), model.count);
}

static void *item_new(void) {
    return items < ITEMS ? &item[items++] : NULL;
}

static void start(enum kind kind) {
    unsigned i = 0;
    while (i < WAITERS && waiter[i].task != NULL) {
        i++;
    }
    void *what = kind == PUT ? item_new() : NULL;
    if (i == WAITERS || (kind == PUT && what == NULL)) {
        return;
    }
    struct waiter *w = &waiter[i];
    *w = (struct waiter){.kind = kind, .item = what};
    w->expected = kind == PUT   ? model_put(what, false)
                  : kind == GET ? model_get(&w->gets)
                                : (model.unfinished == 0 ? 0 : -EAGAIN);
    if (w->expected == -EAGAIN) {
        model_wait(w);
    }
    FUZZ_EQ(pica_create_task(&w->task, call, w), 0);
    settle();
}

static void cancel(unsigned i) {
    struct waiter *w = &waiter[i];
    if (w->task == NULL) {
        return;
    }
    (void)pica_task_cancel(w->task);
    if (w->waits) {
        model_release(w, PICA_ECANCELED);
    } else {
        w->late = w->kind == JOIN;
    }
}

static void destroy(void *what) {
    FUZZ_CHECK(destroying && destroyed < model.count && what == model.in[destroyed]);
    destroyed++;
}

static void shut_down(bool immediate) {
    destroying = immediate;
    destroyed = 0;
    pica_queue_shutdown(&queue, immediate, destroy);
    destroying = false;
    FUZZ_EQ(destroyed, immediate ? model.count : 0);
    model.shut = true;
    model_release_all(PUT, PICA_ESHUTDOWN);
    model_release_all(GET, PICA_ESHUTDOWN);
    if (immediate) {
        size_t gone = model.count < model.unfinished ? model.count : model.unfinished;
        model.count = 0;
        model.ring = 0;
        (void)model_done(gone);
        if (model.unfinished == 0) {
            model_release_all(JOIN, 0);
        }
    }
}

static void step(bool alone) {
    unsigned what = script_below(&script, 16);
    void *got = NULL, *gets = NULL;
    switch (what) {
    case 0:
    case 1:
    case 2:
        start((enum kind)what);
        break;
    case 3:
    case 4:
    case 5: {
        void *puts = item_new();
        if (puts != NULL) {
            bool no_memory = what == 5 && alone;
            pica__alloc_fail_at(no_memory ? 1 : 0);
            int rc = pica_queue_put_nowait(&queue, puts);
            pica__alloc_fail_at(0);
            FUZZ_EQ(rc, model_put(puts, no_memory));
        }
        break;
    }
    case 6:
    case 7:
        FUZZ_EQ(pica_queue_get_nowait(&queue, &got), model_get(&gets));
        FUZZ_CHECK(got == gets);
        break;
    case 8:
    case 9:
        FUZZ_EQ(pica_queue_task_done(&queue), model_done(1));
        break;
    case 10:
    case 11:
        cancel(script_below(&script, WAITERS));
        break;
    case 12:
        settle();
        break;
    case 13: /* many at once, so that the ring grows */
        for (unsigned i = script_below(&script, 64); i > 0 && (got = item_new()) != NULL; i--) {
            FUZZ_EQ(pica_queue_put_nowait(&queue, got), model_put(got, false));
        }
        break;
    case 14:
        if (script_below(&script, 4) == 0) {
            shut_down(script_below(&script, 2) == 0);
        }
        break;
    default:
        FUZZ_EQ(pica_queue_size(&queue), model.count);
        FUZZ_EQ(pica_queue_maxsize(&queue), model.maxsize);
    }
}

static int amain(void *arg) {
    const bool *alone = arg;
    for (unsigned steps = 0; !script_ended(&script) && steps < STEPS; steps++) {
        step(*alone);
    }
    settle();
    shut_down(true);
    while (model.unfinished > 0) {
        FUZZ_EQ(pica_queue_task_done(&queue), model_done(1));
    }
    settle();
    FUZZ_EQ(model.waiting, 0);
    pica_queue_destroy(&queue, NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t maxsizes[] = {0, 1, 2, 5, 20, 100};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    script = (struct script){data, size};
    fuzz_quiet();
    memset(&model, 0, sizeof model);
    memset(waiter, 0, sizeof waiter);
    items = 0;
    unsigned seed = script_below(&script, 256);
    options.workers = 1 + script_below(&script, 3);
    options.faults = -1;
    options.storm = -1;
    options.check = -1;
    bool alone = options.workers == 1;
    model.maxsize = maxsizes[script_below(&script, sizeof maxsizes / sizeof maxsizes[0])];
    pica_queue_init(&queue, model.maxsize);
    FUZZ_EQ(pica_sim_run(seed, &options, amain, &alone), 0);
    return 0;
}
