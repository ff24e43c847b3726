/* Statistics: each number moves with what it counts, the workers' parts add up, and the text says the
 * same as the structs. */
#include <pica.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/stream_pair.h"

static struct pica_runtime_stats stats_now(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_REQUIRE(pica_runtime_get_stats(pica_current_runtime(), &stats) == 0);
    return stats;
}

static int park(void *future) {
    return pica_await(future, NULL);
}

static int quick(void *arg) {
    (void)arg;
    return 7;
}

TASK_TEST(tasks_and_stacks) {
    (void)arg;
    struct pica_runtime_stats before = stats_now();
    PT_EQ(before.workers, pica_runtime_workers(pica_current_runtime()));
    PT_EQ(before.tasks_alive, 1);
    PT_EQ(before.tasks_ended, 0);
    pica_future *go;
    PT_REQUIRE(pica_future_new(&go) == 0);
    pica_task *task[40];
    for (int i = 0; i < 40; i++) {
        PT_REQUIRE(pica_create_task(&task[i], park, go) == 0);
    }
    PT_EQ(pica_sleep(0.01), 0);
    struct pica_runtime_stats during = stats_now();
    PT_EQ(during.tasks_alive, 41);
    PT_EQ(during.tasks_created, 41);
    PT_CHECK(during.steps > before.steps);
    PT_EQ(pica_future_set_result(go, NULL, NULL), 0);
    for (int i = 0; i < 40; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    struct pica_runtime_stats after = stats_now();
    PT_EQ(after.tasks_ended, 40);
    PT_EQ(after.tasks_alive, 1);
    PT_CHECK(after.stacks_high_water >= 41);
    PT_CHECK(after.stacks_live <= after.stacks_high_water);
    pica_future_unref(go);
    pica_task *child;
    PT_REQUIRE(pica_create_task(&child, quick, NULL) == 0);
    PT_EQ(pica_join(child, NULL), 7);
    if (before.workers == 1) { /* nobody could steal it before it was awaited */
        PT_EQ(stats_now().tasks_inplace, after.tasks_inplace + 1);
    }
    return 0;
}

static void count_call(void *arg) {
    ++*(int *)arg;
}

TASK_TEST(timers_and_callbacks) {
    (void)arg;
    pica_loop *loop = pica_current_loop();
    struct pica_runtime_stats before = stats_now();
    pica_handle *handle[3];
    int calls = 0;
    for (int i = 0; i < 3; i++) {
        PT_REQUIRE(pica_loop_call_later(loop, 1000, count_call, &calls, &handle[i]) == 0);
    }
    PT_EQ(stats_now().timers, before.timers + 3);
    for (int i = 0; i < 3; i++) {
        (void)pica_handle_cancel(handle[i]);
        pica_handle_unref(handle[i]);
    }
    PT_EQ(stats_now().timers, before.timers);
    PT_REQUIRE(pica_loop_call_later(loop, 0, count_call, &calls, NULL) == 0);
    PT_EQ(pica_sleep(0.02), 0);
    PT_EQ(calls, 1);
    struct pica_runtime_stats after = stats_now();
    PT_CHECK(after.callbacks > before.callbacks);
    PT_CHECK(after.parks > before.parks); /* all slept meanwhile */
    return 0;
}

/* Queued behind the one that looks: in a callback of the only loop. */
static void look_at_queue(void *arg) {
    struct pica_runtime_stats *stats = arg;
    stats->size = sizeof *stats;
    PT_EQ(pica_runtime_get_stats(pica_loop_runtime(pica_current_loop()), stats), 0);
}

TASK_TEST(queues) {
    (void)arg;
    static struct pica_runtime_stats seen;
    int calls = 0;
    pica_loop *loop = pica_current_loop();
    PT_REQUIRE(pica_call_soon_threadsafe(loop, look_at_queue, &seen, NULL) == 0);
    PT_REQUIRE(pica_call_soon_threadsafe(loop, count_call, &calls, NULL) == 0);
    PT_REQUIRE(pica_call_soon_threadsafe(loop, count_call, &calls, NULL) == 0);
    pica_task *task[4];
    for (int i = 0; i < 4; i++) {
        PT_REQUIRE(pica_create_task(&task[i], quick, NULL) == 0);
    }
    struct pica_runtime_stats now = stats_now();
    if (now.workers == 1) {
        PT_EQ(now.deque_length, 4);
        PT_CHECK(now.ready_callbacks >= 3);
    }
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 7);
    }
    PT_EQ(pica_sleep(0.01), 0);
    PT_EQ(calls, 2);
    if (now.workers == 1) {
        PT_EQ(seen.ready_callbacks, 2);
        PT_EQ(stats_now().ready_callbacks, 0);
        PT_EQ(stats_now().deque_length, 0);
    }
    return 0;
}

