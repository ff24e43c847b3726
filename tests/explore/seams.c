/* The library's seams, and what a failed check does, in the model. */
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/relax.h"
#include "runtime/base/sim/sim.h"
#include "tests/explore/model.h"

void pica__check_failed(const char *expr, const char *file, int line) {
    ex_fail("%s:%d: broken invariant: %s", file, line, expr);
}

void pica__sim_point(void) {
    EX_CHECK(false); /* nothing is simulated here (sim.h) */
}

void pica__relax(pica__backoff *b) {
    (void)b;
    ex_relaxed();
}

/* Memory never comes back, so what is used after it was freed is reported. */
void *pica__alloc(size_t size) {
    return ex_alloc(size);
}

void *pica__zalloc(size_t size) {
    return ex_alloc(size);
}

void *pica__realloc(void *p, size_t old, size_t size) {
    void *memory = ex_alloc(size);
    if (p != NULL) {
        memcpy(memory, p, old < size ? old : size);
        ex_free(p, old);
    }
    return memory;
}

void pica__free(void *p, size_t size) {
    if (p != NULL) {
        ex_free(p, size);
    }
}

void *pica__zalloc_aligned(size_t align, size_t size) {
    (void)align; /* all is aligned to cache lines */
    return ex_alloc(size);
}

void pica__free_aligned(void *p, size_t align, size_t size) {
    (void)align;
    pica__free(p, size);
}

int64_t ex_time;

int64_t pica__now(void) {
    return ex_time;
}

void pica__log(int level, const char *format, ...) {
    (void)level;
    (void)format;
}
