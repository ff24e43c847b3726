/* Alarms, and the loop's look that tells them the time. See alarm.h. */
#include "runtime/alarm.h"

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/rt.h"
#include "runtime/worker.h"

/* A look comes within this part of each limit that counts from it. */
enum { PART = 64 };
/* A look is worth its wake if it spares so many reads of the clock. One of a processor that comes from something else
 * takes half a microsecond, as nothing of it is in its caches. */
enum { WORTH = 64 };
/* The least limit that may count from a look, ns. */
static const int64_t LEAST = 1000000000;

/* All below with the loop's timers.lock held. */

static void look_drop(pica_loop *loop) {
    struct pica__look *look = &loop->timers.look;
    if (pica__heap_node_in(&look->timer.node)) {
        pica__timer_take_out(loop, &look->timer);
    }
    look->least = INT64_MAX;
}

/* For limits from `limit` on. Without memory there is none. */
static void look_arm(pica_loop *loop, int64_t now, int64_t limit) {
    struct pica__look *look = &loop->timers.look;
    look_drop(loop);
    if (pica__timer_put_in(loop, &look->timer, now + limit / PART) == 0) {
        look->least = limit;
    }
}

static bool look_grow(struct pica__look *look) {
    uint32_t capacity = look->capacity == 0 ? 64 : look->capacity * 2;
    pica__timer **alarms = pica__realloc(look->alarms, look->capacity * sizeof(pica__timer *),
                                         (size_t)capacity * sizeof(pica__timer *));
    if (alarms == NULL) {
        return false;
    }
    look->alarms = alarms;
    look->capacity = capacity;
    return true;
}

static void look_leave(struct pica__look *look, pica__timer *alarm) {
    pica__timer *last = look->alarms[--look->count];
    look->alarms[alarm->node.tag - 1] = last;
    last->node.tag = alarm->node.tag;
    alarm->node.tag = 0;
}

/* An alarm was set at `now` by the clock, and some time ago at `before`. */
static void look_join(pica_loop *loop, pica__timer *alarm, int64_t limit, int64_t now, int64_t before) {
    struct pica__look *look = &loop->timers.look;
    if (!look->busy || limit < LEAST || now - before > limit / PART) {
        return;
    }
    if (alarm->node.tag == 0) {
        if (look->count == look->capacity && !look_grow(look)) {
            return;
        }
        look->alarms[look->count++] = alarm;
        alarm->node.tag = look->count;
    }
    if (limit < look->least) {
        look_arm(loop, now, limit);
    }
}

/* By what was set since the last time, which was a look's time ago or, if timers were late, more. */
static void look_weigh(pica_loop *loop, int64_t now, int64_t limit) {
    struct pica__look *look = &loop->timers.look;
    look->busy =
        look->sets >= WORTH && now - look->since <= limit / PART * 2 && !loop->worker->fifo && !pica__simulated();
    look->sets = 0;
    look->since = now;
}

/* An alarm in the look learns the time. Returns the limit that it had noted, INT64_MAX if it had none. */
static int64_t tell(pica_loop *loop, pica__timer *alarm, int64_t now) {
    int64_t due = alarm->due;
    if (pica__timer_rests(alarm)) {
        alarm->due = pica__timer_resting(now + loop->timers.look.least); /* it was set lately */
        return INT64_MAX;
    }
    if (due >= 0) {
        return INT64_MAX;
    }
    loop->timers.look.noted--;
    alarm->due = now - due;
    if (alarm->node.when > alarm->due) {
        pica__timer_take_out(loop, alarm);
        int rc = pica__timer_put_in(loop, alarm, alarm->due);
        PICA__CHECK(rc == 0); /* one place is free */
    }
    return -due;
}

/* The look itself, without the lock. Alarms that were set to a limit since the last one stay for the next, which tells
 * them. */
static void look_due(pica__timer *timer) {
    pica_loop *loop = timer->loop;
    struct pica__look *look = &loop->timers.look;
    int64_t now = pica__now();
    pica__lock(&loop->timers.lock);
    look_weigh(loop, now, look->least);
    int64_t least = INT64_MAX;
    uint32_t stay = 0;
    for (uint32_t i = 0; i < look->count; i++) {
        pica__timer *alarm = look->alarms[i];
        int64_t limit = tell(loop, alarm, now);
        if (look->busy && limit != INT64_MAX) {
            look->alarms[stay++] = alarm;
            alarm->node.tag = stay;
            least = limit < least ? limit : least;
        } else {
            alarm->node.tag = 0;
        }
    }
    look->count = stay;
    look->least = INT64_MAX;
    if (stay > 0) {
        look_arm(loop, now, least);
    }
    pica__unlock(&loop->timers.lock);
}

