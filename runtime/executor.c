/* Pools of threads for calls that block.
 *
 * One lock guards a pool: its queue, its idle threads and its counts. A job is queued, then either taken by
 * a thread, withdrawn, or refused; whoever takes it out of the queue, under the lock, decides which. Jobs
 * begin in the order in which they were queued.
 *
 * A submitter that finds an idle thread wakes it: the one that went idle last, whose stack is warm. It does
 * not hand the job over: a thread that becomes free before may take it, and until then it can be withdrawn.
 * With no idle thread it starts one, if there are fewer than jobs that are queued or run, and than the cap.
 * That happens outside of the lock, in a place that was reserved under it; who cannot start a thread and
 * sees that none is left refuses all that is queued, so that nothing waits for nobody.
 *
 * Each thread that leaves joins the one that left before it, and whoever frees the pool, or waits for its
 * end, joins the last: so no thread is left behind by more than the last instructions of its own. If the
 * pool is freed by its last thread, because the owner released it before, that one is detached.
 *
 * In a forked child there are no threads, and the lock may be held for ever: nothing is touched there.
 *
 * Lock order: a pool's lock, then nothing; tasks are resumed, threads woken and jobs ended without it.
 */
#include "runtime/executor.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/base/cpus.h"
#include "runtime/base/lock.h"
#include "runtime/base/log.h"
#include "runtime/base/park.h"
#include "runtime/base/thread.h"
#include "runtime/base/transitions.h"
#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/wait.h"

/* As other systems give to threads that are not the first: enough for resolvers and data bases, little
 * enough for pools of hundreds where address space is accounted for. */
#define THREAD_STACK ((size_t)1024 * 1024)

enum { THREADS_MAX = 32, THREADS_BEYOND_CPUS = 4, THREADS_NAMES = 4, THREADS_FILES = 16 };

struct pica_executor {
    unsigned max;        /* constant */
    uint32_t forks;      /* constant: of the process that made it */
    pica__lock_t lock;
    bool closed;         /* all from here: under the lock */
    bool has_ended;      /* `ended` is a thread that nobody has joined */
    pthread_t ended;
    unsigned refs;       /* see executor.h */
    unsigned threads;    /* that run or are being started */
    size_t jobs;         /* queued and running */
    unsigned sleepers;   /* plain threads in pica_executor_wait_closed */
    pica__link queue;    /* pica__job.link */
    pica__link idle;     /* struct idler.link, the last one first */
    pica__link waiters;  /* struct end_wait.link */
    /* 1 once it is closed and no thread is left. Written under the lock (release), read by plain threads
     * that sleep on it (acquire). */
    _Atomic uint32_t over;
};

/* A thread that has nothing to do; lies on its stack. */
struct idler {
    pica__link link;
    /* 1: look again. Set (release) by who took it out of the list, read by the thread (acquire). */
    _Atomic uint32_t woken;
};

/* A task that waits for a pool's end; lies on its stack. */
struct end_wait {
    pica__wait wait;
    pica__link link;
    bool linked;         /* under the pool's lock: not taken out to be fired */
    pica_executor *executor;
};

/* Added to and subtracted from by whoever submits and ends one, relaxed; read by the deadlock detector. */
static _Atomic uint64_t all_jobs;

uint64_t pica__executor_jobs(void) {
    return atomic_load_explicit(&all_jobs, memory_order_relaxed);
}

static void all_jobs_add(uint64_t n) {
    atomic_fetch_add_explicit(&all_jobs, n, memory_order_relaxed);
}

static bool forked(const pica_executor *ex) {
    return ex->forks != pica__fork_count();
}

/* --- references and the end --- */

static void join_ended(pica_executor *ex) {
    pica__lock(&ex->lock);
    bool has_ended = ex->has_ended;
    pthread_t ended = ex->ended;
    ex->has_ended = false;
    pica__unlock(&ex->lock);
    if (has_ended) {
        pica__thread_join(ended);
    }
}

/* With the lock held, which it gives back: drops references, and tells those who wait for the end if it has
 * come. The pool may be gone afterwards. */
