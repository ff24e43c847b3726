/* A pool of tasks around a queue: the main task puts ranges of numbers into a bounded queue, a few
 * workers take them and count the primes in each, on all cores. The queue's bound holds the
 * producer back, join waits until every range has been reported done, shutdown ends the workers.
 *
 *     pica-worker-pool [WORKERS] [RANGES]      counts the primes below RANGES * 4000 (8, 64)
 */
#include <pica.h>

#include <stdio.h>
#include <stdlib.h>

enum { RANGE = 4000, QUEUE_SIZE = 16, MAX_WORKERS = 64, MAX_RANGES = 10000 };

struct range {
    unsigned long first;
    unsigned long end;
};

struct pool {
    pica_queue queue;
    unsigned long workers;
    unsigned long ranges;
};

static int is_prime(unsigned long n) {
    if (n < 4 || n % 2 == 0) {
        return n == 2 || n == 3;
    }
    for (unsigned long d = 3; d * d <= n; d += 2) {
        if (n % d == 0) {
            return 0;
        }
    }
    return 1;
}

/* Returns how many primes it found. It keeps its count to itself until then: nothing to lock. */
static int work(void *arg) {
    struct pool *pool = arg;
    int found = 0;

    for (;;) {
        void *item;
        int rc = pica_queue_get(&pool->queue, &item);
        if (rc == PICA_ESHUTDOWN) {
            return found;
        }
        if (rc < 0) {
            return rc;
        }
        struct range *range = item;
        for (unsigned long n = range->first; n < range->end; n++) {
            found += is_prime(n);
        }
        free(range);
        pica_queue_task_done(&pool->queue);
    }
}

static int produce(struct pool *pool) {
    for (unsigned long i = 0; i < pool->ranges; i++) {
        struct range *range = malloc(sizeof(*range));
        if (range == NULL) {
            return -ENOMEM;
        }
        *range = (struct range){i * RANGE, (i + 1) * RANGE};
        int rc = pica_queue_put(&pool->queue, range);
        if (rc < 0) {
            free(range);
            return rc;
        }
    }
    return pica_queue_join(&pool->queue);
}

/* Ends the workers, after what is left in the queue or at once, and adds up their results. */
static int collect(struct pool *pool, size_t count, pica_task *tasks[], int immediate) {
    long sum = 0;
    int error = 0;

    pica_queue_shutdown(&pool->queue, immediate, free);
    for (size_t i = 0; i < count; i++) {
        int rc = pica_join(tasks[i], NULL);
        if (rc < 0) {
            error = rc;
        } else {
            sum += rc;
        }
    }
    if (error == 0 && !immediate) {
        printf("%ld primes below %lu, found by %zu workers in %lu ranges\n", sum,
               pool->ranges * RANGE, count, pool->ranges);
    }
    return error;
}

static int amain(void *arg) {
    struct pool *pool = arg;
    pica_task *tasks[MAX_WORKERS];
    size_t count = 0;
    int rc = 0;

    pica_queue_init(&pool->queue, QUEUE_SIZE);
    while (rc >= 0 && count < pool->workers) {
        rc = pica_create_task(&tasks[count], work, pool);
        if (rc >= 0) {
            count++;
        }
    }
    if (rc >= 0) {
        rc = produce(pool);
    }
    int joined = collect(pool, count, tasks, rc < 0);
    pica_queue_destroy(&pool->queue, free);
    return rc < 0 ? rc : joined;
}

int main(int argc, char **argv) {
    static struct pool pool = {.workers = 8, .ranges = 64};

    if (argc > 1) {
        pool.workers = strtoul(argv[1], NULL, 10);
    }
    if (argc > 2) {
        pool.ranges = strtoul(argv[2], NULL, 10);
    }
    if (argc > 3 || pool.workers < 1 || pool.workers > MAX_WORKERS || pool.ranges > MAX_RANGES) {
        fprintf(stderr, "usage: %s [WORKERS 1..%d] [RANGES 0..%d]\n", argv[0], MAX_WORKERS,
                MAX_RANGES);
        return 2;
    }
    int rc = pica_run(amain, &pool);
    if (rc < 0) {
        fprintf(stderr, "worker_pool: %s\n", pica_strerror(rc));
        return 1;
    }
    return 0;
}
