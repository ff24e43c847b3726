/* Pools of threads inside the library: jobs of its own, and the pools of a runtime.
 *
 * A pool has references: its owner's, one for each thread, and one for each call that may still look at
 * it. Who drops the last frees it. See executor.c.
 */
#ifndef PICA__RUNTIME_EXECUTOR_H
#define PICA__RUNTIME_EXECUTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/executor.h>
#include <pica/runtime.h>

#include "runtime/base/list.h"

/* One thing for a pool to do; lies in what it is about, until `end` is called. */
typedef struct pica__job {
    pica__link link;      /* in the queue; under the pool's lock */
    bool queued;          /* under the pool's lock: nobody has taken it yet */
    /* On a thread of the pool. May block. */
    void (*run)(struct pica__job *job);
    /* Its last act, may free it: refused == 0 after run, on the same thread; else it did not run and
     * will not: PICA_ECLOSED (the pool was closed), -EAGAIN (there is no thread), on any thread. Not called
     * for a job that was withdrawn. Holds up the pool: must not block. */
    void (*end)(struct pica__job *job, int refused);
} pica__job;

/* Queues a job. 0: `end` will be called, perhaps before this returns; else it will not: PICA_ECLOSED,
 * PICA_EFORKED. Does not suspend. Any thread that is sure of the pool. */
int pica__executor_submit(pica_executor *executor, pica__job *job);
/* True if the job was still queued: it is the caller's again. Any thread, as long as job and pool exist. */
bool pica__executor_withdraw(pica_executor *executor, pica__job *job);
/* pica_run_in_executor for a given pool. */
int pica__executor_run(pica_executor *executor, pica_fn fn, void *arg);

/* Jobs of all pools of the process that are queued or run, and whose ends are not through. Any thread. */
uint64_t pica__executor_jobs(void);

/* The pools of a runtime, each with a cap of its own, so that none holds up another. */
enum pica__pool {
    PICA__POOL_DEFAULT, /* the user's */
    PICA__POOL_NAMES,   /* io/names.c */
    PICA__POOL_FILES,   /* io/operation.c */
    PICA__POOLS
};

typedef struct pica__pools {
    /* NULL until the first use; then constant until the end. Compare-and-swapped (acq_rel) by users, read
     * by them (acquire). */
    pica_executor *_Atomic pool[PICA__POOLS];
} pica__pools;

/* A pool of the runtime, borrowed: valid as long as the caller's task has not ended. -ENOMEM. */
int pica__pool_get(pica_executor **out, pica_runtime *rt, enum pica__pool which);
/* By the thread that ends the runtime, when its tasks have ended: closes them and waits for their
 * threads until `deadline`. What has not ended then ends on its own, later; this is reported. */
void pica__pools_end(pica__pools *pools, int64_t deadline);

#endif
