/* Runtimes started and stopped many times over leave nothing behind: no descriptor, no mapping, no
 * thread, no memory. Also those that are closed with tasks suspended, timers armed and callbacks
 * queued. 300 in every run of the tests; `cycles full` makes 10,000. And 2,000 as a user without any
 * rights, for whom kernels may count a ring's memory as locked until some time after its end. */
#include <pica.h>
#include <grp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "runtime/base/compiler.h"
#include "tests/support/procfs.h"
#include "tests/support/pt.h"

#define SANITIZED (PICA__TSAN || PICA__ASAN)

enum { WARM_UP = 50, SHORT = SANITIZED ? 60 : 300, FULL = 10000, TASKS = 20 };

/* Begun and ended tasks; both counted by tasks, compared after each run. */
static atomic_long begun, ended;

static void nothing(void *arg) {
    (void)arg;
}

/* --- what a cycle does: each kind of thing that can be left over --- */

static int short_task(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    int rc = pica_yield();
    atomic_fetch_add(&ended, 1);
    return rc;
}

static int endless_task(void *arg) {
    atomic_fetch_add(&begun, 1);
    int rc = pica_event_wait(arg);
    PT_EQ(rc, PICA_ECANCELED);
    atomic_fetch_add(&ended, 1);
    return 0;
}

static int sleeping_task(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    PT_EQ(pica_sleep(1000), PICA_ECANCELED);
    atomic_fetch_add(&ended, 1);
    return 0;
}

static int joining_main(void *arg) {
    pica_task *task[TASKS];
    (void)arg;
    for (int i = 0; i < TASKS; i++) {
        PT_REQUIRE(pica_create_task(&task[i], short_task, NULL) == 0);
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return TASKS;
}

static int leaving_main(void *arg) {
    for (int i = 0; i < TASKS; i++) {
        pica_fn fn = i % 3 == 0 ? endless_task : i % 3 == 1 ? sleeping_task : short_task;
        PT_REQUIRE(pica_create_task(NULL, fn, arg) == 0);
        if (i % 5 == 0) {
            PT_EQ(pica_yield(), 0);
        }
        pica_handle *handle = NULL;
        PT_EQ(pica_call_later(500 + i, nothing, NULL, i % 2 == 0 ? &handle : NULL), 0);
        pica_handle_unref(handle);
        PT_EQ(pica_call_soon(nothing, NULL, NULL), 0);
    }
    return TASKS;
}

static void cycle(unsigned workers, long i) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = workers;
    pica_event never = PICA_EVENT_INIT;
    PT_EQ(pica_run_opts(i % 2 == 0 ? joining_main : leaving_main, &never, &options), TASKS);
    PT_EQ(atomic_load(&begun), atomic_load(&ended));
}

/* --- what is left --- */

struct left {
    long fds, mappings, threads, rss, pte;
};

static struct left look(void) {
    /* An emulator has threads of its own, which come late. */
    long threads = pt_emulator() != NULL ? 0 : procfs_threads();
    struct left l = {procfs_fds(), procfs_mappings(), threads, procfs_bytes("RssAnon"), procfs_bytes("VmPTE")};
    return l;
}

static void run(unsigned workers, long cycles) {
    for (long i = 0; i < WARM_UP; i++) {
        cycle(workers, i);
    }
    struct left before = look();
    double begin = pica_time();
    for (long i = 0; i < cycles; i++) {
        cycle(workers, i);
    }
    double seconds = pica_time() - begin;
    struct left after = look();
    printf("    %ld cycles, %.0f us each; descriptors %+ld, mappings %+ld, threads %+ld, RssAnon "
           "%+ld KiB, VmPTE %+ld KiB\n",
           cycles, seconds * 1e6 / (double)cycles, after.fds - before.fds,
           after.mappings - before.mappings, after.threads - before.threads,
           (after.rss - before.rss) / 1024, (after.pte - before.pte) / 1024);
    PT_EQ(after.fds, before.fds);
    PT_EQ(after.threads, before.threads);
    if (!SANITIZED && pt_emulator() == NULL) {
        /* The allocator may map an arena or grow one, but not with the number of cycles. */
        PT_CHECK(after.mappings - before.mappings <= 8);
        PT_CHECK(after.rss - before.rss <= 1024 * 1024);
        PT_CHECK(after.pte - before.pte <= 64 * 1024);
    }
}

PT_TEST_TIMEOUT(two_workers, 60) {
    run(2, SHORT);
}

