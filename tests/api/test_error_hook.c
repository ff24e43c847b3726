/* Errors that nobody looked at: told exactly once, with everything that is known of them, and never
 * of an error that somebody has seen. */
#include <pica.h>

#include <stdatomic.h>
#include <string.h>

#include "tests/support/log_lines.h"
#include "tests/support/tasks.h"

enum { MANY = 40 };

struct told {
    atomic_int count;
    atomic_int code;
    char name[32];    /* of the last one; read after the run */
    char message[64];
    bool has_error;
};

static void hook(void *ctx, const char *name, int code, pica_error *error) {
    struct told *t = ctx;
    if (atomic_fetch_add(&t->count, 1) == 0) {
        atomic_store(&t->code, code);
        strncpy(t->name, name, sizeof t->name - 1);
        t->has_error = error != NULL;
        if (error != NULL) {
            PT_EQ(pica_error_code(error), code);
            strncpy(t->message, pica_error_message(error), sizeof t->message - 1);
        }
    }
}

static int run(pica_fn fn, void *arg, struct told *told) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    memset(told, 0, sizeof *told);
    options.task_error = hook;
    options.task_error_ctx = told;
    return pica_run_opts(fn, arg, &options);
}

static void expect_told(pica_fn fn, int expected) {
    static const int orders[] = {PICA_ORDER_FREE, PICA_ORDER_FIFO};
    for (int i = 0; i < 2; i++) {
        struct told told;
        PT_REQUIRE(setenv("PICA_ORDER", orders[i] == PICA_ORDER_FIFO ? "fifo" : "free", 1) == 0);
        PT_EQ(run(fn, NULL, &told), 0);
        PT_EQ(told.count, expected);
        if (expected != 0) {
            PT_EQ(told.code, -EIO);
        }
    }
}

static int fails(void *arg) {
    (void)arg;
    return -EIO;
}

static int yields_and_fails(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : fails(arg);
}

static pica_task *failed(void) {
    pica_task *task = spawn(yields_and_fails, NULL);
    PT_EQ(pica_wait_all_tasks(0), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(task)), 1);
    return task;
}

/* --- told --- */

static int detached(void *arg) {
    (void)arg;
    PT_EQ(pica_create_task(NULL, fails, NULL), 0);
    PT_EQ(pica_create_task(NULL, yields_and_fails, NULL), 0);
    return pica_wait_all_tasks(0);
}

PT_TEST(detached_tasks) {
    expect_told(detached, 2);
}

static int dropped(void *arg) {
    (void)arg;
    pica_task_unref(spawn(yields_and_fails, NULL)); /* before it ended */
    pica_task_unref(failed());                      /* and after */
    pica_future *f = PICA_FUTURE(failed());
    pica_future_unref(pica_future_ref(f));
    pica_future_unref(f);
    return pica_wait_all_tasks(0);
}

PT_TEST(dropped_tasks) {
    expect_told(dropped, 3);
}

/* Looking whether it is done, or waiting until it is, is not looking at the error. */
static int looked_elsewhere(void *arg) {
    (void)arg;
    pica_task *task = failed();
    pica_future *f = PICA_FUTURE(task);
    PT_EQ(pica_future_done(f), 1);
    PT_EQ(pica_future_cancelled(f), 0);
    PT_EQ(pica_wait(1, &f, 1, PICA_ALL_COMPLETED), 1);
    PT_EQ(strncmp(pica_task_name(task), "Task-", 5), 0);
    PT_EQ(pica_task_cancelling(task), 0);
    pica_task_unref(task);
    return 0;
}

PT_TEST(looked_elsewhere) {
    expect_told(looked_elsewhere, 1);
}

static int left_at_the_end(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica_create_task(NULL, yields_and_fails, NULL), 0);
        PT_EQ(pica_yield(), 0);
    }
    PT_EQ(pica_wait_all_tasks(0), 0);
    return 0;
}

PT_TEST(left_at_the_end) {
    expect_told(left_at_the_end, 3);
}

static int fails_when_cancelled(void *arg) {
    signal_future(arg);
    PT_EQ(pica_sleep(PICA_FOREVER), PICA_ECANCELED);
    return -EIO;
}

static int leaves_it_to_close(void *arg) {
    (void)arg;
    pica_future *begun = new_future();
    PT_EQ(pica_create_task(NULL, fails_when_cancelled, begun), 0);
    PT_EQ(pica_await(begun, NULL), 0);
    pica_future_unref(begun);
    return 0;
}

/* Main's own error is the result of the run. */
PT_TEST(main_is_seen) {
    struct told told;
    PT_EQ(run(fails, NULL, &told), -EIO);
    PT_EQ(told.count, 0);
}

/* --- not told --- */

