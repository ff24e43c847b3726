/* Everything at once: tasks that create, await, gather, cancel, time out, yield, sleep, lock,
 * queue, call back, and wait for plain threads, chosen at random, for a bounded time. In all
 * orders: as it comes, with tasks that move to another worker at every suspension, with ready tasks
 * taken at random, and in asyncio's order.
 *
 * What must hold at the end: every task that was created has ended, every value that was made was
 * released exactly once, every callback either ran or was cancelled, and nobody is left.
 *
 * STORM_SECONDS sets how long each case runs (default: short), STORM_SEED what happens. */
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "tests/support/log_lines.h"
#include "tests/support/pt.h"

enum { DEPTH = 4, ROOTS = 16, FAN = 10, THREADS = 3, ALIVE_MAX = PICA__TSAN ? 1000 : 20000 };

/* Counted from everywhere; compared when all is over. */
static struct {
    atomic_long created, ended;          /* tasks */
    atomic_long made, released;          /* values */
    atomic_long scheduled, ran, undone;  /* callbacks of loops */
    atomic_long hooked, called, removed; /* done-callbacks */
    atomic_long jobs, jobs_done;         /* for the plain threads */
} count;

static pica_lock lock = PICA_LOCK_INIT;
static long locked_count; /* plain: the lock guards it */
static pica_queue queue;
static pica_event never = PICA_EVENT_INIT;
static atomic_ulong next_seed;

/* --- chance --- */

