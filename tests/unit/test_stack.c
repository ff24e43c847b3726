/* Stacks: layout, guards, cost, recycling, limits. */
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <pica/base.h>

#include "runtime/base/alloc.h"
#include "runtime/base/compiler.h"
#include "runtime/base/log.h"
#include "runtime/base/sim/core.h"
#include "runtime/base/stack.h"
#include "runtime/base/stack_guard.h"
#include "tests/support/pt.h"

#define KIB ((size_t)1024)

static pica__stack_pool *make_pool(size_t stack_size, size_t guard, size_t max, unsigned disable) {
    struct pica__stack_config config = {
        .stack_size = stack_size, .guard_size = guard, .max_stacks = max, .disable = disable};
    pica__stack_pool *pool = NULL;
    PT_REQUIRE(pica__stack_pool_create(&pool, &config) == 0);
    return pool;
}

static struct pica__stack_counts counts_of(pica__stack_pool *pool) {
    struct pica__stack_counts counts;
    pica__stack_counts(pool, &counts);
    return counts;
}

static size_t page(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* True if the kernel can write there; asked by a call that writes the number of the processor. */
static bool writable(const char *p) {
    if (syscall(SYS_getcpu, p, NULL, NULL) != 0) {
        PT_EQ(errno, EFAULT);
        return false;
    }
    return true;
}

/* Lines of /proc/self/maps. */
static size_t mappings(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    PT_REQUIRE(f != NULL);
    size_t lines = 0;
    for (int c = fgetc(f); c != EOF; c = fgetc(f)) {
        lines += c == '\n';
    }
    fclose(f);
    return lines;
}

/* Resident anonymous memory in KiB. */
/* Counted by walking: what /proc/self/status says lags behind by up to 64 pages a thread before Linux 6.2. */
static size_t resident_kib(void) {
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    PT_REQUIRE(f != NULL);
    char line[256];
    size_t kib = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "Anonymous: %zu", &kib) == 1) {
            break;
        }
    }
    fclose(f);
    return kib;
}

static bool guards_can_be_marked(void) {
    pica__stack stack;
    size_t before = pica__guard_split_count();
    PT_REQUIRE(pica__stack_map(256 * KIB, 0, &stack) == 0);
    bool marked = pica__guard_split_count() == before;
    pica__stack_unmap(stack);
    return marked;
}

/* ---- log lines ---- */

static char logged[4096];
static _Atomic int log_lines;

static void keep_log(void *ctx, int level, const char *text) {
    (void)ctx;
    (void)level;
    atomic_fetch_add(&log_lines, 1);
    strncat(logged, text, sizeof logged - strlen(logged) - 1);
}

/* ---- layout ---- */

static void check_guard(pica__stack stack, size_t guard) {
    PT_CHECK(writable(stack.lo));
    PT_CHECK(writable(stack.hi - 8));
    for (size_t below = page(); below <= guard; below += page()) {
        if (!PT_CHECK(!writable(stack.lo - below))) {
            break;
        }
    }
    PT_CHECK(pica__is_stack_guard(stack.lo - 1));
    PT_CHECK(pica__is_stack_guard(stack.lo - guard));
    PT_CHECK(!pica__is_stack_guard(stack.lo));
    PT_CHECK(!pica__is_stack_guard(stack.hi));
    PT_CHECK(!pica__is_stack_guard(stack.lo - guard - 1));
}

