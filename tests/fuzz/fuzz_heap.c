/* The timer heap (runtime/base/heap.c) against a sorted array: push, remove from anywhere, move to another time, pop;
 * with allocations that fail. After each step the earliest must be the same, and each node must know its place. */
#include "runtime/base/heap.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "tests/fuzz/fuzz.h"

enum { NODES = 400 };

static pica__heap heap;
static pica__heap_node node[NODES];

/* The model: the nodes that are in, earliest first, and those of equal time in the order of their pushes. */
static struct {
    pica__heap_node *in[NODES];
    int64_t when[NODES];
    unsigned count;
} model;

static void model_push(pica__heap_node *n) {
    unsigned at = model.count++;
    for (; at > 0 && model.when[at - 1] > n->when; at--) {
        model.in[at] = model.in[at - 1];
        model.when[at] = model.when[at - 1];
    }
    model.in[at] = n;
    model.when[at] = n->when;
}

static void model_remove(unsigned at) {
    model.count--;
    memmove(&model.in[at], &model.in[at + 1], (model.count - at) * sizeof model.in[0]);
    memmove(&model.when[at], &model.when[at + 1], (model.count - at) * sizeof model.when[0]);
}

static int64_t when_of(struct script *s) {
    switch (script_below(s, 4)) {
    case 0:
        return INT64_MIN + script_below(s, 3);
    case 1:
        return INT64_MAX - script_below(s, 3);
    case 2:
        return (int64_t)script_below(s, 8) - 4; /* many alike */
    default:
        return (int64_t)script_below(s, 65536) - 32768;
    }
}

static void push(pica__heap_node *n, int64_t when, bool fail) {
    bool grows = heap.count == heap.capacity;
    n->when = when;
    pica__alloc_fail_at(fail ? 1 : 0);
    int rc = pica__heap_push(&heap, n);
    pica__alloc_fail_at(0);
    FUZZ_EQ(rc, fail && grows ? -ENOMEM : 0);
    FUZZ_EQ(pica__heap_node_in(n), rc == 0);
    if (rc == 0) {
        model_push(n);
    }
}

static pica__heap_node *free_node(void) {
    for (unsigned i = 0; i < NODES; i++) {
        if (!pica__heap_node_in(&node[i])) {
            return &node[i];
        }
    }
    return NULL;
}

static void pop(void) {
    pica__heap_node *n = pica__heap_pop(&heap);
    FUZZ_CHECK(n == (model.count == 0 ? NULL : model.in[0]));
    if (n != NULL) {
        FUZZ_CHECK(!pica__heap_node_in(n) && n->when == model.when[0]);
        model_remove(0);
    }
}

static void step(struct script *s) {
    unsigned what = script_below(s, 16);
    pica__heap_node *n;
    if (what < 8) {
        for (unsigned i = what == 7 ? script_below(s, 64) : 1; i > 0 && (n = free_node()) != NULL;
             i--) {
            push(n, when_of(s), what == 0);
        }
    } else if (what < 11 && model.count > 0) {
        unsigned at = script_below(s, model.count);
        n = model.in[at];
        pica__heap_remove(&heap, n);
        FUZZ_CHECK(!pica__heap_node_in(n));
        model_remove(at);
        if (what == 10) { /* a timer that is set anew */
            push(n, when_of(s), false);
        }
    } else {
        for (unsigned i = what == 15 ? script_below(s, 64) : 1; i > 0; i--) {
            pop();
        }
    }
}

static void check(void) {
    FUZZ_EQ(heap.count, model.count);
    FUZZ_CHECK(pica__heap_min(&heap) == (model.count == 0 ? NULL : model.in[0]));
    FUZZ_EQ(pica__heap_empty(&heap), model.count == 0);
    /* Memory follows what is in: at most a quarter used only where it is the least there can be. */
    FUZZ_CHECK(heap.capacity <= 16 || heap.count > heap.capacity / 4 || heap.count == 0);
    for (size_t i = 0; i < heap.count; i++) {
        FUZZ_CHECK(heap.entries[i].node->index == i &&
                   heap.entries[i].when == heap.entries[i].node->when);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct script s = {data, size};
    pica__heap_init(&heap);
    model.count = 0;
    for (unsigned i = 0; i < NODES; i++) {
        pica__heap_node_init(&node[i]);
    }
    while (!script_ended(&s)) {
        step(&s);
        check();
    }
    while (model.count > 0) {
        pop();
    }
    check();
    pop();
    pica__heap_destroy(&heap);
    return 0;
}
