/* Slow steps: who keeps a worker for too long, and where.
 *
 * Only with PICA_DEBUG=slow=TIME: a thread of its own looks at each worker every eighth of TIME. A worker whose
 * counts of steps, callbacks and parks did not move, and that is awake, has been in one step all the time. Thus
 * the workers pay nothing for being watched. After TIME the watcher sends the worker's thread SIGURG; the handler,
 * on the alternate signal stack, takes the backtrace and the task's name while the culprit is at it, and the
 * watcher puts that into words and logs it. When the step is over, another line says how long it took.
 *
 * This is the one place where the library sends a signal to its threads and has a thread besides the workers,
 * and why it is a switch for finding faults: a system call in which the slow code sits may end early with EINTR
 * (those that SA_RESTART does not cover, such as nanosleep and poll). SIGURG, because it is ignored by
 * default, so a late one does no harm; if the program has a handler of its own, that is called for all signals
 * that were not asked for here.
 *
 * The times are as fine as the looks: a step that is a little longer than TIME may end unseen, and a duration may
 * be an eighth of TIME short.
 *
 * Locks: `handlers.lock`, a leaf, never in a handler.
 */
#include "runtime/slow.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/base/lock.h"
#include "runtime/base/log.h"
#include "runtime/base/namer.h"
#include "runtime/base/park.h"
#include "runtime/base/symbol.h"
#include "runtime/rt.h"
#include "runtime/task.h"

enum { FRAMES_MAX = 64, LOOKS = 8 };
#define SIGNAL SIGURG
#define FINE_NS INT64_C(1000000)    /* between looks while somebody is slow */
#define COARSE_NS INT64_C(50000000) /* the most between looks */
#define ANSWER_NS INT64_C(500000000)

/* What is known of one worker. */
struct watched {
    /* The watcher's own. */
    uint64_t progress;  /* as at the last look */
    int64_t since;      /* ns, when it was first seen */
    bool reported;
    char who[PICA__NAME_BYTES + 16]; /* of the report */
    /* A question, and the answer to it, each a number that grows. `asked` is stored by the watcher (release)
     * after asked_progress, and read by the handler (acquire); `answered` is stored by the handler (release)
     * after the fields below, and read by the watcher (acquire), who sleeps on it. */
    _Atomic uint32_t asked;
    _Atomic uint32_t answered;
    uint64_t asked_progress;
    int frames;         /* 0: the step was over */
    bool callback;
    void *frame[FRAMES_MAX];
    char name[PICA__NAME_BYTES];
};

struct pica__slow {
    pica_runtime *rt;
    pthread_t thread;
    bool running;
    _Atomic uint32_t stop; /* set by who ends the runtime (release); the watcher sleeps on it (acquire) */
    size_t size;           /* of this memory */
    struct watched watched[];
};

/* --- the handler --- */

static struct {
    pica__lock_t lock;
    unsigned users;
    /* What was there before; written under the lock before ours is in place, read by handlers. */
    struct sigaction previous;
} handlers = {.lock = PICA__LOCK_INIT};

static uint64_t progress_of(pica__worker *worker) {
    return atomic_load_explicit(&worker->steps, memory_order_relaxed) +
           atomic_load_explicit(&worker->stats.callbacks, memory_order_relaxed) +
           atomic_load_explicit(&worker->stats.parks, memory_order_relaxed);
}

