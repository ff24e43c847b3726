/* The runtime's life: start, run, stop, close. The phases stand in rt.h. */
#include "runtime/base/transitions.h"
#include "runtime/rt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/namer.h"
#include "runtime/base/overflow.h"
#include "runtime/base/park.h"
#include "runtime/base/relax.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/thread.h"
#include "runtime/handle.h"
#include "runtime/signal.h"
#include "runtime/simulate.h"
#include "runtime/slow.h"
#include "runtime/task.h"

/* How long pica_close waits for tasks that were asked to end. */
#define CLOSE_GRACE_NS INT64_C(10000000000)

/* How often this process's line was forked: grows in each child, where the fork handler is its only
 * writer. A runtime remembers the number of its process; asking the system for the process's id instead
 * would cost a call each time. */
static _Atomic uint32_t forks;

static void forked_child(void) {
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
    /* If it was a task that forked: its child runs on, but there is no worker under it any more. */
    pica__self_set(NULL);
}

static void watch_forks(void) {
    (void)pthread_atfork(NULL, NULL, forked_child);
}

uint32_t pica__fork_count(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, watch_forks);
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

int pica__runtime_check(const pica_runtime *rt) {
    return rt->forks == atomic_load_explicit(&forks, memory_order_relaxed) ? 0 : PICA_EFORKED;
}

/* --- options --- */

static int options_apply(pica__config *config, const struct pica_runtime_options *o) {
    if (o->size != sizeof *o) {
        pica__log(PICA_LOG_ERROR, "pica_runtime_options.size is wrong: use "
                                  "PICA_RUNTIME_OPTIONS_INIT");
        return -EINVAL;
    }
    bool ok = o->workers <= PICA__WORKERS_MAX && o->ring_entries <= 32768 &&
              (o->stack_size == 0 ||
               (o->stack_size >= 16 * 1024 && o->stack_size <= (size_t)1 << 30)) &&
              o->order >= 0 && o->order <= PICA_ORDER_FIFO && o->affinity >= -1 &&
              o->affinity <= 1 && o->handle_signals >= 0 && o->handle_signals <= 1;
    if (!ok) {
        pica__log(PICA_LOG_ERROR, "a field of pica_runtime_options is out of range (workers 1..%u, "
                                  "ring_entries ..32768, stack_size 16K..1G, order, affinity, "
                                  "handle_signals)",
                  PICA__WORKERS_MAX);
        return -EINVAL;
    }
    config->workers = o->workers != 0 ? o->workers : config->workers;
    config->stack_size = o->stack_size != 0 ? o->stack_size : config->stack_size;
    config->max_stacks = o->max_stacks != 0 ? o->max_stacks : config->max_stacks;
    config->seed = o->seed != 0 ? o->seed : config->seed;
    config->fifo = o->order != 0 ? o->order == PICA_ORDER_FIFO : config->fifo;
    config->pin = o->affinity != 0 ? o->affinity == 1 : config->pin;
    if (o->ring_entries != 0) {
        config->ring_entries = 8;
        while (config->ring_entries < o->ring_entries) {
            config->ring_entries *= 2;
        }
    }
    return 0;
}

/* --- start --- */

static void name_task(char *buffer, size_t size) {
    const pica_task *task = pica__current();
    /* In a signal handler: no allocation, so an unnamed task is called by its number. */
    const char *name = task == NULL ? "(loop)" : task->name;
    if (name == NULL) {
        char digits[24];
        size_t n = 0;
        uint64_t id = task->all.id;
        do {
            digits[n++] = (char)('0' + id % 10);
            id /= 10;
        } while (id != 0);
        size_t at = 0;
        for (const char *p = "Task-"; *p != 0 && at + 1 < size; p++) {
            buffer[at++] = *p;
        }
        while (n > 0 && at + 1 < size) {
            buffer[at++] = digits[--n];
        }
        buffer[at] = 0;
        return;
    }
    size_t at = 0;
    while (name[at] != 0 && at + 1 < size) {
        buffer[at] = name[at];
        at++;
    }
    buffer[at] = 0;
}

