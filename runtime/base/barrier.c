/*
 * The personality routine of pica__barrier_call's frame: what an unwinder that has come so far asks
 * whether to go on. See barrier.h, and the Itanium C++ ABI for the conventions.
 *
 * It runs on the stack of the task that threw, inside the unwinder, which holds no lock then.
 */
#include "runtime/base/barrier.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unwind.h>

#include "runtime/base/log.h"
#include "runtime/base/namer.h"

/* Called by the unwinder, which found it in the description of the frame; hidden, and named there only. */
__attribute__((used)) _Unwind_Reason_Code pica__barrier_personality(
    int version, _Unwind_Action actions, _Unwind_Exception_Class kind,
    struct _Unwind_Exception *exception, struct _Unwind_Context *context);

/* Four bytes of vendor, then the language; the last one may be 1 (another reference to one exception). */
static bool is_cxx(_Unwind_Exception_Class kind) {
    return ((unsigned long long)kind & 0xfffffffeu) == 0x432b2b00u; /* "C++" */
}

_Unwind_Reason_Code pica__barrier_personality(int version, _Unwind_Action actions,
                                              _Unwind_Exception_Class kind,
                                              struct _Unwind_Exception *exception,
                                              struct _Unwind_Context *context) {
    (void)version;
    (void)exception;
    (void)context;
    char name[PICA__NAME_BYTES];
    pica__namer_ask(name, sizeof name);
    if ((actions & _UA_FORCE_UNWIND) != 0) {
        pica__log(PICA_LOG_ERROR,
                  "task '%s' ended its thread (by pthread_exit or pthread_cancel), which belongs to "
                  "the runtime",
                  name);
        abort();
    }
    pica__log(PICA_LOG_ERROR, "an exception left task '%s', and nobody could catch it", name);
    if ((actions & _UA_SEARCH_PHASE) == 0 || !is_cxx(kind)) {
        abort();
    }
    return _URC_FATAL_PHASE1_ERROR;
}
