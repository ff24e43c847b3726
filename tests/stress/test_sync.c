/* Locks and events while everything happens at once, and single grants against single
 * cancellations: nothing may be lost, doubled, or wait for ever (then the case does not finish in
 * time). */
#include <pica.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/parked.h"
#include "tests/support/pt.h"
#include "tests/support/victims.h"

/* --- the lock excludes --- */

static struct {
    pica_lock lock;
    int holders; /* guarded by the lock */
    long taken;  /* guarded by the lock */
    atomic_long expected;
    atomic_bool stop;
} excl;

static void excl_inside(bool stay) {
    PT_EQ(++excl.holders, 1);
    excl.taken++;
    if (stay) {
        victim_note(pica_yield());
    }
    PT_EQ(excl.holders--, 1);
    atomic_fetch_add(&excl.expected, 1);
    PT_EQ(pica_lock_release(&excl.lock), 0);
}

static int excl_victim(void *arg) {
    (void)arg;
    uint32_t random = victim_begin();
    for (int i = rounds(20000); i > 0 || !victims_suffered(); i--) {
        uint32_t how = scramble(&random) % 16;
        int rc;
        if (how < 3) {
            pica_timeout timeout;
            PT_EQ(pica_timeout_enter(&timeout, how * 20e-6), 0);
            rc = pica_lock_acquire(&excl.lock);
            if (rc == 0) {
                excl_inside(how == 2);
            }
            rc = pica_timeout_exit(&timeout, rc);
            victim_note(rc);
            continue;
        }
        rc = how == 3 ? pica_lock_try_acquire(&excl.lock) : pica_lock_acquire(&excl.lock);
        if (rc == 0) {
            excl_inside(how > 10);
        } else if (rc != -EBUSY) {
            victim_note(rc);
        }
    }
    return victim_end();
}

static void *excl_thread(void *arg) {
    (void)arg;
    while (!atomic_load(&excl.stop)) {
        if (pica_lock_try_acquire(&excl.lock) == 0) {
            excl_inside(false);
        }
        sched_yield();
    }
    return NULL;
}

static int excl_main(void *arg) {
    pthread_t thread;
    (void)arg;
    PT_REQUIRE(pthread_create(&thread, NULL, excl_thread, NULL) == 0);
    victims_start(excl_victim, excl_victim);
    victims_torment();
    atomic_store(&excl.stop, true);
    PT_EQ(pthread_join(thread, NULL), 0);
    PT_EQ(pica_lock_locked(&excl.lock), 0);
    PT_EQ(excl.taken, atomic_load(&excl.expected));
    PT_EQ(pica_lock_acquire(&excl.lock), 0);
    PT_EQ(pica_lock_release(&excl.lock), 0);
    return 0;
}

PT_TEST_TIMEOUT(lock_excludes, 60) {
    PT_EQ(pica_run(excl_main, NULL), 0);
}

/* --- set and clear by two threads --- */

#define PULSE_SECONDS 1.0

static struct {
    pica_event event;
    /* Sets begun, by the setter; sets that were cleared again, by the clearer. */
    atomic_int begun;
    atomic_int cleared;
    atomic_bool stop;
    atomic_long woken;
} pulse;

/* A wait that began when n sets were cleared may only be ended by one that is not among them. */
static int pulse_waiter(void *arg) {
    (void)arg;
    uint32_t random = victim_begin();
    while (!atomic_load(&pulse.stop)) {
        int cleared = atomic_load(&pulse.cleared);
        int rc = pica_event_wait(&pulse.event);
        if (rc == 0) {
            PT_CHECK(atomic_load(&pulse.begun) > cleared);
            atomic_fetch_add(&pulse.woken, 1);
        }
        victim_note(rc);
        if (scramble(&random) % 4 == 0) {
            victim_note(pica_yield());
        }
    }
    return victim_end();
}

static void *pulse_setter(void *arg) {
    (void)arg;
    double end = pica_time() + PULSE_SECONDS;
    while (pica_time() < end || !victims_suffered()) {
        atomic_fetch_add(&pulse.begun, 1);
        pica_event_set(&pulse.event);
        while (atomic_load(&pulse.cleared) < atomic_load(&pulse.begun)) {
            sched_yield();
        }
    }
    atomic_store(&pulse.stop, true);
    atomic_fetch_add(&pulse.begun, 1);
    pica_event_set(&pulse.event);
    return NULL;
}

