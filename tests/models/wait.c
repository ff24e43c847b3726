/* runtime/wait.c and cancel.c: a wait node that lies in memory of its own, freed as soon as the
 * wait is over. FIRERS complete it if they find it, one of them, and CANCELLERS cancel the task,
 * which ends the wait if nobody else does. */
#include "tests/models/tasks.h"

#include "runtime/cancel.c"
#include "runtime/wait.c"

const struct pica__wait_ops pica__member_ops = {"gather", NULL};

void pica__task_unref(pica_task *t) {
    assert(t == NULL);
}

struct node {
    pica__wait wait;
    bool linked;
};

static pica__lock_t node_lock;
static struct node *waiting; /* under node_lock */
static int result;
static int data[2]; /* plain: what the one who fires has written */

static bool node_commit(pica__wait *wait) {
    struct node *node = (struct node *)(void *)wait;
    pica__lock(&node_lock);
    bool waits = pica__wait_publish(wait);
    if (waits) {
        waiting = node;
        node->linked = true;
    }
    pica__unlock(&node_lock);
    return waits;
}

static bool node_withdraw(pica__wait *wait) {
    struct node *node = (struct node *)(void *)wait;
    pica__lock(&node_lock);
    bool linked = node->linked;
    node->linked = false;
    waiting = linked ? NULL : waiting;
    pica__unlock(&node_lock);
    return linked;
}

static const struct pica__wait_ops node_ops = {"node", node_withdraw};

static void *waiter(void *arg) {
    (void)arg;
    model_self = &worker;
    struct node *node = malloc(sizeof *node);
    node->wait.ops = &node_ops;
    node->wait.task = &task;
    node->wait.target = NULL;
    node->linked = false;
    result = pica__suspend(&node->wait, node_commit);
    assert(result == PICA_ECANCELED || data[result - 1] == result);
    free(node);
    return NULL;
}

/* The lock is free when the node is fired: it does not order what comes before. */
static void *firer(void *arg) {
    int number = (int)(uintptr_t)arg;
    pica__lock(&node_lock);
    struct node *node = waiting;
    if (node != NULL) {
        node->linked = false;
        waiting = NULL;
    }
    pica__unlock(&node_lock);
    if (node != NULL) {
        data[number - 1] = number;
        pica__wait_fire(&node->wait, number);
    }
    return NULL;
}

static void *canceller(void *arg) {
    (void)arg;
    bool recorded = pica__cancel(&task);
    assert(recorded);
    return NULL;
}

int main(void) {
    task_init();
    pica__lock_init(&node_lock);
    pthread_t threads[1 + FIRERS + CANCELLERS];
    unsigned n = 0;
    threads[n++] = model_start(waiter, 0);
    for (uintptr_t i = 1; i <= FIRERS; i++) {
        threads[n++] = model_start(firer, i);
    }
    for (unsigned i = 0; i < CANCELLERS; i++) {
        threads[n++] = model_start(canceller, 0);
    }
    for (unsigned i = 0; i < n; i++) {
        model_join(threads[i]);
    }
    task_check(CANCELLERS, result == PICA_ECANCELED);
    return 0;
}
