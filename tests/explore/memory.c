/* The three memories: which store a load reads, and what it brings along. See explore.h.
 *
 * Each location has its stores in the order in which they took effect (its modification order). The real memory
 * holds the value of the last one, so that uninstrumented code and plain accesses see it; if it holds something
 * else, a plain write came in between (an initialisation), which becomes a store of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/explore/model.h"

struct message {
    uint64_t value;
    ex_ctx ctx; /* for who acquires it */
};

struct ex_location {
    void *address;
    uint64_t round; /* of the execution */
    unsigned index;
    unsigned size;
    bool quiet;
    bool written; /* by a plain write, with this context */
    ex_ctx writer;
    unsigned stores;
    uint16_t store[EX_HISTORY]; /* messages */
};

enum { TABLE = 1024, QUIET = 32, NAMES = 64 };

static struct {
    uint64_t round;
    struct ex_location location[EX_LOCATIONS];
    unsigned locations;
    struct {
        uint64_t round;
        const void *address;
        unsigned index;
    } table[TABLE];
    struct message message[EX_MESSAGES];
    unsigned messages;
    uint8_t ordered[EX_LOCATIONS]; /* what seq_cst operations have settled */
    struct {
        const char *from, *to;
    } quiet[QUIET];
    unsigned quiets;
    struct {
        const void *address;
        const char *name;
    } names[NAMES];
    unsigned named;
} memory;

void ex_memory_reset(void) {
    memory.round++;
    memory.locations = 0;
    memory.messages = 0;
    memory.quiets = 0;
    memory.named = 0;
    memset(memory.ordered, 0, sizeof memory.ordered);
}

void ex_quiet(const void *address, size_t size) {
    if (memory.quiets == QUIET) {
        ex_fail("too many quiet ranges");
    }
    memory.quiet[memory.quiets].from = address;
    memory.quiet[memory.quiets++].to = (const char *)address + size;
}

void ex_name(const void *address, const char *name) {
    if (memory.named < NAMES) {
        memory.names[memory.named].address = address;
        memory.names[memory.named++].name = name;
    }
}

const char *ex_name_of(const void *address) {
    static char other[32];
    for (unsigned i = 0; i < memory.named; i++) {
        if (memory.names[i].address == address) {
            return memory.names[i].name;
        }
    }
    (void)snprintf(other, sizeof other, "%p", address);
    return other;
}

void ex_join(ex_ctx *to, const ex_ctx *from) {
    for (unsigned i = 0; i < EX_LOCATIONS; i++) {
        to->view[i] = to->view[i] > from->view[i] ? to->view[i] : from->view[i];
    }
    for (unsigned i = 0; i < EX_CLOCKS; i++) {
        to->clock[i] = to->clock[i] > from->clock[i] ? to->clock[i] : from->clock[i];
    }
}

static void tick(struct ex_model_thread *t) {
    t->now.clock[t->clock]++;
}

/* --- locations --- */

static uint64_t peek(const void *address, unsigned size) {
    uint64_t value = 0;
    memcpy(&value, address, size);
    return value;
}

static unsigned message_new(uint64_t value) {
    if (memory.messages == EX_MESSAGES) {
        ex_fail("too many stores");
    }
    memory.message[memory.messages].value = value;
    return memory.messages++;
}

static void append(struct ex_location *l, unsigned message) {
    if (l->stores == EX_HISTORY) {
        ex_fail("too many stores to one location");
    }
    l->store[l->stores++] = (uint16_t)message;
}

static unsigned slot_of(const void *address) {
    unsigned i = (unsigned)(((uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15)) >> 54) % TABLE;
    while (memory.table[i].round == memory.round && memory.table[i].address != address) {
        i = (i + 1) % TABLE;
    }
    return i;
}

static bool is_quiet(const void *address) {
    for (unsigned i = 0; i < memory.quiets; i++) {
        if ((const char *)address >= memory.quiet[i].from &&
            (const char *)address < memory.quiet[i].to) {
            return true;
        }
    }
    return false;
}

