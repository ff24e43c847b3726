/* The turns of a datagram endpoint: who may receive, and who may wait for room to send. The rules stand in
 * datagram.h.
 *
 *     (free) --begin: flag and a use, one change of the word--> taken
 *     taken  --commit of a wait in line--> taken, with the bit    under the lock; the node is then linked
 *     taken  --end, bit not set--> (free)
 *     taken, with the bit --end--> taken by the first in line     under the lock; flag and use pass on
 *
 * A task in line has a use of its own, which keeps the endpoint, until it was told. Closing wakes the one
 * with the turn, if it waits; each that gets the turn of a closed endpoint passes it on and leaves.
 */
#include "io/datagram.h"

#include "runtime/base/compiler.h"
#include "runtime/base/transitions.h"
#include "runtime/task.h"

/* So many datagrams are received without a suspension before others get their turn. */
#define STREAK 256u
/* The pace of tries for which the kernel gives no sign, in seconds. */
#define PACE_MIN 0.001
#define PACE_MAX 0.016

struct turn_wait {
    pica__wait wait;
    pica_datagram_endpoint *endpoint;
    uint32_t flag;
    pica__link link;
};

static bool is_closed(pica_datagram_endpoint *endpoint) {
    uint32_t use = atomic_load_explicit(&pica__datagram_socket(endpoint)->use, memory_order_relaxed);
    return (use & PICA__SOCKET_CLOSED) != 0;
}

static uint32_t line_bit(uint32_t flag) {
    return flag == PICA__SOCKET_READING ? PICA__SOCKET_READERS : PICA__SOCKET_WRITERS;
}

static pica__link *line_of(pica_datagram_endpoint *endpoint, uint32_t flag) {
    return flag == PICA__SOCKET_READING ? &endpoint->readers : &endpoint->writers;
}

static bool turn_withdraw(pica__wait *wait) {
    struct turn_wait *w = PICA__CONTAINER_OF(wait, struct turn_wait, wait);
    pica__lock(&w->endpoint->lock);
    bool linked = pica__link_linked(&w->link);
    if (linked) {
        pica__list_remove(&w->link); /* the bit stays: the end of the turn looks at the line */
    }
    pica__unlock(&w->endpoint->lock);
    return linked;
}

static const struct pica__wait_ops turn_ops = {"datagram turn", turn_withdraw};

/* With the lock. Marks that there is a line, and returns -EAGAIN; or takes the turn, which has become free:
 * 0; or PICA_ECLOSED. */
static int join_line(pica_socket *socket, uint32_t flag) {
    uint32_t old = atomic_load_explicit(&socket->use, memory_order_relaxed);
    for (;;) {
        if ((old & PICA__SOCKET_CLOSED) != 0) {
            return PICA_ECLOSED;
        }
        bool is_free = (old & flag) == 0;
        uint32_t next = is_free ? (old | flag) + PICA__SOCKET_USE : old | line_bit(flag);
        if (atomic_compare_exchange_weak_explicit(&socket->use, &old, next, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            return is_free ? 0 : -EAGAIN;
        }
    }
}

static bool turn_commit(pica__wait *wait) {
    struct turn_wait *w = PICA__CONTAINER_OF(wait, struct turn_wait, wait);
    pica_datagram_endpoint *endpoint = w->endpoint;
    bool waits = false;
    pica__lock(&endpoint->lock);
    int rc = join_line(pica__datagram_socket(endpoint), w->flag);
    if (rc != -EAGAIN) {
        wait->task->outcome = rc;
    } else if (pica__wait_publish(wait)) {
        waits = true;
        PICA__MOVED(TURN, PICA__TURN_TAKEN, PICA__TURN_LINE);
        pica__list_push_back(line_of(endpoint, w->flag), &w->link);
    }
    pica__unlock(&endpoint->lock);
    return waits;
}

static void turn_end(pica_datagram_endpoint *endpoint, uint32_t flag) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    uint32_t bit = line_bit(flag);
    while (PICA__UNLIKELY((pica__socket_end_unless(socket, flag, bit) & bit) != 0)) {
        pica__link *line = line_of(endpoint, flag);
        pica__lock(&endpoint->lock);
        pica__link *first = pica__list_pop_front(line);
        if (pica__list_empty(line)) {
            /* Relaxed: the bit only leads to the lock, which orders. */
            atomic_fetch_and_explicit(&socket->use, ~bit, memory_order_relaxed);
        }
        pica__unlock(&endpoint->lock);
        if (first != NULL) {
            PICA__MOVED(TURN, PICA__TURN_LINE, PICA__TURN_TAKEN);
            pica__wait_fire(&PICA__CONTAINER_OF(first, struct turn_wait, link)->wait, 0);
            return;
        }
    }
    PICA__MOVED(TURN, PICA__TURN_TAKEN, PICA__TURN_FREE);
}

