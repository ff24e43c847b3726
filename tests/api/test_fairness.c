/* Bounded starvation: on one worker that is never without work, tasks that are created or woken, callbacks, timers
 * and readiness of descriptors come within a number of steps, whatever keeps the worker busy: tasks that wake each
 * other for ever (the LIFO slot), tasks that yield for ever, tasks that create tasks for ever. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/tasks.h"

/* One turn is 64 steps; what is new waits for the next turn, and then for what is queued. Of the tasks woken last
 * three may overtake each that is queued. */
enum { TURN = 64, PER_QUEUED = 4, BUSY = 12, BOUND = 2 * TURN + PER_QUEUED * (BUSY + 4), ROUNDS = 100 };

/* All of this is touched by one worker alone; atomic, as tasks are threads to a sanitizer. */
static atomic_ulong steps; /* of those that keep the worker busy */
static atomic_bool over;
static atomic_ulong began;

struct probe {
    const char *name;
    atomic_ulong most;
    atomic_uint rounds;
};
static struct probe probes[] = {{"a task created", 0, 0},
                                {"a task woken", 0, 0},
                                {"a callback", 0, 0},
                                {"a timer", 0, 0},
                                {"a descriptor", 0, 0}};

static void came(void *arg) {
    struct probe *p = arg;
    unsigned long took = steps - began;
    p->most = took > p->most ? took : p->most;
    p->rounds++;
}

static int came_task(void *arg) {
    came(arg);
    return 0;
}

/* --- who keeps it busy --- */

static int yields(void *arg) {
    (void)arg;
    while (!over) {
        steps++;
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

struct pair {
    pica_event turn[2];
};

static int passes_on(struct pair *pair, int who) {
    while (!over) {
        PT_EQ(pica_event_wait(&pair->turn[who]), 0);
        pica_event_clear(&pair->turn[who]);
        steps++;
        pica_event_set(&pair->turn[!who]);
    }
    pica_event_set(&pair->turn[!who]);
    return 0;
}

static int ping(void *arg) {
    return passes_on(arg, 0);
}

static int pong(void *arg) {
    return passes_on(arg, 1);
}

/* Each creates the next one. */
static int creates(void *arg) {
    steps++;
    return over ? 0 : pica_create_task(NULL, creates, arg);
}

/* --- who measures --- */

static pica_event event;
static int fd;
static atomic_bool waiting; /* or about to */

static int waits_for_event(void *arg) {
    atomic_store(&waiting, true);
    PT_EQ(pica_event_wait(&event), 0);
    came(arg);
    return 0;
}

static int waits_for_descriptor(void *arg) {
    uint64_t value;
    atomic_store(&waiting, true);
    PT_CHECK(pica_poll(fd, POLLIN) > 0);
    came(arg);
    PT_EQ(read(fd, &value, sizeof value), sizeof value);
    return 0;
}

/* Whatever it takes, but not for ever; the worker stays busy meanwhile. */
static void until(const struct probe *p, unsigned rounds) {
    unsigned long end = steps + 1000000;
    while (p->rounds < rounds && steps < end) {
        PT_EQ(pica_yield(), 0);
    }
    PT_REQUIRE(p->rounds == rounds);
}

static void begin_waiting(pica_fn fn, struct probe *p) {
    atomic_store(&waiting, false);
    PT_EQ(pica_create_task(NULL, fn, p), 0);
    while (!atomic_load(&waiting)) {
        PT_EQ(pica_yield(), 0);
    }
}

static void measure(unsigned round) {
    const uint64_t one = 1;
    began = steps;
    PT_EQ(pica_create_task(NULL, came_task, &probes[0]), 0);
    until(&probes[0], round);

    pica_event_clear(&event);
    begin_waiting(waits_for_event, &probes[1]);
    began = steps;
    pica_event_set(&event);
    until(&probes[1], round);

    began = steps;
    PT_EQ(pica_call_soon(came, &probes[2], NULL), 0);
    until(&probes[2], round);

    began = steps;
    PT_EQ(pica_call_later(0, came, &probes[3], NULL), 0);
    until(&probes[3], round);

    begin_waiting(waits_for_descriptor, &probes[4]);
    began = steps;
    PT_EQ(write(fd, &one, sizeof one), sizeof one);
    until(&probes[4], round);
}

static void report(void) {
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        printf("    %s: at most %lu of %d steps\n", probes[i].name, probes[i].most, (int)BOUND);
        PT_EQ(probes[i].rounds, ROUNDS);
        PT_CHECK(probes[i].most <= BOUND);
    }
}

static int busy_main(void *arg) {
    const char *kinds = arg;
    struct pair pair = {{PICA_EVENT_INIT, PICA_EVENT_INIT}};
    pica_task *tasks[BUSY + 2];
    size_t n = 0;
    if (strchr(kinds, 'y') != NULL) {
        while (n < BUSY) {
            tasks[n++] = spawn(yields, NULL);
        }
    }
    if (strchr(kinds, 'p') != NULL) {
        tasks[n++] = spawn(ping, &pair);
        tasks[n++] = spawn(pong, &pair);
        pica_event_set(&pair.turn[0]);
    }
    if (strchr(kinds, 'c') != NULL) {
        PT_EQ(pica_create_task(NULL, creates, NULL), 0);
    }
    for (unsigned i = 1; i <= ROUNDS; i++) {
        measure(i);
    }
    over = true;
    while (n > 0) {
        PT_EQ(pica_join(tasks[--n], NULL), 0);
    }
    report();
    return pica_wait_all_tasks(0);
}

static void run_busy(const char *kinds) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    PT_REQUIRE(fd >= 0);
    PT_EQ(pica_run_opts(busy_main, (void *)(uintptr_t)kinds, &options), 0);
    close(fd);
}

PT_TEST_TIMEOUT(beside_tasks_that_yield, 60) {
    run_busy("y");
}

PT_TEST_TIMEOUT(beside_tasks_that_wake_each_other, 60) {
    run_busy("p");
}

PT_TEST_TIMEOUT(beside_tasks_that_create_tasks, 60) {
    run_busy("c");
}

PT_TEST_TIMEOUT(beside_all_of_them, 60) {
    run_busy("ypc");
}

PT_MAIN()
