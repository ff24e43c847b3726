/* Files and their ends: FIFOs, cancelling, closing, and doing without descriptors, memory and tasks. */
#include "tests/support/tasks.h"
#include "tests/support/tree.h"

#include <string.h>
#include <sys/resource.h>

/* --- FIFOs: what may wait for ever --- */

static int read_one(void *arg) {
    char byte;
    ssize_t n = pica_file_read(arg, &byte, 1);
    return n == 1 ? byte : (int)n;
}

static void fifo_make(struct tree *t, pica_file **rd, pica_file **wr) {
    PT_REQUIRE(mkfifo(tree_path(t, "fifo"), 0600) == 0);
    PT_EQ(pica_file_open(wr, tree_path(t, "fifo"), O_WRONLY, 0), -ENXIO);
    *rd = open_at(t, "fifo", O_RDONLY);
    *wr = open_at(t, "fifo", O_WRONLY);
}

struct writing {
    pica_file *file;
    const void *all;
    size_t size;
};

static int write_all_of(void *arg) {
    struct writing *w = arg;
    return (int)pica_file_write(w->file, w->all, w->size);
}

TASK_TEST(fifo_holds_nobody_up) {
    (void)arg;
    struct tree t;
    char buffer[16];
    tree_make(&t);
    pica_file *rd, *wr;
    fifo_make(&t, &rd, &wr);
    pica_task *reading = spawn(read_one, rd);
    PT_EQ(pica_sleep(0.01), 0);
    PT_EQ(pica_future_done(PICA_FUTURE(reading)), 0);
    PT_EQ(pica_file_write(wr, "abc", 3), 3);
    PT_EQ(pica_join(reading, NULL), 'a');
    PT_EQ(pica_file_read(rd, buffer, sizeof buffer), 2); /* what there is */
    PT_EQ(pica_file_pread(rd, buffer, 1, 0), -ESPIPE);
    PT_EQ(pica_file_seek(rd, 0, SEEK_SET), -ESPIPE);
    /* More than it holds: the writer waits for the reader. */
    enum { SIZE = 300000 };
    unsigned char *all = bytes_from(0, SIZE), *got = malloc(SIZE);
    PT_REQUIRE(got != NULL);
    size_t done = 0;
    struct writing w = {wr, all, SIZE};
    pica_task *writing = spawn(write_all_of, &w);
    while (done < SIZE) {
        ssize_t n = pica_file_read(rd, got + done, SIZE - done);
        PT_REQUIRE(n > 0);
        done += (size_t)n;
    }
    bytes_right(got, 0, SIZE);
    PT_EQ(pica_join(writing, NULL), SIZE);
    PT_EQ(pica_file_close(wr), 0);
    PT_EQ(pica_file_read(rd, buffer, 1), 0);
    PT_EQ(pica_file_close(rd), 0);
    free(all);
    free(got);
    tree_remove(&t);
    return 0;
}

TASK_TEST(fifo_cancelled) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    pica_file *rd, *wr;
    fifo_make(&t, &rd, &wr);
    for (int i = 0; i < 20; i++) {
        pica_task *reading = spawn(read_one, rd), *next = spawn(read_one, rd);
        for (int k = 0; k < i % 5; k++) {
            PT_EQ(pica_yield(), 0);
        }
        pica_task_cancel(next);
        pica_task_cancel(reading);
        PT_EQ(pica_join(reading, NULL), PICA_ECANCELED);
        PT_EQ(pica_join(next, NULL), PICA_ECANCELED);
    }
    /* Nothing was taken, and the next one gets it. */
    PT_EQ(pica_file_write(wr, "x", 1), 1);
    PT_EQ(read_one(rd), 'x');
    /* A write that waits for room: what it wrote is told, and the cancellation is still there. */
    enum { SIZE = 1 << 20 };
    unsigned char *all = bytes_from(0, SIZE);
    struct writing w = {wr, all, SIZE};
    pica_task *writing = spawn(write_all_of, &w);
    PT_EQ(pica_sleep(0.02), 0);
    pica_task_cancel(writing);
    int n = pica_join(writing, NULL); /* it ends with a request pending: cancelled, whatever it says */
    PT_EQ(n, PICA_ECANCELED);
    PT_EQ(pica_file_close(wr), 0);
    PT_EQ(pica_file_close(rd), 0);
    free(all);
    tree_remove(&t);
    return 0;
}