static struct ex_location *location_new(unsigned slot, const void *address, unsigned size) {
    if (memory.locations == EX_LOCATIONS) {
        ex_fail("too many locations");
    }
    struct ex_location *l = &memory.location[memory.locations];
    memory.table[slot].round = memory.round;
    memory.table[slot].address = address;
    memory.table[slot].index = memory.locations;
    l->address = (void *)(uintptr_t)address;
    l->index = memory.locations++;
    l->size = size;
    l->quiet = is_quiet(address);
    l->written = false;
    l->stores = 0;
    unsigned m = message_new(peek(address, size));
    memset(&memory.message[m].ctx, 0, sizeof(ex_ctx));
    append(l, m);
    return l;
}

static struct ex_location *location_of(const void *address, unsigned size) {
    unsigned slot = slot_of(address);
    if (memory.table[slot].round != memory.round) {
        return location_new(slot, address, size);
    }
    struct ex_location *l = &memory.location[memory.table[slot].index];
    if (l->size != size) {
        ex_fail("an atomic of %u bytes is used as one of %u", l->size, size);
    }
    return l;
}

static struct message *message_of(struct ex_location *l, unsigned store) {
    return &memory.message[l->store[store]];
}

/* Plain writes since the last atomic operation. */
static void settle(struct ex_location *l) {
    uint64_t value = peek(l->address, l->size);
    if (value != message_of(l, l->stores - 1)->value) {
        unsigned m = message_new(value);
        ex_ctx *ctx = &memory.message[m].ctx;
        if (l->written) {
            *ctx = l->writer;
            append(l, m);
            ctx->view[l->index] = (uint8_t)(l->stores - 1);
        } else {
            memset(ctx, 0, sizeof *ctx);
            append(l, m);
        }
    }
    l->written = false;
}

void ex_memory_written(const void *address, size_t size) {
    struct ex_model_thread *me = ex_run.running;
    for (uintptr_t at = (uintptr_t)address & ~(uintptr_t)3; at < (uintptr_t)address + size; at += 4) {
        unsigned slot = slot_of((const void *)at);
        if (memory.table[slot].round == memory.round) {
            struct ex_location *l = &memory.location[memory.table[slot].index];
            l->written = true;
            l->writer = me->now;
        }
    }
}

/* --- stores take effect --- */

static bool acquires(int order) {
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST ||
           order == __ATOMIC_CONSUME;
}

