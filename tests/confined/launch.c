/*
 * Runs a command with less than the caller may do: what a container, a shared machine or a careful administrator
 * leaves to an ordinary program. See usage(). `run` beside this file compiles and starts it.
 *
 * Each limit is inherited by what the command starts, so a whole ctest can be confined. They are applied in the
 * order in which each still may be: namespace and control group need rights, the user gives them up, and the
 * filter comes last, because it forbids.
 *
 * Exit status: that of the command (128 + the signal that ended it); 77 if this machine does not permit a limit
 * that was asked for, with a line that says which; 2 for a wrong use. The launcher stays as the parent, since it
 * removes the control group afterwards; it passes on the signals that ask for an end.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77
#define NOBODY 65534
#define MEMLOCK ((rlim_t)8 << 20)

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "which AUDIT_ARCH_ word is this processor's?"
#endif
/* The three calls of io_uring have the same numbers on all architectures. */
#define IO_URING_FIRST 425u
#define IO_URING_LAST 427u
/* Numbers from here on are x32's, on x86-64. */
#define X32_BIT 0x40000000u

struct limits {
    bool user, memlock, netns, one_cpu, quota, no_uring;
    unsigned uid;
    rlim_t memlock_bytes;
    unsigned uring_errno;
};

/* The control group that was made, "" if none. */
static char group[256];
static volatile sig_atomic_t child;

static void group_remove(void) {
    /* The kernel lets go of a group a little after its last process has ended. */
    for (int i = 0; group[0] != '\0' && rmdir(group) != 0 && errno == EBUSY && i < 100; i++) {
        usleep(10000);
    }
}

__attribute__((noreturn, format(printf, 1, 2))) static void skip(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("skipped: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    group_remove();
    _exit(SKIPPED);
}

__attribute__((noreturn)) static void usage(const char *why) {
    fprintf(stderr,
            "%s%susage: tests/confined/run [LIMIT...] -- COMMAND [ARGUMENT...]\n"
            "  --no-uring[=ENOSYS]  a seccomp filter answers EPERM (as containers do) to io_uring's calls, or ENOSYS\n"
            "  --user[=UID]         another user (65534), without groups; no change for who is not root\n"
            "  --memlock[=BYTES]    this much locked memory (8 MiB)\n"
            "  --netns              a network of its own, with nothing but loopback\n"
            "  --one-cpu            an affinity mask of one processor\n"
            "  --quota              a control group with the time of one processor\n",
            why == NULL ? "" : why, why == NULL ? "" : "\n");
    exit(2);
}

/* --- the network ------------------------------------------------------------------------------ */

static bool write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int saved = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return good;
}

/* Keeps the numbers that the caller has: in a user namespace, if it takes one. */
static void unshare_network(void) {
    unsigned uid = geteuid(), gid = getegid();
    if (unshare(CLONE_NEWNET) == 0) {
        return;
    }
    char map[64];
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        skip("no network namespace: %s", strerror(errno));
    }
    snprintf(map, sizeof map, "%u %u 1\n", uid, uid);
    bool good = write_file("/proc/self/uid_map", map) && write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1\n", gid, gid);
    if (!good || !write_file("/proc/self/gid_map", map)) {
        skip("no user namespace: %s", strerror(errno));
    }
}

static void raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) != 0) {
        skip("no loopback: %s", strerror(errno));
    }
    request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
    if (ioctl(fd, SIOCSIFFLAGS, &request) != 0) {
        skip("loopback cannot be brought up: %s", strerror(errno));
    }
    close(fd);
}

/* --- processors ------------------------------------------------------------------------------- */

static void one_processor(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        skip("affinity: %s", strerror(errno));
    }
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &set)) {
        cpu++;
    }
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        skip("affinity: %s", strerror(errno));
    }
}

/* Makes a group below `top` and gives it a quota. Whether that worked. */
static bool group_make(const char *top, bool v2) {
    char path[sizeof group + 32];
    snprintf(group, sizeof group, "%s/pica-confined-%d", top, (int)getpid());
    if (mkdir(group, 0755) != 0) {
        group[0] = '\0';
        return false;
    }
    snprintf(path, sizeof path, "%s/%s", group, v2 ? "cpu.max" : "cpu.cfs_period_us");
    bool good = write_file(path, v2 ? "100000 100000" : "100000");
    if (good && !v2) {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
        good = write_file(path, "100000");
    }
    if (!good) {
        int saved = errno;
        rmdir(group);
        group[0] = '\0';
        errno = saved;
    }
    return good;
}

