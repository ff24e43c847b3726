/* Looking into a running program. */
#ifndef PICA_DEBUG_H
#define PICA_DEBUG_H

#include <pica/base.h>

PICA_BEGIN_DECLS

/* Writes one line for each task of each runtime of the process to the descriptor fd: its number and name, and
 * whether it is new, ready, running on a worker, or what it waits for, with the task that it awaits or the
 * descriptor of the socket:
 *
 *     runtime 1: 2 workers, 3 tasks
 *     worker 0: awake, 1205 steps
 *     worker 1: asleep, 17 steps
 *     task 1 'main': waiting: await, task 4
 *     task 2 'Task-2': running on worker 0
 *     task 4 'reader': waiting: socket, descriptor 9
 *     end: 3 tasks
 *
 * With PICA_DEBUG=trace a line also tells the task's age and where it was created. Nothing is stopped: the
 * lines are of slightly different moments. Where a lock was held just now by whoever was interrupted, or
 * anybody else, a line says "busy" instead.
 *
 * Returns 0; -EBUSY if even the list of runtimes was locked (one line says so); another negative error if
 * fd could not be written to. Does not suspend, allocates nothing, takes about 3 KiB of stack, and keeps errno.
 * Any thread, async-signal-safe; a runtime that is being closed meanwhile waits for the end of the dump, so fd
 * should not block for long. */
PICA_API int pica_dump(int fd);

PICA_END_DECLS
#endif
