/* Scenarios that run short of memory: of a scenario that makes n allocations the 1st fails, then the 2nd, and so on
 * until none does; once that one alone, and once with all that follow it, down to the end of the runtime.
 *
 *     NTH(futures, "pica_future_new pica_await", 0) {      the calls that it is there for, further results allowed
 *         return rc;                                       0, or what failed first, with nothing left behind
 *     }
 *
 * What must hold: the result is 0, -ENOMEM or one of the allowed ones, and 0 if nothing was refused; after the end no
 * byte, descriptor or thread is left; with one refusal the same scenario passes on the same runtime right after
 * it. A scenario in which nothing can be refused is none. coverage.py checks that every public call has one, or a
 * reason why not. NTH_ONLY=N runs the N-th alone, for a debugger; NTH_ROUNDS=N runs everything N times. */
#ifndef NTH_H
#define NTH_H

#include <pica.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/machine.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"
#include "tests/support/short_memory.h"

/* Allocations are not made in the same order each time: so many runs without a refusal end the search. */
enum { NTH_MISSES = 3, NTH_CODES = 6 };

struct nth {
    const char *name;
    pica_fn fn;
    bool plain; /* fn runs outside of tasks, and makes its runtimes itself */
    int codes[NTH_CODES];
};

static bool nth_allows(const struct nth *s, int rc) {
    bool allowed = rc == 0 || rc == -ENOMEM;
    for (int i = 0; i < NTH_CODES && s->codes[i] != 0; i++) {
        allowed = allowed || rc == s->codes[i];
    }
    return allowed;
}

static void nth_arm(long n, bool rest) {
    atomic_store(&refused, 0);
    atomic_store(&fail_rest, rest);
    atomic_store(&fail_in, n);
}

/* Gives how many allocations were refused. */
static long nth_disarm(void) {
    atomic_store(&fail_in, 0);
    atomic_store(&fail_all, false);
    return atomic_load(&refused);
}

struct nth_run {
    const struct nth *s;
    long n;
    bool rest;
    int rc;
};

/* The main task of a scenario that is one. */
static int nth_main(void *arg) {
    struct nth_run *run = arg;
    nth_arm(run->n, run->rest);
    run->rc = run->s->fn(NULL);
    if (!run->rest) {
        (void)nth_disarm();
        PT_EQ(run->s->fn(NULL), 0); /* whatever was refused, all is as it was */
    }
    return 0;
}

/* One run; gives how many allocations were refused. */
static long nth_once(const struct nth *s, long n, bool rest) {
    struct nth_run run = {s, n, rest, 0};
    if (s->plain) {
        nth_arm(n, rest);
        run.rc = s->fn(NULL);
    } else {
        PT_EQ(pica_run(nth_main, &run), 0);
    }
    long hit = nth_disarm();
    if (!nth_allows(s, run.rc) || (hit == 0 && run.rc != 0)) {
        PT_FAIL("%s: %s, %ld refused", s->name, pica_err_name(run.rc), hit);
    }
    PT_EQ(atomic_load(&live_bytes), 0);
    return hit;
}

/* No thread is left. An emulator has one of its own, which comes when it likes, so one more there proves nothing; what
 * each run leaves adds up. */
static void nth_threads(long expected) {
    if (pt_emulator() == NULL) {
        PT_EQ(procfs_threads_left(NULL, expected), expected);
        return;
    }
    for (int i = 0; procfs_threads() > expected + 1 && i < 10000; i++) {
        usleep(1000); /* it also shows those that were joined for a while */
    }
    PT_CHECK(procfs_threads() <= expected + 1);
}

static long nth_search(const struct nth *s, bool rest, long fds, long threads) {
    long total = 0;
    const char *only = getenv("NTH_ONLY");
    long n = only != NULL ? strtol(only, NULL, 10) : 1;
    for (int misses = 0; misses < NTH_MISSES && pt_failures() == 0; n++) {
        long hit = nth_once(s, n, rest);
        misses = only != NULL ? NTH_MISSES : hit > 0 ? 0 : misses + 1;
        total += hit;
        PT_EQ(procfs_fds(), fds);
        nth_threads(threads);
        if (pt_failures() != 0) {
            fprintf(stderr, "%s: allocation %ld refused%s\n", s->name, n,
                    rest ? ", and all later ones" : "");
        }
    }
    return total;
}

static int nth_nothing(void *arg) {
    (void)arg;
    return 0;
}

static void nth_quiet(void *ctx, int level, const char *text) {
    (void)ctx;
    (void)level;
    (void)text;
}

/* A case. The runs before make whatever a process makes once. */
static void nth_case(const struct nth *s) {
    struct pica_runtime_options options = short_of_memory();
    options.log = nth_quiet;
    PT_REQUIRE(pica_run_opts(nth_nothing, NULL, &options) == 0);
    PT_EQ(nth_once(s, 0, false), 0);
    long fds = procfs_fds(), threads = procfs_threads(), total = 0;
    const char *rounds = getenv("NTH_ROUNDS");
    for (long i = rounds != NULL ? strtol(rounds, NULL, 10) : 1; i > 0 && pt_failures() == 0; i--) {
        total += nth_search(s, false, fds, threads);
        total += nth_search(s, true, fds, threads);
    }
    PT_CHECK(total > 0 || getenv("NTH_ONLY") != NULL);
    printf("%s: %ld allocations refused\n", s->name, total);
    (void)fflush(stdout);
}

#define NTH__CASE(name_, calls_, plain_, ...)                                          \
    static int nth_body_##name_(void *arg);                                            \
    PT_TEST_TIMEOUT(name_, 120) {                                                      \
        static const struct nth s = {calls_, nth_body_##name_, plain_, {__VA_ARGS__}}; \
        nth_case(&s);                                                                  \
    }                                                                                  \
    static int nth_body_##name_(void *arg __attribute__((unused)))
#define NTH(name, calls, ...) NTH__CASE(name, #name, false, __VA_ARGS__)
#define NTH_PLAIN(name, calls, ...) NTH__CASE(name, #name, true, __VA_ARGS__)

/* The first failure of a sequence decides, and nothing is done after it. */
#define NTH_STEP(rc, call) ((rc) = (rc) < 0 ? (rc) : (int)(call))

/* Waits for a task if it was made, and drops it; its result, unless rc is an error already. */
static inline int nth_join(int rc, pica_task *task) {
    int result = task != NULL ? pica_await(PICA_FUTURE(task), NULL) : 0;
    pica_task_unref(task);
    return rc < 0 ? rc : result;
}

#endif