static bool releases(int order) {
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* by: who stores. base: the context that the store carries. */
static void take_effect(struct ex_model_thread *by, struct ex_location *l, uint64_t value,
                        const ex_ctx *base, const ex_ctx *chained, bool ordered) {
    unsigned m = message_new(value);
    ex_ctx *ctx = &memory.message[m].ctx;
    *ctx = *base;
    if (chained != NULL) {
        ex_join(ctx, chained);
    }
    append(l, m);
    uint8_t last = (uint8_t)(l->stores - 1);
    ctx->view[l->index] = last;
    if (by->now.view[l->index] < last) {
        by->now.view[l->index] = last;
    }
    if (ordered) {
        memory.ordered[l->index] = last;
    }
    memcpy(l->address, &value, l->size);
}

/* tso: the oldest buffered store gets out. */
static void flush_one(struct ex_model_thread *t) {
    struct ex_buffered *b = &t->buffer[0];
    take_effect(t, b->location, b->value, &b->ctx, NULL, false);
    t->buffered--;
    memmove(t->buffer, t->buffer + 1, t->buffered * sizeof t->buffer[0]);
}

void ex_drain(struct ex_model_thread *t) {
    while (t->buffered != 0) {
        flush_one(t);
    }
}

static unsigned buffered_at(const struct ex_model_thread *t, const struct ex_location *l) {
    unsigned n = 0;
    for (unsigned i = 0; i < t->buffered; i++) {
        n += t->buffer[i].location == l;
    }
    return n;
}

/* tso: before me looks at a location: others' stores to it are out, or not yet. */
static void others_flush(struct ex_model_thread *me, const struct ex_location *l, bool all) {
    for (unsigned i = 0; i < ex_run.threads; i++) {
        struct ex_model_thread *t = &ex_run.thread[i];
        unsigned n = t == me ? 0 : buffered_at(t, l);
        unsigned kept = n == 0 || all ? 0 : ex_choose_stale(n + 1);
        while (n > kept) {
            n -= t->buffer[0].location == l;
            flush_one(t);
        }
    }
}

static void drain_slowly(struct ex_model_thread *me) {
    while (me->buffered != 0) {
        others_flush(me, me->buffer[0].location, false);
        flush_one(me);
    }
}

/* --- operations --- */

static struct ex_location *step(enum ex_kind kind, const void *address, unsigned size, int order) {
    struct ex_location *l = location_of(address, size);
    if (!l->quiet) {
        ex_step(&(struct ex_op){.kind = kind, .ordered = order == __ATOMIC_SEQ_CST, .address = address});
        ex_access(address, size, EX_ATOMIC | (kind == EX_LOAD ? 0 : EX_WRITES));
        settle(l);
    }
    return l;
}

static void have_read(struct ex_model_thread *me, struct ex_location *l, unsigned store, int order) {
    const ex_ctx *ctx = &message_of(l, store)->ctx;
    if (me->now.view[l->index] < store) {
        me->now.view[l->index] = (uint8_t)store;
    }
    ex_join(&me->acquired, ctx);
    if (acquires(order)) {
        ex_join(&me->now, ctx);
    }
    me->last = l;
    me->last_store = store;
    me->fresh = false;
}

/* c11: the oldest store that a load may read. */
static unsigned oldest(const struct ex_model_thread *me, const struct ex_location *l, int order) {
    unsigned store = me->now.view[l->index];
    if (order == __ATOMIC_SEQ_CST && memory.ordered[l->index] > store) {
        store = memory.ordered[l->index];
    }
    return me->fresh ? l->stores - 1 : store;
}

uint64_t ex_load(const void *address, unsigned size, int order) {
    struct ex_model_thread *me = ex_run.running;
    struct ex_location *l = step(EX_LOAD, address, size, order);
    if (l->quiet) {
        return peek(address, size);
    }
    unsigned store = l->stores - 1;
    if (ex_run.mode == EX_TSO) {
        for (unsigned i = me->buffered; i-- != 0;) {
            if (me->buffer[i].location == l) {
                me->last = l;
                me->last_store = store;
                return me->buffer[i].value;
            }
        }
        others_flush(me, l, me->fresh);
        store = l->stores - 1;
    } else if (ex_run.mode == EX_C11) {
        store -= ex_choose_stale(l->stores - oldest(me, l, order));
    }
    have_read(me, l, store, order);
    return message_of(l, store)->value;
}

static const ex_ctx *carried(const struct ex_model_thread *me, int order) {
    return releases(order) ? &me->now : &me->released;
}

void ex_store(void *address, unsigned size, uint64_t value, int order) {
    struct ex_model_thread *me = ex_run.running;
    struct ex_location *l = step(EX_STORE, address, size, order);
    if (l->quiet) {
        memcpy(address, &value, size);
        return;
    }
    if (ex_run.mode == EX_TSO && me != ex_main_thread()) {
        if (me->buffered == EX_BUFFERED) {
            flush_one(me);
        }
        struct ex_buffered *b = &me->buffer[me->buffered++];
        b->location = l;
        b->value = value;
        b->ctx = *carried(me, order);
        if (order == __ATOMIC_SEQ_CST) {
            drain_slowly(me);
        }
    } else {
        take_effect(me, l, value, carried(me, order), NULL, order == __ATOMIC_SEQ_CST);
    }
    tick(me);
}

/* Before a read-modify-write: what it reads is the last store. */
static unsigned rmw_begin(struct ex_model_thread *me, struct ex_location *l) {
    if (ex_run.mode == EX_TSO) {
        drain_slowly(me);
        others_flush(me, l, me->fresh);
    }
    return l->stores - 1;
}

static void rmw_end(struct ex_model_thread *me, struct ex_location *l, unsigned store, uint64_t value,
                    int order) {
    have_read(me, l, store, order);
    take_effect(me, l, value, carried(me, order), &message_of(l, store)->ctx,
                order == __ATOMIC_SEQ_CST);
    tick(me);
}

uint64_t ex_rmw(void *address, unsigned size, uint64_t (*change)(uint64_t old, uint64_t by), uint64_t by,
                int order) {
    struct ex_model_thread *me = ex_run.running;
    struct ex_location *l = step(EX_RMW, address, size, order);
    if (l->quiet) {
        uint64_t old = peek(address, size);
        uint64_t new = change(old, by);
        memcpy(address, &new, size);
        return old;
    }
    unsigned store = rmw_begin(me, l);
    uint64_t old = message_of(l, store)->value;
    uint64_t mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
    rmw_end(me, l, store, change(old, by) & mask, order);
    return old;
}

/* c11: which store a compare-and-swap reads. It succeeds only on the last one, and fails on what differs. */
static unsigned cas_store(const struct ex_model_thread *me, struct ex_location *l, uint64_t expected,
                          int failure) {
    unsigned possible[EX_HISTORY];
    unsigned n = 0;
    possible[n++] = l->stores - 1;
    for (unsigned i = l->stores - 1; i-- > oldest(me, l, failure);) {
        if (message_of(l, i)->value != expected) {
            possible[n++] = i;
        }
    }
    return possible[ex_choose_stale(n)];
}

bool ex_cas(void *address, unsigned size, uint64_t *expected, uint64_t value, int order, int failure) {
    struct ex_model_thread *me = ex_run.running;
    struct ex_location *l = step(EX_RMW, address, size, order);
    unsigned store = rmw_begin(me, l);
    if (ex_run.mode == EX_C11) {
        store = cas_store(me, l, *expected, failure);
    }
    uint64_t old = message_of(l, store)->value;
    if (store == l->stores - 1 && old == *expected) {
        rmw_end(me, l, store, value, order);
        return true;
    }
    have_read(me, l, store, failure);
    *expected = old;
    return false;
}

void ex_fence(int order) {
    struct ex_model_thread *me = ex_run.running;
    bool ordered = order == __ATOMIC_SEQ_CST;
    ex_step(&(struct ex_op){.kind = EX_FENCE, .ordered = ordered});
    if (ordered && ex_run.mode == EX_TSO) {
        drain_slowly(me);
    }
    if (acquires(order)) {
        ex_join(&me->now, &me->acquired);
    }
    if (ordered) {
        for (unsigned i = 0; i < EX_LOCATIONS; i++) {
            uint8_t *mine = &me->now.view[i];
            *mine = *mine > memory.ordered[i] ? *mine : memory.ordered[i];
            memory.ordered[i] = *mine;
        }
    }
    if (releases(order)) {
        me->released = me->now;
    }
    tick(me);
}

/* --- waiting --- */

bool ex_changed(const struct ex_model_thread *t) {
    if (t->last == NULL || t->last_store != t->last->stores - 1) {
        return true;
    }
    for (unsigned i = 0; i < ex_run.threads; i++) {
        if (&ex_run.thread[i] != t && buffered_at(&ex_run.thread[i], t->last) != 0) {
            return true;
        }
    }
    return false;
}

void ex_relaxed(void) {
    struct ex_model_thread *me = ex_run.running;
    ex_step(&(struct ex_op){.kind = EX_RELAX,
                            .address = me->last == NULL ? NULL : me->last->address});
    me->fresh = true;
}

/* --- what the scenario hands on --- */

static ex_ctx *ctx_of(ex_edge *edge) {
    return (ex_ctx *)(void *)edge;
}

void ex_edge_init(ex_edge *edge) {
    memset(edge, 0, sizeof *edge);
}

void ex_give(ex_edge *edge) {
    struct ex_model_thread *me = ex_run.running;
    ex_drain(me); /* whatever hands on does so after what was stored before */
    ex_join(ctx_of(edge), &me->now);
    tick(me);
}

void ex_take(const ex_edge *edge) {
    ex_join(&ex_run.running->now, (const ex_ctx *)(const void *)edge);
}

void ex_become(const ex_edge *edge) {
    struct ex_model_thread *me = ex_run.running;
    if (ex_run.clocks == EX_CLOCKS) {
        ex_fail("too many segments");
    }
    me->clock = ex_run.clocks++;
    me->now = *(const ex_ctx *)(const void *)edge;
    me->now.clock[me->clock] = 1;
    me->acquired = me->now;
    memset(&me->released, 0, sizeof me->released);
    me->last = NULL;
}

void ex_inherit(unsigned thread) {
    struct ex_model_thread *me = ex_run.running;
    struct ex_model_thread *from = &ex_run.thread[thread];
    ex_join(&me->now, &from->now);
    ex_join(&me->acquired, &from->acquired);
    ex_join(&me->released, &from->released);
    for (unsigned i = 0; i < from->buffered; i++) {
        if (me->buffered == EX_BUFFERED) {
            flush_one(me);
        }
        me->buffer[me->buffered++] = from->buffer[i];
    }
    from->buffered = 0;
    tick(from);
}