static void check_layout(unsigned disable) {
    pica__stack_pool *pool = make_pool(256 * KIB, 0, 0, disable);
    pica__stack s[40];
    for (int i = 0; i < 40; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
    }
    for (int i = 0; i < 40; i++) {
        PT_EQ((uintptr_t)s[i].hi % 16, 0);
        PT_EQ((uintptr_t)s[i].lo % page(), 0);
        /* Whatever the colour, a shallow task stays in the topmost page. */
        char *last_page = s[i].hi - (uintptr_t)s[i].hi % page();
        PT_CHECK(s[i].hi - 3000 >= last_page);
        PT_CHECK(s[i].hi - s[i].lo >= (ptrdiff_t)(192 * KIB - 1024));
        memset(s[i].lo, i, (size_t)(s[i].hi - s[i].lo));
    }
    for (int i = 0; i < 40; i++) {
        PT_EQ(s[i].lo[0], i);
        PT_EQ(s[i].hi[-1], i);
        check_guard(s[i], 64 * KIB);
        pica__stack_put(pool, s[i]);
    }
    pica__stack_pool_destroy(pool);
    PT_CHECK(!pica__is_stack_guard(s[0].lo - 1));
}

PT_TEST(layout_and_guards) {
    check_layout(0);
}

PT_TEST(layout_and_guards_by_mprotect) {
    size_t before = pica__guard_split_count();
    check_layout(PICA__STACK_NO_GUARD_INSTALL);
    PT_EQ(pica__guard_split_count(), before);
}

PT_TEST(tops_spread_over_cache_lines_and_pages) {
    pica__stack_pool *pool = make_pool(256 * KIB, 0, 0, 0);
    pica__stack s[32];
    uint64_t lines = 0;
    uint64_t pages = 0;
    for (int i = 0; i < 32; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
        lines |= UINT64_C(1) << ((uintptr_t)s[i].hi % 4096 / 64);
        pages |= UINT64_C(1) << ((uintptr_t)s[i].hi / page() % 16);
    }
    PT_EQ(__builtin_popcountll(lines), 16);
    /* And their top pages over the sets of the address translation cache. */
    PT_EQ(__builtin_popcountll(pages), 16);
    for (int i = 0; i < 32; i++) {
        pica__stack_put(pool, s[i]);
    }
    pica__stack_pool_destroy(pool);
}

PT_TEST(sizes) {
    pica__stack_pool *pool = NULL;
    struct pica__stack_config config = {.stack_size = 64 * KIB, .guard_size = 64 * KIB};
    PT_EQ(pica__stack_pool_create(&pool, &config), -EINVAL);
    config = (struct pica__stack_config){.stack_size = SIZE_MAX};
    PT_EQ(pica__stack_pool_create(&pool, &config), -EINVAL);
    config = (struct pica__stack_config){.stack_size = 64 * KIB, .guard_size = SIZE_MAX - 5};
    PT_EQ(pica__stack_pool_create(&pool, &config), -EINVAL);
    PT_CHECK(pool == NULL);
    /* Small ones keep a guard of a quarter, the smallest one page of each kind. */
    size_t sizes[] = {0, 1, 2 * page(), 16 * KIB, 64 * KIB, 100000, 1024 * KIB};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        pica__stack s;
        PT_REQUIRE(pica__stack_map(sizes[i], 0, &s) == 0);
        memset(s.lo, 1, (size_t)(s.hi - s.lo));
        PT_CHECK(!writable(s.lo - 8));
        PT_CHECK(pica__is_stack_guard(s.lo - page()));
        if (sizes[i] >= 16 * page()) {
            PT_CHECK((size_t)(s.hi - s.lo) >= sizes[i] / 4 * 3 - page());
        }
        pica__stack_unmap(s);
    }
    config = (struct pica__stack_config){.stack_size = 256 * KIB};
    pica__alloc_fail_at(1);
    PT_EQ(pica__stack_pool_create(&pool, &config), -ENOMEM);
}

/* ---- cost ---- */

/*
 * A guard is entries in a page table, not memory; a stack that was never used costs nothing else.
 * The guard's page table takes 512 bytes of a stack at this stride, and is not anonymous memory.
 */