static void settle(pica_executor *ex, unsigned dropped) {
    pica__link told;
    pica__list_init(&told);
    ex->refs -= dropped;
    bool last = ex->refs == 0;
    bool wake = false;
    if (ex->closed && ex->threads == 0) {
        atomic_store_explicit(&ex->over, 1, memory_order_release);
        wake = ex->sleepers != 0;
        for (pica__link *l = ex->waiters.next; l != &ex->waiters; l = l->next) {
            PICA__CONTAINER_OF(l, struct end_wait, link)->linked = false; /* few: those of one call */
        }
        pica__list_splice(&told, &ex->waiters);
    }
    pica__unlock(&ex->lock);
    if (wake) {
        pica__park_wake(&ex->over); /* an address to the kernel: it does not matter if it is gone */
    }
    pica__link *link;
    while ((link = pica__list_pop_front(&told)) != NULL) {
        pica__wait_fire(&PICA__CONTAINER_OF(link, struct end_wait, link)->wait, 0);
    }
    if (last) {
        join_ended(ex);
        pica__free(ex, sizeof *ex);
    }
}

/* Takes the oldest job out of the queue; under the lock. */
static pica__job *queue_pop(pica_executor *ex) {
    pica__link *link = pica__list_pop_front(&ex->queue);
    if (link == NULL) {
        return NULL;
    }
    pica__job *job = PICA__CONTAINER_OF(link, pica__job, link);
    job->queued = false;
    return job;
}

/* Ends what is queued as long as nobody will ever take it. The caller has a reference. */
static void refuse_queued(pica_executor *ex, int code) {
    for (;;) {
        pica__lock(&ex->lock);
        pica__job *job = ex->closed || ex->threads == 0 ? queue_pop(ex) : NULL;
        ex->jobs -= job != NULL;
        pica__unlock(&ex->lock);
        if (job == NULL) {
            return;
        }
        PICA__MOVED(JOB, PICA__JOB_QUEUED, PICA__JOB_REFUSED);
        job->end(job, code);
        all_jobs_add(UINT64_MAX);
    }
}

/* --- threads --- */

static void idler_wake(struct idler *idler) {
    atomic_store_explicit(&idler->woken, 1, memory_order_release);
    pica__park_wake(&idler->woken); /* its thread may have gone on: an address to the kernel */
}

static struct idler *idle_pop(pica_executor *ex) {
    pica__link *link = pica__list_pop_front(&ex->idle);
    return link == NULL ? NULL : PICA__CONTAINER_OF(link, struct idler, link);
}

/* The next job; sleeps until there is one; NULL: the pool is closed. */
static pica__job *next_job(pica_executor *ex, struct idler *self) {
    pica__lock(&ex->lock);
    for (;;) {
        pica__job *job = queue_pop(ex);
        if (job != NULL || ex->closed) {
            if (job != NULL) {
                PICA__MOVED(JOB, PICA__JOB_QUEUED, PICA__JOB_TAKEN);
            }
            pica__unlock(&ex->lock);
            return job;
        }
        atomic_store_explicit(&self->woken, 0, memory_order_relaxed);
        pica__list_push_front(&ex->idle, &self->link);
        pica__unlock(&ex->lock);
        while (atomic_load_explicit(&self->woken, memory_order_acquire) == 0) {
            pica__park_wait(&self->woken, 0, INT64_MAX);
        }
        pica__lock(&ex->lock);
    }
}

static void thread_leave(pica_executor *ex) {
    pica__lock(&ex->lock);
    ex->threads--;
    bool has_before = ex->has_ended;
    pthread_t before = ex->ended;
    bool last = ex->refs == 1;
    ex->has_ended = !last;
    ex->ended = pica__thread_self();
    settle(ex, 1);
    if (has_before) {
        pica__thread_join(before);
    }
    if (last) {
        pica__thread_detach(pica__thread_self());
    }
}

static void *thread_main(void *arg) {
    pica_executor *ex = arg;
    struct idler self = {.woken = 0};
    pica__job *job;
    pica__thread_set_name("pica-pool");
    while ((job = next_job(ex, &self)) != NULL) {
        job->run(job);
        if (forked(ex)) {
            return NULL; /* it was the job that forked, and its child returned from it */
        }
        pica__lock(&ex->lock);
        ex->jobs--; /* first, so that what follows from its end starts no thread beside this one */
        pica__unlock(&ex->lock);
        job->end(job, 0);
        all_jobs_add(UINT64_MAX);
    }
    thread_leave(ex);
    return NULL;
}

