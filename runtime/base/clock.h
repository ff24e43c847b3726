/*
 * The clock: the only source of time in the tree, so that a simulator can replace it.
 */
#ifndef PICA__RUNTIME_BASE_CLOCK_H
#define PICA__RUNTIME_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC. Any thread, async-signal-safe, does not touch errno. */
int64_t pica__now(void);

#endif
