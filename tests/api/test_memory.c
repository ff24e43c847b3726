/* Memory functions of the program: every block goes back to them, with the size it was asked for with;
 * and when they have none to give, each call says so and leaves everything as it was. */
#include <pica.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "tests/support/tasks.h"

/* --- an allocator that keeps books --- */

struct block {
    size_t size;
    uint64_t magic;
};

#define MAGIC UINT64_C(0x7069636170696361)

static atomic_long blocks, bytes, most_blocks;
static int context;
/* Allocations of the calling thread until one fails; 0: none does. Set and read between two
 * suspensions of a task only. */
static _Thread_local long fail_in;

static bool must_fail(void) {
    return fail_in != 0 && --fail_in == 0;
}

static void *book_alloc(void *ctx, size_t size) {
    PT_CHECK(ctx == &context);
    if (must_fail()) {
        return NULL;
    }
    struct block *b = malloc(sizeof *b + size);
    PT_REQUIRE(b != NULL);
    *b = (struct block){size, MAGIC};
    long now = atomic_fetch_add(&blocks, 1) + 1;
    if (now > atomic_load(&most_blocks)) {
        atomic_store(&most_blocks, now);
    }
    atomic_fetch_add(&bytes, (long)size);
    memset(b + 1, 0xa5, size); /* it promises nothing about the contents */
    return b + 1;
}

static void book_free(void *ctx, void *p, size_t size) {
    PT_CHECK(ctx == &context);
    if (p == NULL) {
        return;
    }
    struct block *b = (struct block *)p - 1;
    PT_EQ(b->magic, MAGIC);
    PT_EQ(b->size, size);
    b->magic = 0;
    atomic_fetch_sub(&blocks, 1);
    atomic_fetch_sub(&bytes, (long)b->size);
    memset(p, 0x5a, b->size);
    free(b);
}

static void *book_realloc(void *ctx, void *p, size_t old_size, size_t size) {
    void *new = book_alloc(ctx, size);
    if (new != NULL && p != NULL) {
        memcpy(new, p, old_size < size ? old_size : size);
        book_free(ctx, p, old_size);
    }
    return new;
}

static const struct pica_allocator allocator = {book_alloc, book_realloc, book_free, &context};

static struct pica_runtime_options with_books(void) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.allocator = &allocator;
    return options;
}

/* --- everything comes back --- */

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static int fails(void *arg) {
    (void)arg;
    return pica_fail(-EIO, "some %s", "message");
}

static int waits(void *arg) {
    return pica_await(arg, NULL);
}

static void drops_future(void *arg) {
    pica_future_unref(arg);
}

static void nothing(void *arg) {
    (void)arg;
}

static void on_done(pica_future *future, void *arg) {
    (void)future;
    (void)arg;
}

static int unused_handler(pica_reader *reader, pica_writer *writer, void *arg) {
    (void)reader;
    (void)writer;
    (void)arg;
    return 0;
}

static int uses_everything(void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_future *f[20];
    pica_async *async = NULL;
    (void)arg;
    options.name = "a name of some length";
    options.stack_size = 128 * 1024;
    options.arg_destroy = drops_future;
    for (int i = 0; i < 20; i++) {
        f[i] = new_future();
        PT_EQ(pica_future_add_done_callback(f[i], NULL, on_done, NULL), 0);
        PT_EQ(pica_create_task_opts(NULL, waits, pica_future_ref(f[i]), &options), 0);
        PT_EQ(pica_create_task(NULL, code, NULL), 0);
        PT_EQ(pica_call_later(i < 10 ? 1e-4 * i : 1e3, nothing, NULL, NULL), 0);
    }
    PT_EQ(pica_join(spawn(fails, NULL), NULL), -EIO);
    PT_EQ(pica_wait(20, f, 0.001, PICA_ALL_COMPLETED), 0);
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_future_set_result(f[i], NULL, NULL), 0);
    }
    PT_EQ(pica_gather(20, f, 0), 0);
    for (int i = 0; i < 20; i++) {
        pica_future_unref(f[i]);
    }
    pica_task *unnamed = spawn(code, NULL);
    PT_CHECK(strlen(pica_task_name(unnamed)) > 0);
    PT_EQ(pica_join(unnamed, NULL), 0);
    PT_EQ(pica_task_set_name(pica_current_task(), "another name"), 0);
    PT_EQ(pica_async_new(&async, pica_current_loop(), nothing, NULL), 0);
    pica_async_send(async);
    PT_EQ(pica_sleep(0.001), 0);
    pica_async_free(async);
    return 0;
}

PT_TEST(all_goes_back) {
    struct pica_runtime_options options = with_books();
    for (int i = 0; i < 5; i++) { /* process-wide: also for runs without the option */
        PT_EQ(i == 0 ? pica_run_opts(uses_everything, NULL, &options)
                     : pica_run(uses_everything, NULL),
              0);
        PT_EQ(blocks, 0);
        PT_EQ(bytes, 0);
    }
    PT_CHECK(atomic_load(&most_blocks) > 50); /* they were asked at all */
}

