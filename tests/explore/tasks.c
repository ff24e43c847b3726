/* See tasks.h. This file is not instrumented: it is part of the model. */
#include "tests/explore/tasks.h"

#include <string.h>

#include "runtime/run.h"
#include "runtime/worker.h"
#include "tests/explore/model.h"

enum { TASKS = 4, WORKERS = 24, STACK_BELOW = 64 * 1024 };

struct model_task {
    pica_task *task;
    void (*body)(void *arg);
    void *arg;
    unsigned thread;
    /* A suspension. */
    bool at_home; /* its commits run on the home loop's worker */
    bool left;    /* has left its worker */
    bool ready;
    ex_edge edge; /* from who made it ready to who resumes it */
    pica__commit_fn commit;
    void *commit_arg;
    pica__worker *worker;
};

static struct {
    pica_runtime rt;
    pica_loop loop; /* the home of all */
    pica_loop away; /* of the workers on which tasks run */
    pica__worker worker[WORKERS]; /* a new one for each segment of a task */
    pica__fiber fiber[WORKERS];
    unsigned workers;
    struct model_task task[TASKS];
    unsigned tasks;
} model;

static pica__worker *worker_new(pica_task *current) {
    if (model.workers == WORKERS) {
        ex_fail("too many suspensions");
    }
    unsigned i = model.workers++;
    pica__worker *w = &model.worker[i];
    memset(w, 0, offsetof(pica__worker, deque));
    w->rt = &model.rt;
    w->loop = &model.away;
    w->current = current;
    w->budget = 8;
    w->fiber = &model.fiber[i];
    w->fiber->stack.lo = (char *)__builtin_frame_address(0) - STACK_BELOW; /* room for one in place */
    w->fiber->stack.hi = w->fiber->stack.lo + STACK_BELOW + 1024;
    w->alone = true;
    return w;
}

static pica_runtime *runtime_new(bool counts) {
    memset(&model.rt, 0, sizeof model.rt);
    memset(&model.loop, 0, sizeof model.loop);
    memset(&model.away, 0, sizeof model.away);
    model.workers = 0;
    model.tasks = 0;
    model.rt.workers = 1;
    model.rt.loop = &model.loop;
    model.rt.worker = worker_new(NULL);
    model.rt.phase = PICA__RUNNING;
    model.rt.worker->loop = &model.loop;
    pica__loop_init(&model.loop, &model.rt, 0);
    pica__loop_init(&model.away, &model.rt, 0);
    pica__list_init(&model.rt.drain.waiters);
    ex_quiet(&model.rt.visitors, sizeof model.rt.visitors);
    ex_quiet(&model.loop.objects, sizeof model.loop.objects);
    if (!counts) {
        ex_quiet(&model.loop.registry.created, 2 * sizeof model.loop.registry.created); /* and ended */
        ex_quiet(&model.rt.drain_mark, sizeof model.rt.drain_mark);
    }
    ex_quiet(&model.worker, sizeof model.worker); /* statistics */
    return &model.rt;
}

pica_runtime *ex_runtime(void) {
    return runtime_new(false);
}

pica_runtime *ex_counting_runtime(void) {
    return runtime_new(true);
}

static struct model_task *find(const pica_task *task) {
    for (unsigned i = 0; i < model.tasks; i++) {
        if (model.task[i].task == task) {
            return &model.task[i];
        }
    }
    ex_fail("not a task of the scenario");
}

bool ex_suspended(const pica_task *task) {
    return find(task)->left;
}

void ex_be_worker(bool home) {
    pica__worker *w = worker_new(NULL);
    if (home) {
        w->loop = &model.loop;
    }
    pica__self_set(w);
}

/* --- what replaces the scheduler --- */

static bool is_ready(void *arg) {
    return ((struct model_task *)arg)->ready;
}

static bool has_commit(void *arg) {
    const struct model_task *t = arg;
    return t->commit != NULL && !t->at_home;
}

