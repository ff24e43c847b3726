/* The loop: an engine, a timer heap, a FIFO of callbacks, and an inbox for other threads. It is the
 * serial context: what its FIFO holds runs one at a time, in order, on the worker that holds its
 * lease (worker->loop), on that worker's loop fiber.
 *
 * Order inside the FIFO: what the owner schedules is appended at once; what came through the inbox
 * is appended when the owner drains it, in the order of arrival. The owner drains the inbox before it
 * appends a call of call_soon_threadsafe made on itself (it does not use the inbox then), so calls
 * that are ordered by happens-before keep their order.
 *
 * Locks: timers.lock (leaf) and registry.lock (leaf) are taken alone.
 */
#ifndef PICA__RUNTIME_LOOP_H
#define PICA__RUNTIME_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/loop.h>

#include "io/engine/engine.h"
#include "runtime/base/heap.h"
#include "runtime/base/inbox.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"
#include "runtime/pause.h"
#include "runtime/task.h"

struct pica_runtime;
struct pica__worker;

/* A callback inside the library: embedded in what it is about, scheduled at most once at a time. */
typedef struct pica__call {
    pica__work work;
    void (*fn)(struct pica__call *call);
} pica__call;

/* A timer. Lies in what it is about; after pica__timer_cancel returned true it is out and may go. If
 * that returned false, fire runs or has run.
 *
 * due, under the lock of the loop's timers, is its time; node.when, its place in the heap, is the same or earlier. That
 * of an alarm (alarm.h) can also be negative: -limit is a limit that counts from the loop's next look; what is less
 * than -PICA__TIME_END rests, and was due at pica__timer_rested() before. */
#define PICA__TIME_END (INT64_C(1) << 62)
typedef struct pica__timer {
    pica__heap_node node;
    int64_t due;
    pica_loop *loop;                       /* whose heap it is or was in; written by its owner while it is out */
    void (*fire)(struct pica__timer *timer); /* on the loop's worker, without locks */
} pica__timer;

static inline bool pica__timer_rests(const pica__timer *timer) {
    return timer->due < -PICA__TIME_END;
}
static inline int64_t pica__timer_rested(const pica__timer *timer) {
    return timer->due - INT64_MIN;
}
static inline int64_t pica__timer_resting(int64_t due) {
    return INT64_MIN + (due < PICA__TIME_END ? due : PICA__TIME_END - 1);
}

/* Something that holds a descriptor and is at home on a loop (a socket, a server). What is still open
 * when the runtime closes, and all tasks have ended, is closed by its loop: pin is called under the
 * list's lock and must keep the object until close, called next without the lock, has returned. */
typedef struct pica__closer {
    pica__link link;
    void (*pin)(struct pica__closer *closer);
    void (*close)(struct pica__closer *closer);
} pica__closer;

/* Something of a loop that another worker can do in its stead while the loop's own is stuck in a computation.
 * pin is called under the list's lock and keeps the object; rescue, called next without the lock, on
 * another worker's loop fiber, lets go of it. all: the worker is stuck for several looks; else it may have been held
 * up by the system, and is back before it could be missed: no more is taken then than leaves loops even. */
typedef struct pica__rescuer {
    pica__link link;
    void (*pin)(struct pica__rescuer *rescuer);
    void (*rescue)(struct pica__rescuer *rescuer, bool all);
} pica__rescuer;

/* What tells the time to alarms that were set without it (alarm.h). Under the lock of the loop's timers. */
struct pica__look {
    int64_t least;        /* limits from this one on may count from it; INT64_MAX: none is to come */
    uint32_t noted;       /* alarms whose limit counts from it */
    uint32_t sets;        /* of alarms, since `since` */
    int64_t since;
    bool busy;            /* so often that a look is worth it */
    pica__timer timer;    /* in the heap if one is to come */
    pica__timer **alarms; /* that joined it */
    uint32_t count, capacity;
};

