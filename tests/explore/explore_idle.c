/* Scenarios over the idle protocol: the library's own worker loops go to sleep while work comes. */
#include "runtime/alarm.h"
#include "runtime/worker.h"
#include "tests/explore/workers.h"

static pica_task *one, *two, *three;
static pica__call call;
static unsigned calls;
static pica_loop *loop;

/* --- one worker: nothing that is addressed to it is missed --- */

static void outsider(void *arg) {
    pica__ready(arg);
}

static void setup_alone(void) {
    (void)ex_workers(1);
    one = ex_work("one", NULL, NULL, false);
    ex_thread("outsider", outsider, one, false);
}

static void run_call(pica__call *c) {
    EX_CHECK(c == &call);
    calls++;
}

static void poster(void *arg) {
    (void)arg;
    pica__call_soon(loop, &call);
}

static void setup_inbox(void) {
    pica_runtime *rt = ex_workers(1);
    loop = &rt->loop[0];
    calls = 0;
    pica__call_init(&call, run_call);
    ex_thread("poster", poster, NULL, false);
}

static void finish_inbox(void) {
    EX_CHECK(calls == 1);
    ex_check_asleep();
}

/* A timer that another thread arms: the loop does not sleep past it. */
static pica__timer timers[2];

static unsigned firings;

static void fired(pica__timer *timer) {
    EX_CHECK(ex_time >= timer->due);
    firings++;
}

static void armer(void *arg) {
    (void)arg;
    pica__timer_init(&timers[0], fired);
    EX_CHECK(pica__timer_arm(loop, &timers[0], 1000) == 0);
}

static void setup_timer(void) {
    pica_runtime *rt = ex_workers(1);
    loop = &rt->loop[0];
    ex_name(&loop->timers.earliest, "earliest");
    ex_name(&loop->timers.lock, "timers lock");
    pica__timer_init(&timers[1], fired);
    EX_CHECK(pica__timer_arm(loop, &timers[1], 5000) == 0);
    ex_thread("armer", armer, NULL, false);
}

/* Time passes when all sleep: both fire, none early; one may be cancelled first. */
static unsigned cancelled;

static void disarmer(void *arg) {
    (void)arg;
    cancelled += pica__timer_cancel(&timers[1]);
}

static void setup_due(void) {
    setup_timer();
    firings = 0;
    cancelled = 0;
    ex_thread("disarmer", disarmer, NULL, false);
}

static bool due_time(void) {
    return ex_time_passes(4);
}

static void finish_due(void) {
    EX_CHECK(firings + cancelled == 2);
}

static void finish_timer(void) {
    EX_CHECK(ex_deadline(0) == 1000);
}

/* Alarms, which stay in their place: one is moved, the other rests before its time, or fires. */
static unsigned rested;

static void rester(void *arg) {
    (void)arg;
    rested += pica__alarm_rest(&timers[1]);
}

static void setup_alarms(void (*fire)(pica__timer *timer)) {
    pica_runtime *rt = ex_workers(1);
    loop = &rt->loop[0];
    ex_name(&loop->timers.earliest, "earliest");
    ex_name(&loop->timers.resting, "resting");
    ex_name(&loop->timers.lock, "timers lock");
    firings = 0;
    rested = 0;
    for (int i = 0; i < 2; i++) {
        pica__timer_init(&timers[i], fire);
    }
}

static void setup_moved(void) {
    setup_alarms(fired);
    for (int i = 0; i < 2; i++) {
        EX_CHECK(pica__alarm_set(loop, &timers[i], 1000) == 0);
    }
    EX_CHECK(pica__alarm_rest(&timers[0]));
    EX_CHECK(pica__alarm_set(loop, &timers[0], 3000) == 0);
    ex_thread("rester", rester, NULL, false);
}

static void finish_moved(void) {
    EX_CHECK(firings + rested == 2);
    EX_CHECK(pica__heap_empty(&loop->timers.heap));
    EX_CHECK(atomic_load(&loop->timers.resting) == 0);
    EX_CHECK(loop->timers.look.noted == 0);
}

/* Alarms whose limits are noted learn the time from the look, and then fire, or rest, before that or after. The first
 * is set once more when half of the time to the look is over, and, as it stays for the next look, between the two. */
static const int64_t long_limit = 64000000000;
static int64_t set_at[2];
static pica__timer again[2];

static void note(int i) {
    EX_CHECK(pica__alarm_set(loop, &timers[i], long_limit) == 0);
    EX_CHECK(timers[i].due == -long_limit);
    set_at[i] = ex_time;
}

