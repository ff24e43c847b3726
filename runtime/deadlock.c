/* Tells of tasks that wait for what cannot come: no worker has anything to run, no loop has a timer or an operation,
 * no pool a job, no signal is waited for, and tasks are alive. What plain threads may still do cannot be known, so
 * this is a warning in the log, with a dump, after a second of such quiet; once for each runtime. (The simulator
 * knows all threads, and sees at once what is seen here after a while.)
 *
 * How quiet is known: workers say so themselves before they sleep, see starved.c. The last one to fall asleep finds
 * all others quiet; it alone sleeps with a bound, for this once, so that an idle process does not wake.
 */
#include "runtime/deadlock.h"

#include <unistd.h>

#include <pica/debug.h>

#include "runtime/base/log.h"
#include "runtime/base/sim/sim.h"
#include "runtime/executor.h"
#include "runtime/rt.h"
#include "runtime/signal.h"
#include "runtime/worker.h"

static bool quiet(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    return pica__phase(rt) == PICA__RUNNING && pica__others_quiet(worker) &&
           pica__inbox_empty(&worker->loop->inbox) && pica__executor_jobs() == 0 &&
           !pica__signals_awaited(rt) && pica__runtime_alive(rt) != 0;
}

bool pica__deadlock_suspected(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    return rt->config.debug_deadlock && !pica__simulated() &&
           !atomic_load_explicit(&rt->deadlock_told, memory_order_relaxed) &&
           atomic_load_explicit(&worker->doze, memory_order_relaxed) == PICA__DOZE_QUIET &&
           quiet(worker);
}

void pica__deadlock_check(pica__worker *worker) {
    pica_runtime *rt = worker->rt;
    if (!quiet(worker) ||
        atomic_exchange_explicit(&rt->deadlock_told, true, memory_order_relaxed)) {
        return;
    }
    pica__log(PICA_LOG_WARN,
              "deadlock: %llu tasks wait, and nothing in this runtime can wake them any more (threads outside of "
              "it could)",
              (unsigned long long)pica__runtime_alive(rt));
    (void)pica_dump(STDERR_FILENO);
}