static unsigned long chance(unsigned long *state) {
    *state += 0x9e3779b97f4a7c15u;
    unsigned long z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double some_time(unsigned long *state) {
    return (double)(chance(state) % 300) * 1e-6;
}

/* --- values --- */

enum { VALUE_MAGIC = 0x5ca1ab1e };

struct value {
    atomic_int magic;
};

static void *value_make(void) {
    struct value *v = malloc(sizeof *v);
    PT_REQUIRE(v != NULL);
    atomic_init(&v->magic, VALUE_MAGIC);
    atomic_fetch_add(&count.made, 1);
    return v;
}

static void value_release(void *p) {
    struct value *v = p;
    PT_EQ(atomic_exchange(&v->magic, 0), VALUE_MAGIC);
    atomic_fetch_add(&count.released, 1);
    free(v);
}

static void value_release_if(void *p) {
    if (p != NULL) {
        value_release(p);
    }
}

/* --- jobs for plain threads --- */

struct job {
    struct job *next;
    pica_future *future; /* to complete, or NULL */
    pica_task *task;     /* to cancel, or NULL */
};

static struct {
    pthread_mutex_t guard;
    pthread_cond_t changed;
    struct job *first;
    bool over; /* no more jobs will come */
    pica_runtime *rt;
    atomic_bool closed;        /* set by the main task: nothing shall come from outside any more */
    pica_future *visitor_gone; /* completed by the thread that brings it, as it leaves */
} desk = {.guard = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void job_post(pica_future *future, pica_task *task) {
    struct job *job = malloc(sizeof *job);
    PT_REQUIRE(job != NULL);
    job->future = future == NULL ? NULL : pica_future_ref(future);
    job->task = task == NULL ? NULL : pica_task_ref(task);
    atomic_fetch_add(&count.jobs, 1);
    pthread_mutex_lock(&desk.guard);
    job->next = desk.first;
    desk.first = job;
    pthread_cond_signal(&desk.changed);
    pthread_mutex_unlock(&desk.guard);
}

static void job_do(struct job *job, unsigned long *state) {
    if (job->future != NULL) {
        unsigned long kind = chance(state) % 8;
        void *value = value_make();
        int rc = kind == 0   ? pica_future_set_exception(job->future, -EIO, NULL)
                 : kind == 1 ? pica_future_cancel(job->future)
                             : pica_future_set_result(job->future, value, value_release);
        if (kind < 2 || rc < 0) {
            value_release(value);
        }
        pica_future_unref(job->future);
    }
    if (job->task != NULL) {
        (void)pica_task_cancel(job->task);
        pica_task_unref(job->task);
    }
    free(job);
    atomic_fetch_add(&count.jobs_done, 1);
}

static int actor(void *arg);

/* From outside: a coroutine of the runtime, waited for, with a limit or cancelled. */
static void run_from_outside(unsigned long *state) {
    pica_thread_future *f = NULL;
    int rc = pica_run_coroutine_threadsafe(desk.rt, actor, NULL, &f);
    PT_REQUIRE(rc == 0);
    if (chance(state) % 2 == 0) {
        (void)pica_thread_future_cancel(f);
    }
    (void)pica_thread_future_wait(f, some_time(state));
    if (chance(state) % 2 == 0) {
        PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
        PT_CHECK(pica_thread_future_result(f, NULL) <= 0);
    }
    pica_thread_future_free(f);
}

static struct job *job_next(void) {
    pthread_mutex_lock(&desk.guard);
    while (desk.first == NULL && !desk.over) {
        pthread_cond_wait(&desk.changed, &desk.guard);
    }
    struct job *job = desk.first;
    if (job != NULL) {
        desk.first = job->next;
    }
    pthread_mutex_unlock(&desk.guard);
    return job;
}

static void *worker_main(void *arg) {
    unsigned long state = (unsigned long)(uintptr_t)arg;
    struct job *job;
    while ((job = job_next()) != NULL) {
        job_do(job, &state);
    }
    return NULL;
}

/* Not a thread that does jobs: what it waits for may wait for one. */
static void *visitor_main(void *arg) {
    unsigned long state = (unsigned long)(uintptr_t)arg;
    while (!atomic_load(&desk.closed)) {
        run_from_outside(&state);
    }
    PT_EQ(pica_future_set_result(desk.visitor_gone, NULL, NULL), 0);
    return NULL;
}

/* --- what a task may do --- */

struct play {
    unsigned long state;
    unsigned depth;
};

static void note_end(void *arg) {
    (void)arg;
    atomic_fetch_add(&count.ended, 1);
}

/* A child of this task; its argument is its seed, shifted, and its depth. */
static pica_task *spawn_with(struct play *p, bool detached, bool pinned) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_runtime *rt = pica_current_runtime();
    uintptr_t arg = (uintptr_t)(chance(&p->state) << 3 | (p->depth - 1));
    pica_task *task = NULL;
    options.arg_destroy = note_end;
    options.pinned = pinned;
    if (pinned || chance(&p->state) % 16 == 0) {
        unsigned i = (unsigned)chance(&p->state) % pica_runtime_workers(rt);
        options.loop = pica_runtime_loop(rt, i);
    }
    if (chance(&p->state) % 64 == 0) {
        options.stack_size = 128 * 1024;
    }
    atomic_fetch_add(&count.created, 1);
    PT_REQUIRE(pica_create_task_opts(detached ? NULL : &task, actor, (void *)arg, &options) == 0);
    return task;
}

static pica_task *spawn(struct play *p) {
    return spawn_with(p, false, chance(&p->state) % 16 == 0);
}

/* Nothing but these comes out of anything here. */
static int check(int rc) {
    PT_CHECK(rc == 0 || rc == PICA_ECANCELED || rc == PICA_ETIMEDOUT || rc == -EIO);
    return rc;
}

static int join(struct play *p, pica_task *task) {
    void *value = NULL;
    bool take = chance(&p->state) % 2 == 0;
    int rc = check(pica_join(task, take ? &value : NULL));
    value_release_if(value);
    return rc;
}

static int do_yield(struct play *p) {
    int rc = 0;
    for (unsigned long n = chance(&p->state) % 4; rc == 0 && n > 0; n--) {
        rc = pica_yield();
    }
    return rc;
}

static int do_sleep(struct play *p) {
    return pica_sleep(some_time(&p->state));
}

static int do_return(struct play *p) {
    (void)p;
    return pica_return(value_make(), value_release);
}

static int do_await(struct play *p) {
    return join(p, spawn(p));
}

static int do_fan(struct play *p) {
    pica_task *task[FAN];
    size_t n = 1 + chance(&p->state) % FAN;
    for (size_t i = 0; i < n; i++) {
        task[i] = spawn(p);
    }
    pica_future *const *futures = (pica_future *const *)(void *)task;
    int rc = check(pica_gather(n, futures, chance(&p->state) % 2 ? PICA_RETURN_EXCEPTIONS : 0));
    for (size_t i = 0; i < n; i++) {
        (void)join(p, task[i]);
    }
    return rc;
}

static int do_wait(struct play *p) {
    pica_task *task[FAN];
    size_t n = 1 + chance(&p->state) % FAN;
    for (size_t i = 0; i < n; i++) {
        task[i] = spawn(p);
    }
    pica_future *const *futures = (pica_future *const *)(void *)task;
    int rc = pica_wait(n, futures, some_time(&p->state), 1 + (int)(chance(&p->state) % 3));
    PT_CHECK(rc == PICA_ECANCELED || (rc >= 0 && rc <= (int)n));
    for (size_t i = 0; i < n; i++) {
        (void)pica_task_cancel(task[i]);
        (void)join(p, task[i]);
    }
    return rc < 0 ? rc : 0;
}

static int do_wait_for(struct play *p) {
    pica_task *task = spawn(p);
    int rc = check(pica_wait_for(PICA_FUTURE(task), some_time(&p->state), NULL));
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 1);
    pica_task_unref(task);
    return rc;
}

