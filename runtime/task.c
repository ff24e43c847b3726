/* Tasks: creation, execution to the end, references, names. See task.h. */
#include "runtime/task.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/barrier.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/transitions.h"
#include "runtime/error.h"
#include "runtime/fpcheck.h"
#include "runtime/rt.h"
#include "runtime/san.h"
#include "runtime/trace.h"
#include "runtime/worker.h"

#if PICA__TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* --- references --- */

/* Nobody can look at the result any more: an error that nobody saw is told. */
static void report_unseen(pica_task *task) {
    uint32_t state = atomic_load_explicit(&task->future.state, memory_order_relaxed);
    if (task->future.code >= 0 || (state & (PICA__FUTURE_SEEN | PICA__FUTURE_CANCELLED)) != 0) {
        return;
    }
    pica_runtime *rt = task->loop->rt;
    const char *name = pica_task_name(task);
    if (rt->task_error != NULL) {
        rt->task_error(rt->task_error_ctx, name, task->future.code, task->future.error);
        return;
    }
    pica_error *error = task->future.error;
    pica__log(PICA_LOG_WARN, "task '%s' ended with an error that nobody looked at: %s%s%s", name,
              pica_strerror(task->future.code), error == NULL ? "" : ": ",
              error == NULL ? "" : pica_error_message(error));
}