static int told_in_part(void *arg) {
    struct writing *w = arg;
    ssize_t n = pica_file_write(w->file, w->all, w->size);
    PT_CHECK(n > 0 && n < (ssize_t)w->size);
    PT_EQ(pica_file_write(w->file, w->all, w->size), PICA_ECANCELED);
    *(ssize_t *)(uintptr_t)&w->size = n;
    return PICA_ECANCELED;
}

TASK_TEST(a_part_written_is_told) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    pica_file *rd, *wr;
    fifo_make(&t, &rd, &wr);
    enum { SIZE = 1 << 20 };
    unsigned char *all = bytes_from(0, SIZE), *got = malloc(SIZE);
    PT_REQUIRE(got != NULL);
    struct writing w = {wr, all, SIZE};
    pica_task *writing = spawn(told_in_part, &w);
    PT_EQ(pica_sleep(0.02), 0);
    /* A second piece, so that it is in the ring when it is cancelled. */
    ssize_t first = pica_file_read(rd, got, 5000);
    PT_CHECK(first > 0);
    PT_EQ(pica_sleep(0.02), 0);
    pica_task_cancel(writing);
    PT_EQ(pica_join(writing, NULL), PICA_ECANCELED);
    PT_EQ(pica_file_close(wr), 0);
    size_t total = (size_t)first;
    ssize_t n;
    while ((n = pica_file_read(rd, got + total, SIZE - total)) > 0) {
        total += (size_t)n;
    }
    PT_EQ(total, w.size);
    bytes_right(got, 0, total);
    PT_EQ(pica_file_close(rd), 0);
    free(all);
    free(got);
    tree_remove(&t);
    return 0;
}

/* Whoever reads, or waits for its turn to, learns of the close. */
TASK_TEST(close_wakes) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    for (int i = 0; i < 10; i++) {
        pica_file *rd, *wr;
        fifo_make(&t, &rd, &wr);
        pica_task *reading[3];
        for (int k = 0; k < 3; k++) {
            reading[k] = spawn(read_one, rd);
        }
        PT_EQ(pica_sleep(0.005), 0);
        if (i % 2 == 0) {
            PT_EQ(pica_file_close(rd), 0);
        } else {
            pica_file_release(rd);
        }
        for (int k = 0; k < 3; k++) {
            PT_EQ(pica_join(reading[k], NULL), PICA_ECLOSED);
        }
        PT_EQ(pica_file_close(wr), 0);
        PT_EQ(unlink(tree_path(&t, "fifo")), 0);
    }
    tree_remove(&t);
    return 0;
}

/* --- cancelling what a disk does --- */

struct reading {
    pica_file *file;
    int64_t offset;
};

static int read_far(void *arg) {
    struct reading *r = arg;
    enum { SIZE = 256 << 10 };
    unsigned char *got = malloc(SIZE);
    PT_REQUIRE(got != NULL);
    memset(got, 0, SIZE);
    ssize_t n = pica_file_pread(r->file, got, SIZE, r->offset);
    if (n >= 0) { /* or a part, if the rest was being waited for: what lies in the cache is read at once */
        PT_CHECK(n > 0 && n <= SIZE);
        bytes_right(got, (size_t)r->offset, (size_t)n);
    } else {
        PT_EQ(n, PICA_ECANCELED);
    }
    free(got); /* a kernel that still wrote into it would be found by the sanitizer, or by another task */
    return n < 0 ? (int)n : 0;
}

TASK_TEST_TIMEOUT(reads_cancelled, 60) {
    enum { SIZE = 8 << 20, TASKS = 32 };
    (void)arg;
    struct tree t;
    tree_make(&t);
    unsigned char *all = bytes_from(0, SIZE);
    tree_file(&t, "a", all, SIZE);
    free(all);
    pica_file *file = open_at(&t, "a", O_RDONLY);
    for (int round = 0; round < 8; round++) {
        struct reading r[TASKS];
        pica_task *tasks[TASKS];
        tree_uncache(&t, "a");
        for (int i = 0; i < TASKS; i++) {
            r[i] = (struct reading){file, (int64_t)(i * 7 % TASKS) << 18};
            tasks[i] = spawn(read_far, &r[i]);
        }
        for (int k = 0; k < round; k++) {
            PT_EQ(pica_yield(), 0);
        }
        for (int i = 0; i < TASKS; i += 2) {
            pica_task_cancel(tasks[i]);
        }
        for (int i = 0; i < TASKS; i++) {
            int rc = pica_join(tasks[i], NULL);
            PT_CHECK(rc == 0 || (i % 2 == 0 && rc == PICA_ECANCELED));
        }
    }
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
    return 0;
}

