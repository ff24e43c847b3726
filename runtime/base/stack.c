/*
 * The pool of stacks, and stacks mapped alone. The header describes the layout.
 *
 * Where a stack of a pool can be:
 *   fresh    never handed out; at or above `reserved` of the newest slab. Not touched, not guarded.
 *   live     handed out.
 *   idle     put back; linked through the two words above `hi`, whose page its user has touched
 *            (or, if it only lay in a cache, is touched now).
 *   bare     like idle, but without a guard, because installing it failed. Tried again first, so
 *            there are never more than the failed attempts of all threads at once.
 *
 * Lock order: `pool->lock` is innermost, except that a log line is never written under it. It is
 * held for a few instructions per stack. System calls are made without it: whoever takes fresh
 * stacks reserves them under the lock and installs their guards afterwards, several threads at
 * once; whoever maps a slab sets `growing`, and others that need one meanwhile wait for that to
 * end.
 */
#include "runtime/base/stack.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pica/base.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/compiler.h"
#include "runtime/base/lock.h"
#include "runtime/base/log.h"
#include "runtime/base/relax.h"
#include "runtime/base/stack_guard.h"
#include "runtime/base/stack_memory.h"
#include "runtime/base/stack_registry.h"
#include "runtime/base/stack_tools.h"
#include "runtime/base/transitions.h"

#define DEFAULT_GUARD ((size_t)64 * 1024)
#define FIRST_SLAB ((size_t)16)
#define MAX_SLAB_BYTES ((uint64_t)4 << 30)
#define DUMPED_BYTES ((size_t)64 << 20)
#define MAX_STACK_BYTES ((size_t)1 << 40)

/*
 * Lines of 64 bytes by which the tops of stacks differ: at most 960 bytes of the top page. Round
 * robin over 1000 contexts takes 12.1 ns a switch with 1 colour, 8.5 with 16, 8.3 with 32.
 */
#define COLOURS ((size_t)16)

/* A limit below this is kept exactly: see pica__stack_pool_may_cache. */
#define EXACT_LIMIT ((size_t)1024)

/* The two words above `hi`. */
struct slot {
    union {
        pica__stack next; /* idle and bare: the next one; hi == NULL ends the list */
        struct {          /* mapped alone */
            pica__stack_range *range;
            uint16_t split; /* the guard is of kind PICA__GUARD_SPLIT */
            uint16_t disable;
            uint32_t valgrind_id;
        } alone;
    } u;
};
_Static_assert(sizeof(struct slot) == 16, "hi stays a multiple of 16");

struct slab {
    struct slab *next;        /* the one made before */
    pica__stack_range *range; /* its entry in the registry */
    char *start;
    size_t count;
    size_t guarded;         /* the first so many have guards from an earlier simulation */
    bool dump;
    size_t before;          /* stacks in the slabs made before: colours go on where those ended */
    size_t reserved;        /* stacks taken from it so far; under pool->lock */
    _Atomic size_t split;   /* guards of kind SPLIT; any thread adds, read at the end; relaxed */
    unsigned *valgrind_ids; /* per stack, written by its first user; NULL without valgrind */
};

struct pica__stack_pool {
    struct pica__stack_geometry geo;
    size_t max_stacks;
    unsigned disable;
    _Atomic unsigned logged; /* limits already reported, a bit each; any thread, relaxed */

    pica__lock_t lock; /* guards everything below */
    bool growing;      /* somebody is mapping a slab */
    pica__stack idle;  /* head of the list; hi == NULL: empty */
    pica__stack bare;
    size_t idle_count;
    size_t live;
    size_t high_water;
    size_t capacity; /* stacks in all slabs */
    size_t slab_count;
    struct slab *slabs; /* newest first */
};

enum limit { LIMIT_STACKS, LIMIT_MAPPINGS, LIMIT_MEMORY };

/* ---- geometry ---- */

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

/*
 * The stride is an odd number of pages. With a power of two the tops of all stacks would share a
 * few sets of the processor's address translation cache: 64 pages took 24 ns a switch, round robin
 * over 1000 contexts, 65 pages 8.5.
 */
