/* Loops: FIFO, inbox, timers. See loop.h. */
#include "runtime/loop.h"

#include "runtime/alarm.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/idle.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/worker.h"

/* --- what is still open at the end --- */

void pica__closer_add(pica_loop *loop, pica__closer *closer) {
    pica__lock(&loop->closers.lock);
    pica__list_push_back(&loop->closers.list, &closer->link);
    pica__unlock(&loop->closers.lock);
}

void pica__closer_remove(pica_loop *loop, pica__closer *closer) {
    pica__lock(&loop->closers.lock);
    if (pica__link_linked(&closer->link)) {
        pica__list_remove(&closer->link);
    }
    pica__unlock(&loop->closers.lock);
}

static void close_all(pica__call *call) {
    pica_loop *loop = PICA__CONTAINER_OF(call, pica_loop, close_call);
    for (;;) {
        pica__lock(&loop->closers.lock);
        pica__link *first = pica__list_pop_front(&loop->closers.list);
        pica__closer *closer = NULL;
        if (first != NULL) {
            closer = PICA__CONTAINER_OF(first, pica__closer, link);
            closer->pin(closer);
        }
        pica__unlock(&loop->closers.lock);
        if (closer == NULL) {
            return;
        }
        closer->close(closer);
    }
}

/* --- what others can do in its stead --- */

void pica__rescuer_add(pica_loop *loop, pica__rescuer *rescuer) {
    pica__lock(&loop->rescuers.lock);
    pica__list_push_back(&loop->rescuers.list, &rescuer->link);
    pica__unlock(&loop->rescuers.lock);
}

void pica__rescuer_remove(pica_loop *loop, pica__rescuer *rescuer) {
    pica__lock(&loop->rescuers.lock);
    if (pica__link_linked(&rescuer->link)) {
        pica__list_remove(&rescuer->link);
    }
    pica__unlock(&loop->rescuers.lock);
}

void pica__loop_rescue(pica_loop *loop, bool all) {
    enum { AT_ONCE = 8 }; /* if there are more, the next look is for others: they take turns */
    pica__rescuer *pinned[AT_ONCE];
    unsigned n = 0;
    pica__lock(&loop->rescuers.lock);
    while (n < AT_ONCE) {
        pica__link *first = pica__list_first(&loop->rescuers.list);
        pica__rescuer *rescuer =
            first == NULL ? NULL : PICA__CONTAINER_OF(first, pica__rescuer, link);
        if (rescuer == NULL || (n > 0 && rescuer == pinned[0])) {
            break;
        }
        pica__list_remove(first);
        pica__list_push_back(&loop->rescuers.list, first);
        rescuer->pin(rescuer);
        pinned[n++] = rescuer;
    }
    pica__unlock(&loop->rescuers.lock);
    for (unsigned i = 0; i < n; i++) {
        pinned[i]->rescue(pinned[i], all);
    }
}

int pica__loop_init(pica_loop *loop, pica_runtime *rt, unsigned index) {
    loop->rt = rt;
    loop->index = index;
    loop->worker = &rt->worker[index];
    loop->engine = NULL;
    pica__fifo_init(&loop->ready);
    atomic_init(&loop->ready_count, 0);
    pica__inbox_init(&loop->inbox);
    pica__lock_init(&loop->timers.lock);
    pica__heap_init(&loop->timers.heap);
    atomic_init(&loop->timers.earliest, INT64_MAX);
    atomic_init(&loop->timers.resting, 0);
    pica__alarms_init(loop);
    pica__pauses_init(&loop->pauses);
    pica__lock_init(&loop->registry.lock);
    pica__list_init(&loop->registry.tasks);
    loop->registry.next_id = 0;
    atomic_init(&loop->registry.created, 0);
    atomic_init(&loop->registry.ended, 0);
    pica__lock_init(&loop->closers.lock);
    pica__list_init(&loop->closers.list);
    pica__call_init(&loop->close_call, close_all);
    pica__lock_init(&loop->rescuers.lock);
    pica__list_init(&loop->rescuers.list);
    atomic_init(&loop->objects, 0);
    return 0;
}

void pica__loop_fini(pica_loop *loop) {
    pica__heap_destroy(&loop->timers.heap);
    pica__alarms_fini(loop);
}

bool pica__loop_is_mine(const pica_loop *loop) {
    pica__worker *worker = pica__self();
    return worker != NULL && worker->loop == loop;
}

void pica__loop_post(pica_loop *loop, pica__work *work) {
    pica__worker *worker = pica__self();
    if (worker == NULL || worker->loop != loop) {
        pica_runtime *rt = loop->rt;
        bool visiting = pica__visit(rt);
        pica__inbox_push(&loop->inbox, &work->node);
        pica__worker_wake(loop->worker);
        pica__visit_end(rt, visiting);
        return;
    }
    void *context = pica__tsan_enter(worker->tsan);
    /* What came from elsewhere before this call stays before it. */
    pica__loop_drain_inbox(loop);
    pica__fifo_push(&loop->ready, &work->node);
    pica__count(&loop->ready_count, 1);
    pica__tsan_leave(context);
}

