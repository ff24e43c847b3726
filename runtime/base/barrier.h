/*
 * The end of unwinding: a call through which no exception leaves.
 *
 * Above a task's function there is nobody who could catch: an awaiter in whose place it runs is
 * another task, the frames of the runtime are C and have no clean-up, and on a stack of its own
 * there is nothing at all. So the function is called through a small frame whose personality routine
 * stops the search for a handler. It writes one line that names the task (namer.h) to the log. Then
 *
 *  - for a C++ exception it tells the thrower that there is no handler, so that this calls
 *    std::terminate, as it would under main: the program's terminate handler runs, and by default
 *    the type and what() are printed and the process aborts;
 *  - for what other languages throw, and for an unwinding that does not ask (pthread_exit, or
 *    pthread_cancel of the thread, which is the runtime's), it aborts.
 *
 * A search unwinds nothing: a core dump shows the frame that threw. A forced unwinding has already run
 * the destructors above the entry.
 *
 * Nothing here needs libgcc_s or libstdc++: only who throws brings them along. The frame is described
 * for debuggers and profilers like any other.
 */
#ifndef PICA__RUNTIME_BASE_BARRIER_H
#define PICA__RUNTIME_BASE_BARRIER_H

/* Returns fn(arg). Any thread and stack. Costs a call and 16 bytes of stack. */
int pica__barrier_call(int (*fn)(void *arg), void *arg);

#endif
