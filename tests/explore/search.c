/* Model threads, the choice who goes on, and the search over all choices. See explore.h.
 *
 * A path is the list of choices of one execution at which there was more than one possibility. The next
 * execution repeats the path up to the last choice that has possibilities left. Executions must
 * therefore be deterministic; a choice that offers something else than before ends the program.
 *
 * Sleep sets (only without a bound on preemptions): a thread that was tried at a choice needs not be tried again
 * below its siblings until somebody does something that its operation depends on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/self.h"
#include "tests/explore/model.h"

enum { STACK_SIZE = 128 * 1024, MESSAGE = 512 };

struct ex_run ex_run;

struct choice {
    uint8_t n;
    uint8_t chosen;
    bool of_thread;
    uint8_t candidate[EX_THREADS]; /* of_thread */
};

static struct {
    struct choice path[EX_PATH];
    unsigned length; /* of the path that is repeated */
    unsigned depth;
    const char *replay; /* what is left of a schedule, or NULL */
    unsigned asleep;    /* threads, as bits */
    bool starting; /* each thread goes to its first operation */
    bool pruned;
    bool failed;
    char failure[MESSAGE];
    char schedule[EX_PATH + 1];
    pica__context main;
    char *stacks;
    jmp_buf outside; /* for failures in setup and finish */
} search;

const char *ex_failure(void) {
    return search.failure;
}

unsigned ex_self(void) {
    return (unsigned)(ex_run.running - ex_run.thread);
}

/* --- ends --- */

/* From a model thread back to the search; the execution is over. */
static void leave(void) {
    static pica__context nowhere;
    if (ex_run.running == ex_main_thread()) {
        longjmp(search.outside, 1);
    }
    ex_run.running = ex_main_thread();
    pica__context_switch(&nowhere, &search.main);
    abort();
}

void ex_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(search.failure, sizeof search.failure, format, args);
    va_end(args);
    search.failed = true;
    leave();
    abort();
}

static void fail_blocked(void) {
    char names[256] = "";
    for (unsigned i = 0; i < ex_run.threads; i++) {
        struct ex_model_thread *t = &ex_run.thread[i];
        if (!t->done && !t->may_block) {
            size_t n = strlen(names);
            (void)snprintf(names + n, sizeof names - n, " %s(%s)", t->name,
                           t->op.kind == EX_RELAX ? "spins" : "waits");
        }
    }
    if (names[0] != '\0') {
        ex_fail("nobody can go on:%s", names);
    }
}

/* --- choices --- */

static unsigned replayed(unsigned n, const uint8_t *candidate) {
    char c = *search.replay;
    if (c == '\0') {
        return 0;
    }
    search.replay++;
    for (unsigned i = 0; i < n; i++) {
        char mine = candidate != NULL ? (char)('A' + candidate[i]) : (char)('0' + i);
        if (mine == c) {
            return i;
        }
    }
    fprintf(stderr, "the schedule does not fit: '%c'\n", c);
    exit(2);
}

static unsigned choose(unsigned n, const uint8_t *candidate) {
    if (n <= 1) {
        return 0;
    }
    if (search.depth == EX_PATH) {
        ex_fail("too many choices");
    }
    struct choice *c = &search.path[search.depth++];
    if (search.depth <= search.length) {
        if (c->n != n || c->of_thread != (candidate != NULL)) {
            fprintf(stderr, "not deterministic: %s\n", ex_run.scenario->name);
            exit(2);
        }
        return c->chosen;
    }
    search.length = search.depth;
    c->n = (uint8_t)n;
    c->of_thread = candidate != NULL;
    if (candidate != NULL) {
        memcpy(c->candidate, candidate, n);
    }
    c->chosen = (uint8_t)(search.replay != NULL ? replayed(n, candidate) : 0);
    return c->chosen;
}

unsigned ex_choose(unsigned n) {
    return choose(n, NULL);
}

/* 0: the last store. */
unsigned ex_choose_stale(unsigned n) {
    if (ex_run.running == ex_main_thread() ||
        (ex_run.bound.stale != EX_ALL && ex_run.stale >= (unsigned)ex_run.bound.stale)) {
        return 0;
    }
    unsigned c = choose(n, NULL);
    ex_run.stale += c != 0;
    return c;
}

static bool next_path(void) {
    while (search.length != 0) {
        struct choice *c = &search.path[search.length - 1];
        if (c->chosen + 1u < c->n) {
            c->chosen++;
            return true;
        }
        search.length--;
    }
    return false;
}