struct pica_loop {
    struct pica_runtime *rt;
    unsigned index;
    /* Who runs it: constant until leases move between workers. */
    struct pica__worker *worker;
    pica__engine *engine;
    pica__fifo ready;        /* pica__work; owner only */
    _Atomic uint64_t ready_count; /* its length; written by the owner, read by statistics, relaxed */
    /* From other threads: pica__work. Wakes the owner (see idle.h). */
    pica__inbox inbox;
    struct {
        pica__lock_t lock;
        pica__heap heap;
        /* The heap's first deadline, INT64_MAX when it is empty. Written under the lock (relaxed), read
         * by the owner without it. Whoever moves it forward from another thread wakes the owner
         * afterwards, and the fences of that (idle.h) make the owner see it before it sleeps. */
        _Atomic int64_t earliest;
        /* Timers in the heap that rest. Written under the lock (relaxed), read by the owner without it before it
         * sleeps: if it misses one that came to rest just now on another worker, it wakes once for nothing. */
        _Atomic size_t resting;
        struct pica__look look;
    } timers;
    pica__pauses pauses;     /* owner only */
    struct {
        pica__lock_t lock;
        pica__link tasks;    /* pica_task.all: tasks at home here that have not ended */
        uint64_t next_id;    /* under the lock */
        /* Tasks that were created and that have ended, at home here. Added by whoever creates or ends
         * one; who waits for the end of all reads every `ended` first and then every `created`, so
         * that their difference is never less than the tasks alive in between (registry.c). */
        _Atomic uint64_t created;
        _Atomic uint64_t ended;
    } registry;
    struct {
        pica__lock_t lock;
        pica__link list;     /* pica__closer.link */
    } closers;
    pica__call close_call;   /* runs them, once */
    struct {
        pica__lock_t lock;
        pica__link list;     /* pica__rescuer.link */
    } rescuers;
    /* Task objects at home here, also ended ones that somebody still refers to: they look at the
     * loop when they go. Added relaxed; subtracted by whoever drops the last reference to one, and
     * marked by close with PICA__OBJECTS_CLOSED, both acq_rel: who brings it to the mark alone gives the
     * loop's share in the runtime's memory back (pica__runtime_put). */
    _Atomic uint64_t objects;
};

#define PICA__OBJECTS_CLOSED (UINT64_C(1) << 63)

int pica__loop_init(pica_loop *loop, struct pica_runtime *rt, unsigned index);
void pica__loop_fini(pica_loop *loop);

/* Enters and leaves the list of what must be closed. Leaving twice, or without having entered, does
 * nothing. Any thread of the runtime. */
void pica__closer_add(pica_loop *loop, pica__closer *closer);
void pica__closer_remove(pica_loop *loop, pica__closer *closer);

/* The list of what can be rescued; any thread of the runtime. Leaving it twice does nothing. */
void pica__rescuer_add(pica_loop *loop, pica__rescuer *rescuer);
void pica__rescuer_remove(pica_loop *loop, pica__rescuer *rescuer);
/* Does it, in the stead of the loop's own worker. all: see pica__rescuer. */
void pica__loop_rescue(pica_loop *loop, bool all);

/* True on the worker that holds the lease. */
bool pica__loop_is_mine(const pica_loop *loop);
/* Appends to the FIFO: directly on the owner's thread, else through the inbox with a wake. */
void pica__loop_post(pica_loop *loop, pica__work *work);
static inline void pica__call_init(pica__call *call, void (*fn)(pica__call *call)) {
    call->work.kind = PICA__WORK_CALL;
    call->fn = fn;
}
static inline void pica__call_init_user(pica__call *call, void (*fn)(pica__call *call)) {
    call->work.kind = PICA__WORK_USER;
    call->fn = fn;
}
static inline void pica__call_soon(pica_loop *loop, pica__call *call) {
    pica__loop_post(loop, &call->work);
}