void pica__runtime_put(pica_runtime *rt, uint64_t shares) {
    if (atomic_fetch_sub_explicit(&rt->shares, shares, memory_order_acq_rel) != shares) {
        return;
    }
    if (rt->stacks != NULL) {
        pica__stack_pool_destroy(rt->stacks);
    }
    pica__free_aligned(rt->worker, PICA__CACHELINE, rt->workers * sizeof(pica__worker));
    pica__free(rt->loop, rt->workers * sizeof(pica_loop));
    pica__free_aligned(rt, PICA__CACHELINE, sizeof *rt);
}

/* Frees the runtime, or, if somebody still refers to tasks, and these to their loops, what they do not
 * need: the rest goes with the last of them. */
static void runtime_free(pica_runtime *rt) {
    unsigned loops = rt->loop == NULL ? 0 : rt->workers;
    uint64_t objects = 0;
    uint64_t shares = 1;
    atomic_store_explicit(&rt->shares, 1 + (uint64_t)loops, memory_order_relaxed);
    for (unsigned i = 0; i < loops; i++) {
        pica__loop_fini(&rt->loop[i]);
        pica__free(rt->worker[i].seen, rt->workers * sizeof(struct pica__seen));
    }
    for (unsigned i = 0; i < loops; i++) {
        uint64_t left = atomic_fetch_or_explicit(&rt->loop[i].objects, PICA__OBJECTS_CLOSED,
                                                 memory_order_acq_rel);
        objects += left;
        shares += left == 0;
    }
    if (objects != 0) {
        pica__log(PICA_LOG_DEBUG, "a runtime was closed while %llu tasks were still referred to",
                  (unsigned long long)objects);
    }
    pica__runtime_put(rt, shares);
}

static int runtime_alloc(pica_runtime **out, const pica__config *config) {
    pica_runtime *rt = pica__zalloc_aligned(PICA__CACHELINE, sizeof *rt);
    if (rt == NULL) {
        return -ENOMEM;
    }
    rt->config = *config;
    rt->starved.always = config->max_stacks != 0 || config->debug_deadlock;
    rt->workers = config->workers;
    rt->forks = pica__fork_count();
    pica__idle_init(&rt->idle);
    pica__list_init(&rt->drain.waiters);
    struct pica__stack_config stacks = {
        .stack_size = config->stack_size,
        .max_stacks = config->max_stacks,
        .disable =
            config->without & PICA__WITHOUT_GUARD_INSTALL ? PICA__STACK_NO_GUARD_INSTALL : 0,
    };
    int rc = pica__stack_pool_create(&rt->stacks, &stacks);
    rt->worker = pica__zalloc_aligned(PICA__CACHELINE, rt->workers * sizeof(pica__worker));
    rt->loop = pica__zalloc(rt->workers * sizeof(pica_loop));
    if (rc < 0 || rt->worker == NULL || rt->loop == NULL) {
        if (rt->loop != NULL) {
            pica__free(rt->loop, rt->workers * sizeof(pica_loop));
            rt->loop = NULL;
        }
        runtime_free(rt);
        return rc < 0 ? rc : -ENOMEM;
    }
    *out = rt;
    return 0;
}

static int worker_init(pica_runtime *rt, unsigned i) {
    pica__worker *w = &rt->worker[i];
    w->rt = rt;
    w->loop = &rt->loop[i];
    w->index = i;
    w->fifo = rt->config.fifo;
    w->simulated = pica__simulated();
    w->alone = rt->workers == 1;
    /* Both are where a simulation looks, so that it costs nothing else. */
    w->debug_migrate = rt->config.debug_migrate || pica__simulated();
    w->debug_shuffle = rt->config.debug_shuffle || pica__simulated();
    pica__random_init(&w->random, rt->config.seed + i * UINT64_C(0x9e3779b97f4a7c15));
    pica__deque_init(&w->deque);
    pica__stack_cache_init(&w->stacks, rt->stacks);
    w->seen = pica__zalloc(rt->workers * sizeof(struct pica__seen));
    return w->seen == NULL ? -ENOMEM : pica__loop_init(&rt->loop[i], rt, i);
}

