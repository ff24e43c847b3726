/* Accepting for servers, on the listener's home loop. See listener.h.
 *
 * One multishot accept per listener. A listener that has to ask (may_accept) cannot leave accepting to the kernel: an
 * accept under way would take a connection after another listener has taken the last place. It waits for readiness,
 * asks, and takes one by a plain call; then it asks again before it waits.
 *
 * Life, all on the home loop: start -> ACCEPTING <-> PAUSED (a timer) -> REFUSING (the kernel begins
 * no new handshake, those under way are given a moment to end) -> STOPPING (the operation was
 * cancelled, its terminal completion is awaited) -> what is left in the backlog is taken -> stopped.
 *
 * Why REFUSING. Closing a listener resets what is in its backlog: taking that first is not enough, since
 * another client may come between the last look and the close. So a filter drops every SYN from the
 * moment of the stop on; its sender sends it again after a second, and finds the port closed, or
 * somebody else's. (shutdown on a listener resets the backlog as well, and was rejected for that.) A Unix
 * listener needs no filter: shut down for reading it refuses, and still hands out what it has.
 */
#include "io/listener.h"

#include <linux/filter.h>
#include <poll.h>

#include "io/socket.h"
#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/sys.h"
#include "runtime/base/transitions.h"
#include "runtime/worker.h"

#define PAUSE_MIN_NS INT64_C(5000000)
enum { RESCUE_MAX = 64 }; /* connections that one look at a stuck loop's listener takes */
#define PAUSE_MAX_NS INT64_C(1000000000)
/* For handshakes that are under way when a listener stops: more than a data centre's round trip. */
#define REFUSE_NS INT64_C(10000000)

