/* PICA_DEBUG=deadlock: tasks that wait for what cannot come are told, others are not. */
#include <pica.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/machine.h"
#include "tests/support/pt.h"

static pica_event event = PICA_EVENT_INIT;

static void wait_seconds(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&t, NULL);
}

/* Ends the test: a thread outside, of which the runtime knows nothing. */
static void *sets_late(void *arg) {
    (void)arg;
    wait_seconds(2.5);
    pica_event_set(&event);
    return NULL;
}

static int waits(void *arg) {
    (void)arg;
    return pica_event_wait(&event);
}

static int stuck_main(void *arg) {
    pica_task *task;
    (void)arg;
    PT_REQUIRE(pica_create_task(&task, waits, NULL) == 0);
    int rc = pica_await(pica_task_future(task), NULL);
    pica_task_unref(task);
    return rc;
}

static void stuck(void) {
    pthread_t thread;
    PT_REQUIRE(setenv("PICA_DEBUG", "deadlock", 1) == 0);
    PT_REQUIRE(pthread_create(&thread, NULL, sets_late, NULL) == 0);
    PT_EQ(pica_run(stuck_main, NULL), 0);
    (void)pthread_join(thread, NULL);
}

PT_TEST(a_deadlock_is_told_once) {
    struct child child = run_child(stuck);
    PT_EQ(child.status, 0);
    const char *first = strstr(child.text, "deadlock: 2 tasks wait");
    PT_CHECK(first != NULL);
    PT_CHECK(strstr(child.text, "'main': waiting: await") != NULL);
    if (machine_reads_itself()) { /* else a dump cannot know whom a task awaits */
        PT_CHECK(strstr(child.text, "'main': waiting: await, task") != NULL);
    }
    PT_CHECK(strstr(child.text, "waiting: event") != NULL);
    PT_CHECK(first != NULL && strstr(first + 1, "deadlock: ") == NULL);
}

static int blocking(void *arg) {
    (void)arg;
    wait_seconds(1.6);
    return 0;
}

static int busy_main(void *arg) {
    (void)arg;
    PT_EQ(pica_to_thread(blocking, NULL), 0);
    PT_EQ(pica_sleep(1.6), 0);
    return 0;
}

static void busy(void) {
    PT_REQUIRE(setenv("PICA_DEBUG", "deadlock", 1) == 0);
    PT_EQ(pica_run(busy_main, NULL), 0);
}

PT_TEST(what_will_come_is_no_deadlock) {
    struct child child = run_child(busy);
    PT_EQ(child.status, 0);
    PT_CHECK(strstr(child.text, "deadlock") == NULL); /* it may say that it uses epoll */
}

PT_MAIN()
