/* The idle protocol of runtime/idle.c, with the worker's loop of runtime/worker.c around it: work
 * for anybody (the shared queue) and messages to one worker (its inbox) come from other threads
 * while workers fall asleep.
 *
 * Each step says what it mirrors: FUNCTION "what the line does". Nobody sleeps with a bound here:
 * what a watcher would find later is a lost wake-up here. (Watchers: watch.pml.)
 *
 * The environment of the verifier says what is run (one verifier serves all scenarios):
 *   WORKERS, SUBMITTERS, POSTERS   how many; each submitter submits one task, each poster calls one loop
 *   TOGETHER                       a task computes until so many have begun: so many workers must work
 *   AT_ONCE                        stores do not wait (memory.pml)
 *   DEFECT                         what is left out, or turned round: the number of one of those below
 */
#define MOST 3
#define DEFECT_NO_FENCE_ENTER 1
#define DEFECT_NO_FENCE_NOTIFY 2
#define DEFECT_NO_FENCE_WAKE 3
#define DEFECT_NO_RECHECK 4
#define DEFECT_LIST_BEFORE_STATE 5
#define DEFECT_NO_CHOSEN 6
#define DEFECT_NO_NEXT 7
#define DEFECT_NO_SEARCH_ON 8

c_decl {
\#include <stdlib.h>
    static unsigned char from_environment(const char *name) {
        const char *value = getenv(name);
        return value == NULL ? 0 : (unsigned char)atoi(value);
    }
}
byte workers, submitters, posters, together, defect;
bool at_once;

#define COUNT 0         /* rt->shared.count */
#define SHARED_LOCK 1   /* rt->shared.lock */
#define SEARCHING 2     /* rt->idle.searching */
#define SLEEPERS 3      /* rt->idle.sleeping */
#define IDLE_LOCK 4     /* rt->idle.lock */
#define INBOX(w) (5 + 2 * (w))
#define SLEEP(w) (6 + 2 * (w))
#define VARIABLES (5 + 2 * MOST)

#define AWAKE 0
#define SLEEPING 1
#define NOTIFIED 2

#include "memory.pml"

/* rt->idle.sleepers, the last one first, and pica__worker.idle_listed: only touched under the
 * lock. */
byte list[MOST];
byte listed_count;
bool listed[MOST];

bool woken[MOST];  /* the engine: pica__engine_wake stays until pica__engine_wait has returned */
bool asleep[MOST]; /* in pica__engine_wait */
byte begun, ended, called;
bool started;

/* idle.c wake_if_sleeping: "load sleep", "compare-and-swap SLEEPING to NOTIFIED",
 * pica__engine_wake. The load only saves the compare-and-swap. */
inline wake_if_sleeping(w) {
    d_step {
        if
        :: mem[SLEEP(w)] == SLEEPING -> mem[SLEEP(w)] = NOTIFIED; woken[w] = true
        :: else -> skip
        fi
    }
}

/* idle.c pica__idle_notify; with one worker pica__worker_wake */
inline idle_notify() {
    fence_but(DEFECT_NO_FENCE_NOTIFY); /* "atomic_thread_fence" */
    load(SEARCHING, r); /* "searching != 0: return" */
    if
    :: workers == 1 -> wake_if_sleeping(0)
    :: workers > 1 && r == 0 ->
        load(SLEEPERS, r); /* "sleeping == 0: return" */
        if
        :: r != 0 ->
            lock(IDLE_LOCK);
            d_step {
                who = MOST;
                if
                :: listed_count > 0 -> /* pica__list_pop_front, "idle_listed = false" */
                    listed_count--;
                    who = list[listed_count];
                    list[listed_count] = 0;
                    listed[who] = false;
                    store(SLEEPERS, mem[SLEEPERS] - 1);
                    mem[SEARCHING]++ /* "on behalf of the one that is woken" */
                :: else -> skip
                fi;
                unlock(IDLE_LOCK)
            };
            if
            :: who != MOST -> wake_if_sleeping(who)
            :: else -> skip
            fi
        :: else -> skip
        fi
    :: else -> skip
    fi;
    d_step { who = 0; r = 0 }
}

/* worker.c stop_searching(worker, found), idle.c pica__idle_end_search */
inline stop_searching(found) {
    if
    :: searching ->
            d_step {
            searching = false;
            r = mem[SEARCHING];
            assert(r > 0);
            mem[SEARCHING] = r - 1
        };
        if
        :: r == 1 && found && defect != DEFECT_NO_NEXT ->
            idle_notify() /* "the last searcher: producers relied on it" */
        :: else -> r = 0
        fi
    :: else -> skip
    fi
}

/* idle.c pica__idle_begin_search */
inline begin_search() {
    load(SEARCHING, r);
    if
    :: 2 * r < workers ->
            d_step { mem[SEARCHING]++; searching = true; r = 0 }
    :: else -> r = 0
    fi
}

/* idle.c pica__idle_enter */
inline idle_enter() {
    if
    :: defect != DEFECT_LIST_BEFORE_STATE -> d_step { store(SLEEP(me), SLEEPING) } /* "before the list" */
    :: else -> skip
    fi;
    if
    :: workers > 1 ->
        lock(IDLE_LOCK);
        d_step {
            list[listed_count] = me;
            listed_count++;
            listed[me] = true;
            store(SLEEPERS, mem[SLEEPERS] + 1);
            unlock(IDLE_LOCK);
            if
            :: defect == DEFECT_LIST_BEFORE_STATE -> store(SLEEP(me), SLEEPING)
            :: else -> skip
            fi
        }
    :: else -> skip
    fi;
    fence_but(DEFECT_NO_FENCE_ENTER) /* "store before load" */
}

