/*
 * The settings of a runtime and where they come from: one table of PICA_* variables (name, type,
 * range, default, help) from which they are read, PICA_DEBUG=help is printed, and
 * docs/ENVIRONMENT.md is written. A bad value is an error with a message, never ignored. A program
 * that runs with more rights than its user (set-user-ID) ignores the environment.
 */
#ifndef PICA__RUNTIME_BASE_ENV_H
#define PICA__RUNTIME_BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PICA__WORKERS_MAX 1024u

enum pica__engine_kind {
    PICA__ENGINE_AUTO = 0,
    PICA__ENGINE_URING = 1,
    PICA__ENGINE_EPOLL = 2,
    PICA__ENGINE_SIM = 100, /* the simulator: the whole process */
};

/* Optional kernel features that PICA_DEBUG=without=NAME+NAME hides; a bit set in config.without. */
#define PICA__WITHOUT_MULTISHOT_ACCEPT (UINT64_C(1) << 0)
#define PICA__WITHOUT_MULTISHOT_POLL (UINT64_C(1) << 1)
#define PICA__WITHOUT_DEFER_TASKRUN (UINT64_C(1) << 2)
#define PICA__WITHOUT_SUBMIT_ALL (UINT64_C(1) << 3)
#define PICA__WITHOUT_CQSIZE (UINT64_C(1) << 4)
#define PICA__WITHOUT_NO_IOWAIT (UINT64_C(1) << 5)
#define PICA__WITHOUT_GUARD_INSTALL (UINT64_C(1) << 6)
#define PICA__WITHOUT_REGISTERED_RING (UINT64_C(1) << 7)
#define PICA__WITHOUT_FTRUNCATE (UINT64_C(1) << 8)
#define PICA__WITHOUT_IO_URING (UINT64_C(1) << 9)
#define PICA__WITHOUT_EPOLL_PWAIT2 (UINT64_C(1) << 10)
#define PICA__WITHOUT_RING_POLL (UINT64_C(1) << 11)
/* Everything that is newer than a kernel. */
#define PICA__WITHOUT_NEWER_THAN_6_12 (PICA__WITHOUT_NO_IOWAIT | PICA__WITHOUT_GUARD_INSTALL)
#define PICA__WITHOUT_NEWER_THAN_6_1 (PICA__WITHOUT_NEWER_THAN_6_12 | PICA__WITHOUT_FTRUNCATE)
#define PICA__WITHOUT_NEWER_THAN_5_19 (PICA__WITHOUT_NEWER_THAN_6_1 | PICA__WITHOUT_DEFER_TASKRUN)
#define PICA__WITHOUT_NEWER_THAN_5_15                                                          \
    (PICA__WITHOUT_NEWER_THAN_5_19 | PICA__WITHOUT_MULTISHOT_ACCEPT | PICA__WITHOUT_SUBMIT_ALL | \
     PICA__WITHOUT_REGISTERED_RING)

typedef struct pica__config {
    unsigned workers;      /* 1..PICA__WORKERS_MAX */
    size_t stack_size;     /* bytes of address space per stack, guard included */
    size_t max_stacks;     /* 0: no limit */
    unsigned ring_entries; /* a power of two */
    bool pin;              /* each worker to one processor */
    bool fifo;             /* tasks start in creation order, no LIFO slot */
    int engine;            /* enum pica__engine_kind */
    uint64_t seed;         /* never 0 */
    int log_level;         /* PICA_LOG_* */
    bool debug_migrate;    /* move a task to another worker at every suspension */
    bool debug_shuffle;    /* take ready tasks in a random order */
    bool debug_poison;     /* fill stacks with a pattern before reuse */
    bool debug_deadlock;   /* tell of tasks that wait for what cannot come; always in debug builds */
    bool debug_unhosted;   /* pica_run lends its thread to no worker */
    bool debug_trace;      /* note where and when each task is created */
    int64_t debug_slow;    /* ns after which a step is reported; 0: never */
    uint64_t without;      /* PICA__WITHOUT_* */
    uint64_t sim_seed;     /* 0: none given */
    const char *sim_scenario; /* these three: NULL if not given; of the environment */
    const char *sim_skip;
    const char *sim_drop;
} pica__config;

/*
 * Fills `c` from defaults and environment. 0, or -EINVAL after logging an error that names
 * variable, value and what is allowed (then *c is unspecified). Also sets the log's threshold. Reads the
 * environment, so no other thread may be changing it.
 */
int pica__config_from_env(pica__config *c);

/* Writes the table to `fd`, as plain text or as the page docs/ENVIRONMENT.md. */
void pica__env_write_help(int fd);
void pica__env_write_markdown(int fd);

#endif