static void note_again(pica__timer *timer) {
    (void)timer;
    note(0);
}

static void fired_after_limit(pica__timer *timer) {
    int64_t passed = ex_time - set_at[timer - timers];
    EX_CHECK(passed >= long_limit && passed <= long_limit + long_limit / 64);
    fired(timer);
}

static void setup_noted(void) {
    setup_alarms(fired_after_limit);
    loop->timers.look.busy = true;
    loop->timers.look.since = ex_time;
    for (int i = 0; i < 2; i++) {
        EX_CHECK(pica__alarm_set(loop, &timers[i], long_limit) == 0); /* into the heap */
        EX_CHECK(pica__alarm_set(loop, &timers[i], long_limit) == 0); /* joins the look */
    }
    EX_CHECK(pica__alarm_rest(&timers[0]));
    note(0);
    note(1);
    EX_CHECK(loop->timers.look.noted == 2);
    loop->timers.look.sets = 64; /* so it still is busy at the first look */
    for (int i = 0; i < 2; i++) {
        pica__timer_init(&again[i], note_again);
        EX_CHECK(pica__timer_arm(loop, &again[i], ex_time + (1 + 2 * i) * (long_limit / 128)) == 0);
    }
    ex_thread("rester", rester, NULL, false);
}

static bool noted_time(void) {
    return ex_time_passes(8);
}

static void finish_noted(void) {
    finish_moved();
    EX_CHECK(loop->timers.look.count == 0);
    EX_CHECK(timers[0].node.tag == 0 && timers[1].node.tag == 0);
    pica__alarms_fini(loop);
}

/* --- two workers: work for anybody does not lie while one sleeps --- */

static void outsider_two(void *arg) {
    (void)arg;
    pica__ready(one);
    pica__ready(two);
}

static void until_two_ran(void *arg) {
    (void)arg;
    ex_wait(two, ex_has_run, two);
}

static void setup_shared(void) {
    (void)ex_workers(2);
    one = ex_work("one", NULL, NULL, false);
    ex_thread("outsider", outsider, one, false);
}

/* The first that is run needs the second to be run by the other worker. */
static void setup_shared_two(void) {
    (void)ex_workers(2);
    one = ex_work("one", until_two_ran, NULL, false);
    two = ex_work("two", NULL, NULL, false);
    ex_thread("outsider", outsider_two, NULL, false);
}

/* The same from two threads. */
static void until_other_began(void *arg) {
    pica_task *other = *(pica_task **)arg;
    ex_wait(other, ex_has_begun, other);
}

static void setup_shared_from_two(void) {
    (void)ex_workers(2);
    one = ex_work("one", until_other_began, &two, false);
    two = ex_work("two", until_other_began, &one, false);
    ex_thread("outsider", outsider, one, false);
    ex_thread("outsider 2", outsider, two, false);
}

/* Three workers, and two tasks that need each other: who is woken for the first is a searcher, so that nobody is woken
 * for the second; whoever ends the search must find or wake the third. */
static void setup_three(void) {
    (void)ex_workers(3);
    one = ex_work("one", until_other_began, &two, false);
    two = ex_work("two", until_other_began, &one, false);
    ex_thread("outsider", outsider_two, NULL, false);
}

/* --- work behind a busy worker --- */

/* What was written before a task was made runnable is seen by it. */
static unsigned data[3];

static void reads_data(void *arg) {
    EX_CHECK(*(unsigned *)arg == 1);
}

/* Two tasks are created, and their creator computes until both have run. */
static void spawns_two(void *arg) {
    (void)arg;
    data[1] = 1;
    pica__ready_unstarted(two, false);
    data[2] = 1;
    pica__ready_unstarted(three, false);
    ex_wait(two, ex_has_run, two);
    ex_wait(three, ex_has_run, three);
}

static void setup_spawn(void) {
    pica_runtime *rt = ex_workers(2);
    atomic_init(&rt->idle.guarded, 1); /* see setup_stuck */
    one = ex_work("one", spawns_two, NULL, false);
    data[1] = data[2] = 0;
    two = ex_work("two", reads_data, &data[1], true);
    three = ex_work("three", reads_data, &data[2], true);
    ex_thread("outsider", outsider, one, false);
}

/* One is woken, which lies in the LIFO slot, and its waker computes on: somebody who watches takes it. */
static void wakes_one(void *arg) {
    (void)arg;
    data[1] = 1;
    pica__ready(two);
    ex_wait(two, ex_has_run, two);
}

