/* See transitions.h. */
#include "runtime/base/transitions.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/testing.h>

#if PICA__TRANSITIONS

#include "runtime/base/check.h"

/* All that are documented. A name: the machine, from, to; in brackets what makes it, where two differ. */
static const struct {
    uint8_t machine, from, to;
    const char *name;
} list[] = {
    {PICA__OF_TASK, 0, 1, "task NEW RUNNING"},
    {PICA__OF_TASK, 1, 2, "task RUNNING WAITING"},
    {PICA__OF_TASK, 2, 1, "task WAITING RUNNING"},
    {PICA__OF_TASK, 2, 3, "task WAITING CLAIMED"},
    {PICA__OF_TASK, 3, 4, "task CLAIMED FIRED"},
    {PICA__OF_TASK, 3, 2, "task CLAIMED WAITING"},
    {PICA__OF_TASK, 3, 1, "task CLAIMED RUNNING"},
    {PICA__OF_TASK, 4, 1, "task FIRED RUNNING"},
    {PICA__OF_TASK, 1, 5, "task RUNNING DONE"},
    {PICA__OF_FUTURE, 0, 1, "future PENDING DONE"},
    {PICA__OF_FUTURE, 0, 3, "future PENDING CANCELLED"},
    {PICA__OF_FUTURE, 0, PICA__FUTURE_WAS_SEEN, "future PENDING SEEN"},
    {PICA__OF_FUTURE, 1, PICA__FUTURE_WAS_SEEN, "future DONE SEEN"},
    {PICA__OF_FUTURE, 1, PICA__FUTURE_WAS_TAKEN, "future DONE TAKEN"},
    {PICA__OF_SLEEP, 0, 1, "sleep AWAKE SLEEPING"},
    {PICA__OF_SLEEP, 1, 2, "sleep SLEEPING NOTIFIED"},
    {PICA__OF_SLEEP, 1, 0, "sleep SLEEPING AWAKE"},
    {PICA__OF_SLEEP, 2, 0, "sleep NOTIFIED AWAKE"},
    {PICA__OF_PHASE, 0, 1, "phase PAUSED RUNNING"},
    {PICA__OF_PHASE, 1, 0, "phase RUNNING PAUSED"},
    {PICA__OF_PHASE, 0, 2, "phase PAUSED CLOSING"},
    {PICA__OF_PHASE, 2, 3, "phase CLOSING ENDING"},
    {PICA__OF_PHASE, 0, 3, "phase PAUSED ENDING"},
    {PICA__OF_HANDLE, 0, 1, "handle PENDING RUNNING"},
    {PICA__OF_HANDLE, 1, 2, "handle RUNNING RAN"},
    {PICA__OF_HANDLE, 0, 3, "handle PENDING CANCELLED"},
    {PICA__OF_ASYNC, 0, 1, "async IDLE QUEUED"},
    {PICA__OF_ASYNC, 1, 2, "async QUEUED RUNNING"},
    {PICA__OF_ASYNC, 2, 0, "async RUNNING IDLE"},
    {PICA__OF_ASYNC, 2, 3, "async RUNNING AGAIN"},
    {PICA__OF_ASYNC, 3, 1, "async AGAIN QUEUED"},
    {PICA__OF_ASYNC, 1, 0, "async QUEUED IDLE"},
    {PICA__OF_ASYNC, 0, 4, "async IDLE FREED"},
    {PICA__OF_ASYNC, 1, 4, "async QUEUED FREED"},
    {PICA__OF_ASYNC, 2, 4, "async RUNNING FREED"},
    {PICA__OF_ASYNC, 3, 4, "async AGAIN FREED"},
    {PICA__OF_JOB, PICA__JOB_QUEUED, PICA__JOB_TAKEN, "job QUEUED TAKEN"},
    {PICA__OF_JOB, PICA__JOB_QUEUED, PICA__JOB_WITHDRAWN, "job QUEUED WITHDRAWN"},
    {PICA__OF_JOB, PICA__JOB_QUEUED, PICA__JOB_REFUSED, "job QUEUED REFUSED"},
    {PICA__OF_STACK, PICA__STACK_FRESH, PICA__STACK_LIVE, "stack FRESH LIVE"},
    {PICA__OF_STACK, PICA__STACK_FRESH, PICA__STACK_BARE, "stack FRESH BARE"},
    {PICA__OF_STACK, PICA__STACK_BARE, PICA__STACK_LIVE, "stack BARE LIVE"},
    {PICA__OF_STACK, PICA__STACK_BARE, PICA__STACK_BARE, "stack BARE BARE"},
    {PICA__OF_STACK, PICA__STACK_LIVE, PICA__STACK_IDLE, "stack LIVE IDLE"},
    {PICA__OF_STACK, PICA__STACK_IDLE, PICA__STACK_LIVE, "stack IDLE LIVE"},
    {PICA__OF_LOCK, 0, 1, "lock 0 LOCKED"},
    {PICA__OF_LOCK, 1, 0, "lock LOCKED 0"},
    {PICA__OF_LOCK, 1, 3, "lock LOCKED WAITERS"},
    {PICA__OF_LOCK, 3, 3, "lock WAITERS WAITERS (handed over)"},
    {PICA__OF_LOCK, 3, 1, "lock WAITERS LOCKED"},
    {PICA__OF_EVENT, 0, 1, "event 0 SET"},
    {PICA__OF_EVENT, 1, 0, "event SET 0"},
    {PICA__OF_EVENT, 0, 2, "event 0 WAITERS"},
    {PICA__OF_EVENT, 2, 1, "event WAITERS SET"},
    {PICA__OF_EVENT, 2, 0, "event WAITERS 0"},
    {PICA__OF_OPERATION, 0, 1, "operation NEW IDLE"},
    {PICA__OF_OPERATION, 0, 2, "operation NEW ENDED"},
    {PICA__OF_OPERATION, 1, 3, "operation IDLE ASKED"},
    {PICA__OF_OPERATION, 3, 4, "operation ASKED CANCELLING"},
    {PICA__OF_OPERATION, 3, PICA__OPERATION_WITHDRAWN, "operation ASKED withdrawn"},
    {PICA__OF_OPERATION, 1, 5, "operation IDLE DONE"},
    {PICA__OF_OPERATION, 3, 5, "operation ASKED DONE"},
    {PICA__OF_OPERATION, 4, 5, "operation CANCELLING DONE"},
    {PICA__OF_SOCKET, PICA__SOCKET_OPEN, PICA__SOCKET_CLOSING, "socket OPEN CLOSED"},
    {PICA__OF_SOCKET, PICA__SOCKET_CLOSING, PICA__SOCKET_GONE, "socket CLOSED gone"},
    {PICA__OF_SIDE, PICA__SIDE_UNARMED, PICA__SIDE_WANTED, "side unarmed wanted (for the home loop)"},
    {PICA__OF_SIDE, PICA__SIDE_UNARMED, PICA__SIDE_ARMED, "side unarmed armed"},
    {PICA__OF_SIDE, PICA__SIDE_ARMED, PICA__SIDE_UNARMED, "side armed unarmed (the poll has ended)"},
    {PICA__OF_SIDE, PICA__SIDE_BLIND, PICA__SIDE_SEES, "side blind READY"},
    {PICA__OF_SIDE, PICA__SIDE_SEES, PICA__SIDE_SEES, "side READY READY"},
    {PICA__OF_SIDE, PICA__SIDE_SEES, PICA__SIDE_BLIND, "side READY blind"},
    {PICA__OF_SIDE, PICA__SIDE_SEES, PICA__SIDE_ENDED, "side READY STICKY"},
    {PICA__OF_WRITER, 0, 1, "writer FLUSHING set"},
    {PICA__OF_WRITER, 0, 0, "writer FLUSHING cleared"},
    {PICA__OF_WRITER, 1, 1, "writer EOF set"},
    {PICA__OF_WRITER, 2, 1, "writer EOF_SENT set"},
    {PICA__OF_WRITER, 3, 1, "writer CLOSING set"},
    {PICA__OF_WRITER, 4, 1, "writer ABORTED set"},
    {PICA__OF_WRITER, 5, 1, "writer LOST set"},
    {PICA__OF_WRITER, 6, 1, "writer SOCKET_ENDED set"},
    {PICA__OF_WRITER, 7, 1, "writer CLOSED set"},
    {PICA__OF_LISTENER, PICA__LISTENER_BEGUN, PICA__LISTENER_ACCEPTING, "listener begun ACCEPTING"},
    {PICA__OF_LISTENER, PICA__LISTENER_ACCEPTING, PICA__LISTENER_PAUSED, "listener ACCEPTING PAUSED"},
    {PICA__OF_LISTENER, PICA__LISTENER_PAUSED, PICA__LISTENER_ACCEPTING, "listener PAUSED ACCEPTING"},
    {PICA__OF_LISTENER, PICA__LISTENER_ACCEPTING, PICA__LISTENER_REFUSING, "listener ACCEPTING REFUSING"},
    {PICA__OF_LISTENER, PICA__LISTENER_ACCEPTING, PICA__LISTENER_STOPPING, "listener ACCEPTING STOPPING"},
    {PICA__OF_LISTENER, PICA__LISTENER_PAUSED, PICA__LISTENER_STOPPING, "listener PAUSED STOPPING"},
    {PICA__OF_LISTENER, PICA__LISTENER_STOPPING, PICA__LISTENER_STOPPED, "listener STOPPING stopped"},
    {PICA__OF_WATCH, PICA__WATCH_QUEUED, PICA__WATCH_ARMED, "watch QUEUED ARMED"},
    {PICA__OF_WATCH, PICA__WATCH_ARMED, PICA__WATCH_QUEUED, "watch ARMED QUEUED"},
    {PICA__OF_WATCH, PICA__WATCH_QUEUED, PICA__WATCH_QUEUED, "watch QUEUED QUEUED (no memory)"},
    {PICA__OF_WATCH, PICA__WATCH_QUEUED, PICA__WATCH_GONE, "watch QUEUED gone"},
    {PICA__OF_TURN, PICA__TURN_FREE, PICA__TURN_TAKEN, "turn free taken"},
    {PICA__OF_TURN, PICA__TURN_TAKEN, PICA__TURN_LINE, "turn taken with a line"},
    {PICA__OF_TURN, PICA__TURN_LINE, PICA__TURN_TAKEN, "turn passed on"},
    {PICA__OF_TURN, PICA__TURN_TAKEN, PICA__TURN_FREE, "turn taken free"},
    {PICA__OF_FLIGHT, 0, 1, "flight queued active"},
    {PICA__OF_FLIGHT, 1, 1, "flight active active (goes on)"},
    {PICA__OF_FLIGHT, 1, 2, "flight active done"},
    {PICA__OF_FLIGHT, 2, 3, "flight done free"},
};

