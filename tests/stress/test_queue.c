/* The queue while everything happens at once: many that put and get, time limits, cancellations, a
 * plain thread, a shutdown. No item may be lost or doubled or overtake another of its maker. */
#include <pica.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/support/pt.h"
#include "tests/support/victims.h"

/* --- the queue delivers each item once, in order --- */

enum { MAKERS = VICTIMS / 2, TAKERS = VICTIMS / 2, EACH = 1500 };

static struct {
    pica_queue queue;
    int each;
    atomic_uint next_maker;
    atomic_uint makers_left;
    atomic_uchar seen[MAKERS + 1][EACH]; /* the last maker is a thread */
} deliver;

struct parcel {
    unsigned maker;
    int number;
};

static struct parcel *parcel_new(unsigned maker, int n) {
    struct parcel *p = malloc(sizeof *p);
    PT_REQUIRE(p != NULL);
    *p = (struct parcel){maker, n};
    return p;
}

/* One put or get, sometimes with a time limit. */
static int deliver_step(uint32_t *random, void **item, bool put) {
    pica_timeout timeout;
    bool limited = scramble(random) % 4 == 0;
    if (limited) {
        PT_EQ(pica_timeout_enter(&timeout, scramble(random) % 4 * 20e-6), 0);
    }
    int rc = put ? pica_queue_put(&deliver.queue, *item) : pica_queue_get(&deliver.queue, item);
    return limited ? pica_timeout_exit(&timeout, rc) : rc;
}

static int deliver_maker(void *arg) {
    (void)arg;
    uint32_t random = victim_begin();
    unsigned maker = atomic_fetch_add(&deliver.next_maker, 1);
    for (int i = 0; i < deliver.each; i++) {
        void *p = parcel_new(maker, i);
        int rc;
        while (i == deliver.each - 1 && !victims_suffered()) {
            /* The takers wait meanwhile. Not counted: it is no call of the queue. */
            if (pica_yield() == PICA_ECANCELED) {
                (void)pica_task_uncancel(pica_current_task());
            }
        }
        while ((rc = deliver_step(&random, &p, true)) != 0) {
            victim_note(rc); /* not put: the item is still ours */
        }
    }
    atomic_fetch_sub(&deliver.makers_left, 1);
    return victim_end();
}

static void *deliver_thread(void *arg) {
    (void)arg;
    for (int i = 0; i < deliver.each; i++) {
        void *p = parcel_new(MAKERS, i);
        while (pica_queue_put_nowait(&deliver.queue, p) != 0) {
            sched_yield();
        }
    }
    atomic_fetch_sub(&deliver.makers_left, 1);
    return NULL;
}

static int deliver_taker(void *arg) {
    int last[MAKERS + 1];
    (void)arg;
    uint32_t random = victim_begin();
    for (int i = 0; i <= MAKERS; i++) {
        last[i] = -1;
    }
    for (;;) {
        void *got = NULL;
        int rc = deliver_step(&random, &got, false);
        if (rc == PICA_ESHUTDOWN) {
            return victim_end();
        }
        if (rc != 0) {
            PT_CHECK(got == NULL);
            victim_note(rc);
            continue;
        }
        struct parcel *p = got;
        PT_CHECK(p->number > last[p->maker]);
        last[p->maker] = p->number;
        PT_EQ(atomic_fetch_add(&deliver.seen[p->maker][p->number], 1), 0);
        free(p);
        PT_EQ(pica_queue_task_done(&deliver.queue), 0);
    }
}

/* Ends the queue when all has been made and taken. */
static int deliver_closer(void *arg) {
    (void)arg;
    while (atomic_load(&deliver.makers_left) > 0) {
        PT_EQ(pica_yield(), 0);
    }
    PT_EQ(pica_queue_join(&deliver.queue), 0);
    PT_EQ(pica_queue_size(&deliver.queue), 0);
    pica_queue_shutdown(&deliver.queue, 0, NULL);
    return 0;
}

