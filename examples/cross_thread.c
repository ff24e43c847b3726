/* Plain threads and a runtime: three ways into the loops from threads that Pica did not make.
 *
 *   pica_queue_put_nowait            hands values to a task that waits for them
 *   pica_run_coroutine_threadsafe    runs a coroutine there, and waits here for its result
 *   pica_call_soon_threadsafe        runs a callback on a given loop
 *
 *     pica-cross-thread [THREADS] [ITEMS]      (4, 1000)
 */
#include <pica.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_THREADS = 64 };

struct shared {
    pica_runtime *rt;
    pica_queue queue;
    pica_event all_left;
    long threads;
    long items; /* of each thread */
    long left;  /* counted by callbacks of loop 0 only: they never overlap, so no lock */
};

struct producer {
    struct shared *shared;
    pthread_t thread;
    long number;
    long square;
    int rc;
};

/* Runs in the runtime, for a producer that waits for it. */
static int square(void *arg) {
    struct producer *producer = arg;

    int rc = pica_sleep(0.01);
    producer->square = producer->number * producer->number;
    return rc;
}

/* A callback of loop 0. */
static void one_left(void *arg) {
    struct shared *shared = arg;

    if (++shared->left == shared->threads) {
        pica_event_set(&shared->all_left);
    }
}

static int ask_square(struct producer *producer) {
    pica_thread_future *future;

    int rc = pica_run_coroutine_threadsafe(producer->shared->rt, square, producer, &future);
    if (rc >= 0) {
        /* This blocks the thread, which is what a plain thread may do. */
        (void)pica_thread_future_wait(future, PICA_FOREVER);
        rc = pica_thread_future_result(future, NULL);
        pica_thread_future_free(future);
    }
    return rc;
}

static void *produce(void *arg) {
    struct producer *producer = arg;
    struct shared *shared = producer->shared;

    for (long i = 1; i <= shared->items && producer->rc >= 0; i++) {
        producer->rc = pica_queue_put_nowait(&shared->queue, (void *)i);
    }
    if (producer->rc >= 0) {
        producer->rc = ask_square(producer);
    } else {
        /* The consumer must not wait for items that will never come. */
        pica_queue_shutdown(&shared->queue, 0, NULL);
    }
    pica_loop *loop = pica_runtime_loop(shared->rt, 0);
    if (pica_call_soon_threadsafe(loop, one_left, shared, NULL) < 0) {
        pica_stop(shared->rt);
    }
    return NULL;
}

/* The task that the producers feed; ends when every producer has said that it leaves. */
static int consume(void *arg) {
    struct shared *shared = arg;
    long sum = 0;
    int rc = 0;

    for (long n = shared->threads * shared->items; rc >= 0 && n > 0; n--) {
        void *item = NULL;
        rc = pica_queue_get(&shared->queue, &item);
        sum += (long)item;
    }
    int waited = pica_event_wait(&shared->all_left);
    if (rc >= 0) {
        printf("%ld items, sum %ld\n", shared->threads * shared->items, sum);
    }
    return rc < 0 ? rc : waited;
}

static int run(struct shared *shared) {
    struct producer producers[MAX_THREADS];
    long started = 0;
    int rc = 0;

    for (; started < shared->threads; started++) {
        producers[started] = (struct producer){.shared = shared, .number = started + 1};
        rc = -pthread_create(&producers[started].thread, NULL, produce, &producers[started]);
        if (rc < 0) {
            break;
        }
    }
    /* With fewer threads than asked for; no task or callback has run yet, so nobody reads this. */
    shared->threads = started;
    int ran = started > 0 ? pica_run_until_complete(shared->rt, consume, shared) : 0;
    rc = rc < 0 ? rc : ran;
    for (long i = 0; i < started; i++) {
        pthread_join(producers[i].thread, NULL);
        printf("thread %ld got square %ld\n", producers[i].number, producers[i].square);
        rc = rc < 0 ? rc : producers[i].rc;
    }
    return rc;
}

int main(int argc, char **argv) {
    static struct shared shared = {.all_left = PICA_EVENT_INIT};

    shared.threads = argc > 1 ? strtol(argv[1], NULL, 10) : 4;
    shared.items = argc > 2 ? strtol(argv[2], NULL, 10) : 1000;
    if (argc > 3 || shared.threads < 1 || shared.threads > MAX_THREADS || shared.items < 0) {
        fprintf(stderr, "usage: %s [THREADS 1..%d] [ITEMS]\n", argv[0], MAX_THREADS);
        return 2;
    }
    pica_queue_init(&shared.queue, 0);
    int rc = pica_runtime_new(&shared.rt, NULL);
    if (rc >= 0) {
        rc = run(&shared);
        (void)pica_close(shared.rt);
    }
    pica_queue_destroy(&shared.queue, NULL);
    if (rc < 0) {
        fprintf(stderr, "cross_thread: %s\n", pica_strerror(rc));
    }
    return rc < 0;
}
