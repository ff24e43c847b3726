/* What a process finds itself confined to, one KEY=VALUE a line: check.py compares. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <pica.h>

#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The numbers of io_uring's calls; with arguments that none of them can do anything with. */
enum { SETUP = 425, REGISTER = 427 };

static void show_calls(long first_number, const char *key) {
    printf("%s=", key);
    for (long number = SETUP; number <= REGISTER; number++) {
        long rc = syscall(first_number + number, -1, NULL, 0, 0, NULL, 0);
        printf("%s%s", number == SETUP ? "" : ",", rc == -1 ? strerrorname_np(errno) : "0");
    }
    printf("\n");
}

/* A filter that looks at numbers only would take i386's call of the same number for one of ours, and others of
 * ours for harmless ones of i386. */
static void show_foreign_call(void) {
#ifdef __x86_64__
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        long rc = 20; /* getpid of i386 */
        __asm__ volatile("int $0x80" : "+a"(rc) : : "memory", "r8", "r9", "r10", "r11");
        _exit(0);
    }
    int status = 0;
    (void)waitpid(pid, &status, 0);
    printf("foreign=%s\n", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "returned");
    show_calls(0x40000000, "x32");
#endif
}

static void show_workers(void) {
    pica_runtime *rt = NULL;
    int rc = pica_runtime_new(&rt, NULL);
    if (rc < 0) {
        printf("workers=%s\n", pica_strerror(rc));
        return;
    }
    printf("workers=%u\n", pica_runtime_workers(rt));
    rc = pica_close(rt);
    printf("close=%d\n", rc);
}

int main(void) {
    struct rlimit limit = {0, 0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    printf("uid=%u/%u\n", getuid(), geteuid());
    printf("gid=%u/%u\n", getgid(), getegid());
    printf("groups=%d\n", getgroups(0, NULL));
    printf("memlock=%llu/%llu\n", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    printf("interfaces=");
    struct if_nameindex *names = if_nameindex();
    for (struct if_nameindex *n = names; n != NULL && n->if_index != 0; n++) {
        printf("%s%s", n == names ? "" : ",", n->if_name);
    }
    if_freenameindex(names);
    printf("\n");
    show_calls(0, "uring");
    show_foreign_call();
    show_workers();
    return 0;
}
