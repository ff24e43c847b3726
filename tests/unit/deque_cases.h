/* The cases of the deque, for any capacity: test_deque.c and test_deque_small.c include them.
 *
 * With real threads: one owner, several thieves. Each entry must come out exactly once, whoever
 * takes it, and each taker must see them in the order in which they were pushed. */
#ifndef DEQUE_CASES_H
#define DEQUE_CASES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/deque.h"
#include "tests/support/pt.h"

enum {
    THIEVES_MAX = 4,
    ENTRIES = PICA__TSAN                  ? 50000
              : PICA__DEQUE_CAPACITY < 64 ? 200000
                                          : 1000000,
    STEAL_MAX = PICA__DEQUE_CAPACITY / 2,
    PATIENCE = 10000 /* some 50 microseconds */
};

struct battle {
    pica__deque deque;
    size_t entries;
    size_t steal_max;
    unsigned mode; /* how the owner mixes pushing and taking */
    /* Set by the owner (release) after its last take; thieves read it (acquire). */
    atomic_bool over;
    /* Per entry: how often it came out. Whoever takes an entry adds one; read after the joins. */
    atomic_uchar *seen;
    /* What belongs to an entry: written plainly by the owner before the push, read plainly by the
     * taker. The deque must order the two; the sanitizer would tell. */
    size_t *cargo;
};

/* The order in which one taker saw the entries: rising. Entries are numbers from 1, times two, so
 * that the lowest bit stays free as in real ones. */
struct taker {
    struct battle *b;
    size_t last;
    size_t taken;
};

static void taker_note(struct taker *t, uintptr_t entry) {
    size_t i = entry / 2;
    PT_REQUIRE(entry % 2 == 0 && i >= 1 && i <= t->b->entries);
    PT_CHECK(i > t->last);
    PT_CHECK(t->b->cargo[i] == i * 7);
    t->last = i;
    t->taken++;
    atomic_fetch_add_explicit(&t->b->seen[i], 1, memory_order_relaxed);
}

static void *thief_main(void *arg) {
    struct taker *t = arg;
    struct battle *b = t->b;
    uintptr_t out[STEAL_MAX];
    for (;;) {
        bool over = atomic_load_explicit(&b->over, memory_order_acquire);
        size_t n = pica__deque_steal(&b->deque, out, b->steal_max);
        PT_CHECK(n <= b->steal_max);
        for (size_t i = 0; i < n; i++) {
            taker_note(t, out[i]);
        }
        if (n == 0 && over) {
            return NULL;
        }
    }
}

/* Pushes in bursts; between them it takes nothing, a little, or all. An owner that takes nothing does
 * so all the same when the ring has stayed full for long: then no thief has a processor, and waiting
 * would cost a time slice for each ring of entries. */
static void owner_run(struct taker *t) {
    struct battle *b = t->b;
    size_t next = 1;
    unsigned full = 0; /* attempts in a row */
    unsigned random = 12345;
    while (next <= b->entries) {
        random = random * 1103515245u + 12345u;
        unsigned burst = 1 + (random >> 16) % (2 * PICA__DEQUE_CAPACITY);
        for (; burst > 0 && next <= b->entries; burst--) {
            b->cargo[next] = next * 7;
            if (!pica__deque_push(&b->deque, next * 2)) {
                full++;
                break;
            }
            next++;
            full = 0;
        }
        unsigned takes = b->mode == 0 ? 0 : b->mode == 1 ? (random >> 8) % 3 : ~0u;
        if (full >= PATIENCE) {
            takes = ~0u;
        }
        uintptr_t entry;
        while (takes-- > 0 && (entry = pica__deque_take(&b->deque)) != 0) {
            taker_note(t, entry);
        }
    }
    uintptr_t entry;
    while ((entry = pica__deque_take(&b->deque)) != 0) {
        taker_note(t, entry);
    }
}