/* What a worker's thread would hand down and a pool's must not have: the processor that it is bound to. Not
 * the mask of the thread that made the runtime, which is gone, but that of the process's first. */
static void attr_unbind(pthread_attr_t *attr) {
    cpu_set_t all;
    const pica__worker *worker = pica__self();
    if (worker != NULL && worker->rt->config.pin &&
        sched_getaffinity(getpid(), sizeof all, &all) == 0) {
        (void)pthread_attr_setaffinity_np(attr, sizeof all, &all);
    }
}

/* Signals are for the program's own threads, except those by which a fault of this one is reported. */
static void attr_block_signals(pthread_attr_t *attr) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t mask;
    (void)sigfillset(&mask);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        (void)sigdelset(&mask, faults[i]);
    }
    (void)pthread_attr_setsigmask_np(attr, &mask);
}

static int thread_create(pica_executor *ex) {
    pthread_t thread;
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0) {
        return -rc;
    }
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    (void)pthread_attr_setstacksize(&attr, THREAD_STACK > least ? THREAD_STACK : least);
    attr_block_signals(&attr);
    attr_unbind(&attr);
    rc = pica__thread_create(&thread, &attr, thread_main, ex);
    (void)pthread_attr_destroy(&attr);
    return rc;
}

/* Starts the thread whose place was reserved, with its reference. Out of line, since the C library's errno
 * is near, and tasks call this. */
static PICA__NOINLINE void thread_start(pica_executor *ex) {
    int rc = thread_create(ex);
    if (rc == 0) {
        return;
    }
    pica__lock(&ex->lock);
    ex->threads--;
    pica__unlock(&ex->lock);
    refuse_queued(ex, rc);
    pica__lock(&ex->lock);
    settle(ex, 1);
}

/* --- jobs --- */

/* refs: how many references the job's owner gets. */
static int submit(pica_executor *ex, pica__job *job, unsigned refs) {
    if (forked(ex)) {
        return PICA_EFORKED;
    }
    pica__lock(&ex->lock);
    if (ex->closed) {
        pica__unlock(&ex->lock);
        return PICA_ECLOSED;
    }
    job->queued = true;
    pica__list_push_back(&ex->queue, &job->link);
    ex->jobs++;
    all_jobs_add(1);
    struct idler *idler = idle_pop(ex);
    bool grow = idler == NULL && ex->threads < ex->max && ex->threads < ex->jobs;
    ex->threads += grow;
    ex->refs += refs + grow;
    pica__unlock(&ex->lock);
    if (idler != NULL) {
        idler_wake(idler);
    } else if (grow) {
        thread_start(ex);
    }
    return 0;
}

int pica__executor_submit(pica_executor *executor, pica__job *job) {
    return submit(executor, job, 0);
}

/* Under the lock. */
static bool withdraw(pica_executor *ex, pica__job *job) {
    if (!job->queued) {
        return false;
    }
    PICA__MOVED(JOB, PICA__JOB_QUEUED, PICA__JOB_WITHDRAWN);
    job->queued = false;
    pica__list_remove(&job->link);
    ex->jobs--;
    all_jobs_add(UINT64_MAX);
    return true;
}

bool pica__executor_withdraw(pica_executor *executor, pica__job *job) {
    pica__lock(&executor->lock);
    bool withdrawn = withdraw(executor, job);
    pica__unlock(&executor->lock);
    return withdrawn;
}

/* --- a call of a task --- */

/* Lies on the task's stack, which is there until the job was ended or withdrawn. */
struct call {
    pica__wait wait;
    pica__job job;
    pica_executor *executor; /* with a reference */
    pica_fn fn;
    void *arg;
    int code;                /* what fn returned, or why it did not run */
    bool done;               /* under the pool's lock: code is there */
    bool waits;              /* under the pool's lock: the task is to be resumed */
};