/* The sums of the workers' parts are the whole's, when nothing moves but this task. */
TASK_TEST(bytes_and_sockets) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    struct pica_runtime_stats before = stats_now();
    PT_EQ(before.bytes_received + before.bytes_sent, 0);
    pica_socket *a, *b;
    connect_tcp(&a, &b);
    PT_EQ(pica_sleep(0.05), 0); /* the listener's descriptor is closed by its loop */
    PT_EQ(stats_now().sockets, before.sockets + 2);
    char buffer[100];
    SEND(a, "hello");
    PT_EQ(pica_recv(b, buffer, sizeof buffer), 5);
    SEND(b, "worlds!");
    PT_EQ(pica_recv(a, buffer, sizeof buffer), 7);
    struct pica_runtime_stats after = stats_now();
    PT_EQ(after.bytes_sent, 12);
    PT_EQ(after.bytes_received, 12);
    uint64_t sent = 0;
    uint64_t received = 0;
    uint64_t steps = 0;
    for (unsigned i = 0; i < pica_runtime_workers(rt); i++) {
        struct pica_worker_stats w = {.size = sizeof w};
        PT_EQ(pica_runtime_worker_stats(rt, i, &w), 0);
        sent += w.bytes_sent;
        received += w.bytes_received;
        steps += w.steps;
    }
    PT_EQ(sent, 12);
    PT_EQ(received, 12);
    PT_CHECK(steps >= after.steps);
    pica_socket_close(a);
    pica_socket_close(b);
    return 0;
}

TASK_TEST(bad_arguments) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    struct pica_runtime_stats stats = {.size = sizeof stats - 1};
    PT_EQ(pica_runtime_get_stats(rt, &stats), -EINVAL);
    struct pica_worker_stats w = {.size = 0};
    PT_EQ(pica_runtime_worker_stats(rt, 0, &w), -EINVAL);
    w.size = sizeof w;
    PT_EQ(pica_runtime_worker_stats(rt, pica_runtime_workers(rt), &w), -EINVAL);
    return 0;
}

/* The value of a line; -1 without one. */
static long long value_of(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *line = text; line != NULL && *line != 0; line = strchr(line, '\n'), line++) {
        if (strncmp(line, name, length) == 0 && line[length] == ' ') {
            return strtoll(line + length, NULL, 10);
        }
        if (strchr(line, '\n') == NULL) {
            break;
        }
    }
    return -1;
}

TASK_TEST(text) {
    (void)arg;
    pica_runtime *rt = pica_current_runtime();
    long length = pica_runtime_format_stats(rt, NULL, 0);
    PT_REQUIRE(length > 0);
    size_t size = (size_t)length + 1000; /* numbers may grow by a digit meanwhile */
    char *text = malloc(size);
    PT_REQUIRE(text != NULL);
    length = pica_runtime_format_stats(rt, text, size);
    PT_EQ(length, strlen(text));
    PT_EQ(text[length - 1], '\n');
    PT_EQ(value_of(text, "pica_workers"), pica_runtime_workers(rt));
    PT_EQ(value_of(text, "pica_tasks_alive"), 1);
    PT_EQ(value_of(text, "pica_tasks_created_total"), 1);
    PT_CHECK(value_of(text, "pica_steps_total") >= 1);
    PT_CHECK(value_of(text, "pica_worker_steps_total{worker=\"0\"}") >= 0);
    PT_EQ(value_of(text, "pica_starved_length"), 0);
    char name[64];
    snprintf(name, sizeof name, "pica_worker_deque_length{worker=\"%u\"}",
             pica_runtime_workers(rt) - 1);
    PT_CHECK(value_of(text, name) >= 0);
    /* Cut, and ended. */
    char small[20];
    memset(small, 'x', sizeof small);
    PT_CHECK(pica_runtime_format_stats(rt, small, 10) > 10);
    PT_EQ(strlen(small), 9);
    PT_EQ(strncmp(small, text, 9), 0);
    PT_EQ(small[10], 'x');
    free(text);
    return 0;
}

PT_MAIN()