void pica__task_unref(pica_task *task) {
    if (task == NULL ||
        atomic_fetch_sub_explicit(&task->future.refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    report_unseen(task);
    pica__future_fini(&task->future);
    pica_runtime *rt = task->loop->rt;
    if (atomic_fetch_sub_explicit(&task->loop->objects, 1, memory_order_acq_rel) ==
        (PICA__OBJECTS_CLOSED | 1)) {
        pica__runtime_put(rt, 1);
    }
    if (task->name != NULL) {
        pica__free(task->name, strlen(task->name) + 1);
    }
    pica__free(task, PICA__TASK_SIZE);
}

pica_task *pica_task_ref(pica_task *task) {
    atomic_fetch_add_explicit(&task->future.refs, 1, memory_order_relaxed);
    return task;
}

void pica_task_unref(pica_task *task) {
    pica__task_unref(task);
}

/* --- creation --- */

static int options_check(const pica_loop *loop, const struct pica_task_options *options) {
    if (options->size != sizeof *options) {
        return -EINVAL;
    }
    if (options->loop != NULL && options->loop->rt != loop->rt) {
        return -EINVAL;
    }
    if (options->stack_size != 0 && (options->stack_size < 16 * 1024 ||
                                     options->stack_size > (size_t)1 << 40)) {
        return -EINVAL;
    }
    return 0;
}

static pica_task *task_alloc(pica_loop *loop, pica_fn fn, void *arg, bool keep) {
    pica_task *task = pica__alloc(PICA__TASK_SIZE);
    if (task == NULL) {
        return NULL;
    }
    /* The runtime's reference, the start entry's, and the caller's. */
    pica__future_init(&task->future, true, keep ? 3 : 2);
    atomic_init(&task->word, PICA__TASK_NEW);
    task->pinned = false;
    task->own_stack = false;
    task->waits = 0;
    task->fn = fn;
    task->arg = arg;
    task->arg_destroy = NULL;
    task->loop = loop;
    task->wait = NULL;
    task->fiber = NULL;
    task->ahead = NULL;
    task->alarm = NULL;
    task->start.kind = PICA__WORK_START;
    task->ready.kind = PICA__WORK_RESUME;
    task->name = NULL;
    task->stack_pages = 0;
    task->value = NULL;
    task->destroy = NULL;
    task->error = NULL;
    return task;
}

/* The task becomes visible: in its loop's registry, and to those who count. */
static void task_register(pica_task *task, const void *where) {
    pica_loop *loop = task->loop;
    if (PICA__UNLIKELY(loop->rt->config.debug_trace)) {
        pica__trace_created(task, where);
    }
#if PICA__TSAN
    task->tsan_fiber = __tsan_create_fiber(0); /* inherits what its creator has seen */
#endif
    atomic_fetch_add_explicit(&loop->objects, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->registry.created, 1, memory_order_release);
    pica__registry_lock(loop);
    task->all.id = loop->registry.next_id++ * loop->rt->workers + loop->index + 1;
    pica__list_push_back(&loop->registry.tasks, &task->all.link);
    pica__registry_unlock(loop);
}

/* where: in whose name it is created, for dumps. */
static int create(pica_task **out, pica_loop *loop, pica_fn fn, void *arg,
                  const struct pica_task_options *options, const void *where) {
    if (options != NULL) {
        int rc = options_check(loop, options);
        if (rc < 0) {
            return rc;
        }
        if (options->loop != NULL) {
            loop = options->loop;
        }
    }
    if (pica__phase(loop->rt) >= PICA__CLOSING) {
        return PICA_ECLOSED;
    }
    pica_task *task = task_alloc(loop, fn, arg, out != NULL);
    if (task == NULL) {
        return -ENOMEM;
    }
    if (options != NULL) {
        if (options->name != NULL && pica_task_set_name(task, options->name) < 0) {
            pica__free(task, PICA__TASK_SIZE);
            return -ENOMEM;
        }
        task->pinned = options->pinned != 0;
        task->own_stack =
            options->stack_size != 0 && options->stack_size != loop->rt->config.stack_size;
        task->stack_pages = (uint32_t)((options->stack_size + PICA__STACK_UNIT - 1) / PICA__STACK_UNIT);
        task->arg_destroy = options->arg_destroy;
    }
    task_register(task, where);
    if (out != NULL) {
        *out = task; /* before it can run: it may tell others */
    }
    pica__ready_unstarted(task, options != NULL && options->loop != NULL);
    return 0;
}

int pica__task_create(pica_task **out, pica_loop *loop, pica_fn fn, void *arg,
                      const struct pica_task_options *options) {
    return create(out, loop, fn, arg, options, __builtin_return_address(0));
}

int pica_create_task_opts(pica_task **out, pica_fn fn, void *arg,
                          const struct pica_task_options *options) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK
                        : create(out, loop, fn, arg, options, __builtin_return_address(0));
}

int pica_create_task(pica_task **out, pica_fn fn, void *arg) {
    pica_loop *loop = pica_current_loop();
    return loop == NULL ? PICA_ENOTASK
                        : create(out, loop, fn, arg, NULL, __builtin_return_address(0));
}

#if PICA__TSAN
static bool is_serial(const pica_task *task) {
    return task->pinned || task->loop->rt->config.fifo;
}

void pica__task_serial_begin(pica_task *task) {
    if (is_serial(task)) {
        __tsan_acquire(task->loop);
    }
}

void pica__task_serial_end(pica_task *task) {
    if (is_serial(task)) {
        __tsan_release(task->loop);
    }
}
#endif

/* --- execution --- */

bool pica__task_claim(pica_task *task) {
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    while (pica__task_state(old) == PICA__TASK_NEW) {
        /* Acquire: with the creator's publication through the queue. No release: see san.h. */
        if (atomic_compare_exchange_weak_explicit(&task->word, &old,
                                                  old | (uint32_t)PICA__TASK_RUNNING,
                                                  memory_order_acquire, memory_order_relaxed)) {
            PICA__MOVED(TASK, PICA__TASK_NEW, PICA__TASK_RUNNING);
            return true;
        }
    }
    return false;
}

static void task_unregister(pica_task *task) {
    pica_loop *loop = task->loop;
    pica__registry_lock(loop);
    pica__list_remove(&task->all.link);
    pica__registry_unlock(loop);
}

/* RUNNING -> DONE; true if a cancellation was pending that the task never saw. */
static bool task_word_done(pica_task *task) {
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    for (;;) {
        PICA__CHECK(pica__task_state(old) == PICA__TASK_RUNNING);
        uint32_t new = (old & ~(uint32_t)(PICA__TASK_STATE | PICA__TASK_CANCEL)) |
                       (uint32_t)PICA__TASK_DONE;
        if (atomic_compare_exchange_weak_explicit(&task->word, &old, new, memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            PICA__MOVED(TASK, PICA__TASK_RUNNING, PICA__TASK_DONE);
            return pica__cancel_pending(old);
        }
    }
}

/* In the task's own context, its last steps: result, waiters. */
static void task_finish(pica_task *task, int code) {
    if (task_word_done(task) && code >= 0) {
        code = PICA_ECANCELED; /* asked to end and never asked: as in asyncio, the value is dropped */
    }
    void *value = task->value;
    pica_destroy destroy = task->destroy;
    pica_error *error = task->error;
    task->value = NULL;
    task->error = NULL;
    pica__lock_none("a destructor");
    if (code < 0 && value != NULL) {
        if (destroy != NULL) {
            destroy(value);
        }
        value = NULL;
    }
    if (error != NULL && (code >= 0 || pica_error_code(error) != code)) {
        pica_error_unref(error); /* of an earlier failure that the task dealt with */
        error = NULL;
    }
    if (task->arg_destroy != NULL) {
        task->arg_destroy(task->arg);
    }
    if (PICA__UNLIKELY(task->alarm != NULL)) {
        pica__alarm_out(&task->alarm->timer);
        task->alarm->task = NULL;
        task->alarm = NULL;
    }
    task_unregister(task);
    uint32_t flags = code == PICA_ECANCELED ? PICA__FUTURE_CANCELLED : 0;
    bool won = pica__future_complete(&task->future, code, value, destroy, error, flags);
    PICA__CHECK(won);
}

/* The runtime lets go of a task that has ended. In the runtime's context. */
static void task_gone(pica_task *task) {
    pica_loop *loop = task->loop;
#if PICA__TSAN
    __tsan_destroy_fiber(task->tsan_fiber);
#endif
    pica__task_unref(task);
    pica__task_ended(loop);
}

/* Not inlined anywhere, and small: its frame stays below every task's. */
PICA__NO_TSAN __attribute__((noinline)) void pica__task_execute(pica_task *task) {
    pica__self()->current = task;
#if PICA__TSAN
    struct pica__task_alarm *alarm = &pica__self()->fiber->alarm;
    if (alarm->task == NULL) { /* else its task stands below us on the stack */
        pica__tsan_fresh_stack((uintptr_t)alarm, (uintptr_t)(alarm + 1));
    }
    pica__tsan_begin(task->tsan_fiber, pica__self()->fiber->stack.lo);
#endif
    pica__task_serial_begin(task);
    int code = PICA_ECANCELED;
    if (!pica__cancel_take(task)) {
        pica__lock_none("a task");
        code = pica__barrier_call(task->fn, task->arg);
        pica__fp_check("ended");
    }
    task_finish(task, code);
    pica__task_serial_end(task);
    pica__worker *worker = pica__self();
    worker->current = NULL;
    (void)pica__tsan_enter(worker->tsan);
    task_gone(task);
}

PICA__NO_TSAN void pica__task_end_unstarted(pica_task *task, int code) {
    pica__worker *worker = pica__self();
    void *context = pica__tsan_enter(worker->tsan);
    task_finish(task, code);
    task_gone(task);
    pica__tsan_leave(context);
}

/* --- what a task knows of itself --- */

pica_task *pica_current_task(void) {
    return pica__current();
}

int pica_return(void *value, pica_destroy destroy) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return PICA_ENOTASK;
    }
    if (task->value != NULL && task->destroy != NULL) {
        task->destroy(task->value);
    }
    task->value = value;
    task->destroy = destroy;
    return 0;
}

