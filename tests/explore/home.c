/* See home.h. This file is not instrumented: it is part of the model. */
#include "tests/explore/home.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "io/engine/engine.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_message.h"
#include "runtime/worker.h"
#include "tests/explore/model.h"

enum { OPERATIONS = 6, COMPLETIONS = 16 };

struct operation {
    pica__op *op; /* NULL: free */
    bool cancelled;
    bool over; /* its last completion is on its way */
};

struct completion {
    struct operation *operation;
    int result;
    bool more;
};

static struct {
    pica_loop *loop;
    pica__engine engine;
    struct operation operation[OPERATIONS];
    struct completion completion[COMPLETIONS];
    unsigned first, last; /* of those that were not delivered */
    unsigned spontaneous;
    int result;
    unsigned succeeded;
    int readable, room;
    bool closed;
} home;

/* --- the kernel --- */

static void complete(struct operation *o, int result, bool more) {
    if (home.last == COMPLETIONS) {
        ex_fail("too many completions");
    }
    home.completion[home.last++] = (struct completion){o, result, more};
    o->over = !more;
}

static bool is_poll(const struct operation *o, unsigned events) {
    return o->op != NULL && !o->over && o->op->kind == PICA__OP_POLL && (o->op->events & events) != 0;
}

/* Polls learn of what has come. */
static void announce(unsigned event) {
    for (unsigned i = 0; i < OPERATIONS; i++) {
        struct operation *o = &home.operation[i];
        if (is_poll(o, event)) {
            complete(o, (int)event, o->op->multishot);
        }
    }
}

static struct operation *completable(void) {
    for (unsigned i = 0; i < OPERATIONS; i++) {
        struct operation *o = &home.operation[i];
        if (o->op != NULL && !o->over &&
            (o->cancelled || (home.spontaneous != 0 && o->op->kind != PICA__OP_POLL))) {
            return o;
        }
    }
    return NULL;
}

static bool kernel_has_work(void *arg) {
    (void)arg;
    return completable() != NULL;
}

/* A multishot accept may end with any connection, also one that comes after the cancel. */
static void kernel_accepts(struct operation *o) {
    if (o->cancelled && ex_choose(2) == 0) {
        complete(o, -ECANCELED, false);
        return;
    }
    home.spontaneous -= home.spontaneous != 0;
    home.succeeded++;
    complete(o, home.result, !o->cancelled && ex_choose(2) == 0);
}

static void kernel_main(void *arg) {
    (void)arg;
    for (;;) {
        ex_wait(&home.engine, kernel_has_work, NULL);
        struct operation *o = completable();
        if (o->op->kind == PICA__OP_POLL) {
            complete(o, -ECANCELED, false);
        } else if (o->op->kind == PICA__OP_ACCEPT) {
            kernel_accepts(o);
        } else if (!o->cancelled || ex_choose(2) == 0) {
            home.spontaneous -= home.spontaneous != 0;
            home.succeeded++;
            complete(o, home.result, false);
        } else {
            complete(o, -ECANCELED, false);
        }
    }
}

/* --- the engine --- */

static int engine_submit(pica__engine *engine, pica__op *op) {
    (void)engine;
    ex_event(&home.engine);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        struct operation *o = &home.operation[i];
        if (o->op == NULL) {
            *o = (struct operation){.op = op};
            op->slot = i;
            if (is_poll(o, POLLIN) && home.readable != 0) {
                complete(o, POLLIN, op->multishot);
            } else if (is_poll(o, POLLOUT) && home.room != 0) {
                complete(o, POLLOUT, op->multishot);
            }
            return 0;
        }
    }
    ex_fail("too many operations");
}

static void engine_cancel(pica__engine *engine, pica__op *op) {
    (void)engine;
    ex_event(&home.engine);
    if (op->slot >= OPERATIONS || home.operation[op->slot].op != op) {
        ex_fail("an operation that is not in flight is cancelled");
    }
    home.operation[op->slot].cancelled = true;
}

static void engine_wake(pica__engine *engine) {
    (void)engine;
}

static const struct pica__engine_ops engine_ops = {
    .name = "model", .files = true, .submit = engine_submit, .cancel = engine_cancel, .wake = engine_wake};