static bool call_cancel(pica__wait *wait) {
    struct call *call = PICA__CONTAINER_OF(wait, struct call, wait);
    return pica__executor_withdraw(call->executor, &call->job);
}

static const struct pica__wait_ops call_ops = {"executor", call_cancel};

static bool call_commit(pica__wait *wait) {
    struct call *call = PICA__CONTAINER_OF(wait, struct call, wait);
    pica_executor *ex = call->executor;
    pica__lock(&ex->lock);
    bool waits = !call->done;
    if (waits && !call->job.queued) {
        pica__wait_publish_uncancellable(wait); /* it runs: a cancellation stays pending */
    } else if (waits && !pica__wait_publish(wait)) {
        (void)withdraw(ex, &call->job);
        waits = false;
    }
    call->waits = waits;
    pica__unlock(&ex->lock);
    return waits;
}

static void call_run(pica__job *job) {
    struct call *call = PICA__CONTAINER_OF(job, struct call, job);
    call->code = call->fn(call->arg);
}

static void call_end(pica__job *job, int refused) {
    struct call *call = PICA__CONTAINER_OF(job, struct call, job);
    pica_executor *ex = call->executor;
    pica__lock(&ex->lock);
    call->code = refused != 0 ? refused : call->code;
    call->done = true;
    bool waits = call->waits;
    pica__unlock(&ex->lock);
    if (waits) {
        pica__wait_fire(&call->wait, 0); /* otherwise its commit will find it done: it may be gone by now */
    }
}

int pica__executor_run(pica_executor *executor, pica_fn fn, void *arg) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (pica__cancel_take(task)) {
        return PICA_ECANCELED;
    }
    struct call call = {
        .wait = {&call_ops, task, NULL, 0},
        .job = {.run = call_run, .end = call_end},
        .executor = executor,
        .fn = fn,
        .arg = arg,
    };
    int rc = submit(executor, &call.job, 1);
    if (rc < 0) {
        return rc;
    }
    rc = pica__suspend(&call.wait, call_commit);
    /* Also if it was not fired, but found done by the commit: from here on what the job wrote is seen. */
    pica__lock(&executor->lock);
    settle(executor, 1);
    return rc < 0 ? rc : call.code;
}

int pica_run_in_executor(pica_executor *executor, pica_fn fn, void *arg) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (fn == NULL) {
        return -EINVAL;
    }
    int rc = executor != NULL ? 0 : pica__pool_get(&executor, task->loop->rt, PICA__POOL_DEFAULT);
    return rc < 0 ? rc : pica__executor_run(executor, fn, arg);
}

int pica_to_thread(pica_fn fn, void *arg) {
    return pica_run_in_executor(NULL, fn, arg);
}

/* --- the pool's life --- */

int pica_executor_new(pica_executor **out, unsigned max_threads) {
    if (out == NULL) {
        return -EINVAL;
    }
    pica_executor *ex = pica__zalloc(sizeof *ex);
    if (ex == NULL) {
        return -ENOMEM;
    }
    unsigned usual = pica__cpus_affinity() + THREADS_BEYOND_CPUS;
    usual = usual < THREADS_MAX ? usual : THREADS_MAX;
    ex->max = max_threads != 0 ? max_threads : usual;
    ex->forks = pica__fork_count();
    pica__lock_init(&ex->lock);
    ex->refs = 1;
    pica__list_init(&ex->queue);
    pica__list_init(&ex->idle);
    pica__list_init(&ex->waiters);
    atomic_init(&ex->over, 0);
    *out = ex;
    return 0;
}

/* Closes and drops references of the caller, who has one at least. */
static void close_and_drop(pica_executor *ex, unsigned dropped) {
    struct idler *idler;
    if (forked(ex)) {
        return;
    }
    do {
        pica__lock(&ex->lock);
        ex->closed = true;
        idler = idle_pop(ex);
        pica__unlock(&ex->lock);
        if (idler != NULL) {
            idler_wake(idler);
        }
    } while (idler != NULL);
    refuse_queued(ex, PICA_ECLOSED);
    pica__lock(&ex->lock);
    settle(ex, dropped);
}

void pica_executor_close(pica_executor *executor) {
    close_and_drop(executor, 0);
}

