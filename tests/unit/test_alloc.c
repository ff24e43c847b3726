/*
 * Memory: the choice of functions, sizes handed back, alignment, the failure switch. Every case has
 * a process of its own and so meets the library before its first allocation.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/compiler.h"
#include "tests/support/machine.h"
#include "tests/support/pt.h"

/* --- functions of a user, which keep account of every block ---------------------------------- */

struct account {
    size_t live;   /* bytes */
    size_t blocks; /* allocated and not freed */
    unsigned allocs, reallocs, frees;
};

/* Each block begins with its size, so that a wrong one on free is seen. */
#define FRONT 16

static void *user_alloc(void *ctx, size_t size) {
    struct account *a = ctx;
    char *p = malloc(size + FRONT);
    memcpy(p, &size, sizeof size);
    memset(p + FRONT, 0xa5, size);
    a->live += size;
    a->blocks++;
    a->allocs++;
    return p + FRONT;
}

static void check_size(void *p, size_t size) {
    size_t real;
    memcpy(&real, (char *)p - FRONT, sizeof real);
    PT_EQ(size, real);
}

static void user_free(void *ctx, void *p, size_t size) {
    struct account *a = ctx;
    check_size(p, size);
    a->live -= size;
    a->blocks--;
    a->frees++;
    free((char *)p - FRONT);
}

static void *user_realloc(void *ctx, void *p, size_t old_size, size_t size) {
    struct account *a = ctx;
    check_size(p, old_size);
    char *q = realloc((char *)p - FRONT, size + FRONT);
    memcpy(q, &size, sizeof size);
    a->live += size - old_size;
    a->reallocs++;
    return q + FRONT;
}

static bool all_zero(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What holds for every family. */
static void exercise(void) {
    static const size_t sizes[] = {0, 1, 7, 16, 100, 4096, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];
        char *p = pica__alloc(n);
        PT_REQUIRE(p != NULL);
        memset(p, 'x', n);
        p = pica__realloc(p, n, 2 * n + 1);
        PT_REQUIRE(p != NULL);
        for (size_t k = 0; k < n; k++) {
            PT_REQUIRE(p[k] == 'x');
        }
        p = pica__realloc(p, 2 * n + 1, n);
        PT_REQUIRE(p != NULL);
        pica__free(p, n);
        p = pica__zalloc(n);
        PT_REQUIRE(p != NULL && all_zero(p, n));
        pica__free(p, n);
        for (size_t align = sizeof(void *); align <= 8192; align *= 2) {
            p = pica__zalloc_aligned(align, n);
            PT_REQUIRE(p != NULL && all_zero(p, n));
            PT_EQ((uintptr_t)p % align, 0);
            memset(p, 'y', n);
            pica__free_aligned(p, align, n);
        }
    }
    char *p = pica__realloc(NULL, 0, 10);
    PT_CHECK(p != NULL);
    pica__free(p, 10);
    pica__free(NULL, 10);
    pica__free_aligned(NULL, 64, 10);
    PT_CHECK(pica__zalloc_aligned(64, SIZE_MAX) == NULL);
    PT_CHECK(pica__zalloc_aligned(4096, SIZE_MAX - 4096) == NULL);
}

PT_TEST(the_c_library) {
    exercise();
}

PT_TEST(functions_of_the_user) {
    struct account a = {0};
    struct pica_allocator functions = {user_alloc, user_realloc, user_free, &a};
    PT_EQ(pica__alloc_use(&functions), 0);
    memset(&functions, 0, sizeof functions); /* the library has a copy */
    exercise();
    PT_CHECK(a.allocs > 50 && a.reallocs == 14);
    PT_EQ(a.frees, a.allocs);
    PT_EQ(a.blocks, 0);
    PT_EQ(a.live, 0);
}

PT_TEST(the_choice_is_made_once) {
    struct account a = {0};
    struct pica_allocator functions = {user_alloc, user_realloc, user_free, &a};
    struct pica_allocator incomplete = functions;
    incomplete.realloc = NULL;
    PT_EQ(pica__alloc_use(&incomplete), -EINVAL);
    PT_EQ(pica__alloc_use(&functions), 0);
    PT_EQ(pica__alloc_use(&functions), -EBUSY);
}

PT_TEST(the_choice_comes_before_the_first_allocation) {
    struct account a = {0};
    struct pica_allocator functions = {user_alloc, user_realloc, user_free, &a};
    void *p = pica__alloc(1);
    PT_EQ(pica__alloc_use(&functions), -EBUSY);
    pica__free(p, 1);
    PT_EQ(a.frees, 0);
}

PT_TEST(the_nth_allocation_fails) {
    PT_CHECK(!pica__alloc_fail_hit());
    pica__alloc_fail_at(3);
    char *a = pica__alloc(1);
    char *b = pica__zalloc(1);
    PT_CHECK(a != NULL && b != NULL && !pica__alloc_fail_hit());
    PT_CHECK(pica__zalloc_aligned(64, 1) == NULL);
    PT_CHECK(pica__alloc_fail_hit());
    char *c = pica__zalloc_aligned(64, 1); /* only that one */
    PT_CHECK(c != NULL);
    pica__alloc_fail_at(1);
    PT_CHECK(!pica__alloc_fail_hit());
    *a = 'a';
    a = pica__realloc(a, 1, 1); /* does not grow, does not count */
    PT_REQUIRE(a != NULL && *a == 'a');
    PT_CHECK(pica__realloc(a, 1, 1000) == NULL);
    PT_EQ(*a, 'a');
    pica__alloc_fail_at(1);
    pica__alloc_fail_at(0);
    pica__free(a, 1);
    a = pica__alloc(1);
    PT_CHECK(a != NULL);
    pica__free(a, 1);
    pica__free(b, 1);
    pica__free_aligned(c, 64, 1);
}

/* --- jemalloc, when the program has it -------------------------------------------------------- */

typedef size_t (*sallocx_fn)(const void *p, int flags);

PT_TEST_HIDDEN(under_jemalloc, 30) {
    void *symbol = dlsym(RTLD_DEFAULT, "sallocx");
    if (symbol == NULL) {
        PT_SKIP("libjemalloc.so.2 is not installed");
    }
    sallocx_fn sallocx;
    memcpy(&sallocx, &symbol, sizeof sallocx);
    char *p = pica__alloc(100000);
    PT_EQ(sallocx(p, 0), 114688); /* jemalloc's size class: the block is its own */
    pica__free(p, 100000);
    exercise();
}

PT_TEST(jemalloc_is_used_when_preloaded) {
#if PICA__ASAN || PICA__TSAN
    PT_SKIP("sanitizers bring an allocator of their own");
#endif
    need_exec_of_self();
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LD_PRELOAD", "libjemalloc.so.2", 1);
        execl("/proc/self/exe", "self", "under_jemalloc", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        PT_SKIP("libjemalloc.so.2 is not installed");
    }
    PT_EQ(status, 0);
}

PT_MAIN()