static void *pulse_clearer(void *arg) {
    (void)arg;
    while (!atomic_load(&pulse.stop)) {
        if (pica_event_is_set(&pulse.event) && !atomic_load(&pulse.stop)) {
            int begun = atomic_load(&pulse.begun);
            pica_event_clear(&pulse.event);
            atomic_store(&pulse.cleared, begun);
        }
        sched_yield();
    }
    atomic_fetch_add(&pulse.begun, 1);
    pica_event_set(&pulse.event); /* in case the last clear met the last set */
    return NULL;
}

static int pulse_main(void *arg) {
    pthread_t thread[2];
    (void)arg;
    victims_start(pulse_waiter, pulse_waiter);
    PT_REQUIRE(pthread_create(&thread[0], NULL, pulse_setter, NULL) == 0);
    PT_REQUIRE(pthread_create(&thread[1], NULL, pulse_clearer, NULL) == 0);
    victims_torment();
    for (int i = 0; i < 2; i++) {
        PT_EQ(pthread_join(thread[i], NULL), 0);
    }
    PT_CHECK(atomic_load(&pulse.woken) > 0);
    return 0;
}

PT_TEST_TIMEOUT(event_pulses, 60) {
    PT_EQ(pica_run(pulse_main, NULL), 0);
}

/* --- one grant against one cancellation --- */

/* In loops of a few instructions: about as long as the calls that are to meet. */
enum { DISTANCES = 400, STRIDE = 37 }; /* so that also few rounds have them all, roughly */
enum { ORDERED = 8 };                  /* two of so many rounds are no race: each of both comes first once */

static void spin(int distance) {
    for (volatile int i = distance; i > 0; i--) {
    }
}

/* A thread that does one thing at the same time as another, now a little earlier, now later. */
struct racer {
    pthread_t thread;
    void (*act)(void);
    bool (*settled)(void); /* whether what it did has had its effect; NULL: that is at once */
    bool second;
    struct racer *other;
    atomic_int *start; /* the round to be run; negative: end */
    atomic_int done;   /* the last round that was run */
};

static bool settled(struct racer *r, int round) {
    return atomic_load(&r->done) == round && (r->settled == NULL || r->settled());
}

static void *racer_run(void *arg) {
    struct racer *r = arg;
    for (int round = 1;; round++) {
        int now;
        while ((now = atomic_load(r->start)) != round && now >= 0) {
            sched_yield();
        }
        if (now < 0) {
            return NULL;
        }
        if (round % ORDERED < 2) { /* on one processor the system decides who is first, and may always say the same */
            while (round % ORDERED == r->second && !settled(r->other, round)) {
                sched_yield();
            }
        } else {
            int distance = round * STRIDE % DISTANCES;
            spin(r->second ? DISTANCES - distance : distance);
        }
        r->act();
        atomic_store(&r->done, round);
    }
}

static struct {
    pica_lock lock;
    pica_queue queue;
    pica_task *task;
    void *item;
    int rc;
    atomic_int start;
    long granted;
    long cancelled;
} duel;

/* Before that a cancel still beats a grant. */
static bool duel_over(void) {
    return pica_future_done(PICA_FUTURE(duel.task));
}

static void duel_cancel(void) {
    (void)pica_task_cancel(duel.task);
}

static void duel_release(void) {
    PT_EQ(pica_lock_release(&duel.lock), 0);
}

static void duel_put(void) {
    PT_EQ(pica_queue_put_nowait(&duel.queue, &duel), 0);
}

static void duel_get(void) {
    void *got;
    PT_EQ(pica_queue_get_nowait(&duel.queue, &got), 0);
    PT_CHECK(got == &duel);
}

static int duel_lock_task(void *arg) {
    (void)arg;
    duel.rc = pica_lock_acquire(&duel.lock);
    return 0;
}

static int duel_get_task(void *arg) {
    (void)arg;
    duel.rc = pica_queue_get(&duel.queue, &duel.item);
    return 0;
}

static int duel_put_task(void *arg) {
    (void)arg;
    duel.rc = pica_queue_put(&duel.queue, &duel.rc);
    return 0;
}

static void racers_start(struct racer r[2]) {
    for (int i = 0; i < 2; i++) {
        r[i].second = i == 1;
        r[i].other = &r[1 - i];
        PT_REQUIRE(pthread_create(&r[i].thread, NULL, racer_run, &r[i]) == 0);
    }
}

