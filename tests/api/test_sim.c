/* The simulator: equal runs for equal seeds, time that jumps, deadlocks, what it refuses. */
#include <pica.h>

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/pt.h"

enum { TASKS = 10, ROUNDS = 5, SEEDS = 60 };

static pica_lock lock = PICA_LOCK_INIT;
static int counter;

static int locked_part(void *arg) {
    long id = (long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        (void)pica_sleep(0.001 * (double)(id % 3));
        int rc = pica_lock_acquire(&lock);
        if (rc < 0) {
            return rc;
        }
        int seen = counter;
        pica_yield();
        counter = seen + 1;
        pica_lock_release(&lock);
    }
    return 0;
}

static int lock_main(void *arg) {
    pica_task *task[TASKS];
    (void)arg;
    counter = 0;
    for (long i = 0; i < TASKS; i++) {
        PT_REQUIRE(pica_create_task(&task[i], locked_part, (void *)i) == 0);
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_await(pica_task_future(task[i]), NULL), 0);
        pica_task_unref(task[i]);
    }
    PT_EQ(counter, TASKS * ROUNDS);
    return 7;
}

PT_TEST(the_same_seed_is_the_same_run) {
    struct pica_sim_report report[2] = {{.size = sizeof report[0]}, {.size = sizeof report[0]}};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    uint64_t hashes[SEEDS];
    int equal = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (int i = 0; i < 2; i++) {
            options.report = &report[i];
            PT_EQ(pica_sim_run(seed, &options, lock_main, NULL), 7);
            PT_EQ(report[i].seed, seed);
        }
        PT_EQ(memcmp(&report[0], &report[1], sizeof report[0]), 0);
        PT_CHECK(report[0].choices > 20);
        hashes[seed] = report[0].hash;
        for (uint64_t i = 0; i < seed; i++) {
            equal += hashes[i] == hashes[seed];
        }
    }
    PT_CHECK(equal <= 1); /* with one worker and no faults runs may be alike but for the seed */
}

static int sleep_main(void *arg) {
    double before = pica_time();
    int rc = pica_sleep(*(double *)arg);
    double slept = pica_time() - before;
    PT_CHECK(slept >= *(double *)arg && slept < *(double *)arg + 1);
    return rc;
}

PT_TEST(time_jumps) {
    double year = 365 * 86400.0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        PT_EQ(pica_sim_run(seed, NULL, sleep_main, &year), 0);
    }
}

static int chance_main(void *arg) {
    (void)arg;
    static int run;
    pica_sim_note((uint64_t)run++); /* something that does not come from the seed */
    return 0;
}

PT_TEST(what_does_not_come_from_the_seed_is_found) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.quiet = 1;
    PT_EQ(pica_sim_run(1, &options, chance_main, NULL), -EILSEQ);
    options.check = -1;
    PT_EQ(pica_sim_run(1, &options, chance_main, NULL), 0);
}

static pica_event never = PICA_EVENT_INIT;

static int waits_for_ever(void *arg) {
    (void)arg;
    return pica_event_wait(&never);
}

static int dead_main(void *arg) {
    pica_task *task;
    (void)arg;
    PT_REQUIRE(pica_create_task(&task, waits_for_ever, NULL) == 0);
    int rc = pica_await(pica_task_future(task), NULL);
    pica_task_unref(task);
    PT_EQ(rc, PICA_ECANCELED); /* reported, and then cancelled */
    return rc;
}

PT_TEST(a_deadlock_is_found) {
    struct pica_sim_report report = {.size = sizeof report};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.report = &report;
    options.quiet = 1;
    for (uint64_t seed = 0; seed < 20; seed++) {
        PT_EQ(pica_sim_run(seed, &options, dead_main, NULL), -EDEADLK);
        PT_EQ(report.deadlock, 1);
        PT_CHECK(strstr(report.failure, "2 tasks") != NULL);
    }
}

static void dead_aloud(void) {
    (void)pica_sim_run(3, NULL, dead_main, NULL);
}

