/* See park.h. The raw system call is used because glibc has no wrapper; its result is not needed:
 * every caller looks again, so EAGAIN, EINTR and ETIMEDOUT mean the same. */
#include "runtime/base/park.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "runtime/base/sim/sim.h"

#if PICA__TSAN
#include <poll.h>

#include "runtime/base/clock.h"
#endif

void pica__park_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline) {
    if (pica__simulated()) {
        pica__sim_park_wait(word, expected, deadline);
        return;
    }
#if PICA__TSAN
    /* The sanitizer keeps a signal back until the thread makes a call that it knows, and behind a handler this wait
     * would just go on: so it ends now and then, and such a call follows. */
    int64_t soon = pica__now() + 20000000;
    deadline = deadline < soon ? deadline : soon;
#endif
    struct timespec ts;
    struct timespec *limit = NULL;
    if (deadline != INT64_MAX) {
        if (deadline < 0) {
            deadline = 0;
        }
        ts.tv_sec = (time_t)(deadline / 1000000000);
        ts.tv_nsec = (long)(deadline % 1000000000);
        limit = &ts;
    }
    /* WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC, the clock of pica__now. */
    (void)syscall(SYS_futex, (uint32_t *)(void *)word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
                  expected, limit, NULL, FUTEX_BITSET_MATCH_ANY);
#if PICA__TSAN
    (void)poll(NULL, 0, 0);
#endif
}

void pica__park_wake(_Atomic uint32_t *word) {
    if (pica__simulated()) {
        pica__sim_park_wake(word);
        return;
    }
    (void)syscall(SYS_futex, (uint32_t *)(void *)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX,
                  NULL, NULL, 0);
}
