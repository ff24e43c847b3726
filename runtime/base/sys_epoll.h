/*
 * The system calls of epoll and of its clock, as in sys.h: 0 or more, or -errno. The waits are inline where sys_message.h's calls
 * are, for the reasons given there.
 */
#ifndef PICA__RUNTIME_BASE_SYS_EPOLL_H
#define PICA__RUNTIME_BASE_SYS_EPOLL_H

#include <stdint.h>
#include <sys/epoll.h>

#include "runtime/base/sys_message.h"

/* Linux 5.11; the same number everywhere. */
#define PICA__SYS_EPOLL_PWAIT2 441

int pica__sys_epoll_create(void);
int pica__sys_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t data);
int pica__sys_timerfd_create(void);
/* when: nanoseconds of pica__now; 0: never. */
int pica__sys_timerfd_set(int fd, int64_t when);
/* Waits for at most `left` nanoseconds, -ENOSYS before Linux 5.11; for milliseconds, 0 or more, or without limit
 * (-1). */
#if PICA__TSAN || PICA__ASAN || PICA__MODEL
int pica__sys_epoll_wait_ns(int epoll, struct epoll_event *events, int max, int64_t left);
int pica__sys_epoll_wait(int epoll, struct epoll_event *events, int max, int milliseconds);
#else
static inline int pica__sys_epoll_wait_ns(int epoll, struct epoll_event *events, int max, int64_t left) {
    int64_t time[2] = {left / 1000000000, left % 1000000000}; /* 64 bits on every architecture */
    return (int)pica__kernel(PICA__SYS_EPOLL_PWAIT2, epoll, (long)events, max, (long)time, 0, 8);
}

static inline int pica__sys_epoll_wait(int epoll, struct epoll_event *events, int max,
                                       int milliseconds) {
    return (int)pica__kernel(SYS_epoll_pwait, epoll, (long)events, max, milliseconds, 0, 8);
}
#endif

#endif
