/*
 * Processors this process may keep busy. See cpus.h.
 *
 * A container is usually limited by a quota (so much processor time per period) and not by its
 * affinity mask; a runtime that starts one worker per visible processor is then throttled for most
 * of each period. The quota that holds is the smallest one of the process's control group and the
 * groups above it, as far as the mounts show them. Version 2 keeps it in cpu.max; version 1 in two
 * files of the hierarchy with the `cpu` controller. Machines with both are read both ways.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Far more than any kernel is built for; a bound for the loop that looks for the mask's size. */
#define CPUS_MAX ((size_t)1 << 20)

unsigned pica__cpus_affinity(void) {
    /* The kernel refuses a mask smaller than its own, and does not say how large that is. */
    for (size_t cpus = CPU_SETSIZE; cpus <= CPUS_MAX; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (set == NULL) {
            break;
        }
        size_t size = CPU_ALLOC_SIZE(cpus);
        int failed = sched_getaffinity(0, size, set) != 0 ? errno : 0;
        int count = failed == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) {
            return (unsigned)count;
        }
        if (failed != EINVAL) {
            break;
        }
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

int pica__cpus_allowed(cpu_set_t *set) {
    return sched_getaffinity(0, sizeof *set, set) != 0 ? -errno : 0;
}

/* --- the control groups --------------------------------------------------------------------- */

/* The process's own groups, as /proc/self/cgroup names them; "" if there is none. */
struct groups {
    char v1[PATH_MAX];
    char v2[PATH_MAX];
};

/* Whether `word` is an element of the comma-separated `list`, which ends at a NUL or newline. */
static bool list_has(const char *list, const char *word) {
    size_t n = strlen(word);
    for (;;) {
        size_t len = strcspn(list, ",\n");
        if (len == n && memcmp(list, word, n) == 0) {
            return true;
        }
        if (list[len] != ',') {
            return false;
        }
        list += len + 1;
    }
}

static FILE *open_below(const char *root, const char *path) {
    char full[PATH_MAX];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof full ? fopen(full, "re") : NULL;
}

/* Lines are ID:CONTROLLERS:PATH; version 2 is the one with ID 0 and no controllers. */
static void read_own_groups(const char *root, struct groups *own) {
    own->v1[0] = '\0';
    own->v2[0] = '\0';
    FILE *f = open_below(root, "/proc/self/cgroup");
    if (f == NULL) {
        return;
    }
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (path == NULL) {
            continue;
        }
        *controllers++ = '\0';
        *path++ = '\0';
        if (strcmp(line, "0") == 0 && controllers[0] == '\0') {
            snprintf(own->v2, sizeof own->v2, "%s", path);
        } else if (list_has(controllers, "cpu")) {
            snprintf(own->v1, sizeof own->v1, "%s", path);
        }
    }
    free(line);
    fclose(f);
}

/* Reads `want` numbers from `dir`/`name`; the word "max" is -1. Whether there were that many. */
static bool read_numbers(const char *dir, const char *name, long long *out, int want) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = n > 0 && (size_t)n < sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return false;
    }
    char text[128];
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    int count = 0;
    char *save = NULL;
    for (char *word = strtok_r(text, " \n", &save); word != NULL && count < want;
         word = strtok_r(NULL, " \n", &save)) {
        out[count] = strcmp(word, "max") == 0 ? -1 : strtoll(word, NULL, 10);
        count++;
    }
    return count == want;
}

/* The quota of the group at `dir` itself in processors, rounded up; 0 for none. */
static unsigned quota_of(const char *dir, bool v2) {
    long long n[2] = {-1, -1};
    if (v2) {
        if (!read_numbers(dir, "cpu.max", n, 2)) {
            return 0;
        }
    } else if (!read_numbers(dir, "cpu.cfs_quota_us", &n[0], 1) ||
               !read_numbers(dir, "cpu.cfs_period_us", &n[1], 1)) {
        return 0;
    }
    if (n[0] <= 0 || n[1] <= 0) {
        return 0;
    }
    long long cpus = n[0] / n[1] + (n[0] % n[1] != 0);
    return cpus < UINT_MAX ? (unsigned)cpus : UINT_MAX;
}

static unsigned smaller_quota(unsigned a, unsigned b) {
    if (a == 0 || b == 0) {
        return a + b;
    }
    return a < b ? a : b;
}

/* The smallest quota of the group `rest` below `mount_point` and all groups between the two. */
static unsigned quota_up_to(const char *root, const char *mount_point, const char *rest, bool v2) {
    char dir[PATH_MAX];
    int n = snprintf(dir, sizeof dir, "%s%s", root, mount_point);
    if (n < 0 || (size_t)n >= sizeof dir) {
        return 0;
    }
    size_t top = (size_t)n;
    n = snprintf(dir + top, sizeof dir - top, "%s", rest);
    if (n < 0 || (size_t)n >= sizeof dir - top) {
        dir[top] = '\0';
    }
    unsigned quota = 0;
    for (;;) {
        quota = smaller_quota(quota, quota_of(dir, v2));
        char *slash = strrchr(dir + top, '/');
        if (slash == NULL) {
            return quota;
        }
        *slash = '\0';
    }
}

/* The part of `group` below the group that a mount shows as its top; "" if it is not below it. */
static const char *below_mount(const char *group, const char *mount_root) {
    size_t n = strlen(mount_root);
    while (n > 0 && mount_root[n - 1] == '/') {
        n--;
    }
    bool inside = strncmp(group, mount_root, n) == 0 && (group[n] == '/' || group[n] == '\0');
    /* Groups outside our namespace are shown as "/..": nothing of theirs is mounted here. */
    if (!inside || strstr(group, "/..") != NULL || strcmp(group + n, "/") == 0) {
        return "";
    }
    return group + n;
}

/* Undoes the \ooo escapes of mountinfo, in place. */
static void unescape(char *s) {
    char *to = s;
    while (*s != '\0') {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
            s[3] >= '0' && s[3] <= '7') {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
}

/* One line of mountinfo: ID PARENT DEV ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE SUPEROPTIONS */
static unsigned quota_of_mount(const char *root, char *line, const struct groups *own) {
    char *tail = strstr(line, " - ");
    if (tail == NULL) {
        return 0;
    }
    *tail = '\0';
    /* The options are the last word; the source in between may be empty. */
    const char *type = tail + 3;
    const char *options = strrchr(type, ' ');
    bool v2 = strncmp(type, "cgroup2 ", 8) == 0;
    bool v1 = strncmp(type, "cgroup ", 7) == 0 && list_has(options + 1, "cpu");
    if (!v2 && !v1) {
        return 0;
    }
    char *field[5] = {NULL};
    int count = 0;
    char *save = NULL;
    for (char *word = strtok_r(line, " ", &save); word != NULL && count < 5;
         word = strtok_r(NULL, " ", &save)) {
        field[count++] = word;
    }
    if (count < 5) {
        return 0;
    }
    unescape(field[3]);
    unescape(field[4]);
    const char *group = v2 ? own->v2 : own->v1;
    return quota_up_to(root, field[4], below_mount(group, field[3]), v2);
}

unsigned pica__cpus_quota(const char *root) {
    struct groups own;
    read_own_groups(root, &own);
    FILE *f = open_below(root, "/proc/self/mountinfo");
    if (f == NULL) {
        return 0;
    }
    unsigned quota = 0;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, f) > 0) {
        quota = smaller_quota(quota, quota_of_mount(root, line, &own));
    }
    free(line);
    fclose(f);
    return quota;
}

unsigned pica__cpus(void) {
    return smaller_quota(pica__cpus_affinity(), pica__cpus_quota(""));
}
