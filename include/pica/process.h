/* Child processes: create_subprocess_exec and Process of asyncio.
 *
 * A child is known by a descriptor of the process, not by its number: a signal never reaches another process that
 * got the number later, and neither a SIGCHLD handler nor a wait for any child is used, so the program's own
 * children are its own. (A program that ignores SIGCHLD, or waits for any child itself, takes the result away:
 * the return code is 255 then.)
 *
 * Every child is reaped when it ends, also when nobody waits for it or its handle was released. What still
 * runs when the runtime is closed is not killed, and belongs to the program from then on.
 *
 * The child begins with no signal blocked, each with its default disposition, and without the program's other
 * descriptors. Its stdin, if it is a pipe, is a pair of Unix sockets in truth: so a write whose reader is gone is
 * an error (-EPIPE or -ECONNRESET) and never a SIGPIPE. What the child cannot do with it is open it again as
 * /dev/stdin; who needs that gives a descriptor. */
#ifndef PICA_PROCESS_H
#define PICA_PROCESS_H

#include <pica/base.h>
#include <pica/stream.h>

PICA_BEGIN_DECLS

typedef struct pica_process pica_process;

/* What a child's stdin, stdout and stderr are; a number from 0 on is a descriptor, which stays the caller's. */
enum {
    PICA_PIPE = -1,
    PICA_STDOUT = -2,  /* stderr only: where stdout goes */
    PICA_DEVNULL = -3,
    PICA_INHERIT = -4  /* the program's own */
};

/* Start from PICA_PROCESS_OPTIONS_INIT. */
struct pica_process_options {
    size_t size;             /* sizeof(struct pica_process_options) */
    int in;                  /* stdin; PICA_INHERIT, as are the two below */
    int out;                 /* stdout */
    int err;                 /* stderr */
    const char *const *env;  /* "NAME=value", ..., NULL; NULL: the program's */
    const char *cwd;         /* the child's directory; NULL: the program's */
    int new_session;         /* 1: leader of a new session, and of a group in it (setsid) */
    int new_group;           /* 1: leader of a new process group */
    int inherit_fds;         /* 1: keeps what is open and not close-on-exec, besides the three */
    size_t limit;            /* of the readers, as of pica_open_connection; 0: 64 KiB */
    size_t output_limit;     /* of pica_process_communicate, for each stream; 0: 64 MiB */
};
#define PICA_PROCESS_OPTIONS_INIT                                                                     \
    {                                                                                                 \
        sizeof(struct pica_process_options), PICA_INHERIT, PICA_INHERIT, PICA_INHERIT, NULL, NULL, 0, \
            0, 0, 0, 0                                                                                \
    }

/* Starts argv[0] (searched for in the program's PATH if it has no slash) with the arguments argv, which ends with
 * NULL. options may be NULL. *out gets a handle, released with pica_process_release. Does not suspend: the
 * thread waits until the new program has begun. Task.
 * PICA_ECANCELED: a cancellation was pending; nothing was started. Errors of exec and chdir, as -ENOENT,
 * -EACCES, -ENOEXEC, -E2BIG; -EINVAL (a bad option); -EBADF (a descriptor that is not open); -EMFILE, -ENFILE,
 * -EAGAIN (limit of processes), -ENOMEM; PICA_ECLOSED if the runtime is closing; PICA_ENOTASK. No child is
 * left on an error. */
PICA_API int pica_create_subprocess_exec(pica_process **out, const char *const argv[],
                                         const struct pica_process_options *options);
/* The same with a command line for /bin/sh. */
PICA_API int pica_create_subprocess_shell(pica_process **out, const char *command,
                                          const struct pica_process_options *options);

/* Suspends until the child has ended; *returncode (may be NULL) gets its exit code, or minus the number of the signal
 * that ended it. Any number of tasks, any number of times. 0; PICA_ECANCELED (the child is left alone: who
 * wants it to end says so); PICA_ENOTASK. Pipes that nobody reads can make it wait for ever. Task. */
PICA_API int pica_process_wait(pica_process *process, int *returncode);
/* The same without waiting: 1 if it has ended and *returncode (may be NULL) is set, else 0. Does not suspend. Any
 * thread. */
PICA_API int pica_process_returncode(const pica_process *process, int *returncode);
/* The number of the process; after its end that may be another's. Any thread. */
PICA_API int pica_process_pid(const pica_process *process);
/* Sends a signal: 0; -ESRCH if it has ended; -EINVAL; -EPERM. Does not suspend. Runtime. */
PICA_API int pica_process_send_signal(pica_process *process, int signum);
/* SIGTERM, and SIGKILL. */
PICA_API int pica_process_terminate(pica_process *process);
PICA_API int pica_process_kill(pica_process *process);

/* The program's ends of the pipes, borrowed until the handle is released; NULL if it is no pipe. The child sees
 * the end of its stdin after pica_writer_write_eof or pica_writer_close. */
PICA_API pica_writer *pica_process_stdin(pica_process *process);
PICA_API pica_reader *pica_process_stdout(pica_process *process);
PICA_API pica_reader *pica_process_stderr(pica_process *process);

/* Writes size bytes of input to the child's stdin and closes it, reads its stdout and stderr to the end, all at the
 * same time, and waits until it has ended (pica_process_returncode tells how). For what is no pipe, size must
 * be 0 and the results are NULL and 0. *out and *err get memory from malloc, which the caller frees, with a
 * zero behind the bytes; each of the four pointers may be NULL: then those bytes are read and dropped. A child that
 * does not read all its input is no error. Suspends; input must stay meanwhile. One call at a time, and no
 * other reads or writes. Task.
 * 0; -EMSGSIZE: a stream brought more than the output limit, and the rest was not read (the child goes on and
 * may wait: kill it); -EINVAL; -ENOMEM; PICA_ENOTASK; errors of the pipes. PICA_ECANCELED: the child is left as it is, alive
 * perhaps, its stdin open if there was input left. On every error *out and *err have what came until then. */
PICA_API int pica_process_communicate(pica_process *process, const void *input, size_t size, void **out,
                                      size_t *out_size, void **err, size_t *err_size);

/* Gives the handle back; NULL is allowed. Its pipes are closed, stdin after what is pending was sent. The child is
 * left alone, and reaped when it ends. No other call on the handle but pica_process_wait may be under way.
 * While its runtime is not closed. Does not suspend. Runtime. */
PICA_API void pica_process_release(pica_process *process);

PICA_END_DECLS
#endif
