/* Runtimes: worker threads with a loop each, and the calls that start, run and end them. */
#ifndef PICA_RUNTIME_H
#define PICA_RUNTIME_H

#include <pica/base.h>
#include <pica/error.h>

PICA_BEGIN_DECLS

typedef struct pica_runtime pica_runtime;
typedef struct pica_loop pica_loop;
typedef struct pica_task pica_task;

enum { PICA_ORDER_FREE = 1, PICA_ORDER_FIFO = 2 };

/* Told of a task that ended with an error that nobody can see any more: the last reference went
 * away before its result was looked at. name is borrowed; error may be NULL. Runs on the thread
 * that dropped the last reference, must not suspend. */
typedef void (*pica_task_error_hook)(void *ctx, const char *name, int code, pica_error *error);
/* Told of each log line; text has no newline. Called from any thread. */
typedef void (*pica_log_hook)(void *ctx, int level, const char *text);

/* Zero in a field means: take the environment variable, else the default. An option that is set
 * wins over the environment. Start from PICA_RUNTIME_OPTIONS_INIT. */
struct pica_runtime_options {
    size_t size;               /* sizeof(struct pica_runtime_options) */
    unsigned workers;          /* PICA_WORKERS: worker threads, 1 to 1024 */
    unsigned ring_entries;     /* PICA_RING_ENTRIES: submission entries of each ring */
    size_t stack_size;         /* PICA_STACK_SIZE: bytes of address space of a task's stack */
    size_t max_stacks;         /* PICA_MAX_STACKS: limit on task stacks; without one: none */
    int order;                 /* PICA_ORDER: PICA_ORDER_FREE or PICA_ORDER_FIFO */
    int affinity;              /* PICA_AFFINITY: 1 pins worker i to the i-th allowed CPU, -1 no */
    uint64_t seed;             /* PICA_SEED: of victim choice and jitter */
    pica_task_error_hook task_error; /* default: one log line */
    void *task_error_ctx;
    pica_log_hook log;         /* process-wide, the last one set holds; default: stderr */
    void *log_ctx;
    const struct pica_allocator *allocator; /* process-wide; must be set before the first use */
    /* 1: while a main task runs (pica_run, pica_run_until_complete), SIGINT and SIGTERM cancel it, as Ctrl-C does
     * in asyncio.run: the run returns PICA_ECANCELED, or what main makes of it. The second one ends the
     * process, by the default disposition. A signal that was ignored or handled when the run began is
     * left alone; pica_add_signal_handler of the same runtime takes one over. 0: off */
    int handle_signals;
};
#define PICA_RUNTIME_OPTIONS_INIT                                                                 \
    { sizeof(struct pica_runtime_options), 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0 }

/* Makes a runtime, runs fn(arg) as its main task, and ends it as asyncio.run does: when main
 * returns, every other task is cancelled and awaited, then the runtime is closed. The calling
 * thread sleeps meanwhile and is not a worker; but with one worker, which is not pinned, it is that
 * worker, and the process needs no other thread.
 * Returns main's result, or the error that prevented the start: -EINVAL (a bad environment
 * variable or option, named in the log), -ENOMEM, -EAGAIN (no thread), -EPERM or -ENOSYS
 * (io_uring is forbidden here), -EDEADLK (called from a task or callback).
 * Any thread outside a runtime. */
PICA_API int pica_run(pica_fn fn, void *arg);
/* The same with options; options may be NULL. */
PICA_API int pica_run_opts(pica_fn fn, void *arg, const struct pica_runtime_options *options);

/* Makes a runtime and starts its workers, which sleep until something is run. Errors as pica_run.
 * Several may exist in a process; they share nothing but the hooks marked process-wide. */
PICA_API int pica_runtime_new(pica_runtime **out, const struct pica_runtime_options *options);
/* Runs fn(arg) as a task and blocks the calling thread until it is done; other tasks go on
 * running between two calls only as far as the workers got: they stay suspended until the next
 * run. Returns the task's result; PICA_EINVALSTATE if pica_stop ended the run first; -EBUSY if the
 * runtime is running already; -EDEADLK from inside a runtime; PICA_ECLOSED; -ENOMEM. */
PICA_API int pica_run_until_complete(pica_runtime *rt, pica_fn fn, void *arg);
/* Blocks the calling thread until pica_stop. 0, or -EBUSY, -EDEADLK, PICA_ECLOSED. */
PICA_API int pica_run_forever(pica_runtime *rt);
/* Ends the present run: each worker finishes the batch it is in, what is queued stays queued. A
 * stop before a run makes the next run return after one turn of each loop. Any thread,
 * async-signal-safe. */