const char *pica_task_name(const pica_task *task) {
    char *known = __atomic_load_n(&((pica_task *)(uintptr_t)task)->name, __ATOMIC_ACQUIRE);
    if (known != NULL) {
        return known;
    }
    /* Made when it is first asked for; two askers at once agree on the winner's copy. */
    char buffer[32];
    (void)snprintf(buffer, sizeof buffer, "Task-%llu", (unsigned long long)task->all.id);
    pica_task *t = (pica_task *)(uintptr_t)task;
    size_t size = strlen(buffer) + 1;
    char *name = pica__alloc(size);
    if (name == NULL) {
        return "Task";
    }
    memcpy(name, buffer, size);
    char *expected = NULL;
    if (!__atomic_compare_exchange_n(&t->name, &expected, name, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        pica__free(name, size);
        return expected;
    }
    return name;
}

int pica_task_set_name(pica_task *task, const char *name) {
    size_t size = strlen(name) + 1;
    char *copy = pica__alloc(size);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, name, size);
    char *old = __atomic_exchange_n(&task->name, copy, __ATOMIC_ACQ_REL);
    if (old != NULL) {
        /* A dump may be reading it, under this lock; whoever takes the lock later sees the new one. */
        pica__registry_lock(task->loop);
        pica__registry_unlock(task->loop);
        pica__free(old, strlen(old) + 1);
    }
    return 0;
}

pica_loop *pica_task_loop(const pica_task *task) {
    return task->loop;
}
