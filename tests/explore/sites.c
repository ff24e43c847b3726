/* Where the atomic operations stand that were executed, and weaker orders in their place.
 *
 * A site is the return address of the call that the compiler made of an operation; tests/explore/weaken
 * turns it into a line of the sources. A weakening is "address=order" or "address=none" for a fence that
 * is left out; several, separated by commas, for an operation that was inlined at several places. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/explore/model.h"

enum { SITES = 4096, WEAK = 128 };

struct site {
    uintptr_t pc;
    int kind, order, failure;
};

static struct {
    bool record;
    struct site site[SITES];
    struct {
        uintptr_t pc;
        int order, failure;
    } weak[WEAK];
    unsigned weakened;
} sites;

static const char *const order_names[] = {"relaxed", "consume", "acquire", "release", "acq_rel",
                                          "seq_cst"};
static const char *const kind_names[] = {"load", "store", "rmw", "fence",
                                         "event", "wait", "relax"};

static void note(uintptr_t pc, int kind, int order, int failure) {
    unsigned i = (unsigned)(pc % SITES);
    while (sites.site[i].pc != 0 && sites.site[i].pc != pc) {
        i = (i + 1) % SITES;
    }
    sites.site[i] = (struct site){pc, kind, order, failure};
}

/* The order to be used, -1: none (a fence that is left out). */
int ex_site(const void *pc, int kind, int order, int failure, int *failure_out) {
    uintptr_t at = (uintptr_t)pc;
    if (failure_out != NULL) {
        *failure_out = failure;
    }
    if (sites.record) {
        note(at, kind, order, failure);
    }
    for (unsigned i = 0; i < sites.weakened; i++) {
        if (sites.weak[i].pc == at) {
            order = sites.weak[i].order;
            if (failure_out != NULL && sites.weak[i].failure >= 0) {
                *failure_out = sites.weak[i].failure;
            }
        }
    }
    if (ex_run.tracing) {
        ex_trace("%-6s %-8s at %p", kind_names[kind], order < 0 ? "none" : order_names[order], pc);
    }
    return order;
}

void ex_sites_record(bool on) {
    sites.record = on;
}

void ex_sites_print(const char *scenario) {
    for (unsigned i = 0; i < SITES; i++) {
        struct site *s = &sites.site[i];
        if (s->pc != 0) {
            printf("site %s %#lx %s %s %s\n", scenario, (unsigned long)s->pc, kind_names[s->kind],
                   order_names[s->order], s->failure < 0 ? "-" : order_names[s->failure]);
            s->pc = 0;
        }
    }
}

static int order_of(const char *name, size_t length) {
    for (int i = 0; i < 6; i++) {
        if (strlen(order_names[i]) == length && strncmp(order_names[i], name, length) == 0) {
            return i;
        }
    }
    return -1;
}

/* "0x401234=acquire,0x401300=acq_rel/relaxed,0x401400=none"; false if it is not understood. */
bool ex_weaken(const char *list) {
    while (*list != '\0') {
        char *end;
        uintptr_t pc = strtoul(list, &end, 16);
        if (*end != '=' || sites.weakened == WEAK) {
            return false;
        }
        const char *name = end + 1;
        size_t length = strcspn(name, ",/");
        sites.weak[sites.weakened].pc = pc;
        sites.weak[sites.weakened].order = order_of(name, length);
        sites.weak[sites.weakened].failure = -1;
        list = name + length;
        if (*list == '/') {
            name = list + 1;
            length = strcspn(name, ",");
            sites.weak[sites.weakened].failure = order_of(name, length);
            list = name + length;
        }
        sites.weakened++;
        list += *list == ',';
    }
    return true;
}

void ex_trace(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("    %-12s ", ex_run.running == NULL ? "" : ex_run.running->name);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}
