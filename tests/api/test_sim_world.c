/* The simulated world: files, names, processes, addresses, and what happens to buffers in flight. */
#include <pica.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/child.h"
#include "tests/support/pt.h"

enum { SEEDS = 60 };

static void run(pica_fn main, void (*scenario)(void *arg), int faults) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.scenario = scenario;
    options.faults = faults;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        PT_EQ(pica_sim_run(seed, &options, main, NULL), 0);
    }
}

/* An error that chance may bring. */
static bool unlucky(long rc) {
    return rc == -EIO || rc == -ENOSPC || rc == -EMFILE || rc == -ENOMEM || rc == -EAGAIN ||
           rc == -ECONNRESET || rc == -EPIPE || rc == PICA_EAI_AGAIN || rc == -ENOBUFS;
}

/* --- files --- */

static void brings_files(void *arg) {
    (void)arg;
    PT_EQ(pica_sim_file("/sim/one", "0123456789", 10), 0);
}

static int files_main(void *arg) {
    pica_file *file;
    char text[11] = "";
    struct stat st;
    bool good = *(bool *)arg;
    int rc = pica_file_open(&file, "/sim/one", O_RDWR, 0);
    if (rc < 0) {
        PT_CHECK(!good && unlucky(rc));
        return 0;
    }
    ssize_t n = pica_file_pread(file, text, 10, 0);
    if (n >= 0) {
        PT_CHECK(n == 10 || !good);
        PT_EQ(memcmp(text, "0123456789", (size_t)n), 0);
    } else {
        PT_CHECK(!good && unlucky(n));
    }
    n = pica_file_pwrite(file, "ab", 2, 9);
    PT_CHECK(n == 2 || (!good && (n == 1 || unlucky(n))));
    rc = pica_stat("/sim/one", &st);
    PT_CHECK(rc == 0 ? st.st_size == (n == 2 ? 11 : 10) : !good && unlucky(rc));
    rc = pica_stat("/sim/two", &st);
    PT_CHECK(rc == -ENOENT || (!good && unlucky(rc)));
    rc = pica_file_close(file);
    PT_CHECK(rc == 0 || (!good && unlucky(rc)));
    return 0;
}

static int files_good(void *arg) {
    bool good = true;
    (void)arg;
    return files_main(&good);
}

static int files_bad(void *arg) {
    bool good = false;
    (void)arg;
    return files_main(&good);
}

PT_TEST(files_are_in_memory) {
    run(files_good, brings_files, -1);
    run(files_bad, brings_files, 0);
}

static char in_flight[64];

static int touches(void *arg) {
    (void)arg;
    in_flight[5] = 1;
    return 0;
}

static int reads_main(void *arg) {
    pica_file *file;
    (void)arg;
    PT_EQ(pica_file_open(&file, "/sim/one", O_RDONLY, 0), 0);
    for (int i = 0; i < 50; i++) {
        pica_task *task;
        PT_EQ(pica_create_task(&task, touches, NULL), 0);
        (void)pica_file_pread(file, in_flight, 10, 0);
        PT_EQ(pica_join(task, NULL), 0);
    }
    return pica_file_close(file);
}

static void touches_a_buffer(void) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.scenario = brings_files;
    options.faults = -1;
    options.workers = 2;
    for (uint64_t seed = 0; seed < 50; seed++) {
        (void)pica_sim_run(seed, &options, reads_main, NULL);
    }
}

PT_TEST(a_buffer_in_flight_must_not_be_touched) {
    struct child child = run_child(touches_a_buffer);
    PT_CHECK(child.status != 0);
    PT_CHECK(strstr(child.text, "buffer was changed") != NULL || strstr(child.text, "AddressSanitizer") != NULL);
    PT_CHECK(strstr(child.text, "replay: PICA_SIM_SEED=") != NULL || strstr(child.text, "AddressSanitizer") != NULL);
}

/* --- names --- */

static void brings_names(void *arg) {
    pica_address address;
    (void)arg;
    PT_EQ(pica_address_ip(&address, "10.1.2.3", 0), 0);
    PT_EQ(pica_sim_name("server.sim", &address), 0);
}

static int names_main(void *arg) {
    pica_addrinfo *list;
    (void)arg;
    int rc = pica_getaddrinfo("server.sim", "80", NULL, &list);
    if (rc == 0) {
        char text[64];
        (void)pica_address_format(&list->address, text, sizeof text);
        PT_STR_EQ(text, "10.1.2.3:80");
        PT_CHECK(list->next == NULL);
        pica_freeaddrinfo(list);
    } else {
        PT_CHECK(unlucky(rc));
    }
    rc = pica_getaddrinfo("nobody.sim", "80", NULL, &list);
    PT_CHECK(rc == PICA_EAI_NONAME || unlucky(rc));
    rc = pica_getaddrinfo("localhost", NULL, NULL, &list);
    PT_CHECK(rc == 0 || unlucky(rc));
    if (rc == 0) {
        PT_CHECK(list->next != NULL);
        pica_freeaddrinfo(list);
    }
    return 0;
}

PT_TEST(names_are_told) {
    run(names_main, brings_names, 0);
}

/* --- processes --- */

static int upper(int argc, const char *const argv[], void *arg) {
    char c;
    (void)arg;
    PT_EQ(argc, 2);
    PT_STR_EQ(argv[1], "-x");
    while (pica_sim_read(pica_sim_stdio(0), &c, 1, PICA_FOREVER) == 1) {
        c = (char)(c - 'a' + 'A');
        if (pica_sim_write(pica_sim_stdio(1), &c, 1) < 0) {
            return 1;
        }
    }
    return 7;
}

