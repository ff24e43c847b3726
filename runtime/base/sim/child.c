/*
 * Processes of the simulation: see child.h.
 */
#include "runtime/base/sim/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/sim/disk.h"
#include "runtime/base/sim/net.h"
#include "runtime/base/sim/sys.h"

enum { PROGRAMS = 32, ARGUMENTS = 64 };

/* Numbers that no process of the system has. */
#define FIRST_PID (1 << 22)

static struct {
    char name[64];
    int (*fn)(int argc, const char *const argv[], void *arg);
    void *arg;
} programs[PROGRAMS];
static int program_count;

typedef struct pica__sim_child {
    pica__link link;
    pid_t pid;
    int program;
    char *argv[ARGUMENTS + 1];
    int argc;
    int fd[3];            /* its own descriptors; -1: none; 0 to 2: those of this process */
    bool ended;
    bool killed;
    bool reaped;
    int code;
    pica__sim_file *watched; /* by a process descriptor, or NULL */
} pica__sim_child;

static pica__link children;
static pid_t last_pid;

static void children_begin(void) {
    if (children.next == NULL) {
        pica__list_init(&children);
    }
}

static void child_free(pica__sim_child *child) {
    pica__list_remove(&child->link);
    for (int i = 0; i < child->argc; i++) {
        free(child->argv[i]);
    }
    free(child);
}

void pica__sim_children_end(void) {
    children_begin();
    pica__link *l;
    while ((l = pica__list_first(&children)) != NULL) {
        child_free(PICA__CONTAINER_OF(l, pica__sim_child, link));
    }
    program_count = 0;
    last_pid = FIRST_PID;
}

int pica_sim_program(const char *name, int (*fn)(int argc, const char *const argv[], void *arg),
                     void *arg) {
    if (!pica__simulated() || program_count == PROGRAMS ||
        strlen(name) >= sizeof programs[0].name) {
        return pica__simulated() ? -ENOMEM : -ESHUTDOWN;
    }
    (void)snprintf(programs[program_count].name, sizeof programs[0].name, "%s", name);
    programs[program_count].fn = fn;
    programs[program_count++].arg = arg;
    return 0;
}

/* --- its life --- */

static void child_over(pica__sim_child *child, int code) {
    if (child->ended) {
        return;
    }
    child->ended = true;
    child->code = code;
    for (int i = 0; i < 3; i++) {
        if (child->fd[i] >= PICA__SIM_FD && (i == 0 || child->fd[i] != child->fd[i - 1])) {
            pica__sim_file *file = pica__sim_file_of(child->fd[i]);
            pica__list_init(&file->watches); /* the actor that waits there is woken by the kill */
            (void)pica__sim_close(child->fd[i]);
        }
        child->fd[i] = -1;
    }
    pica__sim_note((uint64_t)(uint32_t)code);
    if (child->watched != NULL) {
        pica__sim_file_notify(child->watched, POLLIN);
    }
}

static void *child_main(void *arg) {
    pica__sim_child *child = arg;
    pica__sim_current()->child = child;
    int code = programs[child->program].fn(child->argc, (const char *const *)child->argv,
                                           programs[child->program].arg);
    child_over(child, code & 0xff);
    return NULL;
}

int pica__sim_child_killed(void) {
    const pica__sim_child *child = pica__sim_current()->child;
    return child != NULL && child->killed;
}

int pica_sim_stdio(int which) {
    const pica__sim_child *child = pica__simulated() ? pica__sim_current()->child : NULL;
    return child != NULL && which >= 0 && which < 3 ? child->fd[which] : -1;
}

/* Gives what is behind the parent's descriptor to a new one of the child. */
static int take_over(int fd) {
    if (fd < PICA__SIM_FD) {
        return fd; /* inherited, or none */
    }
    pica__sim_file *from = pica__sim_file_of(fd);
    pica__sim_file *to = pica__sim_file_make(from->kind);
    to->actor = true;
    to->socket = from->socket;
    to->family = from->family;
    to->flags = from->flags;
    to->in = from->in;
    to->out = from->out;
    to->inode = from->inode;
    if (to->in != NULL) {
        to->in->reader = to;
    }
    if (to->out != NULL) {
        to->out->writer = to;
    }
    from->in = from->out = NULL;
    from->inode = NULL;
    from->kind = from->kind == PICA__SIM_DISK ? PICA__SIM_DISK : PICA__SIM_SOCKET;
    return pica__sim_file_number(to);
}

