/* Signals as callbacks: a table with one registration for each signal, for the whole process.
 *
 * The handler finds the registration in the table and triggers its pica_async. It may run on any thread at
 * any moment, so a registration that was taken out of the table is freed only when no handler of that signal
 * is inside: handlers are counted before they look, and who takes one out looks at the count afterwards (both
 * seq_cst, so one of the two sees the other). Handlers take no lock and end soon, so that is waited for.
 *
 * The handler runs on the thread's alternate stack, if it has one: workers do, and a task's stack may be short.
 *
 * Lock order: the table's lock, then nothing. It is held while dispositions change.
 */
#include <errno.h>
#include <pica/signal.h>

#include <stdatomic.h>

#include "runtime/base/alloc.h"
#include "runtime/base/log.h"
#include "runtime/base/relax.h"
#include "runtime/base/sys_process.h"
#include "runtime/rt.h"
#include "runtime/signal.h"

struct registration {
    pica_runtime *rt;
    pica_async *async;
    struct pica__main_signals *main; /* of a run's own; NULL: a user's */
};

static struct entry {
    /* NULL: none. Written under the lock, read by handlers. seq_cst. */
    _Atomic(struct registration *) now;
    /* Handlers inside. Changed by them, read by who has taken the registration out. seq_cst. */
    _Atomic uint32_t inside;
    /* What the signal did before. Under the lock; and read by handlers in a forked child, alone there. */
    struct sigaction before;
} table[_NSIG];

static pica__lock_t table_lock = PICA__LOCK_INIT;

/* --- in the signal handler --- */

/* Lets the signal have the effect that it has under `action`, once this handler returns. */
static void pass_on(int signum, const struct sigaction *action) {
    (void)sigaction(signum, action, NULL);
    (void)raise(signum);
}

/* Apart from the one that keeps errno, as in dump.c. */
PICA__TSAN_APART static void handle(int signum) {
    struct entry *entry = &table[signum];
    atomic_fetch_add(&entry->inside, 1);
    struct registration *r = atomic_load(&entry->now);
    if (r != NULL) {
        if (pica__runtime_check(r->rt) < 0) {
            pass_on(signum, &entry->before); /* a forked child: its parent has not got the signal */
        } else if (r->main != NULL &&
                   atomic_exchange_explicit(&r->main->asked, 1, memory_order_relaxed) != 0) {
            pass_on(signum, &(struct sigaction){.sa_handler = SIG_DFL});
        } else {
            pica_async_send(r->async);
        }
    }
    atomic_fetch_sub(&entry->inside, 1);
}

PICA__NO_TSAN static void on_signal(int signum) {
    int saved = errno;
    handle(signum);
    errno = saved;
}

/* --- the table, with the lock --- */

static void registration_free(struct registration *r) {
    pica_async_free(r->async);
    pica__free(r, sizeof *r);
}

/* Puts r (may be NULL) into the table and frees what was there. */
static void exchange(struct entry *entry, struct registration *r) {
    struct registration *old = atomic_exchange(&entry->now, r);
    if (old == NULL) {
        return;
    }
    pica__backoff backoff = PICA__BACKOFF_INIT;
    while (atomic_load(&entry->inside) != 0) {
        pica__relax(&backoff);
    }
    registration_free(old);
}