static void phase_set(pica_runtime *rt, uint32_t run, uint32_t phase) {
    atomic_store_explicit(&rt->stopped, 0, memory_order_relaxed);
    PICA__MOVED(PHASE, atomic_load_explicit(&rt->phase, memory_order_relaxed) % 4, phase);
    atomic_store_explicit(&rt->phase, run * 4 + phase, memory_order_seq_cst);
    pica__park_wake(&rt->phase);
    for (unsigned i = 0; i < rt->workers; i++) {
        if (rt->loop[i].engine != NULL) {
            pica__worker_wake(&rt->worker[i]);
        }
    }
}

static void wait_for_stopped(pica_runtime *rt, uint32_t count) {
    uint32_t seen;
    while ((seen = atomic_load_explicit(&rt->stopped, memory_order_acquire)) < count) {
        pica__control_wait(rt, &rt->stopped, seen, INT64_MAX);
    }
}

/* Ends the first `started` threads and waits for them. None takes its engine down before all have
 * stopped working, and before this thread and others have made their wakes. */
static void threads_join(pica_runtime *rt, unsigned started) {
    uint32_t run = atomic_load_explicit(&rt->phase, memory_order_relaxed) / 4;
    phase_set(rt, run, PICA__ENDING);
    if (rt->worker[0].hosted) {
        while (!rt->worker[0].left) {
            pica__control_wait(rt, &rt->stopped, 0, INT64_MAX);
        }
    } else {
        wait_for_stopped(rt, started);
    }
    pica__slow_stop(rt); /* not earlier: it tells of whoever keeps the others from stopping */
    pica__backoff backoff = {0};
    while (atomic_load_explicit(&rt->visitors, memory_order_acquire) != 0) {
        pica__relax(&backoff);
    }
    atomic_store_explicit(&rt->phase, (run + 1) * 4 + PICA__ENDING, memory_order_release);
    pica__park_wake(&rt->phase);
    if (rt->worker[0].hosted) {
        pica__host_end(&rt->worker[0]);
        return;
    }
    for (unsigned i = 0; i < started; i++) {
        pica__thread_join(rt->worker[i].thread);
    }
}

static int threads_start(pica_runtime *rt, bool hosted) {
    unsigned started = 0;
    int rc = 0;
    if (hosted) {
        rc = pica__host_begin(&rt->worker[0]);
        if (rc == 0) {
            wait_for_stopped(rt, 1);
        }
        return rc;
    }
    while (started < rt->workers && rc == 0) {
        rc = pica__thread_create(&rt->worker[started].thread, NULL, pica__worker_main,
                                 &rt->worker[started]);
        started += rc == 0;
    }
    wait_for_stopped(rt, started);
    int error = atomic_load_explicit(&rt->start_error, memory_order_acquire);
    rc = error != 0 ? error : rc;
    if (rc < 0) {
        threads_join(rt, started);
    }
    return rc;
}

static int config_make(pica__config *config, const struct pica_runtime_options *options) {
    int rc = pica__config_from_env(config);
    return rc == 0 && options != NULL ? options_apply(config, options) : rc;
}

