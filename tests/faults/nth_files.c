/* Files, watched descriptors and child processes that run short of memory. See nth.h. */
#include "tests/faults/nth.h"
#include "tests/support/tree.h"

enum { SIZE = 600 << 10 };
static char data[SIZE];

/* --- files --- */

static int use_file(pica_file *file) {
    struct stat st;
    struct iovec parts[2] = {{data, 100}, {data + 100, 100}};
    int rc = pica_file_write(file, data, SIZE) == SIZE ? 0 : -ENOMEM;
    NTH_STEP(rc, pica_file_seek(file, 0, SEEK_SET));
    NTH_STEP(rc, pica_file_read(file, data, SIZE) == SIZE ? 0 : -ENOMEM);
    NTH_STEP(rc, pica_file_preadv(file, parts, 2, 0) == 200 ? 0 : -ENOMEM);
    NTH_STEP(rc, pica_file_pwritev(file, parts, 2, 0) == 200 ? 0 : -ENOMEM);
    NTH_STEP(rc, pica_file_pwrite(file, data, 10, 5) == 10 ? 0 : -ENOMEM);
    NTH_STEP(rc, pica_file_pread(file, data, 10, 5) == 10 ? 0 : -ENOMEM);
    NTH_STEP(rc, pica_file_fsync(file, 1));
    NTH_STEP(rc, pica_file_stat(file, &st));
    NTH_STEP(rc, pica_file_truncate(file, 10));
    return rc;
}

NTH(files,
    "pica_file_open pica_file_open_beneath pica_file_read pica_file_write pica_file_pread pica_file_pwrite "
    "pica_file_preadv pica_file_pwritev pica_file_seek pica_file_fsync pica_file_truncate pica_file_stat "
    "pica_stat pica_lstat pica_file_close",
    -EAGAIN) {
    struct tree t;
    struct stat st;
    pica_file *file = NULL, *folder = NULL, *other = NULL;
    tree_make(&t);
    int rc = pica_file_open(&file, tree_path(&t, "a"), O_RDWR | O_CREAT, 0600);
    NTH_STEP(rc, use_file(file));
    NTH_STEP(rc, pica_stat(t.path, &st));
    NTH_STEP(rc, pica_lstat(t.path, &st));
    NTH_STEP(rc, pica_file_open(&folder, t.root, O_RDONLY | O_DIRECTORY, 0));
    NTH_STEP(rc, pica_file_open_beneath(&other, folder, "a", O_RDONLY, 0));
    rc = rc == -ENOSYS ? 0 : rc; /* openat2 */
    int closed = pica_file_close(file);
    PT_CHECK(closed == 0 || closed == -ENOMEM);
    pica_file_release(folder);
    pica_file_release(other);
    tree_remove(&t);
    return rc;
}

/* One end of a pair. */
struct end {
    pica_reader *reader;
    pica_writer *writer;
};

static int reads_all(void *arg) {
    static char bytes[SIZE];
    const struct end *end = arg;
    ssize_t n = 1;
    size_t got = 0;
    while (n > 0) {
        n = pica_reader_read(end->reader, bytes, SIZE);
        got += n > 0 ? (size_t)n : 0;
    }
    if (n < 0) {
        pica_writer_abort(end->writer); /* a sender that nobody reads from has to end */
    }
    return n < 0 ? (int)n : got == SIZE ? 0 : PICA_EINCOMPLETE;
}

/* Streams over the two ends of a pair; what cannot be opened is closed. */
static int streams(struct end pair[2]) {
    int fds[2], rc = 0;
    PT_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    for (int i = 0; i < 2; i++) {
        pica_socket *s = NULL;
        NTH_STEP(rc, pica_socket_adopt(&s, fds[i]));
        if (s == NULL) {
            close(fds[i]);
            continue;
        }
        NTH_STEP(rc, pica_open_socket(s, 0, &pair[i].reader, &pair[i].writer));
        pica_socket_close(pair[i].writer == NULL ? s : NULL);
    }
    return rc;
}

NTH(sendfile, "pica_writer_sendfile", -EAGAIN, PICA_EINCOMPLETE, -EPIPE, -ECONNRESET) {
    struct tree t;
    pica_file *file = NULL;
    struct end pair[2] = {{NULL, NULL}, {NULL, NULL}};
    pica_task *task = NULL;
    tree_make(&t);
    tree_file(&t, "a", data, SIZE);
    int rc = pica_file_open(&file, tree_path(&t, "a"), O_RDONLY, 0);
    NTH_STEP(rc, streams(pair));
    NTH_STEP(rc, pica_create_task(&task, reads_all, &pair[1]));
    if (rc == 0) {
        ssize_t n = pica_writer_sendfile(pair[0].writer, file, 0, SIZE_MAX, NULL);
        PT_CHECK(n < 0 || n == SIZE);
        rc = n < 0 ? (int)n : 0;
    }
    if (pair[0].writer != NULL) {
        pica_writer_close(pair[0].writer);
    }
    rc = nth_join(rc, task);
    pica_writer_release(pair[0].writer);
    pica_writer_release(pair[1].writer);
    pica_file_release(file);
    tree_remove(&t);
    return rc;
}