PT_TEST_TIMEOUT(hundred_thousand_guarded_stacks_in_few_mappings, 60) {
    if (!guards_can_be_marked()) {
        PT_SKIP("MADV_GUARD_INSTALL is not available");
    }
    enum { N = 100000 };
    pica__stack *s = malloc(N * sizeof *s);
    PT_REQUIRE(s != NULL);
    memset(s, 1, N * sizeof *s); /* so that the array itself is resident */
    size_t maps = mappings();
    size_t kib = resident_kib();
    pica__stack_pool *pool = make_pool(256 * KIB, 0, 0, 0);
    for (int i = 0; i < N; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
    }
    /* A sanitizer's shadow is memory and mappings too. */
    PT_CHECK(mappings() - maps < (PICA__TSAN || PICA__ASAN ? 1000 : 32));
    PT_CHECK(PICA__TSAN || PICA__ASAN || resident_kib() - kib < 256);
    PT_CHECK(counts_of(pool).slabs < 32);
    PT_EQ(counts_of(pool).live, N);
    for (int i = 0; i < N; i += 997) {
        PT_CHECK(!writable(s[i].lo - 8));
        PT_CHECK(!writable(s[i].lo - 64 * KIB));
        s[i].hi[-1] = 1;
    }
    for (int i = 0; i < N; i++) {
        pica__stack_put(pool, s[i]);
    }
    pica__stack_pool_destroy(pool);
    free(s);
}

/* One page per stack: a second page, or huge pages, would show here. */
PT_TEST(shallow_use_costs_one_page) {
    enum { N = 4000 };
    if (PICA__TSAN || PICA__ASAN) {
        PT_SKIP("a sanitizer's shadow counts as memory too");
    }
    pica__stack *s = malloc(N * sizeof *s);
    PT_REQUIRE(s != NULL);
    memset(s, 1, N * sizeof *s); /* so that the array itself is resident */
    pica__stack_pool *pool = make_pool(256 * KIB, 0, 0, 0);
    size_t kib = resident_kib();
    for (int i = 0; i < N; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
        memset(s[i].hi - 1024, 1, 1024);
    }
    size_t used = resident_kib() - kib;
    PT_CHECK(used >= N * page() / 1024);
    PT_CHECK(used < N * page() / 1024 * 3 / 2);
    for (int i = 0; i < N; i++) {
        pica__stack_put(pool, s[i]);
    }
    /* Putting back touched nothing more. */
    PT_CHECK(resident_kib() - kib < N * page() / 1024 * 3 / 2);
    pica__stack_pool_destroy(pool);
    free(s);
}

/* ---- recycling ---- */

PT_TEST(put_back_last_handed_out_first_with_its_pages) {
    pica__stack_pool *pool = make_pool(256 * KIB, 0, 0, 0);
    pica__stack s[20];
    for (int i = 0; i < 20; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
        s[i].lo[100] = (char)(i + 1);
        s[i].hi[-100] = (char)(i + 1);
    }
    for (int i = 0; i < 20; i++) {
        pica__stack_put(pool, s[i]);
    }
    struct pica__stack_counts counts = counts_of(pool);
    PT_EQ(counts.live, 0);
    PT_EQ(counts.idle, 20);
    PT_EQ(counts.high_water, 20);
    PT_EQ(counts.slabs, 2);
    for (int i = 19; i >= 0; i--) {
        pica__stack again;
        PT_REQUIRE(pica__stack_get(pool, &again) == 0);
        PT_CHECK(again.lo == s[i].lo && again.hi == s[i].hi);
        PT_EQ(again.lo[100], i + 1);
        PT_EQ(again.hi[-100], i + 1);
    }
    PT_EQ(counts_of(pool).idle, 0);
    PT_EQ(counts_of(pool).slabs, 2);
    for (int i = 0; i < 20; i++) {
        pica__stack_put(pool, s[i]);
    }
    pica__stack_pool_destroy(pool);
}

