/* The library's locks (runtime/base/lock.h) in one execution: who holds which, in which orders they were taken, and
 * that none is held where that is forbidden. An order that goes round in a circle is a deadlock in some execution, and
 * is reported in the first in which the circle closes, also when nobody blocks there. */
#define PICA__MODEL 1 /* this is what the library calls then */
#include "runtime/base/lock.h"
#include "tests/explore/model.h"

enum { HELD = 4, ORDERS = 64 };

static struct {
    const pica__lock_t *held[EX_THREADS + 1][HELD];
    unsigned count[EX_THREADS + 1];
    struct {
        const pica__lock_t *first, *second;
    } order[ORDERS];
    unsigned orders;
} locks;

void ex_locks_reset(void) {
    for (unsigned i = 0; i <= EX_THREADS; i++) {
        locks.count[i] = 0;
    }
    locks.orders = 0;
}

/* Whether `second` was taken, by however many steps, while `first` was held. */
static bool ordered(const pica__lock_t *first, const pica__lock_t *second, unsigned steps) {
    for (unsigned i = 0; i < locks.orders && steps != 0; i++) {
        const pica__lock_t *next = locks.order[i].second;
        if (locks.order[i].first == first &&
            (next == second || ordered(next, second, steps - 1))) {
            return true;
        }
    }
    return false;
}

static void note(const pica__lock_t *first, const pica__lock_t *second) {
    for (unsigned i = 0; i < locks.orders; i++) {
        if (locks.order[i].first == first && locks.order[i].second == second) {
            return;
        }
    }
    if (first == second || ordered(second, first, HELD)) {
        ex_fail("two locks are taken in both orders, or one twice: %s", ex_name_of(second));
    }
    if (locks.orders == ORDERS) {
        ex_fail("too many orders of locks");
    }
    locks.order[locks.orders].first = first;
    locks.order[locks.orders++].second = second;
}

void pica__lock_taken(const pica__lock_t *l, bool waited) {
    unsigned me = ex_self();
    for (unsigned i = 0; waited && i < locks.count[me]; i++) {
        note(locks.held[me][i], l);
    }
    if (locks.count[me] == HELD) {
        ex_fail("too many locks are held");
    }
    locks.held[me][locks.count[me]++] = l;
}

static bool drop(unsigned thread, const pica__lock_t *l) {
    for (unsigned i = locks.count[thread]; i-- > 0;) {
        if (locks.held[thread][i] == l) {
            locks.held[thread][i] = locks.held[thread][--locks.count[thread]];
            return true;
        }
    }
    return false;
}

/* A commit may end what its task began: on the same thread of the system, on another one of the model. */
void pica__lock_given(const pica__lock_t *l) {
    if (drop(ex_self(), l)) {
        return;
    }
    for (unsigned i = 0; i <= EX_THREADS; i++) {
        if (drop(i, l)) {
            return;
        }
    }
    ex_fail("a lock is given back that nobody holds: %s", ex_name_of(l));
}

void pica__lock_none(const char *where) {
    unsigned me = ex_self();
    if (locks.count[me] != 0) {
        ex_fail("%s comes while a lock is held: %s", where, ex_name_of(locks.held[me][0]));
    }
}