PT_TEST(a_deadlock_is_told_with_its_tasks) {
    struct child child = run_child(dead_aloud);
    const char *text = child.text;
    PT_EQ(child.status, 0);
    PT_CHECK(strstr(text, "deadlock: 2 tasks are alive") != NULL);
    PT_CHECK(strstr(text, "replay: PICA_SIM_SEED=3") != NULL);
    PT_CHECK(strstr(text, "'main': waiting: await") != NULL);
    PT_CHECK(strstr(text, "waiting: event") != NULL);
}

static int fails_main(void *arg) {
    (void)arg;
    pica_sim_fail("number %d", 12);
    return 0;
}

PT_TEST(a_failure_is_told_to_the_caller) {
    struct pica_sim_report report = {.size = sizeof report};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.report = &report;
    options.quiet = 1;
    PT_EQ(pica_sim_run(1, &options, fails_main, NULL), -EPROTO);
    PT_STR_EQ(report.failure, "number 12");
}

static int endless_main(void *arg) {
    (void)arg;
    for (;;) {
        int rc = pica_yield();
        if (rc < 0) {
            return rc;
        }
    }
}

PT_TEST(what_does_not_end_is_ended) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.quiet = 1;
    options.max_choices = 5000;
    options.workers = 2;
    PT_EQ(pica_sim_run(1, &options, endless_main, NULL), -ETIME);
}

static void nothing(void *arg) {
    (void)arg;
}

static void *foreign(void *arg) {
    (void)pica_call_soon_threadsafe(arg, nothing, NULL, NULL);
    return NULL;
}

static int foreign_main(void *arg) {
    pthread_t thread;
    (void)arg;
    PT_REQUIRE(pthread_create(&thread, NULL, foreign, pica_current_loop()) == 0);
    (void)pthread_join(thread, NULL);
    return 0;
}

static void foreign_aloud(void) {
    (void)pica_sim_run(3, NULL, foreign_main, NULL);
}

PT_TEST(foreign_threads_are_refused) {
    struct child child = run_child(foreign_aloud);
    const char *text = child.text;
    PT_CHECK(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
    PT_CHECK(strstr(text, "a thread that the simulator does not know") != NULL);
    PT_CHECK(strstr(text, "replay: PICA_SIM_SEED=3") != NULL);
}

static int plain_main(void *arg) {
    int runs = 0;
    for (int i = 0; i < 3; i++) {
        pica_runtime *rt;
        PT_REQUIRE(pica_runtime_new(&rt, NULL) == 0);
        for (int k = 0; k < 2; k++) {
            runs += pica_run_until_complete(rt, lock_main, arg) == 7;
        }
        PT_EQ(pica_close(rt), 0);
    }
    return runs;
}

PT_TEST(a_plain_function_makes_its_own_runtimes) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.plain = 1;
    for (uint64_t seed = 0; seed < 20; seed++) {
        PT_EQ(pica_sim_run(seed, &options, plain_main, NULL), 6);
    }
}

static int blocking(void *arg) {
    (void)arg;
    return 5;
}

static int pool_main(void *arg) {
    (void)arg;
    PT_EQ(pica_to_thread(blocking, NULL), 5);
    return pica_simulated();
}

PT_TEST(pools_are_simulated) {
    for (uint64_t seed = 0; seed < 20; seed++) {
        PT_EQ(pica_sim_run(seed, NULL, pool_main, NULL), 1);
    }
}

PT_TEST(bad_options_and_bad_places) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.size--;
    PT_EQ(pica_sim_run(1, &options, lock_main, NULL), -EINVAL);
    options = (struct pica_sim_options)PICA_SIM_OPTIONS_INIT;
    options.strategy = 9;
    PT_EQ(pica_sim_run(1, &options, lock_main, NULL), -EINVAL);
    PT_EQ(pica_sim_run(1, NULL, NULL, NULL), -EINVAL);
    PT_EQ(pica_simulated(), 0);
    PT_EQ(pica_sim_choose(5), 0);
    PT_EQ(pica_sim_keep(), 1);
    PT_STR_EQ(pica_sim_fault_name(PICA_SIM_SHORT_READ), "short-read");
    PT_STR_EQ(pica_sim_fault_name(-1), "unknown");
    PT_EQ(pica_run(lock_main, NULL), 7); /* the real thing still works */
}

PT_MAIN()
