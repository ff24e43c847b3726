/* Runtimes that are made, run, stopped and closed while much is under way. Nothing is left behind. */
#include "tests/workloads/workload.h"

enum { TASKS = 4 };

static atomic_int ended;

static int sleeps_long(void *arg) {
    (void)arg;
    int rc = pica_sleep(1000);
    atomic_fetch_add(&ended, 1);
    return rc;
}

static int answer(pica_reader *reader, pica_writer *writer, void *arg) {
    char buffer[16];
    ssize_t n;
    (void)arg;
    while ((n = pica_reader_read(reader, buffer, sizeof buffer)) > 0) {
        if (pica_writer_write(writer, buffer, (size_t)n) < 0) {
            break;
        }
    }
    return 0;
}

/* Is cancelled while it reads. */
static int reads_on(void *arg) {
    pica_address address = *(pica_address *)arg;
    pica_socket *socket;
    char buffer[8];
    int rc = pica_connect(&socket, &address);
    if (rc == 0) {
        while (pica_recv(socket, buffer, sizeof buffer) > 0) {
        }
        pica_socket_close(socket);
    }
    return 0;
}

static pica_address address;

static pica_async *trigger;
static atomic_int triggered;

static void is_triggered(void *arg) {
    (void)arg;
    atomic_fetch_add(&triggered, 1);
}

/* Leaves tasks, a server and connections behind. */
static int leaves_all(void *arg) {
    pica_server **server = arg;
    for (int i = 0; i < TASKS; i++) {
        pica_task_unref(wl_task(sleeps_long, NULL, "left behind"));
    }
    if (WL_OK(pica_start_server(server, "127.0.0.1", 0, answer, NULL, NULL))) {
        pica_socket *socket;
        WL_EQ(pica_server_address(*server, &address), 0);
        if (WL_OK(pica_connect(&socket, &address))) {
            (void)pica_send(socket, "abc", 3);
            pica_socket_close(socket);
        }
        if (wl_choose(2) == 0) {
            pica_task_unref(wl_task(reads_on, &address, "reader"));
        }
        pica_server_release(*server); /* its end goes on as the runtime ends */
    }
    /* May come before the end, or never. */
    if (WL_OK(pica_async_new(&trigger, pica_runtime_loop(pica_current_runtime(), 0), is_triggered, NULL))) {
        pica_async_send(trigger);
    }
    return 5;
}

static void stops(void *arg) {
    pica_stop(arg);
}

static int short_main(void *arg) {
    pica_task *task = wl_task(sleeps_long, NULL, "cancelled");
    (void)arg;
    (void)pica_yield();
    pica_task_cancel(task);
    int rc = wl_join(task);
    WL_EQ(rc, PICA_ECANCELED);
    return 3;
}

int wl_startstop(void *arg) {
    (void)arg;
    atomic_store(&ended, 0);
    for (int round = 0; round < 4; round++) {
        pica_runtime *rt;
        pica_server *server;
        if (!WL_OK(pica_runtime_new(&rt, NULL))) {
            return 0;
        }
        int before = atomic_load(&ended);
        trigger = NULL;
        atomic_store(&triggered, 0);
        WL_EQ(pica_run_until_complete(rt, short_main, NULL), 3);
        if (wl_choose(2) == 0) {
            double delay = 0.001 * wl_choose(3);
            if (WL_OK(pica_loop_call_later(pica_runtime_loop(rt, 0), delay, stops, rt, NULL))) {
                WL_EQ(pica_run_forever(rt), 0);
            }
        }
        WL_EQ(pica_run_until_complete(rt, leaves_all, &server), 5);
        WL_EQ(pica_close(rt), 0);
        pica_async_free(trigger);
        WL_CHECK(atomic_load(&triggered) <= 1);
        /* All of them began, or were cancelled before. */
        WL_CHECK(atomic_load(&ended) - before <= TASKS + 1);
    }
    WL_EQ(pica_run(short_main, NULL), 3);
    return 0;
}
