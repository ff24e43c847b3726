/* The set: how a loop with many sockets waits for them.
 *
 * A poll in the ring costs more than an entry of an epoll set once there are so many that neither is in the
 * processor's caches (docs/ENGINE_CHOICES.md, 3). So each loop has an epoll set, an engine of its own inside this
 * one, and with more than PICA__URING_POLLS_MAX sockets it goes over to it, or with a few if its waits have limits that
 * are not reached: from then on polls go there, those of before move when they have their next event, and the loop
 * waits in the set. The ring keeps everything else. The
 * kernel writes the set's eventfd when the ring has something to be reaped, as others do who wake the loop; so only
 * after that, and with something to submit, the ring is looked at (u->look), whose lines are cold by then. It never
 * goes back.
 *
 * Before Linux 6.1 (without DEFER_TASKRUN) the kernel accepts for a ring whose owner computes, and nobody else can
 * reach what it accepted. There listeners wait in the set from the start: what an owner who is stuck does not accept,
 * others do.
 *
 * The set is made with the engine, so that a loop has the same descriptors all its life, and needs none when there
 * are many clients.
 */
#include <stdatomic.h>

#include "io/engine/uring_ring.h"

int pica__uring_set_open(pica__uring *u, const pica__config *config) {
    return pica__epoll_create(&u->set, config);
}

void pica__uring_set_consider(pica__uring *u) {
    if (pica__uring_part(u) != NULL) {
        return;
    }
    if (io_uring_register_eventfd(&u->ring, pica__epoll_wake_fd(u->set)) == 0) {
        /* Release: to who wakes. */
        atomic_store_explicit(&u->engine.part, u->set, memory_order_release);
        u->look = true; /* of what is there already the kernel does not tell */
    } else { /* no memory: later */
        u->polls_max = u->polls_max < UINT32_MAX / 2 ? (u->polls_max + 1) * 2 : UINT32_MAX;
    }
}

void pica__uring_set_close(pica__uring *u) {
    if (u->set != NULL) {
        pica__engine_destroy(u->set);
    }
}
