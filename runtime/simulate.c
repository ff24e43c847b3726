/* pica_sim_run, the simulation of an unchanged process (PICA_ENGINE=sim), and what the simulator (runtime/base/sim/) asks of the runtimes in it. */
#include "runtime/simulate.h"

#include <pica/testing.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pica/debug.h>

#include "runtime/base/alloc.h"
#include "runtime/base/log.h"
#include "runtime/base/overflow.h"
#include "runtime/base/random.h"
#include "runtime/base/sim/core.h"
#include "runtime/places.h"
#include "runtime/rt.h"

static void *self_get(void) {
    return pica__self();
}

static void self_set(void *worker) {
    pica__self_set(worker);
}

/* Nothing can run any more: tells of the tasks, and has every run end, so that closing cancels them. True if
 * that lets somebody go on. */
static bool deadlock(void) {
    pica__sim *sim = &pica__the_sim;
    uint64_t alive = 0;
    bool running = false;
    pica_runtime *rt;
    for (pica__link *l = pica__runtimes.list.next; l != NULL && l != &pica__runtimes.list; l = l->next) {
        rt = PICA__CONTAINER_OF(l, pica_runtime, listed);
        alive += pica__runtime_alive(rt);
        running = running || pica__phase(rt) == PICA__RUNNING;
    }
    if (sim->report.deadlock == 0) {
        sim->report.deadlock = 1;
        pica__sim_failed("deadlock: %llu tasks are alive and none can ever run",
                         (unsigned long long)alive);
    }
    if (sim->options.quiet <= 0) {
        (void)pica_dump(STDERR_FILENO);
        for (pica__link *l = pica__runtimes.list.next; l != &pica__runtimes.list; l = l->next) {
            pica__places_tell(PICA__CONTAINER_OF(l, pica_runtime, listed));
        }
    }
    if (!running) {
        return false;
    }
    for (pica__link *l = pica__runtimes.list.next; l != &pica__runtimes.list; l = l->next) {
        rt = PICA__CONTAINER_OF(l, pica_runtime, listed);
        if (pica__phase(rt) == PICA__RUNNING) {
            pica_stop(rt);
        }
    }
    return true;
}

static void hooks_set(void) {
    pica__sim_hooks = (struct pica__sim_hooks){self_get, self_set, deadlock};
}

/* What the process has while simulations are under way: its deaths are watched, and its only thread can report the
 * overflow of a stack. */
static struct {
    bool overflow;
    void *altstack;
} signals;

static void signals_enter(void) {
    pica__sim_watch_deaths(true);
    signals.overflow = pica__overflow_install() == 0; /* over the former, once for all runtimes to come */
    signals.altstack = NULL;
    (void)pica__overflow_thread_enter(&signals.altstack);
}

static void signals_leave(void) {
    if (signals.altstack != NULL) {
        pica__overflow_thread_leave(signals.altstack);
    }
    if (signals.overflow) {
        pica__overflow_remove();
    }
    pica__sim_watch_deaths(false);
}

static int run_once(uint64_t seed, const struct pica_sim_options *options, pica_fn main, void *arg,
                    struct pica_sim_report *report) {
    int rc = pica__sim_begin(seed, options);
    if (rc < 0) {
        return rc;
    }
    if (options->scenario != NULL) {
        options->scenario(options->scenario_arg);
    }
    rc = options->plain > 0 ? main(arg) : pica_run(main, arg);
    int failure = pica__sim_end(report);
    return failure < 0 ? failure : rc;
}

/* Both runs of a seed must be the same. */
static int compare(const struct pica_sim_options *options, struct pica_sim_report *a,
                   const struct pica_sim_report *b) {
    if (a->hash == b->hash) {
        return 0;
    }
    (void)snprintf(a->failure, sizeof a->failure,
                   "the same seed went two ways (%llu and %llu choices, traces %016llx and %016llx): "
                   "something does not come from the seed",
                   (unsigned long long)a->choices, (unsigned long long)b->choices,
                   (unsigned long long)a->hash, (unsigned long long)b->hash);
    if (options->quiet <= 0) {
        (void)fprintf(stderr, "pica: simulation failed: %s\npica: replay: PICA_SIM_SEED=%llu\n",
                      a->failure, (unsigned long long)a->seed);
    }
    return -EILSEQ;
}

