/* Child processes: starting one, watching it, and the calls on its handle.
 *
 * The watch is one poll of the process's descriptor on the home loop, from the start to the end, whoever waits. When
 * the child has ended it is reaped, the descriptor is closed, the code stored and the future `ended` completed, on
 * which all who wait are shielded. A runtime that closes ends the watch earlier: it counts among the
 * runtime's descriptors and is one of the loop's closers.
 *
 * Everything that can fail is done before the child exists: memory, pipes and their streams, and a reserved
 * descriptor in place of the one of the process, which cannot be had earlier. If another thread takes that one in
 * between, the child is killed and reaped, and the call fails.
 *
 * Locks: process->lock is a leaf.
 */
#include "io/process.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "io/operation.h"
#include "io/process_spawn.h"
#include "io/socket.h"
#include "runtime/base/alloc.h"
#include "runtime/base/log.h"
#include "runtime/base/sys.h"
#include "runtime/base/sys_process.h"
#include "runtime/rt.h"
#include "runtime/task.h"

#define OUTPUT_LIMIT ((size_t)64 * 1024 * 1024)

/* What nobody can know: as asyncio. */
enum { CODE_LOST = 255 };
/* Between two tries to watch a child when there is no memory for it. */
#define PAUSE_NS INT64_C(5000000)

static void process_unref(pica_process *p) {
    if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) {
        pica_future_unref(p->ended);
        pica__free(p, sizeof *p);
    }
}

/* --- the watch, on the home loop --- */

static void tell(pica_process *p, int code) {
    atomic_store_explicit(&p->code, code, memory_order_release);
    (void)pica_future_set_result(p->ended, NULL, NULL);
}

static void pidfd_close(pica_process *p) {
    pica__lock(&p->lock);
    int pidfd = p->pidfd;
    p->pidfd = -1;
    pica__unlock(&p->lock);
    (void)pica__sys_close(pidfd);
}

/* Looks whether the child has ended. The watch is over if it has, or if the runtime ends. */
static bool watch_ends(pica_process *p) {
    pica_runtime *rt = p->home->rt;
    int code = CODE_LOST;
    int rc = pica__sys_reap(p->pidfd, &code);
    if (rc == 0 && !p->closing) {
        return false;
    }
    if (rc < 0) {
        pica__log(PICA_LOG_INFO, "process %d: its return code is lost: %s", (int)p->pid,
                  pica_strerror(rc));
    }
    pidfd_close(p);
    pica__closer_remove(p->home, &p->closer);
    if (rc != 0) {
        tell(p, code);
    }
    process_unref(p);
    pica__socket_gone(rt);
    return true;
}

static void queue(pica_process *p) {
    p->queued = true;
    pica__call_soon(p->home, &p->arm);
}

static void pause_over(pica__pause *pause) {
    queue(PICA__CONTAINER_OF(pause, pica_process, pause));
}

/* It cannot be watched now. */
static void pause_watch(pica_process *p) {
    pica__pause_begin(p->home, &p->pause, PAUSE_NS);
}

static void arm(pica__call *call) {
    pica_process *p = PICA__CONTAINER_OF(call, pica_process, arm);
    p->queued = false;
    if (!p->closing && pica__engine_submit(p->home->engine, &p->op) == 0) {
        return;
    }
    if (!watch_ends(p)) { /* it may have ended unwatched */
        pause_watch(p);
    }
}

static void complete(pica__op *op, int result, bool more) {
    pica_process *p = PICA__CONTAINER_OF(op, pica_process, op);
    (void)more;
    if (watch_ends(p)) {
        return;
    }
    if (result < 0) {
        pause_watch(p);
    } else {
        queue(p);
    }
}

static void closer_pin(pica__closer *closer) {
    (void)closer; /* the watch ends on this thread only */
}

static void closer_close(pica__closer *closer) {
    pica_process *p = PICA__CONTAINER_OF(closer, pica_process, closer);
    p->closing = true;
    if (pica__pause_end(p->home, &p->pause)) {
        queue(p);
    } else if (!p->queued) {
        pica__engine_cancel(p->home->engine, &p->op);
    }
}

/* --- the pipes --- */

/* Makes a stream of the program's end of a pipe, which is taken over in any case. */
static int stream_open(pica_process *p, int fd, size_t limit, pica_reader **reader,
                       pica_writer **writer) {
    pica_socket *socket;
    int rc = pica__socket_adopt(&socket, fd, p->home);
    if (rc < 0) {
        (void)pica__sys_close(fd);
        return rc;
    }
    rc = pica_open_socket(socket, limit, reader, writer);
    if (rc < 0) {
        pica_socket_close(socket);
    }
    return rc;
}

