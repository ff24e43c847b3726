/* Watches, signals and processes without memory: each allocation of each call fails once; the call says so, and
 * nothing is left. */
#include <pica.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"

static void never(void *arg) {
    (void)arg;
}

static int fds[2];

static int adds_reader(void) {
    int rc = pica_add_reader(fds[0], never, NULL);
    if (rc == 0) {
        PT_EQ(pica_remove_reader(fds[0]), 1);
    } else {
        PT_EQ(pica_remove_reader(fds[0]), 0);
    }
    return rc;
}

static int adds_signal(void) {
    struct sigaction now;
    int rc = pica_add_signal_handler(SIGUSR1, never, NULL);
    PT_EQ(pica_remove_signal_handler(SIGUSR1), rc == 0);
    PT_REQUIRE(sigaction(SIGUSR1, NULL, &now) == 0);
    PT_CHECK(now.sa_handler == SIG_DFL);
    return rc;
}

static int creates(void) {
    struct pica_process_options o = PICA_PROCESS_OPTIONS_INIT;
    pica_process *p = NULL;
    o.in = o.out = o.err = PICA_PIPE;
    int rc = pica_create_subprocess_shell(&p, "cat", &o);
    if (rc == 0) {
        void *out = NULL;
        rc = pica_process_communicate(p, "abc", 3, &out, NULL, NULL, NULL);
        PT_CHECK(rc < 0 || (out != NULL && *(char *)out == 'a'));
        free(out);
        (void)pica_process_kill(p);
        PT_EQ(pica_process_wait(p, NULL), 0);
    } else {
        PT_CHECK(p == NULL);
    }
    pica_process_release(p);
    return rc;
}

/* The failure may also hit what the library can do without, or another thread. */
static void each_allocation(int (*call)(void)) {
    long before = procfs_fds();
    bool hit = true;
    int failed = 0;
    for (unsigned long n = 1; hit && n < 500; n++) {
        pica__alloc_fail_at(n);
        int rc = call();
        hit = pica__alloc_fail_hit();
        pica__alloc_fail_at(0);
        PT_CHECK(rc == 0 || (hit && rc == -ENOMEM));
        failed += rc == -ENOMEM;
        while (procfs_fds() > before && pica_sleep(0.001) == 0) {
        }
        siginfo_t info;
        PT_EQ(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1); /* no child */
    }
    PT_CHECK(!hit);
    PT_CHECK(failed > 0);
}

static int all(void *arg) {
    (void)arg;
    PT_EQ(adds_reader(), 0); /* what the loop opens at its first use is open from here on */
    each_allocation(adds_reader);
    each_allocation(adds_signal);
    each_allocation(creates);
    return 0;
}

PT_TEST(without_memory) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    PT_REQUIRE(pipe(fds) == 0);
    PT_EQ(pica_run_opts(all, NULL, &options), 0);
    close(fds[0]);
    close(fds[1]);
}

static int nothing(void *arg) {
    (void)arg;
    return 3;
}

PT_TEST(run_with_signals_without_memory) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    options.handle_signals = 1;
    pica_runtime *rt;
    PT_REQUIRE(pica_runtime_new(&rt, &options) == 0);
    bool hit = true;
    for (unsigned long n = 1; hit && n < 100; n++) {
        struct sigaction now;
        pica__alloc_fail_at(n);
        int rc = pica_run_until_complete(rt, nothing, NULL);
        hit = pica__alloc_fail_hit();
        pica__alloc_fail_at(0);
        PT_CHECK(rc == 3 || (hit && rc == -ENOMEM));
        PT_REQUIRE(sigaction(SIGTERM, NULL, &now) == 0);
        PT_CHECK(now.sa_handler == SIG_DFL);
    }
    PT_CHECK(!hit);
    PT_EQ(pica_close(rt), 0);
}

PT_MAIN()
