/*
 * Which transitions of the documented state machines were taken.
 *
 * Debug builds count them, so that a run of the simulator can tell what it has never seen
 * (tests/workloads/transitions.txt says of each such one why). A transition that is not in the list of transitions.c ends
 * the process: either the code is wrong or the documentation is. In all other builds, and in the explorer,
 * nothing is left of this.
 *
 * A machine without a state word of its own has its states here; the others use the values of their word.
 */
#ifndef PICA__RUNTIME_BASE_TRANSITIONS_H
#define PICA__RUNTIME_BASE_TRANSITIONS_H

#include "runtime/base/compiler.h"

#if PICA__DEBUG && !PICA__MODEL
#define PICA__TRANSITIONS 1
#else
#define PICA__TRANSITIONS 0
#endif

enum pica__machine {
    PICA__OF_TASK,      /* runtime/wait.h */
    PICA__OF_FUTURE,    /* runtime/future.h */
    PICA__OF_SLEEP,     /* runtime/idle.h */
    PICA__OF_PHASE,     /* runtime/rt.h */
    PICA__OF_HANDLE,    /* runtime/handle.c */
    PICA__OF_ASYNC,     /* runtime/async.c */
    PICA__OF_JOB,       /* runtime/executor.c */
    PICA__OF_STACK,     /* runtime/base/stack.c */
    PICA__OF_LOCK,      /* sync/lock.c */
    PICA__OF_EVENT,     /* sync/event.c */
    PICA__OF_OPERATION, /* io/operation.c */
    PICA__OF_SOCKET,    /* io/socket.h: the use word */
    PICA__OF_SIDE,      /* io/socket.h: one direction */
    PICA__OF_WRITER,    /* io/writer.c: a bit, and whether it is set */
    PICA__OF_LISTENER,  /* io/listener.c */
    PICA__OF_WATCH,     /* io/poll.c */
    PICA__OF_TURN,      /* io/datagram_turn.c */
    PICA__OF_FLIGHT,    /* io/engine/sim.c */
    PICA__MACHINES
};

enum { PICA__STATES = 8 };

enum { PICA__FUTURE_WAS_SEEN = 4, PICA__FUTURE_WAS_TAKEN };
enum { PICA__JOB_QUEUED, PICA__JOB_TAKEN, PICA__JOB_WITHDRAWN, PICA__JOB_REFUSED };
enum { PICA__STACK_FRESH, PICA__STACK_LIVE, PICA__STACK_IDLE, PICA__STACK_BARE };
enum { PICA__OPERATION_WITHDRAWN = 6 };
enum { PICA__SOCKET_OPEN, PICA__SOCKET_CLOSING, PICA__SOCKET_GONE };
enum { PICA__SIDE_UNARMED, PICA__SIDE_WANTED, PICA__SIDE_ARMED, PICA__SIDE_BLIND, PICA__SIDE_SEES,
       PICA__SIDE_ENDED };
enum { PICA__LISTENER_BEGUN, PICA__LISTENER_ACCEPTING, PICA__LISTENER_PAUSED, PICA__LISTENER_REFUSING,
       PICA__LISTENER_STOPPING, PICA__LISTENER_STOPPED };
enum { PICA__WATCH_QUEUED, PICA__WATCH_ARMED, PICA__WATCH_GONE };
enum { PICA__TURN_FREE, PICA__TURN_TAKEN, PICA__TURN_LINE };

#if PICA__TRANSITIONS
/* Any thread, async-signal-safe. */
void pica__moved(enum pica__machine machine, unsigned from, unsigned to);
/* For each bit in which the two differ: from its number to whether it is set. */
void pica__moved_bits(enum pica__machine machine, unsigned before, unsigned after);
#define PICA__MOVED(machine, from, to) \
    pica__moved(PICA__OF_##machine, (unsigned)(from), (unsigned)(to))
#define PICA__MOVED_BITS(machine, before, after) \
    pica__moved_bits(PICA__OF_##machine, (unsigned)(before), (unsigned)(after))
#else
#define PICA__MOVED(machine, from, to) ((void)sizeof((from) + (to)))
#define PICA__MOVED_BITS(machine, before, after) ((void)sizeof((before) + (after)))
#endif

#endif