void pica__loop_drain_inbox(pica_loop *loop) {
    pica__fifo_node *node = pica__inbox_take(&loop->inbox);
    while (node != NULL) {
        pica__fifo_node *next = node->next;
        pica__fifo_push(&loop->ready, node);
        pica__count(&loop->ready_count, 1);
        node = next;
    }
}

/* --- timers --- */

int64_t pica__deadline(double seconds) {
    int64_t ns = pica__nanoseconds(seconds);
    int64_t now = pica__now();
    return ns >= INT64_MAX - now ? INT64_MAX : now + ns < 0 ? 0 : now + ns;
}

void pica__timer_init(pica__timer *timer, void (*fire)(pica__timer *timer)) {
    pica__heap_node_init(&timer->node);
    timer->loop = NULL;
    timer->fire = fire;
}

/* With the loop's timers.lock held, after the heap has changed. */
static void timers_changed(pica_loop *loop) {
    pica__heap_node *first = pica__heap_min(&loop->timers.heap);
    atomic_store_explicit(&loop->timers.earliest, first == NULL ? INT64_MAX : first->when,
                          memory_order_relaxed);
}

int pica__timer_put_in(pica_loop *loop, pica__timer *timer, int64_t when) {
    timer->node.when = when;
    timer->due = when;
    int rc = pica__heap_push(&loop->timers.heap, &timer->node);
    timers_changed(loop);
    return rc;
}

void pica__timer_take_out(pica_loop *loop, pica__timer *timer) {
    pica__timer_uncount(loop, timer);
    pica__heap_remove(&loop->timers.heap, &timer->node);
    timers_changed(loop);
}

int pica__timer_push_locked(pica_loop *loop, pica__timer *timer, int64_t when, bool *earliest) {
    timer->loop = loop;
    int rc = pica__timer_put_in(loop, timer, when);
    *earliest = rc == 0 && pica__heap_min(&loop->timers.heap) == &timer->node;
    return rc;
}

void pica__timer_wake(pica_loop *loop) {
    /* The owner looks at its heap before it sleeps; others must tell it. */
    if (!pica__loop_is_mine(loop)) {
        pica__worker_wake(loop->worker);
    }
}

PICA__HOT int pica__timer_arm(pica_loop *loop, pica__timer *timer, int64_t when) {
    pica_runtime *rt = loop->rt;
    bool visiting = pica__visit(rt);
    bool earliest;
    pica__lock(&loop->timers.lock);
    int rc = pica__timer_push_locked(loop, timer, when, &earliest);
    pica__unlock(&loop->timers.lock);
    if (earliest) {
        pica__timer_wake(loop);
    }
    pica__visit_end(rt, visiting);
    return rc;
}

bool pica__timer_cancel(pica__timer *timer) {
    pica_loop *loop = timer->loop;
    if (loop == NULL) {
        return false;
    }
    pica__lock(&loop->timers.lock);
    bool in = pica__heap_node_in(&timer->node);
    if (in) {
        pica__timer_take_out(loop, timer);
    }
    pica__unlock(&loop->timers.lock);
    return in;
}

/* With the loop's timers.lock held. The earliest timer that is to fire now, taken out; NULL: none. Those that were
 * moved meanwhile get their place. */
static pica__timer *pop_due(pica_loop *loop, int64_t now) {
    pica__heap_node *first;
    while ((first = pica__heap_min(&loop->timers.heap)) != NULL && first->when <= now) {
        pica__timer *timer = PICA__CONTAINER_OF(first, pica__timer, node);
        pica__timer_take_out(loop, timer);
        if (pica__timer_rests(timer)) {
            continue;
        }
        /* A limit that would count from the next look counts from now. */
        int64_t due = timer->due < 0 ? now - timer->due : timer->due;
        if (due <= now) {
            return timer;
        }
        int rc = pica__timer_put_in(loop, timer, due);
        PICA__CHECK(rc == 0); /* one place is free */
    }
    return NULL;
}

PICA__HOT unsigned pica__loop_fire_timers(pica_loop *loop, int64_t now) {
    unsigned fired = loop->pauses.earliest <= now ? pica__pauses_fire(&loop->pauses, now) : 0;
    for (;;) {
        pica__lock(&loop->timers.lock);
        pica__timer *timer = pop_due(loop, now);
        void (*fire)(pica__timer *) = timer == NULL ? NULL : timer->fire;
        pica__unlock(&loop->timers.lock);
        if (fire == NULL) {
            return fired;
        }
        fire(timer);
        fired++;
    }
}

/* --- public --- */

PICA__NO_TSAN pica_loop *pica_current_loop(void) {
    pica__worker *worker = pica__self();
    if (worker == NULL) {
        return NULL;
    }
    return worker->current == NULL ? worker->loop : worker->current->loop;
}

double pica_time(void) {
    return (double)pica__now() * 1e-9;
}

pica_runtime *pica_loop_runtime(pica_loop *loop) {
    return loop->rt;
}

unsigned pica_loop_index(const pica_loop *loop) {
    return loop->index;
}
