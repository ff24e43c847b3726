#include "tests/workloads/workload.h"

#include <stdarg.h>
#include <stdio.h>

const struct workload workloads[] = {
    {"echo", wl_echo, 0, 0, 1},
    {"chat", wl_chat, 0, 0, 1},
    {"pool", wl_pool, 0, 0, 1},
    {"proxy", wl_proxy, 0, 0, 1},
    {"rpc", wl_rpc, 0, 0, 1},
    {"locks", wl_locks, 0, 0, 1},
    {"timers", wl_timers, 0, 0, 1},
    {"files", wl_files, 0, 0, 1},
    {"startstop", wl_startstop, 1, 0, 1},
    {"datagram", wl_datagram, 0, 0, 1},
    {"calls", wl_calls, 0, 0, 1},
    {"planted", wl_planted, 0, 1, 0},
    {NULL, NULL, 0, 0, 0},
};

bool wl_no_faults;
bool wl_memory;
atomic_uint wl_failures;

void wl_fail(const char *file, int line, const char *format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (pica_simulated()) {
        pica_sim_fail("%s:%d: %s", file, line, text);
    } else {
        (void)fprintf(stderr, "%s:%d: %s\n", file, line, text);
        atomic_fetch_add(&wl_failures, 1);
    }
}

void wl_eq(const char *file, int line, const char *what, long long a, long long b) {
    if (a != b && !wl_lacks((long)a)) {
        wl_fail(file, line, "%s is %lld, expected %lld", what, a, b);
    }
}

bool wl_ok(const char *file, int line, long rc) {
    static const int world[] = {-ECONNRESET, -EPIPE,  -ETIMEDOUT, -ECONNREFUSED,
                                -EMFILE,     -ENOBUFS, -ENOMEM,   -EIO,
                                -ENOSPC,     -EAGAIN, PICA_EINCOMPLETE};
    if (rc >= 0) {
        return true;
    }
    bool known = false;
    for (size_t i = 0; i < sizeof world / sizeof world[0]; i++) {
        known = known || world[i] == rc;
    }
    if (wl_strict() || !known) {
        wl_fail(file, line, "%s (%ld)", pica_err_name((int)rc), rc);
    }
    return false;
}

unsigned wl_choose(unsigned n) {
    if (pica_simulated()) {
        return pica_sim_choose(n);
    }
    static atomic_uint state;
    unsigned x = atomic_fetch_add(&state, 0x9e3779b9u);
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    return (x ^ (x >> 13)) % n;
}

void wl_pattern(char *buffer, unsigned s, size_t at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        buffer[i] = wl_byte(s, at + i);
    }
}

bool wl_matches(const char *buffer, unsigned s, size_t at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (buffer[i] != wl_byte(s, at + i)) {
            return false;
        }
    }
    return true;
}

pica_task *wl_task(pica_fn fn, void *arg, const char *name) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = name;
    pica_task *task;
    int rc;
    do {
        rc = pica_create_task_opts(&task, fn, arg, &options);
    } while (wl_lacks(rc));
    if (rc < 0) {
        wl_fail(__FILE__, __LINE__, "no task: %s", pica_err_name(rc));
        abort();
    }
    return task;
}

int wl_join(pica_task *task) {
    int rc = pica_await(pica_task_future(task), NULL);
    pica_task_unref(task);
    return rc;
}

bool wl_serve(pica_server **out, pica_address *address, pica_client_connected fn) {
    enum { TRIES = 8 };
    for (int i = 0; i < TRIES; i++) {
        if (WL_OK(pica_start_server(out, "127.0.0.1", 0, fn, NULL, NULL))) {
            WL_EQ(pica_server_address(*out, address), 0);
            return true;
        }
    }
    return false;
}

void wl_drain(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    for (int i = 0; i < 2000; i++) {
        WL_EQ(pica_runtime_get_stats(pica_current_runtime(), &stats), 0);
        if (stats.tasks_alive == 1 && stats.sockets == 0 && stats.timers == 0) {
            return;
        }
        (void)pica_sleep(0.01);
    }
    if (getenv("PICA_SIM_TRACE") != NULL) {
        (void)pica_dump(2);
    }
    wl_fail(__FILE__, __LINE__, "left: %llu tasks, %llu descriptors, %llu timers",
            (unsigned long long)stats.tasks_alive, (unsigned long long)stats.sockets,
            (unsigned long long)stats.timers);
}