/* The turn is taken: waits in line for it. */
static PICA__NOINLINE int turn_wait_for(pica_datagram_endpoint *endpoint, pica_task *task,
                                        uint32_t flag) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    int rc = pica__socket_begin(socket, 0);
    if (rc < 0) {
        return rc;
    }
    struct turn_wait w = {{&turn_ops, task, NULL, 0}, endpoint, flag, {NULL, NULL}};
    rc = pica__suspend(&w.wait, turn_commit);
    /* What the one before left in the endpoint: ordered by his fire, or, if the commit took the turn, by
     * the word, which this reads in the task's own context. */
    uint32_t use = atomic_load_explicit(&socket->use, memory_order_acquire);
    if (rc == 0 && (use & PICA__SOCKET_CLOSED) != 0) {
        turn_end(endpoint, flag); /* so the news goes down the line */
        rc = PICA_ECLOSED;
    }
    pica__socket_end(socket, 0);
    return rc;
}

int pica__datagram_read_begin(pica_datagram_endpoint *endpoint) {
    pica_task *task = pica__current();
    if (PICA__UNLIKELY(task == NULL)) {
        return PICA_ENOTASK;
    }
    int rc = pica__socket_begin(pica__datagram_socket(endpoint), PICA__SOCKET_READING);
    if (rc == 0) {
        PICA__MOVED(TURN, PICA__TURN_FREE, PICA__TURN_TAKEN);
    }
    if (PICA__UNLIKELY(rc == -EBUSY)) {
        rc = turn_wait_for(endpoint, task, PICA__SOCKET_READING);
    }
    /* Nothing was taken yet that anybody could miss, so also a cancellation that came since may end it. */
    if (rc == 0 && PICA__UNLIKELY(pica__cancel_take(task))) {
        pica__datagram_read_end(endpoint);
        rc = PICA_ECANCELED;
    }
    return rc;
}

void pica__datagram_read_end(pica_datagram_endpoint *endpoint) {
    turn_end(endpoint, PICA__SOCKET_READING);
}

int pica__datagram_read_pace(pica_datagram_endpoint *endpoint) {
    int error = endpoint->error;
    if (PICA__LIKELY(endpoint->streak++ < STREAK && error == 0)) {
        return 0;
    }
    if (error != 0) {
        endpoint->error = 0;
        return error;
    }
    endpoint->streak = 0;
    int rc = pica__yield_turn();
    return rc == 0 && is_closed(endpoint) ? PICA_ECLOSED : rc;
}

int pica__datagram_read_wait(pica_datagram_endpoint *endpoint) {
    endpoint->streak = 0;
    return pica__socket_wait_begun(pica__datagram_socket(endpoint));
}

/* There is no room, or others wait for it: with the write turn. */
static PICA__NOINLINE ssize_t write_in_turn(pica_datagram_endpoint *endpoint, pica_task *task,
                                            pica__datagram_try *try_send, void *arg) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    int rc = pica__socket_begin(socket, PICA__SOCKET_WRITING);
    if (rc == -EBUSY) {
        rc = turn_wait_for(endpoint, task, PICA__SOCKET_WRITING);
    }
    if (rc < 0) {
        return rc;
    }
    ssize_t n;
    do {
        n = try_send(endpoint, arg);
    } while (n == -EAGAIN && (n = pica__socket_wait(socket, &socket->wr)) == 0);
    turn_end(endpoint, PICA__SOCKET_WRITING);
    return n;
}

/* Without a turn: each waits for a receiver of its own. */
static PICA__NOINLINE ssize_t write_paced(pica_datagram_endpoint *endpoint,
                                          pica__datagram_try *try_send, void *arg) {
    double pace = PACE_MIN;
    ssize_t n;
    do {
        n = pica_sleep(pace);
        pace = pace * 2 < PACE_MAX ? pace * 2 : PACE_MAX;
        if (n == 0) {
            n = is_closed(endpoint) ? PICA_ECLOSED : try_send(endpoint, arg);
        }
    } while (n == -EAGAIN);
    return n;
}

ssize_t pica__datagram_write(pica_datagram_endpoint *endpoint, bool paced,
                             pica__datagram_try *try_send, void *arg) {
    pica_socket *socket = pica__datagram_socket(endpoint);
    pica_task *task = pica__current();
    if (PICA__UNLIKELY(task == NULL)) {
        return PICA_ENOTASK;
    }
    ssize_t n = pica__socket_begin(socket, 0);
    if (n < 0) {
        return n;
    }
    uint32_t use = atomic_load_explicit(&socket->use, memory_order_relaxed);
    if (PICA__UNLIKELY(pica__cancel_take(task))) {
        n = PICA_ECANCELED;
    } else if (paced || PICA__LIKELY((use & PICA__SOCKET_WRITING) == 0)) {
        n = try_send(endpoint, arg);
    } else {
        n = -EAGAIN; /* behind those who wait */
    }
    if (PICA__UNLIKELY(n == -EAGAIN)) {
        n = paced ? write_paced(endpoint, try_send, arg)
                  : write_in_turn(endpoint, task, try_send, arg);
    }
    pica__socket_end(socket, 0);
    return n;
}