/* --- descriptors of others --- */

struct watched {
    int fds[2];
    int (*remove)(int fd);
    pica_event called;
};

static void on_ready(void *arg) {
    struct watched *w = arg;
    (void)w->remove(w->fds[0]);
    pica_event_set(&w->called);
}

static int remove_reader_here(int fd) {
    return pica_loop_remove_reader(pica_current_loop(), fd);
}

static int remove_writer_here(int fd) {
    return pica_loop_remove_writer(pica_current_loop(), fd);
}

static uint64_t callbacks(void) {
    struct pica_runtime_stats stats = {.size = sizeof stats};
    PT_REQUIRE(pica_runtime_get_stats(pica_current_runtime(), &stats) == 0);
    return stats.callbacks;
}

/* A registration that was made needs memory yet, and tries again until there is some, now and then. */
static int wait_called(struct watched *w) {
    pica_timeout t;
    uint64_t before = callbacks();
    int rc = pica_timeout_enter(&t, 0.1);
    if (rc == 0) {
        rc = pica_timeout_exit(&t, pica_event_wait(&w->called));
    } else { /* no memory for a timer either: the worker is kept turning */
        for (double end = pica_time() + 0.02; pica_time() < end;) {
            PT_EQ(pica_yield(), 0);
        }
    }
    PT_CHECK(callbacks() - before < 1000);
    (void)w->remove(w->fds[0]);
    return rc;
}

/* Pinned: no callback is under way while this runs. */
static int use_polls(void *arg) {
    struct watched w[4];
    pica_loop *loop = pica_current_loop();
    (void)arg;
    for (int i = 0; i < 4; i++) {
        w[i] = (struct watched){{-1, -1}, NULL, PICA_EVENT_INIT};
        PT_REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w[i].fds) == 0);
        PT_REQUIRE(write(w[i].fds[1], "x", 1) == 1);
        /* So high that the epoll engine needs a larger table for each. */
        int high = fcntl(w[i].fds[0], F_DUPFD_CLOEXEC, 100 << i);
        PT_REQUIRE(high >= 0);
        close(w[i].fds[0]);
        w[i].fds[0] = high;
    }
    w[0].remove = pica_remove_reader;
    w[1].remove = pica_remove_writer;
    w[2].remove = remove_reader_here;
    w[3].remove = remove_writer_here;
    int rc = pica_poll(w[0].fds[0], POLLIN);
    NTH_STEP(rc, pica_add_reader(w[0].fds[0], on_ready, &w[0]));
    NTH_STEP(rc, wait_called(&w[0]));
    NTH_STEP(rc, pica_add_writer(w[1].fds[0], on_ready, &w[1]));
    NTH_STEP(rc, wait_called(&w[1]));
    NTH_STEP(rc, pica_loop_add_reader(loop, w[2].fds[0], on_ready, &w[2]));
    NTH_STEP(rc, wait_called(&w[2]));
    NTH_STEP(rc, pica_loop_add_writer(loop, w[3].fds[0], on_ready, &w[3]));
    NTH_STEP(rc, wait_called(&w[3]));
    for (int i = 0; i < 4; i++) {
        close(w[i].fds[0]);
        close(w[i].fds[1]);
    }
    return rc;
}

NTH(polls, "pica_poll pica_add_reader pica_add_writer pica_loop_add_reader pica_loop_add_writer",
    PICA_ETIMEDOUT) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    pica_task *task = NULL;
    options.pinned = 1;
    int rc = pica_create_task_opts(&task, use_polls, NULL, &options);
    return nth_join(rc, task);
}

/* --- children --- */

static int talk_to(pica_process *p) {
    void *out = NULL;
    size_t size = 0;
    int code = -1;
    int rc = pica_process_communicate(p, data, SIZE, &out, &size, NULL, NULL);
    PT_CHECK(rc < 0 || size == SIZE);
    free(out);
    if (rc < 0) {
        (void)pica_process_kill(p);
    }
    int waited = pica_process_wait(p, &code);
    PT_CHECK(waited < 0 || rc < 0 || code == 0);
    return rc < 0 ? rc : waited;
}

NTH(processes,
    "pica_create_subprocess_exec pica_create_subprocess_shell pica_process_communicate pica_process_wait",
    -EPIPE, -ECONNRESET) {
    struct pica_process_options options = PICA_PROCESS_OPTIONS_INIT;
    pica_process *p = NULL, *q = NULL;
    options.in = options.out = PICA_PIPE;
    int rc = pica_create_subprocess_exec(&p, (const char *const[]){"cat", NULL}, &options);
    NTH_STEP(rc, talk_to(p));
    NTH_STEP(rc, pica_create_subprocess_shell(&q, "exit 0", NULL));
    NTH_STEP(rc, pica_process_wait(q, NULL));
    pica_process_release(p);
    pica_process_release(q);
    return rc;
}

PT_MAIN()
