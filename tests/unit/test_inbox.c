/*
 * The inbox and the lists it hands out: order, nothing lost or doubled, the "was empty" answer.
 */
#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/compiler.h"
#include "runtime/base/inbox.h"
#include "runtime/base/relax.h"
#include "tests/support/pt.h"

struct item {
    pica__fifo_node node;
    unsigned producer;
    unsigned number;
};

static struct item *item_of(pica__fifo_node *n) {
    return PICA__CONTAINER_OF(n, struct item, node);
}

PT_TEST(takes_all_oldest_first) {
    pica__inbox box;
    struct item items[5] = {0};
    pica__inbox_init(&box);
    PT_CHECK(pica__inbox_empty(&box));
    PT_CHECK(pica__inbox_take(&box) == NULL);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 5; i++) {
            items[i].number = i;
            PT_EQ(pica__inbox_push(&box, &items[i].node), i == 0);
        }
        PT_CHECK(!pica__inbox_empty(&box));
        pica__fifo_node *n = pica__inbox_take(&box);
        PT_CHECK(pica__inbox_empty(&box));
        for (unsigned i = 0; i < 5; i++) {
            PT_REQUIRE(n == &items[i].node);
            n = n->next;
        }
        PT_CHECK(n == NULL);
    }
}

PT_TEST(a_taken_chain_goes_to_the_back_of_a_queue) {
    pica__inbox box;
    pica__fifo queue;
    struct item items[6] = {0};
    pica__inbox_init(&box);
    pica__fifo_init(&queue);
    pica__fifo_push_chain(&queue, pica__inbox_take(&box));
    PT_CHECK(pica__fifo_empty(&queue));
    for (unsigned i = 0; i < 6; i++) {
        pica__inbox_push(&box, &items[i].node);
        if (i % 2 == 1) {
            pica__fifo_push_chain(&queue, pica__inbox_take(&box));
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        PT_CHECK(pica__fifo_pop(&queue) == &items[i].node);
    }
    PT_CHECK(pica__fifo_pop(&queue) == NULL);
}

#define PRODUCERS 3
#define EACH 20000u

static pica__inbox shared_box;
static struct item shared_items[PRODUCERS][EACH];
/* How often a push found the box empty: producers add, relaxed; read after joining them. */
static atomic_uint found_empty;

static void *produce(void *arg) {
    struct item *items = arg;
    for (unsigned i = 0; i < EACH; i++) {
        if (pica__inbox_push(&shared_box, &items[i].node)) {
            atomic_fetch_add_explicit(&found_empty, 1, memory_order_relaxed);
        }
    }
    return NULL;
}

PT_TEST(many_producers_lose_nothing_and_keep_their_order) {
    pthread_t threads[PRODUCERS];
    unsigned next[PRODUCERS] = {0}, taken = 0, batches = 0;
    pica__inbox_init(&shared_box);
    for (unsigned p = 0; p < PRODUCERS; p++) {
        for (unsigned i = 0; i < EACH; i++) {
            shared_items[p][i].producer = p;
            shared_items[p][i].number = i;
        }
        PT_REQUIRE(pthread_create(&threads[p], NULL, produce, shared_items[p]) == 0);
    }
    pica__backoff backoff = PICA__BACKOFF_INIT;
    while (taken < PRODUCERS * EACH) {
        pica__fifo_node *n = pica__inbox_take(&shared_box);
        if (n == NULL) {
            pica__relax(&backoff);
            continue;
        }
        batches++;
        while (n != NULL) {
            pica__fifo_node *following = n->next;
            struct item *item = item_of(n);
            PT_REQUIRE(item->number == next[item->producer]);
            next[item->producer]++;
            taken++;
            n->next = NULL; /* ours to write: a late pusher would show here under TSan */
            n = following;
        }
    }
    for (unsigned p = 0; p < PRODUCERS; p++) {
        pthread_join(threads[p], NULL);
        PT_EQ(next[p], EACH);
    }
    PT_CHECK(pica__inbox_take(&shared_box) == NULL);
    /* Each batch began with one push into an empty box, the only one to be told so. */
    PT_EQ(atomic_load(&found_empty), batches);
}

PT_MAIN()