/* host: the calling thread stays for the runtime's whole life, and may be its only worker. */
static int runtime_make(pica_runtime **out, const struct pica_runtime_options *options, bool host) {
    if (options != NULL && options->allocator != NULL && options->size == sizeof *options) {
        int rc = pica__alloc_use(options->allocator);
        if (rc < 0) {
            return rc;
        }
    }
    if (options != NULL && options->log != NULL && options->size == sizeof *options) {
        pica__log_set_hook(options->log, options->log_ctx); /* first: it is told of bad settings */
    }
    pica__config config;
    int rc = config_make(&config, options);
    if (rc == 0 && config.engine == PICA__ENGINE_SIM && !pica__simulated()) {
        rc = pica__simulate_process(&config);
        if (rc == 0) {
            rc = config_make(&config, options); /* again: now the defaults are drawn from the seed */
        }
    }
    if (rc < 0) {
        return rc;
    }
    if (pica__simulated()) {
        config.pin = false; /* its threads are none, and are slow for other reasons */
        config.debug_slow = 0;
    }
    pica_runtime *rt;
    rc = runtime_alloc(&rt, &config);
    if (rc < 0) {
        return rc;
    }
    if (options != NULL) {
        rt->task_error = options->task_error;
        rt->task_error_ctx = options->task_error_ctx;
        rt->handle_signals = options->handle_signals != 0;
    }
    for (unsigned i = 0; i < rt->workers && rc == 0; i++) {
        rc = worker_init(rt, i);
    }
    pica__namer_set(name_task);
    if (rc == 0) {
        rc = pica__overflow_install();
        if (rc == 0) {
            rc = threads_start(rt, host && rt->workers == 1 && !rt->config.pin && !rt->config.debug_unhosted &&
                                       rt->config.debug_slow == 0);
            if (rc == 0 && (rc = pica__slow_start(rt)) < 0) {
                threads_join(rt, rt->workers);
            }
            if (rc < 0) {
                pica__overflow_remove();
            }
        }
    }
    if (rc < 0) {
        runtime_free(rt);
        return rc;
    }
    pica__runtime_list(rt);
    *out = rt;
    return 0;
}

static int runtime_new(pica_runtime **out, const struct pica_runtime_options *options, bool host) {
    int rc = runtime_make(out, options, host);
    if (pica__simulated()) {
        pica__simulate_runtimes(rc == 0 ? 1 : 0);
    }
    return rc;
}

int pica_runtime_new(pica_runtime **out, const struct pica_runtime_options *options) {
    return runtime_new(out, options, false);
}

/* --- run and stop --- */

void pica_stop(pica_runtime *rt) {
    bool visiting = pica__visit(rt);
    atomic_store_explicit(&rt->stop_requested, 1, memory_order_seq_cst);
    pica__control_wake(rt, &rt->stop_requested);
    pica__visit_end(rt, visiting);
}

/* Takes control, or says why not. */
static int control_take(pica_runtime *rt) {
    int rc = pica__runtime_check(rt);
    if (rc < 0) {
        return rc;
    }
    if (pica__self() != NULL) {
        return -EDEADLK;
    }
    return atomic_exchange_explicit(&rt->control, 1, memory_order_acquire) == 0 ? 0 : -EBUSY;
}

static void control_give(pica_runtime *rt) {
    atomic_store_explicit(&rt->control, 0, memory_order_release);
}

/* Runs until pica_stop, or until *done (may be NULL) is set. */
static void run_until(pica_runtime *rt, _Atomic uint32_t *done) {
    uint32_t run = atomic_load_explicit(&rt->phase, memory_order_relaxed) / 4 + 1;
    /* Stopped already: the workers go from one pause to the next, with one turn in between (obey). */
    if (atomic_load_explicit(&rt->stop_requested, memory_order_seq_cst) == 0) {
        phase_set(rt, run, PICA__RUNNING);
    }
    while (atomic_load_explicit(&rt->stop_requested, memory_order_seq_cst) == 0 &&
           (done == NULL || atomic_load_explicit(done, memory_order_acquire) == 0)) {
        pica__control_wait(rt, &rt->stop_requested, 0, INT64_MAX);
    }
    phase_set(rt, run, PICA__PAUSED);
    wait_for_stopped(rt, rt->workers);
    atomic_store_explicit(&rt->stop_requested, 0, memory_order_relaxed);
}

