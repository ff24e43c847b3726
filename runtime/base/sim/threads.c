/*
 * Simulated threads: all on one thread of the system, each a context on a stack of its own.
 *
 * A thread runs until it comes to a switch point. There time passes a little, what is due by then happens
 * (events), and chance says who goes on. When nobody can, the clock jumps to the next event or deadline; when
 * there is none either, that is a deadlock.
 *
 * What belongs to a thread of the system and must follow the simulated one: the worker that the thread-local of
 * self.h names (by hooks, since that is a layer above), libstdc++'s exception state, and what the sanitizers
 * know of stacks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/sim/core.h"

#if PICA__ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

_Atomic bool pica__sim_on;
pica__sim pica__the_sim;
struct pica__sim_hooks pica__sim_hooks;

/* Whether this thread of the system is the simulation's. */
static _Thread_local bool member;

/* libstdc++'s exception state: absent in C programs. */
__attribute__((weak)) void *__cxa_get_globals(void);

#define STACK_BYTES ((size_t)1 << 20)
#define STALL_NS 5000000u
/* PCT: so many turns in a row say that the one with the highest priority waits for others by running. */
#define TURNS_IN_A_ROW 20000u

/* Stacks and records are kept from one simulation to the next. */
enum { KEPT = 64 };
static struct {
    pica__stack stack[KEPT];
    unsigned stacks;
    pica__sim_thread *thread[PICA__SIM_THREADS];
} kept;

void pica__sim_check_thread(void) {
    if (PICA__UNLIKELY(!member)) {
        pica__sim_fatal("a call from a thread that the simulator does not know");
    }
}

/* --- switching --- */

/* Runs on the thread that was switched to; before: the one that was left. */
PICA__NOINLINE static void arrive(pica__sim_thread *before) {
    pica__sim_thread *self = pica__the_sim.current;
#if PICA__ASAN
    __sanitizer_finish_switch_fiber(self->fake_stack, &before->asan_bottom, &before->asan_size);
#else
    (void)before;
#endif
    pica__sim_hooks.self_set(self->self);
    if (__cxa_get_globals != NULL) {
        memcpy(__cxa_get_globals(), self->eh_globals, sizeof self->eh_globals);
    }
}

static pica__sim_thread *left_thread; /* by the last switch */

PICA__NOINLINE static void switch_to(pica__sim_thread *to) {
    pica__sim_thread *from = pica__the_sim.current;
    from->self = pica__sim_hooks.self_get();
    if (__cxa_get_globals != NULL) {
        memcpy(from->eh_globals, __cxa_get_globals(), sizeof from->eh_globals);
    }
    pica__the_sim.current = to;
    pica__the_sim.report.switches++;
    left_thread = from;
#if PICA__ASAN
    __sanitizer_start_switch_fiber(from->state == PICA__SIM_ENDED ? NULL : &from->fake_stack,
                                   to->asan_bottom, to->asan_size);
#endif
    pica__context_switch(&from->context, &to->context);
    arrive(left_thread);
}

/* --- who is next --- */

static bool may_run(const pica__sim_thread *t) {
    return t->state == PICA__SIM_RUNNABLE;
}

static pica__sim_thread *pick_uniform(unsigned n, bool with_relaxed) {
    pica__sim *sim = &pica__the_sim;
    unsigned k = pica__sim_draw(PICA__SIM_SCHEDULE, n);
    for (unsigned i = 0;; i++) {
        pica__sim_thread *t = sim->thread[i];
        if (may_run(t) && (with_relaxed || !t->relaxed) && k-- == 0) {
            return t;
        }
    }
}

static pica__sim_thread *pick_highest(void) {
    pica__sim *sim = &pica__the_sim;
    static unsigned in_a_row;
    static pica__sim_thread *last;
    pica__sim_thread *best = NULL;
    for (unsigned i = 0; i < sim->threads; i++) {
        pica__sim_thread *t = sim->thread[i];
        if (may_run(t) && !t->relaxed && (best == NULL || t->priority > best->priority)) {
            best = t;
        }
    }
    in_a_row = best == last ? in_a_row + 1 : 0;
    last = best;
    if (in_a_row > TURNS_IN_A_ROW) {
        in_a_row = 0;
        best->priority = --sim->lowest;
    }
    return best;
}

/* What there is to choose from. */
struct ready {
    unsigned count;   /* threads that can run */
    unsigned relaxed; /* of them, those that wait for others by turning */
    int64_t next;     /* the earliest deadline of the others */
};