/* A pipe for one of the three: *child is the child's end. */
static int pipe_open(pica_process *p, int which, size_t limit, int *child) {
    int fds[2];
    pica_reader *unused;
    if (which == 0) {
        int rc = pica__sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
        if (rc < 0) {
            return rc;
        }
        *child = fds[0];
        (void)pica__sys_shutdown(fds[1], SHUT_RD); /* one way, as a pipe */
        return stream_open(p, fds[1], limit, &unused, &p->in);
    }
    int rc = pica__sys_pipe2(fds, O_CLOEXEC);
    if (rc < 0) {
        return rc;
    }
    *child = fds[1];
    return which == 1 ? stream_open(p, fds[0], limit, &p->out, &p->out_end)
                      : stream_open(p, fds[0], limit, &p->err, &p->err_end);
}

/* What one of the three is to be: a descriptor of our own above 2, or `which` itself, the program's, if it has that
 * (which was looked at before any other could get its number). */
static int file_open(pica_process *p, int which, int kind, size_t limit, int *child) {
    int rc = 0;
    switch (kind) {
        case PICA_INHERIT:
        case PICA_STDOUT:
            return 0; /* *child is right */
        case PICA_PIPE:
            rc = pipe_open(p, which, limit, child);
            break;
        case PICA_DEVNULL:
            rc = *child = pica__sys_open("/dev/null", O_RDWR | O_CLOEXEC);
            break;
        default:
            rc = *child = pica__sys_fcntl(kind, F_DUPFD_CLOEXEC, 3);
            break;
    }
    if (*child >= 0 && *child < 3) { /* the program runs without some of its three */
        int low = *child;
        *child = rc < 0 ? -1 : pica__sys_fcntl(low, F_DUPFD_CLOEXEC, 3);
        rc = rc < 0 ? rc : *child;
        (void)pica__sys_close(low);
    }
    return rc < 0 ? rc : 0;
}

static void streams_release(pica_process *p, bool abort) {
    if (abort && p->in != NULL) {
        pica_writer_abort(p->in);
    }
    pica_writer_release(p->in); /* sends what is pending first */
    pica_writer_release(p->out_end);
    pica_writer_release(p->err_end);
}

/* --- starting --- */

/* Starts the program and gets hold of its process. */
static int start(pica_process *p, const struct pica__spawn *spawn) {
    int reserved = pica__sys_eventfd(0, EFD_CLOEXEC);
    if (reserved < 0) {
        return reserved;
    }
    int rc = pica__spawn(&p->pid, spawn);
    (void)pica__sys_close(reserved);
    if (rc < 0) {
        return rc;
    }
    p->pidfd = pica__sys_pidfd_open(p->pid);
    if (p->pidfd >= 0 || p->pidfd == -ESRCH) {
        return 0; /* or: it has ended, and the program does not want to know (SIGCHLD ignored) */
    }
    (void)kill(p->pid, SIGKILL);
    pica__sys_reap_wait(p->pid);
    return p->pidfd;
}

static int open_and_start(pica_process *p, const char *const argv[],
                          const struct pica_process_options *o) {
    const int kinds[3] = {o->in, o->out, o->err};
    struct pica__spawn spawn = {
        .argv = argv,
        .env = o->env,
        .cwd = o->cwd,
        .new_session = o->new_session != 0,
        .new_group = o->new_group != 0,
        .inherit_fds = o->inherit_fds != 0,
        .err_to_out = o->err == PICA_STDOUT,
        .fd = {-1, -1, -1},
    };
    int rc = 0;
    for (int i = 0; i < 3; i++) {
        bool inherit = kinds[i] == PICA_INHERIT && pica__sys_fcntl(i, F_GETFD, 0) >= 0;
        spawn.fd[i] = inherit ? i : -1;
    }
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = file_open(p, i, kinds[i], o->limit, &spawn.fd[i]);
    }
    if (rc == 0) {
        rc = start(p, &spawn);
    }
    for (int i = 0; i < 3; i++) {
        if (spawn.fd[i] > 2) {
            (void)pica__sys_close(spawn.fd[i]);
        }
    }
    return rc;
}

static int options_check(const struct pica_process_options *o) {
    bool ok = o->size == sizeof *o && o->in >= PICA_INHERIT && o->in != PICA_STDOUT &&
              o->out >= PICA_INHERIT && o->out != PICA_STDOUT && o->err >= PICA_INHERIT;
    return ok ? 0 : -EINVAL;
}

