/* Files: reading, writing, positions, paths, errors. What waits and what ends stands in test_file_end.c. */
#include "tests/support/machine.h"
#include "tests/support/tasks.h"
#include "tests/support/tree.h"

#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>

TASK_TEST(round_trip) {
    (void)arg;
    struct tree t;
    struct stat st;
    char buffer[64];
    tree_make(&t);
    pica_file *file = open_at(&t, "a", O_RDWR | O_CREAT | O_EXCL);
    PT_EQ(pica_file_write(file, "hello, ", 7), 7);
    PT_EQ(pica_file_write(file, "world", 5), 5);
    PT_EQ(pica_file_write(file, "", 0), 0);
    PT_EQ(pica_file_read(file, buffer, sizeof buffer), 0);
    PT_EQ(pica_file_seek(file, 0, SEEK_SET), 0);
    PT_EQ(pica_file_read(file, buffer, 3), 3);
    PT_EQ(memcmp(buffer, "hel", 3), 0);
    PT_EQ(pica_file_seek(file, 0, SEEK_CUR), 3);
    PT_EQ(pica_file_read(file, buffer, sizeof buffer), 9);
    PT_EQ(memcmp(buffer, "lo, world", 9), 0);
    PT_EQ(pica_file_seek(file, -5, SEEK_END), 7);
    PT_EQ(pica_file_pwrite(file, "W", 1, 7), 1);
    PT_EQ(pica_file_pread(file, buffer, sizeof buffer, 5), 7);
    PT_EQ(memcmp(buffer, ", World", 7), 0);
    PT_EQ(pica_file_pread(file, buffer, sizeof buffer, 12), 0);
    PT_EQ(pica_file_seek(file, 0, SEEK_CUR), 7);
    PT_EQ(pica_file_fsync(file, 0), 0);
    PT_EQ(pica_file_fsync(file, 1), 0);
    PT_EQ(pica_file_stat(file, &st), 0);
    PT_EQ(st.st_size, 12);
    PT_CHECK(S_ISREG(st.st_mode));
    PT_EQ(st.st_mode & 0137, 0);
    PT_EQ(pica_file_truncate(file, 5), 0);
    PT_EQ(pica_file_truncate(file, -1), -EINVAL);
    PT_EQ(pica_stat(tree_path(&t, "a"), &st), 0);
    struct stat other;
    PT_EQ(stat(tree_path(&t, "a"), &other), 0);
    PT_EQ(st.st_size, 5);
    PT_EQ(st.st_ino, other.st_ino);
    PT_EQ(st.st_dev, other.st_dev);
    PT_EQ(st.st_mtim.tv_sec, other.st_mtim.tv_sec);
    PT_EQ(st.st_mtim.tv_nsec, other.st_mtim.tv_nsec);
    PT_EQ(st.st_blocks, other.st_blocks);
    PT_EQ(pica_file_close(file), 0);
    PT_EQ(pica_file_close(NULL), 0);
    pica_file_release(NULL);
    tree_remove(&t);
    return 0;
}

TASK_TEST(vectors) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    pica_file *file = open_at(&t, "a", O_RDWR | O_CREAT);
    char word[5] = "fghi", a[3], b[4];
    struct iovec out[4] = {{NULL, 0}, {"abc", 3}, {"de", 2}, {word, 4}};
    PT_EQ(pica_file_pwritev(file, out, 4, 10), 9);
    struct iovec in[3] = {{a, 3}, {a, 0}, {b, 4}};
    PT_EQ(pica_file_preadv(file, in, 3, 11), 7);
    PT_EQ(memcmp(a, "bcd", 3), 0);
    PT_EQ(memcmp(b, "efgh", 4), 0);
    PT_EQ(pica_file_preadv(file, in, 3, 17), 2);
    PT_EQ(pica_file_preadv(file, in, 0, 0), -EINVAL);
    PT_EQ(pica_file_preadv(file, in, 65, 0), -EINVAL);
    PT_EQ(pica_file_preadv(file, in, 1, -1), -EINVAL);
    in[0].iov_len = (size_t)SSIZE_MAX;
    PT_EQ(pica_file_preadv(file, in, 3, 0), -EINVAL);
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
    return 0;
}

