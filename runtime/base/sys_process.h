/*
 * System calls about signals, processes and pipes, as in sys.h: 0 or more on success, -errno on failure,
 * errno itself is never seen by callers. None restarts after EINTR.
 */
#ifndef PICA__RUNTIME_BASE_SYS_PROCESS_H
#define PICA__RUNTIME_BASE_SYS_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct iovec;

int pica__sys_sigaction(int signum, const struct sigaction *action, struct sigaction *old);

int pica__sys_pipe2(int fds[2], int flags);
int pica__sys_open(const char *path, int flags);

/* A close-on-exec descriptor of a process. */
int pica__sys_pidfd_open(pid_t pid);
int pica__sys_pidfd_send_signal(int pidfd, int signum);
/* Takes the end of a child, if it has ended: 1 and its return code (the exit code, or minus the signal); 0 if it
 * runs. -ECHILD: it is no child of ours any more. Never waits. */
int pica__sys_reap(int pidfd, int *code);
/* Waits for a child that is about to end, and takes its end. */
void pica__sys_reap_wait(pid_t pid);

/* As writev, for descriptors that are no sockets, without SIGPIPE: where nobody reads any more the result is -EPIPE
 * and no signal is left behind. Three system calls more than a plain write. */
ssize_t pica__sys_writev_quiet(int fd, const struct iovec *buffers, int count);

#endif