static void racers_wait(struct racer r[2], int round) {
    while (atomic_load(&r[0].done) < round || atomic_load(&r[1].done) < round) {
        sched_yield();
    }
}

static void racers_run(struct racer r[2], int round) {
    atomic_store(r->start, round);
    racers_wait(r, round);
}

static void racers_end(struct racer r[2]) {
    atomic_store(r->start, -1);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pthread_join(r[i].thread, NULL), 0);
    }
}

/* One waiter, cancelled and served at the same time; check says whether the object fits its result.
 * */
static void duel_fight(pica_fn waiter, void (*serve)(void), void (*before)(void),
                       void (*check)(void)) {
    struct racer r[2] = {{.act = serve, .settled = duel_over, .start = &duel.start},
                         {.act = duel_cancel, .settled = duel_over, .start = &duel.start}};
    int n = rounds(3000);
    racers_start(r);
    for (int round = 1; round <= n; round++) {
        before();
        duel.task = parked((unsigned)round, waiter, NULL);
        atomic_store(&duel.start, round);
        (void)pica_join(pica_task_ref(duel.task), NULL);
        racers_wait(r, round);
        pica_task_unref(duel.task);
        PT_CHECK(duel.rc == 0 || duel.rc == PICA_ECANCELED);
        *(duel.rc == 0 ? &duel.granted : &duel.cancelled) += 1;
        check();
    }
    racers_end(r);
    /* Both outcomes must have been seen: each order is run, whatever the races made. */
    PT_CHECK(duel.granted > 0);
    PT_CHECK(duel.cancelled > 0);
}

static void duel_lock_before(void) {
    PT_EQ(pica_lock_try_acquire(&duel.lock), 0);
}

static void duel_lock_check(void) {
    PT_EQ(pica_lock_locked(&duel.lock), duel.rc == 0);
    if (duel.rc == 0) {
        PT_EQ(pica_lock_release(&duel.lock), 0);
    }
}

static int duel_lock_main(void *arg) {
    (void)arg;
    duel_fight(duel_lock_task, duel_release, duel_lock_before, duel_lock_check);
    return 0;
}

PT_TEST_TIMEOUT(lock_grant_against_cancel, 60) {
    PT_EQ(pica_run(duel_lock_main, NULL), 0);
}

static void duel_get_before(void) {
    duel.item = NULL;
}

static void duel_get_check(void) {
    PT_CHECK(duel.item == (duel.rc == 0 ? &duel : NULL));
    PT_EQ(pica_queue_size(&duel.queue), duel.rc != 0);
    if (duel.rc != 0) {
        duel_get();
    }
}

static int duel_get_main(void *arg) {
    (void)arg;
    pica_queue_init(&duel.queue, 1);
    duel_fight(duel_get_task, duel_put, duel_get_before, duel_get_check);
    pica_queue_destroy(&duel.queue, NULL);
    return 0;
}

PT_TEST_TIMEOUT(get_against_cancel, 60) {
    PT_EQ(pica_run(duel_get_main, NULL), 0);
}

static void duel_put_before(void) {
    PT_EQ(pica_queue_put_nowait(&duel.queue, &duel), 0);
}

static void duel_put_check(void) {
    void *got = NULL;
    PT_EQ(pica_queue_get_nowait(&duel.queue, &got), duel.rc == 0 ? 0 : -EAGAIN);
    PT_CHECK(got == (duel.rc == 0 ? &duel.rc : NULL));
    PT_EQ(pica_queue_size(&duel.queue), 0);
}

static int duel_put_main(void *arg) {
    (void)arg;
    pica_queue_init(&duel.queue, 1);
    duel_fight(duel_put_task, duel_get, duel_put_before, duel_put_check);
    pica_queue_destroy(&duel.queue, NULL);
    return 0;
}

PT_TEST_TIMEOUT(put_against_cancel, 60) {
    PT_EQ(pica_run(duel_put_main, NULL), 0);
}

/* --- two threads make one queue grow --- */

enum { FILL = 40 };

static void grow_fill(void) {
    for (int i = 0; i < FILL; i++) {
        PT_EQ(pica_queue_put_nowait(&duel.queue, &duel), 0);
    }
}

