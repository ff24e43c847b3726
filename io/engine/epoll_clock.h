/* The clock of an epoll set, for waits whose end moves on before it comes.
 *
 * A limit of a read, or a watcher's bound, is some time from now, and nearly every wait ends before it. To give
 * it to the kernel with each wait has the kernel start a timer and take it back each time, and where that was the
 * processor's next one, program its hardware twice; on a virtual machine that alone is more than a microsecond. So
 * after some such waits in a row the time of one is set in a timerfd that is in the set, and stays there: waits that
 * end no earlier need no limit. When it comes, and the time that is waited for has moved on, the loop wakes once
 * for nothing and sets the next.
 *
 * Invariant: armed is the time at which the kernel will make an event, INT64_MAX if none; so a wait until
 * armed or later may go without a limit. The timerfd is never read: each time that comes is an edge.
 */
#ifndef PICA__IO_ENGINE_EPOLL_CLOCK_H
#define PICA__IO_ENGINE_EPOLL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* So many waits in a row that end early make it worth while. */
#define PICA__EPOLL_CLOCK_EARLY 8

typedef struct pica__epoll_clock {
    int fd;
    bool lasting;   /* the times move on before they come */
    unsigned early; /* waits that ended before their time, since one came */
    int64_t armed;
} pica__epoll_clock;

/* Makes it, in the set, with its data. 0 or negative. */
int pica__epoll_clock_open(pica__epoll_clock *clock, int set, uint64_t data);
void pica__epoll_clock_close(pica__epoll_clock *clock);

/* Whether a wait until deadline (INT64_MAX: for ever) needs neither a limit nor a change of the clock. */
static inline bool pica__epoll_clock_holds(const pica__epoll_clock *clock, int64_t deadline) {
    return deadline == INT64_MAX ? clock->armed == INT64_MAX : clock->armed <= deadline;
}

/* Before a wait that needs it. True: wait without a limit. */
bool pica__epoll_clock_set(pica__epoll_clock *clock, int64_t deadline);

/* After a wait with a deadline, if that did not end by the clock. came: its time. */
static inline void pica__epoll_clock_waited(pica__epoll_clock *clock, bool came) {
    clock->early = came ? 0 : clock->early + 1;
    clock->lasting = !came && clock->lasting;
}

/* Its event has come. */
void pica__epoll_clock_rang(pica__epoll_clock *clock);

#endif