static int do_timeout(struct play *p) {
    pica_timeout outer, inner;
    PT_EQ(pica_timeout_enter(&outer, some_time(&p->state)), 0);
    PT_EQ(pica_timeout_enter(&inner, some_time(&p->state)), 0);
    int rc = chance(&p->state) % 2 ? pica_event_wait(&never) : join(p, spawn(p));
    if (chance(&p->state) % 4 == 0) {
        (void)pica_timeout_reschedule(&inner, some_time(&p->state));
    }
    rc = check(pica_timeout_exit(&inner, rc));
    rc = check(pica_timeout_exit(&outer, rc));
    return rc;
}

static int do_cancel(struct play *p) {
    pica_task *task = spawn(p);
    int rc = do_yield(p);
    if (chance(&p->state) % 2 == 0) {
        job_post(NULL, task);
    } else {
        (void)pica_task_cancel(task);
    }
    int result = join(p, task);
    return rc < 0 ? rc : result;
}

static int do_cancel_self(struct play *p) {
    (void)p;
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    int rc = pica_yield();
    PT_EQ(rc, PICA_ECANCELED);
    return rc;
}

static int do_thread(struct play *p) {
    pica_future *future = NULL;
    void *value = NULL;
    PT_REQUIRE(pica_future_new(&future) == 0);
    job_post(future, NULL);
    unsigned long kind = chance(&p->state) % 3;
    int rc = kind == 0   ? pica_await(future, &value)
             : kind == 1 ? pica_shield(future, &value)
                         : pica_wait_for(future, some_time(&p->state), &value);
    if (check(rc) == 0 && PT_CHECK(value != NULL)) {
        PT_EQ(atomic_load(&((struct value *)value)->magic), VALUE_MAGIC);
    }
    pica_future_unref(future);
    return rc;
}

static int do_lock(struct play *p) {
    int rc = pica_lock_acquire(&lock);
    if (rc < 0) {
        return rc;
    }
    long before = ++locked_count;
    rc = chance(&p->state) % 2 ? do_yield(p) : 0;
    PT_EQ(locked_count, before);
    PT_EQ(pica_lock_release(&lock), 0);
    return rc;
}

static int do_queue(struct play *p) {
    pica_timeout limit;
    PT_EQ(pica_timeout_enter(&limit, some_time(&p->state)), 0);
    int rc;
    if (chance(&p->state) % 2 == 0) {
        void *item = value_make();
        rc = pica_queue_put(&queue, item);
        if (rc < 0) {
            value_release(item);
        }
    } else {
        void *item = NULL;
        rc = pica_queue_get(&queue, &item);
        PT_CHECK((rc == 0) == (item != NULL));
        value_release_if(item);
    }
    return check(pica_timeout_exit(&limit, rc));
}