static int geometry_of(struct pica__stack_geometry *geo, size_t stack_size, size_t guard_size) {
    size_t page = page_size();
    if (stack_size > MAX_STACK_BYTES || guard_size > MAX_STACK_BYTES) {
        return -EINVAL;
    }
    geo->size = round_up(stack_size, page);
    if (guard_size != 0) {
        geo->guard = round_up(guard_size, page);
        if (geo->guard >= geo->size) {
            return -EINVAL;
        }
    } else {
        size_t quarter = geo->size / 4 / page * page;
        geo->guard = quarter < DEFAULT_GUARD ? quarter : DEFAULT_GUARD;
        geo->guard = geo->guard > page ? round_up(geo->guard, page) : page;
        geo->size = geo->size > geo->guard ? geo->size : geo->guard + page;
    }
    geo->stride = geo->size / page % 2 != 0 ? geo->size : geo->size + page;
    return 0;
}

static pica__stack stack_at(char *start, const struct pica__stack_geometry *geo, size_t colour) {
    char *top = start + geo->stride;
    size_t above = sizeof(struct slot) + colour % COLOURS * PICA__CACHELINE;
    return (pica__stack){.lo = start + geo->guard, .hi = top - above};
}

static struct slot *slot_of(pica__stack stack) {
    return (struct slot *)(void *)stack.hi;
}

/* Out of line: see stack_guard.c. */
static PICA__NOINLINE int discard_pages(void *start, size_t size) {
    return madvise(start, size, MADV_DONTNEED) == 0 ? 0 : -errno;
}

/* ---- reporting ---- */

static void report_limit(pica__stack_pool *pool, enum limit limit) {
    unsigned bit = 1u << limit;
    if ((atomic_fetch_or_explicit(&pool->logged, bit, memory_order_relaxed) & bit) != 0) {
        return;
    }
    switch (limit) {
    case LIMIT_STACKS:
        pica__log(PICA_LOG_WARN,
                  "no stack left: the limit of %zu stacks (PICA_MAX_STACKS) is reached",
                  pool->max_stacks);
        break;
    case LIMIT_MAPPINGS:
        pica__log(PICA_LOG_WARN,
                  "no stack left: %zu guards made by mprotect take half of vm.max_map_count; "
                  "raise it, or use Linux 6.13 or later, where guards need no mappings",
                  pica__guard_split_limit());
        break;
    case LIMIT_MEMORY:
        pica__log(PICA_LOG_WARN,
                  "no stack left: the system refuses memory for another one of %zu KiB (look at "
                  "RLIMIT_AS, vm.overcommit_memory, vm.max_map_count)",
                  pool->geo.size / 1024);
        break;
    }
}

/* ---- slabs ---- */

static void free_slab(const pica__stack_pool *pool, struct slab *slab) {
    if (slab->valgrind_ids != NULL) {
        for (size_t i = 0; i < slab->reserved; i++) {
            pica__stack_tools_unregister(slab->valgrind_ids[i]);
        }
        pica__free(slab->valgrind_ids, slab->count * sizeof slab->valgrind_ids[0]);
    }
    if (slab->range != NULL) {
        pica__stack_unregister(slab->range);
    }
    const struct pica__stack_memory memory = {
        .start = slab->start,
        .count = slab->count,
        .geo = pool->geo,
        .disable = pool->disable,
        .dump = slab->dump,
        .guarded = slab->reserved > slab->guarded ? slab->reserved : slab->guarded,
        .split = atomic_load_explicit(&slab->split, memory_order_relaxed),
    };
    /* With bare stacks it is not known which ones have a guard. */
    pica__stack_memory_unmap(&memory, pool->bare.hi == NULL);
    pica__free(slab, sizeof *slab);
}

/* Memory for `count` stacks, or for fewer if that is refused. */
static int map_slab(const pica__stack_pool *pool, struct slab *slab, size_t count) {
    struct pica__stack_memory memory = {
        .count = count, .geo = pool->geo, .disable = pool->disable, .dump = slab->dump};
    int rc = pica__stack_memory_map(&memory);
    while (rc < 0 && memory.count > 1) {
        memory.count /= 2;
        rc = pica__stack_memory_map(&memory);
    }
    slab->start = memory.start;
    slab->count = memory.count;
    slab->guarded = memory.guarded;
    atomic_init(&slab->split, memory.split);
    return rc;
}