static int program_named(const char *name) {
    for (int i = 0; i < program_count; i++) {
        if (strcmp(programs[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int pica__sim_spawn(pid_t *pid, const char *const *argv, const int fd[3], int err_to_out) {
    pica__sim_point();
    children_begin();
    int program = program_named(argv[0]);
    if (program < 0) {
        return -ENOENT;
    }
    if (pica__sim_fault(PICA_SIM_EMFILE)) {
        return -EAGAIN;
    }
    pica__sim_child *child = calloc(1, sizeof *child);
    if (child == NULL) {
        return -ENOMEM;
    }
    child->program = program;
    child->pid = last_pid = last_pid < FIRST_PID ? FIRST_PID + 1 : last_pid + 1;
    pica__list_push_back(&children, &child->link);
    while (argv[child->argc] != NULL && child->argc < ARGUMENTS &&
           (child->argv[child->argc] = strdup(argv[child->argc])) != NULL) {
        child->argc++;
    }
    pica__sim_thread *t = pica__sim_thread_make(child_main, child, argv[0]);
    if (t == NULL) {
        child_free(child);
        return -EAGAIN;
    }
    t->actor = t->detached = true;
    for (int i = 0; i < 3; i++) {
        child->fd[i] = i == 2 && err_to_out ? child->fd[1] : take_over(fd[i]);
    }
    *pid = child->pid;
    return 0;
}

/* --- the parent's calls --- */

static pica__sim_child *child_of(pid_t pid) {
    children_begin();
    for (pica__link *l = children.next; l != &children; l = l->next) {
        pica__sim_child *child = PICA__CONTAINER_OF(l, pica__sim_child, link);
        if (child->pid == pid && !child->reaped) {
            return child;
        }
    }
    return NULL;
}

int pica__sim_pidfd_open(pid_t pid) {
    pica__sim_point();
    pica__sim_child *child = child_of(pid);
    if (child == NULL) {
        return -ESRCH;
    }
    pica__sim_file *file;
    int fd = pica__sim_file_open(&file, PICA__SIM_CHILD);
    if (fd >= 0) {
        file->child = child;
        child->watched = file;
    }
    return fd;
}

bool pica__sim_child_ended(const pica__sim_file *file) {
    return file->child != NULL && file->child->ended;
}

void pica__sim_child_unwatch(pica__sim_file *file) {
    if (file->child != NULL) {
        file->child->watched = NULL;
    }
}

static void child_kill(pica__sim_child *child, int signum) {
    if (child->ended || signum == 0) {
        return;
    }
    child->killed = true;
    child_over(child, -signum);
    for (unsigned i = 0; i < pica__the_sim.threads; i++) {
        if (pica__the_sim.thread[i]->child == child) {
            pica__sim_wake(pica__the_sim.thread[i]);
        }
    }
}

int pica__sim_pidfd_send_signal(int pidfd, int signum) {
    pica__sim_point();
    pica__sim_file *file = pica__sim_file_of(pidfd);
    if (file->child == NULL || file->child->reaped) {
        return -ESRCH;
    }
    child_kill(file->child, signum);
    return 0;
}

int pica__sim_reap(int pidfd, int *code) {
    pica__sim_child *child = pica__sim_file_of(pidfd)->child;
    if (child == NULL || child->reaped) {
        return -ECHILD;
    }
    if (!child->ended) {
        return 0;
    }
    child->reaped = true;
    *code = child->code;
    return 1;
}

/* Of one whose descriptor could not be had. */
void pica__sim_reap_wait(pid_t pid) {
    pica__sim_child *child = child_of(pid);
    if (child != NULL) {
        child_kill(child, SIGKILL);
        child->reaped = true;
    }
}
