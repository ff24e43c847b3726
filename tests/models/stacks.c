/* runtime/starved.c, with idle.c and worker.c: a task finds no stack while another worker, which
 * computes on, gives one back. The first worker must get it and run the task, or it sleeps for
 * ever (a violation of liveness). The pool is a number under a lock here. */
#define WORKERS 2
#define SUBMITTERS 1
#define TOGETHER 1
#include "tests/models/workers.h"

#include "runtime/starved.c"

static pica__lock_t pool_lock;
static unsigned pool_free; /* under pool_lock */
static pica__fiber stack;

bool pica__worker_stand(pica__worker *worker) {
    if (worker->standing == NULL) {
        pica__lock(&pool_lock);
        bool got = pool_free != 0;
        pool_free -= got;
        pica__unlock(&pool_lock);
        worker->standing = got ? &stack : NULL;
    }
    return worker->standing != NULL;
}

void pica__fiber_free(pica__worker *worker, pica__fiber *fiber) {
    (void)worker;
    (void)fiber;
    pica__lock(&pool_lock);
    pool_free++;
    pica__unlock(&pool_lock);
    pica__runtime_stack_freed(&rt);
}

void pica__stack_cache_flush(pica__stack_cache *cache) {
    (void)cache;
}

/* Nobody may fail for want of a stack that comes back. */
bool pica__deadlock_suspected(pica__worker *worker) {
    (void)worker;
    return false;
}

static void *starves(void *arg) {
    (void)arg;
    pica__worker *worker = &workers[0];
    model_self = worker;
    if (pica__worker_stand(worker)) {
        pica__run_entry(worker, pica__entry_start(&tasks[0]));
        return NULL;
    }
    pica__starved_put(worker, &tasks[0]);
    return worker_main(arg);
}

/* The other worker: on its own stack, then on. */
static void *gives_back(void *arg) {
    (void)arg;
    model_self = &workers[1];
    pica__fiber_free(&workers[1], &stack);
    return NULL;
}

int main(void) {
    workers_init();
    rt.config.max_stacks = 1;
    rt.starved.always = true;
    atomic_init(&tasks[0].word, PICA__TASK_NEW);
    pthread_t first = model_start(starves, 0);
    pthread_t second = model_start(gives_back, 0);
    model_join(first);
    model_join(second);
    assert(atomic_load_explicit(&ended, memory_order_relaxed) == 1);
    assert(atomic_load_explicit(&rt.starved.count, memory_order_relaxed) == 0);
    return 0;
}
