/* Making and ending a ring: the flags that the kernel knows, memory that is short, what to tell the log. The engine
 * is in uring.c.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "io/engine/uring_ring.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/base/compiler.h"
#include "runtime/base/park.h"
#include "runtime/base/sys.h"

/* Groups of set-up flags, newest first; each group is dropped when the kernel answers EINVAL. */
static int ring_setup(pica__uring *u, const pica__config *config, unsigned entries,
                      struct io_uring_params *params) {
    unsigned optional[] = {
        config->without & PICA__WITHOUT_DEFER_TASKRUN
            ? 0
            : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        config->without & PICA__WITHOUT_SUBMIT_ALL ? 0 : IORING_SETUP_SUBMIT_ALL,
        config->without & PICA__WITHOUT_CQSIZE ? 0 : IORING_SETUP_CQSIZE,
        IORING_SETUP_CLAMP,
    };
    unsigned groups = sizeof optional / sizeof optional[0];
    for (unsigned dropped = 0;; dropped++) {
        memset(params, 0, sizeof *params);
        for (unsigned i = dropped; i < groups; i++) {
            params->flags |= optional[i];
        }
        params->cq_entries = params->flags & IORING_SETUP_CQSIZE ? entries * 4 : 0;
        int rc = io_uring_queue_init_params(entries, &u->ring, params);
        if (rc != -EINVAL || dropped == groups) {
            return rc;
        }
    }
}

/* ENOMEM: rings count against the locked memory of the user, and the memory of rings that were
 * closed a moment ago is given back late. So: try again after a short wait, then with fewer
 * entries. */
static int ring_setup_patiently(pica__uring *u, const pica__config *config,
                                struct io_uring_params *params) {
    unsigned entries = config->ring_entries;
    for (unsigned attempt = 0;; attempt++) {
        int rc = ring_setup(u, config, entries, params);
        if (rc != -ENOMEM) {
            return rc;
        }
        if (attempt >= 8) {
            if (entries <= 8) {
                return rc;
            }
            entries = entries / 2 < 8 ? 8 : entries / 2;
            attempt = 4;
        }
        _Atomic uint32_t nobody = 0;
        pica__park_wait(&nobody, 0, pica__now() + (INT64_C(1000000) << attempt));
    }
}

static const char *explain(int rc) {
    return rc == -EPERM || rc == -EACCES ? "io_uring is not permitted here (sysctl kernel.io_uring_disabled, "
                                           "or a seccomp profile)"
           : rc == -ENOSYS ? "io_uring is not available (old kernel, or a seccomp profile)"
           : rc == -ENOMEM ? "no locked memory for an io_uring (see RLIMIT_MEMLOCK, ulimit -l)"
           : rc == -EMFILE || rc == -ENFILE ? "no descriptor for an io_uring (see RLIMIT_NOFILE, ulimit -n)"
                                            : "io_uring_setup failed";
}

#if PICA__TSAN
void __tsan_java_alloc(uintptr_t p, uintptr_t size);
void __tsan_java_free(uintptr_t p, uintptr_t size);

/* liburing maps and unmaps without the C library, so the sanitizer takes a ring for the one that was at
 * the same place before. This clears what it remembers. */
static void ring_forget(void *memory, size_t size) {
    size = (size + 15) & ~(size_t)15;
    __tsan_java_alloc((uintptr_t)memory, size);
    __tsan_java_free((uintptr_t)memory, size);
}
#endif

static void ring_learn(pica__uring *u, const pica__config *config, const struct io_uring_params *params) {
    u->sq_entries = params->sq_entries;
    u->defers = (params->flags & IORING_SETUP_DEFER_TASKRUN) != 0;
#if PICA__TSAN
    ring_forget(u->ring.sq.ring_ptr, u->ring.sq.ring_sz);
    ring_forget(u->ring.sq.sqes, u->sq_entries * sizeof(struct io_uring_sqe));
    if (u->ring.cq.ring_ptr != u->ring.sq.ring_ptr) {
        ring_forget(u->ring.cq.ring_ptr, u->ring.cq.ring_sz);
    }
#endif
    u->multishot_poll = (config->without & PICA__WITHOUT_MULTISHOT_POLL) == 0;
    u->multishot_accept = (config->without & PICA__WITHOUT_MULTISHOT_ACCEPT) == 0;
    u->ftruncate = (config->without & PICA__WITHOUT_FTRUNCATE) == 0;
    if ((params->features & IORING_FEAT_NO_IOWAIT) != 0 &&
        (config->without & PICA__WITHOUT_NO_IOWAIT) == 0) {
        u->enter_flags |= IORING_ENTER_NO_IOWAIT;
    }
    /* The indirection array, if there is one, maps each place to itself, for good. */
    if (u->ring.sq.array != NULL) {
        for (unsigned i = 0; i < u->sq_entries; i++) {
            u->ring.sq.array[i] = i;
        }
    }
    u->tail = *u->ring.sq.ktail;
    u->flushed = u->tail;
    u->enter_fd = u->ring.ring_fd;
    if ((config->without & PICA__WITHOUT_REGISTERED_RING) == 0 &&
        io_uring_register_ring_fd(&u->ring) == 1) {
        u->enter_fd = u->ring.enter_ring_fd;
        u->enter_flags |= IORING_ENTER_REGISTERED_RING;
    }
    (void)io_uring_ring_dontfork(&u->ring);
}

/* A ring may be mapped where another runtime's has just been unmapped. The kernel orders the two, which
 * a sanitizer cannot see; this counter says it. Added to by whoever unmaps (release) and has mapped
 * (acquire). */
static _Atomic unsigned mappings;

void pica__uring_destroy(pica__engine *engine) {
    pica__uring *u = pica__uring_of(engine);
    atomic_fetch_add_explicit(&mappings, 1, memory_order_release);
    io_uring_queue_exit(&u->ring);
    pica__uring_set_close(u);
    if (u->wake_fd >= 0) {
        (void)pica__sys_close(u->wake_fd);
    }
    pica__free(u->slots, u->slot_count * sizeof(struct pica__slot));
    pica__free(u, sizeof *u);
}

int pica__uring_create(pica__engine **out, const pica__config *config, const char **why) {
    pica__uring *u = pica__zalloc(sizeof *u);
    if (u == NULL) {
        *why = "no memory for a loop";
        return -ENOMEM;
    }
    pica__engine_init(&u->engine, &pica__uring_ops);
    u->slot_free = PICA__OP_IDLE;
    u->wake_fd = -1;
    u->polls_max = (config->without & PICA__WITHOUT_RING_POLL) != 0 ? 0 : PICA__URING_POLLS_MAX;
    pica__list_init(&u->backlog);
    pica__list_init(&u->cancels);
    struct io_uring_params params;
    int rc = (config->without & PICA__WITHOUT_IO_URING) != 0 ? -ENOSYS
                                                             : ring_setup_patiently(u, config, &params);
    if (rc < 0) {
        *why = explain(rc);
        pica__free(u, sizeof *u);
        return rc;
    }
    atomic_fetch_add_explicit(&mappings, 1, memory_order_acquire);
    ring_learn(u, config, &params);
    rc = (params.features & IORING_FEAT_EXT_ARG) == 0 ? -ENOSYS : pica__uring_wake_init(u);
    rc = rc < 0 ? rc : pica__uring_set_open(u, config);
    if (rc < 0) {
        *why = explain(rc);
        pica__uring_destroy(&u->engine);
        return rc;
    }
    *out = &u->engine;
    return 0;
}