/* Among those that can run; NULL: nobody can. */
static pica__sim_thread *pick(const struct ready *ready) {
    pica__sim *sim = &pica__the_sim;
    unsigned n = ready->count - ready->relaxed;
    if (ready->count == 0) {
        return NULL;
    }
    if (n == 0) {
        pica__sim_thread *t = pick_uniform(ready->count, true);
        for (unsigned i = 0; i < sim->threads; i++) {
            sim->thread[i]->relaxed = false;
        }
        return t;
    }
    if (sim->report.strategy == PICA_SIM_PCT) {
        return pick_highest();
    }
    if (sim->report.strategy == PICA_SIM_STARVE && n > 1 && sim->starved < sim->threads) {
        pica__sim_thread *t = sim->thread[sim->starved];
        if (may_run(t) && !t->relaxed && pica__sim_draw(PICA__SIM_SCHEDULE, 64) != 0) {
            t->relaxed = true; /* left out of this choice */
            pica__sim_thread *other = pick_uniform(n - 1, false);
            t->relaxed = false;
            return other;
        }
    }
    return pick_uniform(n, false);
}

static void fire_due(void) {
    pica__sim *sim = &pica__the_sim;
    pica__heap_node *node;
    while ((node = pica__heap_min(&sim->events)) != NULL && node->when <= sim->now) {
        (void)pica__heap_pop(&sim->events);
        pica__sim_event *event = PICA__CONTAINER_OF(node, pica__sim_event, node);
        sim->report.events++;
        event->fire(event);
    }
}

/* Wakes whose deadline has come, and counts. */
static struct ready wake_due(void) {
    pica__sim *sim = &pica__the_sim;
    struct ready ready = {0, 0, INT64_MAX};
    for (unsigned i = 0; i < sim->threads; i++) {
        pica__sim_thread *t = sim->thread[i];
        if (t->state == PICA__SIM_BLOCKED) {
            if (t->deadline <= sim->now) {
                t->state = PICA__SIM_RUNNABLE;
            } else if (t->deadline < ready.next) {
                ready.next = t->deadline;
            }
        }
        if (may_run(t)) {
            ready.count++;
            ready.relaxed += t->relaxed;
        }
    }
    return ready;
}

static bool deadlock(void) {
    pica__the_sim.in_hook = true;
    bool again = pica__sim_hooks.deadlock();
    pica__the_sim.in_hook = false;
    return again;
}

static void nothing_can_run(void) {
    pica__sim *sim = &pica__the_sim;
    if (sim->ending || sim->stuck || !deadlock()) {
        for (unsigned i = 0; i < sim->threads; i++) {
            pica__sim_thread *t = sim->thread[i];
            if (t->state == PICA__SIM_BLOCKED) {
                (void)fprintf(stderr, "pica: simulated thread %u '%s' waits: %s\n", i, t->name,
                              t->waits);
            }
        }
        pica__sim_fatal("deadlock: no thread of the simulation can run any more");
    }
    sim->stuck = true;
}

/* Lets the next one run; returns when it is this thread's turn again. */
static void reschedule(void) {
    pica__sim *sim = &pica__the_sim;
    for (;;) {
        fire_due();
        const struct ready ready = wake_due();
        pica__sim_thread *to = pick(&ready);
        if (to != NULL && ready.relaxed < ready.count) {
            if (to != sim->current) {
                switch_to(to);
            }
            return;
        }
        int64_t next = ready.next;
        pica__heap_node *node = pica__heap_min(&sim->events);
        if (node != NULL && node->when < next) {
            next = node->when;
        }
        if (to != NULL) {
            /* All turn in circles: what they wait for may lie in the future. */
            if (next != INT64_MAX && pica__sim_draw(PICA__SIM_SCHEDULE, 4) == 0) {
                sim->now = next;
            }
            if (to != sim->current) {
                switch_to(to);
            }
            return;
        }
        if (next == INT64_MAX) {
            nothing_can_run();
        } else {
            sim->now = next;
        }
    }
}

static void pass_time(void) {
    pica__sim *sim = &pica__the_sim;
    sim->points++;
    sim->now += 1 + pica__random_below(&sim->stream[PICA__SIM_TIME], sim->grain);
    if (PICA__UNLIKELY(sim->changes != 0) && sim->points >= sim->change[sim->changes - 1]) {
        sim->changes--;
        sim->current->priority = --sim->lowest;
    }
    if (PICA__UNLIKELY(sim->points + sim->report.choices > sim->options.max_choices)) {
        sim->options.max_choices = UINT64_MAX;
        pica__sim_failed("it did not end within the limit of choices");
        sim->report.deadlock = -1;
        if (sim->stuck || !deadlock()) {
            pica__sim_fatal("it did not end within the limit of choices");
        }
        sim->stuck = true;
        sim->options.max_choices = sim->points + sim->report.choices + 10000000;
    }
}

