/* pica_dump: every task is told, with its state and what it waits for, from tasks, other threads and signal
 * handlers, while tasks come and go. */
#include <pica.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/support/machine.h"
#include "tests/support/stream_pair.h"

/* --- reading a dump --- */

static char *dump_text(void) {
    int fd = memfd_create("dump", MFD_CLOEXEC);
    PT_REQUIRE(fd >= 0);
    PT_EQ(pica_dump(fd), 0);
    off_t size = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)size + 1);
    PT_REQUIRE(text != NULL);
    PT_EQ(pread(fd, text, (size_t)size, 0), size);
    close(fd);
    return text;
}

/* The rest of the line "task N 'name': ...", copied; empty if there is none. */
static void line_of(const char *text, const char *name, char *rest, size_t size) {
    char key[80];
    snprintf(key, sizeof key, " '%s': ", name);
    const char *at = strstr(text, key);
    rest[0] = 0;
    if (at != NULL) {
        at += strlen(key);
        snprintf(rest, size, "%.*s", (int)strcspn(at, "\n"), at);
    }
}

static void expect_state(const char *text, const char *name, const char *expected) {
    char rest[400];
    line_of(text, name, rest, sizeof rest);
    if (strncmp(rest, expected, strlen(expected)) != 0) {
        PT_FAIL("'%s' is '%s', expected '%s', in:\n%s", name, rest, expected, text);
    }
}

static pica_task *named(const char *name, pica_fn fn, void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = name;
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task_opts(&task, fn, arg, &options) == 0);
    return task;
}

/* --- states --- */

static int waits_for(void *future) {
    return pica_await(future, NULL);
}

static int sleeps(void *arg) {
    (void)arg;
    return pica_sleep(1000);
}

static int reads(void *socket) {
    char byte;
    return (int)pica_recv(socket, &byte, 1);
}

static int nothing(void *arg) {
    (void)arg;
    return 0;
}

static unsigned count(const char *text, const char *needle) {
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, needle)) != NULL; at++) {
        n++;
    }
    return n;
}

/* The first dump that says so often enough what is to come. */
static char *dump_when(const char *needle, unsigned times) {
    char *text = dump_text();
    while (text != NULL && count(text, needle) < times) {
        free(text);
        PT_EQ(pica_sleep(0.001), 0);
        text = dump_text();
    }
    return text;
}

TASK_TEST(states) {
    (void)arg;
    pica_future *future;
    PT_REQUIRE(pica_future_new(&future) == 0);
    pica_socket *a, *b;
    connect_tcp(&a, &b);
    pica_task *sleeper = named("sleeper", sleeps, NULL);
    free(dump_when("waiting: sleep", 1)); /* so the joiner does not start it in place */
    pica_task *waiter = named("for a future", waits_for, future);
    pica_task *joiner = named("for a task\n", waits_for, sleeper);
    pica_task *reader = named("of a socket", reads, a);
    free(dump_when("waiting: ", 4));
    int current = pica_task_set_name(pica_current_task(), "the one that asks");
    PT_EQ(current, 0);
    pica_task *fresh = NULL;
    bool alone = pica_runtime_workers(pica_current_runtime()) == 1;
    if (alone) {
        fresh = named("fresh", nothing, NULL);
    }
    char *text = dump_text();
    expect_state(text, "sleeper", "waiting: sleep");
    expect_state(text, "for a future", "waiting: await");
    expect_state(text, "the one that asks", "running on worker ");
    if (alone) {
        expect_state(text, "fresh", "new");
    }
    /* A name cannot look like another line. */
    unsigned long long id = 0;
    const char *at = strstr(text, " 'sleeper'");
    while (at != NULL && at > text && at[-1] != ' ') {
        at--;
    }
    PT_CHECK(at != NULL && sscanf(at, "%llu", &id) == 1);
    char expected[80];
    if (machine_reads_itself()) { /* else a dump cannot know whom a task awaits */
        snprintf(expected, sizeof expected, "waiting: await, task %llu", id);
    } else {
        snprintf(expected, sizeof expected, "waiting: await");
    }
    expect_state(text, "for a task?", expected);
    expect_state(text, "of a socket", "waiting: socket, descriptor ");
    int descriptor = -1;
    char rest[200];
    line_of(text, "of a socket", rest, sizeof rest);
    PT_EQ(sscanf(rest, "waiting: socket, descriptor %d", &descriptor), 1);
    PT_CHECK(descriptor > 2 && fcntl(descriptor, F_GETFD) >= 0);
    PT_CHECK(strstr(text, "age ") == NULL); /* only with trace */
    snprintf(expected, sizeof expected, "end: %d tasks\n", 5 + alone);
    PT_CHECK(strstr(text, expected) != NULL);
    PT_CHECK(strstr(text, "busy") == NULL);
    free(text);
    SEND(b, "x");
    PT_EQ(pica_task_cancel(sleeper), 1);
    PT_EQ(pica_future_set_result(future, NULL, NULL), 0);
    PT_EQ(pica_join(waiter, NULL), 0);
    PT_EQ(pica_join(joiner, NULL), PICA_ECANCELED);
    PT_EQ(pica_join(reader, NULL), 1);
    PT_EQ(pica_join(sleeper, NULL), PICA_ECANCELED);
    if (alone) {
        PT_EQ(pica_join(fresh, NULL), 0);
    }
    pica_future_unref(future);
    pica_socket_close(a);
    pica_socket_close(b);
    return 0;
}

static int dumps_in_place(void *out) {
    *(char **)out = dump_text();
    return 0;
}

