/* Producers and consumers over a bounded queue, some of which are cancelled: each item comes out exactly once, and
 * those of one producer in its order. */
#include "tests/workloads/workload.h"

enum { PRODUCERS = 3, CONSUMERS = 4, ITEMS = 24 };

static pica_queue queue;
static atomic_uint taken[PRODUCERS * ITEMS];
static atomic_uint put_count[PRODUCERS];

static int produce(void *arg) {
    uintptr_t id = (uintptr_t)arg;
    for (uintptr_t i = 0; i < ITEMS; i++) {
        int rc = pica_queue_put(&queue, (void *)(id * ITEMS + i + 1));
        if (rc < 0) {
            WL_EQ(rc, PICA_ECANCELED);
            return rc;
        }
        atomic_fetch_add(&put_count[id], 1);
        if (wl_choose(2) == 0) {
            (void)pica_sleep(0.001);
        }
    }
    return 0;
}

static int job(void *arg) {
    return (int)(uintptr_t)arg;
}

static int consume(void *arg) {
    int last[PRODUCERS];
    (void)arg;
    memset(last, -1, sizeof last);
    for (;;) {
        void *item;
        int rc = pica_queue_get(&queue, &item);
        if (rc < 0) {
            return rc == PICA_ESHUTDOWN ? 0 : rc;
        }
        uintptr_t n = (uintptr_t)item - 1;
        WL_EQ(atomic_fetch_add(&taken[n], 1), 0);
        int number = (int)(n % ITEMS);
        WL_CHECK(number > last[n / ITEMS]);
        last[n / ITEMS] = number;
        if (wl_choose(4) == 0) {
            rc = pica_to_thread(job, item);
            WL_CHECK(rc == (int)(n + 1) || rc == PICA_ECANCELED || rc == -EAGAIN || rc == -ENOMEM);
        } else {
            (void)pica_yield();
        }
        WL_EQ(pica_queue_task_done(&queue), 0);
        rc = pica_checkpoint();
        if (rc < 0) {
            return rc;
        }
    }
}

int wl_pool(void *arg) {
    (void)arg;
    pica_task *producer[PRODUCERS];
    pica_task *consumer[CONSUMERS];
    memset(taken, 0, sizeof taken);
    memset(put_count, 0, sizeof put_count);
    pica_queue_init(&queue, 1 + wl_choose(4));
    for (uintptr_t i = 0; i < PRODUCERS; i++) {
        producer[i] = wl_task(produce, (void *)i, "producer");
    }
    for (uintptr_t i = 0; i < CONSUMERS; i++) {
        consumer[i] = wl_task(consume, NULL, "consumer");
    }
    (void)pica_sleep(0.001 * wl_choose(4));
    pica_task_cancel(producer[0]);
    pica_task_cancel(consumer[0]);
    pica_task_cancel(consumer[1]);
    for (int i = 0; i < PRODUCERS; i++) {
        int rc = wl_join(producer[i]);
        WL_CHECK(rc == 0 || (i == 0 && rc == PICA_ECANCELED) || wl_lacks(rc));
    }
    WL_EQ(pica_queue_join(&queue), 0);
    pica_queue_shutdown(&queue, 0, NULL);
    for (int i = 0; i < CONSUMERS; i++) {
        int rc = wl_join(consumer[i]);
        WL_CHECK(rc == 0 || (i < 2 && rc == PICA_ECANCELED) || wl_lacks(rc));
    }
    for (unsigned i = 0; i < PRODUCERS * ITEMS; i++) {
        WL_EQ(atomic_load(&taken[i]), i % ITEMS < atomic_load(&put_count[i / ITEMS]));
    }
    WL_EQ(pica_queue_size(&queue), 0);
    pica_queue_destroy(&queue, NULL);
    wl_drain();
    return 0;
}
