/* Scenarios over runtime/base/inbox.h and lock.h. */
#include "runtime/base/inbox.h"

#include "runtime/base/lock.h"
#include "tests/explore/explore.h"

struct message {
    pica__fifo_node node;
    unsigned from;
    unsigned number; /* plain: handed over by the box */
    unsigned taken;
};

enum { PUSHERS = 2, EACH = 2 };

static pica__inbox *box;
static struct message *messages;
static unsigned last[PUSHERS];
static unsigned was_empty[PUSHERS];
static unsigned takings; /* that found something */

static void pusher(void *arg) {
    unsigned who = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < EACH; i++) {
        struct message *m = &messages[who * EACH + i];
        m->from = who;
        m->number = i + 1;
        was_empty[who] += pica__inbox_push(box, &m->node);
    }
}

/* Once each, and those of one pusher in its order. */
static void take(void) {
    pica__fifo_node *node = pica__inbox_take(box);
    takings += node != NULL;
    while (node != NULL) {
        struct message *m = (struct message *)(void *)node;
        node = node->next;
        EX_CHECK(m->taken++ == 0);
        EX_CHECK(m->number == last[m->from] + 1);
        last[m->from] = m->number;
    }
}

static void owner(void *arg) {
    (void)arg;
    take();
    if (!pica__inbox_empty(box)) {
        take();
    }
}

static void setup_n(unsigned pushers) {
    box = ex_alloc(sizeof *box);
    messages = ex_alloc(PUSHERS * EACH * sizeof *messages);
    pica__inbox_init(box);
    ex_name(box, "newest");
    takings = 0;
    ex_thread("owner", owner, NULL, false);
    for (unsigned i = 0; i < pushers; i++) {
        last[i] = 0;
        was_empty[i] = 0;
        ex_thread(i == 0 ? "pusher 1" : "pusher 2", pusher, (void *)(uintptr_t)i, false);
    }
}

static void setup_one(void) {
    setup_n(1);
}

static void setup_two(void) {
    setup_n(2);
}

/* Who was told that the box was empty would have woken the owner: once for each time that it was filled. */
static void finish_one(void) {
    take();
    EX_CHECK(last[0] == EACH);
    EX_CHECK(was_empty[0] == takings);
}

static void finish_two(void) {
    take();
    EX_CHECK(last[0] == EACH && last[1] == EACH);
    EX_CHECK(was_empty[0] + was_empty[1] == takings);
}

/* A node comes back after the owner took it: no ABA. */
static void owner_returns(void *arg) {
    (void)arg;
    pica__fifo_node *node = pica__inbox_take(box);
    while (node != NULL) {
        struct message *m = (struct message *)(void *)node;
        node = node->next;
        m->taken++;
        if (m->from == 0 && m->number == 1) {
            m->number = 100;
            (void)pica__inbox_push(box, &m->node);
        }
    }
}

static void setup_back(void) {
    box = ex_alloc(sizeof *box);
    messages = ex_alloc(PUSHERS * EACH * sizeof *messages);
    pica__inbox_init(box);
    ex_name(box, "newest");
    ex_thread("returner", owner_returns, NULL, false);
    for (unsigned i = 0; i < 2; i++) {
        was_empty[i] = 0;
        ex_thread(i == 0 ? "pusher 1" : "pusher 2", pusher, (void *)(uintptr_t)i, false);
    }
}

static void finish_back(void) {
    unsigned seen = 0;
    for (pica__fifo_node *node = pica__inbox_take(box); node != NULL; node = node->next) {
        struct message *m = (struct message *)(void *)node;
        m->taken++;
        seen++;
    }
    for (unsigned i = 0; i < PUSHERS * EACH; i++) {
        EX_CHECK(messages[i].taken == (messages[i].number == 100 ? 2 : 1));
    }
    EX_CHECK(seen <= PUSHERS * EACH);
}

/* --- the lock --- */

static pica__lock_t *lock;
static unsigned *guarded;

static void locker(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        pica__lock(lock);
        ++*guarded;
        pica__unlock(lock);
    }
}

static void trier(void *arg) {
    (void)arg;
    if (pica__trylock(lock)) {
        ++*guarded;
        pica__unlock(lock);
    }
}

static void setup_lock(void) {
    lock = ex_alloc(sizeof *lock);
    guarded = ex_alloc(sizeof *guarded);
    pica__lock_init(lock);
    ex_name(lock, "held");
    ex_thread("locker 1", locker, NULL, false);
    ex_thread("locker 2", locker, NULL, false);
    ex_thread("trier", trier, NULL, false);
}

static void finish_lock(void) {
    EX_CHECK(*guarded == 4 || *guarded == 5);
}

const struct ex_scenario ex_scenarios[] = {
    {"inbox.one", "one pusher: all once, in order, and the owner would be woken", setup_one, finish_one,
     NULL, {EX_ALL, 0}, {3, 3}, {3, 3}, NULL},
    {"inbox.two", "two pushers", setup_two, finish_two, NULL, {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"inbox.back", "a node comes back", setup_back, finish_back, NULL, {EX_ALL, 0}, {3, 2}, {3, 2},
     NULL},
    {"inbox.lock", "two who lock twice, one who tries", setup_lock, finish_lock, NULL, {EX_ALL, 0}, {2, 2},
     {2, 2}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
