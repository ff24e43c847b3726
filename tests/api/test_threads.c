/* Who may call what: a table of calls that are for any thread, made by tasks, callbacks, plain threads and another
 * runtime's tasks at once, on the same objects; and a table of calls that are for tasks, or for a runtime's threads,
 * which refuse everywhere else and leave everything as it was. Under ThreadSanitizer this is the proof that the
 * library orders what is shared. */
#include <pthread.h>
#include <stdio.h>

#include "tests/support/tasks.h"

enum { THREADS = 3, TASKS = 3, ROUNDS = 60 };

static pica_runtime *shared_rt;
static pica_loop *loop;
static pica_task *sleeper;
static pica_future *done, *pending;
static pica_lock lock = PICA_LOCK_INIT;
static pica_event event = PICA_EVENT_INIT;
static pica_queue queue;
static pica_async *async;
static atomic_uint calls_made, callbacks_asked, callbacks_run;

static void counts(void *arg) {
    (void)arg;
    atomic_fetch_add(&callbacks_run, 1);
}

static void ignores(void *arg) {
    (void)arg;
}

static void ignores_done(pica_future *future, void *arg) {
    (void)future;
    (void)arg;
}

static int returns(void *arg) {
    (void)arg;
    return 3;
}

/* --- for any thread --- */

static void call_runtime(void) {
    struct pica_runtime_stats stats;
    PT_CHECK(pica_runtime_workers(shared_rt) >= 1);
    PT_CHECK(pica_runtime_engine(shared_rt)[0] != 0);
    PT_CHECK(pica_runtime_loop(shared_rt, 0) == loop);
    PT_CHECK(pica_loop_runtime(loop) == shared_rt);
    PT_EQ(pica_loop_index(loop), 0);
    stats.size = sizeof stats;
    PT_EQ(pica_runtime_get_stats(shared_rt, &stats), 0);
    PT_CHECK(pica_time() > 0);
}

static void call_loop(void) {
    pica_handle *handle;
    atomic_fetch_add(&callbacks_asked, 1);
    PT_EQ(pica_call_soon_threadsafe(loop, counts, NULL, NULL), 0);
    PT_EQ(pica_loop_call_later(loop, 1000, ignores, NULL, &handle), 0);
    PT_CHECK(pica_handle_when(handle) > 0);
    PT_EQ(pica_handle_cancelled(handle), 0);
    PT_EQ(pica_handle_cancel(handle), 1);
    PT_EQ(pica_handle_cancel(handle), 0);
    pica_handle_unref(handle);
    pica_async_send(async);
}

