/* The datagram endpoint, and the turns of its two directions.
 *
 * An endpoint is what lies behind a socket (pica__socket_tail): it lives as long as that, so who has a use
 * of the socket may touch it. The user's reference is the socket's.
 *
 * Turns. Several tasks may receive on an endpoint, and several may wait for room to send, but a socket's
 * side lets one wait. So who receives has the read turn (READING in the socket's use word, with a use), and
 * who waits for room the write turn (WRITING); the others wait in line. A turn with a line is handed over,
 * never freed, so nobody comes in between. READERS and WRITERS say that there may be a line: set under the
 * lock while the turn is taken, taken back under the lock when the line is empty, and the turn is freed
 * only by a change of the word that found the bit not set. See datagram_turn.c.
 *
 * Locks: `lock` guards the lines; under it a task's word may change, nothing else.
 */
#ifndef PICA__IO_DATAGRAM_H
#define PICA__IO_DATAGRAM_H

#include <pica/datagram.h>

#include "io/socket.h"
#include "runtime/base/list.h"
#include "runtime/base/lock.h"

struct pica_datagram_endpoint {
    pica__lock_t lock;
    int family;            /* constant */
    unsigned streak;       /* receives since the last suspension; by who has the read turn */
    unsigned window;       /* headers that the next batch prepares; by who has the read turn */
    int error;             /* that came after what a batch had taken; by who has the read turn */
    pica__link readers;    /* lock: the lines */
    pica__link writers;
};

static inline pica_socket *pica__datagram_socket(pica_datagram_endpoint *endpoint) {
    return pica__socket_of_tail(endpoint);
}

/* Entry of a receive: the read turn, with a use. PICA_ENOTASK, PICA_ECLOSED, PICA_ECANCELED; may suspend. */
int pica__datagram_read_begin(pica_datagram_endpoint *endpoint);
/* The turn goes to the next one in line. The endpoint may be gone afterwards. */
void pica__datagram_read_end(pica_datagram_endpoint *endpoint);
/* In the read turn, before each try: lets others run now and then, and tells an error that was kept. */
int pica__datagram_read_pace(pica_datagram_endpoint *endpoint);
/* In the read turn, after -EAGAIN. 0 or an error. */
int pica__datagram_read_wait(pica_datagram_endpoint *endpoint);

/* Sends by try_send(endpoint, arg), which returns -EAGAIN when there is no room, and suspends then. paced:
 * the kernel gives no sign when there is room again. Returns what try_send returned, or the error of a wait,
 * or PICA_ENOTASK, PICA_ECLOSED, PICA_ECANCELED before it. */
typedef ssize_t pica__datagram_try(pica_datagram_endpoint *endpoint, void *arg);
ssize_t pica__datagram_write(pica_datagram_endpoint *endpoint, bool paced,
                             pica__datagram_try *try_send, void *arg);
/* Whether the kernel would not tell when there is room. A Unix socket tells of its peer's queue only. */
static inline bool pica__datagram_paced(const pica_datagram_endpoint *endpoint, bool addressed) {
    return addressed && endpoint->family == AF_UNIX;
}

#endif
