/* All tasks of a runtime: cancelling them and waiting for their end.
 *
 * Each loop lists the tasks at home there that have not ended. A walk puts a marker (id 0) into the list
 * and moves it along, so the lock is never held while a task is cancelled, and the list may change in
 * between.
 */
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/wait.h"

/* --- walking --- */

/* Moves the marker behind the next task and returns that, with a reference; NULL at the end. */
static pica_task *registry_step(pica_loop *loop, pica__registered *marker) {
    pica_task *task = NULL;
    pica__registry_lock(loop);
    pica__link *next = marker->link.next;
    while (next != &loop->registry.tasks) {
        pica__registered *r = PICA__CONTAINER_OF(next, pica__registered, link);
        if (r->id != 0) {
            task = pica_task_ref(PICA__CONTAINER_OF(r, pica_task, all));
            break;
        }
        next = next->next;
    }
    pica__list_remove(&marker->link);
    if (task != NULL) {
        pica__list_insert_between(&marker->link, next, next->next);
    }
    pica__registry_unlock(loop);
    return task;
}

static void loop_cancel_all(pica_loop *loop, pica_task *except) {
    pica__registered marker = {.id = 0};
    pica__registry_lock(loop);
    uint64_t last = loop->registry.next_id * loop->rt->workers + loop->index + 1;
    pica__list_push_front(&loop->registry.tasks, &marker.link);
    pica__registry_unlock(loop);
    pica_task *task;
    bool old = true;
    /* Tasks created meanwhile are not chased. */
    while ((task = registry_step(loop, &marker)) != NULL) {
        old = task->all.id < last;
        if (old && task != except) {
            (void)pica__cancel(task);
        }
        pica__task_unref(task);
        if (!old) {
            pica__registry_lock(loop);
            pica__list_remove(&marker.link);
            pica__registry_unlock(loop);
            return;
        }
    }
}

void pica__runtime_cancel_all(pica_runtime *rt, pica_task *except) {
    for (unsigned i = 0; i < rt->workers; i++) {
        loop_cancel_all(&rt->loop[i], except);
    }
}

/* --- counting --- */

uint64_t pica__runtime_alive(pica_runtime *rt) {
    uint64_t ended = 0;
    uint64_t created = 0;
    for (unsigned i = 0; i < rt->workers; i++) {
        ended += atomic_load_explicit(&rt->loop[i].registry.ended, memory_order_seq_cst);
    }
    for (unsigned i = 0; i < rt->workers; i++) {
        created += atomic_load_explicit(&rt->loop[i].registry.created, memory_order_seq_cst);
    }
    return created - ended;
}

struct drain_node {
    pica__wait wait;
    pica__link link;
    pica_runtime *rt;
    bool due; /* under the lock: the others have ended; the due ones stand in front */
};

/* With rt->drain.lock: whether only those are left that wait here. The tasks alive are counted after
 * the waiters, which are among them, so no task can be missed. */
static bool drain_done(pica_runtime *rt) {
    uint64_t waiters = 0;
    for (pica__link *l = rt->drain.waiters.next; l != &rt->drain.waiters; l = l->next) {
        waiters++;
    }
    return waiters != 0 && pica__runtime_alive(rt) <= waiters;
}

static struct drain_node *drain_pop(pica_runtime *rt) {
    pica__link *l = rt->drain.waiters.next;
    struct drain_node *node = PICA__CONTAINER_OF(l, struct drain_node, link);
    if (l == &rt->drain.waiters || !node->due) {
        return NULL;
    }
    pica__list_remove(l);
    return node;
}

/* Fires all that wait for the end of the others, if that has come. One at a time, each unlinked under
 * the lock (see wait.h); the first that runs may wait again, for something new. */
