/* PICA_DEBUG=slow=TIME: reports tasks and callbacks that keep their worker for longer than TIME. See slow.c. */
#ifndef PICA__RUNTIME_SLOW_H
#define PICA__RUNTIME_SLOW_H

#include <pica/runtime.h>

/* Starts the watching thread if the configuration asks for it. By the thread that makes the runtime, when the
 * workers run. 0, -ENOMEM, -EAGAIN (no thread). */
int pica__slow_start(pica_runtime *rt);
/* Ends it. When the workers have stopped, and before their threads are joined. */
void pica__slow_stop(pica_runtime *rt);
/* Frees its memory. When the workers have left: a late signal may have made them look at it. */
void pica__slow_free(pica_runtime *rt);
/* By each worker's thread, before it runs anything. */
void pica__slow_worker_enter(pica_runtime *rt);

#endif
