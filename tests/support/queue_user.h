/* Tasks that use a queue once, and items that are numbers, for the tests of pica_queue. */
#ifndef QUEUE_USER_H
#define QUEUE_USER_H

#include <pica.h>

#include <stdint.h>

#include "tests/support/parked.h"
#include "tests/support/pt.h"

enum { MANY = 13 };

/* Items are numbers, written as pointers. */
static inline void *item(intptr_t n) {
    return (void *)n;
}

static inline intptr_t number(void *p) {
    return (intptr_t)p;
}

/* One task that puts or gets once. */
struct user {
    pica_queue *queue;
    void *item;
    int rc;      /* 1 as long as it waits */
    int pending; /* of a checkpoint behind it */
};

static inline int put_once(void *arg) {
    struct user *u = arg;
    u->rc = pica_queue_put(u->queue, u->item);
    u->pending = pica_checkpoint();
    return 0;
}

static inline int get_once(void *arg) {
    struct user *u = arg;
    u->rc = pica_queue_get(u->queue, &u->item);
    u->pending = pica_checkpoint();
    return 0;
}

static inline int join_once(void *arg) {
    struct user *u = arg;
    u->rc = pica_queue_join(u->queue);
    u->pending = pica_checkpoint();
    return 0;
}

static inline void expect(pica_queue *queue, intptr_t n) {
    void *got = NULL;
    PT_EQ(pica_queue_get_nowait(queue, &got), 0);
    PT_EQ(number(got), n);
}

static inline void expect_empty(pica_queue *queue) {
    void *got = item(-7);
    PT_EQ(pica_queue_size(queue), 0);
    PT_EQ(pica_queue_get_nowait(queue, &got), -EAGAIN);
    PT_EQ(number(got), -7);
}

/* A destructor, and how often it was called for each number. */
static int destroyed[64];

static inline void count_destroyed(void *p) {
    destroyed[number(p)]++;
}

#endif
