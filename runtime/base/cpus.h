/*
 * How many processors this process may keep busy: what its affinity mask allows, cut to the quota
 * of its control groups (version 1 and 2). Define _GNU_SOURCE before including this file.
 */
#ifndef PICA__RUNTIME_BASE_CPUS_H
#define PICA__RUNTIME_BASE_CPUS_H

#include <sched.h>

/* At least 1. Reads files: call it when a runtime starts, not later. */
unsigned pica__cpus(void);

/* The calling thread's affinity mask. 0, or -errno (-EINVAL: more than CPU_SETSIZE processors). */
int pica__cpus_allowed(cpu_set_t *set);

/*
 * The parts of pica__cpus(), for tests. pica__cpus_quota() reads /proc and the control groups below
 * `root` ("" for the real ones) and returns the quota in processors, rounded up, or 0 for none.
 */
unsigned pica__cpus_affinity(void);
unsigned pica__cpus_quota(const char *root);

#endif
