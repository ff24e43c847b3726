/* Scenarios over runtime/starved.c: tasks that find no stack, and stacks that come back. The pool is a number
 * under a lock here, as the library's is a list under one. */
#include "runtime/base/lock.h"
#include "runtime/worker.h"
#include "tests/explore/workers.h"

enum { STACKS = 1 };

static struct {
    pica__lock_t lock;
    unsigned free;
} stacks;

static pica__fiber fiber; /* stands for any of them */
static pica_runtime *rt;
static pica_task *one, *two;

bool pica__worker_stand(pica__worker *worker) {
    if (worker->standing == NULL) {
        pica__lock(&stacks.lock);
        bool got = stacks.free != 0;
        stacks.free -= got;
        pica__unlock(&stacks.lock);
        worker->standing = got ? &fiber : NULL;
    }
    return worker->standing != NULL;
}

void pica__fiber_free(pica__worker *worker, pica__fiber *f) {
    (void)worker;
    (void)f;
    pica__lock(&stacks.lock);
    stacks.free++;
    pica__unlock(&stacks.lock);
    pica__runtime_stack_freed(rt);
}

/* With a stack that comes back no task has to fail. */
void pica__task_end_unstarted(pica_task *task, int code) {
    (void)task;
    ex_fail("a task is failed with %d though a stack comes back", code);
}

static void begin(unsigned workers) {
    rt = ex_workers_on_stacks(workers, STACKS);
    pica__lock_init(&stacks.lock);
    stacks.free = STACKS;
    ex_name(&stacks.lock, "stacks lock");
    ex_name(&rt->starved.count, "starved");
    ex_name(&rt->starved.lock, "starved lock");
}

static void outsider(void *arg) {
    pica__ready_unstarted(arg, false);
}

static void outsider_two(void *arg) {
    (void)arg;
    outsider(one);
    outsider(two);
}

/* One worker: the second task starts when the first has ended. */
static void setup_alone(void) {
    begin(1);
    one = ex_work("one", NULL, NULL, true);
    two = ex_work("two", NULL, NULL, true);
    ex_thread("outsider", outsider_two, NULL, false);
}

/* Two workers want the one stack. */
static void setup_two(void) {
    begin(2);
    one = ex_work("one", NULL, NULL, true);
    two = ex_work("two", NULL, NULL, true);
    ex_thread("outsider", outsider_two, NULL, false);
}

/* A worker gives a stack back and computes on, until the task that misses it has run on the other one. */
static void gives_back(void *arg) {
    (void)arg;
    pica__fiber_free(pica__self(), &fiber);
    ex_wait(two, ex_has_run, two);
}

static void outsider_busy(void *arg) {
    (void)arg;
    pica__ready(one);
    outsider(two);
}

static void setup_back(void) {
    begin(2);
    stacks.free = STACKS - 1;
    one = ex_work("one", gives_back, NULL, false);
    two = ex_work("two", NULL, NULL, true);
    ex_thread("outsider", outsider_busy, NULL, false);
}

/* All have run, and the stack lies with nobody who sleeps. */
static void finish(void) {
    ex_check_asleep();
    EX_CHECK(stacks.free == STACKS);
    EX_CHECK(atomic_load_explicit(&rt->starved.count, memory_order_relaxed) == 0);
}

const struct ex_scenario ex_scenarios[] = {
    {"stacks.alone", "two tasks, one stack, one worker", setup_alone, finish, NULL, {2, 0}, {1, 1}, {1, 1},
     NULL},
    {"stacks.back", "a stack comes back from one that computes on", setup_back, finish, NULL, {1, 0}, {1, 1},
     {1, 1}, NULL},
    {"stacks.two", "two tasks, one stack, two workers", setup_two, finish, NULL, {1, 0}, {1, 1}, {1, 1},
     NULL},
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