const char *ex_schedule(void) {
    unsigned i;
    for (i = 0; i < search.depth; i++) {
        const struct choice *c = &search.path[i];
        search.schedule[i] = c->of_thread ? (char)('A' + c->candidate[c->chosen])
                                          : (char)('0' + c->chosen);
    }
    search.schedule[i] = '\0';
    return search.schedule;
}

/* --- who goes on --- */

static bool enabled(struct ex_model_thread *t) {
    if (t->done) {
        return false;
    }
    switch (t->op.kind) {
        case EX_WAIT:
            return t->op.ready(t->op.arg);
        case EX_RELAX:
            return ex_changed(t);
        default:
            return true;
    }
}

static bool writes(enum ex_kind kind) {
    return kind != EX_LOAD && kind != EX_RELAX;
}

static bool independent(const struct ex_op *a, const struct ex_op *b) {
    if (a->ordered && b->ordered && ex_run.mode == EX_C11) {
        return false;
    }
    return a->address == NULL || a->address != b->address || (!writes(a->kind) && !writes(b->kind));
}

static bool sleeps(void) {
    return ex_run.bound.preemptions == EX_ALL && ex_run.mode != EX_TSO;
}

/* Threads that can go on, the present one first. */
static unsigned candidates(struct ex_model_thread *me, uint8_t *out, bool *mine) {
    unsigned n = 0;
    *mine = me != NULL && enabled(me);
    if (*mine) {
        out[n++] = (uint8_t)(me - ex_run.thread);
    }
    if (*mine && ex_run.bound.preemptions != EX_ALL &&
        ex_run.preempted >= (unsigned)ex_run.bound.preemptions) {
        return n;
    }
    for (unsigned i = 0; i < ex_run.threads; i++) {
        if (&ex_run.thread[i] != me && enabled(&ex_run.thread[i])) {
            out[n++] = (uint8_t)i;
        }
    }
    return n;
}

/* The sleeping threads after `chosen` of the candidates goes on. */
static void fall_asleep(const uint8_t *candidate, unsigned chosen) {
    const struct ex_op *op = &ex_run.thread[candidate[chosen]].op;
    unsigned before = search.asleep;
    for (unsigned i = 0; i < chosen; i++) {
        before |= 1u << candidate[i];
    }
    search.asleep = 0;
    for (unsigned i = 0; i < ex_run.threads; i++) {
        if ((before & 1u << i) != 0 && independent(&ex_run.thread[i].op, op)) {
            search.asleep |= 1u << i;
        }
    }
}

static struct ex_model_thread *pick(struct ex_model_thread *me) {
    uint8_t candidate[EX_THREADS];
    bool mine;
    unsigned n = candidates(me, candidate, &mine);
    if (n == 0 && ex_run.scenario->idle != NULL && ex_run.scenario->idle()) {
        n = candidates(me, candidate, &mine);
    }
    if (n == 0) {
        fail_blocked();
        leave();
    }
    if (sleeps()) {
        unsigned awake = 0;
        for (unsigned i = 0; i < n; i++) {
            if ((search.asleep & 1u << candidate[i]) == 0) {
                candidate[awake++] = candidate[i];
            }
        }
        n = awake;
        if (n == 0) {
            search.pruned = true;
            leave();
        }
    }
    unsigned chosen = choose(n, candidate);
    if (sleeps()) {
        fall_asleep(candidate, chosen);
    } else if (mine && chosen != 0) {
        ex_run.preempted++;
    }
    return &ex_run.thread[candidate[chosen]];
}

static void switch_to(pica__context *from, struct ex_model_thread *from_thread,
                      struct ex_model_thread *to) {
    if (from_thread != NULL) {
        from_thread->worker = pica__tls_worker;
    }
    pica__tls_worker = to->worker;
    ex_run.running = to;
    pica__context_switch(from, &to->context);
}

static void switch_to_main(struct ex_model_thread *from) {
    from->worker = pica__tls_worker;
    ex_run.running = ex_main_thread();
    pica__context_switch(&from->context, &search.main);
}

void ex_step(const struct ex_op *op) {
    struct ex_model_thread *me = ex_run.running;
    if (me == ex_main_thread()) {
        return;
    }
    me->op = *op;
    if (++ex_run.steps > EX_STEPS) {
        ex_fail("no end after %d steps", EX_STEPS);
    }
    if (search.starting) {
        switch_to_main(me);
        return; /* chosen since */
    }
    struct ex_model_thread *next = pick(me);
    if (next != me) {
        switch_to(&me->context, me, next);
    }
}

void ex_event(const void *what) {
    ex_step(&(struct ex_op){.kind = EX_EVENT, .address = what});
}

