/* Statistics: what a runtime and its workers are doing, as numbers and as text.
 *
 * Nothing is stopped. Counters are written by one worker each and read here, all relaxed; lengths are read
 * from the structures themselves. The engine's length of operations in flight is its owner's, also read
 * relaxed. Timers are counted under the lock of their heap, one loop at a time (a leaf).
 */
#include <stdio.h>
#include <string.h>

#include "runtime/rt.h"
#include "runtime/task.h"

static uint64_t get(_Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void worker_stats(pica_runtime *rt, unsigned i, struct pica_worker_stats *stats) {
    pica__worker *w = &rt->worker[i];
    pica_loop *loop = &rt->loop[i];
    memset(stats, 0, sizeof *stats);
    stats->size = sizeof *stats;
    uint64_t ended = atomic_load_explicit(&loop->registry.ended, memory_order_seq_cst);
    uint64_t created = atomic_load_explicit(&loop->registry.created, memory_order_seq_cst);
    stats->tasks_home = created - ended; /* in this order: never below zero */
    stats->tasks_created = get(&w->stats.created);
    stats->tasks_inplace = get(&w->stats.inplace);
    stats->steps = get(&w->steps);
    stats->callbacks = get(&w->stats.callbacks);
    stats->steals = get(&w->stats.steals);
    stats->parks = get(&w->stats.parks);
    stats->wakes = get(&w->stats.wakes);
    stats->bytes_received = get(&w->stats.received);
    stats->bytes_sent = get(&w->stats.sent);
    stats->rescued = get(&w->stats.rescued);
    stats->operations = pica__engine_in_flight(loop->engine);
    pica__lock(&loop->timers.lock);
    stats->timers = loop->timers.heap.count - atomic_load_explicit(&loop->timers.resting, memory_order_relaxed) -
                    pica__heap_node_in(&loop->timers.look.timer.node); /* the library's own */
    pica__unlock(&loop->timers.lock);
    stats->ready_callbacks = get(&loop->ready_count);
    stats->deque_length =
        pica__deque_size(&w->deque) +
        (atomic_load_explicit(&w->lifo, memory_order_relaxed) != NULL) +
        (atomic_load_explicit(&w->newest, memory_order_relaxed) != NULL);
}

int pica_runtime_worker_stats(pica_runtime *rt, unsigned i, struct pica_worker_stats *stats) {
    if (stats->size != sizeof *stats || i >= rt->workers) {
        return -EINVAL;
    }
    worker_stats(rt, i, stats);
    return 0;
}

uint64_t pica_runtime_worker_steps(pica_runtime *rt, unsigned i) {
    return i < rt->workers ? get(&rt->worker[i].steps) : 0;
}

int pica_runtime_get_stats(pica_runtime *rt, struct pica_runtime_stats *stats) {
    if (stats->size != sizeof *stats) {
        return -EINVAL;
    }
    memset(stats, 0, sizeof *stats);
    stats->size = sizeof *stats;
    stats->workers = rt->workers;
    stats->tasks_alive = pica__runtime_alive(rt);
    for (unsigned i = 0; i < rt->workers; i++) {
        struct pica_worker_stats w;
        worker_stats(rt, i, &w);
        stats->tasks_ended += get(&rt->loop[i].registry.ended);
        stats->tasks_created += get(&rt->loop[i].registry.created);
        stats->tasks_inplace += w.tasks_inplace;
        stats->steps += w.steps;
        stats->callbacks += w.callbacks;
        stats->steals += w.steals;
        stats->parks += w.parks;
        stats->wakes += w.wakes;
        stats->bytes_received += w.bytes_received;
        stats->bytes_sent += w.bytes_sent;
        stats->rescued += w.rescued;
        stats->operations += w.operations;
        stats->timers += w.timers;
        stats->ready_callbacks += w.ready_callbacks;
        stats->deque_length += w.deque_length;
    }
    struct pica__stack_counts stacks;
    pica__stack_counts(rt->stacks, &stacks);
    stats->stacks_live = stacks.live;
    stats->stacks_idle = stacks.idle;
    stats->stacks_high_water = stacks.high_water;
    stats->sockets = get(&rt->sockets);
    stats->shared_length = atomic_load_explicit(&rt->shared.count, memory_order_relaxed);
    stats->starved_length = atomic_load_explicit(&rt->starved.count, memory_order_relaxed);
    return 0;
}

/* --- as text --- */

/* One number of a struct: its name, where it lies, whether it only grows. */
struct line {
    const char *name;
    size_t at;
    bool total;
};

#define NOW(type, name) {#name, offsetof(struct type, name), false}
#define TOTAL(type, name) {#name, offsetof(struct type, name), true}

static const struct line runtime_lines[] = {
    NOW(pica_runtime_stats, workers),          NOW(pica_runtime_stats, tasks_alive),
    TOTAL(pica_runtime_stats, tasks_created),  TOTAL(pica_runtime_stats, tasks_ended),
    TOTAL(pica_runtime_stats, tasks_inplace),  TOTAL(pica_runtime_stats, steps),
    TOTAL(pica_runtime_stats, callbacks),      TOTAL(pica_runtime_stats, steals),
    TOTAL(pica_runtime_stats, parks),          TOTAL(pica_runtime_stats, wakes),
    TOTAL(pica_runtime_stats, bytes_received), TOTAL(pica_runtime_stats, bytes_sent),
    TOTAL(pica_runtime_stats, rescued),        NOW(pica_runtime_stats, stacks_live),
    NOW(pica_runtime_stats, stacks_idle),      NOW(pica_runtime_stats, stacks_high_water),
    NOW(pica_runtime_stats, operations),       NOW(pica_runtime_stats, sockets),
    NOW(pica_runtime_stats, timers),           NOW(pica_runtime_stats, ready_callbacks),
    NOW(pica_runtime_stats, deque_length),     NOW(pica_runtime_stats, shared_length),
    NOW(pica_runtime_stats, starved_length),
};

static const struct line worker_lines[] = {
    NOW(pica_worker_stats, tasks_home),       TOTAL(pica_worker_stats, tasks_created),
    TOTAL(pica_worker_stats, tasks_inplace),  TOTAL(pica_worker_stats, steps),
    TOTAL(pica_worker_stats, callbacks),      TOTAL(pica_worker_stats, steals),
    TOTAL(pica_worker_stats, parks),          TOTAL(pica_worker_stats, wakes),
    TOTAL(pica_worker_stats, bytes_received), TOTAL(pica_worker_stats, bytes_sent),
    TOTAL(pica_worker_stats, rescued),        NOW(pica_worker_stats, operations),
    NOW(pica_worker_stats, timers),           NOW(pica_worker_stats, ready_callbacks),
    NOW(pica_worker_stats, deque_length),
};

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* Text that is cut where the buffer ends; `length` is what all of it would have needed. */
struct text {
    char *buffer;
    size_t size;
    size_t length;
};

static void add(struct text *text, const char *prefix, const char *label, const struct line *line,
                const void *stats) {
    uint64_t value;
    memcpy(&value, (const char *)stats + line->at, sizeof value);
    size_t room = text->length < text->size ? text->size - text->length : 0;
    int n = snprintf(room != 0 ? text->buffer + text->length : NULL, room, "%s%s%s%s %llu\n", prefix,
                     line->name, line->total ? "_total" : "", label, (unsigned long long)value);
    text->length += n > 0 ? (size_t)n : 0;
}

long pica_runtime_format_stats(pica_runtime *rt, char *buffer, size_t size) {
    struct text text = {buffer, size, 0};
    if (size != 0) {
        buffer[0] = 0;
    }
    struct pica_runtime_stats all = {.size = sizeof all};
    (void)pica_runtime_get_stats(rt, &all);
    for (size_t i = 0; i < COUNT(runtime_lines); i++) {
        add(&text, "pica_", "", &runtime_lines[i], &all);
    }
    /* By name, then by worker: Prometheus wants the lines of one name together. */
    for (size_t i = 0; i < COUNT(worker_lines); i++) {
        for (unsigned w = 0; w < rt->workers; w++) {
            char label[32];
            (void)snprintf(label, sizeof label, "{worker=\"%u\"}", w);
            struct pica_worker_stats stats;
            worker_stats(rt, w, &stats);
            add(&text, "pica_worker_", label, &worker_lines[i], &stats);
        }
    }
    return (long)text.length;
}
