/*
 * The test harness itself: what must be reported is reported. Hidden cases misbehave, each in one
 * way; the visible ones run this program again with a hidden case's name and look at its output and
 * exit status.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/support/machine.h"
#include "tests/support/pt.h"

/* --- cases that misbehave ------------------------------------------------------------------- */

static void *fail_once(void *arg) {
    PT_CHECK(arg != NULL);
    return NULL;
}

static void *require_once(void *arg) {
    PT_REQUIRE(arg != NULL);
    return NULL;
}

static void *skip_once(void *arg) {
    (void)arg;
    PT_SKIP("no such machine");
    return NULL;
}

static void on_thread(void *(*fn)(void *)) {
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, fn, NULL) == 0);
    pthread_join(thread, NULL);
}

PT_TEST_HIDDEN(passes, 5) {
    PT_CHECK(true);
    PT_EQ(2, 2);
    PT_STR_EQ("a", "a");
}

PT_TEST_HIDDEN(check_on_a_thread, 5) {
    on_thread(fail_once);
    on_thread(fail_once);
}

PT_TEST_HIDDEN(require_on_a_thread, 5) {
    on_thread(require_once);
    PT_FAIL("went on");
}

static ucontext_t outside, inside;

static void fail_on_small_stack(void) {
    PT_EQ(1 + 1, 3);
    PT_STR_EQ("left", "right");
    swapcontext(&inside, &outside);
}

PT_TEST_HIDDEN(check_on_another_stack, 5) {
    static char stack[16384];
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = sizeof stack;
    makecontext(&inside, fail_on_small_stack, 0);
    swapcontext(&outside, &inside);
}