void ex_wait(const void *what, bool (*ready)(void *arg), void *arg) {
    ex_step(&(struct ex_op){.kind = EX_WAIT, .address = what, .ready = ready, .arg = arg});
}

/* --- one execution --- */

static void thread_main(void *arg) {
    struct ex_model_thread *me = arg;
    me->fn(me->arg);
    me->done = true;
    if (ex_run.tracing) {
        ex_trace("ends");
    }
    if (search.starting) {
        switch_to_main(me);
    }
    static pica__context nowhere;
    switch_to(&nowhere, NULL, pick(NULL));
}

unsigned ex_thread(const char *name, void (*fn)(void *arg), void *arg, bool may_block) {
    unsigned i = ex_run.threads++;
    if (i >= EX_THREADS) {
        fprintf(stderr, "too many model threads\n");
        exit(2);
    }
    struct ex_model_thread *t = &ex_run.thread[i];
    t->name = name;
    t->fn = fn;
    t->arg = arg;
    t->may_block = may_block;
    t->done = false;
    t->worker = NULL;
    char *stack = search.stacks + (size_t)i * STACK_SIZE;
    pica__context_make(&t->context, stack, stack + STACK_SIZE, thread_main, t);
    return i;
}

static void thread_reset(struct ex_model_thread *t, unsigned clock) {
    t->clock = clock;
    memset(&t->now, 0, sizeof t->now);
    memset(&t->acquired, 0, sizeof t->acquired);
    memset(&t->released, 0, sizeof t->released);
    t->now.clock[clock] = 1;
    t->last = NULL;
    t->last_store = 0;
    t->fresh = false;
    t->buffered = 0;
}

static void threads_begin(void) {
    struct ex_model_thread *main = ex_main_thread();
    for (unsigned i = 0; i < ex_run.threads; i++) {
        struct ex_model_thread *t = &ex_run.thread[i];
        thread_reset(t, ex_run.clocks++);
        ex_join(&t->now, &main->now);
    }
    main->now.clock[main->clock]++;
    /* Each up to its first operation: what comes before concerns nobody else. */
    search.starting = true;
    for (unsigned i = 0; i < ex_run.threads && !search.failed; i++) {
        switch_to(&search.main, NULL, &ex_run.thread[i]);
    }
    search.starting = false;
}

/* Everything is out and seen. */
static void threads_end(void) {
    struct ex_model_thread *main = ex_main_thread();
    for (unsigned i = 0; i < ex_run.threads; i++) {
        ex_drain(&ex_run.thread[i]);
        ex_join(&main->now, &ex_run.thread[i].now);
    }
}

static void execute(void) {
    search.depth = 0;
    search.asleep = 0;
    search.starting = false;
    search.pruned = false;
    search.failed = false;
    ex_run.threads = 0;
    ex_run.preempted = 0;
    ex_run.stale = 0;
    ex_run.steps = 0;
    ex_run.clocks = 1;
    ex_run.running = ex_main_thread();
    ex_memory_reset();
    ex_races_reset();
    ex_locks_reset();
    thread_reset(ex_main_thread(), 0);
    ex_main_thread()->name = "main";
    if (setjmp(search.outside) != 0) {
        return;
    }
    pica__tls_worker = NULL;
    ex_run.scenario->setup();
    threads_begin();
    if (!search.failed) {
        switch_to(&search.main, NULL, pick(NULL));
    }
    pica__tls_worker = NULL;
    if (!search.failed && !search.pruned) {
        threads_end();
        if (ex_run.scenario->finish != NULL) {
            ex_run.scenario->finish();
        }
    }
}

static void prepare(void) {
    if (search.stacks == NULL) {
        search.stacks = mmap(NULL, (size_t)EX_THREADS * STACK_SIZE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (search.stacks == MAP_FAILED) {
            perror("mmap");
            exit(2);
        }
    }
    search.length = 0;
    search.replay = NULL;
}

enum ex_outcome ex_search(uint64_t limit, bool (*enough)(void), struct ex_stats *stats) {
    enum { ASK = 64 };
    prepare();
    do {
        uint64_t tried = stats->executions + stats->pruned;
        if (tried >= limit || (tried % ASK == ASK - 1 && enough())) {
            return EX_CUT;
        }
        execute();
        stats->steps += ex_run.steps;
        *(search.pruned ? &stats->pruned : &stats->executions) += 1;
        if (search.failed) {
            return EX_FAILED;
        }
    } while (next_path());
    return EX_PASSED;
}

enum ex_outcome ex_replay(const char *schedule) {
    prepare();
    search.replay = schedule;
    execute();
    return search.failed ? EX_FAILED : EX_PASSED;
}
