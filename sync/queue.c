/* Queue: items go from tasks and threads to tasks and threads, first in, first out.
 *
 * Everything is under one guard. What it keeps true:
 *   - getters wait only while the ring is empty, putters only while it is full (bounded queues), so
 *     never both;
 *   - a put that finds a getter waiting gives it the item directly, a get that finds a putter
 *     waiting takes the oldest item and moves the putter's item in; so what was put or asked for
 *     first is served first, and nobody who comes later can come in between;
 *   - unfinished counts the items that went in and were not reported done; joiners wait only while
 *     it is not 0;
 *   - after SHUTDOWN nobody waits, except joiners.
 *
 * The ring grows by doubling. Memory is got without the guard (grow), and the queue looked at
 * again. A putter that waits needs none: the queue was full, so its ring has all of maxsize.
 *
 * The queue's memory may go as soon as no call on it is under way, except those that have already
 * woken the caller: nodes are fired after the guard was given back, and then nothing else is
 * touched.
 *
 * Order: guard, then nothing; waiters are fired, items destroyed and memory got without it.
 */
#include <pica/sync.h>

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/lock.h"
#include "sync/waiters.h"

enum { FIRST_CAPACITY = 16 };
/* A put has to get memory first. No call returns it. */
enum { NEEDS_ROOM = 2 };

struct __attribute__((may_alias)) queue {
    pica__lock_t guard; /* of everything */
    uint32_t is_shut;
    size_t maxsize; /* constant; 0: no bound */
    /* Items in the ring. Written under the guard, read by pica_queue_size without: relaxed, it is
     * only a number. */
    _Atomic size_t count;
    size_t capacity;
    size_t head; /* the oldest item, < capacity */
    void **ring;
    size_t unfinished;
    pica__waiters getters;
    pica__waiters putters;
    pica__waiters joiners;
};
_Static_assert(sizeof(struct queue) <= sizeof(pica_queue), "pica_queue is too small");

struct queue_wait {
    pica__waiting node;
    struct queue *queue;
    void *item; /* of a putter: until it is taken; of a getter: from when it was given */
};

static struct queue *queue_of(const pica_queue *queue) {
    return (struct queue *)(void *)(uintptr_t)queue;
}

static struct queue_wait *queue_wait_of(pica__waiting *node) {
    return PICA__CONTAINER_OF(node, struct queue_wait, node);
}

void pica_queue_init(pica_queue *queue, size_t maxsize) {
    struct queue *q = queue_of(queue);
    memset(queue, 0, sizeof *queue);
    q->maxsize = maxsize;
}

/* --- the ring, under the guard --- */

static size_t count_of(struct queue *q) {
    return atomic_load_explicit(&q->count, memory_order_relaxed);
}

static void ring_push(struct queue *q, void *item) {
    size_t n = count_of(q);
    size_t to_end = q->capacity - q->head;
    q->ring[n < to_end ? q->head + n : n - to_end] = item;
    atomic_store_explicit(&q->count, n + 1, memory_order_relaxed);
}

static void *ring_pop(struct queue *q) {
    void *item = q->ring[q->head];
    q->head = q->head + 1 == q->capacity ? 0 : q->head + 1;
    atomic_store_explicit(&q->count, count_of(q) - 1, memory_order_relaxed);
    return item;
}

/* Moves the items into a larger ring; returns the old one. */
static void **ring_replace(struct queue *q, void **ring, size_t capacity) {
    void **old = q->ring;
    size_t n = count_of(q);
    size_t to_end = q->capacity - q->head;
    size_t first = n < to_end ? n : to_end;
    if (n != 0) {
        memcpy(ring, old + q->head, first * sizeof *ring);
        memcpy(ring + first, old, (n - first) * sizeof *ring);
    }
    q->ring = ring;
    q->capacity = capacity;
    q->head = 0;
    return old;
}

/* Without the guard: replaces a ring of this capacity, which was full. 0 or -ENOMEM. */
static int grow(struct queue *q, size_t old_capacity) {
    size_t capacity = old_capacity == 0 ? FIRST_CAPACITY : old_capacity * 2;
    if (capacity > SIZE_MAX / sizeof(void *) / 2) {
        return -ENOMEM;
    }
    if (q->maxsize != 0 && capacity > q->maxsize) {
        capacity = q->maxsize;
    }
    void **ring = pica__alloc(capacity * sizeof *ring);
    if (ring == NULL) {
        return -ENOMEM;
    }
    size_t unused = capacity;
    pica__lock(&q->guard);
    if (q->capacity == old_capacity && !q->is_shut) {
        ring = ring_replace(q, ring, capacity);
        unused = old_capacity;
    }
    pica__unlock(&q->guard);
    pica__free(ring, unused * sizeof *ring);
    return 0;
}

/* --- put and get, under the guard --- */

/* Puts the item in, or gives it to *wake, the getter to be fired. 0; PICA_ESHUTDOWN; -EAGAIN: full;
 * NEEDS_ROOM. */