static int deliver_main(void *arg) {
    pthread_t thread;
    pica_task *closer;
    pica_queue_init(&deliver.queue, *(size_t *)arg);
    deliver.each = rounds(EACH);
    atomic_store(&deliver.makers_left, MAKERS + 1);
    PT_REQUIRE(pthread_create(&thread, NULL, deliver_thread, NULL) == 0);
    victims_start(deliver_maker, deliver_taker);
    PT_REQUIRE(pica_create_task(&closer, deliver_closer, NULL) == 0);
    victims_torment();
    PT_EQ(pica_join(closer, NULL), 0);
    PT_EQ(pthread_join(thread, NULL), 0);
    for (int m = 0; m <= MAKERS; m++) {
        for (int i = 0; i < deliver.each; i++) {
            PT_EQ(atomic_load(&deliver.seen[m][i]), 1);
        }
    }
    pica_queue_destroy(&deliver.queue, NULL);
    return 0;
}

static void deliver_case(size_t maxsize) {
    PT_EQ(pica_run(deliver_main, &maxsize), 0);
}

PT_TEST_TIMEOUT(queue_of_one, 60) {
    deliver_case(1);
}

PT_TEST_TIMEOUT(queue_bounded, 60) {
    deliver_case(5);
}

PT_TEST_TIMEOUT(queue_unbounded, 60) {
    deliver_case(0);
}

/* --- shutdown in full flight --- */

static struct {
    pica_queue queue;
    atomic_long put, got, destroyed;
    atomic_uint begun;
} ending;

static int ending_putter(void *arg) {
    (void)arg;
    atomic_fetch_add(&ending.begun, 1);
    int rc;
    while ((rc = pica_queue_put(&ending.queue, &ending)) == 0) {
        atomic_fetch_add(&ending.put, 1);
    }
    PT_EQ(rc, PICA_ESHUTDOWN);
    return 0;
}

static int ending_getter(void *arg) {
    void *got;
    int rc;
    (void)arg;
    atomic_fetch_add(&ending.begun, 1);
    while ((rc = pica_queue_get(&ending.queue, &got)) == 0) {
        atomic_fetch_add(&ending.got, 1);
        PT_EQ(pica_queue_task_done(&ending.queue), 0);
    }
    PT_EQ(rc, PICA_ESHUTDOWN);
    return 0;
}

static void ending_destroy(void *p) {
    PT_CHECK(p == &ending);
    atomic_fetch_add(&ending.destroyed, 1);
}

static void *ending_thread(void *arg) {
    pica_queue_shutdown(&ending.queue, *(int *)arg, ending_destroy);
    return NULL;
}

static int ending_main(void *arg) {
    enum { N = 8 };
    (void)arg;
    for (int round = rounds(200); round > 0; round--) {
        pica_task *task[N];
        pthread_t thread;
        int immediate = round % 2;
        atomic_store(&ending.begun, 0);
        pica_queue_init(&ending.queue, 3);
        for (int i = 0; i < N; i++) {
            PT_REQUIRE(pica_create_task(&task[i], i % 2 ? ending_putter : ending_getter, NULL) ==
                       0);
        }
        while (atomic_load(&ending.begun) < N) {
            PT_EQ(pica_yield(), 0);
        }
        PT_REQUIRE(pthread_create(&thread, NULL, ending_thread, &immediate) == 0);
        PT_EQ(pthread_join(thread, NULL), 0);
        for (int i = 0; i < N; i++) {
            PT_EQ(pica_join(task[i], NULL), 0);
        }
        PT_EQ(pica_queue_join(&ending.queue), 0);
        PT_EQ(pica_queue_size(&ending.queue), 0);
        pica_queue_destroy(&ending.queue, NULL);
    }
    PT_EQ(atomic_load(&ending.put), atomic_load(&ending.got) + atomic_load(&ending.destroyed));
    return 0;
}

PT_TEST_TIMEOUT(shutdown_in_flight, 60) {
    PT_EQ(pica_run(ending_main, NULL), 0);
}

PT_MAIN()