/* Told when the main task has ended: wakes the controlling thread as pica_stop would. */
struct main_waiter {
    pica__waiter waiter;
    pica_runtime *rt;
    /* Written by the completer (release), read by the controlling thread (acquire). */
    _Atomic uint32_t done;
};

static void main_done(pica__waiter *waiter, pica_future *future) {
    struct main_waiter *m = PICA__CONTAINER_OF(waiter, struct main_waiter, waiter);
    pica_runtime *rt = m->rt;
    (void)future;
    atomic_store_explicit(&m->done, 1, memory_order_release);
    pica_stop(rt); /* the frame of m may be gone by now: the stop is all that is needed */
}

static int run_main(pica_runtime *rt, pica_fn fn, void *arg) {
    pica_task *task;
    struct pica__main_signals signals;
    const struct pica_task_options options = {sizeof options, "main", NULL, 0, 0, NULL};
    int rc = rt->handle_signals ? pica__main_signals_begin(rt, &signals) : 0;
    if (rc < 0) {
        return rc;
    }
    rc = pica__task_create(&task, &rt->loop[0], fn, arg, &options);
    if (rc < 0) {
        pica__main_signals_end(rt);
        return rc;
    }
    signals.task = task;
    struct main_waiter m = {.waiter = {.done = main_done}, .rt = rt};
    if (pica__future_wait(&task->future, &m.waiter)) {
        run_until(rt, &m.done);
    }
    if (pica__future_withdraw(&task->future, &m.waiter)) {
        rc = PICA_EINVALSTATE; /* stopped before it was done */
    } else {
        rc = pica_future_result(&task->future, NULL);
    }
    pica__main_signals_end(rt);
    pica_task_unref(task);
    return rc;
}

int pica_run_until_complete(pica_runtime *rt, pica_fn fn, void *arg) {
    int rc = control_take(rt);
    if (rc == 0) {
        rc = run_main(rt, fn, arg);
        control_give(rt);
    }
    return rc;
}

int pica_run_forever(pica_runtime *rt) {
    int rc = control_take(rt);
    if (rc == 0) {
        run_until(rt, NULL);
        control_give(rt);
    }
    return rc;
}

/* --- close --- */

/* Sleeps until `left` says 0, or the deadline. */
static bool drain_wait(pica_runtime *rt, uint64_t (*left)(pica_runtime *rt), int64_t deadline) {
    for (;;) {
        uint32_t seen = atomic_load_explicit(&rt->drained, memory_order_acquire);
        if (left(rt) == 0) {
            return true;
        }
        if (pica__now() >= deadline) {
            return false;
        }
        pica__control_wait(rt, &rt->drained, seen, deadline);
    }
}

static uint64_t sockets_left(pica_runtime *rt) {
    return atomic_load_explicit(&rt->sockets, memory_order_seq_cst);
}

/* Lets all tasks end that were asked to, then closes what is still open. True if no task is left. */
static bool drain(pica_runtime *rt, int64_t deadline) {
    uint32_t run = atomic_load_explicit(&rt->phase, memory_order_relaxed) / 4 + 1;
    phase_set(rt, run, PICA__CLOSING);
    /* Nobody else drains any more: tasks in pica_wait_all_tasks are being cancelled. */
    atomic_store_explicit(&rt->drain_mark, 1, memory_order_seq_cst);
    pica__runtime_cancel_all(rt, NULL);
    bool drained = drain_wait(rt, pica__runtime_alive, deadline);
    if (sockets_left(rt) != 0) {
        for (unsigned i = 0; i < rt->workers; i++) {
            pica__call_soon(&rt->loop[i], &rt->loop[i].close_call);
        }
        (void)drain_wait(rt, sockets_left, deadline);
    }
    return drained;
}