/* The way of a task off its worker, which goes on with the commit. */
void pica__leave_task(pica__worker *worker, pica__commit_fn commit, void *arg) {
    struct model_task *t = find(worker->current);
    t->thread = ex_self(); /* perhaps its awaiter's, in place */
    t->left = true;
    t->ready = false;
    t->worker = worker;
    t->commit = commit;
    t->commit_arg = arg;
    ex_wait(&t->ready, is_ready, t);
    ex_become(&t->edge);
    t->left = false;
    pica__worker *next = worker_new(t->task);
    pica__self_set(next);
    pica__wait_ahead(t->task, next->tsan); /* as the worker does before it switches */
}

static void run_commit(struct model_task *t) {
    ex_inherit(t->thread);
    pica__commit_fn commit = t->commit;
    t->commit = NULL;
    commit(pica__self(), t->commit_arg);
}

static void worker_main(void *arg) {
    struct model_task *t = arg;
    for (;;) {
        ex_wait(&t->commit, has_commit, t);
        pica__self_set(worker_new(NULL));
        run_commit(t);
    }
}

void pica__ready(pica_task *task) {
    struct model_task *t = find(task);
    ex_event(&t->ready);
    if (!t->left || t->ready) {
        ex_fail("task %s is made ready %s", ex_run.thread[t->thread].name,
                t->left ? "twice" : "while it runs");
    }
    ex_edge_init(&t->edge);
    ex_give(&t->edge);
    t->ready = true;
}

void pica__ready_last(pica__worker *worker, pica_task *task) {
    (void)worker;
    pica__ready(task);
}

/* --- the home loop's worker --- */

void ex_at_home(const pica_task *task) {
    find(task)->at_home = true;
}

bool ex_home_commits(bool run) {
    for (unsigned i = 0; i < model.tasks; i++) {
        struct model_task *t = &model.task[i];
        if (t->at_home && t->commit != NULL) {
            if (run) {
                run_commit(t);
            }
            return true;
        }
    }
    return false;
}

/* --- tasks --- */

static struct model_task *task_new(const char *name, void (*main)(void *arg)) {
    if (model.tasks == TASKS) {
        ex_fail("too many tasks");
    }
    struct model_task *t = &model.task[model.tasks++];
    memset(t, 0, sizeof *t);
    t->thread = ex_thread(name, main, t, false);
    ex_thread("worker", worker_main, t, true);
    return t;
}

static void body_main(void *arg) {
    struct model_task *t = arg;
    pica__self_set(worker_new(t->task));
    t->body(t->arg);
}

pica_task *ex_body(const char *name, void (*body)(void *arg), void *arg) {
    struct model_task *t = task_new(name, body_main);
    pica_task *task = ex_alloc(PICA__TASK_SIZE);
    pica__future_init(&task->future, true, 8);
    atomic_init(&task->word, PICA__TASK_RUNNING);
    task->loop = &model.loop;
    ex_name(&task->word, name);
    t->task = task;
    t->body = body;
    t->arg = arg;
    return task;
}

/* A worker that found the start entry. */
static void task_main(void *arg) {
    struct model_task *t = arg;
    pica_task *task = t->task;
    pica__self_set(worker_new(task));
    bool claimed = pica__task_claim(task);
    pica__task_unref(task);
    if (claimed) {
        pica__task_execute(task);
    }
}

void pica__ready_unstarted(pica_task *task, bool placed) {
    (void)task;
    (void)placed;
}

pica_task *ex_task(const char *name, pica_fn fn, void *arg, bool starts) {
    struct model_task *t = NULL;
    if (starts) {
        t = task_new(name, task_main);
    } else if (model.tasks < TASKS) {
        t = &model.task[model.tasks++];
        memset(t, 0, sizeof *t);
    }
    pica_task *task = NULL;
    if (t == NULL || pica__task_create(&task, &model.loop, fn, arg, NULL) < 0) {
        ex_fail("cannot create a task");
    }
    ex_name(&task->word, name);
    t->task = task;
    return task;
}
