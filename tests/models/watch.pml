/* Who watches: runtime/worker.c park, begin_duty, end_duty and steal_from_stuck. Work lies where
 * nobody is told of it (a LIFO slot), behind a worker that computes until that work has run;
 * somebody who sleeps with a bound must come.
 *
 * Here a sleep with a bound may end at any time, and time is no more than that. One memory for
 * all, and a critical section is a step: fences are the business of idle.pml. The list of sleepers
 * is taken from in any order.
 *
 * One worker after the other is kept busy: a completion of I/O wakes worker 0, whose task wakes
 * another one and computes until that has run, and so on to the last task, which only runs. So
 * each of CHAIN tasks but the last occupies a worker. With two workers it does not show that who
 * watched may get stuck itself, so there must be three.
 *
 *   WORKERS, CHAIN, DEFECT    in the environment of the verifier; CHAIN at most WORKERS
 */
#define MOST 3
#define DEFECT_NO_WATCH 1     /* nobody takes the duty of a watcher */
#define DEFECT_NO_CALL 2      /* who wakes up busy wakes nobody to watch */
#define DEFECT_KEEP_DUTY 4    /* who is back from sleep does not give its duty back */
#define DEFECT_NO_LIFO 5      /* who looks after a stuck worker leaves its LIFO slot alone */
#define DEFECT_NO_RELIEF 3    /* a watcher that takes work wakes nobody to watch in its stead */
#define DEFECT_NO_CHOSEN 6    /* who was chosen does not know that it is counted as a searcher */

#define AWAKE 0
#define SLEEPING 1
#define NOTIFIED 2
#define NOBODY 3

#define NO_DUTY 0
#define WATCH 1
#define GUARD 2

c_decl {
\#include <stdlib.h>
    static unsigned char from_environment(const char *name) {
        const char *value = getenv(name);
        return value == NULL ? 0 : (unsigned char)atoi(value);
    }
}
byte workers, chain, defect;

byte searching, sleeping, watched, guarded; /* rt->idle */
byte sleep[MOST];
bool listed[MOST];
bool woken[MOST];     /* the engine: a wake */
bool event;           /* the engine of worker 0: a completion, which makes task 0 ready there */
byte steps[MOST];     /* pica__worker.steps */
byte lifo[MOST];      /* 0, or 1 + the task */
byte begun, ended;    /* tasks run in their order */

/* idle.c pica__idle_notify: as a step, from the look at the counters on. (That they may be old by
 * the time of the lock is in idle.pml.) */
inline idle_notify() {
    atomic {
        if
        :: searching == 0 && sleeping > 0 ->
            if
            :: listed[0] -> who = 0
            :: listed[1] -> who = 1
            :: listed[2] -> who = 2
            fi;
            listed[who] = false;
            sleeping--;
            searching++;
            if
            :: sleep[who] == SLEEPING -> sleep[who] = NOTIFIED; woken[who] = true
            :: else -> skip
            fi;
            who = 0
        :: else -> skip
        fi
    }
}

/* worker.c stop_searching */
inline stop_searching(found) {
    if
    :: mine ->
        d_step { mine = false; assert(searching > 0); searching--; last = searching == 0 };
        if
        :: last && found -> last = false; idle_notify()
        :: else -> last = false
        fi
    :: else -> skip
    fi
}

/* A task: it wakes the next one (ready.c ready_here: the slot was empty, so nobody is told), and
 * computes until that has run. worker.c "pica__worker_step" is before it runs. */
inline run_task() {
    atomic {
        steps[me] = 1 - steps[me]; /* it only matters that it changes between two looks at most once more */
        begun++;
        if
        :: begun < chain -> lifo[me] = begun + 1
        :: else -> skip
        fi;
        mark = begun
    };
    atomic { mark == chain || ended >= chain - mark -> ended++; mark = 0 }
}