static pica_process *process_new(pica_loop *home, const struct pica_process_options *o) {
    pica_process *p = pica__zalloc(sizeof *p);
    if (p == NULL || pica_future_new(&p->ended) < 0) {
        pica__free(p, sizeof *p);
        return NULL;
    }
    atomic_init(&p->refs, 2);
    atomic_init(&p->code, INT_MIN);
    pica__lock_init(&p->lock);
    p->home = home;
    p->pidfd = -1;
    p->output_limit = o->output_limit == 0 ? OUTPUT_LIMIT : o->output_limit;
    p->closer.pin = closer_pin;
    p->closer.close = closer_close;
    pica__call_init(&p->arm, arm);
    pica__pause_init(&p->pause, pause_over);
    return p;
}

/* In a task, with the runtime's descriptors counted up by one, which the watch takes over on success. */
static int create(pica_process **out, pica_loop *home, const char *const argv[],
                  const struct pica_process_options *o) {
    pica_process *p = process_new(home, o);
    if (p == NULL) {
        return -ENOMEM;
    }
    int rc = open_and_start(p, argv, o);
    if (rc < 0) {
        streams_release(p, true);
        pica_future_unref(p->ended);
        pica__free(p, sizeof *p);
        return rc;
    }
    *out = p;
    if (p->pidfd < 0) {
        p->pidfd = -1;
        tell(p, CODE_LOST);
        process_unref(p);
        pica__socket_gone(home->rt);
        return 0;
    }
    pica__op_init(&p->op, PICA__OP_POLL, p->pidfd, complete);
    p->op.events = POLLIN;
    p->queued = true;
    pica__closer_add(home, &p->closer);
    pica__call_soon(home, &p->arm);
    return 0;
}

int pica_create_subprocess_exec(pica_process **out, const char *const argv[],
                                const struct pica_process_options *options) {
    static const struct pica_process_options defaults = PICA_PROCESS_OPTIONS_INIT;
    const struct pica_process_options *o = options == NULL ? &defaults : options;
    if (out == NULL || argv == NULL || argv[0] == NULL || options_check(o) < 0) {
        return -EINVAL;
    }
    pica_task *task;
    int rc = pica__operation_begin(&task);
    if (rc < 0) {
        return rc;
    }
    pica_runtime *rt = task->loop->rt;
    atomic_fetch_add_explicit(&rt->sockets, 1, memory_order_seq_cst);
    rc = pica__phase(rt) >= PICA__CLOSING ? PICA_ECLOSED : create(out, task->loop, argv, o);
    if (rc < 0) {
        pica__socket_gone(rt);
    }
    return rc;
}

int pica_create_subprocess_shell(pica_process **out, const char *command,
                                 const struct pica_process_options *options) {
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    return command == NULL ? -EINVAL : pica_create_subprocess_exec(out, argv, options);
}

/* --- the handle --- */

int pica_process_returncode(const pica_process *p, int *returncode) {
    int code = atomic_load_explicit((_Atomic int *)(uintptr_t)&p->code, memory_order_acquire);
    if (code == INT_MIN) {
        return 0;
    }
    if (returncode != NULL) {
        *returncode = code;
    }
    return 1;
}

int pica_process_wait(pica_process *p, int *returncode) {
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    int rc = pica_shield(p->ended, NULL);
    if (rc == 0) {
        (void)pica_process_returncode(p, returncode);
    }
    process_unref(p);
    return rc;
}

int pica_process_pid(const pica_process *p) {
    return (int)p->pid;
}

int pica_process_send_signal(pica_process *p, int signum) {
    pica__lock(&p->lock);
    int rc = p->pidfd < 0 ? -ESRCH : pica__sys_pidfd_send_signal(p->pidfd, signum);
    pica__unlock(&p->lock);
    return rc;
}

int pica_process_terminate(pica_process *p) {
    return pica_process_send_signal(p, SIGTERM);
}

int pica_process_kill(pica_process *p) {
    return pica_process_send_signal(p, SIGKILL);
}

pica_writer *pica_process_stdin(pica_process *p) {
    return p->in;
}

pica_reader *pica_process_stdout(pica_process *p) {
    return p->out;
}

pica_reader *pica_process_stderr(pica_process *p) {
    return p->err;
}

void pica_process_release(pica_process *p) {
    if (p != NULL) {
        streams_release(p, false);
        process_unref(p);
    }
}