static void call_future(void) {
    pica_future *mine = new_future();
    void *value;
    pica_future_unref(pica_future_ref(done));
    PT_EQ(pica_future_done(done), 1);
    PT_EQ(pica_future_cancelled(done), 0);
    PT_EQ(pica_future_result(done, &value), 0);
    PT_CHECK(value == &queue && pica_future_exception(done) == NULL);
    PT_EQ(pica_future_set_result(done, NULL, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_set_exception(done, -EIO, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_result(pending, NULL), PICA_EINVALSTATE);
    PT_EQ(pica_future_add_done_callback(mine, loop, ignores_done, NULL), 0);
    PT_EQ(pica_future_remove_done_callback(mine, ignores_done, NULL), 1);
    PT_EQ(pica_future_cancel(mine), 1);
    PT_EQ(pica_future_cancel(mine), 0);
    pica_future_unref(mine);
}

static void call_task(void) {
    pica_task_unref(pica_task_ref(sleeper));
    PT_CHECK(pica_task_loop(sleeper) == loop);
    PT_CHECK(pica_task_name(sleeper)[0] != 0);
    PT_CHECK(pica_task_cancelling(sleeper) >= 0);
}

static void call_sync(void) {
    void *item;
    if (pica_lock_try_acquire(&lock) == 0) {
        PT_EQ(pica_lock_locked(&lock), 1);
        PT_EQ(pica_lock_release(&lock), 0);
    }
    pica_event_set(&event);
    (void)pica_event_is_set(&event);
    pica_event_clear(&event);
    int rc = pica_queue_put_nowait(&queue, &queue);
    PT_CHECK(rc == 0 || rc == -EAGAIN);
    rc = pica_queue_get_nowait(&queue, &item);
    PT_CHECK(rc == -EAGAIN || (rc == 0 && item == &queue && pica_queue_task_done(&queue) == 0));
    PT_CHECK(pica_queue_size(&queue) <= pica_queue_maxsize(&queue));
}

static void call_thread(void) {
    pica_thread_future *f;
    PT_EQ(pica_run_coroutine_threadsafe(shared_rt, returns, NULL, &f), 0);
    (void)pica_thread_future_cancel(f);
    if (pica_current_runtime() != shared_rt) {
        PT_EQ(pica_thread_future_wait(f, PICA_FOREVER), 1);
        int rc = pica_thread_future_result(f, NULL);
        PT_CHECK(rc == 3 || rc == PICA_ECANCELED);
    } else {
        PT_EQ(pica_thread_future_wait(f, 0), -EDEADLK);
    }
    pica_thread_future_free(f);
}

static void call_error(void) {
    PT_CHECK(pica_err_name(-EIO)[0] != 0 && pica_err_name(PICA_ECANCELED)[0] != 0);
}

static const struct {
    const char *name;
    void (*call)(void);
} any_thread[] = {{"runtime", call_runtime}, {"loop", call_loop},     {"future", call_future},
                  {"task", call_task},       {"sync", call_sync},     {"thread", call_thread},
                  {"error", call_error}};

static void call_all(unsigned first) {
    const size_t n = sizeof any_thread / sizeof any_thread[0];
    for (size_t i = 0; i < n; i++) {
        any_thread[(first + i) % n].call();
        atomic_fetch_add(&calls_made, 1);
    }
}

/* --- for tasks, or for the threads of a runtime --- */

static int waits_event(void) {
    return pica_event_wait(&event);
}
static int acquires(void) {
    return pica_lock_acquire(&lock);
}
static int puts_item(void) {
    return pica_queue_put(&queue, &queue);
}
static int gets_item(void) {
    void *item;
    return pica_queue_get(&queue, &item);
}
static int joins_queue(void) {
    return pica_queue_join(&queue);
}
static int sleeps(void) {
    return pica_sleep(1000);
}
static int awaits(void) {
    return pica_await(pending, NULL);
}
static int shields(void) {
    return pica_shield(pending, NULL);
}
static int waits_for(void) {
    return pica_wait_for(pending, 1000, NULL);
}
static int gathers(void) {
    return pica_gather(1, &pending, 0);
}
static int waits(void) {
    return pica_wait(1, &pending, 1000, PICA_ALL_COMPLETED);
}
static int joins_task(void) {
    return pica_join(sleeper, NULL);
}
static int waits_for_all(void) {
    return pica_wait_all_tasks(0);
}
static int polls(void) {
    return pica_poll(0, POLLIN);
}
static int to_thread(void) {
    return pica_to_thread(returns, NULL);
}
static int enters_timeout(void) {
    pica_timeout t;
    return pica_timeout_enter(&t, 1);
}
static int returns_value(void) {
    return pica_return(&queue, NULL);
}
static int opens_file(void) {
    pica_file *file;
    return pica_file_open(&file, "/", 0, 0);
}
static int connects(void) {
    pica_socket *socket;
    pica_address address;
    PT_EQ(pica_address_ip(&address, "127.0.0.1", 1), 0);
    return pica_connect(&socket, &address);
}
static int looks_up(void) {
    pica_addrinfo *list;
    return pica_getaddrinfo("localhost", NULL, NULL, &list);
}
static int creates(void) {
    return pica_create_task(NULL, returns, NULL);
}
static int calls_soon(void) {
    return pica_call_soon(ignores, NULL, NULL);
}
static int adds_reader(void) {
    return pica_add_reader(0, ignores, NULL);
}

/* runtime: callbacks may do it, too. */
static const struct {
    const char *name;
    int (*call)(void);
    bool runtime;
} task_only[] = {
    {"pica_event_wait", waits_event, false},     {"pica_lock_acquire", acquires, false},
    {"pica_queue_put", puts_item, false},             {"pica_queue_get", gets_item, false},
    {"pica_queue_join", joins_queue, false},     {"pica_sleep", sleeps, false},
    {"pica_yield", pica_yield, false},           {"pica_await", awaits, false},
    {"pica_shield", shields, false},             {"pica_wait_for", waits_for, false},
    {"pica_gather", gathers, false},             {"pica_wait", waits, false},
    {"pica_join", joins_task, false},            {"pica_wait_all_tasks", waits_for_all, false},
    {"pica_poll", polls, false},                 {"pica_to_thread", to_thread, false},
    {"pica_timeout_enter", enters_timeout, false}, {"pica_return", returns_value, false},
    {"pica_file_open", opens_file, false},       {"pica_connect", connects, false},
    {"pica_getaddrinfo", looks_up, false},       {"pica_create_task", creates, true},
    {"pica_call_soon", calls_soon, true},        {"pica_add_reader", adds_reader, true},
};

static void refused(bool in_callback) {
    for (size_t i = 0; i < sizeof task_only / sizeof task_only[0]; i++) {
        if (!in_callback || !task_only[i].runtime) {
            int rc = task_only[i].call();
            if (rc != PICA_ENOTASK) {
                PT_FAIL("%s returns %d outside of a task", task_only[i].name, rc);
            }
        }
    }
    PT_CHECK(pica_current_task() == NULL);
    PT_CHECK(in_callback ? pica_current_loop() == loop : pica_current_loop() == NULL);
}

/* --- all at once --- */

static void *thread_main(void *arg) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        call_all(i + (unsigned)(uintptr_t)arg);
        refused(false);
    }
    return NULL;
}

