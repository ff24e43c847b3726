/* Looking up names. No network beyond this machine's own:
 * localhost, numbers, names that cannot be, and, in place of a slow name server, a getaddrinfo of our own,
 * which the library calls since a program's symbols come first. It passes on to the C library what it does not
 * know. */
#include <pica.h>

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/procfs.h"
#include "tests/support/short_memory.h"
#include "tests/support/tasks.h"

/* --- the stand-in --- */

static sem_t entered;
static sem_t go;
static atomic_int asked;  /* how often the C library was */
static atomic_int inside; /* look-ups that are held */
static atomic_int most;

/* Holds "*.slow.test" until the test lets it go, then answers as for localhost. */
__attribute__((visibility("default"))) int getaddrinfo(const char *host, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *slow = host == NULL ? NULL : strstr(host, ".slow.test");
    atomic_fetch_add(&asked, 1);
    if (slow != NULL) {
        int now = atomic_fetch_add(&inside, 1) + 1;
        int seen = atomic_load(&most);
        while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) {
        }
        sem_post(&entered);
        while (sem_wait(&go) != 0) {
        }
        atomic_fetch_sub(&inside, 1);
        host = "127.0.0.1";
    }
    return host != NULL && strcmp(host, "again.test") == 0 ? EAI_AGAIN
                                                           : real(host, service, hints, found);
}

static void stand_in_init(void) {
    PT_REQUIRE(sem_init(&entered, 0, 0) == 0);
    PT_REQUIRE(sem_init(&go, 0, 0) == 0);
    atomic_store(&asked, 0);
    atomic_store(&most, 0);
}

static void until_entered(int times) {
    while (times > 0) {
        if (sem_trywait(&entered) == 0) {
            times--;
        } else {
            PT_REQUIRE(pica_sleep(0.0005) == 0);
        }
    }
}

static void let_go(int times) {
    for (int i = 0; i < times; i++) {
        PT_EQ(sem_post(&go), 0);
    }
}

/* --- look-ups --- */

static size_t length(const pica_addrinfo *list) {
    size_t n = 0;
    for (; list != NULL; list = list->next) {
        n++;
    }
    return n;
}

static const char *text_of(const pica_addrinfo *info) {
    static char text[128];
    pica_address_format(&info->address, text, sizeof text);
    return text;
}

TASK_TEST(numeric_asks_nobody) {
    (void)arg;
    pica_addrinfo *list = NULL;
    struct pica_addrinfo_options o = PICA_ADDRINFO_OPTIONS_INIT;
    atomic_store(&asked, 0);
    PT_EQ(pica_getaddrinfo("192.0.2.1", "80", NULL, &list), 0);
    PT_EQ(length(list), 3); /* as the C library does: stream, datagram, raw */
    PT_STR_EQ(text_of(list), "192.0.2.1:80");
    PT_EQ(list->type, SOCK_STREAM);
    PT_EQ(list->protocol, IPPROTO_TCP);
    PT_CHECK(list->canonical == NULL);
    pica_freeaddrinfo(list);
    o.type = SOCK_DGRAM;
    o.flags = AI_CANONNAME;
    PT_EQ(pica_getaddrinfo("2001:db8::1", NULL, &o, &list), 0);
    PT_EQ(length(list), 1);
    PT_STR_EQ(text_of(list), "[2001:db8::1]:0");
    PT_EQ(list->type, SOCK_DGRAM);
    PT_EQ(list->protocol, IPPROTO_UDP);
    PT_STR_EQ(list->canonical, "2001:db8::1");
    pica_freeaddrinfo(list);
    o.family = AF_INET;
    PT_EQ(pica_getaddrinfo("2001:db8::1", NULL, &o, &list), PICA_EAI_NODATA);
    o.type = SOCK_RAW;
    PT_EQ(pica_getaddrinfo("127.0.0.1", "1", &o, &list), PICA_EAI_SERVICE);
    PT_CHECK(list == NULL);
    PT_EQ(atomic_load(&asked), 0);
    return 0;
}

/* The same answers as the C library gives. */
TASK_TEST(numeric_as_the_c_library) {
    static const struct {
        const char *host, *service;
        int type, protocol;
    } cases[] = {{"127.0.0.1", "80", 0, 0},
                 {"127.0.0.1", NULL, SOCK_STREAM, 0},
                 {"::1", "65535", SOCK_DGRAM, IPPROTO_UDP},
                 {"::1", NULL, SOCK_RAW, IPPROTO_ICMPV6},
                 {"127.0.0.1", "7", 0, IPPROTO_TCP}};
    (void)arg;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pica_addrinfo_options o = PICA_ADDRINFO_OPTIONS_INIT;
        o.type = cases[i].type;
        o.protocol = cases[i].protocol;
        struct addrinfo hints = {.ai_socktype = o.type, .ai_protocol = o.protocol}, *theirs = NULL;
        pica_addrinfo *ours = NULL;
        PT_REQUIRE(getaddrinfo(cases[i].host, cases[i].service, &hints, &theirs) == 0);
        PT_EQ(pica_getaddrinfo(cases[i].host, cases[i].service, &o, &ours), 0);
        const struct addrinfo *t = theirs;
        for (const pica_addrinfo *p = ours; p != NULL || t != NULL; p = p->next, t = t->ai_next) {
            PT_REQUIRE(p != NULL && t != NULL);
            PT_EQ(p->type, t->ai_socktype);
            PT_EQ(p->protocol, t->ai_protocol);
            PT_REQUIRE(p->address.length == t->ai_addrlen);
            PT_EQ(memcmp(&p->address.storage, t->ai_addr, t->ai_addrlen), 0);
        }
        freeaddrinfo(theirs);
        pica_freeaddrinfo(ours);
    }
    return 0;
}

