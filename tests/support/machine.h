/* What a test may need and a machine may lack, an emulator above all (qemu-user runs the aarch64 build). Each is
 * found out by trying it, in a child if it could do harm, so that it is asked for where it works, whatever the
 * machine is called; a case that lacks something is skipped and says what.
 *
 * pt_emulator is for the little that cannot be tried: figures that count the emulator itself, and races that it
 * loses now and then. The toolchain file sets it (cmake/aarch64.cmake). */
#ifndef MACHINE_H
#define MACHINE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/pt.h"

/* The emulator's name; NULL on a processor. */
static inline const char *pt_emulator(void) {
    return getenv("PT_EMULATOR");
}

/* Whether `works` returns true in a forked child, which writes nothing. */
static inline bool machine_tries(bool (*works)(void)) {
    pid_t pid = fork();
    PT_REQUIRE(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null, STDOUT_FILENO);
        (void)dup2(null, STDERR_FILENO);
        _exit(works() ? 0 : 1);
    }
    int status = -1;
    PT_REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline bool machine_try_exec(void) {
    execl("/proc/self/exe", "self", "--list", (char *)NULL);
    return false;
}

/* Programs for the processor that this one is for. An emulator is known to the kernel only if somebody told it
 * (binfmt_misc). */
static inline void need_exec_of_self(void) {
    if (!machine_tries(machine_try_exec)) {
        PT_SKIP("the kernel cannot execute programs of this kind here");
    }
}

static inline bool machine_try_trace(void) {
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static inline void need_trace(void) {
    if (!machine_tries(machine_try_trace)) {
        PT_SKIP("nothing may be traced here");
    }
}

static inline bool machine_try_limit(void) {
    struct rlimit none = {4096, 4096};
    return setrlimit(RLIMIT_AS, &none) == 0 &&
           mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static inline void need_limit_of_address_space(void) {
    if (!machine_tries(machine_try_limit)) {
        PT_SKIP("address space cannot be limited here");
    }
}

static inline void *machine_nothing(void *arg) {
    return arg;
}

static inline bool machine_try_thread(void) {
    pthread_t thread;
    return pthread_create(&thread, NULL, machine_nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static inline void *machine_waits(void *arg) {
    pthread_mutex_lock(arg);
    pthread_mutex_unlock(arg);
    return NULL;
}

/* A child of a process with threads makes threads of its own. POSIX does not promise it; Linux and glibc have it. */
static inline void need_threads_after_fork(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&mutex);
    PT_REQUIRE(pthread_create(&thread, NULL, machine_waits, &mutex) == 0);
    bool works = machine_tries(machine_try_thread);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    if (!works) {
        PT_SKIP("a forked child cannot make threads here");
    }
}

/* A child of posix_spawn shares memory with its parent, who waits until the program has begun: so the parent hears why it
 * did not, and what was asked for has been done. qemu-user makes an ordinary fork of it, with a copy of the memory, and
 * nobody waits. */
static inline void need_spawn_that_waits(void) {
    char name[] = "/no/such/program", *argv[] = {name, NULL}, *none[] = {NULL};
    pid_t pid;
    if (posix_spawn(&pid, name, NULL, NULL, argv, none) == 0) {
        PT_REQUIRE(waitpid(pid, NULL, 0) == pid);
        PT_SKIP("posix_spawn does not wait for the program here");
    }
}

/* openat2(2), Linux 5.6. */
static inline void need_openat2(void) {
    if (syscall(SYS_openat2, -1, NULL, NULL, 0) == -1 && errno == ENOSYS) {
        PT_SKIP("there is no openat2 here");
    }
}

/* Walks of the stack that begin at any instruction, as in a handler of signals. On aarch64 glibc describes
 * _dl_runtime_resolve, which binds a function at its first call, as if the stub before it (PLT0) had pushed nothing:
 * seen in 2.29, 2.36 and the sources of 2026. The caller is then sought 16 bytes too low, the walk goes astray, and
 * libgcc may read an address that is none; an emulator has no part in it. With LD_BIND_NOW nothing is left to bind.
 * Not to be tried: it takes a signal that comes just there. */
static inline void need_walks_from_anywhere(void) {
#if defined(__aarch64__) && defined(__GLIBC__)
    const char *now = getenv("LD_BIND_NOW");
    if (now == NULL || *now == '\0') {
        PT_SKIP("glibc misleads walks of the stack that begin where a function is bound; LD_BIND_NOW=1 avoids it");
    }
#endif
}

/* process_vm_readv(2) of this very process. */
static inline bool machine_reads_itself(void) {
    int from_ = 1, to_ = 0;
    struct iovec from = {&from_, sizeof from_}, to = {&to_, sizeof to_};
    return syscall(SYS_process_vm_readv, getpid(), &to, 1L, &from, 1L, 0L) == (long)sizeof to_;
}

#endif
