/* pica_dump: what every task is doing, written from anywhere, signal handlers included.
 *
 * Nothing here allocates, uses stdio, or waits for a lock that the interrupted code could hold: the first look
 * at each lock is a try, and if that fails the dump says "busy". Once a try has succeeded the interrupted code
 * does not hold the lock, so later ones may wait for other threads, which hold it for some instructions.
 *
 * Lifetime, from the outside in.
 *  - A runtime: it is pinned (rt->dumpers) under the lock of the list; it leaves the list, and waits until
 *    nobody has it pinned, before it ends. So its workers, loops and pooled stacks stay.
 *  - A task: while its loop's registry is locked, a listed task cannot leave it, hence cannot end, so its
 *    record stays. A name that is replaced is freed only after the lock was free once (pica_task_set_name).
 *    The walk goes in batches, copies each, and keeps its place by a marker, as in registry.c; it writes
 *    without any lock.
 *  - A wait node lies on the stack on which the task is bound to go on. As long as the task is listed it
 *    has not returned from its function, so that stack, even one of its own size, is mapped. But the task may
 *    resume at any time, and a claim, which would prevent it, must be given back by making the task
 *    ready, which a signal handler cannot do. So the node is read first and judged after: if before and
 *    after the word said the same, waiting, and the task's count of waits and its node are the same, it was
 *    one wait all the time, and what was read is true. Only then the static ops are looked at.
 *  - What is awaited is referred to by the one that waits, no longer than that. So it is copied by a system
 *    call that fails where there is no memory (process_vm_readv), and believed after the same judgement.
 *
 * Locks: that of the list, then none; a registry's, alone. errno is kept; nothing here suspends.
 */
#include <pica/debug.h>

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/lock.h"
#include "runtime/base/relax.h"
#include "runtime/rt.h"
#include "runtime/task.h"
#include "runtime/trace.h"

/* What a dump reads it reads while others write. */
#if PICA__TSAN || PICA__ASAN
#if defined(__clang__)
#define UNSEEN __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define UNSEEN __attribute__((no_sanitize("thread", "address", "undefined"), noinline))
#endif
#else
#define UNSEEN
#endif

enum { BATCH = 8, NAME_SHOWN = 48, LINE_BYTES = 400, TRIES = 4, ROUNDS = 200 };

/* --- the list of runtimes --- */

/* Not static: debuggers begin here (tools/gdb/pica.py). */
struct pica__runtime_list pica__runtimes = {PICA__LOCK_INIT,
                                            {&pica__runtimes.list, &pica__runtimes.list},
                                            0};

void pica__runtime_list(pica_runtime *rt) {
    pica__lock(&pica__runtimes.lock);
    rt->serial = ++pica__runtimes.serial;
    pica__list_push_back(&pica__runtimes.list, &rt->listed);
    pica__unlock(&pica__runtimes.lock);
}

void pica__runtime_unlist(pica_runtime *rt) {
    pica__lock(&pica__runtimes.lock);
    pica__list_remove(&rt->listed);
    pica__unlock(&pica__runtimes.lock);
    pica__backoff backoff = PICA__BACKOFF_INIT;
    while (atomic_load_explicit(&rt->dumpers, memory_order_acquire) != 0) {
        pica__relax(&backoff);
    }
}

/* A try, with some patience: another thread needs the lock for some instructions only. If it is the interrupted
 * code that holds it, patience does not help, so it is bounded. */
static bool try_for_a_while(pica__lock_t *lock) {
    pica__backoff backoff = PICA__BACKOFF_INIT;
    for (int i = 0; i < ROUNDS; i++) {
        if (pica__trylock(lock)) {
            return true;
        }
        pica__relax(&backoff);
    }
    return false;
}

