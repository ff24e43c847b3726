/* What a runtime that is closing says to new watches, signals and processes. */
#include <pica.h>

#include <signal.h>
#include <unistd.h>

#include "tests/support/tasks.h"

static void never(void *arg) {
    (void)arg;
    PT_FAIL("called");
}

/* Is cancelled by the end of the runtime, and tries all the same. */
static int tries_late(void *arg) {
    pica_process *p = NULL;
    PT_EQ(pica_sleep(1000), PICA_ECANCELED);
    PT_EQ(pica_add_reader(*(int *)arg, never, NULL), PICA_ECLOSED);
    PT_EQ(pica_loop_add_writer(pica_current_loop(), *(int *)arg, never, NULL), PICA_ECLOSED);
    PT_EQ(pica_remove_reader(*(int *)arg), 0);
    PT_EQ(pica_add_signal_handler(SIGUSR1, never, NULL), PICA_ECLOSED);
    PT_EQ(pica_create_subprocess_shell(&p, "true", NULL), PICA_ECLOSED);
    PT_CHECK(p == NULL);
    PT_EQ(pica_poll(*(int *)arg, POLLOUT), POLLOUT); /* waiting is allowed */
    return 0;
}

static int leaves_one_behind(void *arg) {
    pica_task_unref(spawn(tries_late, arg));
    return pica_sleep(0.001);
}

PT_TEST(closing_refuses) {
    int fds[2];
    PT_REQUIRE(pipe(fds) == 0);
    PT_EQ(pica_run(leaves_one_behind, &fds[1]), 0);
    struct sigaction now;
    PT_REQUIRE(sigaction(SIGUSR1, NULL, &now) == 0);
    PT_CHECK(now.sa_handler == SIG_DFL);
    close(fds[0]);
    close(fds[1]);
}

PT_MAIN()
