/* Signals as callbacks, and what SIGINT and SIGTERM do to a run. */
#include <pica.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/machine.h"
#include "tests/support/tasks.h"

struct counter {
    atomic_int calls;
    int wanted;
    pica_future *told;
};

static void counts(void *arg) {
    struct counter *c = arg;
    PT_EQ(pica_loop_index(pica_current_loop()), 0);
    PT_CHECK(pica_current_task() == NULL);
    if (atomic_fetch_add(&c->calls, 1) + 1 == c->wanted) {
        signal_future(c->told);
    }
}

static struct counter counter_of(int wanted) {
    return (struct counter){0, wanted, new_future()};
}

static void counter_waits(struct counter *c) {
    PT_EQ(pica_await(c->told, NULL), 0);
    pica_future_unref(c->told);
    c->told = NULL;
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define TSAN 1
#endif

/* To this thread, or to the process, which chooses the first thread: it sleeps, and there ThreadSanitizer would keep
 * the signal for ever. */
static void send_signal(int signum, bool process) {
#ifdef TSAN
    process = false;
#endif
    PT_REQUIRE((process ? kill(getpid(), signum) : raise(signum)) == 0);
}

static bool is_default(int signum) {
    struct sigaction now;
    PT_REQUIRE(sigaction(signum, NULL, &now) == 0);
    return now.sa_handler == SIG_DFL;
}

TASK_TEST(callback_on_loop_0) {
    struct counter c = counter_of(1);
    PT_EQ(pica_add_signal_handler(SIGUSR1, counts, &c), 0);
    send_signal(SIGUSR1, true);
    counter_waits(&c);
    for (int i = 0; i < 20; i++) { /* each is told, once the one before was */
        c.wanted = c.calls + 1;
        c.told = new_future();
        send_signal(SIGUSR1, i % 2 == 0);
        counter_waits(&c);
    }
    PT_EQ(pica_remove_signal_handler(SIGUSR1), 1);
    PT_EQ(pica_remove_signal_handler(SIGUSR1), 0);
    PT_CHECK(is_default(SIGUSR1));
    (void)arg;
    return 0;
}

TASK_TEST(second_add_replaces) {
    struct counter first = counter_of(0), second = counter_of(1);
    PT_EQ(pica_add_signal_handler(SIGUSR1, counts, &first), 0);
    PT_EQ(pica_add_signal_handler(SIGUSR1, counts, &second), 0);
    send_signal(SIGUSR1, true);
    counter_waits(&second);
    PT_EQ(first.calls, 0);
    PT_EQ(pica_remove_signal_handler(SIGUSR1), 1);
    PT_CHECK(is_default(SIGUSR1));
    pica_future_unref(first.told);
    (void)arg;
    return 0;
}

TASK_TEST(refused) {
    static const int bad[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
                              SIGSYS,  0,       -1,      32,     65,     10000};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        PT_EQ(pica_add_signal_handler(bad[i], counts, NULL), -EINVAL);
        PT_EQ(pica_remove_signal_handler(bad[i]), 0);
    }
    PT_EQ(pica_add_signal_handler(SIGUSR1, NULL, NULL), -EINVAL);
    PT_CHECK(is_default(SIGUSR1));
    (void)arg;
    return 0;
}

PT_TEST(outside_a_runtime) {
    PT_EQ(pica_add_signal_handler(SIGUSR1, counts, NULL), PICA_ENOTASK);
    PT_EQ(pica_remove_signal_handler(SIGUSR1), PICA_ENOTASK);
}

static atomic_int plain_calls;

static void plain_handler(int signum) {
    (void)signum;
    atomic_fetch_add(&plain_calls, 1);
}

static int leaves_it_registered(void *arg) {
    PT_EQ(pica_add_signal_handler(SIGUSR1, counts, arg), 0);
    return 0;
}

