/*
 * Inside the simulator: what its parts know of each other.
 *
 *     threads.c  the simulated threads: whose turn it is, blocking, the clock, events
 *     chance.c   every choice: streams of numbers from the seed, faults, strategies, the trace's hash
 *     net.c      sockets in memory;  fd.c: the table of descriptors;  sys.c: the system calls on them
 *     disk.c     files in memory
 *     life.c     begin, end, the report
 *
 * There is one simulation at a time, and one thread of the system in it: no lock, no atomic. What another
 * simulated thread may change meanwhile changes only at switch points: pica__sim_point and what calls it.
 */
#ifndef PICA__RUNTIME_BASE_SIM_CORE_H
#define PICA__RUNTIME_BASE_SIM_CORE_H

#include <pica/testing.h>

#include "runtime/base/context.h"
#include "runtime/base/heap.h"
#include "runtime/base/list.h"
#include "runtime/base/random.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/stack.h"

/* --- chance --- */

/* A stream of numbers for each kind of question, so that leaving out the answers to one (a fault, say) changes
 * the others as little as possible. */
enum pica__sim_stream {
    PICA__SIM_SCHEDULE, /* who runs next */
    PICA__SIM_TIME,     /* how long things take */
    PICA__SIM_FAULTS,
    PICA__SIM_WORLD,    /* capacities, sizes, order of completions */
    PICA__SIM_USER,     /* pica_sim_choose, and seeds of the runtimes' own generators */
    PICA__SIM_STREAMS
};

/* A number in [0, n), n > 0; enters the hash. n == 1 is no choice. */
uint32_t pica__sim_draw(enum pica__sim_stream stream, uint32_t n);
/* Whether this fault happens here. */
bool pica__sim_fault(enum pica_sim_fault kind);
/* Something that happened, for the hash. */
void pica__sim_note(uint64_t what);
/* Something that happened, in words, for whoever asked for a trace (PICA_SIM_TRACE). */
#define pica__sim_trace(...) (PICA__UNLIKELY(pica__the_sim.trace) ? pica__sim_say(__VA_ARGS__) : (void)0)
void pica__sim_say(const char *format, ...) PICA__PRINTF(1, 2);
/* A delay in ns, mostly short. */
int64_t pica__sim_delay(void);

/* --- threads --- */

enum { PICA__SIM_THREADS = 1100 }; /* at once */

enum pica__sim_state { PICA__SIM_FREE, PICA__SIM_RUNNABLE, PICA__SIM_BLOCKED, PICA__SIM_ENDED };

typedef struct pica__sim_thread {
    /* What each choice looks at lies together. */
    enum pica__sim_state state;
    int32_t priority;         /* strategy PCT: the highest runs */
    int64_t deadline;         /* of its block */
    bool relaxed;             /* waits for others' progress by turning */
    bool actor;               /* of the scenario: the simulation's end does not wait for what it waits for */
    bool woken;               /* since it began to block */
    bool detached;
    unsigned index;
    _Atomic uint32_t *word;   /* what it is parked on, or NULL */
    pica__context context;
    pica__stack stack;        /* hi == NULL: that of the caller */
    char name[16];
    const char *waits;        /* what for, when blocked; for reports */
    struct pica__sim_child *child; /* the process that it is, or NULL */
    struct pica__sim_thread *joiner;
    void *(*main)(void *arg);
    void *arg;
    void *self;               /* the worker, while another thread runs */
    void *eh_globals[2];
#if PICA__ASAN
    void *fake_stack;
    const void *asan_bottom;
    size_t asan_size;
#endif
} pica__sim_thread;

/* Something that happens at a time. fire runs on whatever thread's stack and must not block; the event is out of
 * the heap by then. */
typedef struct pica__sim_event {
    pica__heap_node node;
    void (*fire)(struct pica__sim_event *event);
} pica__sim_event;