PT_TEST_TIMEOUT(growing_twice_at_once, 60) {
    struct racer r[2] = {{.act = grow_fill, .start = &duel.start},
                         {.act = grow_fill, .start = &duel.start}};
    int n = rounds(3000);
    racers_start(r);
    for (int round = 1; round <= n; round++) {
        pica_queue_init(&duel.queue, 0);
        racers_run(r, round);
        PT_EQ(pica_queue_size(&duel.queue), 2 * FILL);
        for (int i = 0; i < 2 * FILL; i++) {
            duel_get();
        }
        pica_queue_destroy(&duel.queue, NULL);
    }
    racers_end(r);
}

/* --- one call against one grant, at every distance --- */

enum { POLLS = 2000 };

/* What the thread is to do, and to what. */
struct errand {
    void (*act)(void *object);
    void *object;
};

static struct {
    _Atomic(struct errand *) errand; /* the thread puts NULL back once it has read it */
    atomic_bool stop;
} early;

static void *early_thread(void *arg) {
    (void)arg;
    int idle = 0;
    while (!atomic_load(&early.stop)) {
        struct errand *errand = atomic_load(&early.errand);
        if (errand != NULL) {
            struct errand e = *errand;
            atomic_store(&early.errand, NULL);
            e.act(e.object);
        } else if (++idle % POLLS == 0) {
            sched_yield(); /* not each time: it has to answer within the waiter's first steps */
        }
    }
    return NULL;
}

static void early_send(struct errand *errand, int distance) {
    atomic_store(&early.errand, errand);
    spin(distance);
}

/* What is touched too late finds nothing valid any more. */
static void early_free(void *p, size_t size) {
    memset(p, 0xff, size);
    free(p);
}

static void early_release(void *object) {
    PT_EQ(pica_lock_release(object), 0);
}

static void early_lock(int distance) {
    pica_lock *lock = calloc(1, sizeof *lock);
    struct errand errand = {early_release, lock};
    PT_REQUIRE(lock != NULL);
    PT_EQ(pica_lock_acquire(lock), 0);
    early_send(&errand, distance);
    PT_EQ(pica_lock_acquire(lock), 0);
    early_free(lock, sizeof *lock);
}

static void early_set(void *object) {
    pica_event_set(object);
}

static void early_event(int distance) {
    pica_event *event = calloc(1, sizeof *event);
    struct errand errand = {early_set, event};
    PT_REQUIRE(event != NULL);
    early_send(&errand, distance);
    PT_EQ(pica_event_wait(event), 0);
    early_free(event, sizeof *event);
}

static void early_put(void *object) {
    PT_EQ(pica_queue_put_nowait(object, object), 0);
}

static void early_get(void *object) {
    void *got = NULL;
    PT_EQ(pica_queue_get_nowait(object, &got), 0);
    PT_CHECK(got == object);
}

static void early_done(void *object) {
    PT_EQ(pica_queue_task_done(object), 0);
}

/* The three waits of a queue, each in a queue of its own. */
static void early_queue(int distance, void (*act)(void *object)) {
    pica_queue *queue = malloc(sizeof *queue);
    struct errand errand = {act, queue};
    void *got = queue;
    PT_REQUIRE(queue != NULL);
    pica_queue_init(queue, 1);
    if (act == early_put) {
        early_send(&errand, distance);
        PT_EQ(pica_queue_get(queue, &got), 0);
    } else {
        PT_EQ(pica_queue_put(queue, queue), 0);
        early_send(&errand, distance);
        PT_EQ(act == early_get ? pica_queue_put(queue, queue) : pica_queue_join(queue), 0);
        PT_EQ(pica_queue_get_nowait(queue, &got), 0);
    }
    PT_CHECK(got == queue);
    pica_queue_destroy(queue, NULL);
    early_free(queue, sizeof *queue);
}

static int early_main(void *arg) {
    pthread_t thread;
    (void)arg;
    PT_REQUIRE(pthread_create(&thread, NULL, early_thread, NULL) == 0);
    for (int n = rounds(DISTANCES * 50); n > 0; n--) {
        early_lock(n % DISTANCES);
        early_event(n % DISTANCES);
        early_queue(n % DISTANCES, early_put);
        early_queue(n % DISTANCES, early_get);
        early_queue(n % DISTANCES, early_done);
    }
    atomic_store(&early.stop, true);
    PT_EQ(pthread_join(thread, NULL), 0);
    return 0;
}

/* A thread ends the wait of a task that is just about to wait, waits, or has not begun to: it is
 * never missed, and the object may be freed as soon as the task is through. */
PT_TEST_TIMEOUT(served_while_beginning_to_wait, 60) {
    PT_EQ(pica_run(early_main, NULL), 0);
}

PT_MAIN()