/* By the clock. */
static PICA__NOINLINE int set_now(pica_loop *loop, pica__timer *alarm, int64_t limit) {
    struct pica__look *look = &loop->timers.look;
    int64_t now = pica__now();
    int64_t when = limit < INT64_MAX - now ? now + limit : INT64_MAX;
    if (++look->sets >= WORTH) {
        look_weigh(loop, now, limit);
    }
    bool in = pica__heap_node_in(&alarm->node);
    if (!in || alarm->node.when > when) {
        if (in) {
            pica__timer_take_out(loop, alarm);
        }
        return pica__timer_put_in(loop, alarm, when); /* wakes nobody: the loop is our own, and looks before it sleeps */
    }
    int64_t before = pica__timer_rests(alarm) ? pica__timer_rested(alarm) : alarm->due;
    pica__timer_uncount(loop, alarm);
    alarm->due = when;
    look_join(loop, alarm, limit, now, before - limit);
    return 0;
}

/* in: whether it is in the heap. */
static PICA__INLINE int set(pica_loop *loop, pica__timer *alarm, int64_t limit, bool in) {
    struct pica__look *look = &loop->timers.look;
    if (PICA__UNLIKELY(limit < look->least || alarm->node.tag == 0 || !in)) {
        return set_now(loop, alarm, limit);
    }
    pica__timer_uncount(loop, alarm);
    alarm->due = -limit;
    look->noted++;
    look->sets++;
    return 0;
}

PICA__EACH int pica__alarm_set(pica_loop *loop, pica__timer *alarm, int64_t limit) {
    if (PICA__UNLIKELY(alarm->loop != loop)) {
        pica__alarm_out(alarm); /* of a loop where the task was before */
        alarm->loop = loop;
    }
    pica__lock(&loop->timers.lock);
    int rc = set(loop, alarm, limit, pica__heap_node_in(&alarm->node));
    pica__unlock(&loop->timers.lock);
    return rc;
}

PICA__EACH bool pica__alarm_rest(pica__timer *alarm) {
    pica_loop *loop = alarm->loop;
    pica__lock(&loop->timers.lock);
    bool in = pica__heap_node_in(&alarm->node);
    if (in) {
        pica__timer_uncount(loop, alarm);
        alarm->due = pica__timer_resting(alarm->due < 0 ? 0 : alarm->due);
        pica__timer_count_resting(loop, 1);
    }
    pica__unlock(&loop->timers.lock);
    return in;
}

PICA__EACH int pica__alarm_set_again(pica_loop *loop, pica__timer *alarm, int64_t limit) {
    if (PICA__UNLIKELY(alarm->loop != loop)) {
        return pica__alarm_rest(alarm) ? pica__alarm_set(loop, alarm, limit) : PICA_EINVALSTATE;
    }
    pica__lock(&loop->timers.lock);
    bool in = pica__heap_node_in(&alarm->node);
    int rc = PICA__LIKELY(in) ? set(loop, alarm, limit, in) : PICA_EINVALSTATE;
    pica__unlock(&loop->timers.lock);
    return rc;
}

void pica__alarm_out(pica__timer *alarm) {
    pica_loop *loop = alarm->loop;
    if (loop == NULL) {
        return;
    }
    pica__lock(&loop->timers.lock);
    if (pica__heap_node_in(&alarm->node)) {
        pica__timer_take_out(loop, alarm);
    }
    if (alarm->node.tag != 0) {
        look_leave(&loop->timers.look, alarm);
    }
    pica__unlock(&loop->timers.lock);
}

void pica__loop_drop_resting(pica_loop *loop) {
    struct pica__look *look = &loop->timers.look;
    pica__lock(&loop->timers.lock);
    for (;;) {
        pica__heap_node *first = pica__heap_min(&loop->timers.heap);
        pica__timer *timer = first == NULL ? NULL : PICA__CONTAINER_OF(first, pica__timer, node);
        if (timer == &look->timer && look->noted == 0) {
            look_drop(loop); /* whom it would tell rest, too */
        } else if (timer != NULL && pica__timer_rests(timer)) {
            pica__timer_take_out(loop, timer);
        } else {
            break;
        }
    }
    pica__unlock(&loop->timers.lock);
}

void pica__alarms_init(pica_loop *loop) {
    struct pica__look *look = &loop->timers.look;
    *look = (struct pica__look){.least = INT64_MAX};
    pica__timer_init(&look->timer, look_due);
    look->timer.loop = loop;
}

void pica__alarms_fini(pica_loop *loop) {
    struct pica__look *look = &loop->timers.look;
    pica__free(look->alarms, look->capacity * sizeof(pica__timer *));
}