int pica_sim_run(uint64_t seed, const struct pica_sim_options *options, pica_fn main, void *arg) {
    static const struct pica_sim_options defaults = PICA_SIM_OPTIONS_INIT;
    options = options == NULL ? &defaults : options;
    if (main == NULL || pica__self() != NULL) {
        return main == NULL ? -EINVAL : -EDEADLK;
    }
    hooks_set();
    struct pica_sim_report first = {.size = 0}, second;
    signals_enter();
    pica__free(pica__alloc(1), 1); /* what is bound at first use is bound now, and not in the first of two runs */
    int rc = run_once(seed, options, main, arg, &first);
    bool never = first.size == 0; /* it did not even begin */
    bool failed = never || first.failure[0] != 0;
    if (!failed && options->check >= 0) {
        (void)run_once(seed, options, main, arg, &second);
        int same = compare(options, &first, &second);
        rc = same < 0 ? same : rc;
    }
    signals_leave();
    if (options->report != NULL && !never) {
        *options->report = first;
    }
    return rc;
}

/* --- a process as it is --- */

static struct {
    bool active;
    int runtimes;
    uint64_t seed;    /* of the next simulation of this process */
} process;

static int scenario_run(const char *path) {
    if (path == NULL) {
        return 0;
    }
    void *object = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    int (*scenario)(void) = NULL;
    if (object != NULL) {
        /* A pointer to an object becomes one to a function: POSIX has it so. */
        void *symbol = dlsym(object, "pica_sim_scenario");
        memcpy(&scenario, &symbol, sizeof scenario);
    }
    if (scenario == NULL) {
        const char *why = dlerror();
        pica__log(PICA_LOG_ERROR, "PICA_SIM_SCENARIO: %s", why != NULL ? why : "no pica_sim_scenario");
        return -EINVAL;
    }
    int rc = scenario();
    if (rc < 0) {
        pica__log(PICA_LOG_ERROR, "PICA_SIM_SCENARIO: %s returned %d", path, rc);
        return -EINVAL;
    }
    return 0;
}

static void process_end(void) {
    struct pica_sim_report report;
    process.active = false;
    int rc = pica__sim_end(&report);
    signals_leave();
    pica__log(PICA_LOG_INFO,
              "simulated: seed %llu, trace %016llx, %llu workers, %llu tasks, %llu choices, %llu faults, %.6f s",
              (unsigned long long)report.seed, (unsigned long long)report.hash,
              (unsigned long long)report.workers, (unsigned long long)report.tasks,
              (unsigned long long)report.choices, (unsigned long long)report.faults,
              (double)report.elapsed_ns * 1e-9);
    if (rc < 0) {
        exit(EXIT_FAILURE); /* whatever the program would make of it */
    }
}

int pica__simulate_process(const pica__config *config) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.skip = config->sim_skip;
    options.drop = config->sim_drop;
    if (process.seed == 0) {
        process.seed = config->sim_seed != 0 ? config->sim_seed : pica__random_seed() >> 32;
    }
    hooks_set();
    int rc = pica__sim_begin(process.seed++, &options);
    if (rc < 0) {
        pica__log(PICA_LOG_ERROR, "PICA_ENGINE=sim: %s", pica_strerror(rc));
        return rc;
    }
    signals_enter();
    process.active = true;
    process.runtimes = 0;
    rc = scenario_run(config->sim_scenario);
    if (rc < 0) {
        pica__sim_failed("no scenario");
        pica__simulate_runtimes(0);
    }
    return rc;
}

void pica__simulate_runtimes(int change) {
    if (process.active) {
        process.runtimes += change;
        if (process.runtimes == 0) {
            process_end();
        }
    }
}