void pica_executor_release(pica_executor *executor) {
    if (executor != NULL) {
        close_and_drop(executor, 1);
    }
}

static bool end_withdraw(pica__wait *wait) {
    struct end_wait *w = PICA__CONTAINER_OF(wait, struct end_wait, wait);
    pica__lock(&w->executor->lock);
    bool linked = w->linked;
    if (linked) {
        w->linked = false;
        pica__list_remove(&w->link);
    }
    pica__unlock(&w->executor->lock);
    return linked;
}

static const struct pica__wait_ops end_ops = {"end of an executor", end_withdraw};

static bool end_commit(pica__wait *wait) {
    struct end_wait *w = PICA__CONTAINER_OF(wait, struct end_wait, wait);
    pica_executor *ex = w->executor;
    bool over = false;
    bool waits = false;
    pica__lock(&ex->lock);
    over = atomic_load_explicit(&ex->over, memory_order_relaxed) != 0;
    if (!over && pica__wait_publish(wait)) {
        pica__list_push_back(&ex->waiters, &w->link);
        w->linked = true;
        waits = true;
    }
    pica__unlock(&ex->lock);
    return waits;
}

/* Outside of runtimes. True if it is over. The caller has a reference. */
static bool sleep_until_over(pica_executor *ex, int64_t deadline) {
    pica__lock(&ex->lock);
    ex->sleepers++;
    pica__unlock(&ex->lock);
    bool over;
    while (!(over = atomic_load_explicit(&ex->over, memory_order_acquire) != 0) &&
           (deadline == INT64_MAX || pica__now() < deadline)) {
        pica__park_wait(&ex->over, 0, deadline);
    }
    pica__lock(&ex->lock);
    ex->sleepers--;
    pica__unlock(&ex->lock);
    return over;
}

int pica_executor_wait_closed(pica_executor *executor) {
    pica_task *task = pica__current();
    if (task == NULL && pica__self() != NULL) {
        return PICA_ENOTASK;
    }
    if (forked(executor)) {
        return PICA_EFORKED;
    }
    pica__lock(&executor->lock);
    executor->refs++;
    pica__unlock(&executor->lock);
    int rc = 0;
    if (task == NULL) {
        (void)sleep_until_over(executor, INT64_MAX);
    } else {
        struct end_wait w = {.wait = {&end_ops, task, NULL, 0}, .executor = executor};
        rc = pica__suspend(&w.wait, end_commit);
    }
    if (rc == 0) {
        join_ended(executor); /* for as long as a thread takes to leave */
    }
    pica__lock(&executor->lock);
    settle(executor, 1);
    return rc;
}

/* --- the pools of a runtime --- */

int pica__pool_get(pica_executor **out, pica_runtime *rt, enum pica__pool which) {
    static const unsigned caps[PICA__POOLS] = {
        [PICA__POOL_DEFAULT] = 0,
        [PICA__POOL_NAMES] = THREADS_NAMES,
        [PICA__POOL_FILES] = THREADS_FILES,
    };
    pica_executor *_Atomic *place = &rt->pools.pool[which];
    pica_executor *pool = atomic_load_explicit(place, memory_order_acquire);
    if (pool == NULL) {
        pica_executor *made;
        int rc = pica_executor_new(&made, caps[which]);
        if (rc < 0) {
            return rc;
        }
        if (atomic_compare_exchange_strong_explicit(place, &pool, made, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            pool = made;
        } else {
            pica_executor_release(made); /* somebody was faster; it has no thread yet */
        }
    }
    *out = pool;
    return 0;
}

void pica__pools_end(pica__pools *pools, int64_t deadline) {
    for (int i = 0; i < PICA__POOLS; i++) {
        pica_executor *pool = atomic_exchange_explicit(&pools->pool[i], NULL, memory_order_acq_rel);
        if (pool == NULL) {
            continue;
        }
        pica_executor_close(pool);
        if (!sleep_until_over(pool, deadline)) {
            pica__log(PICA_LOG_WARN, "a blocking call has not returned when its runtime was closed: its "
                                     "thread is left behind and ends with it");
        }
        pica_executor_release(pool); /* joins the last thread if all have ended */
    }
}