TASK_TEST(localhost) {
    (void)arg;
    pica_addrinfo *list = NULL;
    struct pica_addrinfo_options o = PICA_ADDRINFO_OPTIONS_INIT;
    o.type = SOCK_STREAM;
    atomic_store(&asked, 0);
    PT_EQ(pica_getaddrinfo("localhost", "7007", &o, &list), 0);
    PT_EQ(atomic_load(&asked), 1);
    PT_CHECK(length(list) >= 1);
    for (const pica_addrinfo *info = list; info != NULL; info = info->next) {
        PT_CHECK(strcmp(text_of(info), "127.0.0.1:7007") == 0 ||
                 strcmp(text_of(info), "[::1]:7007") == 0);
        PT_EQ(info->type, SOCK_STREAM);
    }
    pica_freeaddrinfo(list);
    o.flags = AI_PASSIVE;
    PT_EQ(pica_getaddrinfo(NULL, "7007", &o, &list), 0);
    PT_CHECK(length(list) >= 1);
    pica_freeaddrinfo(list);
    return 0;
}

static bool unknown(int rc) {
    return rc == PICA_EAI_NONAME || rc == PICA_EAI_AGAIN || rc == PICA_EAI_FAIL;
}

TASK_TEST(errors) {
    (void)arg;
    pica_addrinfo *list = NULL;
    pica_socket *socket = NULL;
    struct pica_addrinfo_options o = PICA_ADDRINFO_OPTIONS_INIT;
    PT_EQ(pica_getaddrinfo(NULL, NULL, NULL, &list), -EINVAL);
    PT_EQ(pica_getaddrinfo("127.0.0.1", NULL, NULL, NULL), -EINVAL);
    PT_CHECK(unknown(pica_getaddrinfo("no.such.host.invalid", "80", NULL, &list)));
    PT_EQ(pica_getaddrinfo("again.test", "80", NULL, &list), PICA_EAI_AGAIN);
    PT_CHECK(pica_getaddrinfo("localhost", "no-such-service", NULL, &list) < 0);
    o.family = AF_UNIX;
    PT_EQ(pica_getaddrinfo("localhost", "80", &o, &list), -EINVAL);
    o.size--;
    PT_EQ(pica_getaddrinfo("localhost", "80", &o, &list), -EINVAL);
    PT_CHECK(list == NULL);
    PT_CHECK(unknown(pica_connect_host(&socket, "no.such.host.invalid", 80, NULL)));
    PT_REQUIRE(pica_current_error() != NULL);
    PT_CHECK(strstr(pica_error_message(pica_current_error()), "no.such.host.invalid") != NULL);
    PT_EQ(pica_connect_host(&socket, "localhost", 65536, NULL), -EINVAL);
    PT_EQ(pica_connect_host(&socket, "", 80, NULL), -EINVAL);
    PT_EQ(pica_connect_host(&socket, NULL, 80, NULL), -EINVAL);
    PT_STR_EQ(pica_err_name(PICA_EAI_NONAME), "PICA_EAI_NONAME");
    PT_STR_EQ(pica_strerror(PICA_EAI_AGAIN), "no answer from the name server this time");
    return 0;
}

PT_TEST(outside_of_tasks) {
    pica_addrinfo *list = NULL;
    pica_socket *socket = NULL;
    PT_EQ(pica_getaddrinfo("127.0.0.1", "80", NULL, &list), PICA_ENOTASK);
    PT_EQ(pica_getaddrinfo("localhost", "80", NULL, &list), PICA_ENOTASK);
    PT_EQ(pica_connect_host(&socket, "localhost", 80, NULL), PICA_ENOTASK);
    PT_EQ(pica_connect_any(&socket, NULL, NULL), PICA_ENOTASK);
    pica_freeaddrinfo(NULL);
}

static int looks_up(void *arg) {
    pica_addrinfo *list = NULL;
    int rc = pica_getaddrinfo(arg, "80", NULL, &list);
    PT_CHECK((rc == 0) == (list != NULL));
    pica_freeaddrinfo(list);
    return rc;
}

