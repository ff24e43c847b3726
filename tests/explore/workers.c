/* See workers.h. This file is not instrumented: it is part of the model. */
#include "tests/explore/workers.h"

#include <string.h>

#include "runtime/worker.h"
#include "tests/explore/model.h"

enum { WORKERS = 3, WORKS = 4 };

struct model_engine {
    pica__engine engine;
    bool asleep;
    bool woken;
    bool late; /* the deadline has passed */
    int64_t deadline;
};

struct model_work {
    pica_task *task;
    void (*run)(void *arg);
    void *arg;
    unsigned begun, ended;
};

static struct {
    pica_runtime rt;
    pica_loop loop[WORKERS];
    pica__worker worker[WORKERS];
    struct pica__seen seen[WORKERS][WORKERS];
    struct model_engine engine[WORKERS];
    struct model_work work[WORKS];
    unsigned works;
    unsigned passed; /* times */
} model;

/* --- the engine --- */

static bool ends(void *arg) {
    const struct model_engine *e = arg;
    return e->woken || e->late;
}

static int engine_wait(pica__engine *engine, int64_t deadline) {
    struct model_engine *e = (struct model_engine *)(void *)engine;
    if (deadline != 0) {
        e->deadline = deadline;
        e->asleep = true;
        ex_wait(&e->woken, ends, e);
        e->asleep = false;
        e->woken = false;
        e->late = false;
    }
    return 0;
}

static bool engine_has_work(pica__engine *engine) {
    (void)engine;
    return false;
}

static void engine_wake(pica__engine *engine) {
    struct model_engine *e = (struct model_engine *)(void *)engine;
    ex_event(&e->woken);
    e->woken = true;
}

static const struct pica__engine_ops engine_ops = {
    .name = "model", .wait = engine_wait, .has_work = engine_has_work, .wake = engine_wake};

bool ex_time_passes(unsigned most) {
    bool any = false;
    if (model.passed++ >= most) {
        return false;
    }
    for (unsigned i = 0; i < model.rt.workers; i++) {
        struct model_engine *e = &model.engine[i];
        if (e->asleep && e->deadline != INT64_MAX && !e->woken) {
            ex_time = e->deadline > ex_time ? e->deadline : ex_time;
            e->late = true;
            any = true;
        }
    }
    return any;
}

int64_t ex_deadline(unsigned i) {
    return model.engine[i].deadline;
}

/* --- workers --- */

static void worker_main(void *arg) {
    pica__self_set(arg);
    pica__worker_loop(arg);
}

static void worker_init(unsigned i) {
    pica__worker *w = &model.worker[i];
    memset(w, 0, sizeof *w);
    w->rt = &model.rt;
    w->loop = &model.loop[i];
    w->index = i;
    w->alone = model.rt.workers == 1;
    w->seen = model.seen[i];
    w->seen_phase = PICA__RUNNING;
    w->tick = 1; /* not just the turn that looks at the shared queue first */
    pica__deque_init(&w->deque);
    memset(&model.loop[i], 0, sizeof model.loop[i]);
    pica__loop_init(&model.loop[i], &model.rt, i);
    memset(&model.engine[i], 0, sizeof model.engine[i]);
    memset(model.seen[i], 0, sizeof model.seen[i]);
    pica__engine_init(&model.engine[i].engine, &engine_ops);
    model.loop[i].engine = &model.engine[i].engine;
    ex_quiet(&w->steps, sizeof w->steps);
    ex_quiet(&w->stats, sizeof w->stats);
    if (model.rt.config.max_stacks == 0) {
        ex_quiet(&w->doze, sizeof w->doze);
    }
    ex_quiet(&model.loop[i].ready_count, sizeof model.loop[i].ready_count);
}

static void names(unsigned i) {
    static const char *const sleeps[WORKERS] = {"sleep 0", "sleep 1", "sleep 2"};
    static const char *const inboxes[WORKERS] = {"inbox 0", "inbox 1", "inbox 2"};
    static const char *const heads[WORKERS] = {"head 0", "head 1", "head 2"};
    static const char *const tails[WORKERS] = {"tail 0", "tail 1", "tail 2"};
    static const char *const newests[WORKERS] = {"newest 0", "newest 1", "newest 2"};
    static const char *const lifos[WORKERS] = {"lifo 0", "lifo 1", "lifo 2"};
    ex_name(&model.worker[i].sleep, sleeps[i]);
    ex_name(&model.loop[i].inbox, inboxes[i]);
    ex_name(&model.worker[i].deque.head, heads[i]);
    ex_name(&model.worker[i].deque.tail, tails[i]);
    ex_name(&model.worker[i].newest, newests[i]);
    ex_name(&model.worker[i].lifo, lifos[i]);
}

