/*
 * The handlers, their place in the chain of handlers, and the alternate stacks they run on.
 *
 * Chaining. A handler installed before ours must not notice us: it is called with the same
 * arguments, with the signals blocked that it asked for, once only if it asked for that
 * (SA_RESETHAND), and where the previous action was the default or "ignore", that is what happens.
 * The one difference is that it runs on the alternate stack, which is why that is larger than the
 * handler itself needs.
 *
 * Being buried. If another handler was installed over ours, ours cannot be taken out: the other
 * one may call it. It then stays as `buried`. Installing it a second time on top could make the
 * two call each other in a circle, so it is left where it is.
 *
 * Lock order: `chain.lock` is taken by install and remove only, never in a handler; nothing is
 * taken under it.
 */
#include "runtime/base/overflow.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/lock.h"
#include "runtime/base/namer.h"
#include "runtime/base/stack_registry.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

enum { SIGNALS = 2 };
static const int signals[SIGNALS] = {SIGSEGV, SIGBUS};

struct previous {
    struct sigaction action;
    /* SA_RESETHAND was obeyed: behave as the default from now on. Any thread, relaxed. */
    _Atomic bool spent;
};

static struct {
    pica__lock_t lock;
    unsigned users;       /* install calls not yet undone */
    bool buried[SIGNALS]; /* somebody's handler lies over ours, and may call it */
    /*
     * What was there before us. Two places, so that one can be written while handlers read the
     * other. Written under the lock; read by handlers through `current`.
     */
    struct previous place[SIGNALS][2];
    /* Written under the lock after the place was filled (release), read by handlers (acquire). */
    _Atomic(struct previous *) current[SIGNALS];
} chain = {.lock = PICA__LOCK_INIT};

/* ---- the report ---- */

struct line {
    char text[320];
    size_t length;
};

static void add(struct line *line, const char *text) {
    while (*text != '\0' && line->length < sizeof line->text - 1) {
        char c = *text++;
        /* A name is the user's: nothing that could upset a terminal. */
        bool plain = (unsigned char)c >= 0x20 && c != 0x7f;
        line->text[line->length++] = plain ? c : '?';
    }
}

static void add_number(struct line *line, uintptr_t n, unsigned base) {
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n != 0);
    add(line, digits + at);
}

static uintptr_t stack_pointer(const void *context) {
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
#else
    return (uintptr_t)uc->uc_mcontext.sp;
#endif
}

#define BELOW_SP ((uintptr_t)1024)
#define LARGEST_FRAME ((uintptr_t)16 << 20)

static void report(uintptr_t fault, const struct pica__stack_slot *slot, const void *context) {
    char name[PICA__NAME_BYTES];
    pica__namer_ask(name, sizeof name);
    /*
     * Did the running code use up its own stack? Then the fault is near the stack pointer: inside
     * a frame just made, or a little below the stack pointer, which a call, the red zone of x86-64
     * and the store that makes a frame on aarch64 use before it moves. Otherwise a stray pointer
     * of another task hit the guard.
     */
    uintptr_t sp = stack_pointer(context);
    bool own = sp >= fault ? sp - fault <= BELOW_SP : fault - sp < LARGEST_FRAME;

    struct line line = {.length = 0};
    add(&line, own ? "pica: stack overflow" : "pica: access to another stack's guard");
    add(&line, " in task '");
    add(&line, name);
    add(&line, "' (fault 0x");
    add_number(&line, fault, 16);
    add(&line, ", stack ");
    add_number(&line, slot->size / 1024, 10);
    add(&line, " KiB)");
    line.text[line.length++] = '\n';
    ssize_t n = write(STDERR_FILENO, line.text, line.length);
    (void)n; /* nowhere else to say it */
}

/* ---- the handler ---- */

static void set_default(int sig) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    (void)sigaction(sig, &action, NULL);
}

/*
 * True if an instruction raised the signal, so that it is raised again when the handler returns;
 * false if it was sent (by a process, or by the kernel about memory that nobody has touched yet).
 */
static bool is_fault(int sig, const siginfo_t *info) {
    return info->si_code > 0 && !(sig == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

/* Does what the kernel would do if the action were SIG_DFL. */
static void act_default(int sig, const siginfo_t *info) {
    set_default(sig);
    if (!is_fault(sig, info)) {
        /* Send it on. It is blocked now and arrives when the handler returns. */
        (void)syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), sig);
    }
}

static void act_previous(int sig, siginfo_t *info, void *context, struct previous *previous,
                         int saved_errno) {
    struct sigaction *action = &previous->action;
    bool reset = (action->sa_flags & (int)SA_RESETHAND) != 0;
    bool spent = reset && atomic_exchange_explicit(&previous->spent, true, memory_order_relaxed);
    if (spent || action->sa_handler == SIG_DFL) {
        act_default(sig, info);
        return;
    }
    if (action->sa_handler == SIG_IGN) {
        /* The kernel ignores a sent signal, but never a fault. */
        if (is_fault(sig, info)) {
            act_default(sig, info);
        }
        errno = saved_errno;
        return;
    }
    /* The mask of the interrupted code comes back when our handler returns, or by siglongjmp. */
    sigset_t mask = action->sa_mask;
    if ((action->sa_flags & SA_NODEFER) != 0 && sigismember(&mask, sig) == 0) {
        sigset_t self;
        sigemptyset(&self);
        sigaddset(&self, sig);
        (void)pthread_sigmask(SIG_UNBLOCK, &self, NULL);
    }
    (void)pthread_sigmask(SIG_BLOCK, &mask, NULL);
    errno = saved_errno; /* and whatever it leaves there is its own affair */
    if ((action->sa_flags & SA_SIGINFO) != 0) {
        action->sa_sigaction(sig, info, context);
    } else {
        action->sa_handler(sig);
    }
}