/* idle.c pica__idle_leave */
inline idle_leave() {
    if
    :: workers > 1 -> lock(IDLE_LOCK)
    :: else -> skip
    fi;
    d_step {
        chosen = workers > 1 && !listed[me];
        if
        :: listed[me] -> /* pica__list_remove, "idle_listed = false" */
            r = 0;
            do
            :: list[r] != me -> r++
            :: else -> break
            od;
            listed_count--;
            do
            :: r < listed_count -> list[r] = list[r + 1]; r++
            :: else -> break
            od;
            list[listed_count] = 0;
            r = 0;
            listed[me] = false;
            store(SLEEPERS, mem[SLEEPERS] - 1)
        :: else -> skip
        fi;
        if
        :: workers > 1 -> unlock(IDLE_LOCK)
        :: else -> skip
        fi;
        store(SLEEP(me), AWAKE)
    }
}

/* ready.c pica__shared_pop: any is whether there was a task */
inline shared_pop() {
    load(COUNT, r); /* "shared.count == 0: NULL" */
    if
    :: r != 0 ->
        lock(SHARED_LOCK);
        d_step {
            any = mem[COUNT] != 0;
            if
            :: any -> store(COUNT, mem[COUNT] - 1)
            :: else -> skip
            fi;
            unlock(SHARED_LOCK);
            r = 0
        }
    :: else -> skip
    fi
}

proctype worker(byte me) {
    BUFFER;
    byte r, who;
    bool searching, searched, chosen, any;
turn: /* worker.c turn: pica__loop_drain_inbox, run_callbacks */
    load(INBOX(me), r);
    if
    :: r != 0 ->
        d_step { r = 0; mem[INBOX(me)] = 0 }; /* pica__inbox_take: "exchange" */
        stop_searching(true); /* run_work */
        called++ /* there is no more than one message for each loop */
    :: else -> skip
    fi;
    /* worker.c run_from_elsewhere: run_shared */
    shared_pop();
    if
    :: any ->
        any = false;
        stop_searching(true); /* run_work, before it is run */
        fence(); /* a task that waits for others gets its stores out */
        begun++;
        begun >= together -> ended++;
        goto turn
    :: else -> skip
    fi;
    if
    :: !searching && workers > 1 ->
        begin_search() /* and a look at the other deques, where there is nothing in this model */
    :: else -> skip
    fi;
    /* worker.c park */
    searched = searching;
    stop_searching(false);
    idle_enter();
    /* worker.c anything: "the second look" */
    load(INBOX(me), r);
    if
    :: r == 0 -> load(COUNT, r)
    :: else -> skip
    fi;
    if
    :: r != 0 && defect != DEFECT_NO_RECHECK ->
        r = 0;
        idle_leave();
        if
        :: chosen -> searching = true /* counted by who chose it */
        :: !chosen && searched && defect != DEFECT_NO_SEARCH_ON -> begin_search() /* "so we search on" */
        :: else -> skip
        fi;
        d_step { chosen = false; searched = false };
        goto turn
    :: else -> skip
    fi;
    fence(); /* see memory.pml */
    d_step { r = 0; searched = false; asleep[me] = true };
end_sleep:
    d_step { woken[me] -> woken[me] = false; asleep[me] = false }; /* pica__engine_wait */
    idle_leave();
    d_step {
        searching = chosen && defect != DEFECT_NO_CHOSEN; /* "pica__idle_leave: searching = true" */
        chosen = false
    };
    goto turn
}

/* ready.c push_from_outside: pica__shared_push, pica__idle_notify */
proctype submitter() {
    BUFFER;
    byte r, who;
    lock(SHARED_LOCK);
    d_step { store(COUNT, mem[COUNT] + 1); unlock(SHARED_LOCK) };
    idle_notify();
    fence()
}

/* loop.c pica__loop_post: pica__inbox_push, pica__worker_wake */
proctype poster(byte me) {
    BUFFER;
    /* Its compare-and-swap releases: no more than a store that keeps its place. */
    d_step { store(INBOX(me), 1) };
    fence_but(DEFECT_NO_FENCE_WAKE);
    wake_if_sleeping(me);
    fence()
}

init {
    byte i;
    d_step {
        c_code {
            now.workers = from_environment("WORKERS");
            now.submitters = from_environment("SUBMITTERS");
            now.posters = from_environment("POSTERS");
            now.together = from_environment("TOGETHER");
            now.at_once = from_environment("AT_ONCE");
            now.defect = from_environment("DEFECT");
        }
        assert(workers >= 1 && workers <= MOST && posters <= workers)
    };
    atomic {
        do
        :: i < workers -> run worker(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < submitters -> run submitter(); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < posters -> run poster(i); i++
        :: else -> break
        od;
        i = 0;
        started = true
    };
    /* When nothing moves any more all has been run, all sleep, and the counters say so. */
end_quiet:
    timeout;
    assert(mem[COUNT] == 0 && ended == submitters && called == posters);
    assert(mem[SEARCHING] == 0);
    assert(workers == 1 || (mem[SLEEPERS] == workers && listed_count == workers));
    do
    :: i < workers -> assert(asleep[i] && mem[SLEEP(i)] == SLEEPING && mem[INBOX(i)] == 0); i++
    :: else -> break
    od
}

ltl all_is_run { <>(started && ended == submitters && called == posters) }
