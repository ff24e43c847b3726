/*
 * Who runs here, in words: for reports by code that knows no tasks (a stack overflow, an exception
 * that nobody caught). The runtime says once how to find out.
 */
#ifndef PICA__RUNTIME_BASE_NAMER_H
#define PICA__RUNTIME_BASE_NAMER_H

#include <stddef.h>

/* What a buffer for a name should hold; longer names are cut. */
#define PICA__NAME_BYTES 128

/*
 * The function that names the task that runs on the calling thread: it fills `buf` with a string
 * of less than `cap` bytes, or leaves it empty. It is called inside signal handlers and must be
 * async-signal-safe. NULL: none. Any thread; process-wide.
 */
void pica__namer_set(void (*namer)(char *buf, size_t cap));

/* Fills `buf` with the name of what runs on the calling thread, "?" if nobody knows. Any thread,
 * async-signal-safe. */
void pica__namer_ask(char *buf, size_t cap);

#endif
