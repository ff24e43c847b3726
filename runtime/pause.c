/* See pause.h. */
#include "runtime/pause.h"

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/loop.h"

static pica__pause *pause_of(pica__link *link) {
    return PICA__CONTAINER_OF(link, pica__pause, link);
}

static void find_earliest(pica__pauses *pauses) {
    pauses->earliest = INT64_MAX;
    for (pica__link *l = pauses->list.next; l != &pauses->list; l = l->next) {
        int64_t until = pause_of(l)->until;
        pauses->earliest = until < pauses->earliest ? until : pauses->earliest;
    }
}

void pica__pauses_init(pica__pauses *pauses) {
    pica__list_init(&pauses->list);
    pauses->earliest = INT64_MAX;
}

unsigned pica__pauses_fire(pica__pauses *pauses, int64_t now) {
    pica__link due;
    pica__list_init(&due);
    for (pica__link *l = pauses->list.next, *next; l != &pauses->list; l = next) {
        next = l->next;
        if (pause_of(l)->until <= now) {
            pica__list_remove(l);
            pica__list_push_back(&due, l);
        }
    }
    find_earliest(pauses);
    unsigned fired = 0;
    pica__link *l;
    while ((l = pica__list_pop_front(&due)) != NULL) {
        pause_of(l)->over(pause_of(l));
        fired++;
    }
    return fired;
}

void pica__pause_init(pica__pause *pause, void (*over)(pica__pause *pause)) {
    pica__list_init(&pause->link);
    pause->over = over;
}

void pica__pause_begin(pica_loop *loop, pica__pause *pause, int64_t ns) {
    PICA__CHECK(!pica__pause_lasts(pause));
    pause->until = pica__now() + ns;
    pica__list_push_back(&loop->pauses.list, &pause->link);
    find_earliest(&loop->pauses);
}

bool pica__pause_end(pica_loop *loop, pica__pause *pause) {
    bool lasted = pica__pause_lasts(pause);
    if (lasted) {
        pica__list_remove(&pause->link);
        find_earliest(&loop->pauses);
    }
    return lasted;
}
