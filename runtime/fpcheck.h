/* Debug builds: does a task give its thread back as it was, as to floating point?
 *
 * The control words (MXCSR and the x87 control word, or FPCR: rounding, traps, flush to zero) belong to
 * the thread, and a switch does not save them (context.h). A task that changes them and suspends would
 * change them for the worker's other tasks, and find others when it goes on elsewhere. So each worker
 * notes what its thread started with, which it inherits from the one that made the runtime, and a debug
 * build compares wherever something else begins to run: when a task suspends, awaits another in place, or
 * ends, and when the loop goes over to a task. A difference is logged with the name of who left it, and
 * the process aborts. Status flags, which arithmetic sets, do not count.
 *
 * In other builds there is nothing: no code, no field. */
#ifndef PICA__RUNTIME_FPCHECK_H
#define PICA__RUNTIME_FPCHECK_H

struct pica__worker;

#if PICA__DEBUG
/* By the worker's thread, before its first switch. */
void pica__fp_start(struct pica__worker *worker);
/* Where the current task stops, or without one what the loop has run; when: how, for the message. */
void pica__fp_check(const char *when);
#else
static inline void pica__fp_start(struct pica__worker *worker) {
    (void)worker;
}
static inline void pica__fp_check(const char *when) {
    (void)when;
}
#endif

#endif