/* A third is said to guard: else who takes it looks for one, and the fence of that hides what the taking orders. */
static void setup_stuck(void) {
    pica_runtime *rt = ex_workers(2);
    atomic_init(&rt->idle.guarded, 1);
    one = ex_work("one", wakes_one, NULL, false);
    data[1] = 0;
    two = ex_work("two", reads_data, &data[1], false);
    ex_thread("outsider", outsider, one, false);
}

/* The one that is woken wakes another one and computes, too: whoever watched is stuck then, and somebody else watches.
 * (Not one that is created: for that, others are woken.) */
static void wakes_third(void *arg) {
    reads_data(arg);
    data[2] = 1;
    pica__ready(three);
    ex_wait(three, ex_has_run, three);
}

static bool nobody_watches(void *arg) {
    (void)arg;
    return ex_deadline(0) == INT64_MAX && ex_deadline(1) == INT64_MAX && ex_deadline(2) == INT64_MAX;
}

/* After a rest so long that all sleep without a bound. */
static void late_outsider(void *arg) {
    ex_wait(arg, nobody_watches, NULL);
    pica__ready(arg);
}

static void setup_stuck_chain(void) {
    (void)ex_workers(3);
    one = ex_work("one", wakes_one, NULL, false);
    data[1] = data[2] = 0;
    two = ex_work("two", wakes_third, &data[1], false);
    three = ex_work("three", reads_data, &data[2], false);
    ex_thread("outsider", late_outsider, one, false);
}

static bool idle_time_of_chain(void) {
    return ex_time_passes(24);
}

static void finish_chain(void) {
    EX_CHECK(ex_has_run(one) && ex_has_run(two) && ex_has_run(three));
}

/* Without work the watch ends after a while; with work behind a stuck worker a few looks are enough. */
static bool idle_time(void) {
    return ex_time_passes(6);
}

static void finish_ran(void) {
    EX_CHECK(ex_has_run(one) && ex_has_run(two));
}

const struct ex_scenario ex_scenarios[] = {
    {"idle.alone", "a thread gives a task to a worker that goes to sleep", setup_alone, ex_check_asleep,
     NULL, {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"idle.inbox", "a thread calls a loop that goes to sleep", setup_inbox, finish_inbox, NULL, {EX_ALL, 0},
     {3, 2}, {3, 2}, NULL},
    {"idle.timer", "a thread arms a timer, earlier than what the loop sleeps for", setup_timer, finish_timer,
     NULL, {EX_ALL, 0}, {3, 2}, {3, 2}, NULL},
    {"idle.due", "timers fire once and not early, or are cancelled", setup_due, finish_due, due_time, {2, 0},
     {1, 1}, {1, 1}, NULL},
    {"idle.moved", "an alarm that was moved fires at its new time, one that rests does not", setup_moved, finish_moved,
     due_time, {2, 0}, {2, 1}, {2, 1}, NULL},
    {"idle.noted", "an alarm whose limit was noted without the time fires when that is over, one that rests does not",
     setup_noted, finish_noted, noted_time, {2, 0}, {2, 1}, {2, 1}, NULL},
    {"idle.shared", "a task for any of two workers that go to sleep", setup_shared, ex_check_asleep, NULL,
     {2, 0}, {2, 1}, {2, 1}, NULL},
    {"idle.shared_two", "two tasks, the first needs both workers", setup_shared_two, ex_check_asleep, NULL,
     {2, 0}, {1, 1}, {1, 1}, NULL},
    {"idle.shared_from_two", "the same, from two threads", setup_shared_from_two, ex_check_asleep, NULL,
     {1, 0}, {1, 1}, {1, 1}, NULL},
    {"idle.three", "two tasks that need each other, three workers", setup_three, ex_check_asleep, NULL,
     {1, 0}, {0, 1}, {0, 1}, NULL},
    {"idle.spawn", "two tasks created by one that computes on", setup_spawn, finish_ran, idle_time,
     {1, 0}, {1, 1}, {1, 1}, NULL},
    {"idle.stuck", "a task woken by one that computes on", setup_stuck, finish_ran, idle_time,
     {1, 0}, {1, 1}, {1, 1}, NULL},
    {"idle.stuck_chain", "a task woken by one that computes on, on the worker that watched", setup_stuck_chain,
     finish_chain, idle_time_of_chain, {0, 0}, {0, 1}, {0, 1}, NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