static int open_and_close(void *arg) {
    pica_file *file = NULL;
    int rc = pica_file_open(&file, arg, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (rc < 0) {
        PT_EQ(rc, PICA_ECANCELED);
        PT_CHECK(file == NULL);
        return rc;
    }
    (void)pica_file_write(file, "x", 1);
    (void)pica_file_fsync(file, 0);
    /* Not cut short by a cancellation, and the descriptor is gone afterwards: the case would find it. */
    PT_EQ(pica_file_close(file), 0);
    return 0;
}

TASK_TEST(opens_cancelled) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    char path[sizeof t.path];
    memcpy(path, tree_path(&t, "a"), sizeof path);
    for (int i = 0; i < 100; i++) {
        pica_task *task = spawn(open_and_close, path);
        for (int k = 0; k < i % 10; k++) {
            PT_EQ(pica_yield(), 0);
        }
        if (i % 7 == 6) {
            PT_EQ(pica_sleep(0.0001 * (i % 11)), 0);
        }
        pica_task_cancel(task);
        int rc = pica_join(task, NULL);
        PT_CHECK(rc == 0 || rc == PICA_ECANCELED);
    }
    tree_remove(&t);
    return 0;
}

/* Delivered at the entry, before anything is done. */
static int cancelled_everywhere(void *arg) {
    struct tree *t = arg;
    struct stat st;
    char byte = 'x';
    pica_file *file = open_at(t, "a", O_RDWR | O_CREAT), *other = NULL;
    PT_EQ(pica_file_write(file, "abc", 3), 3);
#define CANCELLED(call)                        \
    do {                                       \
        pica_task_cancel(pica_current_task()); \
        PT_EQ((call), PICA_ECANCELED);         \
        PT_EQ(pica_checkpoint(), 0);           \
    } while (0)
    CANCELLED(pica_file_open(&other, tree_path(t, "b"), O_RDWR | O_CREAT, 0600));
    CANCELLED(pica_file_open_beneath(&other, file, "b", O_RDWR, 0));
    CANCELLED(pica_file_read(file, &byte, 1));
    CANCELLED(pica_file_write(file, "x", 1));
    CANCELLED(pica_file_pread(file, &byte, 1, 0));
    CANCELLED(pica_file_pwrite(file, "x", 1, 0));
    CANCELLED(pica_file_seek(file, 0, SEEK_SET));
    CANCELLED(pica_file_fsync(file, 0));
    CANCELLED(pica_file_truncate(file, 0));
    CANCELLED(pica_file_stat(file, &st));
    CANCELLED(pica_stat("/", &st));
    PT_CHECK(other == NULL && byte == 'x');
    PT_EQ(pica_file_seek(file, 0, SEEK_CUR), 3);
    PT_EQ(pica_stat(tree_path(t, "b"), &st), -ENOENT);
    /* But a close closes. */
    pica_task_cancel(pica_current_task());
    PT_EQ(pica_file_close(file), 0);
    return pica_checkpoint();
}

TASK_TEST(cancelled_at_entry) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    PT_EQ(pica_join(spawn(cancelled_everywhere, &t), NULL), PICA_ECANCELED);
    tree_remove(&t);
    return 0;
}

/* --- without a task, descriptors, memory; at the end --- */

static pica_file *shared;
static int outside_result[6];

static void outside(void *arg) {
    char byte;
    struct stat st;
    pica_file *file;
    pica_future *done = arg;
    outside_result[0] = pica_file_open(&file, "/", O_RDONLY, 0);
    outside_result[1] = (int)pica_file_read(shared, &byte, 1);
    outside_result[2] = (int)pica_file_pread(shared, &byte, 1, 0);
    outside_result[3] = pica_file_stat(shared, &st);
    outside_result[4] = pica_stat("/", &st);
    outside_result[5] = pica_file_close(shared);
    signal_future(done);
}