static void callback(void *arg) {
    (void)arg;
    atomic_fetch_add(&count.ran, 1);
}

static int do_callbacks(struct play *p) {
    pica_handle *handle = NULL;
    atomic_fetch_add(&count.scheduled, 2);
    PT_EQ(pica_call_soon(callback, NULL, NULL), 0);
    PT_EQ(pica_call_later(some_time(&p->state), callback, NULL, &handle), 0);
    int rc = do_yield(p);
    if (chance(&p->state) % 2 == 0) {
        int cancelled = pica_handle_cancel(handle);
        PT_CHECK(cancelled == 1 || cancelled == 0 || cancelled == -EBUSY);
        atomic_fetch_add(&count.undone, cancelled == 1);
    }
    pica_handle_unref(handle);
    return rc;
}

static void done_callback(pica_future *future, void *arg) {
    (void)arg;
    PT_EQ(pica_future_done(future), 1);
    atomic_fetch_add(&count.called, 1);
}

static int do_done_callback(struct play *p) {
    pica_task *task = spawn(p);
    int key;
    atomic_fetch_add(&count.hooked, 2);
    PT_EQ(pica_future_add_done_callback(PICA_FUTURE(task), NULL, done_callback, NULL), 0);
    PT_EQ(pica_future_add_done_callback(PICA_FUTURE(task), NULL, done_callback, &key), 0);
    int rc = do_yield(p);
    int removed = pica_future_remove_done_callback(PICA_FUTURE(task), done_callback, &key);
    PT_CHECK(removed == 0 || removed == 1);
    atomic_fetch_add(&count.removed, removed);
    int result = join(p, task);
    return rc < 0 ? rc : result;
}

static int do_detach(struct play *p) {
    (void)spawn_with(p, true, false);
    return 0;
}

static int (*const deeds[])(struct play *) = {
    do_yield,    do_sleep,     do_return,        do_await,       do_fan,    do_wait,
    do_wait_for, do_timeout,   do_cancel,        do_cancel_self, do_thread, do_lock,
    do_queue,    do_callbacks, do_done_callback, do_detach};
enum { DEEDS = sizeof deeds / sizeof deeds[0] };

static bool needs_child(int (*deed)(struct play *)) {
    return deed == do_await || deed == do_fan || deed == do_wait || deed == do_wait_for ||
           deed == do_timeout || deed == do_cancel || deed == do_done_callback || deed == do_detach;
}

static int actor(void *arg) {
    struct play p = {(unsigned long)(uintptr_t)arg >> 3, (unsigned)((uintptr_t)arg & 7)};
    if (arg == NULL) { /* from outside */
        p.state = atomic_fetch_add(&next_seed, 1);
        p.depth = 1;
    }
    int rc = 0;
    for (unsigned long n = 1 + chance(&p.state) % 3; rc == 0 && n > 0; n--) {
        int (*deed)(struct play *) = deeds[chance(&p.state) % DEEDS];
        if (p.depth > 0 || !needs_child(deed)) {
            rc = deed(&p);
        }
        if (rc != 0 && chance(&p.state) % 4 == 0) {
            rc = 0; /* a swallowed cancellation, or failure */
        }
    }
    return check(rc);
}

/* --- a case --- */

static uint64_t alive(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
    return stats.tasks_alive;
}

static double seconds_of_case(void) {
    const char *s = getenv("STORM_SECONDS");
    return s == NULL ? 0.4 : strtod(s, NULL);
}

static void threads_begin(pthread_t *thread) {
    desk.rt = pica_current_runtime();
    PT_REQUIRE(pica_future_new(&desk.visitor_gone) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *(*fn)(void *) = i == 0 ? visitor_main : worker_main;
        PT_REQUIRE(pthread_create(&thread[i], NULL, fn, (void *)(i + 1)) == 0);
    }
}

