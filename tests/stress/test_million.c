/* Many coroutines parked at once, and what each costs: anonymous memory and page tables, together
 * at most 4.9 KiB at the default stride of 256 KiB. That is one page of stack, an eighth of a page
 * of page table, and the task's record. While they are parked, further runtimes start and stop
 * beside them; then all are woken and joined.
 *
 * 20,000 in every run of the tests, or as many as guards allow; `million full` parks 1,000,000. */
#include <pica.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/sysinfo.h>

#include "runtime/base/compiler.h"
#include "runtime/task.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"
#include "tests/support/stacks.h"

#define SANITIZED (PICA__TSAN || PICA__ASAN)

enum {
    BYTES_MAX = 5017, /* 4.9 KiB */
    SHORT = PICA__TSAN ? 2000 : 20000,
    FULL = 1000000,
    SHORT_RUNTIMES = 10,
    FULL_RUNTIMES = 100
};

struct million {
    size_t n;
    unsigned runtimes;
    pica_task **task;
    pica_event go;
    /* Added to by each task as it goes to park; the last completes `parked`. */
    atomic_size_t arrived;
    /* Added to by each task as it goes on; read after the joins. */
    atomic_size_t left;
    pica_future *parked;
    pica_future *beside; /* completed by the thread that runs the other runtimes */
};

static int parker(void *arg) {
    struct million *m = arg;
    if (atomic_fetch_add(&m->arrived, 1) + 1 == m->n) {
        PT_EQ(pica_future_set_result(m->parked, NULL, NULL), 0);
    }
    int rc = pica_event_wait(&m->go);
    atomic_fetch_add(&m->left, 1);
    return rc;
}

/* --- runtimes beside --- */

static int small_leaf(void *arg) {
    (void)arg;
    return pica_yield();
}

static int small_main(void *arg) {
    pica_task *task[4];
    (void)arg;
    for (int i = 0; i < 4; i++) {
        PT_REQUIRE(pica_create_task(&task[i], small_leaf, NULL) == 0);
    }
    for (int i = 0; i < 4; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 7;
}

static void *beside_main(void *arg) {
    struct million *m = arg;
    for (unsigned i = 0; i < m->runtimes; i++) {
        PT_EQ(pica_run(small_main, NULL), 7);
    }
    PT_EQ(pica_future_set_result(m->beside, NULL, NULL), 0);
    return NULL;
}

/* --- the main task --- */

static void create_all(struct million *m) {
    for (size_t i = 0; i < m->n; i++) {
        PT_REQUIRE(pica_create_task(&m->task[i], parker, m) == 0);
        if (i % 64 == 0) {
            PT_EQ(pica_yield(), 0);
        }
    }
    PT_EQ(pica_await(m->parked, NULL), 0);
}

static void run_beside(struct million *m) {
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, beside_main, m) == 0);
    PT_EQ(pica_await(m->beside, NULL), 0);
    pthread_join(thread, NULL);
    PT_EQ(atomic_load(&m->left), 0);
}

static void wake_all(struct million *m) {
    pica_event_set(&m->go);
    for (size_t i = 0; i < m->n; i++) {
        PT_EQ(pica_join(m->task[i], NULL), 0);
    }
    PT_EQ(atomic_load(&m->left), m->n);
}

static double per_task(long bytes, size_t n) {
    return (double)bytes / (double)n;
}

static int million_main(void *arg) {
    struct million *m = arg;
    long rss = procfs_bytes("RssAnon");
    long pte = procfs_bytes("VmPTE");
    double begin = pica_time();
    create_all(m);
    double parked = pica_time();
    rss = procfs_bytes("RssAnon") - rss;
    pte = procfs_bytes("VmPTE") - pte;
    printf("    %zu parked: %.0f bytes each (RssAnon %.0f, of which record %zu; VmPTE %.0f), "
           "%ld mappings\n",
           m->n, per_task(rss + pte, m->n), per_task(rss, m->n), PICA__TASK_SIZE,
           per_task(pte, m->n), procfs_mappings());
    if (!SANITIZED && pt_emulator() == NULL) { /* its memory counts as ours */
        PT_CHECK(per_task(rss + pte, m->n) < BYTES_MAX);
    }
    run_beside(m);
    double beside = pica_time();
    wake_all(m);
    printf("    parked in %.2f s, %u runtimes beside in %.2f s, woken and joined in %.2f s\n",
           parked - begin, m->runtimes, beside - parked, pica_time() - beside);
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
    PT_EQ(stats.tasks_alive, 1);
    return 0;
}

static void run(size_t n, unsigned runtimes) {
    struct million m = {.n = n, .runtimes = runtimes};
    size_t size = n * sizeof m.task[0];
    m.task = malloc(size);
    PT_REQUIRE(m.task != NULL);
    memset(m.task, 0, size); /* its pages are not the tasks' */
    pica_event_init(&m.go);
    PT_REQUIRE(pica_future_new(&m.parked) == 0 && pica_future_new(&m.beside) == 0);
    PT_EQ(pica_run(million_main, &m), 0);
    pica_future_unref(m.parked);
    pica_future_unref(m.beside);
    free(m.task);
}

PT_TEST_TIMEOUT(few, 60) {
    run(stacks_at_most(SHORT), SHORT_RUNTIMES);
}

PT_TEST_HIDDEN(full, 600) {
    struct sysinfo info;
    PT_REQUIRE(sysinfo(&info) == 0);
    if ((uint64_t)info.totalram * info.mem_unit < UINT64_C(8) << 30) {
        PT_SKIP("needs 8 GiB of memory");
    }
    run(FULL, FULL_RUNTIMES);
}

PT_MAIN()
