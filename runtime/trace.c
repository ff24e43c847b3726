/* A table of places, of fixed size: open addressing by the address. A row is claimed by compare-and-swap of its
 * key and never given back; its text is written by the claimer and published by `ready`. When the table is
 * full, further places have no words; the address itself is in the task. */
#include "runtime/trace.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/clock.h"
#include "runtime/base/symbol.h"
#include "runtime/task.h"

enum { PLACES = 512, PLACE_BYTES = 112 };

static struct place {
    /* The address, 0 for a free row. Compare-and-swapped once by whoever needs a row, relaxed. */
    _Atomic uintptr_t where;
    /* Set by the claimer (release) after the text, read by everybody (acquire). */
    _Atomic bool ready;
    char text[PLACE_BYTES];
} places[PLACES];

/* The row of an address, or the free one where it belongs; NULL if there is none. */
static struct place *find(uintptr_t where) {
    uint64_t hash = (uint64_t)where * UINT64_C(0x9e3779b97f4a7c15);
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &places[((hash >> 40) + i) % PLACES];
        uintptr_t there = atomic_load_explicit(&place->where, memory_order_relaxed);
        if (there == where || there == 0) {
            return place;
        }
    }
    return NULL;
}

void pica__trace_created(pica_task *task, const void *where) {
    task->created_at = where;
    task->created_ns = pica__now();
    struct place *place;
    while ((place = find((uintptr_t)where)) != NULL &&
           atomic_load_explicit(&place->where, memory_order_relaxed) == 0) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong_explicit(&place->where, &none, (uintptr_t)where,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            pica__symbol((const char *)where - 1, place->text, sizeof place->text);
            atomic_store_explicit(&place->ready, true, memory_order_release);
            return;
        }
    }
}

const char *pica__trace_place(const void *where) {
    struct place *place = where == NULL ? NULL : find((uintptr_t)where);
    return place != NULL && atomic_load_explicit(&place->ready, memory_order_acquire) ? place->text
                                                                                      : NULL;
}
