/* The task: identity, word, result, and where it is suspended. Its stack is somebody else's: a task
 * that was not started, or that ended, has none (fiber.h).
 *
 * References: one of the runtime until the task has ended, one per start entry in a queue (an entry
 * may outlive the task: its await in place leaves it behind, dead), and those of users. A resume
 * entry needs none: the task has not ended.
 */
#ifndef PICA__RUNTIME_TASK_H
#define PICA__RUNTIME_TASK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/task.h>

#include "runtime/base/compiler.h"
#include "runtime/base/list.h"
#include "runtime/future.h"
#include "runtime/wait.h"

struct pica__fiber;
struct pica__task_alarm;

/* An entry of a loop's FIFO, an inbox or the shared queue. run is called on the loop's stack. */
typedef struct pica__work {
    pica__fifo_node node;
    enum pica__work_kind {
        PICA__WORK_CALL,   /* a pica__call (loop.h) of the library itself */
        PICA__WORK_USER,   /* a pica__call that calls a user's function: dropped when the runtime ends */
        PICA__WORK_START,  /* a task that may not be started yet */
        PICA__WORK_RESUME  /* a task that was suspended and may go on */
    } kind;
} pica__work;

/* A member of a loop's registry. */
typedef struct pica__registered {
    pica__link link;
    uint64_t id;              /* unique in the runtime; 0: the place of somebody who walks the list */
} pica__registered;

struct pica_task {
    pica_future future;       /* first: a task is a future */
    /* What a resumption needs: one line. */
    /* See wait.h. Written by the task's worker, by whoever fires its wait, and by cancellers, all by
     * read-modify-writes with acq_rel, which are each other's partners. */
    _Atomic uint32_t word;
    bool pinned;              /* constant: runs on the worker of its home loop only */
    bool own_stack;           /* constant: a stack of a size of its own */
    /* Suspensions, awaits in place among them; wraps. Written by the task before it waits, read by
     * dump.c to see whether what it read of a wait was one and the same. */
    uint16_t waits;
    /* What a wait ended with. Written by whoever fires or withdraws it, or by its commit, before the task is made
     * runnable; read by the task when it has resumed. Here and not in the wait, because it is known when the task's
     * stack is in no cache yet. */
    int outcome;
    uint32_t stack_pages;     /* of PICA__STACK_UNIT bytes, if own_stack */
    pica_loop *loop;          /* home, constant */
    pica__wait *wait;         /* while WAITING or CLAIMED: where; written before WAITING */
    struct pica__fiber *fiber; /* while suspended: where to switch to */
    /* What the worker that resumes the task does first, while the stack is on its way; NULL: nothing. Written by
     * the task before it waits, and taken out by the worker: see pica__suspend_ahead. */
    pica__ahead_fn ahead;
    void *ahead_arg;
    struct pica__task_alarm *alarm; /* of its time-out scopes, or NULL (alarm.h). Owner only */
    pica__work ready;         /* linked while in an intrusive queue to be resumed */
    pica_fn fn;
    void *arg;
    pica_destroy arg_destroy;
    pica__work start;         /* linked while in an intrusive queue as unstarted */
    pica__registered all;     /* in the loop's registry of tasks that have not ended */
    char *name;               /* NULL: "Task-<id>", made when it is asked for */
    /* With PICA_DEBUG=trace, else unset; constant. */
    const void *created_at;   /* return address into whoever created it */
    int64_t created_ns;
    /* What pica_return and pica_fail left; moved into the future at the end. Owner only. */
    void *value;
    pica_destroy destroy;
    pica_error *error;
#if PICA__TSAN
    void *tsan_fiber;
#endif
};

/* In what the sizes of own stacks are kept; the smallest page there is. */
#define PICA__STACK_UNIT ((size_t)4096)

/* Rounded up to whole lines, so that allocators with classes of sizes begin it on one: what a resumption
 * needs (word to alarm) then lies in one. */
#define PICA__TASK_SIZE ((sizeof(struct pica_task) + PICA__CACHELINE - 1) / PICA__CACHELINE * PICA__CACHELINE)

_Static_assert(offsetof(struct pica_task, word) / PICA__CACHELINE ==
                   (offsetof(struct pica_task, alarm) + sizeof(void *) - 1) / PICA__CACHELINE,
               "a resumption needs one line");

/* Asks for the line that a resumption needs. */
static inline void pica__task_prefetch(const pica_task *task) {
    __builtin_prefetch((const char *)task + offsetof(struct pica_task, word), 1);
}

static inline uint32_t pica__task_state(uint32_t word) {
    return word & PICA__TASK_STATE;
}

/* NEW -> RUNNING; false if somebody else started it (or it was never unstarted). */
bool pica__task_claim(pica_task *task);
/* Runs a claimed task on the present stack, to its end. The caller's view of its worker is stale
 * afterwards: the task may have suspended and continued elsewhere. */
void pica__task_execute(pica_task *task);
/* Ends a claimed task that never ran, with code. */
void pica__task_end_unstarted(pica_task *task, int code);

#if PICA__TSAN
/* Pinned tasks, all tasks in fifo order, and the callbacks of a loop run one at a time: users may rely on
 * that, so the sanitizer is told. Called in the task's own context when it goes on and when it stops. */
void pica__task_serial_begin(pica_task *task);
void pica__task_serial_end(pica_task *task);
#else
static inline void pica__task_serial_begin(pica_task *task) {
    (void)task;
}
static inline void pica__task_serial_end(pica_task *task) {
    (void)task;
}
#endif

/* Drops a reference; the last one frees. Unlike pica_task_unref it may run anywhere. */
void pica__task_unref(pica_task *task);

/* pica_create_task_opts for a given loop, from any thread; the loop's runtime must be open. queue:
 * whether to make it runnable at once. */
int pica__task_create(pica_task **out, pica_loop *loop, pica_fn fn, void *arg,
                      const struct pica_task_options *options);

/* The await of task by the current task, in place if that is possible. Returns true if the task has
 * been run to its end; false with *rc == 0: wait for it; with *rc > 0: the turn's budget is spent, so
 * wait, or yield and try again; with *rc < 0: fail so. keeps: a cancellation of self that reaches task
 * meanwhile stays pending for self, and one that was pending before is told by true with *rc ==
 * PICA_ECANCELED. */
bool pica__await_in_place(pica_task *self, pica_task *task, bool keeps, int *rc);

#endif