PT_TEST(what_was_before_comes_back) {
    struct sigaction plain = {.sa_handler = plain_handler}, now;
    PT_REQUIRE(sigaction(SIGUSR1, &plain, NULL) == 0);
    for (int i = 1; i <= 20; i++) {
        struct counter none = {0};
        PT_EQ(pica_run(leaves_it_registered, &none), 0); /* the end of the runtime removes it */
        PT_REQUIRE(sigaction(SIGUSR1, NULL, &now) == 0);
        PT_CHECK(now.sa_handler == plain_handler);
        raise(SIGUSR1);
        PT_EQ(atomic_load(&plain_calls), i);
    }
}

/* --- several runtimes --- */

static int tries(void *arg) {
    return pica_add_signal_handler(SIGUSR1, counts, arg);
}

static int removes(void *arg) {
    (void)arg;
    return pica_remove_signal_handler(SIGUSR1);
}

PT_TEST(one_runtime_has_it) {
    pica_runtime *a, *b;
    struct counter c = {0};
    PT_REQUIRE(pica_runtime_new(&a, NULL) == 0);
    PT_REQUIRE(pica_runtime_new(&b, NULL) == 0);
    PT_EQ(pica_run_until_complete(a, tries, &c), 0);
    PT_EQ(pica_run_until_complete(b, tries, &c), -EBUSY);
    PT_EQ(pica_run_until_complete(b, removes, NULL), 0);
    PT_EQ(pica_run_until_complete(a, removes, NULL), 1);
    PT_EQ(pica_run_until_complete(b, tries, &c), 0);
    PT_EQ(pica_run_until_complete(a, tries, &c), -EBUSY);
    PT_EQ(pica_close(a), 0);
    PT_EQ(pica_close(b), 0);
    PT_CHECK(is_default(SIGUSR1));
}

/* --- signals all the time --- */

static atomic_bool storm_over;

static void *storms(void *arg) {
    while (!atomic_load(&storm_over)) {
        send_signal(SIGUSR1, true);
    }
    return arg;
}

static void complete(void *arg) {
    signal_future(arg);
}

static int registers_in_a_storm(void *arg) {
    static struct counter last;
    (void)arg;
    for (int i = 0; i < 300; i++) {
        struct counter c = counter_of(1), d = counter_of(0);
        PT_EQ(pica_add_signal_handler(SIGUSR1, counts, &d), 0);
        PT_EQ(pica_add_signal_handler(SIGUSR1, counts, &c), 0);
        counter_waits(&c);
        PT_EQ(pica_remove_signal_handler(SIGUSR1), 1);
        /* Not pinned to loop 0: one call of each may be running; let it end. */
        pica_future *f = new_future();
        pica_loop *loop = pica_runtime_loop(pica_current_runtime(), 0);
        PT_EQ(pica_call_soon_threadsafe(loop, complete, f, NULL), 0);
        PT_EQ(pica_await(f, NULL), 0);
        pica_future_unref(f);
        pica_future_unref(d.told);
    }
    return pica_add_signal_handler(SIGUSR1, counts, &last);
}

PT_TEST(add_and_remove_in_a_storm) {
    if (pt_emulator() != NULL) {
        PT_SKIP("emulators look up a signal's handler while it is being changed, and jump to none");
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    PT_REQUIRE(sigaction(SIGUSR1, &ignore, NULL) == 0);
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, storms, NULL) == 0);
    PT_EQ(pica_run(registers_in_a_storm, NULL), 0);
    atomic_store(&storm_over, true);
    pthread_join(thread, NULL);
}

/* --- a forked child --- */

static void dies_by_it(void) {
    raise(SIGUSR2);
}

TASK_TEST(forked_child_is_not_the_parent) {
#ifdef TSAN
    PT_SKIP("ThreadSanitizer keeps the signals of forked children for ever");
#endif
    struct counter c = counter_of(1);
    PT_EQ(pica_add_signal_handler(SIGUSR2, counts, &c), 0);
    check_died(run_child(dies_by_it), SIGUSR2);
    PT_EQ(c.calls, 0);
    raise(SIGUSR2);
    counter_waits(&c);
    (void)arg;
    return pica_remove_signal_handler(SIGUSR2) == 1 ? 0 : -1;
}

/* --- handle_signals --- */