void pica__sim_point(void) {
    pica__sim_check_thread();
    pica__sim *sim = &pica__the_sim;
    if (PICA__UNLIKELY(sim->in_hook)) {
        return; /* on the stack of a thread that may be blocked */
    }
    pass_time();
    if (PICA__UNLIKELY(pica__sim_fault(PICA_SIM_STALL)) && !sim->current->actor) {
        (void)pica__sim_block(sim->now + 1 + pica__sim_draw(PICA__SIM_TIME, STALL_NS), "stalled");
        return;
    }
    reschedule();
}

bool pica__sim_block(int64_t deadline, const char *waits) {
    pica__sim_thread *self = pica__the_sim.current;
    self->state = PICA__SIM_BLOCKED;
    self->deadline = deadline;
    self->woken = false;
    self->waits = waits;
    reschedule();
    return self->woken;
}

void pica__sim_wake(pica__sim_thread *thread) {
    pica__sim_check_thread();
    if (thread->state == PICA__SIM_BLOCKED) {
        thread->woken = true;
        thread->state = PICA__SIM_RUNNABLE;
    }
}

/* --- the seams --- */

int64_t pica__sim_time(void) {
    return pica__the_sim.now;
}

int64_t pica__sim_now(void) {
    pica__sim_point();
    return pica__the_sim.now;
}

void pica__sim_relax(void) {
    pica__sim_check_thread();
    pass_time();
    pica__the_sim.current->relaxed = true;
    if (pica__the_sim.report.strategy == PICA_SIM_PCT) {
        pica__the_sim.current->priority = --pica__the_sim.lowest;
    }
    reschedule();
    pica__the_sim.current->relaxed = false;
}

void pica__sim_park_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline) {
    pica__sim_point();
    pica__sim_thread *self = pica__the_sim.current;
    if (atomic_load_explicit(word, memory_order_seq_cst) != expected ||
        deadline <= pica__the_sim.now || pica__sim_fault(PICA_SIM_SPURIOUS)) {
        return;
    }
    self->word = word;
    (void)pica__sim_block(deadline, "a word");
    self->word = NULL;
}

void pica__sim_park_wake(_Atomic uint32_t *word) {
    pica__sim_check_thread();
    pica__sim *sim = &pica__the_sim;
    for (unsigned i = 0; i < sim->threads; i++) {
        if (sim->thread[i]->word == word) {
            pica__sim_wake(sim->thread[i]);
        }
    }
}

/* --- events --- */

void pica__sim_event_init(pica__sim_event *event, void (*fire)(pica__sim_event *event)) {
    pica__heap_node_init(&event->node);
    event->fire = fire;
}

void pica__sim_event_at(pica__sim_event *event, int64_t when) {
    event->node.when = when;
    pica__the_sim.sheltered = true;
    if (pica__heap_push(&pica__the_sim.events, &event->node) < 0) {
        pica__sim_fatal("no memory for an event");
    }
    pica__the_sim.sheltered = false;
}

void pica__sim_event_cancel(pica__sim_event *event) {
    if (!pica__sim_event_pending(event)) {
        return;
    }
    if (pica__the_sim.ending) {
        pica__heap_node_init(&event->node); /* the heap is gone */
    } else {
        pica__heap_remove(&pica__the_sim.events, &event->node);
    }
}

/* --- threads --- */

pica__sim_thread *pica__sim_current(void) {
    return pica__the_sim.current;
}

/* Whether there is one left from an earlier simulation must not be seen: no switch meanwhile. */
static bool stack_get(pica__stack *stack) {
    if (kept.stacks > 0) {
        *stack = kept.stack[--kept.stacks];
        return true;
    }
    bool in_hook = pica__the_sim.in_hook;
    pica__the_sim.in_hook = true;
    int rc = pica__stack_map(STACK_BYTES, 0, stack);
    pica__the_sim.in_hook = in_hook;
    return rc == 0;
}

static void stack_drop(pica__sim_thread *t) {
    if (t->stack.hi == NULL) {
        return;
    }
#if PICA__ASAN
    __asan_unpoison_memory_region(t->stack.lo, (size_t)(t->stack.hi - t->stack.lo));
#endif
    if (kept.stacks < KEPT) {
        kept.stack[kept.stacks++] = t->stack;
    } else {
        pica__stack_unmap(t->stack);
    }
    t->stack.hi = NULL;
}

/* Nobody refers to it any more, and it does not run. */
static void thread_free(pica__sim_thread *t) {
    stack_drop(t);
    t->state = PICA__SIM_FREE;
}

PICA__NOINLINE static void thread_main(void *arg) {
    pica__sim_thread *self = arg;
    arrive(left_thread);
    (void)self->main(self->arg);
    pica__sim_note(self->index);
    self->state = PICA__SIM_ENDED;
    if (self->joiner != NULL) {
        pica__sim_wake(self->joiner);
    }
    reschedule();
    PICA__UNREACHABLE();
}