PT_TEST(trim_gives_back_what_lies_below) {
    pica__stack s;
    PT_REQUIRE(pica__stack_map(256 * KIB, 0, &s) == 0);
    memset(s.lo, 7, (size_t)(s.hi - s.lo));
    size_t kib = resident_kib();
    char *sp = s.hi - 10000;
    PT_EQ(pica__stack_trim(s, sp), 0);
    if (!PICA__TSAN && !PICA__ASAN) {
        PT_CHECK(kib - resident_kib() >= 160);
    }
    PT_EQ(s.lo[0], 0);
    for (char *p = sp - 128; p < s.hi; p++) {
        if (!PT_EQ(*p, 7)) {
            break;
        }
    }
    PT_EQ(pica__stack_trim(s, s.lo + 16), 0);
    PT_CHECK(!writable(s.lo - 8));
    pica__stack_unmap(s);
}

/* ---- limits ---- */

static void check_limit(size_t limit) {
    pica__stack_pool *pool = make_pool(64 * KIB, 0, limit, 0);
    pica__stack s[8];
    pica__stack extra;
    for (size_t i = 0; i < limit; i++) {
        PT_REQUIRE(pica__stack_get(pool, &s[i]) == 0);
    }
    for (int i = 0; i < 5; i++) {
        PT_EQ(pica__stack_get(pool, &extra), -ENOMEM);
    }
    for (int round = 0; round < 5; round++) {
        pica__stack_put(pool, s[0]);
        PT_EQ(pica__stack_get(pool, &s[0]), 0);
        PT_EQ(pica__stack_get(pool, &extra), -ENOMEM);
    }
    PT_EQ(counts_of(pool).live, limit);
    PT_EQ(counts_of(pool).high_water, limit);
    for (size_t i = 0; i < limit; i++) {
        pica__stack_put(pool, s[i]);
    }
    pica__stack_pool_destroy(pool);
}

PT_TEST(limits_of_1_2_and_8) {
    pica__log_set_hook(keep_log, NULL);
    check_limit(1);
    PT_EQ(log_lines, 1);
    PT_CHECK(strstr(logged, "limit of 1 stacks (PICA_MAX_STACKS)") != NULL);
    check_limit(2);
    check_limit(8);
    PT_EQ(log_lines, 3);
}

