/* Pauses: something of a loop that could not be done for want of memory or descriptors is tried again after a while.
 * They need no memory of their own, unlike timers, whose heap may have to grow: without any left, what cannot even
 * be put off would be tried in every turn.
 *
 * A loop has few at a time, so they are a plain list, and the loop knows the earliest moment. All of it is the owner's
 * alone: who begins or ends a pause is on the loop's worker.
 */
#ifndef PICA__RUNTIME_PAUSE_H
#define PICA__RUNTIME_PAUSE_H

#include <stdbool.h>
#include <stdint.h>

#include <pica/loop.h>

#include "runtime/base/list.h"

/* Lies in what it is about. */
typedef struct pica__pause {
    pica__link link; /* while it lasts */
    int64_t until;   /* ns of pica__now */
    void (*over)(struct pica__pause *pause);
} pica__pause;

typedef struct pica__pauses {
    pica__link list;
    int64_t earliest; /* INT64_MAX: none */
} pica__pauses;

void pica__pauses_init(pica__pauses *pauses);
/* Ends those that are due, and calls their `over`, which may begin the next. Returns how many. */
unsigned pica__pauses_fire(pica__pauses *pauses, int64_t now);

void pica__pause_init(pica__pause *pause, void (*over)(pica__pause *pause));
/* It must not last already. */
void pica__pause_begin(pica_loop *loop, pica__pause *pause, int64_t ns);
static inline bool pica__pause_lasts(const pica__pause *pause) {
    return pica__link_linked(&pause->link);
}
/* Cuts it short: true if it lasted; `over` is not called. */
bool pica__pause_end(pica_loop *loop, pica__pause *pause);

#endif
