/* Which engine a runtime gets. The choice is made anew for each loop, since that costs one system call that
 * fails, and loops do not care what the others have.
 *
 * valgrind (3.19) does not know that io_uring_enter blocks: it runs one thread at a time, and a worker that sleeps
 * there would stop the whole process. So there the choice is epoll. */
#include "io/engine/engine.h"

#include <errno.h>
#include <stdatomic.h>

#include "runtime/base/log.h"
#include "runtime/base/sim/sim.h"
#include "runtime/base/stack_tools.h"

/* Whether the log has been told. Exchanged by each loop that falls back; orders nothing. */
static _Atomic bool told;

int pica__engine_create(pica__engine **out, const pica__config *config) {
    if (pica__simulated()) {
        return pica__sim_engine_create(out, config);
    }
    if (config->engine == PICA__ENGINE_EPOLL ||
        (config->engine == PICA__ENGINE_AUTO && pica__stack_tools_valgrind())) {
        return pica__epoll_create(out, config);
    }
    const char *why = NULL;
    int rc = pica__uring_create(out, config, &why);
    if (rc == 0) {
        return 0;
    }
    bool refused = rc == -EPERM || rc == -EACCES || rc == -ENOSYS;
    if (config->engine == PICA__ENGINE_URING || !refused) {
        pica__log(PICA_LOG_ERROR, "%s", why);
        return rc;
    }
    if (!atomic_exchange_explicit(&told, true, memory_order_relaxed)) {
        pica__log(PICA_LOG_WARN, "%s; using epoll", why);
    }
    return pica__epoll_create(out, config);
}
