/* Starting a program in a child: see process_spawn.c. */
#ifndef PICA__IO_PROCESS_SPAWN_H
#define PICA__IO_PROCESS_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

struct pica__spawn {
    const char *const *argv; /* argv[0] is searched for in PATH */
    const char *const *env;  /* NULL: the process's */
    const char *cwd;         /* or NULL */
    bool new_session;
    bool new_group;
    bool inherit_fds;
    bool err_to_out;         /* fd[2] is not looked at */
    int fd[3];               /* the child's stdin, stdout, stderr: above 2; or i, its own; or -1: none */
};

/* Starts it: 0 and *pid once the new program has begun, or the error of what could not be done. Blocks the
 * thread meanwhile. Leaves all descriptors of this process as they are. */
int pica__spawn(pid_t *pid, const struct pica__spawn *spawn);

#endif