static int seen(void *arg) {
    (void)arg;
    void *value = NULL;
    for (int how = 0; how < 10; how++) {
        pica_task *task = how < 6 ? failed() : spawn(yields_and_fails, NULL);
        pica_future *f = PICA_FUTURE(task);
        switch (how) {
        case 0:
            PT_EQ(pica_future_result(f, NULL), -EIO);
            break;
        case 1:
            PT_CHECK(pica_future_exception(f) == NULL);
            break;
        case 2:
            PT_EQ(pica_future_take(f, &value), -EIO);
            break;
        case 3:
            PT_EQ(pica_task_cancel(task), 0); /* as in asyncio, that disarms it */
            break;
        case 4:
            PT_EQ(pica_future_cancel(f), 0);
            break;
        case 5:
            PT_EQ(pica_await(f, NULL), -EIO);
            break;
        case 6:
            PT_EQ(pica_await(f, NULL), -EIO);
            break;
        case 7:
            PT_EQ(pica_shield(f, NULL), -EIO);
            break;
        case 8:
            PT_EQ(pica_wait_for(f, 1e3, NULL), -EIO);
            break;
        default:
            PT_EQ(pica_join(pica_task_ref(task), NULL), -EIO);
        }
        pica_task_unref(task);
    }
    return 0;
}

PT_TEST(seen_errors) {
    expect_told(seen, 0);
}

static int gathered(void *arg) {
    (void)arg;
    for (unsigned flags = 0; flags < 2; flags++) {
        pica_future *f[3];
        for (int i = 0; i < 3; i++) {
            f[i] = PICA_FUTURE(spawn(yields_and_fails, NULL));
        }
        if (flags == 0) {
            PT_EQ(pica_wait_all_tasks(0), 0); /* later failures of a gather are dropped */
            PT_EQ(pica_gather(3, f, flags), -EIO);
        } else {
            PT_EQ(pica_gather(3, f, flags), 0);
            for (int i = 0; i < 3; i++) {
                PT_EQ(pica_future_result(f[i], NULL), -EIO);
            }
        }
        for (int i = 0; i < 3; i++) {
            pica_future_unref(f[i]);
        }
    }
    return 0;
}

PT_TEST(gathered_errors) {
    expect_told(gathered, 0);
}

static int forever(void *arg) {
    (void)arg;
    return pica_sleep(PICA_FOREVER);
}

/* To be cancelled is no error, whoever asked: here the end of the run, too. */
static int cancelled(void *arg) {
    (void)arg;
    pica_task *task = spawn(forever, NULL);
    PT_EQ(pica_yield(), 0);
    PT_EQ(pica_task_cancel(task), 1);
    pica_task_unref(task);
    PT_EQ(pica_create_task(NULL, forever, NULL), 0);
    PT_EQ(pica_yield(), 0);
    return 0;
}

PT_TEST(cancelled_tasks) {
    expect_told(cancelled, 0);
}

/* A future's error has no task to be told of. */
static int plain_futures(void *arg) {
    (void)arg;
    pica_future *f = new_future();
    PT_EQ(pica_future_set_exception(f, -EIO, NULL), 0);
    pica_future_unref(f);
    return 0;
}

PT_TEST(plain_futures) {
    expect_told(plain_futures, 0);
}

/* Many at once, some of them looked at by others while they end: each told once or not at all. */
static int watches(void *arg) {
    return pica_await(arg, NULL) == -EIO ? 0 : -EPIPE;
}

static int crowd(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        pica_task *task = spawn(yields_and_fails, NULL);
        if (i % 2 == 0) {
            pica_task *watcher = spawn(watches, PICA_FUTURE(task));
            PT_EQ(pica_join(watcher, NULL), 0);
        }
        pica_task_unref(task);
    }
    return pica_wait_all_tasks(0);
}

PT_TEST(crowd) {
    expect_told(crowd, MANY / 2);
}

/* --- what is told --- */

static int fails_with_message(void *arg) {
    (void)arg;
    return pica_fail(-EIO, "disk %d", 2);
}

static int named(void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = "reader";
    PT_EQ(pica_create_task_opts(NULL, arg == NULL ? fails_with_message : fails, NULL, &options), 0);
    return pica_wait_all_tasks(0);
}

PT_TEST(what_is_told) {
    struct told told;
    PT_EQ(run(named, NULL, &told), 0);
    PT_EQ(told.count, 1);
    PT_EQ(told.code, -EIO);
    PT_STR_EQ(told.name, "reader");
    PT_STR_EQ(told.message, "disk 2");
    PT_EQ(run(named, &told, &told), 0);
    PT_EQ(told.count, 1);
    PT_EQ(told.has_error, 0);
}

PT_TEST(told_while_closing) {
    struct told told;
    PT_EQ(run(leaves_it_to_close, NULL, &told), 0);
    PT_EQ(told.count, 1);
    PT_EQ(told.code, -EIO);
}

/* Without a hook: one line in the log. */
struct lines {
    atomic_int count;
    char text[256];
    int level;
};

static void log_hook(void *ctx, int level, const char *text) {
    struct lines *l = ctx;
    if (!log_line_of_engine(text) && atomic_fetch_add(&l->count, 1) == 0) {
        l->level = level;
        strncpy(l->text, text, sizeof l->text - 1);
    }
}

PT_TEST(default_is_a_line_of_the_log) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    struct lines lines = {.level = -1};
    options.log = log_hook;
    options.log_ctx = &lines;
    PT_EQ(pica_run_opts(named, NULL, &options), 0);
    PT_EQ(lines.count, 1);
    PT_EQ(lines.level, PICA_LOG_WARN);
    PT_CHECK(strstr(lines.text, "reader") != NULL);
    PT_CHECK(strstr(lines.text, "disk 2") != NULL);
    PT_CHECK(strchr(lines.text, '\n') == NULL);
}

PT_MAIN()
