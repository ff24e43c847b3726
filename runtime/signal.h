/* Signals, as the runtime's life sees them: see signal.c. */
#ifndef PICA__RUNTIME_SIGNAL_H
#define PICA__RUNTIME_SIGNAL_H

#include <stdbool.h>

#include <pica/runtime.h>
#include <pica/task.h>

/* SIGINT and SIGTERM during one run of a main task: the first of them cancels it, the next one has its default
 * effect. Lies in the frame of the run. */
struct pica__main_signals {
    /* What is cancelled. Written before the run, read by callbacks of loop 0. */
    pica_task *task;
    /* Whether one has come. Exchanged by signal handlers, relaxed: nothing else goes with it. */
    _Atomic uint32_t asked;
};

/* Before the run, with the workers paused; m->task may be set later, but before it. A signal that does not have its
 * default disposition, or is somebody else's, is left alone. -ENOMEM. */
int pica__main_signals_begin(pica_runtime *rt, struct pica__main_signals *m);
/* After the run, with the workers paused again: nothing refers to the frame any more. */
void pica__main_signals_end(pica_runtime *rt);

/* The runtime ends: all its registrations do. By the closing thread, once the phase says so, while the workers
 * still work. */
void pica__signals_close(pica_runtime *rt);
/* Whether a signal may call something in rt. Any thread. */
bool pica__signals_awaited(pica_runtime *rt);

#endif
