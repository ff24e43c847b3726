/* Sleeps, callbacks for later, limits, and cancellations of all of them: nothing comes early, what was cancelled
 * does not come, and each comes once. */
#include "tests/workloads/workload.h"

enum { SLEEPERS = 8, ROUNDS = 8, CALLBACKS = 8 };

static int sleeper(void *arg) {
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        double seconds = 0.0001 * wl_choose(40);
        double before = pica_time();
        int rc = pica_sleep(seconds);
        if (rc < 0) {
            WL_EQ(rc, PICA_ECANCELED);
            return rc;
        }
        WL_CHECK(pica_time() >= before + seconds - 1e-6);
        pica_timeout timeout;
        double limit = 0.0001 * (1 + wl_choose(20));
        before = pica_time();
        rc = pica_timeout_enter(&timeout, limit);
        if (wl_lacks(rc)) {
            continue;
        }
        WL_EQ(rc, 0);
        rc = pica_sleep(0.001);
        rc = pica_timeout_exit(&timeout, rc);
        if (rc == PICA_ETIMEDOUT) {
            WL_CHECK(pica_time() >= before + limit - 1e-6);
        } else if (rc < 0) {
            WL_EQ(rc, PICA_ECANCELED);
            return rc;
        }
    }
    return 0;
}

struct later {
    double due;
    atomic_int calls;
    pica_handle *handle;
};

static void called(void *arg) {
    struct later *later = arg;
    WL_CHECK(pica_time() >= later->due - 1e-6);
    atomic_fetch_add(&later->calls, 1);
}

int wl_timers(void *arg) {
    (void)arg;
    pica_task *task[SLEEPERS];
    struct later later[CALLBACKS];
    int cancelled[CALLBACKS] = {0};
    for (int i = 0; i < SLEEPERS; i++) {
        task[i] = wl_task(sleeper, NULL, "sleeper");
    }
    for (int i = 0; i < CALLBACKS; i++) {
        double delay = 0.0002 * wl_choose(30);
        later[i].due = pica_time() + delay;
        atomic_init(&later[i].calls, 0);
        int rc;
        do {
            rc = pica_call_later(delay, called, &later[i], &later[i].handle);
        } while (wl_lacks(rc));
        WL_EQ(rc, 0);
    }
    (void)pica_sleep(0.0005 * wl_choose(6));
    pica_task_cancel(task[0]);
    pica_task_cancel(task[1]);
    for (int i = 0; i < CALLBACKS; i += 2) {
        int rc;
        while ((rc = pica_handle_cancel(later[i].handle)) == -EBUSY) {
            (void)pica_yield();
        }
        cancelled[i] = rc;
    }
    for (int i = 0; i < SLEEPERS; i++) {
        int rc = wl_join(task[i]);
        WL_CHECK(rc == 0 || (i < 2 && rc == PICA_ECANCELED) || wl_lacks(rc));
    }
    (void)pica_sleep(0.05);
    for (int i = 0; i < 100 && !wl_strict(); i++) {
        (void)pica_sleep(0.01); /* workers may be held up */
    }
    for (int i = 0; i < CALLBACKS; i++) {
        for (int k = 0; k < 1000 && cancelled[i] == 0 && atomic_load(&later[i].calls) == 0; k++) {
            (void)pica_sleep(0.01);
        }
        WL_EQ(atomic_load(&later[i].calls), cancelled[i] == 0);
        pica_handle_unref(later[i].handle);
    }
    wl_drain();
    return 0;
}