static void *interrupted_at(const void *context) {
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (void *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#else
    return (void *)(uintptr_t)uc->uc_mcontext.pc;
#endif
}

/* The frames from the interrupted instruction on, without those of the handler. */
static void take_frames(struct watched *w, const void *context) {
    void *pc = interrupted_at(context);
    int n = backtrace(w->frame, FRAMES_MAX);
    int first = 0;
    while (first < n && w->frame[first] != pc) {
        first++;
    }
    if (first == n) { /* not seen through the signal, or it was delivered late: the place, then what there is */
        n = n < FRAMES_MAX ? n : FRAMES_MAX - 1;
        memmove(w->frame + 1, w->frame, (size_t)n * sizeof w->frame[0]);
        w->frame[0] = pc;
        w->frames = n + 1;
        return;
    }
    w->frames = n - first;
    memmove(w->frame, w->frame + first, (size_t)w->frames * sizeof w->frame[0]);
}

static void answer(pica__worker *worker, struct watched *w, uint32_t asked, const void *context) {
    w->frames = 0;
    if (progress_of(worker) == w->asked_progress) {
        w->callback = pica__current() == NULL;
        pica__namer_ask(w->name, sizeof w->name);
        take_frames(w, context);
    }
    atomic_store_explicit(&w->answered, asked, memory_order_release);
    pica__park_wake(&w->answered);
}

static void pass_on(int number, siginfo_t *info, void *context) {
    if ((handlers.previous.sa_flags & SA_SIGINFO) != 0) {
        handlers.previous.sa_sigaction(number, info, context);
    } else if (handlers.previous.sa_handler != SIG_DFL && handlers.previous.sa_handler != SIG_IGN) {
        handlers.previous.sa_handler(number);
    }
}

static void on_signal(int number, siginfo_t *info, void *context) {
    int saved = errno;
    pica__worker *worker = pica__self();
    struct pica__slow *slow =
        worker == NULL ? NULL : atomic_load_explicit(&worker->rt->slow, memory_order_acquire);
    struct watched *w = slow == NULL ? NULL : &slow->watched[worker->index];
    uint32_t asked = w == NULL ? 0 : atomic_load_explicit(&w->asked, memory_order_acquire);
    if (w != NULL && asked != atomic_load_explicit(&w->answered, memory_order_relaxed)) {
        answer(worker, w, asked, context);
    } else {
        errno = saved;
        pass_on(number, info, context);
    }
    errno = saved;
}

static void handlers_add(void) {
    pica__lock(&handlers.lock);
    if (handlers.users++ == 0) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        sigemptyset(&action.sa_mask);
        (void)sigaction(SIGNAL, NULL, &handlers.previous);
        (void)sigaction(SIGNAL, &action, NULL);
    }
    pica__unlock(&handlers.lock);
}