/* A free place, with the record of whoever had it before. */
static pica__sim_thread *place_get(void) {
    pica__sim *sim = &pica__the_sim;
    unsigned i = 0;
    while (i < sim->threads && sim->thread[i]->state != PICA__SIM_FREE &&
           !(sim->thread[i]->state == PICA__SIM_ENDED && sim->thread[i]->detached)) {
        i++;
    }
    if (i == PICA__SIM_THREADS) {
        return NULL;
    }
    if (i < sim->threads) {
        thread_free(sim->thread[i]);
    } else if (kept.thread[i] == NULL && (kept.thread[i] = calloc(1, sizeof *kept.thread[i])) == NULL) {
        return NULL;
    }
    pica__sim_thread *t = kept.thread[i];
    memset(t, 0, sizeof *t);
    t->index = i;
    sim->thread[i] = t;
    if (i == sim->threads) {
        sim->threads++;
    }
    sim->report.threads++;
    return t;
}

pica__sim_thread *pica__sim_thread_make(void *(*main)(void *arg), void *arg, const char *name) {
    pica__sim_check_thread();
    pica__stack stack;
    if (!stack_get(&stack)) {
        return NULL;
    }
    pica__sim_thread *t = place_get();
    if (t == NULL) {
        pica__stack_unmap(stack);
        return NULL;
    }
    t->stack = stack;
    t->main = main;
    t->arg = arg;
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    t->priority = (int32_t)pica__sim_draw(PICA__SIM_SCHEDULE, 1u << 30);
#if PICA__ASAN
    t->asan_bottom = stack.lo;
    t->asan_size = (size_t)(stack.hi - stack.lo);
#endif
    pica__context_make(&t->context, stack.lo, stack.hi, thread_main, t);
    t->state = PICA__SIM_RUNNABLE;
    return t;
}

void pica__sim_thread_set_name(const char *name) {
    pica__sim_thread *self = pica__the_sim.current;
    (void)snprintf(self->name, sizeof self->name, "%s", name);
}

int pica__sim_thread_start(uintptr_t *number, void *(*main)(void *arg), void *arg) {
    pica__sim_thread *t = pica__sim_thread_make(main, arg, "new");
    if (t == NULL) {
        return -EAGAIN;
    }
    *number = t->index;
    pica__sim_point();
    return 0;
}

void pica__sim_thread_join(uintptr_t number) {
    pica__sim_thread *t = pica__the_sim.thread[number];
    while (t->state != PICA__SIM_ENDED) {
        t->joiner = pica__the_sim.current;
        (void)pica__sim_block(INT64_MAX, "a thread's end");
    }
    thread_free(t);
}

void pica__sim_thread_detach(uintptr_t number) {
    pica__the_sim.thread[number]->detached = true;
}

uintptr_t pica__sim_thread_self(void) {
    return pica__the_sim.current->index;
}

void pica__sim_threads_begin(void) {
    member = true;
    pica__sim_thread *t = place_get();
    if (t == NULL) {
        pica__sim_fatal("no memory");
    }
    t->state = PICA__SIM_RUNNABLE;
    t->priority = (int32_t)pica__sim_draw(PICA__SIM_SCHEDULE, 1u << 30);
    (void)snprintf(t->name, sizeof t->name, "main");
    pica__the_sim.current = t;
}

static bool all_ended(void) {
    pica__sim *sim = &pica__the_sim;
    for (unsigned i = 1; i < sim->threads; i++) {
        pica__sim_thread *t = sim->thread[i];
        if (t->state == PICA__SIM_BLOCKED || t->state == PICA__SIM_RUNNABLE) {
            return false;
        }
    }
    return true;
}

/* The program has ended; what it sent still arrives, and actors may come to their ends. */
void pica__sim_threads_settle(void) {
    enum { STEPS = 200 };
    pica__the_sim.settling = true;
    for (int i = 0; i < STEPS && !all_ended(); i++) {
        (void)pica__sim_block(pica__the_sim.now + INT64_C(500000000), "the actors' end");
    }
}

/* Actors leave; whatever else is left behind cannot be helped. */
void pica__sim_threads_end(void) {
    pica__sim *sim = &pica__the_sim;
    sim->ending = true;
    pica__heap_destroy(&sim->events);
    pica__heap_init(&sim->events);
    for (unsigned i = 1; i < sim->threads; i++) {
        pica__sim_thread *t = sim->thread[i];
        if (t->actor) {
            pica__sim_wake(t);
        }
    }
    for (unsigned round = 0; !all_ended(); round++) {
        if (round > 1000000) {
            pica__sim_fatal("an actor did not return after the program's end");
        }
        (void)pica__sim_block(sim->now + 1000, "the actors' end");
    }
    for (unsigned i = 1; i < sim->threads; i++) {
        thread_free(sim->thread[i]);
    }
    member = false;
}
