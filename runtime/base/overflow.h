/*
 * Reporting stack overflows.
 *
 * A task that runs out of stack faults in the guard below it. The handler for SIGSEGV and SIGBUS,
 * which runs on a stack of its own, recognizes that by the address, writes one line that names the
 * task (namer.h), and lets the fault happen again with the default action, so that the process dies
 * by the signal and a core dump shows the place. Every other fault goes to the handler that was
 * there before this one, as if this one did not exist.
 */
#ifndef PICA__RUNTIME_BASE_OVERFLOW_H
#define PICA__RUNTIME_BASE_OVERFLOW_H

#include <stddef.h>

/*
 * Installs the handlers for the process; counted, the first call does it. 0 or a negative errno.
 * A program that installs handlers of its own afterwards has the faults to itself, and may ask
 * pica__is_stack_guard(). Any thread.
 */
int pica__overflow_install(void);

/*
 * Undoes one pica__overflow_install(). The last one puts the previous handlers back, unless
 * somebody has installed others meanwhile: those may call ours, so ours stays behind them, and
 * passes everything on. Any thread.
 */
void pica__overflow_remove(void);

/*
 * Gives the calling thread an alternate signal stack, without which the handler could not run when
 * the stack is used up. *altstack_out is to be handed to pica__overflow_thread_leave() on the same
 * thread, which puts back what the thread had before. 0 or a negative errno.
 */
int pica__overflow_thread_enter(void **altstack_out);
void pica__overflow_thread_leave(void *altstack);

#endif