/* Mappings for guards: half of vm.max_map_count, then an error; what was there stays usable. */
PT_TEST_TIMEOUT(mprotect_guards_stop_at_half_of_the_mappings, 60) {
    pica__log_set_hook(keep_log, NULL);
    size_t limit = pica__guard_split_limit();
    if (limit > 40000) {
        PT_SKIP("vm.max_map_count is too large to fill quickly");
    }
    pica__stack *s = malloc((limit + 1) * sizeof *s);
    PT_REQUIRE(s != NULL);
    for (int round = 0; round < 2; round++) {
        pica__stack_pool *pool = make_pool(64 * KIB, 0, 0, PICA__STACK_NO_GUARD_INSTALL);
        size_t n = 0;
        while (n <= limit && pica__stack_get(pool, &s[n]) == 0) {
            n++;
        }
        PT_EQ(n, limit);
        PT_EQ(pica__stack_get(pool, &s[n]), -ENOMEM);
        /* The other half is free. */
        void *p = mmap(NULL, page(), PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        PT_CHECK(p != MAP_FAILED);
        munmap(p, page());
        PT_EQ(log_lines, round + 1);
        PT_CHECK(strstr(logged, "vm.max_map_count") != NULL);
        /* Stacks outside the pool share the limit; one that is put back can be had again. */
        pica__stack alone;
        PT_EQ(pica__stack_map_with(64 * KIB, 0, PICA__STACK_NO_GUARD_INSTALL, &alone), -ENOMEM);
        PT_CHECK(!writable(s[limit - 1].lo - 8));
        pica__stack_put(pool, s[0]);
        PT_EQ(pica__stack_get(pool, &s[0]), 0);
        for (size_t i = 0; i < n; i++) {
            pica__stack_put(pool, s[i]);
        }
        pica__stack_pool_destroy(pool);
        PT_EQ(pica__guard_split_count(), 0);
    }
    free(s);
}

/* A stack whose guard failed is not lost: it is had as soon as guards are possible again. */
PT_TEST_TIMEOUT(stacks_without_a_guard_are_tried_again, 60) {
    pica__log_set_hook(keep_log, NULL);
    size_t limit = pica__guard_split_limit();
    if (limit > 40000) {
        PT_SKIP("vm.max_map_count is too large to fill quickly");
    }
    pica__stack *s = malloc(limit * sizeof *s);
    PT_REQUIRE(s != NULL);
    pica__stack_pool *full = make_pool(64 * KIB, 0, 0, PICA__STACK_NO_GUARD_INSTALL);
    for (size_t i = 0; i < limit - 3; i++) {
        PT_REQUIRE(pica__stack_get(full, &s[i]) == 0);
    }
    /* Room for three guards, and a batch of sixteen is wanted, from a pool of sixteen. */
    pica__stack_pool *pool = make_pool(64 * KIB, 0, 16, PICA__STACK_NO_GUARD_INSTALL);
    pica__stack got[PICA__STACK_BATCH];
    PT_EQ(pica__stack_get_batch(pool, got, PICA__STACK_BATCH), 3);
    PT_EQ(counts_of(pool).live, 3);
    PT_EQ(pica__stack_get_batch(pool, got + 3, PICA__STACK_BATCH), -ENOMEM);
    for (size_t i = 0; i < limit - 3; i++) {
        pica__stack_put(full, s[i]);
    }
    pica__stack_pool_destroy(full);
    int n = 3;
    while (n < 16) {
        int more = pica__stack_get_batch(pool, got + n, 16 - n);
        PT_REQUIRE(more > 0);
        n += more;
    }
    for (int i = 0; i < 16; i++) {
        PT_CHECK(!writable(got[i].lo - 8));
        PT_CHECK(writable(got[i].lo));
        for (int j = 0; j < i; j++) {
            PT_CHECK(got[i].lo != got[j].lo);
        }
    }
    pica__stack extra;
    PT_EQ(pica__stack_get(pool, &extra), -ENOMEM);
    pica__stack_put_batch(pool, got, 16);
    pica__stack_pool_destroy(pool);
    free(s);
}

PT_TEST(address_space_limit_gives_enomem) {
    if (PICA__TSAN || PICA__ASAN) {
        PT_SKIP("a sanitizer's shadow exceeds any such limit");
    }
    pica__log_set_hook(keep_log, NULL);
    pica__stack_pool *pool = make_pool(256 * KIB, 0, 0, 0);
    pica__stack s[1000];
    PT_REQUIRE(pica__stack_get(pool, &s[0]) == 0);
    struct rlimit old;
    PT_REQUIRE(getrlimit(RLIMIT_AS, &old) == 0);
    char line[64];
    FILE *f = fopen("/proc/self/statm", "r");
    PT_REQUIRE(f != NULL && fgets(line, sizeof line, f) != NULL);
    fclose(f);
    struct rlimit tight = {.rlim_cur = strtoul(line, NULL, 10) * page() + 40 * 1024 * KIB,
                           .rlim_max = old.rlim_max};
    PT_REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
    struct rlimit now;
    if (getrlimit(RLIMIT_AS, &now) != 0 || now.rlim_cur != tight.rlim_cur) {
        PT_SKIP("an emulator that does not limit the address space");
    }
    int n = 1;
    while (n < 1000 && pica__stack_get(pool, &s[n]) == 0) {
        n++;
    }
    /* 40 MiB are 157 stacks; smaller slabs were tried, so that nearly all of it was used. */
    PT_CHECK(n >= 155 && n < 180);
    PT_CHECK(counts_of(pool).slabs < 20);
    PT_EQ(pica__stack_get(pool, &s[n]), -ENOMEM);
    PT_EQ(log_lines, 1);
    PT_CHECK(strstr(logged, "RLIMIT_AS") != NULL);
    pica__stack alone;
    PT_EQ(pica__stack_map(256 * KIB, 0, &alone), -ENOMEM);
    PT_REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
    PT_EQ(pica__stack_get(pool, &s[n]), 0);
    for (int i = 0; i <= n; i++) {
        pica__stack_put(pool, s[i]);
    }
    pica__stack_pool_destroy(pool);
}

/* ---- stacks mapped alone ---- */

PT_TEST(mapped_alone) {
    enum { N = 3000 }; /* more than one block of the registry */
    static pica__stack s[N];
    for (unsigned disable = 0; disable <= PICA__STACK_NO_GUARD_INSTALL; disable++) {
        for (int i = 0; i < N; i++) {
            PT_REQUIRE(pica__stack_map_with(128 * KIB, 8 * KIB, disable, &s[i]) == 0);
            s[i].hi[-100] = (char)i;
        }
        for (int i = 0; i < N; i += 50) {
            check_guard(s[i], page() > 8 * KIB ? page() : 8 * KIB);
        }
        for (int i = 0; i < N; i++) {
            PT_EQ(s[i].hi[-100], (char)i);
            pica__stack_unmap(s[i]);
        }
        for (int i = 0; i < N; i++) {
            PT_CHECK(!pica__is_stack_guard(s[i].lo - 1));
        }
    }
    PT_EQ(pica__guard_split_count(), 0);
}

/* ---- allocation failures ---- */

/* Every allocation of the first get fails once: an error each time, and nothing leaks or breaks. */
PT_TEST(allocation_failures) {
    pica__log_set_hook(keep_log, NULL);
    pica__stack_pool *pool = make_pool(64 * KIB, 0, 0, 0);
    pica__stack s;
    int failures = 0;
    for (unsigned long n = 1;; n++) {
        pica__alloc_fail_at(n);
        int rc = pica__stack_get(pool, &s);
        if (!pica__alloc_fail_hit()) {
            PT_EQ(rc, 0);
            break;
        }
        PT_EQ(rc, -ENOMEM);
        failures++;
    }
    PT_CHECK(failures >= 1);
    pica__alloc_fail_at(0);
    pica__stack_put(pool, s);
    pica__stack_pool_destroy(pool);
}

/* ---- simulations ---- */

/* Takes some stacks, checks that they have guards, and gives them and the pool back. */
static void use_some(uintptr_t *first) {
    enum { MANY = 20 };
    pica__stack_pool *pool = make_pool(64 * KIB, 0, 0, 0);
    pica__stack stack[MANY], alone;
    for (int i = 0; i < MANY; i++) {
        PT_REQUIRE(pica__stack_get(pool, &stack[i]) == 0);
        PT_CHECK(!writable(stack[i].lo - 8));
        PT_CHECK(writable(stack[i].lo) && writable(stack[i].hi - 8));
        PT_CHECK(pica__is_stack_guard(stack[i].lo - 8));
    }
    PT_REQUIRE(pica__stack_map(256 * KIB, 0, &alone) == 0);
    PT_CHECK(!writable(alone.lo - 8) && writable(alone.lo));
    *first = (uintptr_t)stack[0].lo;
    for (int i = 0; i < MANY; i++) {
        pica__stack_put(pool, stack[i]);
    }
    pica__stack_unmap(alone);
    pica__stack_pool_destroy(pool);
    PT_CHECK(!pica__is_stack_guard(alone.lo - 8)); /* nobody's now */
}

/* What a simulation gives up, guards included, serves the next one, and nobody else. */
PT_TEST(simulations_keep_their_stacks) {
    uintptr_t first, again;
    if (pica__sim_begin(1, NULL) == -ENOSYS) {
        PT_SKIP("no simulations here");
    }
    use_some(&first);
    size_t before = mappings();
    use_some(&again);
    PT_EQ(again, first);
    PT_EQ(mappings(), before);
    PT_EQ(pica__sim_end(NULL), 0);
    use_some(&again);
    PT_CHECK(again != first);
    PT_EQ(mappings(), before);
}

PT_MAIN()