/* Maps a slab of `count` stacks, or of fewer if that is refused. NULL: not even one. */
static struct slab *make_slab(const pica__stack_pool *pool, size_t count, bool dump) {
    struct slab *slab = pica__zalloc(sizeof *slab);
    if (slab == NULL) {
        return NULL;
    }
    slab->dump = dump;
    if (map_slab(pool, slab, count) < 0) {
        pica__free(slab, sizeof *slab);
        return NULL;
    }
    slab->range = pica__stack_register(slab->start, slab->count, &pool->geo);
    bool ids = pica__stack_tools_valgrind();
    if (ids) {
        slab->valgrind_ids = pica__zalloc(slab->count * sizeof slab->valgrind_ids[0]);
    }
    if (slab->range == NULL || (ids && slab->valgrind_ids == NULL)) {
        free_slab(pool, slab);
        return NULL;
    }
    return slab;
}

/* How many stacks the next slab should have; 0 at the limit. Under the lock. */
static size_t next_slab_count(const pica__stack_pool *pool) {
    size_t count = pool->capacity < FIRST_SLAB ? FIRST_SLAB : pool->capacity;
    size_t most = (size_t)(MAX_SLAB_BYTES / pool->geo.stride);
    most = most < FIRST_SLAB ? FIRST_SLAB : most;
    count = count < most ? count : most;
    if (pool->max_stacks != 0) {
        size_t left = pool->max_stacks - pool->capacity;
        count = count < left ? count : left;
    }
    return count;
}

/* Maps the next slab. The lock is held at entry and at exit, and released in between. */
static int grow(pica__stack_pool *pool, size_t count) {
    bool dump = (pool->disable & PICA__STACK_NO_DONTDUMP) != 0 ||
                pool->capacity * pool->geo.stride < DUMPED_BYTES;
    pool->growing = true;
    pica__unlock(&pool->lock);
    struct slab *slab = make_slab(pool, count, dump);
    pica__lock(&pool->lock);
    pool->growing = false;
    if (slab == NULL) {
        return -ENOMEM;
    }
    slab->next = pool->slabs;
    slab->before = pool->capacity;
    pool->slabs = slab;
    pool->capacity += slab->count;
    pool->slab_count++;
    return 0;
}

/* ---- handing out ---- */

static pica__stack pop(pica__stack *list) {
    pica__stack stack = *list;
    *list = slot_of(stack)->u.next;
    return stack;
}

static void push(pica__stack *list, pica__stack stack) {
    slot_of(stack)->u.next = *list;
    *list = stack;
}

static void count_live(pica__stack_pool *pool, size_t n) {
    pool->live += n;
    if (pool->live > pool->high_water) {
        pool->high_water = pool->live;
    }
}

/* What reserve() found. Those from `idle` are ready; the others still need their guards. */
struct reservation {
    int count;
    bool guarded;
    struct slab *slab; /* of fresh stacks; NULL for bare ones */
    size_t first;      /* index of the first fresh stack in its slab */
};

/* Takes 1 to n stacks out of the pool's lists. 0, or -ENOMEM with *limit set. */
static int reserve(pica__stack_pool *pool, pica__stack *out, int n, struct reservation *res,
                   enum limit *limit) {
    pica__backoff backoff = PICA__BACKOFF_INIT;
    *res = (struct reservation){0};
    pica__lock(&pool->lock);
    for (;;) {
        if (pool->idle.hi != NULL) {
            while (res->count < n && pool->idle.hi != NULL) {
                out[res->count++] = pop(&pool->idle);
                PICA__MOVED(STACK, PICA__STACK_IDLE, PICA__STACK_LIVE);
            }
            res->guarded = true;
            pool->idle_count -= (size_t)res->count;
            count_live(pool, (size_t)res->count);
            break;
        }
        if (pool->bare.hi != NULL) {
            out[res->count++] = pop(&pool->bare);
            break;
        }
        struct slab *slab = pool->slabs;
        if (slab != NULL && slab->reserved < slab->count) {
            size_t left = slab->count - slab->reserved;
            res->count = left < (size_t)n ? (int)left : n;
            res->slab = slab;
            res->first = slab->reserved;
            slab->reserved += (size_t)res->count;
            break;
        }
        if (pool->growing) {
            pica__unlock(&pool->lock);
            pica__relax(&backoff);
            pica__lock(&pool->lock);
            continue;
        }
        size_t count = next_slab_count(pool);
        *limit = count == 0 ? LIMIT_STACKS : LIMIT_MEMORY;
        if (count == 0 || grow(pool, count) != 0) {
            pica__unlock(&pool->lock);
            return -ENOMEM;
        }
    }
    pica__unlock(&pool->lock);
    return 0;
}