enum {
    NOBODY = 65534,
    LOCKED_MAX = 8 << 20, /* what systems give their users; bytes */
    /* With sanitizers a cycle takes up to four times as long, and there is nothing more to find: what is
     * tested are the kernel's accounts. */
    LIMITED = SANITIZED ? 1000 : 2000
};

/* Root may lock as much as it wants, so it becomes somebody else; others stay who they are. */
static void become_nobody(void) {
    struct rlimit limit;
    PT_REQUIRE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    limit.rlim_max = limit.rlim_max < LOCKED_MAX ? limit.rlim_max : LOCKED_MAX;
    limit.rlim_cur = limit.rlim_max;
    PT_REQUIRE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (geteuid() == 0) {
        if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0) {
            PT_SKIP("this root may not become somebody else");
        }
        /* The change hid this process's own /proc from it. */
        PT_REQUIRE(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    }
    PT_CHECK(geteuid() != 0 && getegid() != 0 && setuid(0) != 0);
}

PT_TEST_TIMEOUT(with_little_locked_memory, 60) {
    become_nobody();
    run(2, LIMITED);
}

/* As many as the environment says. */
PT_TEST_TIMEOUT(workers, 60) {
    run(0, SHORT / 2);
}

/* Several at once, closed in the order in which they were made. */
PT_TEST_TIMEOUT(at_once, 60) {
    enum { RUNTIMES = 8 };
    struct left before = look();
    for (int round = 0; round < 5; round++) {
        pica_runtime *rt[RUNTIMES];
        pica_event never = PICA_EVENT_INIT;
        for (int i = 0; i < RUNTIMES; i++) {
            PT_REQUIRE(pica_runtime_new(&rt[i], NULL) == 0);
        }
        for (int i = 0; i < RUNTIMES; i++) {
            PT_EQ(pica_run_until_complete(rt[i], leaving_main, &never), TASKS);
        }
        for (int i = 0; i < RUNTIMES; i++) {
            PT_EQ(pica_close(rt[i]), 0);
        }
        PT_EQ(atomic_load(&begun), atomic_load(&ended));
        if (round == 0) {
            before = look();
        }
    }
    struct left after = look();
    PT_EQ(after.fds, before.fds);
    PT_EQ(after.threads, before.threads);
}

/* --- a plain thread whose last act ends the runtime --- */

enum { ENDINGS = SANITIZED ? 200 : 1000 };

struct ending {
    pica_loop *loop;
    pica_event event;
    pica_future *future;
    pica_task *task;
    unsigned kind;
};

/* With a reference of its own: whoever awaits drops the other one. */
static void set_future(void *arg) {
    PT_EQ(pica_future_set_result(arg, NULL, NULL), 0);
    pica_future_unref(arg);
}

/* The runtime may be gone before these calls return; they must not touch it then. */
static void *ending_thread(void *arg) {
    struct ending *e = arg;
    switch (e->kind) {
    case 0:
        pica_event_set(&e->event);
        break;
    case 1:
        set_future(e->future);
        break;
    case 2:
        PT_EQ(pica_call_soon_threadsafe(e->loop, set_future, e->future, NULL), 0);
        break;
    default:
        PT_EQ(pica_task_cancel(e->task), 1);
        break;
    }
    return NULL;
}

static int ending_main(void *arg) {
    struct ending *e = arg;
    pthread_t thread;
    e->loop = pica_current_loop();
    e->task = pica_task_ref(pica_current_task());
    if (e->kind == 1 || e->kind == 2) {
        pica_future_ref(e->future);
    }
    PT_REQUIRE(pthread_create(&thread, NULL, ending_thread, e) == 0);
    PT_REQUIRE(pthread_detach(thread) == 0);
    int rc =
        e->kind == 1 || e->kind == 2 ? pica_await(e->future, NULL) : pica_event_wait(&e->event);
    PT_EQ(rc, e->kind == 3 ? PICA_ECANCELED : 0);
    pica_task_unref(e->task);
    return 0;
}

PT_TEST_TIMEOUT(ended_by_a_thread, 60) {
    for (unsigned i = 0; i < ENDINGS; i++) {
        struct ending *e = calloc(1, sizeof *e);
        PT_REQUIRE(e != NULL);
        e->kind = i % 4;
        PT_REQUIRE(pica_future_new(&e->future) == 0);
        PT_EQ(pica_run(ending_main, e), 0);
        pica_future_unref(e->future);
        free(e);
    }
}

PT_TEST_HIDDEN(full, 600) {
    run(2, FULL);
}

PT_MAIN()
