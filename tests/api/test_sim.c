/* The simulator: equal runs for equal seeds, time that jumps, deadlocks, what it refuses. */
#include <pica.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/pt.h"

#if defined(__SANITIZE_ADDRESS__)
#define PT_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PT_SANITIZED true
#endif
#endif
#ifndef PT_SANITIZED
#define PT_SANITIZED false
#endif

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

enum { CHOICES = 300 };

static int choosing_main(void *arg) {
    uint32_t *chosen = arg;
    for (int i = 0; i < CHOICES; i++) {
        uint32_t n = i % 2 == 0 ? 7 : 1000;
        chosen[i] = pica_sim_choose(n);
        PT_CHECK(chosen[i] < n);
    }
    return 0;
}

PT_TEST(choices_are_taken_before_the_seed) {
    static uint8_t bytes[4096];
    static uint32_t chosen[3][CHOICES];
    struct pica_sim_report report[3] = {
        {.size = sizeof report[0]}, {.size = sizeof report[0]}, {.size = sizeof report[0]}};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.choices = bytes;
    options.choices_size = sizeof bytes;
    for (unsigned run = 0; run < 3; run++) {
        /* Zeros; then something else, under two seeds. */
        for (unsigned i = 0; i < sizeof bytes && run == 1; i++) {
            bytes[i] = (uint8_t)(i * 131 >> 3);
        }
        options.report = &report[run];
        PT_EQ(pica_sim_run(run, &options, choosing_main, chosen[run]), 0);
    }
    int zeros = 0, same = 0;
    for (int i = 0; i < CHOICES; i++) {
        zeros += chosen[0][i] == 0;
        same += chosen[1][i] == chosen[2][i];
    }
    PT_EQ(zeros, CHOICES);
    PT_EQ(same, CHOICES); /* what the bytes say, whatever the seed */
    PT_EQ(report[0].faults, 0);
    PT_CHECK(memcmp(chosen[0], chosen[1], sizeof chosen[0]) != 0);
    /* Few bytes are used up, and the seed goes on. */
    options.choices_size = 40;
    PT_EQ(pica_sim_run(2, &options, choosing_main, chosen[0]), 0);
    PT_EQ(pica_sim_run(3, &options, choosing_main, chosen[1]), 0);
    PT_CHECK(memcmp(chosen[0], chosen[1], sizeof chosen[0]) != 0);
    options.choices = NULL;
    PT_EQ(pica_sim_run(2, &options, choosing_main, chosen[0]), -EINVAL);
}

static int much_memory_main(void *arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        pica_future *future;
        int rc = pica_future_new(&future);
        if (rc == 0) {
            pica_future_unref(future);
        } else {
            PT_EQ(rc, -ENOMEM);
        }
    }
    return 0;
}

PT_TEST(allocations_fail_if_that_is_asked_for) {
    struct pica_sim_report report = {.size = sizeof report};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    uint64_t failed = 0;
    options.report = &report;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        options.memory = 0;
        PT_EQ(pica_sim_run(seed, &options, much_memory_main, NULL), 0);
        PT_EQ(report.fault[PICA_SIM_ENOMEM], 0);
        options.memory = 1; /* twice the same */
        int rc = pica_sim_run(seed, &options, much_memory_main, NULL);
        PT_CHECK(rc == 0 || rc == -ENOMEM);
        failed += report.fault[PICA_SIM_ENOMEM];
    }
    PT_CHECK(failed >= SEEDS / 2);
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
    int rc = pica_event_wait(&never);
    PT_EQ(rc, PICA_ECANCELED); /* no tail call: the report is to name this function */
    return rc;
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
    PT_CHECK(strstr(text, " waits_for_ever+") != NULL || PT_SANITIZED);
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

/* --- a process as it is --- */

static void as_it_is(void) {
    PT_REQUIRE(setenv("PICA_ENGINE", "sim", 1) == 0);
    PT_REQUIRE(setenv("PICA_SIM_SEED", "12", 1) == 0);
    PT_REQUIRE(setenv("PICA_LOG", "info", 1) == 0);
    PT_EQ(pica_run(lock_main, NULL), 7);
    PT_EQ(pica_run(pool_main, NULL), 1); /* another simulation, with the next seed */
}

PT_TEST(a_process_is_simulated) {
    struct child one = run_child(as_it_is);
    struct child two = run_child(as_it_is);
    PT_EQ(one.status, 0);
    PT_STR_EQ(one.text, two.text);
    PT_CHECK(strstr(one.text, "simulated: seed 12, trace ") != NULL);
    PT_CHECK(strstr(one.text, "simulated: seed 13, trace ") != NULL);
}

