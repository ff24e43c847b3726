/*
 * The timer heap: order, removal from anywhere, growth and shrinking, failure to grow.
 */
#include <errno.h>
#include <stdlib.h>

#include "runtime/base/alloc.h"
#include "runtime/base/heap.h"
#include "runtime/base/random.h"
#include "tests/support/pt.h"

#define NODES 2000

static pica__heap_node nodes[NODES];

static void nodes_init(void) {
    for (size_t i = 0; i < NODES; i++) {
        pica__heap_node_init(&nodes[i]);
    }
}

static bool in_order(const pica__heap_node *a, const pica__heap_node *b) {
    return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}

/* Every entry agrees with its node and is not before its parent. */
static void check_heap(const pica__heap *h) {
    for (size_t i = 0; i < h->count; i++) {
        const pica__heap_entry *e = &h->entries[i];
        if (e->node->index != i || e->node->when != e->when || e->node->seq != e->seq ||
            (i > 0 && in_order(e->node, h->entries[(i - 1) / 4].node))) {
            PT_FAIL("entry %zu of %zu is wrong", i, h->count);
            return;
        }
    }
}

PT_TEST(empty) {
    pica__heap h;
    pica__heap_init(&h);
    PT_CHECK(pica__heap_empty(&h));
    PT_CHECK(pica__heap_min(&h) == NULL);
    PT_CHECK(pica__heap_pop(&h) == NULL);
    pica__heap_destroy(&h);
}

PT_TEST(equal_times_come_out_in_push_order) {
    nodes_init();
    pica__heap h;
    pica__heap_init(&h);
    for (size_t i = 0; i < NODES; i++) {
        nodes[i].when = (int64_t)(i % 3);
        PT_EQ(pica__heap_push(&h, &nodes[i]), 0);
    }
    for (size_t when = 0; when < 3; when++) {
        for (size_t i = when; i < NODES; i += 3) {
            PT_REQUIRE(pica__heap_pop(&h) == &nodes[i]);
            PT_REQUIRE(!pica__heap_node_in(&nodes[i]));
        }
    }
    PT_CHECK(pica__heap_empty(&h));
    pica__heap_destroy(&h);
}

PT_TEST(extreme_times) {
    static const int64_t whens[] = {0, INT64_MAX, INT64_MIN, -1, 1};
    static const int64_t sorted[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    nodes_init();
    pica__heap h;
    pica__heap_init(&h);
    for (size_t i = 0; i < 5; i++) {
        nodes[i].when = whens[i];
        PT_EQ(pica__heap_push(&h, &nodes[i]), 0);
    }
    for (size_t i = 0; i < 5; i++) {
        PT_CHECK(pica__heap_min(&h)->when == sorted[i]);
        PT_CHECK(pica__heap_pop(&h)->when == sorted[i]);
    }
    pica__heap_destroy(&h);
}

/* The earliest of the nodes that are in, by looking at all of them. */
static pica__heap_node *earliest(void) {
    pica__heap_node *best = NULL;
    for (size_t i = 0; i < NODES; i++) {
        if (pica__heap_node_in(&nodes[i]) && (best == NULL || in_order(&nodes[i], best))) {
            best = &nodes[i];
        }
    }
    return best;
}

PT_TEST(random_operations_against_a_search) {
    nodes_init();
    pica__heap h;
    pica__heap_init(&h);
    pica__random r;
    pica__random_init(&r, 7);
    size_t in = 0;
    for (unsigned step = 0; step < 60000; step++) {
        /* The share of pushes goes up and down, so that the heap grows and shrinks. */
        bool grow = pica__random_below(&r, 100) < (step / 6000 % 2 == 0 ? 75u : 25u);
        pica__heap_node *n = &nodes[pica__random_below(&r, NODES)];
        if (grow && !pica__heap_node_in(n)) {
            n->when = (int64_t)pica__random_below(&r, 500) - 250;
            PT_REQUIRE(pica__heap_push(&h, n) == 0);
            in++;
        } else if (pica__heap_node_in(n)) {
            pica__heap_remove(&h, n);
            PT_REQUIRE(!pica__heap_node_in(n));
            in--;
        }
        if (step % 16 == 0) {
            PT_REQUIRE(pica__heap_min(&h) == earliest());
        }
        if (step % 500 == 0) {
            check_heap(&h);
        }
        PT_REQUIRE(h.count == in);
    }
    const pica__heap_node *last = NULL;
    for (pica__heap_node *n; (n = pica__heap_pop(&h)) != NULL; last = n) {
        PT_REQUIRE(last == NULL || in_order(last, n));
        in--;
    }
    PT_EQ(in, 0);
    pica__heap_destroy(&h);
}

PT_TEST(gives_memory_back) {
    nodes_init();
    pica__heap h;
    pica__heap_init(&h);
    for (size_t i = 0; i < NODES; i++) {
        nodes[i].when = (int64_t)i;
        PT_EQ(pica__heap_push(&h, &nodes[i]), 0);
    }
    PT_CHECK(h.capacity >= NODES && h.capacity < 2 * NODES + 16);
    while (h.count > 10) {
        pica__heap_pop(&h);
    }
    PT_CHECK(h.capacity <= 64);
    check_heap(&h);
    pica__heap_destroy(&h);
    PT_EQ(h.capacity, 0);
}

PT_TEST(no_memory_to_grow) {
    nodes_init();
    pica__heap h;
    pica__heap_init(&h);
    pica__alloc_fail_at(1);
    PT_EQ(pica__heap_push(&h, &nodes[0]), -ENOMEM);
    PT_CHECK(!pica__heap_node_in(&nodes[0]));
    size_t i = 0;
    do {
        nodes[i].when = -(int64_t)i;
        PT_EQ(pica__heap_push(&h, &nodes[i]), 0);
        i++;
    } while (h.count < h.capacity);
    pica__alloc_fail_at(1);
    PT_EQ(pica__heap_push(&h, &nodes[i]), -ENOMEM);
    PT_CHECK(pica__alloc_fail_hit());
    PT_CHECK(!pica__heap_node_in(&nodes[i]));
    PT_EQ(h.count, i);
    check_heap(&h);
    PT_EQ(pica__heap_push(&h, &nodes[i]), 0);
    PT_CHECK(pica__heap_min(&h) == &nodes[i - 1]);
    pica__heap_destroy(&h);
}

PT_MAIN()
