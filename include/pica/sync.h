/* Lock, Event and Queue between tasks. All are FIFO: what is released or put goes directly to the
 * task that waited longest; nobody overtakes. They are plain structs that live where you put them,
 * belong to no loop, and may be used from all workers; calls that do not suspend may be used from
 * any thread where marked.
 *
 * Cancellation. A waiter that was given the lock or the item keeps it: the call returns success
 * and the cancellation stays pending. PICA_ECANCELED means that nothing was taken. */
#ifndef PICA_SYNC_H
#define PICA_SYNC_H

#include <pica/base.h>

PICA_BEGIN_DECLS

/* A mutual exclusion lock, not owned (any task may release), not recursive. */
typedef struct pica_lock {
    uint64_t opaque[4];
} pica_lock;
#define PICA_LOCK_INIT { { 0 } }

/* The same as PICA_LOCK_INIT. A lock needs no destroy; nobody may wait when its memory goes. */
PICA_API void pica_lock_init(pica_lock *lock);
/* Suspends while the lock is held. 0, PICA_ECANCELED, PICA_ENOTASK. Task. */
PICA_API int pica_lock_acquire(pica_lock *lock);
/* 0 or -EBUSY. Does not suspend. Any thread. */
PICA_API int pica_lock_try_acquire(pica_lock *lock);
/* Hands the lock to the first waiter, or frees it. -EINVAL if it was not locked. Does not suspend.
 * Any thread. */
PICA_API int pica_lock_release(pica_lock *lock);
/* 1 or 0, at the moment of the call. Any thread. */
PICA_API int pica_lock_locked(const pica_lock *lock);

/* A flag that tasks can wait for. */
typedef struct pica_event {
    uint64_t opaque[4];
} pica_event;
#define PICA_EVENT_INIT { { 0 } }

PICA_API void pica_event_init(pica_event *event);
/* Returns 0 at once if the flag is set, else suspends until it is. PICA_ECANCELED,
 * PICA_ENOTASK. Task. */
PICA_API int pica_event_wait(pica_event *event);
/* Sets the flag and wakes all that wait now, even if pica_event_clear follows at once. Any
 * thread. */
PICA_API void pica_event_set(pica_event *event);
PICA_API void pica_event_clear(pica_event *event);
PICA_API int pica_event_is_set(const pica_event *event);

/* A queue of pointers, bounded or not. */
typedef struct pica_queue {
    uint64_t opaque[16];
} pica_queue;

/* maxsize 0: no bound (put then fails with -ENOMEM when memory ends). Allocates nothing. */
PICA_API void pica_queue_init(pica_queue *queue, size_t maxsize);
/* Releases the items that are left with destroy (may be NULL) and the memory. Nobody may wait. */
PICA_API void pica_queue_destroy(pica_queue *queue, pica_destroy destroy);
/* Suspends while the queue is full. 0; PICA_ECANCELED (the item stays the caller's);
 * PICA_ESHUTDOWN; -ENOMEM; PICA_ENOTASK. Task. */
PICA_API int pica_queue_put(pica_queue *queue, void *item);
/* Suspends while the queue is empty. 0; PICA_ECANCELED (nothing was taken); PICA_ESHUTDOWN (and
 * empty); PICA_ENOTASK. Task. */
PICA_API int pica_queue_get(pica_queue *queue, void **item);
/* -EAGAIN when full or others wait to put; PICA_ESHUTDOWN; -ENOMEM. Any thread. */
PICA_API int pica_queue_put_nowait(pica_queue *queue, void *item);
/* -EAGAIN when empty; PICA_ESHUTDOWN. Any thread. */
PICA_API int pica_queue_get_nowait(pica_queue *queue, void **item);
/* At the moment of the call. Any thread. */
PICA_API size_t pica_queue_size(const pica_queue *queue);
PICA_API size_t pica_queue_maxsize(const pica_queue *queue);
/* Each got item is to be reported once; -ERANGE if there were more reports than items. Any
 * thread. */
PICA_API int pica_queue_task_done(pica_queue *queue);
/* Suspends until every item that was put has been reported done. 0, PICA_ECANCELED, PICA_ENOTASK.
 * Task. */
PICA_API int pica_queue_join(pica_queue *queue);
/* Puts fail from now on; gets take what is left and then fail. All waiting putters fail; waiting
 * getters fail. immediate: the items left are released with destroy and counted as done.
 * Idempotent. Any thread. */
PICA_API void pica_queue_shutdown(pica_queue *queue, int immediate, pica_destroy destroy);

PICA_END_DECLS
#endif