static pica_runtime *workers_new(unsigned n, size_t max_stacks) {
    memset(&model.rt, 0, sizeof model.rt);
    model.works = 0;
    model.passed = 0;
    model.rt.workers = n;
    model.rt.config.max_stacks = max_stacks;
    model.rt.starved.always = max_stacks != 0;
    model.rt.loop = model.loop;
    model.rt.worker = model.worker;
    model.rt.phase = PICA__RUNNING;
    pica__idle_init(&model.rt.idle);
    ex_time = 1;
    /* These do not change here, or only say how long to go on watching. */
    ex_quiet(&model.rt.phase, sizeof model.rt.phase);
    ex_quiet(&model.rt.visitors, sizeof model.rt.visitors);
    if (max_stacks == 0) {
        ex_quiet(&model.rt.starved.count, sizeof model.rt.starved.count);
    }
    ex_quiet(&model.rt.idle.steps, sizeof model.rt.idle.steps);
    ex_quiet(&model.rt.idle.active, sizeof model.rt.idle.active);
    ex_quiet(&model.rt.idle.looked, sizeof model.rt.idle.looked);
    ex_name(&model.rt.idle.searching, "searching");
    ex_name(&model.rt.idle.sleeping, "sleeping");
    ex_name(&model.rt.idle.watched, "watched");
    ex_name(&model.rt.idle.lock, "idle lock");
    ex_name(&model.rt.shared.count, "shared count");
    ex_name(&model.rt.shared.lock, "shared lock");
    for (unsigned i = 0; i < n; i++) {
        worker_init(i);
        names(i);
        ex_thread(i == 0 ? "worker 0" : i == 1 ? "worker 1" : "worker 2", worker_main,
                  &model.worker[i], true);
    }
    return &model.rt;
}

pica_runtime *ex_workers(unsigned n) {
    return workers_new(n, 0);
}

pica_runtime *ex_workers_on_stacks(unsigned n, size_t max_stacks) {
    return workers_new(n, max_stacks);
}

/* --- work --- */

pica_task *ex_work(const char *name, void (*run)(void *arg), void *arg, bool unstarted) {
    if (model.works == WORKS) {
        ex_fail("too much work");
    }
    struct model_work *m = &model.work[model.works++];
    pica_task *task = ex_alloc(PICA__TASK_SIZE);
    pica__future_init(&task->future, true, 8);
    atomic_init(&task->word, unstarted ? PICA__TASK_NEW : PICA__TASK_RUNNING);
    task->loop = &model.loop[0];
    task->start.kind = PICA__WORK_START;
    task->ready.kind = PICA__WORK_RESUME;
    ex_name(&task->word, name);
    *m = (struct model_work){.task = task, .run = run, .arg = arg};
    return task;
}

static struct model_work *find(const pica_task *task) {
    for (unsigned i = 0; i < model.works; i++) {
        if (model.work[i].task == task) {
            return &model.work[i];
        }
    }
    ex_fail("not work of the scenario");
}

bool ex_has_run(void *task) {
    return find(task)->ended != 0;
}

bool ex_has_begun(void *task) {
    return find(task)->begun != 0;
}

/* In place of running a task. */
void pica__run_entry(pica__worker *worker, uintptr_t entry) {
    pica_task *task = pica__entry_task(entry);
    struct model_work *m = find(task);
    pica__fiber *fiber = NULL;
    if ((entry & PICA__ENTRY_START) != 0) {
        if (model.rt.config.max_stacks != 0) {
            if (!pica__worker_stand(worker)) {
                pica__starved_put(worker, task);
                return;
            }
            fiber = worker->standing;
            worker->standing = NULL;
        }
        if (!pica__task_claim(task)) {
            ex_fail("a task is started twice");
        }
    }
    worker->current = task;
    ex_event(task);
    if (m->begun++ != 0) {
        ex_fail("a task is run twice");
    }
    pica__worker_step(worker);
    if (m->run != NULL) {
        m->run(m->arg);
    }
    ex_event(task);
    m->ended++;
    worker->current = NULL;
    if (fiber != NULL && worker->standing == NULL) {
        worker->standing = fiber;
    } else if (fiber != NULL) {
        pica__fiber_free(worker, fiber);
    }
}

void ex_check_asleep(void) {
    for (unsigned i = 0; i < model.works; i++) {
        EX_CHECK(model.work[i].ended == 1);
    }
    unsigned listed = 0;
    for (unsigned i = 0; i < model.rt.workers; i++) {
        pica__worker *w = &model.worker[i];
        EX_CHECK(model.engine[i].asleep);
        EX_CHECK(atomic_load_explicit(&w->sleep, memory_order_relaxed) == PICA__SLEEPING);
        EX_CHECK(pica__inbox_empty(&w->loop->inbox) && pica__fifo_empty(&w->loop->ready));
        EX_CHECK(pica__deque_size(&w->deque) == 0);
        listed += w->idle_listed;
    }
    EX_CHECK(atomic_load_explicit(&model.rt.idle.searching, memory_order_relaxed) == 0);
    EX_CHECK(atomic_load_explicit(&model.rt.idle.sleeping, memory_order_relaxed) == listed);
    EX_CHECK(model.rt.workers == 1 || listed == model.rt.workers);
    EX_CHECK(atomic_load_explicit(&model.rt.shared.count, memory_order_relaxed) == 0);
}
