/* Loops: one per worker. A loop is the serial context: its callbacks run one at a time, in the
 * order in which they were scheduled, on the loop's own stack; they must not suspend. */
#ifndef PICA_LOOP_H
#define PICA_LOOP_H

#include <pica/base.h>

PICA_BEGIN_DECLS

typedef struct pica_loop pica_loop;
typedef struct pica_handle pica_handle;

/* The home loop of the current task, or the loop whose callback runs; NULL elsewhere. */
PICA_API pica_loop *pica_current_loop(void);
/* Monotonic time in seconds, the clock of pica_call_at. Any thread. */
PICA_API double pica_time(void);

/* Schedules fn(arg) on the current loop, behind what is already scheduled there. *handle (may be
 * NULL) gets a reference, released with pica_handle_unref. -ENOMEM; PICA_ENOTASK outside a
 * runtime. Runtime. */
PICA_API int pica_call_soon(pica_callback fn, void *arg, pica_handle **handle);
/* After delay seconds (never early); <= 0: as soon as possible, behind callbacks that are ready.
 * -EINVAL for NaN. */
PICA_API int pica_call_later(double delay, pica_callback fn, void *arg, pica_handle **handle);
/* At a time of pica_time. Equal times on one loop run in the order of their registration. */
PICA_API int pica_call_at(double when, pica_callback fn, void *arg, pica_handle **handle);

/* The same on a given loop. pica_loop_call_soon is call_soon_threadsafe of asyncio: any thread;
 * calls ordered by happens-before run in that order. PICA_ECLOSED if the runtime is closing (the
 * runtime itself must not be freed meanwhile). */
PICA_API int pica_call_soon_threadsafe(pica_loop *loop, pica_callback fn, void *arg,
                                       pica_handle **handle);
PICA_API int pica_loop_call_later(pica_loop *loop, double delay, pica_callback fn, void *arg,
                                  pica_handle **handle);
PICA_API int pica_loop_call_at(pica_loop *loop, double when, pica_callback fn, void *arg,
                               pica_handle **handle);

/* 1: the callback will not run; 0: it has run or was cancelled before; -EBUSY: it runs now, on
 * another thread. From the loop itself only 1 and 0. Any thread. */
PICA_API int pica_handle_cancel(pica_handle *handle);
PICA_API int pica_handle_cancelled(const pica_handle *handle);
/* The time of a timer, in seconds of pica_time; 0 for other handles. */
PICA_API double pica_handle_when(const pica_handle *handle);
PICA_API pica_handle *pica_handle_ref(pica_handle *handle);
/* NULL is allowed. Dropping the reference does not cancel. */
PICA_API void pica_handle_unref(pica_handle *handle);

/* A callback that may be triggered from a signal handler. */
typedef struct pica_async pica_async;
/* fn(arg) will run on loop after each pica_async_send; sends before it ran are merged. -ENOMEM,
 * PICA_ECLOSED. Any thread. */
PICA_API int pica_async_new(pica_async **out, pica_loop *loop, pica_callback fn, void *arg);
/* Any thread, async-signal-safe, allocates nothing. Never fails. */
PICA_API void pica_async_send(pica_async *async);
/* No call of fn starts afterwards, except one that runs now. Not from a signal handler; no
 * pica_async_send may be running or follow. Any thread. */
PICA_API void pica_async_free(pica_async *async);

/* The runtime of a loop, and its index there. */
struct pica_runtime;
PICA_API struct pica_runtime *pica_loop_runtime(pica_loop *loop);
PICA_API unsigned pica_loop_index(const pica_loop *loop);

PICA_END_DECLS
#endif