static int task_main(void *arg) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        call_all(i + (unsigned)(uintptr_t)arg);
        PT_EQ(pica_yield(), 0);
    }
    return 0;
}

static void *other_runtime(void *arg) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    PT_EQ(pica_run_opts(task_main, arg, &options), 0);
    return NULL;
}

static atomic_uint callback_rounds;

static void callback_main(void *arg) {
    (void)arg;
    call_all(atomic_fetch_add(&callback_rounds, 1));
    refused(true);
    if (atomic_load(&callback_rounds) < ROUNDS) {
        PT_EQ(pica_call_soon(callback_main, NULL, NULL), 0);
    }
}

static int sleeps_long(void *arg) {
    (void)arg;
    return pica_sleep(1000);
}

static int forever_main(void *arg) {
    pthread_t threads[THREADS + 1];
    pica_task *tasks[TASKS];
    (void)arg;
    shared_rt = pica_current_runtime();
    loop = pica_runtime_loop(shared_rt, 0);
    sleeper = spawn(sleeps_long, NULL);
    done = new_future();
    pending = new_future();
    PT_EQ(pica_future_set_result(done, &queue, NULL), 0);
    pica_queue_init(&queue, 2);
    PT_EQ(pica_async_new(&async, loop, ignores, NULL), 0);
    for (uintptr_t i = 0; i <= THREADS; i++) {
        void *(*start)(void *) = i == THREADS ? other_runtime : thread_main;
        PT_REQUIRE(pthread_create(&threads[i], NULL, start, (void *)i) == 0);
    }
    PT_EQ(pica_call_soon(callback_main, NULL, NULL), 0);
    for (uintptr_t i = 0; i < TASKS; i++) {
        tasks[i] = spawn(task_main, (void *)i);
    }
    for (int i = 0; i < TASKS; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    const unsigned groups = sizeof any_thread / sizeof any_thread[0];
    const unsigned all = (THREADS + 1 + TASKS + 1) * ROUNDS * groups;
    while (atomic_load(&calls_made) < all ||
           atomic_load(&callbacks_run) < atomic_load(&callbacks_asked)) {
        PT_EQ(pica_sleep(0.001), 0);
    }
    for (int i = 0; i <= THREADS; i++) {
        pthread_join(threads[i], NULL); /* they are about to end */
    }
    PT_EQ(atomic_load(&calls_made), all);
    PT_EQ(atomic_load(&callbacks_run), atomic_load(&callbacks_asked));
    PT_EQ(pica_lock_locked(&lock), 0);
    PT_EQ(pica_future_done(pending), 0);
    PT_EQ(pica_task_cancel(sleeper), 1);
    PT_EQ(pica_join(sleeper, NULL), PICA_ECANCELED);
    pica_async_free(async);
    pica_queue_destroy(&queue, NULL);
    pica_future_unref(done);
    pica_future_unref(pending);
    printf("    %u groups of calls from %d threads, %d tasks, callbacks and another runtime\n", all,
           THREADS, TASKS);
    return 0;
}

PT_TEST_TIMEOUT(calls_and_threads, 60) {
    tasks_run(forever_main, PICA_ORDER_FREE, NULL);
}

PT_TEST_TIMEOUT(calls_and_threads_migrate, 60) {
    tasks_run(forever_main, PICA_ORDER_FREE, "migrate");
}

PT_MAIN()
