/* Alarms: timers for limits that are set again and again and hardly ever reached, such as that of each read of a
 * connection.
 *
 * An alarm need not go through the heap each time, where it would touch its neighbours' memory: it stays in its place
 * and notes when it is due, or that it rests, and the loop looks at that when the time of its place has come.
 *
 * Nor need it ask the clock each time. An alarm that is often set to a long limit joins the loop's look: then to set
 * it notes only the limit, which counts from the next look. That is a timer like others, and comes within 1/64 of any
 * limit that is noted so (look.least / 64 after it was armed). What it finds noted it tells the time, and that stays for
 * the next look, as it is set often; the others leave it until they are set the next time. So such a limit ends late by
 * 1/64 of it at most, and never early. (Linux's own timers for long waits are late by up to 1/8: kernel/time/timer.c.)
 * Limits below a second, simulated time and fifo order are exact.
 *
 * node.when <= due while an alarm is in a heap and due says a time; one whose limit is noted is in the heap and in the
 * look (node.tag is its place there, from 1; 0: it is not).
 *
 * An alarm is a pica__timer that is only set by these functions. Lock: timers.lock of its loop. */
#ifndef PICA__RUNTIME_ALARM_H
#define PICA__RUNTIME_ALARM_H

#include "runtime/loop.h"

struct timeout;

/* That of a task's time-out scopes (sleep.c). It lies with the fiber at the top of the task's stack, so it needs no
 * memory and no page of its own: a processor that comes from something else needs longer for the first touch of a page
 * than for all that is done there. Of several tasks that run on one stack, as each awaits the next, the first that asks
 * has it. All but the timer is its task's alone. */
struct pica__task_alarm {
    pica__timer timer;
    pica_task *task;       /* whose it is; NULL: nobody's */
    struct timeout *scope; /* that uses it; NULL: none. Written by the task while the timer is out or rests */
    double limit;          /* the last one that was set, and the same in ns */
    int64_t ns;
};

/* Sets an alarm, which is out, rests, or is set, to `limit` ns from now on the worker's own loop. -ENOMEM: it is
 * out. */
int pica__alarm_set(pica_loop *loop, pica__timer *alarm, int64_t limit);
/* The same for one that is set: PICA_EINVALSTATE if it is not any more, as fire runs or has run. */
int pica__alarm_set_again(pica_loop *loop, pica__timer *alarm, int64_t limit);
/* True if it will not fire any more until it is set; its memory must stay until pica__alarm_out. False: fire runs or
 * has run. Any thread. */
bool pica__alarm_rest(pica__timer *alarm);
/* Out of what it is in; it may go then. Not while fire runs. Any thread. */
void pica__alarm_out(pica__timer *alarm);

/* The loop's part; fini when no worker runs any more. */
void pica__alarms_init(pica_loop *loop);
void pica__alarms_fini(pica_loop *loop);

#endif
