/* Events: set, wait, clear. */
#include <stdatomic.h>

#include "bench/micro/cases.h"

enum { BATCH = 1000 };

/* --- nobody waits: set, wait, clear by one task --- */

static int event_alone(bm_state *state) {
    pica_event event = PICA_EVENT_INIT;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            pica_event_set(&event);
            BM_MUST(pica_event_wait(&event));
            pica_event_clear(&event);
        }
    }
    return 0;
}

/* --- two tasks in turns: one operation is a wake there and a wake back --- */

struct pair {
    pica_event there;
    pica_event back;
    int stop; /* written before there is set, read after it was waited for */
};

static int answer(void *arg) {
    struct pair *pair = arg;
    int stop;
    do {
        BM_MUST(pica_event_wait(&pair->there));
        stop = pair->stop;
        pica_event_clear(&pair->there);
        pica_event_set(&pair->back);
    } while (!stop);
    return 0;
}

static void ask(struct pair *pair, int stop) {
    pair->stop = stop;
    pica_event_set(&pair->there);
    BM_MUST(pica_event_wait(&pair->back));
    pica_event_clear(&pair->back);
}

static int ping_pong(bm_state *state, const struct pica_task_options *there) {
    struct pair pair = {PICA_EVENT_INIT, PICA_EVENT_INIT, 0};
    pica_task *task;
    BM_MUST(pica_create_task_opts(&task, answer, &pair, there));
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            ask(&pair, 0);
        }
    }
    ask(&pair, 1);
    BM_MUST(pica_join(task, NULL));
    return 0;
}

static int event_ping_pong(bm_state *state) {
    return ping_pong(state, NULL);
}

/* The same with tasks that are pinned to the first and the last loop: with two workers each wake goes
 * to a worker that may be asleep. */
static int pinned_ping_pong(void *arg) {
    bm_state *state = arg;
    pica_runtime *rt = pica_current_runtime();
    struct pica_task_options last = PICA_TASK_OPTIONS_INIT;
    last.pinned = 1;
    last.loop = pica_runtime_loop(rt, pica_runtime_workers(rt) - 1);
    return ping_pong(state, &last);
}

static int event_ping_pong_pinned(bm_state *state) {
    struct pica_task_options first = PICA_TASK_OPTIONS_INIT;
    first.pinned = 1;
    first.loop = pica_runtime_loop(pica_current_runtime(), 0);
    pica_task *task;
    BM_MUST(pica_create_task_opts(&task, pinned_ping_pong, state, &first));
    return pica_join(task, NULL);
}

/* --- one set wakes n: one operation is one task woken --- */

enum { TASKS_MAX = 1000 };

struct crowd {
    /* By turns: one is cleared when all have passed it, while they wait at the other. */
    pica_event go[2];
    pica_event all_passed;
    int64_t size;
    /* Who has passed in this round. The last one to add sets all_passed: acq_rel, so that what all did
     * comes before it. */
    _Atomic int64_t passed;
    int stop; /* written before go is set, read after it */
};

static int member(void *arg) {
    struct crowd *c = arg;
    int stop = 0;
    for (unsigned round = 0; !stop; round++) {
        BM_MUST(pica_event_wait(&c->go[round % 2]));
        stop = c->stop;
        if (atomic_fetch_add_explicit(&c->passed, 1, memory_order_acq_rel) + 1 == c->size) {
            pica_event_set(&c->all_passed);
        }
    }
    return 0;
}

static void let_pass(struct crowd *c, unsigned round, int stop) {
    c->stop = stop;
    atomic_store_explicit(&c->passed, 0, memory_order_relaxed); /* nobody adds before the set */
    pica_event_set(&c->go[round % 2]);
    BM_MUST(pica_event_wait(&c->all_passed));
    pica_event_clear(&c->all_passed);
    pica_event_clear(&c->go[round % 2]);
}

static int event_crowd(bm_state *state) {
    pica_task *tasks[TASKS_MAX];
    struct crowd crowd = {
        {PICA_EVENT_INIT, PICA_EVENT_INIT}, PICA_EVENT_INIT, bm_param(state), 0, 0};
    unsigned round = 0;
    for (int64_t i = 0; i < crowd.size; i++) {
        BM_MUST(pica_create_task(&tasks[i], member, &crowd));
    }
    while (bm_next(state, crowd.size)) {
        let_pass(&crowd, round++, 0);
    }
    let_pass(&crowd, round, 1);
    for (int64_t i = 0; i < crowd.size; i++) {
        BM_MUST(pica_join(tasks[i], NULL));
    }
    return 0;
}

const struct bm_case event_cases[] = {
    {.name = "event_alone", .task = event_alone},
    {.name = "event_ping_pong", .task = event_ping_pong},
    {.name = "event_ping_pong_pinned", .task = event_ping_pong_pinned},
    {"event_crowd", event_crowd, NULL, "tasks", {10, 1000}, 2},
    {0},
};
