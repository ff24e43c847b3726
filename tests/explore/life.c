/* See life.h. This file is not instrumented: it is part of the model. */
#include "tests/explore/life.h"

#include <string.h>

#include "io/engine/engine.h"
#include "runtime/base/namer.h"
#include "runtime/base/overflow.h"
#include "runtime/base/alloc.h"
#include "runtime/base/log.h"
#include "runtime/run.h"
#include "runtime/signal.h"
#include "runtime/simulate.h"
#include "runtime/slow.h"
#include "runtime/worker.h"
#include "tests/explore/model.h"
#include "tests/explore/threads.h"

enum { SEATS = 3 };

struct model_engine {
    pica__engine engine;
    bool asleep;
    bool woken;
};

/* Where a task runs. */
struct seat {
    pica_task *task;
    unsigned thread; /* its number */
    pica__worker *worker;
    unsigned from; /* the number of the worker's thread */
    ex_edge edge;  /* from the worker */
    bool runs;     /* the task, not its worker */
    bool over;
    pica__commit_fn commit; /* of the suspension */
    void *commit_arg;
};

static struct {
    unsigned workers;
    unsigned engines; /* made */
    unsigned engines_left;
    int refuse;
    pica__fiber fiber; /* stands for each */
    struct seat seat[SEATS];
    unsigned seats, taken;
} model;

/* --- the engine --- */

static bool is_woken(void *arg) {
    return ((const struct model_engine *)arg)->woken;
}

static int engine_wait(pica__engine *engine, int64_t deadline) {
    struct model_engine *e = (struct model_engine *)(void *)engine;
    if (deadline != 0) {
        e->asleep = true;
        ex_wait(&e->woken, is_woken, e);
        e->asleep = false;
    }
    e->woken = false;
    return 0;
}

static bool engine_has_work(pica__engine *engine) {
    (void)engine;
    return false;
}

static void engine_wake(pica__engine *engine) {
    struct model_engine *e = (struct model_engine *)(void *)engine;
    ex_event(&e->woken);
    if (ex_is_freed(e)) {
        ex_fail("an engine is woken that has gone");
    }
    e->woken = true;
}

static void engine_destroy(pica__engine *engine) {
    model.engines_left--;
    ex_free(engine, sizeof(struct model_engine));
}

static const struct pica__engine_ops engine_ops = {.name = "model",
                                                   .wait = engine_wait,
                                                   .has_work = engine_has_work,
                                                   .wake = engine_wake,
                                                   .destroy = engine_destroy};

int pica__engine_create(pica__engine **out, const pica__config *config) {
    (void)config;
    ex_event(&model.engines);
    if (++model.engines == model.workers && model.refuse != 0) {
        return model.refuse;
    }
    struct model_engine *e = ex_alloc(sizeof *e);
    pica__engine_init(&e->engine, &engine_ops);
    model.engines_left++;
    *out = &e->engine;
    ex_touch(&e->engine, sizeof e->engine); /* this file's own writes are not seen */
    ex_touch(out, sizeof(pica__engine *));
    return 0;
}

/* --- what a runtime has besides --- */

int pica__config_from_env(pica__config *config) {
    memset(config, 0, sizeof *config);
    config->workers = model.workers;
    config->stack_size = 256 * 1024;
    config->ring_entries = 8;
    config->seed = 1;
    return 0;
}

int pica__stack_pool_create(pica__stack_pool **out, const struct pica__stack_config *config) {
    (void)config;
    *out = NULL;
    return 0;
}

/* Called for each worker before anybody else sees it: what is no step here is said. */
void pica__stack_cache_init(pica__stack_cache *cache, pica__stack_pool *pool) {
    (void)pool;
    pica__worker *w = PICA__CONTAINER_OF(cache, pica__worker, stacks);
    pica_runtime *rt = w->rt;
    ex_quiet(&w->steps, sizeof w->steps);
    ex_quiet(&w->stats, sizeof w->stats);
    ex_quiet(&w->doze, sizeof w->doze);
    ex_quiet(&w->resting, sizeof w->resting);
    ex_quiet(&w->loop->ready_count, sizeof w->loop->ready_count);
    ex_name(&w->sleep, w->index == 0 ? "sleep 0" : "sleep 1");
    ex_name(&w->loop->inbox, w->index == 0 ? "inbox 0" : "inbox 1");
    ex_name(&w->loop->objects, w->index == 0 ? "objects 0" : "objects 1");
    if (w->index == 0) {
        ex_quiet(&rt->starved.count, sizeof rt->starved.count);
        ex_quiet(&rt->idle.steps, sizeof rt->idle.steps);
        ex_quiet(&rt->idle.active, sizeof rt->idle.active);
        ex_quiet(&rt->idle.looked, sizeof rt->idle.looked);
        ex_name(&rt->phase, "phase");
        ex_name(&rt->stopped, "stopped");
        ex_name(&rt->stop_requested, "stop requested");
        ex_name(&rt->visitors, "visitors");
        ex_name(&rt->drained, "drained");
        ex_name(&rt->drain_mark, "drain mark");
        ex_name(&rt->shares, "shares");
    }
}

void pica__stack_cache_flush(pica__stack_cache *cache) {
    (void)cache;
}

void pica__fiber_thread_init(pica__worker *worker) {
    (void)worker;
}

pica__fiber *pica__fiber_new_sized(size_t size, void (*entry)(void *fiber)) {
    (void)size;
    (void)entry;
    return &model.fiber;
}