struct pica__listener {
    pica_socket *socket;      /* a reference */
    pica__rescuer rescuer;    /* other workers accept here while the home loop's is stuck */
    /* 1 until it finishes, and one for each rescue under way. Added (relaxed) under the lock of the loop's
     * rescuers, dropped (acq_rel) by finish and by rescues: the last one goes on with the end. */
    _Atomic uint32_t refs;
    pica__call rescued_call;
    pica__op op;
    pica__pause pause;
    int64_t pause_ns;         /* of the next pause; back to the minimum with each connection */
    pica__pause refuse;       /* the moment for handshakes */
    bool stopping;
    bool finished;
    bool start_posted;        /* start_call is on its way */
    pica__call start_call;
    pica__call stop_call;
    struct pica__listener_use use;
    void *arg;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

static void arm(struct pica__listener *l);

/* The end of a pause. */
static void pause_over(pica__pause *pause) {
    struct pica__listener *l = PICA__CONTAINER_OF(pause, struct pica__listener, pause);
    if (!l->stopping) {
        PICA__MOVED(LISTENER, PICA__LISTENER_PAUSED, PICA__LISTENER_ACCEPTING);
        arm(l);
    }
}

static void pause_accepting(struct pica__listener *l, int error) {
    if (l->pause_ns == PAUSE_MIN_NS) {
        pica__log(PICA_LOG_WARN, "accept: %s; pausing", pica_strerror(error));
    }
    PICA__MOVED(LISTENER, PICA__LISTENER_ACCEPTING, PICA__LISTENER_PAUSED);
    pica__pause_begin(l->socket->home, &l->pause, l->pause_ns);
    l->pause_ns = l->pause_ns * 2 < PAUSE_MAX_NS ? l->pause_ns * 2 : PAUSE_MAX_NS;
}

static bool may_accept(const struct pica__listener *l) {
    return l->use.may_accept == NULL || l->use.may_accept(l->arg);
}

static void finish_last(struct pica__listener *l);

static void finish(struct pica__listener *l) {
    l->finished = true;
    if (l->start_posted) {
        return; /* its call comes back here: the memory must stay until then */
    }
    pica__rescuer_remove(l->socket->home, &l->rescuer);
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {
        finish_last(l);
    } /* else a rescue is under way: it brings us back, by its call */
}

/* Nobody else knows the listener any more. */
static void finish_last(struct pica__listener *l) {
    PICA__MOVED(LISTENER, PICA__LISTENER_STOPPING, PICA__LISTENER_STOPPED);
    /* Connections that are established but not accepted would be reset by the close. */
    while (may_accept(l) && pica__socket_use(l->socket) == 0) {
        int fd = pica__sys_accept4(l->socket->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        pica__socket_unuse(l->socket);
        if (fd >= 0) {
            l->use.accepted(l->arg, fd);
        } else if (fd != -EINTR && fd != -ECONNABORTED) {
            break;
        }
    }
    pica_socket *socket = l->socket;
    void (*stopped)(void *) = l->stopped;
    void *arg = l->stopped_arg;
    socket->listener = NULL;
    pica__free(l, sizeof *l);
    stopped(arg);
    pica__socket_unref(socket);
}

/* --- rescue --- */

static void rescue_pin(pica__rescuer *rescuer) {
    struct pica__listener *l = PICA__CONTAINER_OF(rescuer, struct pica__listener, rescuer);
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
}

static void rescued(pica__call *call) {
    finish_last(PICA__CONTAINER_OF(call, struct pica__listener, rescued_call));
}

/* On another worker. What the stuck one's ring knows of these connections becomes an accept that finds nothing. */
static void rescue(pica__rescuer *rescuer, bool all) {
    struct pica__listener *l = PICA__CONTAINER_OF(rescuer, struct pica__listener, rescuer);
    pica__worker *worker = pica__self();
    int fd = 0;
    for (int n = 0; n < RESCUE_MAX && fd >= 0; n++) {
        if ((!all && l->use.fits != NULL && !l->use.fits(l->arg)) || pica__socket_use(l->socket) < 0) {
            break;
        }
        fd = pica__sys_accept4(l->socket->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        pica__socket_unuse(l->socket);
        if (fd >= 0) {
            pica__count(&worker->stats.rescued, 1);
            l->use.accepted(l->arg, fd);
        }
    }
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {
        pica__call_soon(l->socket->home, &l->rescued_call);
    }
}

static void take(struct pica__listener *l, int fd) {
    l->pause_ns = PAUSE_MIN_NS;
    l->use.accepted(l->arg, fd);
}

/* The operation has ended; result: a connection that was taken, or why there is none. */
static void ended(struct pica__listener *l, int result) {
    pica__socket_unuse(l->socket);
    if (l->stopping) {
        finish(l);
    } else if (result >= 0 || result == -ECONNABORTED || result == -EINTR ||
               result == -EAGAIN) {
        arm(l);
    } else {
        pause_accepting(l, result);
    }
}

static void accept_complete(pica__op *op, int result, bool more) {
    struct pica__listener *l = PICA__CONTAINER_OF(op, struct pica__listener, op);
    if (result >= 0) {
        take(l, result); /* also when stopping: the connection was established */
    }
    if (!more) {
        ended(l, result);
    }
}

/* For a listener that asks. */
static void poll_complete(pica__op *op, int result, bool more) {
    struct pica__listener *l = PICA__CONTAINER_OF(op, struct pica__listener, op);
    (void)more;
    if (result >= 0) {
        result = -EAGAIN; /* if it may not: arm asks again, and waits for its turn */
        if (!l->stopping && may_accept(l)) {
            result = pica__sys_accept4(l->socket->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        }
        if (result >= 0) {
            take(l, result);
        }
    }
    ended(l, result);
}

static void arm(struct pica__listener *l) {
    if (!may_accept(l)) {
        return; /* until resume */
    }
    int rc = pica__socket_use(l->socket);
    if (rc < 0) {
        return; /* the socket was closed: stop is to follow */
    }
    rc = pica__engine_submit(l->socket->home->engine, &l->op);
    if (rc < 0) {
        pica__socket_unuse(l->socket);
        pause_accepting(l, rc);
    }
}

static void start_at_home(pica__call *call) {
    struct pica__listener *l = PICA__CONTAINER_OF(call, struct pica__listener, start_call);
    l->start_posted = false;
    if (l->finished) {
        finish(l);
    } else if (!l->stopping && !pica__op_in_flight(&l->op)) {
        arm(l);
    }
}

static void stop(struct pica__listener *l) {
    bool paused = pica__pause_end(l->socket->home, &l->pause);
    PICA__MOVED(LISTENER, paused ? PICA__LISTENER_PAUSED : PICA__LISTENER_ACCEPTING, PICA__LISTENER_STOPPING);
    l->stopping = true;
    if (pica__op_in_flight(&l->op)) {
        pica__engine_cancel(l->socket->home->engine, &l->op);
    } else {
        finish(l);
    }
}

/* No handshake is under way any more, or so it is hoped. */
static void refuse_over(pica__pause *pause) {
    struct pica__listener *l = PICA__CONTAINER_OF(pause, struct pica__listener, refuse);
    pica_socket *socket = pica__socket_ref(l->socket);
    stop(l);
    pica__socket_unuse(socket); /* see stop_at_home */
    pica__socket_unref(socket);
}

/* With a use. From here on the kernel begins no handshake. True if some may be under way. */
static bool refuse_new(pica_socket *socket) {
    enum { TCP_FLAGS = 13, SYN = 0x02, ACK = 0x10 };
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, TCP_FLAGS),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog filter = {sizeof code / sizeof code[0], code};
    /* Either may fail for want of memory; then the window is open, as it would be without. */
    bool filtered = socket->tcp && pica__sys_setsockopt(socket->fd, SOL_SOCKET, SO_ATTACH_FILTER,
                                                        &filter, sizeof filter) == 0;
    if (!socket->tcp) {
        (void)pica__sys_shutdown(socket->fd, SHUT_RD);
    }
    return filtered;
}

static void stop_at_home(pica__call *call) {
    struct pica__listener *l = PICA__CONTAINER_OF(call, struct pica__listener, stop_call);
    pica_socket *socket = l->socket;
    if (pica__socket_use(socket) < 0) {
        stop(l); /* closed by the runtime, which ends */
        return;
    }
    /* The use stays until refuse_over: a runtime that ends waits for descriptors, not for timers. */
    if (l->use.shared || !refuse_new(socket)) {
        refuse_over(&l->refuse);
    } else {
        pica__pause_begin(socket->home, &l->refuse, REFUSE_NS);
        PICA__MOVED(LISTENER, PICA__LISTENER_ACCEPTING, PICA__LISTENER_REFUSING);
    }
}

void pica__listener_resume(pica_socket *socket) {
    struct pica__listener *l = socket->listener;
    if (l != NULL && !l->stopping && !pica__pause_lasts(&l->pause) && !pica__op_in_flight(&l->op)) {
        arm(l);
    }
}

int pica__listener_make(pica_socket *socket, const struct pica__listener_use *use, void *arg) {
    struct pica__listener *l = pica__zalloc(sizeof *l);
    if (l == NULL) {
        return -ENOMEM;
    }
    l->socket = pica__socket_ref(socket);
    if (use->may_accept == NULL) {
        pica__op_init(&l->op, PICA__OP_ACCEPT, socket->fd, accept_complete);
        l->op.multishot = true;
    } else {
        pica__op_init(&l->op, PICA__OP_POLL, socket->fd, poll_complete);
        l->op.events = POLLIN;
    }
    pica__pause_init(&l->pause, pause_over);
    pica__pause_init(&l->refuse, refuse_over);
    l->pause_ns = PAUSE_MIN_NS;
    pica__call_init(&l->start_call, start_at_home);
    pica__call_init(&l->stop_call, stop_at_home);
    l->use = *use;
    atomic_init(&l->refs, 1);
    l->rescuer.pin = rescue_pin;
    l->rescuer.rescue = rescue;
    pica__call_init(&l->rescued_call, rescued);
    l->arg = arg;
    socket->listener = l;
    return 0;
}

void pica__listener_unmake(pica_socket *socket) {
    struct pica__listener *l = socket->listener;
    socket->listener = NULL;
    pica__free(l, sizeof *l);
    pica__socket_unref(socket);
}

void pica__listener_start(pica_socket *socket) {
    struct pica__listener *l = socket->listener;
    l->start_posted = true;
    if (l->use.may_accept == NULL) {
        pica__rescuer_add(socket->home, &l->rescuer); /* from here on others may accept */
    }
    PICA__MOVED(LISTENER, PICA__LISTENER_BEGUN, PICA__LISTENER_ACCEPTING);
    pica__call_soon(socket->home, &l->start_call);
}

void pica__listener_stop(pica_socket *socket, void (*stopped)(void *arg), void *arg) {
    struct pica__listener *l = socket->listener;
    PICA__CHECK(l != NULL);
    l->stopped = stopped;
    l->stopped_arg = arg;
    pica__call_soon(socket->home, &l->stop_call);
}
