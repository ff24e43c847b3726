/*
 * Names of hosts in the simulation: those that a scenario has told, and localhost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/sim/child.h"
#include "runtime/base/sim/core.h"

struct name {
    pica__link link;
    pica_address address;
    char host[];
};

static pica__link names;

static void names_begin(void) {
    if (names.next == NULL) {
        pica__list_init(&names);
    }
}

void pica__sim_names_end(void) {
    names_begin();
    pica__link *l;
    while ((l = pica__list_pop_front(&names)) != NULL) {
        free(PICA__CONTAINER_OF(l, struct name, link));
    }
}

int pica_sim_name(const char *host, const pica_address *address) {
    if (!pica__simulated()) {
        return -ESHUTDOWN;
    }
    names_begin();
    size_t size = strlen(host) + 1;
    struct name *name = malloc(sizeof *name + size);
    if (name == NULL) {
        return -ENOMEM;
    }
    pica__list_init(&name->link);
    name->address = *address;
    memcpy(name->host, host, size);
    pica__list_push_back(&names, &name->link);
    return 0;
}

int pica__sim_resolve(const char *host, pica_address addresses[], int max) {
    names_begin();
    (void)pica__sim_block(pica__sim_time() + 1 + pica__sim_delay(), "a name server");
    if (pica__sim_fault(PICA_SIM_NAMES)) {
        return -EAGAIN;
    }
    int n = 0;
    for (pica__link *l = names.next; l != &names && n < max; l = l->next) {
        const struct name *name = PICA__CONTAINER_OF(l, struct name, link);
        if (strcmp(name->host, host) == 0) {
            addresses[n++] = name->address;
        }
    }
    return n;
}
