/* Futures that are not tasks. */
#include "bench/micro/cases.h"

enum { BATCH = 1000 };

/* --- created, completed, awaited by the same task, which never waits --- */

static int future_done(bm_state *state) {
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            pica_future *future;
            void *value;
            BM_MUST(pica_future_new(&future));
            BM_MUST(pica_future_set_result(future, &value, NULL));
            BM_MUST(pica_await(future, &value));
            pica_future_unref(future);
            if (value != &value) {
                return BM_WRONG;
            }
        }
    }
    return 0;
}

/* --- completed by a second task while the first one waits: one operation is one round trip, with
 * a future for the question and one for the answer --- */

struct exchange {
    pica_future *question;
    pica_future *answer;
};

/* The value of a question is the exchange that comes next; NULL ends. */
static int answerer(void *arg) {
    struct exchange *exchange = arg;
    while (exchange != NULL) {
        void *next;
        BM_MUST(pica_await(exchange->question, &next));
        BM_MUST(pica_future_set_result(exchange->answer, exchange, NULL));
        exchange = next;
    }
    return 0;
}

static void open_exchange(struct exchange *exchange) {
    BM_MUST(pica_future_new(&exchange->question));
    BM_MUST(pica_future_new(&exchange->answer));
}

static void close_exchange(struct exchange *exchange) {
    pica_future_unref(exchange->question);
    pica_future_unref(exchange->answer);
}

/* Asks, waits for the answer; next is open already, since the answerer waits there at once. */
static int ask(struct exchange *exchange, struct exchange *next) {
    void *value;
    BM_MUST(pica_future_set_result(exchange->question, next, NULL));
    BM_MUST(pica_await(exchange->answer, &value));
    return value == exchange ? 0 : BM_WRONG;
}

static int future_round_trip(bm_state *state) {
    /* Three: the answerer may still look at the one before, when its answer has come. */
    struct exchange exchanges[3];
    unsigned now = 0;
    pica_task *task;
    open_exchange(&exchanges[0]);
    BM_MUST(pica_create_task(&task, answerer, &exchanges[0]));
    int rc = 0;
    struct exchange *old = NULL;
    while (rc == 0 && bm_next(state, BATCH)) {
        for (int i = 0; rc == 0 && i < BATCH; i++) {
            struct exchange *next = &exchanges[++now % 3];
            open_exchange(next);
            rc = ask(&exchanges[(now - 1) % 3], next);
            if (old != NULL) {
                close_exchange(old);
            }
            old = &exchanges[(now - 1) % 3];
        }
    }
    int last = ask(&exchanges[now % 3], NULL);
    BM_MUST(pica_join(task, NULL));
    if (old != NULL) {
        close_exchange(old);
    }
    close_exchange(&exchanges[now % 3]);
    return rc < 0 ? rc : last;
}

const struct bm_case future_cases[] = {
    {.name = "future_done", .task = future_done},
    {.name = "future_round_trip", .task = future_round_trip},
    {0},
};