/* Lets everything come to its end, then the threads. None of them waits for a task then. */
static void threads_end(pthread_t *thread) {
    atomic_store(&desk.closed, true);
    PT_EQ(pica_await(desk.visitor_gone, NULL), 0);
    pica_future_unref(desk.visitor_gone);
    PT_EQ(pica_wait_all_tasks(0), 0);
    pthread_mutex_lock(&desk.guard);
    desk.over = true;
    pthread_cond_broadcast(&desk.changed);
    pthread_mutex_unlock(&desk.guard);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    PT_EQ(atomic_load(&count.jobs_done), atomic_load(&count.jobs));
}

static bool callbacks_over(void) {
    return atomic_load(&count.ran) + atomic_load(&count.undone) == atomic_load(&count.scheduled) &&
           atomic_load(&count.called) + atomic_load(&count.removed) == atomic_load(&count.hooked);
}

static int storm_main(void *arg) {
    pthread_t thread[THREADS];
    struct play p = {*(const unsigned long *)arg, DEPTH + 1};
    double end = pica_time() + seconds_of_case();
    threads_begin(thread);
    while (pica_time() < end && pt_failures() == 0) {
        pica_task *root[ROOTS];
        for (int i = 0; i < ROOTS; i++) {
            root[i] = spawn(&p);
        }
        for (int i = 0; i < ROOTS; i++) {
            (void)join(&p, root[i]);
        }
        while (alive() > ALIVE_MAX) {
            PT_EQ(pica_yield(), 0);
        }
    }
    threads_end(thread);
    while (!callbacks_over()) {
        PT_EQ(pica_sleep(0.0005), 0);
    }
    PT_EQ(alive(), 1);
    return 0;
}

/* Detached tasks end as they like. */
static void unseen_error(void *ctx, const char *name, int code, pica_error *error) {
    (void)ctx;
    (void)name;
    (void)error;
    (void)check(code);
}

/* Nothing here is worth a line, above all not tasks that somebody still refers to at the end. */
static void log_line(void *ctx, int level, const char *text) {
    (void)ctx;
    if (level <= PICA_LOG_WARN && !log_line_of_engine(text)) {
        PT_FAIL("logged: %s", text);
    }
}

static void storm(const char *debug, int order) {
    const char *s = getenv("STORM_SEED");
    unsigned long seed = s == NULL ? (unsigned long)getpid() : strtoul(s, NULL, 10);
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    if (debug != NULL) {
        setenv("PICA_DEBUG", debug, 1);
    }
    options.order = order;
    options.task_error = unseen_error;
    options.log = log_line;
    pica_queue_init(&queue, 8);
    PT_EQ(pica_run_opts(storm_main, &seed, &options), 0);
    pica_queue_destroy(&queue, value_release);
    PT_EQ(atomic_load(&count.ended), atomic_load(&count.created));
    PT_EQ(atomic_load(&count.released), atomic_load(&count.made));
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_CHECK(atomic_load(&count.created) > ROOTS);
    printf("    %ld tasks, %ld values, %ld callbacks, %ld jobs of threads%s (seed %lu)\n",
           atomic_load(&count.created), atomic_load(&count.made),
           atomic_load(&count.ran) + atomic_load(&count.called), atomic_load(&count.jobs),
           pt_failures() == 0 ? "" : ": FAILED", seed);
}

PT_TEST_TIMEOUT(as_it_comes, 600) {
    storm(NULL, PICA_ORDER_FREE);
}

PT_TEST_TIMEOUT(migrate, 600) {
    storm("migrate", PICA_ORDER_FREE);
}

PT_TEST_TIMEOUT(shuffle, 600) {
    storm("shuffle,poison", PICA_ORDER_FREE);
}

PT_TEST_TIMEOUT(migrate_and_shuffle, 600) {
    storm("migrate,shuffle,poison", PICA_ORDER_FREE);
}

PT_TEST_TIMEOUT(fifo, 600) {
    storm(NULL, PICA_ORDER_FIFO);
}

PT_MAIN()
