/*
 * Installing guards, and finding out once per process which way works.
 *
 * The system call alone does not tell: an emulator that does not know MADV_GUARD_INSTALL may accept
 * it and do nothing (qemu-user does). So the first guard is tried out by a system call that writes
 * into it, which must fail with EFAULT.
 *
 * errno is used only in functions out of line, so that link-time optimization cannot carry its
 * address into a function that switches stacks.
 */
#include "runtime/base/stack_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/compiler.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { MARK_UNKNOWN, MARK_WORKS, MARK_ABSENT };

/*
 * Written by whoever installs the first guard, read before each one, both relaxed: it depends on
 * nothing else, and two threads that find out at once find the same.
 */
static _Atomic int mark_state = MARK_UNKNOWN;

/*
 * Guards made by mprotect that exist now. Added to and taken from by any thread, relaxed: it is a
 * count, and orders nothing.
 */
static _Atomic size_t split_count;

/* The limit on split_count, 0 until it was read. Any thread, relaxed: all compute the same. */
static _Atomic size_t split_limit;

static PICA__NOINLINE int sys_madvise(void *start, size_t size, int advice) {
    return madvise(start, size, advice) == 0 ? 0 : -errno;
}

static PICA__NOINLINE int sys_mprotect(void *start, size_t size, int prot) {
    return mprotect(start, size, prot) == 0 ? 0 : -errno;
}

/*
 * True if the kernel cannot write to addr. What it would write is the number of the processor;
 * calls that valgrind answers itself, such as those about signals, would make valgrind fault
 * instead.
 */
static PICA__NOINLINE bool is_guarded(void *addr) {
    return syscall(SYS_getcpu, addr, NULL, NULL) == -1 && errno == EFAULT;
}

static bool install_mark(char *start, size_t size) {
    int state = atomic_load_explicit(&mark_state, memory_order_relaxed);
    if (state == MARK_ABSENT) {
        return false;
    }
    int rc = sys_madvise(start, size, MADV_GUARD_INSTALL);
    if (rc == 0 && state == MARK_UNKNOWN && !(is_guarded(start) && is_guarded(start + size - 8))) {
        /* Accepted without effect. The pages the probe touched are given back. */
        (void)sys_madvise(start, size, MADV_DONTNEED);
        rc = -EINVAL;
    }
    if (state == MARK_UNKNOWN && (rc == 0 || rc == -EINVAL)) {
        atomic_store_explicit(&mark_state, rc == 0 ? MARK_WORKS : MARK_ABSENT,
                              memory_order_relaxed);
    }
    /* A single refusal later on (a locked mapping, say) falls back for this guard only. */
    return rc == 0;
}

static PICA__NOINLINE size_t read_max_map_count(void) {
    size_t value = 65530; /* the kernel's default */
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        char text[32];
        ssize_t n = read(fd, text, sizeof text - 1);
        if (n > 0) {
            text[n] = '\0';
            unsigned long parsed = strtoul(text, NULL, 10);
            value = parsed != 0 ? parsed : value;
        }
        close(fd);
    }
    return value;
}

size_t pica__guard_split_limit(void) {
    size_t limit = atomic_load_explicit(&split_limit, memory_order_relaxed);
    if (limit == 0) {
        /* Half of the mappings for stacks, and each guarded stack is two: guard and stack. */
        limit = read_max_map_count() / 4;
        limit = limit != 0 ? limit : 1;
        atomic_store_explicit(&split_limit, limit, memory_order_relaxed);
    }
    return limit;
}

size_t pica__guard_split_count(void) {
    return atomic_load_explicit(&split_count, memory_order_relaxed);
}

int pica__guard_install(void *start, size_t size, bool force_split) {
    if (!force_split && install_mark(start, size)) {
        return PICA__GUARD_MARKED;
    }
    size_t before = atomic_fetch_add_explicit(&split_count, 1, memory_order_relaxed);
    if (before >= pica__guard_split_limit()) {
        pica__guard_forget(1);
        return -ENOSPC;
    }
    if (sys_mprotect(start, size, PROT_NONE) != 0) {
        pica__guard_forget(1);
        return -ENOMEM;
    }
    return PICA__GUARD_SPLIT;
}

void pica__guard_forget(size_t n) {
    size_t before = atomic_fetch_sub_explicit(&split_count, n, memory_order_relaxed);
    PICA__CHECK(before >= n);
}
