/* The one function that knows names. See namer.h. */
#include "runtime/base/namer.h"

#include <stdatomic.h>

typedef void namer_fn(char *buf, size_t cap);

/* Any thread sets it (release), reporters read it (acquire): what it refers to was made before. */
static _Atomic(namer_fn *) current_namer;

void pica__namer_set(void (*namer)(char *buf, size_t cap)) {
    atomic_store_explicit(&current_namer, namer, memory_order_release);
}

void pica__namer_ask(char *buf, size_t cap) {
    namer_fn *namer = atomic_load_explicit(&current_namer, memory_order_acquire);
    buf[0] = '\0';
    if (namer != NULL) {
        namer(buf, cap);
        buf[cap - 1] = '\0';
    }
    if (buf[0] == '\0' && cap > 1) {
        buf[0] = '?';
        buf[1] = '\0';
    }
}
