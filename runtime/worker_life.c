/* How a worker begins and ends, on a thread of its own or on the controlling one.
 *
 * A thread of its own is the rule. The exception is pica_run with one worker: there the controlling thread would
 * do nothing but sleep, and a process with a second thread pays for it in the kernel at each system call
 * that takes a descriptor (its table is shared then, so every use of a file is counted by an atomic
 * operation on a line that is mostly cold: bench/net showed 1.5 % of the CPU of an echo request with 64
 * connections, and 2 to 3 % with 1024). So the controlling thread is the worker's host: its own code runs on
 * its native stack, and whenever it would sleep until some word changes (pica__control_wait) it lends itself
 * to the worker's loop, which gives it back when the word has changed, or the deadline has passed, and
 * when it pauses or ends. While the host's code runs the thread has no worker (pica__self is NULL), as
 * any controlling thread.
 */
#include <sched.h>
#include <stdint.h>

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/cpus.h"
#include "runtime/base/overflow.h"
#include "runtime/base/park.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/thread.h"
#include "runtime/fiber_switch.h"
#include "runtime/fpcheck.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/slow.h"
#include "runtime/worker.h"

#if PICA__TSAN
#include <sanitizer/tsan_interface.h>
#endif

PICA__NO_TSAN static PICA__EACH void loop_fiber_main(void *arg) {
    (void)arg;
    pica__fiber_arrive();
    pica__worker *worker = pica__self();
    pica__worker_loop(worker);
    worker->left = true;
    pica__fiber_switch(worker, &worker->native, NULL, NULL);
    PICA__UNREACHABLE();
}

static void pin(pica__worker *worker) {
    cpu_set_t allowed;
    if (pica__cpus_allowed(&allowed) != 0) {
        return;
    }
    unsigned count = (unsigned)CPU_COUNT(&allowed);
    unsigned skip = count == 0 ? 0 : worker->index % count;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && skip-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
            return;
        }
    }
}

static int worker_start(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    if (rt->config.pin) {
        pin(worker);
    }
    pica__slow_worker_enter(rt);
    int rc = pica__engine_create(&worker->loop->engine, &rt->config);
    if (rc < 0) {
        return rc;
    }
    size_t size = rt->config.stack_size < 256 * 1024 ? 256 * 1024 : rt->config.stack_size;
    worker->fiber = &worker->native;
    worker->loop_fiber = pica__fiber_new_sized(size, loop_fiber_main);
    return worker->loop_fiber == NULL ? -ENOMEM : 0;
}

/* Until nobody can wake this worker any more: see threads_join. */
PICA__TSAN_APART static void wait_to_leave(pica_runtime *rt) {
    uint32_t now;
    while (((now = atomic_load_explicit(&rt->phase, memory_order_acquire)) & 3) != PICA__ENDING) {
        pica__park_wait(&rt->phase, now, INT64_MAX); /* one that could not start */
    }
    atomic_store_explicit(&pica__self()->resting, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&rt->stopped, 1, memory_order_acq_rel);
    pica__park_wake(&rt->stopped);
    while (atomic_load_explicit(&rt->phase, memory_order_acquire) == now) {
        pica__park_wait(&rt->phase, now, INT64_MAX);
    }
}

static void worker_end(pica__worker *worker) {
    if (worker->standing != NULL) {
        pica__fiber_free(worker, worker->standing);
        worker->standing = NULL;
    }
    if (worker->loop_fiber != NULL) {
        pica__fiber_free(worker, worker->loop_fiber);
    }
    pica__stack_cache_flush(&worker->stacks);
    if (worker->loop->engine != NULL) {
        pica__engine_destroy(worker->loop->engine);
        worker->loop->engine = NULL;
    }
    pica__worker_buffers_free(worker);
}

/* On the thread that is to be the worker's, on its own stack. */
PICA__NO_TSAN static int worker_enter(pica__worker *worker) {
    pica__self_set(worker);
    pica__fiber_thread_init(worker);
    pica__fp_start(worker);
#if PICA__TSAN
    worker->tsan = __tsan_get_current_fiber();
#endif
    if (!pica__simulated()) { /* there the caller's has it, for all */
        (void)pica__overflow_thread_enter(&worker->altstack);
    }
    return worker_start(worker);
}

static void worker_leave(pica__worker *worker) {
    worker_end(worker);
    if (worker->altstack != NULL) {
        pica__overflow_thread_leave(worker->altstack);
    }
    pica__self_set(NULL);
}

static void set_name(const pica__worker *worker) {
    char name[16] = "pica-w";
    unsigned n = worker->index % 10000;
    name[6] = (char)('0' + n / 1000);
    name[7] = (char)('0' + n / 100 % 10);
    name[8] = (char)('0' + n / 10 % 10);
    name[9] = (char)('0' + n % 10);
    pica__thread_set_name(name);
}

PICA__NO_TSAN void *pica__worker_main(void *arg) {
    pica__worker *worker = arg;
    pica_runtime *rt = worker->rt;
    set_name(worker);
    int rc = worker_enter(worker);
    if (rc < 0) {
        int none = 0;
        (void)atomic_compare_exchange_strong(&rt->start_error, &none, rc);
        atomic_fetch_add_explicit(&rt->stopped, 1, memory_order_acq_rel);
        pica__park_wake(&rt->stopped);
    } else {
        pica__fiber_switch(worker, worker->loop_fiber, NULL, NULL);
    }
    wait_to_leave(rt);
    worker_leave(worker);
    return NULL;
}

/* --- a worker on the controlling thread --- */

bool pica__worker_host_late(const pica__worker *worker) {
    return pica__now() >= worker->host.deadline;
}

PICA__NO_TSAN void pica__worker_to_host(pica__worker *worker) {
    pica__fiber_switch(worker, &worker->native, NULL, NULL);
}

PICA__NO_TSAN void pica__control_wait(pica_runtime *rt, _Atomic uint32_t *word, uint32_t value,
                                      int64_t deadline) {
    pica__worker *worker = &rt->worker[0];
    if (!worker->hosted) {
        pica__park_wait(word, value, deadline);
        return;
    }
    if (worker->left) {
        return; /* nobody else is there to wait for */
    }
    worker->host.word = word;
    worker->host.value = value;
    worker->host.deadline = deadline;
    pica__self_set(worker);
    pica__fiber_switch(worker, worker->loop_fiber, NULL, NULL);
    pica__self_set(NULL);
}

void pica__control_wake(pica_runtime *rt, _Atomic uint32_t *word) {
    pica__park_wake(word);
    if (rt->worker[0].hosted) {
        pica__worker_wake(&rt->worker[0]);
    }
}

int pica__host_begin(pica__worker *worker) {
    worker->hosted = true;
    int rc = worker_enter(worker);
    if (rc < 0) {
        worker->hosted = false;
        worker_leave(worker);
    }
    pica__self_set(NULL);
    return rc;
}

void pica__host_end(pica__worker *worker) {
    pica__self_set(worker);
    worker_leave(worker);
}
