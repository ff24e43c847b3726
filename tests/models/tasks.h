/* Tasks in the scenarios for GenMC: each is a thread, which stands for its workers, too. While the
 * task is suspended the thread runs the commit, and then waits until the task is made ready. What
 * hands a task over there is a release and an acquire, as a queue is.
 */
#ifndef PICA__TESTS_MODELS_TASKS_H
#define PICA__TESTS_MODELS_TASKS_H

#include <stdlib.h>

#include "tests/models/model.h"

#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/worker.h"

static pica_runtime rt;
static pica_loop loop;
static pica__worker worker; /* of the one task that suspends */
static pica__fiber fiber;
static pica_task task;
static _Atomic unsigned readied;

void pica__leave_task(pica__worker *self, pica__commit_fn commit, void *arg) {
    commit(self, arg);
    while (atomic_load_explicit(&readied, memory_order_acquire) == 0) {
    }
    atomic_store_explicit(&readied, 0, memory_order_relaxed);
}

void pica__ready(pica_task *t) {
    assert(t == &task);
    unsigned twice = atomic_exchange_explicit(&readied, 1, memory_order_release);
    assert(!twice);
}

void *pica__alloc(size_t size) {
    return malloc(size);
}

void pica__free(void *p, size_t size) {
    (void)size;
    free(p);
}

static inline void task_init(void) {
    rt.workers = 1;
    rt.worker = &worker;
    rt.loop = &loop;
    loop.rt = &rt;
    worker.rt = &rt;
    worker.loop = &loop;
    worker.current = &task;
    worker.fiber = &fiber;
    pica__list_init(&task.future.waiters);
    atomic_init(&task.future.refs, 8);
    task.future.is_task = true;
    task.loop = &loop;
    atomic_init(&task.word, PICA__TASK_RUNNING);
}

/* At the end: it runs, was not made ready once more, and a cancellation that it was not told is
 * pending. */
static inline void task_check(unsigned requests, bool told) {
    uint32_t word = atomic_load_explicit(&task.word, memory_order_relaxed);
    assert(pica__task_state(word) == PICA__TASK_RUNNING);
    assert(word / PICA__TASK_COUNT == requests);
    assert(requests == 0 || pica__cancel_pending(word) == !told);
    assert(atomic_load_explicit(&readied, memory_order_relaxed) == 0);
}

#endif