/* Installs the guard of one reserved stack. */
static int guard_stack(pica__stack_pool *pool, pica__stack stack, struct slab *slab) {
    int kind = pica__guard_install(stack.lo - pool->geo.guard, pool->geo.guard,
                                   (pool->disable & PICA__STACK_NO_GUARD_INSTALL) != 0);
    if (kind == PICA__GUARD_SPLIT) {
        atomic_fetch_add_explicit(&slab->split, 1, memory_order_relaxed);
    }
    return kind < 0 ? kind : 0;
}

/* The slab that a bare stack is of. */
static struct slab *slab_of(pica__stack_pool *pool, pica__stack stack) {
    pica__lock(&pool->lock);
    struct slab *slab = pool->slabs;
    while (slab != NULL &&
           (stack.lo < slab->start || stack.lo >= slab->start + slab->count * pool->geo.stride)) {
        slab = slab->next;
    }
    pica__unlock(&pool->lock);
    PICA__CHECK(slab != NULL);
    return slab;
}

/* Makes fresh or bare stacks usable; those whose guard fails become bare. Returns how many are. */
static int guard_reserved(pica__stack_pool *pool, pica__stack *out, struct reservation *res,
                          enum limit *limit) {
    struct slab *slab = res->slab != NULL ? res->slab : slab_of(pool, out[0]);
    int done = 0;
    int rc = 0;
    for (int i = 0; i < res->count; i++) {
        if (res->slab != NULL) {
            size_t index = res->first + (size_t)i;
            out[i] =
                stack_at(slab->start + index * pool->geo.stride, &pool->geo, slab->before + index);
            if (slab->valgrind_ids != NULL) {
                slab->valgrind_ids[index] = pica__stack_tools_register(out[i]);
            }
        }
        bool guarded = res->slab != NULL && res->first + (size_t)i < slab->guarded;
        rc = rc == 0 && !guarded ? guard_stack(pool, out[i], slab) : rc;
        done += rc == 0;
        PICA__MOVED(STACK, res->slab != NULL ? PICA__STACK_FRESH : PICA__STACK_BARE,
                    rc == 0 ? PICA__STACK_LIVE : PICA__STACK_BARE);
    }
    pica__lock(&pool->lock);
    count_live(pool, (size_t)done);
    for (int i = done; i < res->count; i++) {
        push(&pool->bare, out[i]);
    }
    pica__unlock(&pool->lock);
    *limit = rc == -ENOSPC ? LIMIT_MAPPINGS : LIMIT_MEMORY;
    return done;
}

int pica__stack_get_batch(pica__stack_pool *pool, pica__stack *out, int n) {
    PICA__CHECK(n >= 1 && n <= PICA__STACK_BATCH);
    struct reservation res;
    enum limit limit;
    if (reserve(pool, out, n, &res, &limit) == 0) {
        int count = res.guarded ? res.count : guard_reserved(pool, out, &res, &limit);
        if (count > 0) {
            return count;
        }
    }
    report_limit(pool, limit);
    return -ENOMEM;
}

void pica__stack_put_batch(pica__stack_pool *pool, const pica__stack *stacks, int n) {
    pica__lock(&pool->lock);
    PICA__CHECK(pool->live >= (size_t)n);
    for (int i = 0; i < n; i++) {
        push(&pool->idle, stacks[i]);
        PICA__MOVED(STACK, PICA__STACK_LIVE, PICA__STACK_IDLE);
    }
    pool->idle_count += (size_t)n;
    pool->live -= (size_t)n;
    pica__unlock(&pool->lock);
}

int pica__stack_get(pica__stack_pool *pool, pica__stack *out) {
    int n = pica__stack_get_batch(pool, out, 1);
    if (n < 0) {
        return n;
    }
    pica__stack_tools_out(*out);
    return 0;
}

void pica__stack_put(pica__stack_pool *pool, pica__stack stack) {
    pica__stack_tools_in(stack);
    pica__stack_put_batch(pool, &stack, 1);
}

/* ---- the pool as a whole ---- */

int pica__stack_pool_create(pica__stack_pool **out, const struct pica__stack_config *config) {
    struct pica__stack_geometry geo;
    int rc = geometry_of(&geo, config->stack_size, config->guard_size);
    if (rc != 0) {
        return rc;
    }
    pica__stack_pool *pool = pica__zalloc(sizeof *pool);
    if (pool == NULL) {
        return -ENOMEM;
    }
    pica__lock_init(&pool->lock);
    pool->geo = geo;
    pool->max_stacks = config->max_stacks;
    pool->disable = config->disable;
    *out = pool;
    return 0;
}