static void fight(unsigned thieves, unsigned mode, size_t steal_max) {
    static struct battle b;
    struct taker taker[THIEVES_MAX + 1] = {{&b, 0, 0}};
    pthread_t thread[THIEVES_MAX];
    pica__deque_init(&b.deque);
    b.entries = thieves == 0 && mode == 0 ? PICA__DEQUE_CAPACITY : ENTRIES;
    b.steal_max = steal_max;
    b.mode = mode;
    atomic_store(&b.over, false);
    b.seen = calloc(b.entries + 1, sizeof b.seen[0]);
    b.cargo = calloc(b.entries + 1, sizeof b.cargo[0]);
    PT_REQUIRE(b.seen != NULL && b.cargo != NULL);
    for (unsigned i = 0; i < thieves; i++) {
        taker[i + 1] = (struct taker){&b, 0, 0};
        PT_REQUIRE(pthread_create(&thread[i], NULL, thief_main, &taker[i + 1]) == 0);
    }
    owner_run(&taker[0]);
    atomic_store_explicit(&b.over, true, memory_order_release);
    for (unsigned i = 0; i < thieves; i++) {
        pthread_join(thread[i], NULL);
    }
    size_t taken = 0;
    for (unsigned i = 0; i <= thieves; i++) {
        taken += taker[i].taken;
    }
    PT_EQ(taken, b.entries);
    size_t wrong = 0;
    for (size_t i = 1; i <= b.entries; i++) {
        wrong += atomic_load_explicit(&b.seen[i], memory_order_relaxed) != 1;
    }
    PT_EQ(wrong, 0);
    PT_EQ(pica__deque_size(&b.deque), 0);
    free(b.seen);
    free(b.cargo);
}

PT_TEST(alone) {
    fight(0, 0, 1);
    fight(0, 1, 1);
    fight(0, 2, 1);
}

PT_TEST_TIMEOUT(one_thief, 60) {
    for (unsigned mode = 0; mode < 3; mode++) {
        fight(1, mode, STEAL_MAX);
    }
}

PT_TEST_TIMEOUT(several_thieves, 60) {
    for (unsigned mode = 0; mode < 3; mode++) {
        fight(THIEVES_MAX, mode, STEAL_MAX);
    }
}

PT_TEST_TIMEOUT(thieves_of_one_entry, 60) {
    for (unsigned mode = 0; mode < 3; mode++) {
        fight(2, mode, 1);
    }
}

/* --- one thread: the rules --- */

PT_TEST(fills_up_and_wraps) {
    static pica__deque d;
    pica__deque_init(&d);
    uintptr_t in = 2, out = 2;
    for (unsigned round = 0; round < 5; round++) {
        while (pica__deque_push(&d, in)) {
            in += 2;
        }
        PT_EQ(pica__deque_size(&d), PICA__DEQUE_CAPACITY);
        for (unsigned i = 0; i < PICA__DEQUE_CAPACITY - round % 3; i++) {
            PT_EQ(pica__deque_take(&d), out);
            out += 2;
        }
        PT_EQ(pica__deque_size(&d), round % 3);
    }
}

PT_TEST(takes_alone) {
    static pica__deque d;
    pica__deque_init(&d);
    uintptr_t in = 2, out = 2;
    PT_EQ(pica__deque_take_alone(&d), 0);
    for (unsigned round = 0; round < 5; round++) {
        while (pica__deque_push(&d, in)) {
            in += 2;
        }
        for (unsigned i = 0; i < PICA__DEQUE_CAPACITY - round % 3; i++) {
            PT_EQ(pica__deque_take_alone(&d), out);
            out += 2;
        }
    }
    while (out != in) {
        PT_EQ(pica__deque_take_alone(&d), out);
        out += 2;
    }
    PT_EQ(pica__deque_take_alone(&d), 0);
}

PT_TEST(steals_half_rounded_up) {
    for (size_t n = 0; n <= PICA__DEQUE_CAPACITY; n++) {
        static pica__deque d;
        uintptr_t out[PICA__DEQUE_CAPACITY] = {0};
        pica__deque_init(&d);
        for (size_t i = 1; i <= n; i++) {
            PT_CHECK(pica__deque_push(&d, i * 2));
        }
        size_t got = pica__deque_steal(&d, out, PICA__DEQUE_CAPACITY);
        PT_EQ(got, n - n / 2);
        for (size_t i = 0; i < got; i++) {
            PT_EQ(out[i], (i + 1) * 2);
        }
        PT_EQ(pica__deque_size(&d), n / 2);
        PT_EQ(pica__deque_take(&d), n / 2 == 0 ? 0 : (got + 1) * 2);
    }
}

PT_TEST(steals_at_most_max) {
    static pica__deque d;
    uintptr_t out[2] = {0};
    pica__deque_init(&d);
    for (size_t i = 1; i <= PICA__DEQUE_CAPACITY; i++) {
        PT_CHECK(pica__deque_push(&d, i * 2));
    }
    PT_EQ(pica__deque_steal(&d, out, 1), 1);
    PT_EQ(out[0], 2);
    PT_EQ(pica__deque_steal(&d, out, 0), 0);
    PT_EQ(pica__deque_size(&d), PICA__DEQUE_CAPACITY - 1);
}

#endif
