/* runtime/idle.c, worker.c and ready.c: workers that have just found nothing go to sleep while
 * other threads submit work for anybody. Who sleeps for ever though there is work is reported as a
 * violation of liveness.
 *
 *   WORKERS, of which RUNNING run; SUBMITTERS
 *   TOGETHER   a task computes until so many have begun
 *   SEARCHING  those that run begin as searchers
 */
#include "tests/models/workers.h"

static void *submitter(void *arg) {
    pica__ready(&tasks[(uintptr_t)arg]);
    return NULL;
}

int main(void) {
    workers_init();
    pthread_t threads[RUNNING + SUBMITTERS];
    for (uintptr_t i = 0; i < RUNNING; i++) {
        threads[i] = model_start(worker_main, i);
    }
    for (uintptr_t i = 0; i < SUBMITTERS; i++) {
        threads[RUNNING + i] = model_start(submitter, i);
    }
    for (unsigned i = 0; i < RUNNING + SUBMITTERS; i++) {
        model_join(threads[i]);
    }
    assert(atomic_load_explicit(&rt.shared.count, memory_order_relaxed) == 0);
    assert(pica__fifo_empty(&rt.shared.fifo));
    return 0;
}
