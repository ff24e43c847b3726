/* runtime/future.c, await.c, wait.c and cancel.c: a task awaits a future and, with UNREF, drops
 * the last reference as soon as it has the result. COMPLETERS complete it, of which one wins, and
 * CANCELLERS cancel the task. */
#include "tests/models/tasks.h"

#include "runtime/await.c"
#include "runtime/cancel.c"
#include "runtime/future.c"
#include "runtime/wait.c"

void pica__task_unref(pica_task *t) {
    assert(t == NULL);
}

void pica_error_unref(pica_error *error) {
    assert(error == NULL);
}

static pica_future *future;
static int items[2]; /* plain: handed over by the future */
static int code;
static int won[COMPLETERS];

static void *awaiter(void *arg) {
    (void)arg;
    model_self = &worker;
    void *value = NULL;
    code = pica_await(future, &value);
    if (code == 0) {
        assert(value == &items[0] || value == &items[1]);
        assert(*(int *)value == 1);
    }
#ifdef UNREF
    pica_future_unref(future);
#endif
    return NULL;
}

static void *completer(void *arg) {
    uintptr_t number = (uintptr_t)arg;
    items[number] = 1;
    won[number] = pica_future_set_result(future, &items[number], NULL);
    return NULL;
}

static void *canceller(void *arg) {
    (void)arg;
    bool recorded = pica__cancel(&task);
    assert(recorded);
    return NULL;
}

int main(void) {
    task_init();
    int rc = pica_future_new(&future);
    assert(rc == 0);
    pthread_t threads[1 + COMPLETERS + CANCELLERS];
    unsigned n = 0;
    threads[n++] = model_start(awaiter, 0);
    for (uintptr_t i = 0; i < COMPLETERS; i++) {
        threads[n++] = model_start(completer, i);
    }
    for (unsigned i = 0; i < CANCELLERS; i++) {
        threads[n++] = model_start(canceller, 0);
    }
    for (unsigned i = 0; i < n; i++) {
        model_join(threads[i]);
    }
    unsigned winners = 0;
    for (unsigned i = 0; i < COMPLETERS; i++) {
        winners += won[i] == 0;
    }
    assert(winners == 1 || (CANCELLERS != 0 && winners == 0));
    assert(code == 0 || (CANCELLERS != 0 && code == PICA_ECANCELED));
#ifndef UNREF
    assert(pica__list_empty(&future->waiters));
    pica_future_unref(future);
#endif
    uint32_t word = atomic_load_explicit(&task.word, memory_order_relaxed);
    assert(pica__task_state(word) == PICA__TASK_RUNNING && word / PICA__TASK_COUNT == CANCELLERS);
    return 0;
}
