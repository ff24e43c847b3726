/* Error objects, codes and their names, and errors that travel with tasks. */
#include <pica.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/tasks.h"

/* --- codes --- */

PT_TEST(version) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", PICA_VERSION_MAJOR, PICA_VERSION_MINOR,
             PICA_VERSION_PATCH);
    PT_STR_EQ(pica_version(), text);
    PT_STR_EQ(PICA_VERSION_STRING, text);
}

PT_TEST(names_and_texts) {
    static const struct {
        int code;
        const char *name;
    } own[] = {
        {PICA_ECANCELED, "ECANCELED"},         {PICA_ETIMEDOUT, "ETIMEDOUT"},
        {PICA_EINVALSTATE, "PICA_EINVALSTATE"}, {PICA_ECLOSED, "PICA_ECLOSED"},
        {PICA_ENOTASK, "PICA_ENOTASK"},        {PICA_EFORKED, "PICA_EFORKED"},
        {PICA_EINCOMPLETE, "PICA_EINCOMPLETE"}, {PICA_ESHUTDOWN, "PICA_ESHUTDOWN"},
        {-EINVAL, "EINVAL"},                   {-EIO, "EIO"},
        {-EDEADLK, "EDEADLK"},
    };
    enum { N = sizeof own / sizeof own[0] };
    for (int i = 0; i < N; i++) {
        PT_STR_EQ(pica_err_name(own[i].code), own[i].name);
        PT_CHECK(strlen(pica_strerror(own[i].code)) > 5);
        for (int j = 0; j < i; j++) {
            PT_CHECK(own[i].code != own[j].code);
            PT_CHECK(strcmp(pica_strerror(own[i].code), pica_strerror(own[j].code)) != 0);
        }
        PT_CHECK(i < 2 || i > 7 || own[i].code < -4095); /* beyond the range of errno */
    }
    static const int unknown[] = {-4000, -4499, -5000, INT32_MIN, 0, 1, 4501};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        PT_STR_EQ(pica_err_name(unknown[i]), "unknown");
        PT_CHECK(pica_strerror(unknown[i]) != NULL);
    }
    for (int code = -5000; code < 10; code++) {
        PT_CHECK(pica_strerror(code) != NULL && pica_strerror(code)[0] != 0);
        PT_CHECK(pica_err_name(code) != NULL && pica_err_name(code)[0] != 0);
    }
}

/* --- objects --- */

PT_TEST(object) {
    pica_error *cause = pica_error_new(-EIO, NULL, "plain");
    pica_error *error = pica_error_new(PICA_ECLOSED, cause, "%s %d%%", "at", 50);
    PT_REQUIRE(cause != NULL && error != NULL);
    PT_EQ(pica_error_code(error), PICA_ECLOSED);
    PT_STR_EQ(pica_error_message(error), "at 50%");
    PT_CHECK(pica_error_cause(error) == cause);
    PT_CHECK(pica_error_cause(cause) == NULL);
    pica_error_unref(cause); /* the other one has a reference of its own */
    PT_STR_EQ(pica_error_message(pica_error_cause(error)), "plain");
    PT_CHECK(pica_error_ref(error) == error);
    pica_error_unref(error);
    PT_STR_EQ(pica_error_message(error), "at 50%");
    pica_error_unref(error);
    pica_error_unref(NULL);
}

PT_TEST(long_message) {
    enum { LENGTH = 100000 };
    char *text = malloc(LENGTH + 1);
    PT_REQUIRE(text != NULL);
    memset(text, 'x', LENGTH);
    text[LENGTH] = 0;
    pica_error *error = pica_error_new(-EIO, NULL, "%s%s", text, "end");
    PT_REQUIRE(error != NULL);
    PT_EQ(strlen(pica_error_message(error)), LENGTH + 3);
    pica_error_unref(error);
    free(text);
}

/* Causes are let go in a loop: any length. */
PT_TEST(long_chain) {
    pica_error *last = NULL;
    for (int i = 0; i < 200000; i++) {
        pica_error *next = pica_error_new(-EIO, last, "%d", i);
        PT_REQUIRE(next != NULL);
        pica_error_unref(last);
        last = next;
    }
    int n = 0;
    for (pica_error *e = last; e != NULL; e = pica_error_cause(e)) {
        n++;
    }
    PT_EQ(n, 200000);
    pica_error_unref(last);
}

/* --- with tasks --- */

static int fails(void *arg) {
    return pica_fail(-EIO, "disk %d", *(int *)arg);
}

static int yields_and_fails(void *arg) {
    int rc = pica_yield();
    return rc < 0 ? rc : fails(arg);
}

static void expect_error(pica_error *error, int code, const char *message) {
    PT_CHECK(error != NULL);
    if (error != NULL) {
        PT_EQ(pica_error_code(error), code);
        PT_STR_EQ(pica_error_message(error), message);
    }
}

TASK_TEST(travels_with_the_task) {
    (void)arg;
    int disk = 3;
    for (int i = 0; i < 2; i++) {
        pica_task *task = spawn(i == 0 ? fails : yields_and_fails, &disk);
        PT_EQ(pica_await(PICA_FUTURE(task), NULL), -EIO);
        expect_error(pica_future_exception(PICA_FUTURE(task)), -EIO, "disk 3");
        PT_CHECK(pica_error_cause(pica_future_exception(PICA_FUTURE(task))) == NULL);
        expect_error(pica_current_error(), -EIO, "disk 3");
        pica_task_unref(task);
        expect_error(pica_current_error(), -EIO, "disk 3"); /* ours, by now */
    }
    return 0;
}

