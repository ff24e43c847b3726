/* The handle of a file. The rules stand in file.c. */
#ifndef PICA__IO_FILE_H
#define PICA__IO_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <pica/file.h>
#include <pica/sync.h>
#include <pica/task.h>

#include "io/operation.h"
#include "runtime/base/lock.h"
#include "runtime/loop.h"

struct pica_file {
    pica__lock_t lock;  /* covers what follows, to `running` */
    bool closed;        /* no more calls begin */
    bool awaited;       /* pica_file_close closes the descriptor */
    bool released;      /* the user has given the handle back */
    bool done;          /* the descriptor is closed */
    unsigned uses;
    pica__wait *closer_wait; /* pica_file_close waits for the last use */
    pica__link running;      /* struct file_op: what is in the ring */
    int fd;             /* constant */
    bool append;        /* constant: O_APPEND */
    bool nonblock;      /* constant: the user wants O_NONBLOCK */
    /* Learnt once, by anybody; relaxed, each stands for itself. */
    _Atomic bool no_nowait_read;
    _Atomic bool no_nowait_write;
    _Atomic uint8_t kind; /* of file_rw.c */
    pica_lock turn;     /* of those who use the position */
    int64_t position;   /* with the turn */
    pica_loop *home;
    pica__closer closer;
};

/* A use of the descriptor, which stays open until its end: 0 or PICA_ECLOSED. */
int pica__file_begin(pica_file *file);
/* The file may be gone afterwards. */
void pica__file_end(pica_file *file);
/* The entry of a call on a file: the task, and a use. PICA_ENOTASK, PICA_ECANCELED, PICA_ECLOSED. */
int pica__file_call(pica_file *file, pica_task **task);
/* Runs an operation inside a use, as pica__operation_run; PICA_ECLOSED if the file is closed meanwhile. */
int pica__file_run(pica_file *file, pica_task *task, pica__op *op);
/* Whether the file is being closed. */
bool pica__file_closed(pica_file *file);
/* As pica_file_pread, inside a use, by the current task; a pending cancellation is not looked for before. */
ssize_t pica__file_pread(pica_file *file, pica_task *task, void *buffer, size_t size, int64_t offset);
/* Inside a use: whether a read at offset would wait for a disk, or nobody can tell. */
bool pica__file_waits(pica_file *file, int64_t offset);

#endif
