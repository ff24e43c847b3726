/* Threads of the system, or of the simulation. See thread.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/thread.h"

#include <string.h>

#include "runtime/base/sim/sim.h"

_Static_assert(sizeof(pthread_t) >= sizeof(uintptr_t), "a pthread_t holds the number of a simulated thread");

static pthread_t simulated(uintptr_t number) {
    pthread_t thread;
    memset(&thread, 0, sizeof thread);
    memcpy(&thread, &number, sizeof number);
    return thread;
}

static uintptr_t number_of(pthread_t thread) {
    uintptr_t number;
    memcpy(&number, &thread, sizeof number);
    return number;
}

int pica__thread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *arg), void *arg) {
    if (pica__simulated()) {
        uintptr_t number = 0;
        int rc = pica__sim_thread_start(&number, main, arg);
        *thread = simulated(number);
        return rc;
    }
    return -pthread_create(thread, attr, main, arg);
}

void pica__thread_set_name(const char *name) {
    if (pica__simulated()) {
        pica__sim_thread_set_name(name);
    } else {
        (void)pthread_setname_np(pthread_self(), name);
    }
}

void pica__thread_join(pthread_t thread) {
    if (pica__simulated()) {
        pica__sim_thread_join(number_of(thread));
    } else {
        (void)pthread_join(thread, NULL);
    }
}

void pica__thread_detach(pthread_t thread) {
    if (pica__simulated()) {
        pica__sim_thread_detach(number_of(thread));
    } else {
        (void)pthread_detach(thread);
    }
}

pthread_t pica__thread_self(void) {
    return pica__simulated() ? simulated(pica__sim_thread_self()) : pthread_self();
}
