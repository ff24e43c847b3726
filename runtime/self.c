/* The one thread-local of the library: see self.h. */
#include "runtime/self.h"

__attribute__((used)) _Thread_local struct pica__worker *pica__tls_worker;

/* Not inlined, so that the address computed here lives in no caller. */
__attribute__((noinline)) void pica__self_set(struct pica__worker *worker) {
    pica__tls_worker = worker;
}
