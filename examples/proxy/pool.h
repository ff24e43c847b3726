/* Connections to the backend that wait for their next use: at most POOL_MAX of them, each for at most
 * pool_time seconds. The lock guards the pool; nothing done under it suspends. */
#ifndef PICA_EXAMPLES_PROXY_POOL_H
#define PICA_EXAMPLES_PROXY_POOL_H

#include <pica.h>

#include <stdbool.h>
#include <string.h>

enum { POOL_MAX = 64 };
static double pool_time; /* set before pool_reap starts */

struct backend {
    pica_reader *reader;
    pica_writer *writer;
    double since; /* when it was put into the pool; 0: it is new */
};

static pica_lock pool_lock = PICA_LOCK_INIT;
static struct backend pool[POOL_MAX]; /* the oldest first */
static size_t pooled;

/* Takes the youngest kept connection that is alive, unless a fresh one is asked for, or makes one, in
 * limit seconds; head: the limit of its reader, for heads. */
static int pool_take(struct backend *b, const char *host, unsigned port, size_t head, double limit,
                     bool fresh) {
    pica_timeout timer;
    const char *data;
    for (;;) {
        int rc = pica_lock_acquire(&pool_lock);
        if (rc < 0) {
            return rc;
        }
        *b = fresh || pooled == 0 ? (struct backend){.since = 0} : pool[--pooled];
        pica_lock_release(&pool_lock);
        if (b->since == 0) {
            rc = pica_timeout_enter(&timer, limit);
            if (rc >= 0) {
                rc = pica_open_connection(host, port, head, &b->reader, &b->writer);
                rc = pica_timeout_exit(&timer, rc);
            }
            return rc;
        }
        /* Looks once: an end, or bytes that nobody asked for, would be there already. */
        rc = pica_timeout_enter(&timer, 1e-6);
        rc = rc < 0 ? rc : pica_timeout_exit(&timer, (int)pica_reader_peek(b->reader, &data));
        if (rc == PICA_ETIMEDOUT) {
            return 0;
        }
        pica_writer_release(b->writer);
        if (rc == PICA_ECANCELED) {
            return rc;
        }
    }
}

/* Gives one back that can be used again (keep), or ends it. */
static void pool_give(struct backend *b, bool keep) {
    if (keep && pica_lock_acquire(&pool_lock) >= 0) {
        keep = pooled < POOL_MAX;
        if (keep) {
            b->since = pica_time();
            pool[pooled++] = *b;
        }
        pica_lock_release(&pool_lock);
    } else {
        keep = false;
    }
    if (!keep) {
        pica_writer_abort(b->writer);
        pica_writer_release(b->writer);
    }
}

/* The task that ends kept connections; all of them when it is cancelled. */
static int pool_reap(void *arg) {
    int rc = 0;
    (void)arg;
    while (rc >= 0) {
        size_t old = 0;
        rc = pica_sleep(pool_time / 10);
        while (pica_lock_acquire(&pool_lock) < 0) {
            /* Cancelled, which is delivered once for each request. */
        }
        while (old < pooled && (rc < 0 || pool[old].since < pica_time() - pool_time)) {
            pica_writer_release(pool[old++].writer);
        }
        pooled -= old;
        memmove(pool, pool + old, pooled * sizeof(pool[0]));
        pica_lock_release(&pool_lock);
    }
    return 0;
}

#endif
