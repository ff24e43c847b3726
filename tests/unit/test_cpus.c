/*
 * The number of processors: the affinity mask, and the quotas of control groups, read from small
 * trees of files as systemd, Docker and older systems lay them out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "runtime/base/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/pt.h"

static char root[64];

static void begin_tree(void) {
    snprintf(root, sizeof root, "/tmp/pica-test-cpus-XXXXXX");
    PT_REQUIRE(mkdtemp(root) != NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static void end_tree(void) {
    PT_EQ(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Writes a file below the tree's root, with the folders above it. */
static void put(const char *path, const char *text) {
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        PT_REQUIRE(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *f = fopen(full, "we");
    PT_REQUIRE(f != NULL);
    fputs(text, f);
    fclose(f);
}

/* A version 2 tree whose own group is /a.slice/b.service. */
static void put_v2(void) {
    put("/proc/self/cgroup", "0::/a.slice/b.service\n");
    put("/proc/self/mountinfo",
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

PT_TEST(nothing_to_read) {
    begin_tree();
    PT_EQ(pica__cpus_quota(root), 0);
    put("/proc/self/cgroup", "");
    put("/proc/self/mountinfo", "nonsense\n1 2 3 - cgroup2\n - cgroup2 c rw\n\n4 - cgroup x cpu\n");
    PT_EQ(pica__cpus_quota(root), 0);
    end_tree();
}

PT_TEST(v2_own_group) {
    begin_tree();
    put_v2();
    PT_EQ(pica__cpus_quota(root), 0);
    static const struct {
        const char *text;
        unsigned quota;
    } cases[] = {
        {"max 100000\n", 0},
        {"200000 100000\n", 2},
        {"200001 100000\n", 3},
        {"1000 100000\n", 1},
        {"50000 10000\n", 5},
        {"150000 100000\n", 2},
        {"0 100000\n", 0},
        {"100000 0\n", 0},
        {"100000\n", 0},
        {"rubbish 100000\n", 0},
        {"", 0},
        {"99999999999999 1\n", UINT_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("/sys/fs/cgroup/a.slice/b.service/cpu.max", cases[i].text);
        PT_EQ(pica__cpus_quota(root), cases[i].quota);
    }
    end_tree();
}

PT_TEST(v2_a_tighter_group_above_holds) {
    begin_tree();
    put_v2();
    put("/sys/fs/cgroup/a.slice/b.service/cpu.max", "800000 100000\n");
    put("/sys/fs/cgroup/a.slice/cpu.max", "300000 100000\n");
    PT_EQ(pica__cpus_quota(root), 3);
    put("/sys/fs/cgroup/a.slice/cpu.max", "max 100000\n");
    PT_EQ(pica__cpus_quota(root), 8);
    put("/sys/fs/cgroup/cpu.max", "400000 100000\n"); /* as in a container's own namespace */
    PT_EQ(pica__cpus_quota(root), 4);
    put("/sys/cpu.max", "100000 100000\n"); /* above the mount: not a control group */
    PT_EQ(pica__cpus_quota(root), 4);
    end_tree();
}

PT_TEST(v2_mount_shows_only_the_own_group) {
    begin_tree();
    put("/proc/self/cgroup", "0::/docker/abc/inner\n");
    put("/proc/self/mountinfo", "30 22 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put("/sys/fs/cgroup/inner/cpu.max", "500000 100000\n");
    PT_EQ(pica__cpus_quota(root), 5);
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    PT_EQ(pica__cpus_quota(root), 2);
    /* A name that only begins like the mount's is another group: the mount's own file counts. */
    put("/proc/self/cgroup", "0::/docker/abcdef\n");
    put("/sys/fs/cgroup/def/cpu.max", "100000 100000\n");
    PT_EQ(pica__cpus_quota(root), 2);
    end_tree();
}

PT_TEST(v2_group_outside_the_namespace) {
    begin_tree();
    put("/proc/self/cgroup", "0::/../other\n");
    put("/proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put("/sys/fs/other/cpu.max", "100000 100000\n");
    PT_EQ(pica__cpus_quota(root), 0);
    put("/sys/fs/cgroup/cpu.max", "700000 100000\n");
    PT_EQ(pica__cpus_quota(root), 7);
    end_tree();
}

PT_TEST(v1) {
    begin_tree();
    put("/proc/self/cgroup",
        "4:memory:/m\n3:cpuset:/wrong\n2:cpu,cpuacct:/jobs/one\n1:name=systemd:/\n");
    put("/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup  rw,cpu,cpuacct\n"); /* no source */
    /* Neither another controller's group nor another controller's mount. */
    put("/sys/fs/cgroup/cpuset/jobs/one/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpuset/jobs/one/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/wrong/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/wrong/cpu.cfs_period_us", "100000\n");
    PT_EQ(pica__cpus_quota(root), 0);
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us", "100000\n");
    PT_EQ(pica__cpus_quota(root), 0);
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "250000\n");
    PT_EQ(pica__cpus_quota(root), 0); /* a quota without its period says nothing */
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "50000\n");
    PT_EQ(pica__cpus_quota(root), 5);
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us", "110000\n");
    PT_EQ(pica__cpus_quota(root), 2);
    end_tree();
}

PT_TEST(v1_and_v2_at_once) {
    begin_tree();
    put("/proc/self/cgroup", "1:cpu:/x\n0::/x\n");
    put("/proc/self/mountinfo",
        "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "34 31 0:31 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup rw\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "600000\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    PT_EQ(pica__cpus_quota(root), 6);
    put("/sys/fs/cgroup/uni fied/x/cpu.max", "200000 100000\n");
    PT_EQ(pica__cpus_quota(root), 2);
    end_tree();
}

PT_TEST(affinity) {
    cpu_set_t before, one;
    PT_EQ(pica__cpus_allowed(&before), 0);
    PT_EQ(pica__cpus_affinity(), CPU_COUNT(&before));
    PT_CHECK(pica__cpus() >= 1 && pica__cpus() <= pica__cpus_affinity());
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before)) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    PT_REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    PT_EQ(pica__cpus_affinity(), 1);
    PT_EQ(pica__cpus(), 1);
    cpu_set_t now;
    PT_EQ(pica__cpus_allowed(&now), 0);
    PT_CHECK(CPU_EQUAL(&now, &one));
}

PT_MAIN()