void pica__stack_pool_destroy(pica__stack_pool *pool) {
    PICA__CHECK(pool->live == 0 && !pool->growing);
    while (pool->slabs != NULL) {
        struct slab *slab = pool->slabs;
        pool->slabs = slab->next;
        free_slab(pool, slab);
    }
    pica__free(pool, sizeof *pool);
}

bool pica__stack_pool_may_cache(const pica__stack_pool *pool) {
    return pool->max_stacks == 0 || pool->max_stacks >= EXACT_LIMIT;
}

void pica__stack_counts(pica__stack_pool *pool, struct pica__stack_counts *counts) {
    pica__lock(&pool->lock);
    counts->live = pool->live;
    counts->idle = pool->idle_count;
    counts->slabs = pool->slab_count;
    counts->high_water = pool->high_water;
    pica__unlock(&pool->lock);
}

int pica__stack_trim(pica__stack stack, const void *sp) {
    /* Code on x86-64 may use 128 bytes below its stack pointer. */
    uintptr_t page = page_size();
    uintptr_t lo = round_up((uintptr_t)stack.lo, page);
    uintptr_t hi = ((uintptr_t)sp - 128) / page * page;
    PICA__CHECK((uintptr_t)sp > (uintptr_t)stack.lo && (uintptr_t)sp <= (uintptr_t)stack.hi);
    return hi > lo ? discard_pages((void *)lo, hi - lo) : 0;
}

/* ---- stacks mapped alone ---- */

/* Spreads the colours of stacks mapped alone. Any thread, relaxed: any value will do. */
static _Atomic size_t next_colour;

static int map_alone(struct pica__stack_memory *memory) {
    int rc = pica__stack_memory_map(memory);
    if (rc < 0 || memory->guarded != 0) {
        return rc;
    }
    int kind = pica__guard_install(memory->start, memory->geo.guard,
                                   (memory->disable & PICA__STACK_NO_GUARD_INSTALL) != 0);
    if (kind < 0) {
        pica__stack_memory_unmap(memory, false);
        return -ENOMEM;
    }
    memory->guarded = 1;
    memory->split = kind == PICA__GUARD_SPLIT;
    return 0;
}

int pica__stack_map_with(size_t size, size_t guard, unsigned disable, pica__stack *out) {
    struct pica__stack_geometry geo;
    int rc = geometry_of(&geo, size, guard);
    if (rc != 0) {
        return rc;
    }
    struct pica__stack_memory memory = {.count = 1, .geo = geo, .disable = disable, .dump = true};
    if (map_alone(&memory) < 0) {
        return -ENOMEM;
    }
    pica__stack_range *range = pica__stack_register(memory.start, 1, &geo);
    if (range == NULL) {
        pica__stack_memory_unmap(&memory, true);
        return -ENOMEM;
    }
    size_t colour = atomic_fetch_add_explicit(&next_colour, 1, memory_order_relaxed);
    *out = stack_at(memory.start, &geo, colour);
    struct slot *slot = slot_of(*out);
    slot->u.alone.range = range;
    slot->u.alone.split = (uint16_t)memory.split;
    slot->u.alone.disable = (uint16_t)disable;
    slot->u.alone.valgrind_id = pica__stack_tools_register(*out);
    pica__stack_tools_out(*out);
    return 0;
}

int pica__stack_map(size_t size, size_t guard, pica__stack *out) {
    return pica__stack_map_with(size, guard, 0, out);
}

void pica__stack_unmap(pica__stack stack) {
    pica__stack_tools_in(stack);
    struct slot slot = *slot_of(stack);
    const struct pica__stack_memory memory = {
        .start = pica__stack_range_start(slot.u.alone.range),
        .count = 1,
        .geo = pica__stack_range_geometry(slot.u.alone.range),
        .disable = slot.u.alone.disable,
        .dump = true,
        .guarded = 1,
        .split = slot.u.alone.split,
    };
    pica__stack_tools_unregister(slot.u.alone.valgrind_id);
    pica__stack_unregister(slot.u.alone.range);
    pica__stack_memory_unmap(&memory, true);
}
