/* Signals as callbacks of a loop: add_signal_handler of asyncio. (For what asyncio.run does with Ctrl-C, see
 * handle_signals in struct pica_runtime_options.) */
#ifndef PICA_SIGNAL_H
#define PICA_SIGNAL_H

#include <pica/base.h>

#include <signal.h>

PICA_BEGIN_DECLS

/* Calls fn(arg) on loop 0 of the current runtime whenever the process gets the signal; signals that come before the
 * call has begun are merged into it, as the kernel does with its own. fn is an ordinary callback, no signal
 * handler: it may do what callbacks may. A second add by the same runtime replaces the first; what had come
 * and was not told yet is dropped then. A signal belongs to one runtime in the process. The process's
 * disposition is changed (system calls restart: SA_RESTART), and is what it was before when the registration
 * ends: by removal, or when the runtime is closed. A forked child that still has the handler treats the
 * signal as the process did before. Does not suspend. Runtime.
 * -EINVAL: no fn, no such signal, SIGKILL, SIGSTOP, or a fault of the program itself (SIGSEGV, SIGBUS, SIGFPE,
 * SIGILL, SIGTRAP, SIGSYS). -EBUSY: another runtime has it. -ENOMEM; PICA_ENOTASK outside a runtime;
 * PICA_ECLOSED if the runtime is closing. On an error a registration that was there stays. */
PICA_API int pica_add_signal_handler(int signum, pica_callback fn, void *arg);
/* Ends the registration of the current runtime: 1, or 0 if it has none for that signal. No call of fn begins after
 * this has returned; from callbacks of loop 0 and tasks pinned there none is under way either. Does not
 * suspend. Runtime. PICA_ENOTASK outside a runtime. */
PICA_API int pica_remove_signal_handler(int signum);

PICA_END_DECLS
#endif