/* Large reads and writes, with everything, nothing and a part of it in the page cache. */
TASK_TEST(large_and_uncached) {
    enum { SIZE = 3 << 20, EXTRA = 100 };
    (void)arg;
    struct tree t;
    tree_make(&t);
    unsigned char *all = bytes_from(0, SIZE), *got = malloc(2 * SIZE);
    PT_REQUIRE(got != NULL);
    pica_file *file = open_at(&t, "a", O_RDWR | O_CREAT);
    PT_EQ(pica_file_write(file, all, SIZE), SIZE);
    for (int round = 0; round < 3; round++) {
        if (round > 0) {
            tree_uncache(&t, "a");
        }
        if (round == 2) {
            PT_EQ(pica_file_pread(file, got, 64 << 10, 0), 64 << 10);
        }
        memset(got, 0, SIZE);
        PT_EQ(pica_file_pread(file, got, SIZE + EXTRA, 0), SIZE);
        bytes_right(got, 0, SIZE);
    }
    tree_uncache(&t, "a");
    struct iovec parts[2] = {{got, 1000001}, {got + 1000001, SIZE}};
    PT_EQ(pica_file_preadv(file, parts, 2, 1), SIZE - 1);
    bytes_right(got, 1, SIZE - 1);
    PT_EQ(pica_file_close(file), 0);
    free(all);
    free(got);
    tree_remove(&t);
    return 0;
}

enum { WRITERS = 8, RECORDS = 100, RECORD = 40 };

struct at_position {
    pica_file *file;
    atomic_int seen[WRITERS * RECORDS];
    int id;
};

static int write_records(void *arg) {
    struct at_position *p = arg;
    static atomic_int next;
    int id = atomic_fetch_add(&next, 1) % WRITERS;
    for (int i = 0; i < RECORDS; i++) {
        char record[RECORD];
        memset(record, '.', sizeof record);
        int number = id * RECORDS + i;
        memcpy(record, &number, sizeof number);
        memcpy(record + RECORD - sizeof number, &number, sizeof number);
        PT_EQ(pica_file_write(p->file, record, RECORD), RECORD);
    }
    return 0;
}

static int read_records(void *arg) {
    struct at_position *p = arg;
    for (;;) {
        char record[RECORD];
        int first, last;
        ssize_t n = pica_file_read(p->file, record, RECORD);
        if (n == 0) {
            return 0;
        }
        PT_REQUIRE(n == RECORD);
        memcpy(&first, record, sizeof first);
        memcpy(&last, record + RECORD - sizeof last, sizeof last);
        PT_REQUIRE(first == last && first >= 0 && first < WRITERS * RECORDS);
        atomic_fetch_add(&p->seen[first], 1);
    }
}