proctype worker(byte me) {
    byte who, mark, duty, i, task;
    byte seen[MOST]; /* 0: never looked; else 1 + steps */
    bool mine, last, chosen, delivered, busy;
    goto sleep_now;
turn: /* worker.c turn: pica__engine_wait, run_tasks: pica__worker_pick */
    task = 0;
    if
    :: delivered -> delivered = false; task = 1
    :: else -> d_step { task = lifo[me]; lifo[me] = 0 }
    fi;
    if
    :: task != 0 ->
        task = 0;
        stop_searching(true);
        run_task();
        goto turn
    :: else -> skip
    fi;
    /* worker.c run_from_elsewhere: a stolen task would come from a deque; the slots are for the
     * watcher */
    atomic {
        if
        :: !mine && 2 * searching < workers -> searching++; mine = true
        :: else -> skip
        fi
    };
    /* worker.c park */
    stop_searching(false);
sleep_now:
    atomic { sleep[me] = SLEEPING; listed[me] = true; sleeping++ }; /* pica__idle_enter */
    /* worker.c begin_duty; active_lately may say either */
    atomic {
        duty = NO_DUTY;
        if
        :: sleeping == workers -> skip /* "and not active lately" */
        :: watched == 0 && defect != DEFECT_NO_WATCH -> watched = 1; duty = WATCH
        :: (watched != 0 || defect == DEFECT_NO_WATCH) && guarded == 0 -> guarded = 1; duty = GUARD
        :: (watched != 0 || defect == DEFECT_NO_WATCH) && guarded != 0 -> skip
        fi
    };
    /* pica__engine_wait */
end_sleep:
    atomic {
        if
        :: me == 0 && event -> event = false; delivered = true; busy = true
        :: woken[me] -> busy = true /* a wake is a completion, too */
        :: duty != NO_DUTY && begun != ended -> skip /* the bound has passed */
        fi;
        woken[me] = false
    };
    /* pica__idle_leave */
    atomic {
        chosen = !listed[me];
        if
        :: listed[me] -> listed[me] = false; sleeping--
        :: else -> skip
        fi;
        sleep[me] = AWAKE;
        mine = chosen && defect != DEFECT_NO_CHOSEN;
        chosen = false
    };
    /* worker.c end_duty, and call_watcher: "delivered > 0" */
    atomic {
        if
        :: duty == WATCH && defect != DEFECT_KEEP_DUTY -> watched = 0
        :: duty == GUARD && defect != DEFECT_KEEP_DUTY -> guarded = 0
        :: else -> skip
        fi
    };
    if
    :: busy && watched == 0 && guarded == 0 && defect != DEFECT_NO_CALL -> idle_notify()
    :: else -> skip
    fi;
    /* "duty == WATCH && look_is_due": steal_from_stuck, steal_from(stuck) */
    if
    :: duty == WATCH && !busy ->
        duty = NO_DUTY;
        i = 0;
        do
        :: i < workers ->
            d_step {
                last = seen[i] == 1 + steps[i] && sleep[i] == AWAKE;
                seen[i] = 1 + steps[i];
                if
                :: last && i != me && task == 0 && defect != DEFECT_NO_LIFO -> task = lifo[i]; lifo[i] = 0
                :: else -> skip
                fi;
                last = false;
                i++
            }
        :: else -> break
        od;
        i = 0;
        if
        :: task != 0 ->
            task = 0;
            stop_searching(true);
            if
            :: watched == 0 && guarded == 0 && defect != DEFECT_NO_RELIEF -> idle_notify() /* call_watcher */
            :: else -> skip
            fi;
            run_task()
        :: else -> skip
        fi
    :: else -> duty = NO_DUTY
    fi;
    busy = false;
    goto turn
}

init {
    byte i;
    d_step {
        c_code {
            now.workers = from_environment("WORKERS");
            now.chain = from_environment("CHAIN");
            now.defect = from_environment("DEFECT");
        }
        assert(workers >= 2 && workers <= MOST && chain <= workers);
        event = true
    };
    atomic {
        do
        :: i < workers -> run worker(i); i++
        :: else -> break
        od;
        i = 0
    };
end_quiet:
    timeout;
    assert(ended == chain && chain > 0);
    assert(searching == 0 && sleeping == workers && watched + guarded <= 2)
}

ltl chain_runs { <>(chain > 0 && ended == chain) }