void pica__fiber_free(pica__worker *worker, pica__fiber *fiber) {
    (void)worker;
    (void)fiber;
}

/* Only a worker's thread calls it here: to the loop, and back when that has ended. */
void pica__fiber_switch(pica__worker *worker, pica__fiber *to, pica__commit_fn commit, void *arg) {
    (void)arg;
    if (to != &model.fiber || commit != NULL) {
        ex_fail("a switch that the model does not know");
    }
    pica__worker_loop(worker);
}

void pica__namer_set(void (*namer)(char *buf, size_t cap)) {
    (void)namer;
}

int pica__overflow_install(void) {
    return 0;
}

void pica__overflow_remove(void) {
}

int pica__overflow_thread_enter(void **altstack_out) {
    *altstack_out = NULL;
    return 0;
}

void pica__overflow_thread_leave(void *altstack) {
    (void)altstack;
}

int pica__slow_start(pica_runtime *rt) {
    (void)rt;
    return 0;
}

void pica__slow_stop(pica_runtime *rt) {
    (void)rt;
}

void pica__slow_free(pica_runtime *rt) {
    (void)rt;
}

void pica__slow_worker_enter(pica_runtime *rt) {
    (void)rt;
}

int pica__alloc_use(const struct pica_allocator *allocator) {
    (void)allocator;
    return 0;
}

void pica__log_set_hook(void (*hook)(void *ctx, int level, const char *text), void *ctx) {
    (void)hook;
    (void)ctx;
}

int pica__simulate_process(const pica__config *config) {
    (void)config;
    return 0;
}

void pica__simulate_runtimes(int change) {
    (void)change;
}

void pica__signals_close(pica_runtime *rt) {
    (void)rt;
}

void pica__runtime_list(pica_runtime *rt) {
    (void)rt;
}

void pica__runtime_unlist(pica_runtime *rt) {
    (void)rt;
}

/* --- tasks --- */

static bool task_runs(void *arg) {
    return ((const struct seat *)arg)->runs;
}

static bool worker_runs(void *arg) {
    return !((const struct seat *)arg)->runs;
}

/* By the seat: it is the worker's turn until somebody resumes the task. */
static void seat_wait(struct seat *seat) {
    ex_wait(&seat->runs, task_runs, seat);
    ex_become(&seat->edge);
    ex_inherit(seat->from);
    pica__self_set(seat->worker);
}

static void seat_leave(struct seat *seat) {
    ex_event(&seat->runs);
    seat->runs = false;
}

static void seat_main(void *arg) {
    struct seat *seat = arg;
    seat_wait(seat);
    pica__task_execute(seat->task);
    seat->over = true;
    seat_leave(seat);
}

static struct seat *seat_of(const pica_task *task) {
    for (unsigned i = 0; i < model.taken; i++) {
        if (model.seat[i].task == task) {
            return &model.seat[i];
        }
    }
    ex_fail("a task goes on that never began");
}

/* By the worker: it is the task's turn until that suspends or ends. */
static void seat_run(pica__worker *worker, struct seat *seat) {
    pica__worker_step(worker);
    worker->current = seat->task;
    seat->worker = worker;
    seat->from = ex_self();
    seat->commit = NULL;
    ex_edge_init(&seat->edge);
    ex_event(&seat->runs);
    ex_give(&seat->edge);
    seat->runs = true;
    ex_wait(&seat->runs, worker_runs, seat);
    ex_inherit(seat->thread);
    worker->current = NULL;
    if (seat->commit != NULL) {
        seat->commit(worker, seat->commit_arg);
    }
}

void pica__run_entry(pica__worker *worker, uintptr_t entry) {
    pica_task *task = pica__entry_task(entry);
    if ((entry & PICA__ENTRY_START) == 0) {
        seat_run(worker, seat_of(task));
        return;
    }
    bool claimed = pica__task_claim(task);
    pica__task_unref(task);
    if (claimed) {
        if (model.taken == model.seats) {
            ex_fail("too many tasks");
        }
        struct seat *seat = &model.seat[model.taken++];
        seat->task = task;
        seat_run(worker, seat);
    }
}

void pica__leave_task(pica__worker *worker, pica__commit_fn commit, void *arg) {
    struct seat *seat = seat_of(worker->current);
    seat->commit = commit;
    seat->commit_arg = arg;
    seat_leave(seat);
    seat_wait(seat);
}

/* --- life --- */

void ex_life(unsigned workers, unsigned seats) {
    memset(&model, 0, sizeof model);
    if (seats > SEATS) {
        ex_fail("too many seats");
    }
    model.workers = workers;
    model.seats = seats;
    ex_time = 1;
    ex_threads(workers);
    for (unsigned i = 0; i < seats; i++) {
        static const char *const names[SEATS] = {"task 1", "task 2", "task 3"};
        model.seat[i].thread = ex_thread(names[i], seat_main, &model.seat[i], true);
    }
}

void ex_life_refuse(int error) {
    model.refuse = error;
}

void ex_life_over(const pica_runtime *rt) {
    EX_CHECK(ex_threads_left() == 0);
    EX_CHECK(model.engines_left == 0);
    for (unsigned i = 0; i < model.taken; i++) {
        EX_CHECK(model.seat[i].over);
    }
    EX_CHECK(rt == NULL || ex_is_freed(rt));
}