static void handlers_remove(void) {
    pica__lock(&handlers.lock);
    struct sigaction now;
    if (--handlers.users == 0 && sigaction(SIGNAL, NULL, &now) == 0 &&
        (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_signal) {
        (void)sigaction(SIGNAL, &handlers.previous, NULL);
    }
    pica__unlock(&handlers.lock);
}

void pica__slow_worker_enter(pica_runtime *rt) {
    if (rt->config.debug_slow != 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGNAL);
        (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* the program may have blocked everything */
    }
}

/* --- the watcher --- */

/* Asks a worker's thread what it is at; true if it answered in time. */
static bool ask(struct watched *w, pica__worker *worker) {
    uint32_t before = atomic_load_explicit(&w->asked, memory_order_relaxed);
    uint32_t answered = atomic_load_explicit(&w->answered, memory_order_acquire);
    if (answered != before) {
        return false; /* it never answered the last question: its fields may be written any time */
    }
    w->asked_progress = w->progress;
    atomic_store_explicit(&w->asked, before + 1, memory_order_release);
    if (pthread_kill(worker->thread, SIGNAL) != 0) {
        return false;
    }
    int64_t deadline = pica__now() + ANSWER_NS;
    while (atomic_load_explicit(&w->answered, memory_order_acquire) != before + 1) {
        if (pica__now() >= deadline) {
            return false;
        }
        pica__park_wait(&w->answered, before, deadline);
    }
    return true;
}

static void log_frames(const struct watched *w) {
    for (int i = 0; i < w->frames; i++) {
        /* All but the first are return addresses, which may lie behind the end of the function. */
        char text[256];
        pica__symbol((const char *)w->frame[i] - (i != 0), text, sizeof text);
        pica__log(PICA_LOG_WARN, "  #%d %p %s", i, w->frame[i], text);
    }
}

static void report(struct watched *w, pica__worker *worker, int64_t now) {
    unsigned long long ms = (unsigned long long)(now - w->since) / 1000000;
    if (!ask(w, worker)) {
        (void)snprintf(w->who, sizeof w->who, "something");
        pica__log(PICA_LOG_WARN,
                  "something has kept worker %u for %llu ms without a suspension; its thread did not "
                  "answer when it was asked what",
                  worker->index, ms);
        w->reported = true;
    } else if (w->frames != 0) {
        if (w->callback) {
            (void)snprintf(w->who, sizeof w->who, "a callback");
        } else {
            char name[PICA__NAME_BYTES];
            memcpy(name, w->name, sizeof name);
            (void)snprintf(w->who, sizeof w->who, "task '%s'", name);
        }
        pica__log(PICA_LOG_WARN, "%s has kept worker %u for %llu ms without a suspension:", w->who,
                  worker->index, ms);
        log_frames(w);
        w->reported = true;
    }
}

static void report_end(struct watched *w, pica__worker *worker, int64_t now) {
    unsigned long long ms = (unsigned long long)(now - w->since) / 1000000;
    pica__log(PICA_LOG_WARN, "%s has given worker %u back after %llu ms", w->who, worker->index, ms);
    w->reported = false;
}

/* One look at one worker; true if it is slow just now. */
static bool look(struct watched *w, pica__worker *worker, int64_t limit) {
    int64_t now = pica__now();
    uint64_t progress = progress_of(worker);
    bool busy = atomic_load_explicit(&worker->sleep, memory_order_relaxed) == PICA__AWAKE &&
                !atomic_load_explicit(&worker->resting, memory_order_relaxed);
    if (!busy || progress != w->progress) {
        if (w->reported) {
            report_end(w, worker, now);
        }
        w->progress = progress;
        w->since = now;
    } else if (!w->reported && now - w->since >= limit) {
        report(w, worker, now);
    }
    return w->reported;
}

static void *watch(void *arg) {
    struct pica__slow *slow = arg;
    pica_runtime *rt = slow->rt;
    int64_t limit = rt->config.debug_slow;
    int64_t coarse = limit / LOOKS;
    coarse = coarse > COARSE_NS ? COARSE_NS : coarse;
    for (unsigned i = 0; i < rt->workers; i++) {
        slow->watched[i].since = pica__now();
    }
    for (;;) {
        /* Before the look, so that what ended before the end of the runtime is told. */
        bool last = atomic_load_explicit(&slow->stop, memory_order_acquire) != 0;
        bool fine = false;
        for (unsigned i = 0; i < rt->workers; i++) {
            fine |= look(&slow->watched[i], &rt->worker[i], limit);
        }
        if (last) {
            return NULL;
        }
        int64_t pause = fine && coarse > FINE_NS ? FINE_NS : coarse;
        pica__park_wait(&slow->stop, 0, pica__now() + pause);
    }
}

/* --- life --- */

/* The program's signals are for its own threads. */
static int thread_start(struct pica__slow *slow) {
    sigset_t all, before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = -pthread_create(&slow->thread, NULL, watch, slow);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) {
        (void)pthread_setname_np(slow->thread, "pica-slow");
    }
    return rc;
}

int pica__slow_start(pica_runtime *rt) {
    if (rt->config.debug_slow == 0) {
        return 0;
    }
    size_t size = sizeof(struct pica__slow) + rt->workers * sizeof(struct watched);
    struct pica__slow *slow = pica__zalloc(size);
    if (slow == NULL) {
        return -ENOMEM;
    }
    slow->rt = rt;
    slow->size = size;
    /* The first call loads what it needs of the compiler's library, which no handler may do. */
    void *frame[4];
    (void)backtrace(frame, 4);
    atomic_store_explicit(&rt->slow, slow, memory_order_release);
    handlers_add();
    int rc = thread_start(slow);
    if (rc < 0) {
        handlers_remove();
        pica__slow_free(rt);
        return rc;
    }
    slow->running = true;
    return 0;
}

void pica__slow_stop(pica_runtime *rt) {
    struct pica__slow *slow = atomic_load_explicit(&rt->slow, memory_order_relaxed);
    if (slow != NULL && slow->running) {
        atomic_store_explicit(&slow->stop, 1, memory_order_release);
        pica__park_wake(&slow->stop);
        (void)pthread_join(slow->thread, NULL);
        slow->running = false;
        handlers_remove();
    }
}

void pica__slow_free(pica_runtime *rt) {
    struct pica__slow *slow = atomic_load_explicit(&rt->slow, memory_order_relaxed);
    if (slow != NULL) {
        atomic_store_explicit(&rt->slow, NULL, memory_order_release);
        pica__free(slow, slow->size);
    }
}
