/* Where suspended tasks stand, for the report of a deadlock.
 *
 * A stack is unwound from inside: it is switched to, and what runs there first, the commit of the switch (fiber.h),
 * takes the backtrace and switches back. So the task stands a few frames deeper from then on, in visit_commit, until
 * it is resumed for good; then that returns to where the task was.
 *
 * AddressSanitizer would have to be told of both switches: with it nothing is written. */
#include "runtime/places.h"

#include <execinfo.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/compiler.h"
#include "runtime/base/symbol.h"
#include "runtime/fiber_switch.h"
#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/worker.h"

#if PICA__ASAN || PICA__TSAN

void pica__places_tell(pica_runtime *rt) {
    (void)rt;
}

#else

enum { FRAMES = 32, SHOWN = 4 };

struct visit {
    pica__context here;
    pica__fiber *fiber;
    void *frame[FRAMES];
    int frames;
};

/* On the visited stack. */
static void visit_commit(pica__worker *worker, void *arg) {
    struct visit *visit = arg;
    (void)worker;
    visit->frames = backtrace(visit->frame, FRAMES);
    pica__context_switch(&visit->fiber->context, &visit->here);
    /* Much later, when the task is resumed: `visit` is gone, and the switch that came here had a commit of its own. */
    pica__fiber_arrive();
}

static void visit_fiber(struct visit *visit) {
    pica__worker *self = pica__self();
    pica__worker *worker = self;
    pica__worker stand_in;
    if (worker == NULL) {
        memset(&stand_in, 0, sizeof stand_in); /* the thread that asks is no worker; only the commit is looked at */
        worker = &stand_in;
        pica__self_set(worker);
    }
    pica__commit_fn commit = worker->commit;
    void *commit_arg = worker->commit_arg;
    worker->commit = visit_commit;
    worker->commit_arg = visit;
    pica__context_switch(&visit->here, &visit->fiber->context);
    worker->commit = commit;
    worker->commit_arg = commit_arg;
    pica__self_set(self);
}

/* The library's own frames come first; then those of the program. */
static void tell(const pica_task *task, const struct visit *visit) {
    int shown = 0;
    (void)fprintf(stderr, "task %llu '%s' stands in\n", (unsigned long long)task->all.id,
                  task->name != NULL ? task->name : "");
    for (int i = 2; i < visit->frames && shown < SHOWN; i++) {
        char text[256];
        pica__symbol((const char *)visit->frame[i] - 1, text, sizeof text);
        bool library = strncmp(text, "pica_", 5) == 0 || strstr(text, "(libpica") != NULL ||
                       strncmp(text, "libpica", 7) == 0;
        if (!library) {
            (void)fprintf(stderr, "    %s\n", text);
            shown++;
        }
    }
}

void pica__places_tell(pica_runtime *rt) {
    for (unsigned i = 0; i < rt->workers; i++) {
        pica_loop *loop = &rt->loop[i];
        for (pica__link *l = loop->registry.tasks.next; l != &loop->registry.tasks; l = l->next) {
            pica__registered *place = PICA__CONTAINER_OF(l, pica__registered, link);
            if (place->id == 0) {
                continue; /* of somebody who walks the list */
            }
            pica_task *task = PICA__CONTAINER_OF(place, pica_task, all);
            uint32_t word = atomic_load_explicit(&task->word, memory_order_acquire);
            /* Not those that await: their task may run on their stack, and it tells of both. */
            if (pica__task_state(word) == PICA__TASK_WAITING &&
                task->wait->target == NULL) {
                struct visit visit = {.fiber = task->fiber};
                visit_fiber(&visit);
                tell(task, &visit);
            }
        }
    }
}

#endif