static int sleeps(int argc, const char *const argv[], void *arg) {
    (void)argc;
    (void)argv;
    (void)arg;
    PT_EQ(pica_sim_sleep(1e6), -ESHUTDOWN);
    return 0;
}

static void brings_programs(void *arg) {
    (void)arg;
    PT_EQ(pica_sim_program("upper", upper, NULL), 0);
    PT_EQ(pica_sim_program("sleeps", sleeps, NULL), 0);
}

static int processes_main(void *arg) {
    static const char *const argv[] = {"upper", "-x", NULL};
    static const char *const sleeper[] = {"sleeps", NULL};
    static const char *const nobody[] = {"nobody", NULL};
    struct pica_process_options options = PICA_PROCESS_OPTIONS_INIT;
    pica_process *process;
    (void)arg;
    options.in = options.out = PICA_PIPE;
    int rc = pica_create_subprocess_exec(&process, nobody, NULL);
    PT_CHECK(rc == -ENOENT || unlucky(rc));
    rc = pica_create_subprocess_exec(&process, argv, &options);
    if (rc == 0) {
        void *out = NULL;
        size_t size = 0;
        rc = pica_process_communicate(process, "hello", 5, &out, &size, NULL, NULL);
        int code;
        int ended = pica_process_wait(process, &code);
        if (rc == 0 && ended == 0) {
            PT_EQ(code, 7);
            PT_EQ(size, 5);
            PT_CHECK(size == 5 && memcmp(out, "HELLO", 5) == 0);
        } else {
            PT_CHECK(unlucky(rc) || unlucky(ended));
        }
        free(out);
        pica_process_release(process);
    } else {
        PT_CHECK(unlucky(rc));
    }
    rc = pica_create_subprocess_exec(&process, sleeper, NULL);
    if (rc == 0) {
        int code = 0;
        (void)pica_sleep(0.01);
        PT_EQ(pica_process_terminate(process), 0);
        PT_EQ(pica_process_wait(process, &code), 0);
        PT_EQ(code, -SIGTERM);
        pica_process_release(process);
    } else {
        PT_CHECK(unlucky(rc));
    }
    return 0;
}

PT_TEST(processes_are_played) {
    run(processes_main, brings_programs, 0);
}

/* --- addresses --- */

static int addresses_main(void *arg) {
    pica_address address;
    pica_socket *one, *two;
    (void)arg;
    PT_EQ(pica_address_unix(&address, "/sim/socket"), 0);
    PT_EQ(pica_listen(&one, &address, NULL), 0);
    PT_EQ(pica_listen(&two, &address, NULL), -EADDRINUSE);
    pica_socket_close(one);
    for (int i = 0; i < 100 && pica_listen(&two, &address, NULL) < 0; i++) {
        (void)pica_sleep(0.01); /* the descriptor may be closed a little later; then the file is stale */
    }
    PT_EQ(pica_connect(&one, &address), 0);
    pica_socket_close(one);
    pica_socket_close(two);
    PT_EQ(pica_address_ip(&address, "127.0.0.1", 9), 0);
    PT_EQ(pica_connect(&one, &address), -ECONNREFUSED);
    return 0;
}

PT_TEST(addresses_are_as_of_a_system) {
    run(addresses_main, NULL, -1);
}

/* --- datagrams --- */

static int asked; /* answers that the actor got */

static void asks(void *arg) {
    pica_address to, from;
    int fd = pica_sim_datagram(NULL);
    (void)arg;
    PT_CHECK(fd >= 0);
    PT_EQ(pica_address_ip(&to, "127.0.0.1", 53), 0);
    for (int i = 0; i < 200 && asked == 0; i++) {
        char text[8];
        PT_EQ(pica_sim_send(fd, "four", 4, &to), 0);
        ssize_t n = pica_sim_receive(fd, text, 2, &from, 0.01);
        if (n != -ETIMEDOUT) { /* the whole length, of which two bytes were asked for */
            PT_CHECK(n == 4 && text[0] == 'f' && text[1] == 'o' && pica_address_port(&from) == 53);
            asked++;
        }
    }
    pica_sim_close(fd);
}

static void brings_client(void *arg) {
    (void)arg;
    asked = 0;
    PT_EQ(pica_sim_actor(asks, NULL, "asks"), 0);
}

static int datagrams_main(void *arg) {
    pica_address at, from;
    pica_datagram_endpoint *endpoint;
    (void)arg;
    PT_EQ(pica_address_ip(&at, "0.0.0.0", 53), 0);
    int rc;
    while ((rc = pica_datagram_open(&endpoint, &at, NULL, NULL)) < 0) {
        PT_CHECK(unlucky(rc));
    }
    while (asked == 0) {
        char text[8];
        pica_timeout timeout;
        PT_EQ(pica_timeout_enter(&timeout, 0.01), 0);
        ssize_t n = pica_datagram_recv(endpoint, text, sizeof text, &from, NULL);
        n = pica_timeout_exit(&timeout, (int)n);
        PT_CHECK(n == 4 || n == PICA_ETIMEDOUT || unlucky(n));
        if (n == 4) {
            rc = pica_datagram_send(endpoint, text, 4, &from);
            PT_CHECK(rc == 0 || unlucky(rc));
        }
    }
    pica_datagram_release(endpoint);
    return 0;
}

PT_TEST(actors_send_and_receive_datagrams) {
    run(datagrams_main, brings_client, 0);
}

static int nothing_main(void *arg) {
    (void)arg;
    return 0;
}

int main(int argc, char **argv) {
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.quiet = 1;
    if (pica_sim_run(1, &options, nothing_main, NULL) == -ENOSYS) {
        return 77; /* under ThreadSanitizer */
    }
    return pt_main(argc, argv);
}
