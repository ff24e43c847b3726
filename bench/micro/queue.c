/* Queues: one producer and one consumer. */
#include "bench/micro/cases.h"

/* --- a stream: one operation is one item --- */

enum { ITEMS = 10000 };

static char item; /* what is sent; only its address counts */

static int produce(void *arg) {
    pica_queue *queue = arg;
    for (int i = 0; i < ITEMS; i++) {
        BM_MUST(pica_queue_put(queue, &item));
    }
    return 0;
}

static int queue_stream(bm_state *state) {
    pica_queue queue;
    pica_queue_init(&queue, (size_t)bm_param(state));
    int64_t wrong = 0;
    while (bm_next(state, ITEMS)) {
        pica_task *producer;
        BM_MUST(pica_create_task(&producer, produce, &queue));
        for (int i = 0; i < ITEMS; i++) {
            void *got;
            BM_MUST(pica_queue_get(&queue, &got));
            wrong += got != &item;
        }
        BM_MUST(pica_join(producer, NULL));
        wrong += pica_queue_size(&queue) != 0;
    }
    pica_queue_destroy(&queue, NULL);
    return wrong == 0 ? 0 : BM_WRONG;
}

/* --- in and out by the same task: nobody waits --- */

static int queue_alone(bm_state *state) {
    enum { BATCH = 1000 };
    pica_queue queue;
    pica_queue_init(&queue, 16);
    int64_t wrong = 0;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            void *got;
            BM_MUST(pica_queue_put(&queue, &item));
            BM_MUST(pica_queue_get(&queue, &got));
            wrong += got != &item;
        }
    }
    pica_queue_destroy(&queue, NULL);
    return wrong == 0 ? 0 : BM_WRONG;
}

/* --- ping-pong: one operation is a message there and a message back --- */

struct pair {
    pica_queue there;
    pica_queue back;
};

static int echo(void *arg) {
    struct pair *pair = arg;
    void *message;
    do {
        BM_MUST(pica_queue_get(&pair->there, &message));
        BM_MUST(pica_queue_put(&pair->back, message));
    } while (message != NULL);
    return 0;
}

static int queue_ping_pong(bm_state *state) {
    enum { BATCH = 1000 };
    struct pair pair;
    pica_queue_init(&pair.there, 1);
    pica_queue_init(&pair.back, 1);
    pica_task *task;
    BM_MUST(pica_create_task(&task, echo, &pair));
    int64_t wrong = 0;
    void *got;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            BM_MUST(pica_queue_put(&pair.there, &item));
            BM_MUST(pica_queue_get(&pair.back, &got));
            wrong += got != &item;
        }
    }
    BM_MUST(pica_queue_put(&pair.there, NULL));
    BM_MUST(pica_queue_get(&pair.back, &got));
    BM_MUST(pica_join(task, NULL));
    pica_queue_destroy(&pair.there, NULL);
    pica_queue_destroy(&pair.back, NULL);
    return wrong == 0 ? 0 : BM_WRONG;
}

const struct bm_case queue_cases[] = {
    {.name = "queue_alone", .task = queue_alone},
    {"queue_stream", queue_stream, NULL, "bound", {1, 128, 1024}, 3},
    {.name = "queue_ping_pong", .task = queue_ping_pong},
    {0},
};
