/* A defect that is planted, for the simulator and tools/pica-shrink to find: tasks that change a number in two steps,
 * without a lock. Two of them are enough, and no fault is needed. */
#include "tests/workloads/workload.h"

enum { TASKS = 8 };

static int number;

static int adds(void *arg) {
    (void)arg;
    (void)pica_sleep(0.001 * wl_choose(4));
    int seen = number;
    (void)pica_sleep(0.0001);
    number = seen + 1;
    return 0;
}

int wl_planted(void *arg) {
    pica_task *task[TASKS];
    int n = 0;
    (void)arg;
    number = 0;
    for (int i = 0; i < TASKS; i++) {
        if (pica_sim_keep()) {
            task[n++] = wl_task(adds, NULL, "adds");
        }
    }
    for (int i = 0; i < n; i++) {
        (void)wl_join(task[i]);
    }
    WL_EQ(number, n);
    return 0;
}