static int sends_and_sleeps(void *arg) {
    raise(*(int *)arg);
    return pica_sleep(1000);
}

static int ignores_the_cancel(void *arg) {
    PT_EQ(sends_and_sleeps(arg), PICA_ECANCELED);
    return 7;
}

static int run_with_signals(pica_fn fn, void *arg) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.handle_signals = 1;
    return pica_run_opts(fn, arg, &options);
}

PT_TEST(first_cancels_main) {
    int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        PT_EQ(run_with_signals(sends_and_sleeps, &signals[i]), PICA_ECANCELED);
        PT_EQ(run_with_signals(ignores_the_cancel, &signals[i]), 7);
        PT_CHECK(is_default(SIGINT));
        PT_CHECK(is_default(SIGTERM));
    }
}

static int keeps_on(void *arg) {
    int signum = SIGINT;
    PT_EQ(sends_and_sleeps(&signum), PICA_ECANCELED);
    raise(*(int *)arg);
    PT_FAIL("the second signal did not kill");
    return 0;
}

static int second;

static void dies_by_the_second(void) {
    run_with_signals(keeps_on, &second);
}

PT_TEST(second_kills) {
    second = SIGINT;
    check_died(run_child(dies_by_the_second), SIGINT);
    second = SIGTERM;
    check_died(run_child(dies_by_the_second), SIGTERM);
}

static int without_option(void *arg) {
    raise(SIGTERM);
    (void)arg;
    return 0;
}

static void dies_by_the_first(void) {
    pica_run(without_option, NULL);
}

PT_TEST(off_by_default) {
    check_died(run_child(dies_by_the_first), SIGTERM);
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.handle_signals = 2;
    PT_EQ(pica_run_opts(without_option, NULL, &options), -EINVAL);
}

static int not_disturbed(void *arg) {
    raise(SIGINT);
    (void)arg;
    return pica_sleep(0.01);
}

PT_TEST(ignored_signals_stay_ignored) {
    struct sigaction ignore = {.sa_handler = SIG_IGN}, now;
    PT_REQUIRE(sigaction(SIGINT, &ignore, NULL) == 0);
    PT_EQ(run_with_signals(not_disturbed, NULL), 0);
    PT_REQUIRE(sigaction(SIGINT, NULL, &now) == 0);
    PT_CHECK(now.sa_handler == SIG_IGN);
}

static int takes_it_over(void *arg) {
    struct counter c = counter_of(3);
    PT_EQ(pica_remove_signal_handler(SIGINT), 0); /* the run's, not ours */
    PT_EQ(pica_add_signal_handler(SIGINT, counts, &c), 0);
    for (int i = 1; i <= 3; i++) {
        raise(SIGINT);
        while (c.calls < i && pica_sleep(0.0005) == 0) {
        }
    }
    counter_waits(&c);
    raise(SIGTERM); /* still the run's */
    (void)arg;
    PT_EQ(pica_sleep(1000), PICA_ECANCELED);
    return 3;
}

PT_TEST(main_may_take_one_over) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.handle_signals = 1;
    options.workers = 1; /* so that c.calls may be looked at */
    PT_EQ(pica_run_opts(takes_it_over, NULL, &options), 3);
    PT_CHECK(is_default(SIGINT));
    PT_CHECK(is_default(SIGTERM));
}

static int says(void *arg) {
    return *(int *)arg;
}

PT_TEST(between_two_runs_they_are_as_before) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    pica_runtime *rt;
    int signum = SIGINT, result = 5;
    options.handle_signals = 1;
    PT_REQUIRE(pica_runtime_new(&rt, &options) == 0);
    for (int i = 0; i < 5; i++) {
        PT_CHECK(is_default(SIGINT));
        PT_EQ(pica_run_until_complete(rt, sends_and_sleeps, &signum), PICA_ECANCELED);
        PT_CHECK(is_default(SIGINT));
        PT_EQ(pica_run_until_complete(rt, says, &result), 5);
    }
    PT_EQ(pica_close(rt), 0);
}

PT_MAIN()
