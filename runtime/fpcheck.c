/* The comparison of the floating-point control words, in debug builds. See fpcheck.h. */
#include "runtime/fpcheck.h"

#include <stdint.h>
#include <stdlib.h>

#include "runtime/base/context.h"
#include "runtime/base/log.h"
#include "runtime/base/namer.h"
#include "runtime/san.h"
#include "runtime/worker.h"

#if PICA__DEBUG
void pica__fp_start(pica__worker *worker) {
    worker->fp_control = pica__context_fp_control();
}

static PICA__NORETURN PICA__COLD void complain(const char *when, bool in_task, uint64_t now,
                                               uint64_t start) {
    char name[PICA__NAME_BYTES];
    pica__namer_ask(name, sizeof name);
    pica__log(PICA_LOG_ERROR,
              "%s%s%s %s with the thread's floating-point control changed (0x%llx, at its start "
              "0x%llx): rounding and the like must be restored before",
              in_task ? "task '" : "a callback", in_task ? name : "", in_task ? "'" : "", when,
              (unsigned long long)now, (unsigned long long)start);
    abort();
}

/* In a task's context or in the runtime's: unseen by the sanitizer, the field is the worker's. */
PICA__NO_TSAN void pica__fp_check(const char *when) {
    const pica__worker *worker = pica__self();
    uint64_t now = pica__context_fp_control();
    if (PICA__UNLIKELY(now != worker->fp_control)) {
        complain(when, worker->current != NULL, now, worker->fp_control);
    }
}
#endif