TASK_TEST(outside_a_task) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    tree_file(&t, "a", "a", 1);
    shared = open_at(&t, "a", O_RDONLY);
    pica_future *done = new_future();
    PT_EQ(pica_call_soon(outside, done, NULL), 0);
    PT_EQ(pica_await(done, NULL), 0);
    pica_future_unref(done);
    for (int i = 0; i < 6; i++) {
        PT_EQ(outside_result[i], PICA_ENOTASK);
    }
    PT_EQ(read_one(shared), 'a');
    PT_EQ(pica_file_close(shared), 0);
    tree_remove(&t);
    return 0;
}

TASK_TEST(no_descriptors) {
    (void)arg;
    struct tree t;
    struct rlimit limit;
    pica_file *file = NULL, *first;
    tree_make(&t);
    tree_file(&t, "a", "a", 1);
    first = open_at(&t, "a", O_RDONLY);
    PT_REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 3;
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_file_open(&file, tree_path(&t, "a"), O_RDONLY, 0), -EMFILE);
    }
    PT_EQ(read_one(first), 'a');
    limit.rlim_cur = before;
    PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    PT_EQ(pica_file_close(open_at(&t, "a", O_RDONLY)), 0);
    PT_EQ(pica_file_close(first), 0);
    tree_remove(&t);
    return 0;
}

static atomic_bool no_memory;

static void *test_alloc(void *ctx, size_t size) {
    (void)ctx;
    return atomic_load(&no_memory) ? NULL : malloc(size);
}

static void *test_realloc(void *ctx, void *p, size_t old_size, size_t size) {
    (void)ctx;
    (void)old_size;
    return atomic_load(&no_memory) ? NULL : realloc(p, size);
}

static void test_free(void *ctx, void *p, size_t size) {
    (void)ctx;
    (void)size;
    free(p);
}

static int open_without_memory(void *arg) {
    pica_file *file = NULL;
    char byte;
    PT_EQ(pica_file_open(&file, arg, O_RDONLY, 0), 0);
    pica_file *none = NULL;
    atomic_store(&no_memory, true);
    int rc = pica_file_open(&none, arg, O_RDONLY, 0);
    ssize_t n = pica_file_pread(file, &byte, 1, 0);
    struct stat st;
    int rc2 = pica_file_stat(file, &st);
    atomic_store(&no_memory, false);
    PT_EQ(rc, -ENOMEM);
    PT_CHECK(none == NULL);
    PT_EQ(n, 1);
    PT_EQ(rc2, 0);
    return pica_file_close(file);
}

PT_TEST(no_memory) {
    struct tree t;
    tree_make(&t);
    tree_file(&t, "a", "a", 1);
    struct pica_allocator allocator = {test_alloc, test_realloc, test_free, NULL};
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.allocator = &allocator;
    PT_EQ(pica_run_opts(open_without_memory, (void *)(uintptr_t)tree_path(&t, "a"), &options), 0);
    tree_remove(&t);
}

static int leave_open(void *arg) {
    shared = open_at(arg, "a", O_RDONLY);
    return 0;
}

/* The case would find the descriptor, and the leak check the handle. */
PT_TEST(open_at_the_end) {
    struct tree t;
    tree_make(&t);
    tree_file(&t, "a", "a", 1);
    PT_EQ(pica_run(leave_open, &t), 0);
    pica_file_release(shared);
    tree_remove(&t);
}

static int read_for_ever(void *arg) {
    return read_one(arg);
}

static int leave_reading(void *arg) {
    pica_file *wr;
    fifo_make(arg, &shared, &wr);
    pica_task_unref(spawn(read_for_ever, shared));
    PT_EQ(pica_sleep(0.01), 0);
    PT_EQ(pica_file_close(wr), 0);
    return 0;
}

PT_TEST(in_use_at_the_end) {
    struct tree t;
    tree_make(&t);
    PT_EQ(pica_run(leave_reading, &t), 0);
    pica_file_release(shared);
    tree_remove(&t);
}

PT_MAIN()