static void on_fault(int sig, siginfo_t *info, void *context) {
    int saved_errno = errno; /* what comes before us in the chain sees it as we do */
    struct pica__stack_slot slot;
    uintptr_t fault = (uintptr_t)info->si_addr;
    if (is_fault(sig, info) && pica__stack_find(info->si_addr, &slot) &&
        fault - slot.start < slot.guard) {
        report(fault, &slot, context);
        set_default(sig);
    } else {
        size_t i = sig == signals[0] ? 0 : 1;
        struct previous *previous = atomic_load_explicit(&chain.current[i], memory_order_acquire);
        act_previous(sig, info, context, previous, saved_errno);
    }
}

/* ---- installing and removing ---- */

static bool is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_fault;
}

/* Under the lock. */
static void keep_previous(size_t i, const struct sigaction *action) {
    struct previous *now = atomic_load_explicit(&chain.current[i], memory_order_relaxed);
    struct previous *next = now == &chain.place[i][0] ? &chain.place[i][1] : &chain.place[i][0];
    next->action = *action;
    atomic_store_explicit(&next->spent, false, memory_order_relaxed);
    atomic_store_explicit(&chain.current[i], next, memory_order_release);
}

/* Under the lock. */
static PICA__NOINLINE int install_one(size_t i) {
    struct sigaction old;
    if (sigaction(signals[i], NULL, &old) != 0) {
        return -errno;
    }
    if (is_ours(&old) || chain.buried[i]) {
        return 0;
    }
    /* Before ours is in place, so that no fault finds nothing. */
    keep_previous(i, &old);
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (old.sa_flags & SA_RESTART);
    sigemptyset(&ours.sa_mask);
    struct sigaction replaced;
    if (sigaction(signals[i], &ours, &replaced) != 0) {
        return -errno;
    }
    if (replaced.sa_sigaction != old.sa_sigaction || replaced.sa_flags != old.sa_flags) {
        keep_previous(i, &replaced); /* another thread was quicker */
    }
    return 0;
}

/* Under the lock. */
static void remove_one(size_t i) {
    struct sigaction now;
    if (sigaction(signals[i], NULL, &now) != 0) {
        return;
    }
    if (!is_ours(&now)) {
        chain.buried[i] = true;
        return;
    }
    struct previous *previous = atomic_load_explicit(&chain.current[i], memory_order_relaxed);
    chain.buried[i] = false;
    if (atomic_load_explicit(&previous->spent, memory_order_relaxed)) {
        set_default(signals[i]);
    } else {
        (void)sigaction(signals[i], &previous->action, NULL);
    }
}

int pica__overflow_install(void) {
    int rc = 0;
    pica__lock(&chain.lock);
    if (chain.users == 0) {
        for (size_t i = 0; i < SIGNALS && rc == 0; i++) {
            rc = install_one(i);
        }
    }
    chain.users += rc == 0;
    pica__unlock(&chain.lock);
    return rc;
}

void pica__overflow_remove(void) {
    pica__lock(&chain.lock);
    PICA__CHECK(chain.users > 0);
    chain.users--;
    if (chain.users == 0) {
        for (size_t i = 0; i < SIGNALS; i++) {
            remove_one(i);
        }
    }
    pica__unlock(&chain.lock);
}

/* ---- alternate stacks ---- */

/* At the high end of the mapping; the signal stack is below it, and a guard page below that. */
struct altstack {
    char *start;
    size_t size;
    stack_t ours;
    stack_t before;
};

/* For a previous handler that writes a backtrace, say; the kernel's frame comes on top. */
#define HANDLER_BYTES ((size_t)64 * 1024)

static PICA__NOINLINE int error_code(void) {
    return -errno;
}

int pica__overflow_thread_enter(void **altstack_out) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (size_t)getauxval(AT_MINSIGSTKSZ) + HANDLER_BYTES + sizeof(struct altstack);
    size = (size + page - 1) / page * page + page;
    char *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (start == MAP_FAILED) {
        return error_code();
    }
    (void)mprotect(start, page, PROT_NONE); /* without it only our own overflow goes unnoticed */
    struct altstack *alt = (struct altstack *)(void *)(start + size) - 1;
    alt->start = start;
    alt->size = size;
    memset(&alt->ours, 0, sizeof alt->ours);
    alt->ours.ss_sp = start + page;
    alt->ours.ss_size = (size_t)((char *)alt - (start + page));
    if (sigaltstack(&alt->ours, &alt->before) != 0) {
        int rc = error_code();
        munmap(start, size);
        return rc;
    }
    *altstack_out = alt;
    return 0;
}

void pica__overflow_thread_leave(void *altstack) {
    struct altstack *alt = altstack;
    stack_t now;
    /* Only if it is still ours: the thread's owner may have set another one meanwhile. */
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == alt->ours.ss_sp) {
        if (sigaltstack(&alt->before, NULL) != 0) {
            stack_t none;
            memset(&none, 0, sizeof none);
            none.ss_flags = SS_DISABLE;
            (void)sigaltstack(&none, NULL);
        }
    }
    munmap(alt->start, alt->size);
}