/* With the lock held, which it drops: pins the first runtime with a larger serial. */
static pica_runtime *next_runtime(uint64_t serial) {
    pica_runtime *rt = NULL;
    pica__link *l = pica__runtimes.list.next;
    for (; l != &pica__runtimes.list && rt == NULL; l = l->next) {
        pica_runtime *r = PICA__CONTAINER_OF(l, pica_runtime, listed);
        rt = r->serial > serial ? r : NULL;
    }
    if (rt != NULL) {
        atomic_fetch_add_explicit(&rt->dumpers, 1, memory_order_relaxed);
    }
    pica__unlock(&pica__runtimes.lock);
    return rt;
}

/* --- lines --- */

struct line {
    int fd;
    int error; /* of the first write that failed: nothing more is written */
    size_t length;
    char text[LINE_BYTES];
};

static void add(struct line *line, const char *text) {
    while (*text != 0 && line->length < sizeof line->text - 1) {
        /* A name is the user's: nothing that could upset a terminal, or look like another line. */
        unsigned char c = (unsigned char)*text++;
        line->text[line->length++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
}

static void add_number(struct line *line, uint64_t n, unsigned base, unsigned width) {
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[n % base];
        n /= base;
        width -= width != 0;
    } while (n != 0 || width != 0);
    add(line, digits + at);
}

static void end(struct line *line) {
    line->text[line->length++] = '\n';
    size_t done = 0;
    while (done < line->length && line->error == 0) {
        ssize_t n = write(line->fd, line->text + done, line->length - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            line->error = -errno;
        }
    }
    line->length = 0;
}

/* --- one task --- */

struct shown {
    uint64_t id;
    uint64_t target;        /* the id of the awaited task, 0 if none */
    const char *what;       /* it waits for: static text, or NULL */
    const char *place;
    const void *created_at;
    int64_t age;            /* ns, -1 if unknown */
    int descriptor;         /* that it waits for, or -1 */
    int worker;             /* that runs it, or -1 */
    uint32_t state;
    bool named;
    char name[NAME_SHOWN];
};

UNSEEN static uint32_t word_of(pica_task *task) {
    return __atomic_load_n((uint32_t *)(void *)&task->word, __ATOMIC_ACQUIRE);
}

static bool is_waiting(uint32_t word) {
    uint32_t state = pica__task_state(word);
    return state == PICA__TASK_WAITING || state == PICA__TASK_CLAIMED;
}

/* The number of the task that `future` is, 0 if it is none, or cannot be read any more. */
UNSEEN static uint64_t task_id(pica_future *future) {
    pica_task *task = (pica_task *)future;
    bool is_task = false;
    uint64_t id = 0;
    struct iovec to[2] = {{&is_task, sizeof is_task}, {&id, sizeof id}};
    struct iovec from[2] = {{&future->is_task, sizeof is_task}, {&task->all.id, sizeof id}};
    long n = syscall(SYS_process_vm_readv, getpid(), to, 2L, from, 2L, 0L);
    return n == (long)(sizeof is_task + sizeof id) && is_task ? id : 0;
}

/* One reading of what a task waits for; false if the task moved meanwhile. */
UNSEEN static bool look_at_wait(pica_task *task, uint32_t word, struct shown *shown) {
    uint16_t waits = __atomic_load_n(&task->waits, __ATOMIC_ACQUIRE);
    pica__wait *wait = __atomic_load_n(&task->wait, __ATOMIC_RELAXED);
    const struct pica__wait_ops *ops = __atomic_load_n(&wait->ops, __ATOMIC_RELAXED);
    pica_future *target = __atomic_load_n(&wait->target, __ATOMIC_RELAXED);
    int about = __atomic_load_n(&wait->about, __ATOMIC_RELAXED);
    pica_task *owner = __atomic_load_n(&wait->task, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_acquire);
    if (word_of(task) != word || __atomic_load_n(&task->waits, __ATOMIC_RELAXED) != waits ||
        owner != task) {
        return false;
    }
    shown->what = ops->what;
    shown->descriptor = about < 0 ? ~about : -1;
    if (target != NULL) {
        uint64_t id = task_id(target);
        atomic_thread_fence(memory_order_acquire);
        bool same = word_of(task) == word &&
                    __atomic_load_n(&task->waits, __ATOMIC_RELAXED) == waits;
        shown->target = same ? id : 0;
    }
    return true;
}

UNSEEN static void copy_name(pica_task *task, struct shown *shown) {
    const char *name = __atomic_load_n(&task->name, __ATOMIC_ACQUIRE);
    shown->named = name != NULL;
    size_t n = 0;
    for (; name != NULL && name[n] != 0 && n < NAME_SHOWN - 1; n++) {
        shown->name[n] = name[n];
    }
    shown->name[n] = 0;
}

/* With the registry locked, so that the task cannot end. */
UNSEEN static void look(pica_task *task, struct shown *shown) {
    pica_runtime *rt = task->loop->rt;
    shown->id = task->all.id;
    shown->target = 0;
    shown->what = NULL;
    shown->descriptor = -1;
    shown->worker = -1;
    copy_name(task, shown);
    uint32_t word = word_of(task);
    for (int i = 0; i < TRIES && is_waiting(word) && !look_at_wait(task, word, shown); i++) {
        word = word_of(task);
    }
    shown->state = pica__task_state(word);
    for (unsigned i = 0; shown->state == PICA__TASK_RUNNING && i < rt->workers; i++) {
        if (__atomic_load_n(&rt->worker[i].current, __ATOMIC_RELAXED) == task) {
            shown->worker = (int)i;
            break;
        }
    }
    bool traced = rt->config.debug_trace;
    shown->created_at = traced ? task->created_at : NULL;
    shown->place = pica__trace_place(shown->created_at);
    shown->age = traced ? pica__now() - task->created_ns : -1;
}

static void add_state(struct line *line, const struct shown *shown) {
    switch (shown->state) {
        case PICA__TASK_NEW:
            add(line, "new");
            return;
        case PICA__TASK_RUNNING:
            if (shown->worker >= 0) {
                add(line, "running on worker ");
                add_number(line, (uint64_t)shown->worker, 10, 0);
            } else {
                add(line, "ready");
            }
            return;
        case PICA__TASK_FIRED:
            add(line, "ready");
            return;
        case PICA__TASK_DONE:
            add(line, "ending");
            return;
        default:
            break;
    }
    add(line, "waiting");
    if (shown->what != NULL) {
        add(line, ": ");
        add(line, shown->what);
    }
    if (shown->target != 0) {
        add(line, ", task ");
        add_number(line, shown->target, 10, 0);
    }
    if (shown->descriptor >= 0) {
        add(line, ", descriptor ");
        add_number(line, (uint64_t)shown->descriptor, 10, 0);
    }
}

static void write_task(struct line *line, const struct shown *shown) {
    add(line, "task ");
    add_number(line, shown->id, 10, 0);
    add(line, " '");
    if (shown->named) {
        add(line, shown->name);
    } else {
        add(line, "Task-");
        add_number(line, shown->id, 10, 0);
    }
    add(line, "': ");
    add_state(line, shown);
    if (shown->age >= 0) {
        uint64_t ms = (uint64_t)shown->age / 1000000;
        add(line, ", age ");
        add_number(line, ms / 1000, 10, 0);
        add(line, ".");
        add_number(line, ms % 1000, 10, 3);
        add(line, " s, created at ");
        if (shown->place != NULL) {
            add(line, shown->place);
        } else {
            add(line, "0x");
            add_number(line, (uintptr_t)shown->created_at, 16, 0);
        }
    }
    end(line);
}

/* --- walking --- */

/* Copies the next tasks behind the marker, and moves it. With the registry locked, which it unlocks. Returns
 * how many; fewer than BATCH: that were all, and the marker is out of the list. */
UNSEEN static unsigned batch(pica_loop *loop, pica__registered *marker, struct shown *shown) {
    unsigned n = 0;
    pica__link *head = &loop->registry.tasks;
    pica__link *l = marker->link.next;
    for (; l != head && n < BATCH; l = l->next) {
        pica__registered *r = PICA__CONTAINER_OF(l, pica__registered, link);
        if (r->id != 0) {
            look(PICA__CONTAINER_OF(r, pica_task, all), &shown[n++]);
        }
    }
    pica__list_remove(&marker->link);
    if (n == BATCH) {
        pica__list_insert_between(&marker->link, l->prev, l);
    }
    pica__registry_unlock(loop);
    return n;
}

static bool registry_trylock(pica_loop *loop) {
    pica__tsan_hide();
    bool locked = try_for_a_while(&loop->registry.lock);
    if (!locked) {
        pica__tsan_show();
    }
    return locked;
}

/* The tasks at home on a loop; returns how many. */
static uint64_t write_loop(struct line *line, pica_loop *loop) {
    struct shown shown[BATCH];
    pica__registered marker = {.id = 0};
    if (!registry_trylock(loop)) {
        add(line, "loop ");
        add_number(line, loop->index, 10, 0);
        add(line, ": busy, its tasks are not shown");
        end(line);
        return 0;
    }
    pica__list_push_front(&loop->registry.tasks, &marker.link);
    uint64_t total = 0;
    for (;;) {
        unsigned n = batch(loop, &marker, shown);
        for (unsigned i = 0; i < n; i++) {
            write_task(line, &shown[i]);
        }
        total += n;
        if (n < BATCH) {
            return total;
        }
        pica__registry_lock(loop);
    }
}

static uint64_t write_runtime(struct line *line, pica_runtime *rt) {
    add(line, "runtime ");
    add_number(line, rt->serial, 10, 0);
    if (pica__runtime_check(rt) < 0) {
        add(line, ": belongs to the parent of a fork");
        end(line);
        return 0;
    }
    add(line, ": ");
    add_number(line, rt->workers, 10, 0);
    add(line, " workers, ");
    add_number(line, pica__runtime_alive(rt), 10, 0);
    add(line, " tasks");
    end(line);
    for (unsigned i = 0; i < rt->workers; i++) {
        pica__worker *worker = &rt->worker[i];
        add(line, "worker ");
        add_number(line, i, 10, 0);
        bool awake =
            atomic_load_explicit(&worker->sleep, memory_order_relaxed) == PICA__AWAKE;
        add(line, awake ? ": awake, " : ": asleep, ");
        add_number(line, atomic_load_explicit(&worker->steps, memory_order_relaxed), 10, 0);
        add(line, " steps");
        end(line);
    }
    uint64_t total = 0;
    for (unsigned i = 0; i < rt->workers; i++) {
        total += write_loop(line, &rt->loop[i]);
    }
    return total;
}

PICA__TSAN_APART static int dump(int fd) {
    struct line line;
    line.fd = fd;
    line.error = 0;
    line.length = 0;
    if (!try_for_a_while(&pica__runtimes.lock)) {
        add(&line, "busy, the list of runtimes is locked");
        end(&line);
        return line.error != 0 ? line.error : -EBUSY;
    }
    uint64_t total = 0;
    pica_runtime *rt = next_runtime(0);
    while (rt != NULL) {
        total += write_runtime(&line, rt);
        uint64_t serial = rt->serial;
        atomic_fetch_sub_explicit(&rt->dumpers, 1, memory_order_release);
        pica__lock(&pica__runtimes.lock);
        rt = next_runtime(serial);
    }
    add(&line, "end: ");
    add_number(&line, total, 10, 0);
    add(&line, " tasks");
    end(&line);
    return line.error;
}

/* In handlers, too: there errno is whose context the signal hit, and the sanitizer would take that for another's. */
PICA__NO_TSAN int pica_dump(int fd) {
    int saved = errno;
    int rc = dump(fd);
    errno = saved;
    return rc;
}