static void drain_check(pica_runtime *rt) {
    pica__lock(&rt->drain.lock);
    if (drain_done(rt)) {
        for (pica__link *l = rt->drain.waiters.next; l != &rt->drain.waiters; l = l->next) {
            PICA__CONTAINER_OF(l, struct drain_node, link)->due = true;
        }
        if (pica__phase(rt) < PICA__CLOSING) { /* a closing runtime goes on draining */
            atomic_store_explicit(&rt->drain_mark, 0, memory_order_seq_cst);
        }
    }
    struct drain_node *node = drain_pop(rt);
    pica__unlock(&rt->drain.lock);
    while (node != NULL) {
        pica__wait_fire(&node->wait, 0);
        pica__lock(&rt->drain.lock);
        node = drain_pop(rt);
        pica__unlock(&rt->drain.lock);
    }
}

void pica__task_ended(pica_loop *loop) {
    pica_runtime *rt = loop->rt;
    atomic_fetch_add_explicit(&loop->registry.ended, 1, memory_order_seq_cst);
    uint64_t mark = atomic_load_explicit(&rt->drain_mark, memory_order_seq_cst);
    if (PICA__LIKELY(mark == 0)) {
        return;
    }
    drain_check(rt);
    if (pica__runtime_alive(rt) == 0) {
        atomic_fetch_add_explicit(&rt->drained, 1, memory_order_release);
        pica__control_wake(rt, &rt->drained);
    }
}

void pica__socket_gone(pica_runtime *rt) {
    uint64_t old = atomic_fetch_sub_explicit(&rt->sockets, 1, memory_order_seq_cst);
    PICA__CHECK(old != 0);
    if (old == 1 && pica__phase(rt) == PICA__CLOSING) {
        atomic_fetch_add_explicit(&rt->drained, 1, memory_order_release);
        pica__control_wake(rt, &rt->drained);
    }
}

static bool drain_withdraw(pica__wait *wait) {
    struct drain_node *node = PICA__CONTAINER_OF(wait, struct drain_node, wait);
    pica__lock(&node->rt->drain.lock);
    bool linked = pica__link_linked(&node->link);
    if (linked) {
        pica__list_remove(&node->link);
    }
    pica__unlock(&node->rt->drain.lock);
    return linked;
}

static const struct pica__wait_ops drain_ops = {"wait_all_tasks", drain_withdraw};

static bool drain_commit(pica__wait *wait) {
    struct drain_node *node = PICA__CONTAINER_OF(wait, struct drain_node, wait);
    pica_runtime *rt = node->rt;
    pica__lock(&rt->drain.lock);
    bool waits = pica__wait_publish(wait);
    if (waits) {
        pica__list_push_back(&rt->drain.waiters, &node->link);
        atomic_store_explicit(&rt->drain_mark, 1, memory_order_seq_cst);
    }
    pica__unlock(&rt->drain.lock);
    if (waits) {
        drain_check(rt); /* perhaps nobody else is left to do it */
    }
    return waits;
}

int pica_wait_all_tasks(int cancel) {
    pica_task *self = pica__current();
    if (self == NULL) {
        return PICA_ENOTASK;
    }
    if (cancel) {
        pica__runtime_cancel_all(self->loop->rt, self);
    }
    struct drain_node node = {.wait = {&drain_ops, self, NULL, 0}, .rt = self->loop->rt};
    int rc = pica__suspend(&node.wait, drain_commit);
    return rc == 0 && pica__cancel_take(self) ? PICA_ECANCELED : rc;
}

/* --- what anybody may ask --- */

unsigned pica_runtime_workers(const pica_runtime *rt) {
    return rt->workers;
}

const char *pica_runtime_engine(const pica_runtime *rt) {
    return rt->loop[0].engine->ops->name;
}

pica_loop *pica_runtime_loop(pica_runtime *rt, unsigned i) {
    return i < rt->workers ? &rt->loop[i] : NULL;
}

pica_runtime *pica_current_runtime(void) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? NULL : loop->rt;
}

int pica_is_stack_guard(const void *addr) {
    return pica__is_stack_guard(addr);
}