static int put_locked(struct queue *q, void *item, pica__waiting **wake) {
    if (q->is_shut) {
        return PICA_ESHUTDOWN;
    }
    pica__waiting *getter = pica__waiters_pop(&q->getters);
    if (getter != NULL) {
        queue_wait_of(getter)->item = item;
        *wake = getter;
    } else if (q->maxsize != 0 && count_of(q) == q->maxsize) {
        return -EAGAIN;
    } else if (count_of(q) == q->capacity) {
        return NEEDS_ROOM;
    } else {
        ring_push(q, item);
    }
    q->unfinished++;
    return 0;
}

/* Takes the oldest item; *wake is the putter to be fired, whose item went in for it. 0; -EAGAIN:
 * empty; PICA_ESHUTDOWN: empty for ever. */
static int get_locked(struct queue *q, void **item, pica__waiting **wake) {
    if (count_of(q) == 0) {
        return q->is_shut ? PICA_ESHUTDOWN : -EAGAIN;
    }
    *item = ring_pop(q);
    pica__waiting *putter = pica__waiters_pop(&q->putters);
    if (putter != NULL) {
        ring_push(q, queue_wait_of(putter)->item);
        q->unfinished++;
        *wake = putter;
    }
    return 0;
}

/* --- put --- */

int pica_queue_put_nowait(pica_queue *queue, void *item) {
    struct queue *q = queue_of(queue);
    for (;;) {
        pica__waiting *getter = NULL;
        pica__lock(&q->guard);
        int rc = put_locked(q, item, &getter);
        size_t capacity = q->capacity;
        pica__unlock(&q->guard);
        if (getter != NULL) {
            pica__wait_fire(&getter->wait, 0);
        }
        if (rc != NEEDS_ROOM) {
            return rc;
        }
        rc = grow(q, capacity);
        if (rc < 0) {
            return rc;
        }
    }
}

static bool put_commit(pica__wait *wait) {
    struct queue_wait *w = PICA__CONTAINER_OF(wait, struct queue_wait, node.wait);
    struct queue *q = w->queue;
    pica__waiting *getter = NULL;
    bool waits = false;
    pica__lock(&q->guard);
    int rc = put_locked(q, w->item, &getter);
    PICA__CHECK(rc != NEEDS_ROOM); /* it was full just before, and rings do not shrink */
    if (rc != -EAGAIN) {
        pica__waiting_at_once(&w->node, rc);
    } else if (pica__wait_publish(wait)) {
        pica__waiters_push(&q->putters, &w->node);
        waits = true;
    }
    pica__unlock(&q->guard);
    if (getter != NULL) {
        pica__wait_fire(&getter->wait, 0);
    }
    return waits;
}

static bool put_withdraw(pica__wait *wait) {
    struct queue_wait *w = PICA__CONTAINER_OF(wait, struct queue_wait, node.wait);
    struct queue *q = w->queue;
    pica__lock(&q->guard);
    bool withdrawn = pica__waiters_withdraw(&q->putters, &w->node);
    pica__unlock(&q->guard);
    return withdrawn;
}

static const struct pica__wait_ops put_ops = {.what = "queue put", .cancel = put_withdraw};

int pica_queue_put(pica_queue *queue, void *item) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    int rc = pica_queue_put_nowait(queue, item);
    if (rc != -EAGAIN) {
        return rc;
    }
    struct queue *q = queue_of(queue);
    struct queue_wait w = {.node = {.wait = {&put_ops, task, NULL, 0}}, .queue = q, .item = item};
    return pica__waiting_suspend(&w.node, put_commit, &q->guard);
}

/* --- get --- */

int pica_queue_get_nowait(pica_queue *queue, void **item) {
    struct queue *q = queue_of(queue);
    pica__waiting *putter = NULL;
    pica__lock(&q->guard);
    int rc = get_locked(q, item, &putter);
    pica__unlock(&q->guard);
    if (putter != NULL) {
        pica__wait_fire(&putter->wait, 0);
    }
    return rc;
}

static bool get_commit(pica__wait *wait) {
    struct queue_wait *w = PICA__CONTAINER_OF(wait, struct queue_wait, node.wait);
    struct queue *q = w->queue;
    pica__waiting *putter = NULL;
    bool waits = false;
    pica__lock(&q->guard);
    int rc = get_locked(q, &w->item, &putter);
    if (rc != -EAGAIN) {
        pica__waiting_at_once(&w->node, rc);
    } else if (pica__wait_publish(wait)) {
        pica__waiters_push(&q->getters, &w->node);
        waits = true;
    }
    pica__unlock(&q->guard);
    if (putter != NULL) {
        pica__wait_fire(&putter->wait, 0);
    }
    return waits;
}

static bool get_withdraw(pica__wait *wait) {
    struct queue_wait *w = PICA__CONTAINER_OF(wait, struct queue_wait, node.wait);
    struct queue *q = w->queue;
    pica__lock(&q->guard);
    bool withdrawn = pica__waiters_withdraw(&q->getters, &w->node);
    pica__unlock(&q->guard);
    return withdrawn;
}

static const struct pica__wait_ops get_ops = {.what = "queue get", .cancel = get_withdraw};

