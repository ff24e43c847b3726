/* A child process's handle, for process.c (its life) and process_communicate.c. */
#ifndef PICA__IO_PROCESS_H
#define PICA__IO_PROCESS_H

#include <pica/process.h>

#include "io/engine/engine.h"
#include "runtime/base/lock.h"
#include "runtime/loop.h"

struct pica_process {
    /* The user's, the watch's, and one for each task in pica_process_wait. Added relaxed, dropped acq_rel. */
    _Atomic uint32_t refs;
    /* INT_MIN while it runs. Written once by the watch (release) before `ended` is completed, read by everybody
     * (acquire). */
    _Atomic int code;
    pica_future *ended;
    pica_loop *home;
    pid_t pid;
    size_t output_limit;
    pica_writer *in;         /* the pipes' streams, or NULL: the user's */
    pica_reader *out;
    pica_reader *err;
    pica_writer *out_end;    /* the other halves of out and err, by which they are released */
    pica_writer *err_end;
    pica__lock_t lock;       /* of pidfd: it is not closed while a signal is sent */
    int pidfd;               /* -1 once it is closed */
    /* The watch; home loop only. */
    pica__op op;
    pica__call arm;
    pica__closer closer;
    pica__pause pause;       /* lasts: there was no memory to watch it, arm comes later */
    bool queued;             /* arm is in the loop's FIFO */
    bool closing;            /* the runtime ends */
};

#endif