static void dead_process(void) {
    PT_REQUIRE(setenv("PICA_ENGINE", "sim", 1) == 0);
    PT_REQUIRE(setenv("PICA_SIM_SEED", "5", 1) == 0);
    (void)pica_run(dead_main, NULL);
    PT_FAIL("the process goes on after a simulation that failed");
}

PT_TEST(a_process_whose_simulation_failed_ends) {
    struct child child = run_child(dead_process);
    PT_CHECK(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 1);
    PT_CHECK(strstr(child.text, "deadlock: 2 tasks") != NULL);
}

static void no_scenario(void) {
    PT_REQUIRE(setenv("PICA_ENGINE", "sim", 1) == 0);
    PT_REQUIRE(setenv("PICA_SIM_SCENARIO", "/does/not/exist.so", 1) == 0);
    (void)pica_run(lock_main, NULL);
    PT_FAIL("the process goes on without its scenario");
}

PT_TEST(a_scenario_that_is_missing_is_told) {
    struct child child = run_child(no_scenario);
    PT_CHECK(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 1);
    PT_CHECK(strstr(child.text, "PICA_SIM_SCENARIO") != NULL);
}

/* --- actors --- */

static void asks(void *arg) {
    pica_address *address = arg;
    char text[6] = "";
    int fd;
    while ((fd = pica_sim_connect(address)) == -ECONNREFUSED) {
        (void)pica_sim_sleep(0.01);
    }
    if (fd < 0) {
        return;
    }
    PT_EQ(pica_sim_write(fd, "hello", 5), 0);
    pica_sim_finish(fd);
    size_t got = 0;
    ssize_t n;
    while ((n = pica_sim_read(fd, text + got, 5 - got, PICA_FOREVER)) > 0) {
        got += (size_t)n;
    }
    PT_STR_EQ(text, "HELLO");
    pica_sim_close(fd);
}

static pica_address actor_address;

static void brings_an_actor(void *arg) {
    (void)arg;
    PT_EQ(pica_address_ip(&actor_address, "127.0.0.1", 777), 0);
    PT_EQ(pica_sim_actor(asks, &actor_address, "asks"), 0);
}

static int answers_main(void *arg) {
    pica_socket *listener, *socket;
    pica_address peer;
    char c;
    (void)arg;
    PT_EQ(pica_listen(&listener, &actor_address, NULL), 0);
    PT_EQ(pica_accept(listener, &socket, &peer), 0);
    PT_CHECK(pica_address_port(&peer) != 0);
    /* All of it first: the asker does not read before it has written all. */
    char text[5];
    size_t n = 0;
    while (n < sizeof text && pica_recv(socket, &c, 1) == 1) {
        text[n++] = (char)(c - 'a' + 'A');
    }
    PT_EQ(pica_sendall(socket, text, n), 0);
    pica_socket_close(socket);
    pica_socket_close(listener);
    return 0;
}

PT_TEST(an_actor_talks_to_the_program) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.scenario = brings_an_actor;
    options.faults = -1;
    for (uint64_t seed = 0; seed < 50; seed++) {
        PT_EQ(pica_sim_run(seed, &options, answers_main, NULL), 0);
    }
}

static int leaks_main(void *arg) {
    int fd = pica_sim_connect(&actor_address); /* a call of actors; the task's descriptor stays open */
    (void)arg;
    PT_CHECK(fd >= 0 || fd == -ECONNREFUSED);
    return 0;
}

static void listens(void *arg) {
    int fd = pica_sim_listen(&actor_address);
    (void)arg;
    if (fd >= 0) {
        (void)pica_sim_accept(fd);
    }
}

static void brings_a_listener(void *arg) {
    (void)arg;
    PT_EQ(pica_address_unix(&actor_address, "@listener"), 0);
    PT_EQ(pica_sim_actor(listens, NULL, NULL), 0);
    PT_EQ(pica_sim_sleep(0), 0);
}

PT_TEST(open_descriptors_are_found) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.scenario = brings_a_listener;
    options.quiet = 1;
    options.faults = -1;
    int found = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        int rc = pica_sim_run(seed, &options, leaks_main, NULL);
        PT_CHECK(rc == 0 || rc == -EPROTO);
        found += rc == -EPROTO;
    }
    PT_CHECK(found > 0);
}

int main(int argc, char **argv) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.quiet = 1;
    if (pica_sim_run(1, &options, fails_main, NULL) == -ENOSYS) {
        return 77; /* under ThreadSanitizer */
    }
    return pt_main(argc, argv);
}