enum { LISTED = sizeof list / sizeof list[0] };

/* Any thread adds; relaxed: they are counts. */
static _Atomic uint64_t taken[PICA__MACHINES][PICA__STATES][PICA__STATES];

static _Atomic uint64_t *cell(unsigned machine, unsigned from, unsigned to) {
    PICA__CHECK(machine < PICA__MACHINES && from < PICA__STATES && to < PICA__STATES);
    return &taken[machine][from][to];
}

static bool listed(unsigned machine, unsigned from, unsigned to) {
    for (unsigned i = 0; i < LISTED; i++) {
        if (list[i].machine == machine && list[i].from == from && list[i].to == to) {
            return true;
        }
    }
    return false;
}

void pica__moved(enum pica__machine machine, unsigned from, unsigned to) {
    if (atomic_fetch_add_explicit(cell(machine, from, to), 1, memory_order_relaxed) == 0) {
        PICA__CHECK(listed(machine, from, to));
    }
}

void pica__moved_bits(enum pica__machine machine, unsigned before, unsigned after) {
    for (unsigned bit = 0; bit < PICA__STATES; bit++) {
        if (((before ^ after) >> bit & 1) != 0) {
            pica__moved(machine, bit, after >> bit & 1);
        }
    }
}

int pica_sim_transition(unsigned number, const char **name, uint64_t *count) {
    if (number >= LISTED) {
        return -ENOENT;
    }
    *name = list[number].name;
    *count = atomic_load_explicit(cell(list[number].machine, list[number].from, list[number].to),
                                  memory_order_relaxed);
    return 0;
}

#else

int pica_sim_transition(unsigned number, const char **name, uint64_t *count) {
    (void)number;
    (void)name;
    (void)count;
    return -ENOSYS;
}

#endif