PICA_API void pica_stop(pica_runtime *rt);
/* Ends the runtime: cancels every task and lets them end (for at most grace seconds; a task that
 * is still suspended then is abandoned, its memory kept, and reported), drops queued callbacks
 * and timers, joins the workers, frees everything. Returns 0; -EBUSY while it runs; -EDEADLK from
 * inside. rt must not be used afterwards. Who has references to its tasks, or thread futures, may still
 * look at them and drop them; the last one frees what they needed of the runtime. */
PICA_API int pica_close(pica_runtime *rt);

/* The runtime of the calling worker; NULL on other threads. */
PICA_API pica_runtime *pica_current_runtime(void);
PICA_API unsigned pica_runtime_workers(const pica_runtime *rt);
/* How loop 0 asks the kernel for I/O: "io_uring" or "epoll". (All loops do it the same way, unless io_uring was
 * forbidden or allowed while they were made.) Any thread, while rt is open; a constant string. */
PICA_API const char *pica_runtime_engine(const pica_runtime *rt);
/* Loop i of a runtime, 0 <= i < workers; NULL otherwise. Lives as long as the runtime. */
PICA_API pica_loop *pica_runtime_loop(pica_runtime *rt, unsigned i);

/* What a runtime is doing: numbers of now, and counters (marked "so far") that only grow. They are taken
 * without stopping anything: each is exact, together they are no consistent cut. */
struct pica_runtime_stats {
    size_t size;              /* in: sizeof(struct pica_runtime_stats) */
    uint64_t workers;
    uint64_t tasks_alive;     /* created and not ended */
    uint64_t tasks_created;   /* so far */
    uint64_t tasks_ended;     /* so far */
    uint64_t tasks_inplace;   /* so far: started on their awaiter's stack */
    uint64_t steps;           /* so far: times a task was started or resumed */
    uint64_t callbacks;       /* so far: callbacks run, those of the library itself among them */
    uint64_t steals;          /* so far: tasks taken from another worker */
    uint64_t parks;           /* so far: times a worker went to sleep */
    uint64_t wakes;           /* so far: times a sleeping worker was woken by another thread */
    uint64_t bytes_received;  /* so far: from sockets */
    uint64_t bytes_sent;      /* so far: handed to the kernel for sockets */
    uint64_t rescued;         /* so far: connections accepted for a loop whose worker was held up */
    uint64_t stacks_live;     /* task stacks in use or cached by workers */
    uint64_t stacks_idle;     /* task stacks kept for reuse */
    uint64_t stacks_high_water; /* the most that were live at once */
    uint64_t operations;      /* engine operations in flight */
    uint64_t sockets;         /* open descriptors: sockets, listeners, files, watched ones, children */
    uint64_t timers;          /* armed: sleeps, time-outs, calls for later */
    uint64_t ready_callbacks; /* queued on the loops: callbacks, and tasks that are pinned or in fifo order */
    uint64_t deque_length;    /* runnable tasks queued at workers */
    uint64_t shared_length;   /* runnable tasks in the queue that all workers share */
    uint64_t starved_length;  /* tasks that wait for a stack */
};
/* Fills *stats. 0, or -EINVAL for a wrong size. Does not suspend; any thread, while rt is open. */
PICA_API int pica_runtime_get_stats(pica_runtime *rt, struct pica_runtime_stats *stats);

/* The part of one worker and its loop, in the same words. */
struct pica_worker_stats {
    size_t size;              /* in: sizeof(struct pica_worker_stats) */
    uint64_t tasks_home;      /* tasks alive that are at home on the worker's loop */
    uint64_t tasks_created;   /* by what ran on this worker */
    uint64_t tasks_inplace;
    uint64_t steps;
    uint64_t callbacks;
    uint64_t steals;          /* tasks that this worker took from others */
    uint64_t parks;
    uint64_t wakes;
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t rescued;         /* connections that this worker accepted for another's loop */
    uint64_t operations;
    uint64_t timers;
    uint64_t ready_callbacks;
    uint64_t deque_length;
};
/* Fills *stats for worker i. 0, or -EINVAL for a wrong size or an index out of range. Does not suspend;
 * any thread, while rt is open. */
PICA_API int pica_runtime_worker_stats(pica_runtime *rt, unsigned i,
                                       struct pica_worker_stats *stats);
/* The steps counter of one worker; 0 for an index out of range. Any thread. */
PICA_API uint64_t pica_runtime_worker_steps(pica_runtime *rt, unsigned i);
/* The same numbers as text, as Prometheus reads it: a line "pica_NAME VALUE" for each of the runtime's and
 * "pica_worker_NAME{worker=\"I\"} VALUE" for each of a worker's; counters end in _total. At most size bytes
 * are written, with a zero at the end unless size is 0. Returns the length of the whole text, as snprintf
 * does: if that is not below size, the text was cut. Does not suspend; any thread, while rt is open. */
PICA_API long pica_runtime_format_stats(pica_runtime *rt, char *buffer, size_t size);

PICA_END_DECLS
#endif
