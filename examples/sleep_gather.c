/* Tasks and gather: ten tasks sleep at the same time, so that all of them together take as long as
 * the longest one. Each task hands a value of its own to whoever reads its future.
 *
 *     pica-sleep-gather [COUNT] [STEP]      task i of COUNT sleeps i * STEP seconds (10, 0.03)
 */
#include <pica.h>

#include <stdio.h>
#include <stdlib.h>

enum { MAX_TASKS = 1000 };

struct nap {
    int number;
    double seconds;
};

struct plan {
    size_t count;
    double step;
};

/* The value of a task: made here, freed by the future that holds it. */
static int nap(void *arg) {
    const struct nap *nap = arg;
    double start = pica_time();

    int rc = pica_sleep(nap->seconds);
    if (rc < 0) {
        return rc;
    }
    double *slept = malloc(sizeof(*slept));
    if (slept == NULL) {
        return pica_fail(-ENOMEM, "nap %d", nap->number);
    }
    *slept = pica_time() - start;
    return pica_return(slept, free);
}

/* Prints the results in the order of the tasks, whatever the order in which they ended. */
static int report(size_t count, pica_future *const futures[], const struct nap naps[],
                  double elapsed) {
    double sum = 0;

    for (size_t i = 0; i < count; i++) {
        void *value;
        int rc = pica_future_result(futures[i], &value);
        if (rc < 0) {
            return rc;
        }
        sum += *(double *)value;
        printf("task %d wanted %.2f s, slept %.2f s\n", naps[i].number, naps[i].seconds,
               *(double *)value);
    }
    printf("%zu tasks slept %.2f s in %.2f s\n", count, sum, elapsed);
    return 0;
}

static int sleep_all(const struct plan *plan, struct nap naps[], pica_future *futures[]) {
    double start = pica_time();
    size_t made = 0;
    int rc = 0;

    while (rc >= 0 && made < plan->count) {
        pica_task *task;
        naps[made] = (struct nap){(int)made + 1, plan->step * (double)(made + 1)};
        rc = pica_create_task(&task, nap, &naps[made]);
        if (rc >= 0) {
            futures[made++] = PICA_FUTURE(task);
        }
    }
    if (rc >= 0) {
        rc = pica_gather(made, futures, 0);
    }
    if (rc >= 0) {
        rc = report(made, futures, naps, pica_time() - start);
    } else {
        /* gather returns at the first failure; the others still read naps. */
        (void)pica_wait_all_tasks(1);
    }
    for (size_t i = 0; i < made; i++) {
        pica_future_unref(futures[i]);
    }
    return rc;
}

static int amain(void *arg) {
    const struct plan *plan = arg;
    struct nap *naps = calloc(plan->count, sizeof(*naps));
    pica_future **futures = calloc(plan->count, sizeof(*futures));
    int rc = -ENOMEM;

    if (naps != NULL && futures != NULL) {
        rc = sleep_all(plan, naps, futures);
    }
    free(futures);
    free(naps);
    return rc;
}

int main(int argc, char **argv) {
    struct plan plan = {10, 0.03};

    if (argc > 1) {
        plan.count = strtoul(argv[1], NULL, 10);
    }
    if (argc > 2) {
        plan.step = strtod(argv[2], NULL);
    }
    if (argc > 3 || plan.count < 1 || plan.count > MAX_TASKS || !(plan.step >= 0)) {
        fprintf(stderr, "usage: %s [COUNT 1..%d] [STEP]\n", argv[0], MAX_TASKS);
        return 2;
    }
    int rc = pica_run(amain, &plan);
    if (rc < 0) {
        fprintf(stderr, "sleep_gather: %s\n", pica_strerror(rc));
        return 1;
    }
    return 0;
}
