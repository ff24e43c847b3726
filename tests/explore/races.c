/* Accesses that are not ordered by happens-before, and accesses to what was freed. See explore.h.
 *
 * For each 8 bytes it is kept who accessed which of them last, and how. Two accesses race if one of them writes,
 * they touch the same byte, not both are atomic, and the later thread has not seen the earlier access. */
#include <string.h>

#include "tests/explore/model.h"

enum { GRANULES = 1 << 14, RECORDS = 6, ARENA = 1 << 18 };

struct record {
    uint16_t time;
    uint8_t clock;
    uint8_t bytes; /* a bit each */
    uint8_t how;
};

struct granule {
    uintptr_t key;
    uint64_t round;
    unsigned n;
    bool freed;
    struct record record[RECORDS];
};

static struct {
    uint64_t round;
    struct granule granule[GRANULES];
    unsigned used;
} races;

static struct {
    _Alignas(64) char bytes[ARENA];
    size_t used;
} arena;

void ex_races_reset(void) {
    races.round++;
    races.used = 0;
    arena.used = 0;
}

static struct granule *granule_of(uintptr_t key) {
    unsigned i = (unsigned)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % GRANULES;
    while (races.granule[i].round == races.round && races.granule[i].key != key) {
        i = (i + 1) % GRANULES;
    }
    struct granule *g = &races.granule[i];
    if (g->round != races.round) {
        if (++races.used > GRANULES / 2) {
            ex_fail("too much memory");
        }
        g->round = races.round;
        g->key = key;
        g->n = 0;
        g->freed = false;
    }
    return g;
}

static const char *word(unsigned how) {
    return how & EX_FREES ? "freeing" : how & EX_ATOMIC ? "an atomic access"
                                    : how & EX_WRITES   ? "a write"
                                                        : "a read";
}

static void access_granule(struct granule *g, unsigned bytes, unsigned how, const void *address) {
    struct ex_model_thread *me = ex_run.running;
    if (g->freed) {
        ex_fail("%s of freed memory by %s: %s", word(how), me->name, ex_name_of(address));
    }
    struct record *mine = NULL;
    for (unsigned i = 0; i < g->n; i++) {
        struct record *r = &g->record[i];
        if (r->clock == me->clock) {
            mine = r->how == how && r->bytes == bytes ? r : mine;
        } else if ((r->bytes & bytes) != 0 && ((r->how | how) & EX_WRITES) != 0 &&
                   (r->how & how & EX_ATOMIC) == 0 && me->now.clock[r->clock] < r->time) {
            ex_fail("race: %s by %s is not ordered after %s by another thread: %s", word(how), me->name,
                    word(r->how), ex_name_of(address));
        }
    }
    if (mine == NULL) {
        if (g->n == RECORDS) {
            memmove(g->record, g->record + 1, (RECORDS - 1) * sizeof g->record[0]);
            g->n--;
        }
        mine = &g->record[g->n++];
    }
    mine->clock = (uint8_t)me->clock;
    mine->time = me->now.clock[me->clock];
    mine->bytes = (uint8_t)bytes;
    mine->how = (uint8_t)how;
    g->freed = (how & EX_FREES) != 0;
}

void ex_access(const void *address, size_t size, unsigned how) {
    uintptr_t at = (uintptr_t)address;
    uintptr_t end = at + size;
    while (at < end) {
        uintptr_t next = (at | 7) + 1;
        unsigned from = at & 7;
        unsigned n = (unsigned)((next < end ? next : end) - at);
        access_granule(granule_of(at >> 3), ((1u << n) - 1) << from, how, address);
        at = next;
    }
    if ((how & (EX_WRITES | EX_ATOMIC)) == EX_WRITES) {
        ex_memory_written(address, size);
    }
}

/* --- memory of an execution --- */

void *ex_alloc(size_t size) {
    size = (size + 63) / 64 * 64;
    if (arena.used + size > ARENA) {
        ex_fail("no memory left in the arena");
    }
    char *memory = arena.bytes + arena.used;
    arena.used += size;
    memset(memory, 0, size);
    return memory;
}

void ex_free(void *memory, size_t size) {
    ex_access(memory, size, EX_WRITES | EX_FREES);
}

void ex_touch(const void *memory, size_t size) {
    ex_access(memory, size, EX_WRITES);
}

bool ex_is_freed(const void *memory) {
    return granule_of((uintptr_t)memory >> 3)->freed;
}
