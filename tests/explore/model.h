/* What the files of the explorer share. See explore.h. */
#ifndef PICA__TESTS_EXPLORE_MODEL_H
#define PICA__TESTS_EXPLORE_MODEL_H

#include "runtime/base/context.h"
#include "tests/explore/explore.h"

enum {
    EX_THREADS = 10,
    EX_LOCATIONS = 128,
    EX_CLOCKS = 32,
    EX_HISTORY = 200,   /* stores to one location */
    EX_MESSAGES = 6000, /* stores of one execution */
    EX_BUFFERED = 32,   /* stores of one thread that are not out (tso) */
    EX_STEPS = 4000,
    EX_PATH = 8192
};

enum ex_mode { EX_SC, EX_TSO, EX_C11 };

/* What a thread has seen: of each location the oldest store that it may still read (c11), and of each
 * thread (segment) how far it has come, for races. */
typedef struct ex_ctx {
    uint8_t view[EX_LOCATIONS];
    uint16_t clock[EX_CLOCKS];
} ex_ctx;
_Static_assert(sizeof(ex_ctx) == sizeof(ex_edge), "ex_edge holds an ex_ctx");

enum ex_kind { EX_LOAD, EX_STORE, EX_RMW, EX_FENCE, EX_EVENT, EX_WAIT, EX_RELAX };

/* What a thread is about to do. */
struct ex_op {
    enum ex_kind kind;
    bool ordered; /* a seq_cst operation of c11 */
    const void *address;
    bool (*ready)(void *arg);
    void *arg;
};

struct ex_location;

struct ex_buffered {
    struct ex_location *location;
    uint64_t value;
    ex_ctx ctx;
};

struct ex_model_thread {
    const char *name;
    void (*fn)(void *arg);
    void *arg;
    bool may_block;
    bool done;
    pica__context context;
    void *worker; /* its pica__tls_worker while it does not run */
    struct ex_op op;

    unsigned clock; /* its component */
    ex_ctx now;      /* seen */
    ex_ctx acquired; /* what an acquire fence would add */
    ex_ctx released; /* what a relaxed store carries, from the last release fence */
    struct ex_location *last; /* the location that was loaded last, and which store that gave */
    unsigned last_store;
    bool fresh; /* the next load reads the last store */

    struct ex_buffered buffer[EX_BUFFERED];
    unsigned buffered;
};

struct ex_run {
    const struct ex_scenario *scenario;
    enum ex_mode mode;
    struct ex_bound bound;
    bool tracing;
    struct ex_model_thread thread[EX_THREADS + 1]; /* [EX_THREADS]: setup and finish */
    unsigned threads;
    struct ex_model_thread *running;
    unsigned preempted;
    unsigned stale;
    unsigned steps;
    unsigned clocks;
};
extern struct ex_run ex_run;

static inline struct ex_model_thread *ex_main_thread(void) {
    return &ex_run.thread[EX_THREADS];
}

/* search.c */
struct ex_stats {
    uint64_t executions, pruned, steps;
};
enum ex_outcome { EX_PASSED, EX_FAILED, EX_CUT };
/* All executions within the bound, at most `limit`, or until enough() says so, which is asked now and then. */
enum ex_outcome ex_search(uint64_t limit, bool (*enough)(void), struct ex_stats *stats);
/* One execution by a schedule of an earlier failure. */
enum ex_outcome ex_replay(const char *schedule);
const char *ex_failure(void);
const char *ex_schedule(void);
/* Announces an operation and lets others go first; returns when it may be done. */
void ex_step(const struct ex_op *op);
/* A choice inside a step. */
unsigned ex_choose_stale(unsigned n);

/* memory.c */
void ex_memory_reset(void);
uint64_t ex_load(const void *address, unsigned size, int order);
void ex_store(void *address, unsigned size, uint64_t value, int order);
uint64_t ex_rmw(void *address, unsigned size, uint64_t (*change)(uint64_t old, uint64_t by), uint64_t by,
                int order);
/* True if exchanged; else *expected is what was read. */
bool ex_cas(void *address, unsigned size, uint64_t *expected, uint64_t value, int order, int failure);
void ex_fence(int order);
/* A plain write to memory that may hold atomics. */
void ex_memory_written(const void *address, size_t size);
void ex_drain(struct ex_model_thread *thread);
/* Whether the location that the thread loaded last has changed since. */
bool ex_changed(const struct ex_model_thread *thread);
void ex_relaxed(void);
void ex_join(ex_ctx *to, const ex_ctx *from);
const char *ex_name_of(const void *address);

/* races.c */
void ex_races_reset(void);
enum { EX_WRITES = 1, EX_ATOMIC = 2, EX_FREES = 4 };
void ex_access(const void *address, size_t size, unsigned how);

/* locks.c */
void ex_locks_reset(void);

/* sites.c: where atomic operations stand, and what is weakened. */
int ex_site(const void *pc, int kind, int order, int failure, int *failure_out);
void ex_sites_record(bool on);
/* Those since the last call. */
void ex_sites_print(const char *scenario);
bool ex_weaken(const char *list);
void ex_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
