/*
 * Begin and end of a simulation, and what is said about it.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/sim/child.h"
#include "runtime/base/sim/core.h"
#include "runtime/base/sim/disk.h"

static void say(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static void say_variable(const char *name, const char *value) {
    if (value != NULL) {
        say(" ");
        say(name);
        say("=");
        say(value);
    }
}

/* The line that replays it, with what tools/pica-shrink needs to know. snprintf of numbers is all that it calls, so it
 * may stand in the handler of a signal. */
static void say_replay(void) {
    const pica__sim *sim = &pica__the_sim;
    char text[80];
    (void)snprintf(text, sizeof text, "pica: replay: PICA_SIM_SEED=%llu",
                   (unsigned long long)sim->seed);
    say(text);
    say_variable("PICA_WORKERS", getenv("PICA_WORKERS"));
    say_variable("PICA_SIM_SKIP", sim->options.skip);
    say_variable("PICA_SIM_DROP", sim->options.drop);
    if (sim->options.choices_size != 0) {
        say(", with the choices that were given");
    }
    (void)snprintf(text, sizeof text, " (%llu faults, %llu parts)\n",
                   (unsigned long long)sim->fault_number, (unsigned long long)sim->keep_number);
    say(text);
}

/* --- a process that dies in a simulation says how to see it again --- */

static const int deaths[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
enum { DEATHS = sizeof deaths / sizeof deaths[0] };
static struct sigaction before[DEATHS];

static void on_death(int signum) {
    static volatile sig_atomic_t told;
    if (!told && pica__simulated()) {
        told = 1;
        say_replay();
    }
    for (int i = 0; i < DEATHS; i++) {
        if (deaths[i] == signum) {
            (void)sigaction(signum, &before[i], NULL);
        }
    }
    if (signum == SIGABRT) {
        (void)raise(signum);
    } /* else the fault comes again */
}

void pica__sim_watch_deaths(bool on) {
#if !PICA__ASAN
    for (int i = 0; i < DEATHS; i++) {
        if (on) {
            struct sigaction action;
            memset(&action, 0, sizeof action);
            action.sa_handler = on_death;
            action.sa_flags = (int)(SA_ONSTACK | SA_NODEFER);
            (void)sigaction(deaths[i], &action, &before[i]);
        } else {
            (void)sigaction(deaths[i], &before[i], NULL);
        }
    }
#else
    (void)on;
    (void)on_death;
#endif
}

void pica__sim_fatal(const char *format, ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)fprintf(stderr, "pica: simulation: %s\n", text);
#if PICA__ASAN
    say_replay();
#endif
    abort();
}

void pica__sim_failed(const char *format, ...) {
    pica__sim *sim = &pica__the_sim;
    va_list args;
    if (!sim->failed) {
        sim->failed = true;
        va_start(args, format);
        (void)vsnprintf(sim->failure, sizeof sim->failure, format, args);
        va_end(args);
        if (sim->options.quiet <= 0) {
            (void)fprintf(stderr, "pica: simulation failed: %s\n", sim->failure);
            say_replay();
        }
    }
}

void pica_sim_fail(const char *format, ...) {
    if (!pica__simulated()) {
        return;
    }
    char text[sizeof pica__the_sim.failure];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pica__sim_failed("%s", text);
}

void pica__sim_say(const char *format, ...) {
    const pica__sim *sim = &pica__the_sim;
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int64_t ns = sim->now - INT64_C(1000000000000);
    (void)fprintf(stderr, "%6llu %lld.%09lld %-12s %s\n", (unsigned long long)sim->points,
                  (long long)(ns / 1000000000), (long long)(ns % 1000000000), sim->current->name, text);
}

static bool options_good(const struct pica_sim_options *o) {
    return o->size == sizeof *o && o->workers <= 1024 && o->strategy >= 0 &&
           o->strategy <= PICA_SIM_STARVE && o->steal >= -1 && o->steal <= 1 && o->faults >= -1 &&
           o->faults <= 10000 &&
           (o->choices != NULL || o->choices_size == 0) &&
           (o->report == NULL || o->report->size == sizeof *o->report);
}

int pica__sim_begin(uint64_t seed, const struct pica_sim_options *options) {
    static const struct pica_sim_options defaults = PICA_SIM_OPTIONS_INIT;
    pica__sim *sim = &pica__the_sim;
#if PICA__TSAN
    return -ENOSYS; /* it knows of tasks and threads, and all of these would be one of its threads */
#endif
    if (pica__simulated()) {
        return -EBUSY;
    }
    options = options == NULL ? &defaults : options;
    if (!options_good(options)) {
        return -EINVAL;
    }
    memset(sim, 0, sizeof *sim);
    sim->options = *options;
    if (sim->options.skip == NULL) {
        sim->options.skip = getenv("PICA_SIM_SKIP");
    }
    if (sim->options.drop == NULL) {
        sim->options.drop = getenv("PICA_SIM_DROP");
    }
    if (sim->options.max_choices == 0) {
        sim->options.max_choices = 20000000;
    }
    sim->seed = seed;
    sim->trace = getenv("PICA_SIM_TRACE") != NULL;
    sim->report.size = sizeof sim->report;
    sim->report.seed = seed;
    sim->now = INT64_C(1000000000000);
    pica__heap_init(&sim->events);
    pica__sim_chance_begin();
    pica__sim_threads_begin();
    atomic_store_explicit(&pica__sim_on, true, memory_order_relaxed);
    return 0;
}

int pica__sim_end(struct pica_sim_report *report) {
    pica__sim *sim = &pica__the_sim;
    pica__sim_threads_settle();
    pica__alloc_fail_at(0);
    pica__sim_net_end();
    sim->report.elapsed_ns = sim->now - INT64_C(1000000000000);
    pica__sim_threads_end();
    pica__sim_disk_end();
    pica__sim_children_end();
    pica__sim_names_end();
    sim->report.hash = sim->hash;
    memcpy(sim->report.failure, sim->failure, sizeof sim->failure);
    atomic_store_explicit(&pica__sim_on, false, memory_order_relaxed);
    if (report != NULL) {
        *report = sim->report;
    }
    return sim->report.deadlock > 0   ? -EDEADLK
           : sim->report.deadlock < 0 ? -ETIME
           : sim->failed              ? -EPROTO
                                      : 0;
}