/* Drops what is still scheduled. No worker runs any more. */
static void loop_drop(pica_loop *loop) {
    pica__loop_drain_inbox(loop);
    pica__fifo_node *node;
    while ((node = pica__fifo_pop(&loop->ready)) != NULL) {
        pica__work *work = PICA__CONTAINER_OF(node, pica__work, node);
        if (work->kind == PICA__WORK_USER) {
            pica__call *call = PICA__CONTAINER_OF(work, pica__call, work);
            (void)(pica__handle_drop(call) || pica__async_drop(call) ||
                   pica__done_callback_drop(call));
        } else if (work->kind == PICA__WORK_START) {
            pica__task_unref(PICA__CONTAINER_OF(work, pica_task, start)); /* dead: it has ended */
        }
    }
    pica__heap_node *timer;
    while ((timer = pica__heap_pop(&loop->timers.heap)) != NULL) {
        pica__handle_drop_timer(PICA__CONTAINER_OF(timer, pica__timer, node));
    }
}

/* Start entries of tasks that ended long ago still lie in the queues, with their references. */
static void queues_drop(pica_runtime *rt) {
    pica__work *work;
    while ((work = pica__shared_pop(rt)) != NULL) {
        if (work->kind == PICA__WORK_START) {
            pica__task_unref(PICA__CONTAINER_OF(work, pica_task, start));
        }
    }
    pica__starved_drop(rt);
    for (unsigned i = 0; i < rt->workers; i++) {
        pica__worker *worker = &rt->worker[i];
        uintptr_t entry;
        while ((entry = pica__deque_take(&worker->deque)) != 0) {
            if ((entry & PICA__ENTRY_START) != 0) {
                pica__task_unref(pica__entry_task(entry));
            }
        }
        pica__task_unref(atomic_exchange(&worker->newest, NULL));
    }
}

static uint64_t tasks_created(pica_runtime *rt) {
    uint64_t tasks = 0;
    for (unsigned i = 0; i < rt->workers; i++) {
        tasks += atomic_load_explicit(&rt->loop[i].registry.created, memory_order_relaxed);
    }
    return tasks;
}

int pica_close(pica_runtime *rt) {
    int rc = control_take(rt);
    if (rc < 0) {
        return rc;
    }
    int64_t deadline = pica__now() + CLOSE_GRACE_NS;
    bool drained = drain(rt, deadline);
    pica__pools_end(&rt->pools, deadline); /* before the loops: what runs there may still call them */
    pica__signals_close(rt); /* they wake workers, which are about to go */
    if (!drained) {
        pica__log(PICA_LOG_ERROR, "%llu tasks did not end within %d s of being cancelled: abandoned",
                  (unsigned long long)pica__runtime_alive(rt), (int)(CLOSE_GRACE_NS / 1000000000));
    }
    pica__runtime_unlist(rt);
    if (pica__simulated()) {
        pica__sim_count(rt->workers, tasks_created(rt));
    }
    threads_join(rt, rt->workers);
    for (unsigned i = 0; i < rt->workers; i++) {
        loop_drop(&rt->loop[i]);
    }
    pica__slow_free(rt);
    queues_drop(rt);
    pica__overflow_remove();
    if (drained) {
        runtime_free(rt);
    }
    if (pica__simulated()) {
        pica__simulate_runtimes(-1);
    }
    return 0;
}

/* --- pica_run --- */

int pica_run_opts(pica_fn fn, void *arg, const struct pica_runtime_options *options) {
    if (pica__self() != NULL) {
        return -EDEADLK;
    }
    pica_runtime *rt;
    int rc = runtime_new(&rt, options, true);
    if (rc < 0) {
        return rc;
    }
    rc = pica_run_until_complete(rt, fn, arg);
    (void)pica_close(rt);
    return rc;
}

int pica_run(pica_fn fn, void *arg) {
    return pica_run_opts(fn, arg, NULL);
}