void pica__sim_event_init(pica__sim_event *event, void (*fire)(pica__sim_event *event));
/* In `delay` ns from now; the event must not be pending. */
void pica__sim_event_at(pica__sim_event *event, int64_t when);
static inline bool pica__sim_event_pending(const pica__sim_event *event) {
    return pica__heap_node_in(&event->node);
}
void pica__sim_event_cancel(pica__sim_event *event);

/* The present time, without being a switch point. */
int64_t pica__sim_time(void);
pica__sim_thread *pica__sim_current(void);
/* Sleeps until woken (true) or the deadline (false). waits: what for. */
bool pica__sim_block(int64_t deadline, const char *waits);
/* Async-signal-safe. */
void pica__sim_wake(pica__sim_thread *thread);
pica__sim_thread *pica__sim_thread_make(void *(*main)(void *arg), void *arg, const char *name);

/* --- the simulation --- */

typedef struct pica__sim {
    struct pica_sim_options options;
    uint64_t seed;
    unsigned workers;                 /* of a runtime if nobody says */
    struct pica_sim_report report;
    uint64_t hash;
    pica__random stream[PICA__SIM_STREAMS];
    size_t chosen;                    /* of options.choices, bytes used so far */
    uint16_t rate[PICA_SIM_FAULTS];   /* in 65536ths */
    uint64_t fault_number;            /* faults so far, those left out among them */
    uint64_t keep_number;             /* calls of pica_sim_keep */
    int64_t now;
    uint32_t grain;                   /* ns: at most so much time passes at a switch point */
    uint64_t points;
    uint64_t healed_at;               /* points: no faults from there on */
    uint64_t change[4];               /* PCT: the points at which priorities change */
    unsigned changes;
    int32_t lowest;                   /* PCT: below all priorities so far */
    unsigned starved;                 /* the thread that strategy STARVE holds back */
    int steal;                        /* see pica__sim_steal */
    uint32_t migrate;                 /* one in so many tasks goes to another worker; 0: none */
    pica__sim_thread *thread[PICA__SIM_THREADS];
    unsigned threads;                 /* places used so far */
    pica__sim_thread *current;
    pica__heap events;
    bool trace;                       /* each step is told on stderr */
    bool settling;                    /* the program has ended */
    bool ending;                      /* actors are to leave */
    bool in_hook;                     /* no switch now */
    bool sheltered;                   /* the simulator itself allocates: that does not fail */
    bool stuck;                       /* a deadlock was reported */
    bool failed;
    char failure[256];
} pica__sim;

extern pica__sim pica__the_sim;

/* Set by the layers above, once: how the worker of a thread is told and changed; what is done when nothing can
 * run any more (true: something can, try again). */
struct pica__sim_hooks {
    void *(*self_get)(void);
    void (*self_set)(void *worker);
    bool (*deadlock)(void);
};
extern struct pica__sim_hooks pica__sim_hooks;

/* Begins one on the calling thread, which becomes thread 0. 0, -EBUSY, -EINVAL, -ENOMEM. */
int pica__sim_begin(uint64_t seed, const struct pica_sim_options *options);
/* Ends it: lets actors leave, looks for what is left behind. report may be NULL. 0, or the failure. */
int pica__sim_end(struct pica_sim_report *report);
/* From now on a process that dies in a simulation says how to see it again; and no more. Once around several
 * simulations, since it takes system calls. */
void pica__sim_watch_deaths(bool on);
/* The run has failed; it goes on. The first text is kept. */
void pica__sim_failed(const char *format, ...) PICA__PRINTF(1, 2);
/* Says why and how to replay, and ends the process. */
PICA__NORETURN void pica__sim_fatal(const char *format, ...) PICA__PRINTF(1, 2);

void pica__sim_chance_begin(void);
void pica__sim_threads_begin(void);
void pica__sim_threads_settle(void);
void pica__sim_threads_end(void);
void pica__sim_net_end(void);

#endif