/* The awaiter of a task that runs in place waits for it. */
TASK_TEST(in_place) {
    (void)arg;
    PT_EQ(pica_task_set_name(pica_current_task(), "parent"), 0);
    char *text = NULL;
    pica_task *child = named("child", dumps_in_place, &text);
    PT_EQ(pica_join(child, NULL), 0);
    PT_REQUIRE(text != NULL);
    expect_state(text, "child", "running on worker ");
    expect_state(text, "parent", machine_reads_itself() ? "waiting: await, task " : "waiting: await");
    free(text);
    return 0;
}

/* Many batches; each is told once. */
TASK_TEST(many) {
    (void)arg;
    enum { MANY = 1000 };
    pica_future *future;
    PT_REQUIRE(pica_future_new(&future) == 0);
    static pica_task *task[MANY];
    for (int i = 0; i < MANY; i++) {
        PT_REQUIRE(pica_create_task(&task[i], waits_for, future) == 0);
    }
    char *text = dump_when("waiting: await\n", MANY);
    PT_EQ(count(text, "waiting: await\n"), MANY);
    PT_CHECK(strstr(text, "end: 1001 tasks\n") != NULL);
    free(text);
    PT_EQ(pica_future_set_result(future, NULL, NULL), 0);
    for (int i = 0; i < MANY; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    pica_future_unref(future);
    return 0;
}

/* --- trace --- */

__attribute__((noinline)) static pica_task *creates_it(void) {
    pica_task *task = named("traced", sleeps, NULL);
    return task;
}

static int trace_main(void *arg) {
    (void)arg;
    pica_task *task = creates_it();
    PT_EQ(pica_sleep(0.02), 0);
    char *text = dump_text();
    char rest[400];
    line_of(text, "traced", rest, sizeof rest);
    double age = -1;
    const char *at = strstr(rest, ", age ");
    PT_CHECK(at != NULL && sscanf(at, ", age %lf s, created at ", &age) == 1);
    PT_CHECK(age >= 0.019 && age < 30);
    /* named() may be inlined into creates_it(). */
    if (strstr(rest, "created at named+0x") == NULL &&
        strstr(rest, "created at creates_it+0x") == NULL) {
        PT_FAIL("created elsewhere: %s", rest);
    }
    free(text);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    return 0;
}

PT_TEST(trace) {
    PT_REQUIRE(setenv("PICA_DEBUG", "trace", 1) == 0);
    PT_EQ(pica_run(trace_main, NULL), 0);
}

/* --- errors --- */

PT_TEST(without_a_runtime) {
    char *text = dump_text();
    PT_STR_EQ(text, "end: 0 tasks\n");
    free(text);
}

TASK_TEST(bad_descriptor) {
    (void)arg;
    errno = 12345;
    PT_EQ(pica_dump(-1), -EBADF);
    PT_EQ(errno, 12345);
    return 0;
}

/* --- under fire --- */

/* ThreadSanitizer delivers a signal only when its thread makes one of the calls that it knows. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FEW_SIGNALS 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(FEW_SIGNALS)
enum { ENOUGH = 0 };
#else
enum { ENOUGH = 20 };
#endif

static int null_fd;
static atomic_uint dumps;

static void on_alarm(int signal) {
    (void)signal;
    int rc = pica_dump(null_fd);
    PT_CHECK(rc == 0 || rc == -EBUSY);
    atomic_fetch_add(&dumps, 1);
}

static int leaf(void *arg) {
    (void)arg;
    (void)pica_task_set_name(pica_current_task(), "a name of some length, to be replaced");
    (void)pica_task_set_name(pica_current_task(), "another");
    return pica_yield();
}

static int branch(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        pica_task *task[8];
        struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
        options.stack_size = 64 * 1024; /* some on stacks that are unmapped at their end */
        for (int k = 0; k < 8; k++) {
            PT_REQUIRE(pica_create_task_opts(&task[k], leaf, NULL, k % 4 == 0 ? &options : NULL) == 0);
        }
        for (int k = 0; k < 8; k++) {
            PT_EQ(pica_join(task[k], NULL), 0);
        }
    }
    return 0;
}

static int churn(void *arg) {
    (void)arg;
    double until = pica_time() + 0.7;
    while (pica_time() < until) {
        pica_task *task[8];
        for (int i = 0; i < 8; i++) {
            PT_REQUIRE(pica_create_task(&task[i], branch, NULL) == 0);
        }
        for (int i = 0; i < 8; i++) {
            PT_EQ(pica_join(task[i], NULL), 0);
        }
    }
    return 0;
}

static void alarms(long us) {
    struct itimerval every = {{0, us}, {0, us}};
    PT_REQUIRE(setitimer(ITIMER_REAL, &every, NULL) == 0);
}

/* On whatever thread the signal hits, among them workers that hold a registry's lock. */
PT_TEST(in_a_signal_handler) {
    null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    PT_REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    alarms(500);
    for (int i = 0; i < 2; i++) { /* runtimes come and go, too */
        PT_EQ(pica_run(churn, NULL), 0);
    }
    alarms(0);
    PT_CHECK(atomic_load(&dumps) > ENOUGH);
    close(null_fd);
}

static atomic_bool over;

static void *dumper(void *arg) {
    (void)arg;
    while (!atomic_load(&over)) {
        on_alarm(0);
    }
    return NULL;
}

PT_TEST(from_other_threads) {
    null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) {
        PT_REQUIRE(pthread_create(&thread[i], NULL, dumper, NULL) == 0);
    }
    for (int i = 0; i < 2; i++) {
        PT_EQ(pica_run(churn, NULL), 0);
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) {
        PT_EQ(pthread_join(thread[i], NULL), 0);
    }
    PT_CHECK(atomic_load(&dumps) > ENOUGH);
    close(null_fd);
}

PT_MAIN()