/* Registers r, which is taken over on success. */
static int enter(int signum, struct registration *r) {
    struct entry *entry = &table[signum];
    struct registration *old = atomic_load(&entry->now);
    if (pica__phase(r->rt) >= PICA__CLOSING) {
        return PICA_ECLOSED;
    }
    if (old != NULL) {
        if (old->rt != r->rt) {
            return -EBUSY;
        }
        exchange(entry, r);
        return 0;
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigfillset(&action.sa_mask); /* nothing else may use up the alternate stack meanwhile */
    int rc = pica__sys_sigaction(signum, NULL, &entry->before);
    if (rc == 0 && r->main != NULL &&
        ((entry->before.sa_flags & SA_SIGINFO) != 0 || entry->before.sa_handler != SIG_DFL)) {
        return -EBUSY; /* ignored, as by nohup, or handled by the program */
    }
    if (rc == 0) {
        atomic_store(&entry->now, r); /* before a handler can run */
        rc = pica__sys_sigaction(signum, &action, NULL);
        if (rc < 0) {
            atomic_store(&entry->now, NULL);
        }
    }
    return rc;
}

static void leave(int signum) {
    (void)pica__sys_sigaction(signum, &table[signum].before, NULL);
    exchange(&table[signum], NULL);
}

/* --- registering --- */

static int add(pica_runtime *rt, int signum, pica_callback fn, void *arg,
               struct pica__main_signals *main) {
    struct registration *r = pica__alloc(sizeof *r);
    if (r == NULL) {
        return -ENOMEM;
    }
    *r = (struct registration){rt, NULL, main};
    int rc = pica_async_new(&r->async, &rt->loop[0], fn, arg);
    if (rc == 0) {
        pica__lock(&table_lock);
        rc = enter(signum, r);
        pica__unlock(&table_lock);
    }
    if (rc < 0) {
        registration_free(r);
    }
    return rc;
}

static bool may_be_handled(int signum) {
    switch (signum) {
        case SIGKILL:
        case SIGSTOP:
        case SIGSEGV:
        case SIGBUS:
        case SIGFPE:
        case SIGILL:
        case SIGTRAP:
        case SIGSYS:
            return false;
        default:
            return signum > 0 && signum < _NSIG;
    }
}

int pica_add_signal_handler(int signum, pica_callback fn, void *arg) {
    pica_runtime *rt = pica_current_runtime();
    if (rt == NULL) {
        return PICA_ENOTASK;
    }
    return fn == NULL || !may_be_handled(signum) ? -EINVAL : add(rt, signum, fn, arg, NULL);
}

/* Ends the registration of a signal if it is this runtime's, and of the kind asked for. */
static bool drop(pica_runtime *rt, int signum, bool users, bool mains) {
    pica__lock(&table_lock);
    struct registration *r = atomic_load(&table[signum].now);
    bool found = r != NULL && r->rt == rt && (r->main != NULL ? mains : users);
    if (found) {
        leave(signum);
    }
    pica__unlock(&table_lock);
    return found;
}

int pica_remove_signal_handler(int signum) {
    pica_runtime *rt = pica_current_runtime();
    if (rt == NULL) {
        return PICA_ENOTASK;
    }
    return signum > 0 && signum < _NSIG && drop(rt, signum, true, false);
}

bool pica__signals_awaited(pica_runtime *rt) {
    bool any = false;
    pica__lock(&table_lock);
    for (int signum = 1; signum < _NSIG && !any; signum++) {
        struct registration *r = atomic_load(&table[signum].now);
        any = r != NULL && r->rt == rt && r->main == NULL;
    }
    pica__unlock(&table_lock);
    return any;
}

void pica__signals_close(pica_runtime *rt) {
    for (int signum = 1; signum < _NSIG; signum++) {
        (void)drop(rt, signum, true, true);
    }
}

/* --- a run's own --- */

static void cancel_main(void *arg) {
    struct pica__main_signals *m = arg;
    (void)pica_task_cancel(m->task);
}

static const int main_signals[] = {SIGINT, SIGTERM};

int pica__main_signals_begin(pica_runtime *rt, struct pica__main_signals *m) {
    m->task = NULL;
    atomic_init(&m->asked, 0);
    for (size_t i = 0; i < sizeof main_signals / sizeof main_signals[0]; i++) {
        int rc = add(rt, main_signals[i], cancel_main, m, m);
        if (rc == -EBUSY) {
            pica__log(PICA_LOG_INFO, "handle_signals: signal %d is handled or ignored already",
                      main_signals[i]);
        } else if (rc < 0) {
            pica__main_signals_end(rt);
            return rc;
        }
    }
    return 0;
}

void pica__main_signals_end(pica_runtime *rt) {
    for (size_t i = 0; i < sizeof main_signals / sizeof main_signals[0]; i++) {
        (void)drop(rt, main_signals[i], false, true);
    }
}
