/* Scenarios over runtime/deque.h, with a ring of 2 so that its end and the reuse of slots are reached. */
#define PICA__DEQUE_CAPACITY 2u
#include "runtime/deque.h"

#include "tests/explore/explore.h"

enum { ENTRIES = 5, THIEVES = 2 };

/* What an entry points to: written before it is pushed, read by whoever got it. */
struct item {
    unsigned value;
    unsigned taken;
};

static pica__deque *deque;
static struct item *items;
static struct item *last_taken[THIEVES + 1];
static unsigned pushed;
static unsigned to_push;

static void push_one(void) {
    struct item *item = &items[pushed];
    item->value = pushed + 1;
    if (pica__deque_push(deque, (uintptr_t)item)) {
        pushed++;
    }
}

/* Each in the order in which they were pushed, once. */
static void got(unsigned who, uintptr_t entry) {
    struct item *item = (struct item *)entry;
    EX_CHECK(item >= items && item < items + ENTRIES);
    EX_CHECK(item->value == (unsigned)(item - items) + 1);
    EX_CHECK(item->taken == 0);
    item->taken = 1;
    EX_CHECK(last_taken[who] == NULL || last_taken[who] < item);
    last_taken[who] = item;
}

static void owner(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < to_push; i++) {
        push_one();
        if (i % 2 != 0) {
            uintptr_t entry = pica__deque_take(deque);
            if (entry != 0) {
                got(0, entry);
            }
        }
    }
}

/* The ring goes round more than once while the thief sleeps. */
static void busy_owner(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < to_push; i++) {
        push_one();
        uintptr_t entry = pica__deque_take(deque);
        if (entry != 0) {
            got(0, entry);
        }
    }
    push_one();
}

static void thief(void *arg) {
    unsigned who = (unsigned)(uintptr_t)arg;
    uintptr_t out[2];
    for (unsigned i = 0; i < (who == 1 ? 2u : 1u); i++) {
        size_t n = pica__deque_steal(deque, out, 2);
        for (size_t k = 0; k < n; k++) {
            got(who, out[k]);
        }
    }
}

static void setup_n(unsigned pushes, unsigned thieves) {
    deque = ex_alloc(sizeof *deque);
    items = ex_alloc(ENTRIES * sizeof *items);
    pica__deque_init(deque);
    ex_name(&deque->head, "head");
    ex_name(&deque->tail, "tail");
    ex_name(&deque->slot[0], "slot 0");
    ex_name(&deque->slot[1], "slot 1");
    pushed = 0;
    to_push = pushes;
    for (unsigned i = 0; i <= THIEVES; i++) {
        last_taken[i] = NULL;
    }
    ex_thread("owner", pushes == 4 && thieves == 0 ? busy_owner : owner, NULL, false);
    for (unsigned i = 1; i <= thieves; i++) {
        ex_thread(i == 1 ? "thief 1" : "thief 2", thief, (void *)(uintptr_t)i, false);
    }
}

static void setup_steal(void) {
    setup_n(4, 1);
}

static void setup_sleeper(void) {
    setup_n(4, 0);
    ex_thread("sleeper", thief, (void *)(uintptr_t)2, false);
}

static void setup_two(void) {
    setup_n(3, 2);
}

static void finish(void) {
    uintptr_t entry;
    while ((entry = pica__deque_take(deque)) != 0) {
        got(0, entry);
    }
    EX_CHECK(pica__deque_size(deque) == 0);
    for (unsigned i = 0; i < pushed; i++) {
        EX_CHECK(items[i].taken == 1);
    }
}

/* Thieves take many at once and put them into a deque of their own, from which others steal again. */
static pica__deque *second;

static void middle(void *arg) {
    (void)arg;
    uintptr_t out[2];
    size_t n = pica__deque_steal(deque, out, 2);
    for (size_t k = 0; k < n; k++) {
        EX_CHECK(pica__deque_push(second, out[k]));
    }
}

static void last(void *arg) {
    (void)arg;
    uintptr_t out[2];
    size_t n = pica__deque_size(second) == 0 ? 0 : pica__deque_steal(second, out, 2);
    for (size_t k = 0; k < n; k++) {
        got(2, out[k]);
    }
}

static void setup_chain(void) {
    setup_n(2, 0);
    second = ex_alloc(sizeof *second);
    pica__deque_init(second);
    ex_name(&second->head, "head 2");
    ex_name(&second->tail, "tail 2");
    ex_thread("middle", middle, NULL, false);
    ex_thread("last", last, NULL, false);
}

static void finish_chain(void) {
    uintptr_t entry;
    while ((entry = pica__deque_take(second)) != 0) {
        got(1, entry);
    }
    finish();
}

const struct ex_scenario ex_scenarios[] = {
    {"deque.steal", "owner pushes 4 and takes, a thief steals twice: all once, in order", setup_steal, finish,
     NULL, {EX_ALL, 0}, {2, 2}, {2, 2}, NULL},
    {"deque.sleeper", "the ring goes round while a thief sleeps", setup_sleeper, finish, NULL, {EX_ALL, 0},
     {2, 2}, {2, 2}, NULL},
    {"deque.two_thieves", "owner pushes 3 and takes, thieves steal twice and once", setup_two, finish, NULL,
     {EX_ALL, 0}, {2, 2}, {2, 2}, NULL},
    {"deque.chain", "what was stolen is stolen again", setup_chain, finish_chain, NULL,
     {EX_ALL, 0}, {2, 2}, {2, 2}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
