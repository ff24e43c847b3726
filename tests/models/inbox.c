/* runtime/base/inbox.h: PUSHERS push two messages each while the owner takes; each comes once,
 * those of one pusher in their order, and as often as it was filled somebody was told that it had
 * been empty. */
#include "tests/models/model.h"

#include "runtime/base/inbox.h"

enum { EACH = 2 };

struct message {
    pica__fifo_node node;
    unsigned from, number; /* plain: handed over by the box */
};

static pica__inbox box;
static struct message messages[PUSHERS][EACH];
static unsigned was_empty[PUSHERS];
static unsigned last[PUSHERS];
static unsigned takings;

static void *pusher(void *arg) {
    uintptr_t who = (uintptr_t)arg;
    for (unsigned i = 0; i < EACH; i++) {
        struct message *m = &messages[who][i];
        m->from = (unsigned)who;
        m->number = i + 1;
        was_empty[who] += pica__inbox_push(&box, &m->node);
    }
    return NULL;
}

static void take(void) {
    pica__fifo_node *node = pica__inbox_take(&box);
    takings += node != NULL;
    while (node != NULL) {
        struct message *m = (struct message *)(void *)node;
        node = node->next;
        assert(m->number == last[m->from] + 1);
        last[m->from] = m->number;
    }
}

static void *owner(void *arg) {
    (void)arg;
    take();
    take();
    return NULL;
}

int main(void) {
    pica__inbox_init(&box);
    pthread_t threads[PUSHERS + 1];
    for (uintptr_t i = 0; i < PUSHERS; i++) {
        threads[i] = model_start(pusher, i);
    }
    threads[PUSHERS] = model_start(owner, 0);
    for (unsigned i = 0; i <= PUSHERS; i++) {
        model_join(threads[i]);
    }
    take();
    unsigned told = 0;
    for (unsigned i = 0; i < PUSHERS; i++) {
        assert(last[i] == EACH);
        told += was_empty[i];
    }
    assert(told == takings);
    return 0;
}
