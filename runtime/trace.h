/* Where tasks were created, for PICA_DEBUG=trace. An address is put into words when a task is first created
 * there, because that cannot be done in a signal handler, where dumps may be made. */
#ifndef PICA__RUNTIME_TRACE_H
#define PICA__RUNTIME_TRACE_H

#include <pica/task.h>

/* Notes place and time in the task's record. Before others see it. */
void pica__trace_created(pica_task *task, const void *where);
/* The words for an address given above; NULL if the table was full. Any thread, async-signal-safe. */
const char *pica__trace_place(const void *where);

#endif
