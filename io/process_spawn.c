/* Starting a program: posix_spawn, which the C library does with a child that shares our memory until the program
 * begins (so its cost does not grow with ours, and it brings its error back without a pipe), on a stack of
 * its own, with all signals blocked in between.
 *
 * The three descriptors come from numbers above 2 or stay what they are, so no duplicate overwrites a source of the
 * next one. All
 * others are closed in the child, unless they are to be inherited: the library's own are close-on-exec anyway.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "io/process_spawn.h"

#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "runtime/base/sim/child.h"
#include "runtime/base/sim/sim.h"

static int add_files(posix_spawn_file_actions_t *files, const struct pica__spawn *spawn) {
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        int from = i == 2 && spawn->err_to_out ? 1 : spawn->fd[i];
        if (from >= 0) { /* perhaps to itself: then it stays open, whatever its flag says */
            rc = posix_spawn_file_actions_adddup2(files, from, i);
        }
    }
    if (rc == 0 && !spawn->inherit_fds) {
        rc = posix_spawn_file_actions_addclosefrom_np(files, 3);
    }
    if (rc == 0 && spawn->cwd != NULL) {
        rc = posix_spawn_file_actions_addchdir_np(files, spawn->cwd);
    }
    return rc;
}

static int set_attributes(posix_spawnattr_t *attributes, const struct pica__spawn *spawn) {
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    if (spawn->new_session) {
        flags |= POSIX_SPAWN_SETSID;
    } else if (spawn->new_group) {
        flags |= POSIX_SPAWN_SETPGROUP; /* group 0, the default: its own */
    }
    int rc = posix_spawnattr_setsigmask(attributes, &none);
    rc = rc != 0 ? rc : posix_spawnattr_setsigdefault(attributes, &all);
    return rc != 0 ? rc : posix_spawnattr_setflags(attributes, flags);
}

/* Out of line: posix_spawn may touch errno, and the caller suspends. */
PICA__NOINLINE int pica__spawn(pid_t *pid, const struct pica__spawn *spawn) {
    if (pica__simulated()) {
        return pica__sim_spawn(pid, spawn->argv, spawn->fd, spawn->err_to_out);
    }
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc != 0) {
        return -rc;
    }
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        rc = add_files(&files, spawn);
        rc = rc != 0 ? rc : set_attributes(&attributes, spawn);
        if (rc == 0) {
            char *const *env = spawn->env == NULL ? environ : (char *const *)(uintptr_t)spawn->env;
            rc = posix_spawnp(pid, spawn->argv[0], &files, &attributes,
                              (char *const *)(uintptr_t)spawn->argv, env);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return -rc;
}