/* Owner: moves the inbox into the FIFO. */
void pica__loop_drain_inbox(pica_loop *loop);
/* Owner: the earliest time to look at timers or pauses; INT64_MAX if there is none. */
static inline int64_t pica__loop_deadline(pica_loop *loop) {
    int64_t timer = atomic_load_explicit(&loop->timers.earliest, memory_order_relaxed);
    return timer < loop->pauses.earliest ? timer : loop->pauses.earliest;
}
/* Owner: takes timers that rest out, so that the next sleep does not end for one of them. (alarm.c) */
void pica__loop_drop_resting(pica_loop *loop);
/* The same as pica__loop_deadline, before a sleep. */
static inline int64_t pica__loop_deadline_to_sleep(pica_loop *loop) {
    if (PICA__UNLIKELY(atomic_load_explicit(&loop->timers.resting, memory_order_relaxed) != 0)) {
        pica__loop_drop_resting(loop);
    }
    return pica__loop_deadline(loop);
}
/* With timers.lock held. Into the heap for `when`, timer->loop being the loop already (its owner reads that without
 * the lock): -ENOMEM. Out of the heap it is in. */
int pica__timer_put_in(pica_loop *loop, pica__timer *timer, int64_t when);
void pica__timer_take_out(pica_loop *loop, pica__timer *timer);
/* With timers.lock held: n more alarms rest (or, with SIZE_MAX, one less). */
static inline void pica__timer_count_resting(pica_loop *loop, size_t n) {
    size_t resting = atomic_load_explicit(&loop->timers.resting, memory_order_relaxed);
    atomic_store_explicit(&loop->timers.resting, resting + n, memory_order_relaxed);
}
/* With timers.lock held, before what due says changes. */
static inline void pica__timer_uncount(pica_loop *loop, const pica__timer *timer) {
    if (timer->due < 0) {
        if (pica__timer_rests(timer)) {
            pica__timer_count_resting(loop, SIZE_MAX);
        } else {
            loop->timers.look.noted--;
        }
    }
}
/* Owner: fires the timers that are due, and ends the pauses; returns how many. */
unsigned pica__loop_fire_timers(pica_loop *loop, int64_t now);

/* Arms a timer for `when` (ns of pica__now) on loop. -ENOMEM. Any thread of the runtime; wakes the
 * loop if it sleeps past `when`. */
int pica__timer_arm(pica_loop *loop, pica__timer *timer, int64_t when);
/* The two halves, for commits that must publish under the heap's lock: pica__timer_push_locked with
 * loop->timers.lock held, and pica__timer_wake after it was dropped. */
int pica__timer_push_locked(pica_loop *loop, pica__timer *timer, int64_t when, bool *earliest);
void pica__timer_wake(pica_loop *loop);
/* True if it was taken out. Any thread. */
bool pica__timer_cancel(pica__timer *timer);
void pica__timer_init(pica__timer *timer, void (*fire)(pica__timer *timer));

/* The next whole number at or above x. Not the C library's ceil, which some compilers call, and which lies in
 * a library of its own (libm) that programs would have to link. */
static inline double pica__round_up(double x) {
    if (!(x > -9e15 && x < 9e15)) {
        return x; /* so large a double is whole, or it is no number */
    }
    int64_t whole = (int64_t)x;
    return (double)(whole + ((double)whole < x));
}

/* Seconds in ns, rounded up; saturates. seconds must not be NaN. */
static inline int64_t pica__nanoseconds(double seconds) {
    double ns = pica__round_up(seconds * 1e9);
    return ns >= 9.2e18 ? INT64_MAX : ns <= -9.2e18 ? -INT64_MAX : (int64_t)ns;
}

/* Seconds from now, also negative ones, to a deadline in ns of pica__now; saturates. seconds must not be NaN. */
int64_t pica__deadline(double seconds);

#endif
