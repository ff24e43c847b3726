/*
 * Processes and names of the simulation: scripted stand-ins.
 *
 * A process is an actor that runs a function which a scenario has given a name (pica_sim_program). It gets the
 * descriptors that its parent meant for it, by taking them over: the parent's numbers are dead ends from then on, to
 * be closed. A signal that is not handled, and none is, ends it: its descriptors are closed at once, and its calls
 * return -ESHUTDOWN.
 */
#ifndef PICA__RUNTIME_BASE_SIM_CHILD_H
#define PICA__RUNTIME_BASE_SIM_CHILD_H

#include <stddef.h>
#include <sys/types.h>

#include <pica/net.h>

/* fd: the child's stdin, stdout, stderr; err_to_out: the last is the one before. 0 or -ENOENT, -EAGAIN, -ENOMEM. */
int pica__sim_spawn(pid_t *pid, const char *const *argv, const int fd[3], int err_to_out);
int pica__sim_pidfd_open(pid_t pid);
int pica__sim_pidfd_send_signal(int pidfd, int signum);
/* As pica__sys_reap. */
int pica__sim_reap(int pidfd, int *code);
void pica__sim_reap_wait(pid_t pid);
/* Whether the running actor is a process that was killed. */
int pica__sim_child_killed(void);
void pica__sim_children_end(void);

/* The addresses of a host, at most max: how many; 0: it is not known; -EAGAIN: not now. Takes its time. */
int pica__sim_resolve(const char *host, pica_address addresses[], int max);
void pica__sim_names_end(void);

#endif