/* Whoever uses the position has it for himself: no record is torn, lost, or read twice. */
static void at_position(struct tree *t, int flags) {
    static struct at_position p;
    pica_task *tasks[WRITERS];
    memset(&p, 0, sizeof p);
    p.file = open_at(t, "a", O_RDWR | O_CREAT | O_TRUNC | flags);
    for (int i = 0; i < WRITERS; i++) {
        tasks[i] = spawn(write_records, &p);
    }
    for (int i = 0; i < WRITERS; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    PT_EQ(pica_file_seek(p.file, 0, SEEK_SET), 0);
    tree_uncache(t, "a");
    for (int i = 0; i < WRITERS; i++) {
        tasks[i] = spawn(read_records, &p);
    }
    for (int i = 0; i < WRITERS; i++) {
        PT_EQ(pica_join(tasks[i], NULL), 0);
    }
    for (int i = 0; i < WRITERS * RECORDS; i++) {
        PT_REQUIRE(atomic_load(&p.seen[i]) == 1);
    }
    PT_EQ(pica_file_close(p.file), 0);
}

TASK_TEST(the_position_is_shared) {
    (void)arg;
    struct tree t;
    tree_make(&t);
    at_position(&t, 0);
    at_position(&t, O_APPEND);
    /* With O_APPEND an offset does not matter to a write. */
    pica_file *file = open_at(&t, "a", O_RDWR | O_APPEND);
    PT_EQ(pica_file_pwrite(file, "end", 3, 0), 3);
    struct stat st;
    PT_EQ(pica_file_stat(file, &st), 0);
    PT_EQ(st.st_size, WRITERS * RECORDS * RECORD + 3);
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
    return 0;
}

TASK_TEST(sparse_beyond_4_gib) {
    (void)arg;
    struct tree t;
    struct stat st;
    char buffer[16];
    const int64_t far = (INT64_C(5) << 30) + 7;
    tree_make(&t);
    pica_file *file = open_at(&t, "a", O_RDWR | O_CREAT);
    PT_EQ(pica_file_pwrite(file, "far away", 8, far), 8);
    PT_EQ(pica_file_stat(file, &st), 0);
    PT_EQ(st.st_size, far + 8);
    PT_CHECK(st.st_blocks < 1024);
    PT_EQ(pica_file_pread(file, buffer, 16, far - 3), 11);
    PT_EQ(memcmp(buffer, "\0\0\0far away", 11), 0);
    PT_EQ(pica_file_pread(file, buffer, 16, INT64_C(3) << 30), 16);
    PT_EQ(memcmp(buffer, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16), 0);
    tree_uncache(&t, "a");
    PT_EQ(pica_file_seek(file, far + 4, SEEK_SET), far + 4);
    PT_EQ(pica_file_read(file, buffer, 16), 4);
    PT_EQ(memcmp(buffer, "away", 4), 0);
    PT_EQ(pica_file_truncate(file, (INT64_C(6) << 30)), 0);
    PT_EQ(pica_file_seek(file, 0, SEEK_END), INT64_C(6) << 30);
    PT_EQ(pica_file_close(file), 0);
    tree_remove(&t);
    return 0;
}

TASK_TEST(errors) {
    (void)arg;
    struct tree t;
    struct stat st;
    char buffer[16];
    pica_file *file = (pica_file *)(uintptr_t)1, *folder;
    tree_make(&t);
    tree_file(&t, "a", "abc", 3);
    PT_EQ(pica_file_open(&file, tree_path(&t, "none"), O_RDONLY, 0), -ENOENT);
    PT_EQ(pica_file_open(&file, tree_path(&t, "a/b"), O_RDONLY, 0), -ENOTDIR);
    PT_EQ(pica_file_open(&file, tree_path(&t, "a"), O_WRONLY | O_CREAT | O_EXCL, 0600), -EEXIST);
    PT_EQ(pica_file_open(&file, t.root, O_WRONLY, 0), -EISDIR);
    PT_CHECK(file == (pica_file *)(uintptr_t)1);
    PT_EQ(pica_file_open(NULL, "a", O_RDONLY, 0), -EINVAL);
    PT_EQ(pica_file_open(&file, NULL, O_RDONLY, 0), -EINVAL);
    PT_EQ(pica_stat(tree_path(&t, "none"), &st), -ENOENT);
    PT_EQ(pica_stat(NULL, &st), -EINVAL);
    PT_EQ(pica_lstat("/", NULL), -EINVAL);
    PT_EQ(pica_stat("/", &st), 0);
    PT_CHECK(S_ISDIR(st.st_mode));
    file = open_at(&t, "a", O_RDONLY);
    PT_EQ(pica_file_write(file, "x", 1), -EBADF);
    PT_EQ(pica_file_pwrite(file, "x", 1, 0), -EBADF);
    PT_EQ(pica_file_pread(file, buffer, 1, -1), -EINVAL);
    PT_EQ(pica_file_truncate(file, 0), -EINVAL); /* ftruncate's word for it */
    PT_EQ(pica_file_seek(file, -1, SEEK_SET), -EINVAL);
    PT_EQ(pica_file_seek(file, 0, 99), -EINVAL);
    PT_EQ(pica_file_stat(file, NULL), -EINVAL);
    PT_EQ(pica_file_read(file, buffer, (size_t)SSIZE_MAX + 1), -EINVAL);
    PT_EQ(pica_file_close(file), 0);
    file = open_at(&t, "a", O_WRONLY);
    PT_EQ(pica_file_read(file, buffer, 1), -EBADF);
    PT_EQ(pica_file_close(file), 0);
    folder = open_at(&t, "", O_RDONLY | O_DIRECTORY);
    PT_EQ(pica_file_read(folder, buffer, 1), -EISDIR);
    PT_EQ(pica_file_stat(folder, &st), 0);
    PT_CHECK(S_ISDIR(st.st_mode));
    PT_EQ(pica_file_close(folder), 0);
    tree_remove(&t);
    return 0;
}

TASK_TEST(beneath) {
    (void)arg;
    struct tree t;
    char buffer[8];
    pica_file *file = NULL;
    need_openat2();
    tree_make(&t);
    PT_REQUIRE(mkdir(tree_path(&t, "in"), 0700) == 0 && mkdir(tree_path(&t, "in/deep"), 0700) == 0);
    tree_file(&t, "out", "secret", 6);
    tree_file(&t, "in/a", "inside", 6);
    PT_REQUIRE(symlink("../out", tree_path(&t, "in/leak")) == 0);
    PT_REQUIRE(symlink("../a", tree_path(&t, "in/deep/fine")) == 0);
    PT_REQUIRE(symlink("/etc/passwd", tree_path(&t, "in/far")) == 0);
    pica_file *folder = open_at(&t, "in", O_PATH | O_DIRECTORY);
    const char *refused[] = {"../out", "deep/../../out", "/etc/passwd", "leak", "far", "..", "/"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        PT_EQ(pica_file_open_beneath(&file, folder, refused[i], O_RDONLY, 0), -EXDEV);
    }
    const char *fine[] = {"a", "./a", "deep/../a", "deep/fine", "deep//..//a"};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        PT_REQUIRE(pica_file_open_beneath(&file, folder, fine[i], O_RDONLY, 0) == 0);
        PT_EQ(pica_file_read(file, buffer, 8), 6);
        PT_EQ(memcmp(buffer, "inside", 6), 0);
        PT_EQ(pica_file_close(file), 0);
    }
    PT_EQ(pica_file_open_beneath(&file, folder, "none", O_RDONLY, 0), -ENOENT);
    PT_EQ(pica_file_open_beneath(&file, folder, "new", O_RDWR | O_CREAT, 0604), 0);
    struct stat st;
    PT_EQ(pica_file_stat(file, &st), 0);
    PT_EQ(st.st_mode & 0173, 0);
    PT_EQ(pica_file_close(file), 0);
    PT_EQ(pica_file_open_beneath(&file, NULL, "a", O_RDONLY, 0), -EINVAL);
    PT_EQ(pica_file_close(folder), 0);
    tree_remove(&t);
    return 0;
}

