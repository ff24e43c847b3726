/* Descriptors that do not belong to Pica: waiting until one is ready, and callbacks whenever it is (add_reader
 * and add_writer of asyncio). The caller keeps the descriptor and closes it, after the wait has ended or the
 * callback was removed: until then the kernel goes on watching the open file, whatever its number means
 * meanwhile. Nothing here reads, writes or changes the descriptor. */
#ifndef PICA_POLL_H
#define PICA_POLL_H

#include <pica/base.h>

#include <poll.h>

PICA_BEGIN_DECLS

typedef struct pica_loop pica_loop;

/* Suspends until fd is ready for one of events (POLLIN, POLLOUT, POLLPRI, POLLRDHUP), has an error or was
 * hung up. Returns the events that hold, with POLLERR and POLLHUP, which need not be asked for. events 0
 * waits for these alone. A file that has no readiness is always ready. Any number of tasks may wait for
 * one descriptor. Suspends. Task.
 * -EBADF; -ENOMEM; PICA_ENOTASK; PICA_ECANCELED (the descriptor may be ready all the same: nothing was taken
 * from it). */
PICA_API int pica_poll(int fd, short events);

/* Calls fn(arg) on the current loop whenever fd can be read (or has ended, or failed), again and again as
 * long as that holds. A second add for the same descriptor on the same loop replaces the first. fn runs as
 * any callback of the loop, must not suspend, and may add and remove. If the kernel cannot watch fd, fn is
 * called once, so that it sees the error by its own read, and is removed. The registration ends with
 * pica_remove_reader, or with the runtime. Does not suspend. Runtime.
 * -EINVAL (no fn); -EBADF; -ENOMEM; PICA_ENOTASK outside a runtime; PICA_ECLOSED if the runtime is closing;
 * PICA_EFORKED. On an error a registration that was there stays. */
PICA_API int pica_add_reader(int fd, pica_callback fn, void *arg);
/* Returns 1 if a callback was removed, 0 if there was none. No call of it begins after this has returned;
 * from the loop itself (a callback, or a task that is pinned there) none is under way either. From elsewhere
 * one that has begun may still be running. Before fd is closed. Does not suspend. Runtime. PICA_ENOTASK
 * outside a runtime. */
PICA_API int pica_remove_reader(int fd);
/* The same for writing. Reader and writer of one descriptor are independent of each other. */
PICA_API int pica_add_writer(int fd, pica_callback fn, void *arg);
PICA_API int pica_remove_writer(int fd);

/* The same on a given loop. Any thread, while the loop's runtime is not freed. */
PICA_API int pica_loop_add_reader(pica_loop *loop, int fd, pica_callback fn, void *arg);
PICA_API int pica_loop_remove_reader(pica_loop *loop, int fd);
PICA_API int pica_loop_add_writer(pica_loop *loop, int fd, pica_callback fn, void *arg);
PICA_API int pica_loop_remove_writer(pica_loop *loop, int fd);

PICA_END_DECLS
#endif