/* The place of this process's own group, of version 2 or of version 1's hierarchy for processors. */
static bool own_group(char *path, size_t room, bool v2) {
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *name = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (name != NULL) {
            *name++ = '\0';
            controllers++;
            bool cpu = strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0;
            found = v2 ? controllers[0] == '\0' : cpu;
            name = strcmp(name, "/") == 0 ? name + 1 : name;
            if (found) {
                snprintf(path, room, "%s%s", v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", name);
            }
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return found;
}

static void make_group(void) {
    char path[224];
    int failed = ENOENT;
    for (int v2 = 1; v2 >= 0; v2--) {
        if (own_group(path, sizeof path, v2 != 0)) {
            if (group_make(path, v2 != 0)) {
                return;
            }
            failed = errno;
        }
    }
    skip("no control group with a quota can be made: %s", strerror(failed));
}

/* In the child: the parent stays outside, so that it can remove the group. */
static void enter_group(void) {
    char path[sizeof group + 32];
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    bool good = group[0] == '\0' || write_file(path, "0");
    group[0] = '\0';
    if (!good) {
        skip("the control group cannot be entered: %s", strerror(errno));
    }
}

/* --- rights ----------------------------------------------------------------------------------- */

static void limit_memory(rlim_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_max < bytes) {
        skip("no more than %llu bytes may be locked here", (unsigned long long)limit.rlim_max);
    }
    limit = (struct rlimit){bytes, bytes};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        skip("locked memory: %s", strerror(errno));
    }
}

/* PATH without the folders that the new user may not enter: they are the old one's, and what is not found elsewhere
 * would be "not permitted" instead of "not there". */
static void reachable_path(void) {
    char *old = strdup(getenv("PATH") == NULL ? "/usr/bin:/bin" : getenv("PATH"));
    char *path = old == NULL ? NULL : calloc(1, strlen(old) + 1);
    if (path == NULL) {
        skip("no memory");
    }
    char *save = NULL;
    for (char *folder = strtok_r(old, ":", &save); folder != NULL; folder = strtok_r(NULL, ":", &save)) {
        if (access(folder, X_OK) == 0) {
            strcat(strcat(path, path[0] == '\0' ? "" : ":"), folder);
        }
    }
    setenv("PATH", path, 1);
    free(path);
    free(old);
}

static void become(unsigned uid) {
    if (geteuid() != 0) {
        return; /* an ordinary user already */
    }
    if (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0) {
        skip("user %u: %s", uid, strerror(errno));
    }
    /* Changing the user makes a process undumpable until it executes something; the command does that. */
    setenv("HOME", "/nonexistent", 1);
    reachable_path();
    if (access(".", R_OK | X_OK) != 0) {
        skip("user %u may not enter the current folder", uid);
    }
}

static void forbid_uring(unsigned error) {
    struct sock_filter code[] = {
        /* Numbers mean something only together with the architecture: a foreign one is refused. */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, IO_URING_FIRST, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, IO_URING_LAST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    /* Without it only root may install a filter; with it nothing that is started gains rights. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        skip("no seccomp filter: %s", strerror(errno));
    }
}

/* --- the program ------------------------------------------------------------------------------ */

static struct limits parse(int argc, char **argv) {
    static const struct option options[] = {
        {"no-uring", optional_argument, NULL, 's'}, {"user", optional_argument, NULL, 'u'},
        {"memlock", optional_argument, NULL, 'm'},  {"netns", no_argument, NULL, 'n'},
        {"one-cpu", no_argument, NULL, 'c'},        {"quota", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    struct limits l = {.uid = NOBODY, .memlock_bytes = MEMLOCK, .uring_errno = EPERM};
    int letter;
    while ((letter = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (letter) {
            case 's':
                l.no_uring = true;
                if (optarg != NULL && strcmp(optarg, "ENOSYS") == 0) {
                    l.uring_errno = ENOSYS;
                } else if (optarg != NULL && strcmp(optarg, "EPERM") != 0) {
                    usage("--no-uring answers EPERM or ENOSYS");
                }
                break;
            case 'u':
                l.user = true;
                l.uid = optarg == NULL ? NOBODY : (unsigned)strtoul(optarg, NULL, 10);
                break;
            case 'm':
                l.memlock = true;
                l.memlock_bytes = optarg == NULL ? MEMLOCK : strtoull(optarg, NULL, 10);
                break;
            case 'n': l.netns = true; break;
            case 'c': l.one_cpu = true; break;
            case 'q': l.quota = true; break;
            default: usage(NULL);
        }
    }
    if (optind >= argc || l.uid == 0) {
        usage(optind >= argc ? "no command" : "user 0 is no ordinary one");
    }
    return l;
}

static void pass_on(int number) {
    if (child > 0) {
        kill((pid_t)child, number);
    }
}

static int wait_for_child(void) {
    int status = 0;
    while (waitpid((pid_t)child, &status, 0) < 0 && errno == EINTR) {
    }
    group_remove();
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    struct limits l = parse(argc, argv);
    if (l.netns) {
        unshare_network();
        raise_loopback();
    }
    if (l.one_cpu) {
        one_processor();
    }
    if (l.quota) {
        make_group();
    }
    if (l.memlock) {
        limit_memory(l.memlock_bytes);
    }
    /* What the command prints is this process's only output, and it may end it: ignore nothing, pass on. */
    struct sigaction action = {.sa_handler = pass_on};
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    child = fork();
    if (child < 0) {
        skip("fork: %s", strerror(errno));
    }
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        enter_group();
        if (l.user) {
            become(l.uid);
        }
        if (l.no_uring) {
            forbid_uring(l.uring_errno);
        }
        execvp(argv[optind], argv + optind);
        fprintf(stderr, "%s: %s\n", argv[optind], strerror(errno));
        _exit(127);
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return wait_for_child();
}
