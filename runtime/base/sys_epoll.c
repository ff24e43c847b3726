/*
 * The system calls of epoll and of its clock that return -errno. See sys_epoll.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/sys_epoll.h"

#include <errno.h>
#include <stddef.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int result(int r) {
    return r < 0 ? -errno : r;
}

PICA__NOINLINE int pica__sys_epoll_create(void) {
    return result(epoll_create1(EPOLL_CLOEXEC));
}

PICA__NOINLINE int pica__sys_epoll_ctl(int epoll, int operation, int fd, uint32_t events,
                                       uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return result(epoll_ctl(epoll, operation, fd, &event));
}

PICA__NOINLINE int pica__sys_timerfd_create(void) {
    return result(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
}

PICA__NOINLINE int pica__sys_timerfd_set(int fd, int64_t when) {
    struct itimerspec time = {.it_value = {when / 1000000000, when % 1000000000}};
    return result(timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, NULL));
}

#if PICA__TSAN || PICA__ASAN || PICA__MODEL
PICA__NOINLINE int pica__sys_epoll_wait_ns(int epoll, struct epoll_event *events, int max, int64_t left) {
    int64_t time[2] = {left / 1000000000, left % 1000000000};
    return result((int)syscall(PICA__SYS_EPOLL_PWAIT2, epoll, events, max, time, NULL, 8));
}

PICA__NOINLINE int pica__sys_epoll_wait(int epoll, struct epoll_event *events, int max,
                                        int milliseconds) {
    return result(epoll_wait(epoll, events, max, milliseconds));
}
#endif
