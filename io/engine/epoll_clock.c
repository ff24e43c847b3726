/* The clock of an epoll set. See epoll_clock.h. */
#include "io/engine/epoll_clock.h"

#include "runtime/base/sys.h"
#include "runtime/base/sys_epoll.h"

int pica__epoll_clock_open(pica__epoll_clock *clock, int set, uint64_t data) {
    clock->armed = INT64_MAX;
    clock->fd = pica__sys_timerfd_create();
    return clock->fd < 0 ? clock->fd
                         : pica__sys_epoll_ctl(set, EPOLL_CTL_ADD, clock->fd, (uint32_t)(EPOLLIN | EPOLLET), data);
}

void pica__epoll_clock_close(pica__epoll_clock *clock) {
    if (clock->fd >= 0) {
        (void)pica__sys_close(clock->fd);
    }
}

bool pica__epoll_clock_set(pica__epoll_clock *clock, int64_t deadline) {
    clock->lasting = deadline != INT64_MAX && (clock->lasting || clock->early >= PICA__EPOLL_CLOCK_EARLY);
    if (!clock->lasting && deadline != INT64_MAX) {
        return false;
    }
    /* A wait without an end takes it back, so that an idle process does not wake. */
    if (pica__sys_timerfd_set(clock->fd, deadline == INT64_MAX ? 0 : deadline) < 0) {
        return deadline == INT64_MAX;
    }
    clock->armed = deadline;
    clock->early = 0;
    return true;
}

void pica__epoll_clock_rang(pica__epoll_clock *clock) {
    clock->armed = INT64_MAX;
    clock->lasting = clock->early >= PICA__EPOLL_CLOCK_EARLY;
    clock->early = 0;
}