/* A server that closes while its runtime does: the runtime waits until it has noticed. */
static int leaves_server(void *arg) {
    pica_server *server = NULL;
    PT_EQ(pica_start_server(&server, "127.0.0.1", 0, unused_handler, NULL, NULL), 0);
    pica_server_release(server);
    return code(arg);
}

PT_TEST(servers_go_back) {
    struct pica_runtime_options options = with_books();
    for (int i = 0; i < 20; i++) {
        PT_EQ(i == 0 ? pica_run_opts(leaves_server, NULL, &options) : pica_run(leaves_server, NULL),
              0);
        PT_EQ(blocks, 0);
    }
}

/* Tasks may be referred to when their runtime has been closed; it goes with the last reference. */
enum { KEPT = 20 };

static int leaves_tasks(void *arg) {
    pica_task **kept = arg;
    for (unsigned i = 0; i < KEPT; i++) {
        kept[i] = spawn_pinned(i, code, (void *)(uintptr_t)i);
        PT_EQ(pica_join(pica_task_ref(kept[i]), NULL), (int)i);
    }
    return 0;
}

PT_TEST(kept_tasks_go_back) {
    struct pica_runtime_options options = with_books();
    pica_task *kept[KEPT];
    for (int i = 0; i < 3; i++) {
        PT_REQUIRE((i == 0 ? pica_run_opts(leaves_tasks, kept, &options)
                           : pica_run(leaves_tasks, kept)) == 0);
        for (int k = 0; k < KEPT; k++) {
            PT_CHECK(blocks > 0);
            PT_EQ(pica_future_done(PICA_FUTURE(kept[k])), 1);
            PT_EQ(pica_task_cancel(kept[k]), 0);
            pica_task_unref(kept[k]);
        }
        PT_EQ(blocks, 0);
        PT_EQ(bytes, 0);
    }
}

PT_TEST(must_be_complete) {
    struct pica_runtime_options options = with_books();
    struct pica_allocator broken = allocator;
    broken.realloc = NULL;
    options.allocator = &broken;
    pica_runtime *rt = NULL;
    PT_EQ(pica_runtime_new(&rt, &options), -EINVAL);
    PT_EQ(pica_run_opts(code, (void *)1, &options), -EINVAL);
    PT_CHECK(rt == NULL);
    PT_EQ(pica_run(code, (void *)1), 1);
}

/* Before the first use: memory of two families must not meet. */
PT_TEST(too_late) {
    struct pica_runtime_options options = with_books();
    PT_EQ(pica_run(code, (void *)1), 1);
    PT_CHECK(pica_run_opts(code, (void *)1, &options) < 0);
    PT_EQ(blocks, 0);
    PT_EQ(pica_run(code, (void *)2), 2);
}

/* --- none to be had --- */

static void expect_unchanged(long before) {
    fail_in = 0;
    PT_EQ(atomic_load(&blocks), before);
}

static int no_memory_main(void *arg) {
    (void)arg;
    pica_future *f = NULL;
    pica_task *task = NULL;
    pica_handle *handle = NULL;
    pica_async *async = NULL;
    pica_thread_future *thread_future = NULL;
    pica_runtime *rt = pica_current_runtime();
    pica_loop *loop = pica_current_loop();
    struct value v = {0};
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.arg_destroy = value_destroy;
    options.name = "name";
    long before = atomic_load(&blocks);

    fail_in = 1;
    PT_EQ(pica_future_new(&f), -ENOMEM);
    expect_unchanged(before);
    fail_in = 1;
    PT_EQ(pica_create_task(&task, code, NULL), -ENOMEM);
    expect_unchanged(before);
    for (long i = 1; i <= 2; i++) { /* the task, its name */
        fail_in = i;
        PT_EQ(pica_create_task_opts(&task, code, &v, &options), -ENOMEM);
        expect_unchanged(before);
    }
    PT_EQ(v.destroyed, 0); /* the argument stays the caller's */
    fail_in = 1;
    PT_EQ(pica_call_soon(nothing, NULL, &handle), -ENOMEM);
    expect_unchanged(before);
    fail_in = 1;
    PT_EQ(pica_call_later(1e3, nothing, NULL, &handle), -ENOMEM);
    expect_unchanged(before);
    fail_in = 1;
    PT_EQ(pica_async_new(&async, loop, nothing, NULL), -ENOMEM);
    expect_unchanged(before);
    for (long i = 1; i <= 2; i++) { /* the handle, the task */
        fail_in = i;
        PT_EQ(pica_run_coroutine_threadsafe(rt, code, NULL, &thread_future), -ENOMEM);
        expect_unchanged(before);
    }
    fail_in = 1;
    PT_EQ(pica_task_set_name(pica_current_task(), "x"), -ENOMEM);
    expect_unchanged(before);
    PT_STR_EQ(pica_task_name(pica_current_task()), "main");
    fail_in = 1;
    PT_CHECK(pica_error_new(-EIO, NULL, "x") == NULL);
    expect_unchanged(before);
    fail_in = 1;
    PT_EQ(pica_fail(-EIO, "x"), -EIO);
    expect_unchanged(before);
    PT_CHECK(pica_current_error() == NULL);
    PT_CHECK(f == NULL && task == NULL && handle == NULL && async == NULL && thread_future == NULL);
    return 0;
}

