/* Who sleeps, and who is woken for new work.
 *
 * Two questions, two mechanisms:
 *
 * 1. A worker must see what is addressed to it (its inbox, its loop's timers). worker->sleep is
 *    AWAKE, SLEEPING or NOTIFIED.
 *        sleeper: sleep := SLEEPING; fence; look at inbox and queues once more; wait in the engine;
 *                 sleep := AWAKE
 *        sender:  put the message; fence; if sleep is SLEEPING and CAS to NOTIFIED wins: wake the
 *                 engine
 *    The two seq_cst fences make it impossible that both look before the other wrote. Release and
 *    acquire would not: they order neither side's store before its own later load. NOTIFIED
 *    coalesces wakes: only the first sender makes the system call.
 *
 * 2. Work for anybody must not lie while workers sleep. rt->idle keeps a list of sleepers, their
 *    number, and the number of searchers (workers that are awake without work of their own).
 *        producer: push; fence; if nobody searches and somebody sleeps: take a sleeper off the list,
 *                  count it as a searcher, wake it
 *        searcher: looks everywhere; before it sleeps it leaves the searchers and looks once more, and is
 *                  one again if there is something. One that finds work leaves them before it runs it
 *                  and, if it was the last, wakes the next: the producers that saw it searching relied
 *                  on it.
 *    At most half of the workers search, so that a short queue is not attacked by all.
 *
 * What was rejected: waking a worker for each push (a wake costs more than running the task here);
 * letting woken workers search without counting them (the producer cannot know that somebody will
 * come, so it would have to wake each time); a monitor thread (a process that is idle must not wake).
 *
 * While some worker is awake, one sleeper watches: it sleeps with a bound instead of without (a longer one while its
 * own I/O wakes it more often than that), and then looks whether an awake worker is stuck, with tasks queued behind it,
 * or clients. It goes on with that for a while after the last step; later, who wakes and finds that nobody watches
 * wakes a watcher, and a watcher that takes work behind a stuck worker wakes another one, as it may get stuck itself. So
 * a worker that wakes alone and gets stuck at once is seen too, an idle process does not wake, and a steady trickle of
 * work pays for one more wake in each tenth of a second, not in each request.
 *
 * The fences order all this. That the counters are changed with seq_cst is more than is needed, and costs
 * nothing where a change is a locked instruction. The loops of worker.c are run against this protocol in
 * every order, within a bound, by tests/explore/explore_idle.c; what is stronger than that needs is listed
 * in tests/explore/survivors.txt.
 *
 * Lock: idle.lock guards the list; nothing is taken under it.
 */
#ifndef PICA__RUNTIME_IDLE_H
#define PICA__RUNTIME_IDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/compiler.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"

struct pica__worker;
struct pica_runtime;

typedef struct pica__idle {
    /* Workers that search. Changed by fetch_add and fetch_sub, seq_cst, by searchers and by who
     * wakes one; read by producers after their fence. */
    _Alignas(PICA__CACHELINE) _Atomic uint32_t searching;
    /* Workers in the list. Changed under the lock, seq_cst; read by producers after their fence. */
    _Atomic uint32_t sleeping;
    /* 1 while one sleeper watches, while one is its guard. Exchanged to 1 by who is about to sleep, stored 0 by the
     * same one when it is back; seq_cst. */
    _Atomic uint32_t watched;
    _Atomic uint32_t guarded;
    /* The sum of all steps when somebody last looked, and when that was seen to grow. Written and read by who
     * is about to sleep; relaxed: they only say for how long to go on watching. */
    _Atomic uint64_t steps;
    _Atomic int64_t active;
    /* When a watcher last looked. Written and read by watchers; relaxed, as above. */
    _Atomic int64_t looked;
    pica__lock_t lock;
    pica__link sleepers;      /* pica__worker.idle_link, the last one first: its cache is warm */
} pica__idle;

void pica__idle_init(pica__idle *idle);

/* After work for anybody was pushed. */
void pica__idle_notify(struct pica_runtime *rt);
/* After something was put where only this worker looks. Any thread; async-signal-safe. */
void pica__worker_wake(struct pica__worker *worker);

/* True if the caller may search; it must then call pica__idle_end_search. */
bool pica__idle_begin_search(struct pica_runtime *rt);
/* True if the caller was the last searcher. */
bool pica__idle_end_search(struct pica_runtime *rt);

/* Publishes SLEEPING and enters the list, with the full fence behind both. */
void pica__idle_enter(struct pica__worker *worker);
/* Back from sleep. Returns true if somebody took the worker off the list to search. */
bool pica__idle_leave(struct pica__worker *worker);

#endif