static void deliver(void) {
    struct completion c = home.completion[home.first++];
    pica__op *op = c.operation->op;
    if (!c.more) {
        c.operation->op = NULL;
        op->slot = PICA__OP_IDLE;
    }
    op->complete(op, c.result, c.more);
}

/* --- the loop --- */

static bool has_calls(void) {
    return home.loop->inbox.newest != NULL || !pica__fifo_empty(&home.loop->ready);
}

static bool loop_has_work(void *arg) {
    (void)arg;
    return ex_home_commits(false) || home.first != home.last || has_calls();
}

static void run_calls(void) {
    pica__loop_drain_inbox(home.loop);
    pica__fifo_node *node;
    while ((node = pica__fifo_pop(&home.loop->ready)) != NULL) {
        pica__call *call =
            PICA__CONTAINER_OF(PICA__CONTAINER_OF(node, pica__work, node), pica__call, work);
        call->fn(call);
    }
}

static void loop_main(void *arg) {
    (void)arg;
    ex_be_worker(true);
    for (;;) {
        ex_wait(&home.engine, loop_has_work, NULL);
        bool calls = has_calls();
        bool completions = home.first != home.last;
        bool commits = ex_home_commits(false);
        unsigned c = ex_choose((unsigned)calls + completions + commits);
        if (calls && c-- == 0) {
            run_calls();
        } else if (completions && c-- == 0) {
            deliver();
        } else {
            (void)ex_home_commits(true);
        }
    }
}

void ex_home(pica_runtime *rt, unsigned spontaneous, int result) {
    memset(&home, 0, sizeof home);
    home.loop = &rt->loop[0];
    home.loop->engine = &home.engine;
    pica__engine_init(&home.engine, &engine_ops);
    home.spontaneous = spontaneous;
    home.result = result;
    ex_name(&home.loop->inbox, "inbox");
    ex_quiet(&home.loop->ready_count, sizeof home.loop->ready_count);
    ex_thread("loop", loop_main, NULL, true);
    ex_thread("kernel", kernel_main, NULL, true);
}

/* --- the descriptor --- */

void ex_peer_sends(int n) {
    ex_event(&home.engine);
    home.readable += n;
    announce(POLLIN);
}

void ex_peer_reads(int n) {
    ex_event(&home.engine);
    home.room += n;
    announce(POLLOUT);
}

void ex_room(int n) {
    home.room = n;
}

unsigned ex_in_flight(void) {
    unsigned n = 0;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        n += home.operation[i].op != NULL;
    }
    return n;
}

unsigned ex_succeeded(void) {
    return home.succeeded;
}

bool ex_fd_closed(void) {
    return home.closed;
}

int ex_unread(void) {
    return home.readable;
}

static void use(int fd) {
    ex_event(&home.engine);
    if (fd != EX_FD || home.closed) {
        ex_fail("the descriptor is used after it was closed");
    }
}

static ssize_t move(int *from, size_t n) {
    if (*from == 0) {
        return -EAGAIN;
    }
    int moved = (size_t)*from < n ? *from : (int)n;
    *from -= moved;
    return moved;
}

ssize_t pica__sys_recv(int fd, void *buf, size_t n, int flags) {
    (void)buf;
    (void)flags;
    use(fd);
    return move(&home.readable, n);
}

ssize_t pica__sys_send(int fd, const void *buf, size_t n, int flags) {
    (void)buf;
    (void)flags;
    use(fd);
    return move(&home.room, n);
}

int pica__sys_close(int fd) {
    use(fd);
    if (ex_in_flight() != 0) {
        ex_fail("the descriptor is closed with operations in flight");
    }
    home.closed = true;
    return 0;
}

int pica__sys_accept4(int fd, struct sockaddr *address, unsigned *length, int flags) {
    (void)address;
    (void)length;
    (void)flags;
    use(fd);
    return -EAGAIN;
}

int pica__sys_setsockopt(int fd, int level, int name, const void *value, unsigned length) {
    (void)fd;
    (void)level;
    (void)name;
    (void)value;
    (void)length;
    return 0; /* TCP */
}