PT_TEST(no_memory) {
    struct pica_runtime_options options = with_books();
    PT_EQ(pica_run_opts(no_memory_main, NULL, &options), 0);
    PT_EQ(blocks, 0);
}

/* Waiting for many needs memory too, and takes nothing when there is none. */
static int no_memory_to_wait(void *arg) {
    pica_future *f[40];
    pica_timeout t;
    (void)arg;
    for (int i = 0; i < 40; i++) {
        f[i] = new_future();
    }
    PT_EQ(pica_timeout_exit(&t, pica_timeout_enter(&t, 1e3)), 0); /* now the heap has places */
    long before = atomic_load(&blocks);
    fail_in = 1;
    PT_EQ(pica_gather(40, f, 0), -ENOMEM);
    expect_unchanged(before);
    fail_in = 1;
    PT_EQ(pica_wait(40, f, 1e3, PICA_ALL_COMPLETED), -ENOMEM);
    expect_unchanged(before);
    fail_in = 1;
    PT_EQ(pica_future_add_done_callback(f[0], NULL, on_done, NULL), -ENOMEM);
    expect_unchanged(before);
    PT_EQ(pica_task_cancelling(pica_current_task()), 0);
    for (int i = 0; i < 40; i++) {
        PT_EQ(pica_future_done(f[i]), 0);
        pica_future_unref(f[i]);
    }
    return 0;
}

PT_TEST(no_memory_to_wait) {
    struct pica_runtime_options options = with_books();
    PT_EQ(pica_run_opts(no_memory_to_wait, NULL, &options), 0);
    PT_EQ(blocks, 0);
}

/* A timer needs a place in the heap: a sleep and a scope say so, and the task goes on. */
static int no_memory_for_timers(void *arg) {
    enum { TIMERS = 3000 };
    static pica_handle *handle[TIMERS];
    int refused = 0;
    pica_timeout outer;
    (void)arg;
    fail_in = 1; /* the heap's first places; the scope itself needs nothing */
    PT_EQ(pica_timeout_enter(&outer, 1e3), -ENOMEM);
    fail_in = 0;
    PT_EQ(pica_timeout_enter(&outer, 1e3), 0); /* has the alarm, so that those inside need places */
    for (int i = 0; i < TIMERS; i++) {
        fail_in = 2; /* the handle is had, the heap cannot grow */
        int rc = pica_call_later(1e3, nothing, NULL, &handle[i]);
        fail_in = 0;
        PT_CHECK(rc == 0 || rc == -ENOMEM);
        PT_CHECK((rc == 0) == (handle[i] != NULL));
        if (rc == -ENOMEM) {
            refused++;
            pica_timeout t;
            fail_in = 1;
            PT_EQ(pica_timeout_enter(&t, 1e3), -ENOMEM);
            fail_in = 0;
            PT_EQ(pica_call_later(1e3, nothing, NULL, &handle[i]), 0);
        }
    }
    PT_CHECK(refused > 0);
    for (int i = 0; i < TIMERS; i++) {
        PT_EQ(pica_handle_cancel(handle[i]), 1);
        pica_handle_unref(handle[i]);
    }
    PT_EQ(pica_timeout_exit(&outer, 6), 6);
    return 0;
}

static int pinned_main(void *arg) {
    return pica_join(spawn_pinned(0, no_memory_for_timers, arg), NULL);
}

PT_TEST(no_memory_for_timers) {
    struct pica_runtime_options options = with_books();
    PT_EQ(pica_run_opts(pinned_main, NULL, &options), 0);
    PT_EQ(blocks, 0);
}

/* A runtime that cannot be made leaves nothing behind, whichever allocation of ours fails. */
PT_TEST(no_memory_for_a_runtime) {
    struct pica_runtime_options options = with_books();
    pica_runtime *rt = NULL;
    int failures = 0;
    PT_EQ(pica_run_opts(code, (void *)1, &options), 1);
    for (long i = 1; i < 1000; i++) {
        fail_in = i;
        int rc = pica_runtime_new(&rt, NULL);
        bool hit = fail_in == 0;
        fail_in = 0;
        if (!hit) {
            PT_EQ(rc, 0);
            PT_EQ(pica_close(rt), 0);
            break;
        }
        failures++;
        PT_EQ(rc, -ENOMEM);
        PT_EQ(blocks, 0);
    }
    PT_CHECK(failures > 1);
    PT_EQ(blocks, 0);
}

PT_MAIN()