static int code(void *arg) {
    return (int)(intptr_t)arg;
}

static char slow[] = "a.slow.test";
static char quick[] = "127.0.0.1";
static char local[] = "localhost";

/* Slow look-ups: 4 at a time, and neither numbers nor the default pool wait for them. */
TASK_TEST(slow_ones_hold_up_nobody_else) {
    (void)arg;
    pica_task *task[10];
    stand_in_init();
    for (int i = 0; i < 10; i++) {
        task[i] = spawn(looks_up, slow);
    }
    until_entered(4);
    for (int i = 0; i < 50; i++) {
        PT_EQ(looks_up(quick), 0);
        PT_EQ(pica_to_thread(code, (void *)5), 5);
    }
    PT_EQ(atomic_load(&asked), 4);
    let_go(10);
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_join(task[i], NULL), 0);
    }
    PT_EQ(atomic_load(&most), 4);
    return 0;
}

/* Cancelled ones leave at once, running and queued; the running ones end when they end, and their threads
 * serve others. */
TASK_TEST(cancelled_look_ups_leave) {
    (void)arg;
    pica_task *task[10];
    stand_in_init();
    for (int i = 0; i < 10; i++) {
        task[i] = spawn(looks_up, slow);
    }
    until_entered(4);
    PT_EQ(pica_sleep(0.002), 0);
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_task_cancel(task[i]), 1);
        PT_EQ(pica_join(task[i], NULL), PICA_ECANCELED);
    }
    PT_EQ(atomic_load(&inside), 4);
    pica_task *next = spawn(looks_up, local);
    PT_EQ(pica_sleep(0.002), 0);
    PT_EQ(atomic_load(&asked), 4); /* no thread is free, and those that were queued are gone */
    let_go(4);
    PT_EQ(pica_join(next, NULL), 0);
    PT_EQ(atomic_load(&asked), 5);
    return 0;
}

static int cancelled_at_entry(void *arg) {
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(looks_up(arg), PICA_ECANCELED);
    return pica_checkpoint();
}

TASK_TEST(cancelled_before) {
    (void)arg;
    atomic_store(&asked, 0);
    PT_EQ(pica_join(spawn(cancelled_at_entry, local), NULL), 0);
    PT_EQ(pica_join(spawn(cancelled_at_entry, quick), NULL), 0);
    PT_EQ(atomic_load(&asked), 0);
    return 0;
}

TASK_TEST(storm_of_cancellations) {
    enum { N = 300 };
    static pica_task *task[N];
    (void)arg;
    for (int i = 0; i < N; i++) {
        task[i] = spawn(looks_up, i % 3 == 0 ? quick : local);
        if (i % 8 == 0) {
            PT_EQ(pica_yield(), 0);
        }
        if (i >= 4) {
            (void)pica_task_cancel(task[i - 4]);
        }
    }
    for (int i = 0; i < N; i++) {
        int rc = pica_join(task[i], NULL);
        PT_CHECK(rc == 0 || rc == PICA_ECANCELED);
    }
    return 0;
}

static int leaves_a_look_up(void *arg) {
    (void)arg;
    pica_task *task = spawn(looks_up, slow);
    until_entered(1);
    PT_EQ(pica_task_cancel(task), 1);
    PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
    let_go(1);
    return 0;
}

PT_TEST(runtime_ends_while_one_runs) {
    stand_in_init();
    PT_EQ(pica_run(leaves_a_look_up, NULL), 0); /* a sanitizer may start a thread of its own */
    long before = procfs_threads();
    for (int i = 0; i < 20; i++) {
        PT_EQ(pica_run(leaves_a_look_up, NULL), 0);
        PT_EQ(procfs_threads_left(NULL, before), before);
    }
}

/* --- no memory --- */

static int has_no_memory(void *arg) {
    (void)arg;
    PT_EQ(looks_up(local), 0);
    bool hit = true;
    int failed = 0;
    for (long i = 1; hit; i++) {
        atomic_store(&fail_in, i);
        int rc = looks_up(local);
        hit = atomic_exchange(&fail_in, 0) == 0;
        PT_CHECK(rc == -ENOMEM || (rc == 0 && !hit));
        failed += rc == -ENOMEM;
    }
    PT_EQ(failed, 2); /* the look-up, its result */
    return 0;
}

/* What was looked up for nobody goes, also when it was still queued. */
PT_TEST(all_goes_back) {
    struct pica_runtime_options options = short_of_memory();
    PT_EQ(pica_run_opts(body_cancelled_look_ups_leave, NULL, &options), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
    PT_EQ(pica_run_opts(body_storm_of_cancellations, NULL, NULL), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
}

PT_TEST(no_memory) {
    struct pica_runtime_options options = short_of_memory();
    PT_EQ(pica_run_opts(has_no_memory, NULL, &options), 0);
    PT_EQ(atomic_load(&live_bytes), 0);
}

PT_MAIN()