/* --- a full disk --- */

struct fill_test {
    struct tree *t;
    int wanted;
};

static int fill(void *arg) {
    struct fill_test *f = arg;
    enum { SIZE = 1 << 20 };
    unsigned char *all = bytes_from(0, SIZE);
    pica_file *file = open_at(f->t, "full", O_RDWR | O_CREAT);
    ssize_t n = pica_file_write(file, all, SIZE);
    PT_EQ(n, 256 << 10); /* what fits; then the reason */
    PT_EQ(pica_file_write(file, all, SIZE), f->wanted);
    PT_EQ(pica_file_pwrite(file, all, SIZE, n), f->wanted);
    struct iovec parts[2] = {{all, 100}, {all + 100, SIZE - 100}};
    PT_EQ(pica_file_pwritev(file, parts, 2, 0), n);
    /* There is room again. */
    PT_EQ(pica_file_truncate(file, 0), 0);
    PT_EQ(pica_file_pwrite(file, all, 1000, 0), 1000);
    PT_EQ(pica_file_close(file), 0);
    free(all);
    return 0;
}

PT_TEST(size_limit) {
    struct tree t;
    tree_make(&t);
    struct rlimit limit;
    PT_REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 256 << 10;
    PT_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    struct fill_test limited = {&t, -EFBIG};
    PT_EQ(pica_run(fill, &limited), 0);
    tree_remove(&t);
}

PT_TEST(full_disk) {
    struct tree t;
    tree_make(&t);
    if (mount("none", t.root, "tmpfs", 0, "size=256k") != 0) {
        tree_remove(&t);
        PT_SKIP("cannot mount a tmpfs");
    }
    struct fill_test full = {&t, -ENOSPC};
    PT_EQ(pica_run(fill, &full), 0);
    PT_EQ(umount(t.root), 0);
    tree_remove(&t);
}

PT_MAIN()
