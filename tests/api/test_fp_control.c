/* Floating-point control across suspensions: a debug build names the task that leaves it changed, and
 * aborts. What a task may do holds in every build. */
#include <pica.h>

#include <fenv.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#include "tests/support/child.h"
#include "tests/support/tasks.h"

/* ---- what a task may do ---- */

static void round_upward(void) {
    PT_EQ(fesetround(FE_UPWARD), 0);
}

static void round_to_nearest(void) {
    PT_EQ(fesetround(FE_TONEAREST), 0);
}

static int restores(void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        round_upward();
        round_to_nearest();
        PT_EQ(feraiseexcept(FE_INEXACT | FE_DIVBYZERO), 0); /* a status flag is not control */
        PT_EQ(pica_yield(), 0);
        PT_EQ(fegetround(), FE_TONEAREST);
    }
    return 0;
}

TASK_TEST(restored_before_the_suspension) {
    (void)arg;
    pica_task *task[4];
    for (int i = 0; i < 4; i++) {
        task[i] = spawn(restores, NULL);
    }
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 0;
}

static int finds_upward(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        PT_EQ(fegetround(), FE_UPWARD);
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

/* A new thread has what the one that makes it has: what main set before the runtime holds for all. */
PT_TEST(workers_inherit_what_was_set_before) {
    round_upward();
    tasks_run(finds_upward, PICA_ORDER_FREE, "migrate");
    PT_EQ(fegetround(), FE_UPWARD);
    round_to_nearest();
}

/* ---- what a debug build tells ---- */

static int changes_and_yields(void *arg) {
    (void)arg;
    round_upward();
    (void)pica_yield();
    round_to_nearest();
    return 0;
}

static int changes_and_sleeps(void *arg) {
    (void)arg;
    round_upward();
    (void)pica_sleep(1e-3);
    round_to_nearest();
    return 0;
}

static int changes_and_ends(void *arg) {
    (void)arg;
    round_upward();
    return 0;
}

static int nothing(void *arg) {
    (void)arg;
    return 0;
}

static int changes_and_awaits(void *arg) {
    (void)arg;
    pica_task *task = spawn(nothing, NULL);
    round_upward();
    (void)pica_join(task, NULL);
    round_to_nearest();
    return 0;
}

/* The other half of the control: to treat tiny numbers as zero, as code for speed does. */
static void flush_to_zero(bool on) {
#if defined(__x86_64__)
    uint32_t mxcsr;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    mxcsr = on ? mxcsr | 0x8040u : mxcsr & ~0x8040u;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
#else
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fpcr = on ? fpcr | (uint64_t)1 << 24 : fpcr & ~((uint64_t)1 << 24);
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
#endif
}

static int flushes_and_yields(void *arg) {
    (void)arg;
    flush_to_zero(true);
    (void)pica_yield();
    flush_to_zero(false);
    return 0;
}

#if defined(__x86_64__)
/* Only the x87 unit: its precision, as some old code sets it. */
static int narrows_and_yields(void *arg) {
    (void)arg;
    uint16_t before;
    __asm__ volatile("fnstcw %0" : "=m"(before));
    uint16_t narrow = (uint16_t)(before & ~0x300u);
    __asm__ volatile("fldcw %0" : : "m"(narrow));
    (void)pica_yield();
    __asm__ volatile("fldcw %0" : : "m"(before));
    return 0;
}
#endif

static pica_fn culprit; /* for the child */

/* The culprit runs in place where it can, else on a stack of its own. */
static int amain(void *arg) {
    (void)arg;
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = "magpie";
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task_opts(&task, culprit, NULL, &options) == 0);
    return pica_join(task, NULL);
}

static void run_culprit(void) {
    (void)pica_run(amain, NULL);
}

static void check_told(pica_fn fn, const char *text) {
    if (!PICA__DEBUG) {
        PT_SKIP("looked for in debug builds only");
    }
    culprit = fn;
    struct child c = run_child(run_culprit);
    check_died(c, SIGABRT);
    check_text(c, text);
    check_text(c, "must be restored before\n");
}

PT_TEST(changed_at_a_suspension) {
    const char *text = "pica: error: task 'magpie' suspended with the thread's floating-point control "
                       "changed (0x";
    check_told(changes_and_yields, text);
    check_told(changes_and_sleeps, text);
    check_told(flushes_and_yields, text);
#if defined(__x86_64__)
    check_told(narrows_and_yields, text);
#endif
}

PT_TEST(changed_at_the_end) {
    check_told(changes_and_ends, "pica: error: task 'magpie' ended with the thread's floating-point "
                                 "control changed (0x");
}

/* In place or not, it is not the other task that is blamed. */
PT_TEST(changed_at_an_await) {
    check_told(changes_and_awaits, "pica: error: task 'magpie' ");
}

static void callback_that_changes(void *arg) {
    (void)arg;
    round_upward();
}

static int calls_back(void *arg) {
    (void)arg;
    pica_handle *handle = NULL;
    PT_EQ(pica_call_soon(callback_that_changes, NULL, &handle), 0);
    (void)pica_sleep(1e-3);
    pica_handle_unref(handle);
    return 0;
}

/* In order, so that the task goes on where the callback ran: that is when it is seen. */
PT_TEST(changed_by_a_callback) {
    PT_REQUIRE(setenv("PICA_ORDER", "fifo", 1) == 0);
    check_told(calls_back, "pica: error: a callback ended with the thread's floating-point control "
                           "changed (0x");
}

PT_MAIN()
