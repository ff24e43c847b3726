/* Workers in the scenarios for GenMC: the library's own park and look elsewhere, with an engine
 * that does nothing but sleep, and tasks that are numbers. When the last task has run the workers
 * are told to end, as a runtime that closes tells them.
 */
#ifndef PICA__TESTS_MODELS_WORKERS_H
#define PICA__TESTS_MODELS_WORKERS_H

#ifndef RUNNING
#define RUNNING WORKERS /* of the workers; the others compute on, and find nothing */
#endif

#define PICA__DEQUE_CAPACITY 4u
#include "tests/models/model.h"

#include "runtime/idle.c"
#include "runtime/ready.c"
#include "runtime/worker.c"

struct model_engine {
    pica__engine engine;
    _Atomic unsigned woken;
};

static pica_runtime rt;
static pica_loop loops[WORKERS];
static pica__worker workers[WORKERS];
static struct pica__seen seen[WORKERS][WORKERS];
static struct model_engine engines[WORKERS];
static pica_task tasks[SUBMITTERS];
static _Atomic unsigned begun;
static _Atomic unsigned ended;

static int engine_wait(pica__engine *engine, int64_t deadline) {
    (void)deadline; /* nobody sleeps with a bound: what a watcher would find later is lost here */
    struct model_engine *e = (struct model_engine *)(void *)engine;
    while (atomic_load_explicit(&e->woken, memory_order_acquire) == 0) {
    }
    atomic_store_explicit(&e->woken, 0, memory_order_relaxed);
    return 0;
}

static void engine_wake(pica__engine *engine) {
    struct model_engine *e = (struct model_engine *)(void *)engine;
    atomic_store_explicit(&e->woken, 1, memory_order_release);
}

static const struct pica__engine_ops engine_ops = {
    .name = "model", .wait = engine_wait, .wake = engine_wake};

int64_t pica__now(void) {
    return 1;
}

void pica__run_entry(pica__worker *worker, uintptr_t entry) {
    (void)worker;
    pica_task *task = pica__entry_task(entry);
    assert(task->waits == 0); /* plain: run once */
    task->waits = 1;
    (void)atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed);
    while (atomic_load_explicit(&begun, memory_order_relaxed) < TOGETHER) {
    }
    if (atomic_fetch_add_explicit(&ended, 1, memory_order_acq_rel) + 1 == SUBMITTERS) {
        atomic_store_explicit(&rt.phase, PICA__ENDING, memory_order_release);
        for (unsigned i = 0; i < WORKERS; i++) {
            if (&workers[i] != worker) {
                pica__worker_wake(&workers[i]);
            }
        }
    }
}

/* worker.c's loop without turns: there is nothing in them here. */
static void *worker_main(void *arg) {
    pica__worker *worker = &workers[(uintptr_t)arg];
    model_self = worker;
    park(worker); /* it has just found nothing */
    while (atomic_load_explicit(&rt.phase, memory_order_acquire) != PICA__ENDING) {
        if (!run_from_elsewhere(worker)) {
            park(worker);
        }
    }
    return NULL;
}

static void workers_init(void) {
    rt.workers = WORKERS;
    rt.loop = loops;
    rt.worker = workers;
    atomic_init(&rt.phase, PICA__RUNNING);
    /* Two that watch and guard already: so nobody here takes a duty on. */
    pica__idle_init(&rt.idle);
    atomic_init(&rt.idle.watched, 1);
    atomic_init(&rt.idle.guarded, 1);
    for (unsigned i = 0; i < WORKERS; i++) {
        pica__worker *w = &workers[i];
        w->rt = &rt;
        w->loop = &loops[i];
        w->index = i;
        w->alone = WORKERS == 1;
        w->seen = seen[i];
        w->seen_phase = PICA__RUNNING;
        loops[i].rt = &rt;
        loops[i].worker = w;
        loops[i].engine = &engines[i].engine;
        atomic_init(&loops[i].timers.earliest, INT64_MAX);
        pica__engine_init(&engines[i].engine, &engine_ops);
#ifdef SEARCHING
        w->searching = i < RUNNING;
#endif
    }
#ifdef SEARCHING
    atomic_init(&rt.idle.searching, RUNNING);
#endif
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        tasks[i].loop = &loops[0];
        tasks[i].ready.kind = PICA__WORK_RESUME;
    }
}

#endif