int pica_queue_get(pica_queue *queue, void **item) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    int rc = pica_queue_get_nowait(queue, item);
    if (rc != -EAGAIN) {
        return rc;
    }
    struct queue *q = queue_of(queue);
    struct queue_wait w = {.node = {.wait = {&get_ops, task, NULL, 0}}, .queue = q};
    rc = pica__waiting_suspend(&w.node, get_commit, &q->guard);
    if (rc == 0) {
        /* Taken, whatever has been asked of the task meanwhile: a cancellation stays pending. */
        *item = w.item;
    }
    return rc;
}

/* --- sizes --- */

size_t pica_queue_size(const pica_queue *queue) {
    return count_of(queue_of(queue));
}

size_t pica_queue_maxsize(const pica_queue *queue) {
    return queue_of(queue)->maxsize;
}

/* --- join --- */

int pica_queue_task_done(pica_queue *queue) {
    struct queue *q = queue_of(queue);
    pica__waiting *joiners = NULL;
    int rc = 0;
    pica__lock(&q->guard);
    if (q->unfinished == 0) {
        rc = -ERANGE;
    } else if (--q->unfinished == 0) {
        joiners = pica__waiters_take_all(&q->joiners);
    }
    pica__unlock(&q->guard);
    pica__waiters_fire_all(joiners, 0);
    return rc;
}

static bool join_commit(pica__wait *wait) {
    struct queue_wait *w = PICA__CONTAINER_OF(wait, struct queue_wait, node.wait);
    struct queue *q = w->queue;
    bool waits = false;
    pica__lock(&q->guard);
    if (q->unfinished == 0) {
        pica__waiting_at_once(&w->node, 0);
    } else if (pica__wait_publish(wait)) {
        pica__waiters_push(&q->joiners, &w->node);
        waits = true;
    }
    pica__unlock(&q->guard);
    return waits;
}

static bool join_withdraw(pica__wait *wait) {
    struct queue_wait *w = PICA__CONTAINER_OF(wait, struct queue_wait, node.wait);
    struct queue *q = w->queue;
    pica__lock(&q->guard);
    bool withdrawn = pica__waiters_withdraw(&q->joiners, &w->node);
    pica__unlock(&q->guard);
    return withdrawn;
}

static const struct pica__wait_ops join_ops = {.what = "queue join", .cancel = join_withdraw};

int pica_queue_join(pica_queue *queue) {
    struct queue *q = queue_of(queue);
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    pica__lock(&q->guard);
    bool done = q->unfinished == 0;
    pica__unlock(&q->guard);
    if (done) {
        return 0;
    }
    struct queue_wait w = {.node = {.wait = {&join_ops, task, NULL, 0}}, .queue = q};
    int rc = pica__waiting_suspend(&w.node, join_commit, &q->guard);
    /* Observation: nothing was taken, so a cancellation that came later still wins. */
    return rc == 0 && pica__cancel_take(task) ? PICA_ECANCELED : rc;
}

/* --- the end --- */

/* A ring that was taken out of a queue, with its items. */
struct remains {
    void **ring;
    size_t capacity;
    size_t head;
    size_t count;
};

/* Under the guard: the items and the memory leave the queue; the items count as done. */
static struct remains take_ring(struct queue *q) {
    struct remains left = {q->ring, q->capacity, q->head, count_of(q)};
    q->ring = NULL;
    q->capacity = 0;
    q->head = 0;
    atomic_store_explicit(&q->count, 0, memory_order_relaxed);
    /* There may be fewer: each report counts, not each report of an item that was got. */
    q->unfinished -= left.count < q->unfinished ? left.count : q->unfinished;
    return left;
}

static void release_items(struct remains left, pica_destroy destroy) {
    for (size_t i = 0; i < left.count && destroy != NULL; i++) {
        size_t to_end = left.capacity - left.head;
        destroy(left.ring[i < to_end ? left.head + i : i - to_end]);
    }
    pica__free(left.ring, left.capacity * sizeof *left.ring);
}

void pica_queue_shutdown(pica_queue *queue, int immediate, pica_destroy destroy) {
    struct queue *q = queue_of(queue);
    struct remains left = {NULL, 0, 0, 0};
    pica__waiting *joiners = NULL;
    pica__lock(&q->guard);
    q->is_shut = 1;
    pica__waiting *putters = pica__waiters_take_all(&q->putters);
    pica__waiting *getters = pica__waiters_take_all(&q->getters);
    if (immediate) {
        left = take_ring(q);
        if (q->unfinished == 0) {
            joiners = pica__waiters_take_all(&q->joiners);
        }
    }
    pica__unlock(&q->guard);
    /* First the items: who joins may release what their destructor needs. */
    release_items(left, destroy);
    pica__waiters_fire_all(putters, PICA_ESHUTDOWN);
    pica__waiters_fire_all(getters, PICA_ESHUTDOWN);
    pica__waiters_fire_all(joiners, 0);
}

void pica_queue_destroy(pica_queue *queue, pica_destroy destroy) {
    pica_queue_shutdown(queue, 1, destroy);
}