PT_TEST_HIDDEN(check_in_a_child, 5) {
    pid_t pid = fork();
    if (pid == 0) {
        PT_CHECK(false);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static void fail_in_handler(int sig) {
    PT_EQ(sig, 0);
}

PT_TEST_HIDDEN(check_in_a_signal_handler, 5) {
    signal(SIGUSR1, fail_in_handler);
    raise(SIGUSR1);
}

PT_TEST_HIDDEN(formats, 5) {
    PT_FAIL("%d %s", 42, "ways");
}

PT_TEST_HIDDEN(hangs, 0.2) {
    for (;;) {
        pause();
    }
}

PT_TEST_HIDDEN(crashes, 5) {
    abort();
}

PT_TEST_HIDDEN(leaves_a_descriptor, 5) {
    PT_REQUIRE(open("/dev/null", O_RDONLY) >= 0);
}

PT_TEST_HIDDEN(exits_early, 5) {
    exit(0);
}

PT_TEST_HIDDEN(leaves_at_once, 5) {
    _exit(0);
}

PT_TEST_HIDDEN(skips_on_a_thread, 5) {
    on_thread(skip_once);
}

PT_TEST_HIDDEN(skips_after_a_failure, 5) {
    PT_CHECK(false);
    PT_SKIP("too late");
}

PT_TEST_HIDDEN(leaves_a_process, 5) {
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    printf("child %d\n", (int)pid);
    fflush(stdout);
}

/* --- looking at them ------------------------------------------------------------------------ */

struct result {
    int status; /* exit status, or -1 */
    char output[4096];
};

/* Runs this program with up to two arguments; output holds what it wrote to stdout and stderr. */
static struct result run_self(const char *first, const char *second) {
    struct result r = {.status = -1};
    int pipe_fds[2];
    need_exec_of_self();
    PT_REQUIRE(pipe2(pipe_fds, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        execl("/proc/self/exe", "self", first, second, (char *)NULL);
        _exit(127);
    }
    close(pipe_fds[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(pipe_fds[0], r.output + len, sizeof r.output - 1 - len)) > 0) {
        len += (size_t)n;
    }
    close(pipe_fds[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return r;
}

static void expect(const char *name, int status, const char *const *texts) {
    struct result r = run_self(name, NULL);
    bool good = PT_EQ(r.status, status);
    for (; *texts != NULL; texts++) {
        good = PT_CHECK(strstr(r.output, *texts) != NULL) && good;
    }
    if (!good) {
        PT_FAIL("output of %s was:\n%s", name, r.output);
    }
}

#define EXPECT(name, status, ...) expect(name, status, (const char *const[]){__VA_ARGS__, NULL})

PT_TEST(a_passing_case_passes) {
    EXPECT("passes", 0, "ok passes\n", "1 passed, 0 failed\n");
}

PT_TEST(failed_checks_are_counted_wherever_they_are) {
    EXPECT("check_on_a_thread", 1, "check failed: arg != ", "FAIL check_on_a_thread: 2 failed",
           "0 passed, 1 failed\n");
    EXPECT("check_on_another_stack", 1, "1 + 1 is 2, expected 3 = 3",
           "\"left\" is \"left\", expected \"right\" = \"right\"", "2 failed");
    EXPECT("check_in_a_child", 1, "check failed: false", "1 failed");
    EXPECT("check_in_a_signal_handler", 1, "sig is 10, expected 0 = 0", "1 failed");
    EXPECT("formats", 1, "42 ways\n", "1 failed");
}

PT_TEST(a_failed_requirement_ends_the_case) {
    struct result r = run_self("require_on_a_thread", NULL);
    PT_EQ(r.status, 1);
    PT_CHECK(strstr(r.output, "required: arg != ") != NULL);
    PT_CHECK(strstr(r.output, "went on") == NULL);
}

PT_TEST(a_case_that_hangs_or_dies_fails) {
    EXPECT("hangs", 1, "FAIL hangs: not finished after ");
    EXPECT("crashes", 1, "FAIL crashes: killed by signal 6");
}

PT_TEST(a_case_that_leaves_early_fails) {
    EXPECT("exits_early", 1, "the case called exit()", "FAIL exits_early");
    EXPECT("leaves_at_once", 1, "FAIL leaves_at_once: left with status 0");
}

PT_TEST(an_open_descriptor_fails) {
    EXPECT("leaves_a_descriptor", 1, "left open: /dev/null", "FAIL leaves_a_descriptor: 1 failed");
}

PT_TEST(a_skip_is_no_success_and_hides_no_failure) {
    EXPECT("skips_on_a_thread", 77, "skipped: no such machine", "skip skips_on_a_thread",
           "0 passed, 0 failed, 1 skipped\n");
    EXPECT("skips_after_a_failure", 1, "FAIL skips_after_a_failure");
}

PT_TEST(processes_of_a_case_end_with_it) {
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that the orphan becomes ours to look at */
    struct result r = run_self("leaves_a_process", NULL);
    PT_EQ(r.status, 0);
    const char *at = strstr(r.output, "child ");
    PT_REQUIRE(at != NULL);
    pid_t orphan = (pid_t)atoi(at + 6);
    int status = 0;
    PT_EQ(waitpid(orphan, &status, 0), orphan);
    PT_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

PT_TEST(arguments) {
    struct result r = run_self("--list", NULL);
    PT_EQ(r.status, 0);
    PT_CHECK(strstr(r.output, "arguments\n") != NULL);
    PT_CHECK(strstr(r.output, "hangs\n") == NULL);
    r = run_self("no_such_case", NULL);
    PT_EQ(r.status, 2);
    PT_CHECK(strstr(r.output, "no case 'no_such_case'") != NULL);
    r = run_self("--nonsense", NULL);
    PT_EQ(r.status, 2);
    r = run_self("--here", "formats");
    PT_EQ(r.status, 1);
    r = run_self("--here", "passes");
    PT_EQ(r.status, 0);
    r = run_self("--verbose", "passes");
    PT_EQ(r.status, 0);
    PT_CHECK(strstr(r.output, "run passes\n") != NULL);
}

PT_MAIN()