/* By whatever call the failure comes to us. */
TASK_TEST(current_after) {
    (void)arg;
    int disk = 4;
    pica_future *with = new_future();
    pica_future *without = new_future();
    pica_error *error = pica_error_new(-EPIPE, NULL, "pipe");
    PT_EQ(pica_future_set_exception(with, -EPIPE, error), 0);
    PT_EQ(pica_future_set_exception(without, -EPIPE, NULL), 0);
    pica_error_unref(error);
    PT_CHECK(pica_current_error() == NULL);
    PT_EQ(pica_await(with, NULL), -EPIPE);
    expect_error(pica_current_error(), -EPIPE, "pipe");
    PT_EQ(pica_await(without, NULL), -EPIPE);
    PT_CHECK(pica_current_error() == NULL);
    PT_EQ(pica_shield(with, NULL), -EPIPE);
    expect_error(pica_current_error(), -EPIPE, "pipe");
    PT_EQ(pica_await(without, NULL), -EPIPE);
    PT_EQ(pica_wait_for(with, 1, NULL), -EPIPE);
    expect_error(pica_current_error(), -EPIPE, "pipe");
    PT_EQ(pica_join(spawn(yields_and_fails, &disk), NULL), -EIO);
    expect_error(pica_current_error(), -EIO, "disk 4");
    pica_future_unref(with);
    pica_future_unref(without);
    expect_error(pica_current_error(), -EIO, "disk 4");
    PT_EQ(pica_yield(), 0);
    expect_error(pica_current_error(), -EIO, "disk 4");
    return 0;
}

/* Passing a failure up with the same code chains it; with another code the old one is dropped. */
static int passes_up(void *arg) {
    int rc = pica_join(spawn(yields_and_fails, arg), NULL);
    return pica_fail(rc, "config %s", "a.conf");
}

static int translates(void *arg) {
    int rc = pica_join(spawn(passes_up, arg), NULL);
    PT_EQ(rc, -EIO);
    return pica_fail(-EACCES, "start");
}

TASK_TEST(causes) {
    (void)arg;
    int disk = 5;
    pica_task *task = spawn(passes_up, &disk);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), -EIO);
    pica_error *error = pica_future_exception(PICA_FUTURE(task));
    expect_error(error, -EIO, "config a.conf");
    expect_error(pica_error_cause(error), -EIO, "disk 5");
    pica_task_unref(task);
    task = spawn(translates, &disk);
    PT_EQ(pica_await(PICA_FUTURE(task), NULL), -EACCES);
    error = pica_future_exception(PICA_FUTURE(task));
    expect_error(error, -EACCES, "start");
    PT_CHECK(pica_error_cause(error) == NULL);
    pica_task_unref(task);
    return 0;
}

/* The object is the task's exception only if the task ends with its code. */
static int recovers(void *arg) {
    PT_EQ(pica_fail(-EIO, "first"), -EIO);
    return *(int *)arg;
}

TASK_TEST(dealt_with) {
    (void)arg;
    static const int codes[] = {0, 7, -EPIPE};
    for (int i = 0; i < 3; i++) {
        int code = codes[i];
        pica_task *task = spawn(recovers, &code);
        PT_EQ(pica_await(PICA_FUTURE(task), NULL), codes[i]);
        PT_CHECK(pica_future_exception(PICA_FUTURE(task)) == NULL);
        pica_task_unref(task);
    }
    return 0;
}

static void fails_in_callback(void *arg) {
    PT_EQ(pica_fail(-EIO, "lost"), -EIO);
    PT_CHECK(pica_current_error() == NULL);
    signal_future(arg);
}

TASK_TEST(in_a_callback) {
    (void)arg;
    pica_future *told = new_future();
    PT_EQ(pica_call_soon(fails_in_callback, told, NULL), 0);
    PT_EQ(pica_await(told, NULL), 0);
    PT_CHECK(pica_current_error() == NULL);
    pica_future_unref(told);
    return 0;
}

PT_TEST(outside_a_task) {
    PT_EQ(pica_fail(-EIO, "no task %d", 1), -EIO);
    PT_CHECK(pica_current_error() == NULL);
}

/* Each task has its own, also those that share a stack. */
struct own {
    int id;
};

static int keeps_its_own(void *arg) {
    struct own *o = arg;
    char expected[16];
    snprintf(expected, sizeof expected, "own %d", o->id);
    PT_CHECK(pica_current_error() == NULL);
    (void)pica_fail(-EIO, "own %d", o->id);
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_yield(), 0);
        expect_error(pica_current_error(), -EIO, expected);
        if (o->id < 1000) {
            struct own other = {1000 + o->id};
            PT_EQ(pica_join(spawn(keeps_its_own, &other), NULL), 0);
            expect_error(pica_current_error(), -EIO, expected);
        }
    }
    return 0;
}

TASK_TEST(one_per_task) {
    (void)arg;
    struct own o[10];
    pica_task *task[10];
    for (int i = 0; i < 10; i++) {
        o[i].id = i;
        task[i] = spawn(keeps_its_own, &o[i]);
    }
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    return 0;
}

PT_MAIN()
