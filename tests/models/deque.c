/* runtime/deque.h, with a ring of 2: its end, and the reuse of slots, are reached.
 *
 *   PUSHES   by the owner, which takes one after every second
 *   THIEVES  of which the first steals twice, others once
 */
#define PICA__DEQUE_CAPACITY 2u
#include "tests/models/model.h"

#include "runtime/deque.h"

/* What an entry points to: plain, so that who is not ordered behind its push, or takes what
 * another one has taken, is told to race. */
struct item {
    unsigned value;
    unsigned taken;
};

static pica__deque deque;
static struct item items[PUSHES];
static unsigned pushed;

static void got(uintptr_t entry) {
    struct item *item = (struct item *)entry;
    assert(item->value == (unsigned)(item - items) + 1);
    assert(item->taken == 0);
    item->taken = 1;
}

static void *owner(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < PUSHES; i++) {
        items[pushed].value = pushed + 1;
        if (pica__deque_push(&deque, (uintptr_t)&items[pushed])) {
            pushed++;
        }
        if (i % 2 != 0) {
            uintptr_t entry = pica__deque_take(&deque);
            if (entry != 0) {
                got(entry);
            }
        }
    }
    return NULL;
}

static void *thief(void *arg) {
    uintptr_t out[2];
    for (uintptr_t i = 0; i <= (uintptr_t)arg; i++) {
        size_t n = pica__deque_steal(&deque, out, 2);
        assert(n <= 2);
        for (size_t k = 0; k < n; k++) {
            got(out[k]);
        }
    }
    return NULL;
}

int main(void) {
    pica__deque_init(&deque);
    pthread_t threads[1 + THIEVES];
    threads[0] = model_start(owner, 0);
    for (unsigned i = 1; i <= THIEVES; i++) {
        threads[i] = model_start(thief, i == 1);
    }
    for (unsigned i = 0; i <= THIEVES; i++) {
        model_join(threads[i]);
    }
    uintptr_t entry;
    while ((entry = pica__deque_take(&deque)) != 0) {
        got(entry);
    }
    for (unsigned i = 0; i < pushed; i++) {
        assert(items[i].taken == 1);
    }
    return 0;
}
