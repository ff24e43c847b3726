/* runtime/ready.c over the deque: the owner makes PUSHES tasks runnable, more than its ring of 2
 * takes, so that half of it goes to the shared queue; it takes what it has left, while a thief
 * steals and another worker takes from the shared queue. Each task comes once. */
#define PICA__DEQUE_CAPACITY 2u
#include "tests/models/model.h"

#include "runtime/ready.c"

static pica_runtime rt;
static pica_loop loop;
static pica__worker owner, other;
static pica_task tasks[PUSHES];

int64_t pica__now(void) {
    return 1;
}

void pica__idle_notify(pica_runtime *runtime) {
    (void)runtime; /* nobody sleeps here */
}

static void got(pica_task *task) {
    assert(task->waits == 1); /* plain: written before it was made ready, and once after that */
    task->waits = 2;
}

static void take_shared(void) {
    pica__work *work = pica__shared_pop(&rt);
    if (work != NULL) {
        assert(work->kind == PICA__WORK_RESUME);
        got(PICA__CONTAINER_OF(work, pica_task, ready));
    }
}

static void *owner_main(void *arg) {
    (void)arg;
    model_self = &owner;
    for (unsigned i = 0; i < PUSHES; i++) {
        tasks[i].waits = 1;
        pica__ready_last(&owner, &tasks[i]);
    }
    uintptr_t entry = pica__worker_pick(&owner);
    if (entry != 0) {
        got(pica__entry_task(entry));
    }
    return NULL;
}

static void *thief(void *arg) {
    (void)arg;
    uintptr_t out[2];
    size_t n = pica__deque_steal(&owner.deque, out, 2);
    for (size_t i = 0; i < n; i++) {
        got(pica__entry_task(out[i]));
    }
    return NULL;
}

static void *shares(void *arg) {
    (void)arg;
    take_shared();
    return NULL;
}

int main(void) {
    rt.workers = 2;
    rt.loop = &loop;
    owner.rt = other.rt = &rt;
    owner.loop = other.loop = &loop;
    owner.budget = other.budget = 100;
    for (unsigned i = 0; i < PUSHES; i++) {
        tasks[i].loop = &loop;
        tasks[i].ready.kind = PICA__WORK_RESUME;
    }
    pthread_t threads[3] = {model_start(owner_main, 0), model_start(thief, 0),
                            model_start(shares, 0)};
    for (unsigned i = 0; i < 3; i++) {
        model_join(threads[i]);
    }
    uintptr_t entry;
    while ((entry = pica__worker_pick(&owner)) != 0) {
        got(pica__entry_task(entry));
    }
    while (atomic_load_explicit(&rt.shared.count, memory_order_relaxed) != 0) {
        take_shared();
    }
    for (unsigned i = 0; i < PUSHES; i++) {
        assert(tasks[i].waits == 2);
    }
    return 0;
}
