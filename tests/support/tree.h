/* A folder of its own for a test, files in it, and their bytes. */
#ifndef TREE_H
#define TREE_H

#include <pica.h>

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/pt.h"

struct tree {
    char root[64];
    char path[256]; /* what tree_path returned last */
};

static inline void tree_make(struct tree *t) {
    const char *folder = getenv("TMPDIR");
    snprintf(t->root, sizeof t->root, "%s/pica-tree-XXXXXX", folder != NULL ? folder : "/tmp");
    PT_REQUIRE(mkdtemp(t->root) != NULL);
}

/* Valid until the next call. */
static inline const char *tree_path(struct tree *t, const char *name) {
    int n = snprintf(t->path, sizeof t->path, "%s/%s", t->root, name);
    PT_REQUIRE(n > 0 && (size_t)n < sizeof t->path);
    return t->path;
}

static inline int tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void tree_remove(struct tree *t) {
    PT_EQ(nftw(t->root, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* A file with these bytes, made without the library. */
static inline void tree_file(struct tree *t, const char *name, const void *data, size_t size) {
    int fd = open(tree_path(t, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    PT_REQUIRE(fd >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        PT_REQUIRE(n > 0);
        done += (size_t)n;
    }
    PT_REQUIRE(close(fd) == 0);
}

/* Puts a file's pages out of the cache, as far as the file system has a disk. */
static inline void tree_uncache(struct tree *t, const char *name) {
    int fd = open(tree_path(t, name), O_RDONLY | O_CLOEXEC);
    PT_REQUIRE(fd >= 0);
    PT_REQUIRE(fsync(fd) == 0);
    PT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    PT_REQUIRE(close(fd) == 0);
}

static inline pica_file *open_at(struct tree *t, const char *name, int flags) {
    pica_file *file = NULL;
    PT_EQ(pica_file_open(&file, tree_path(t, name), flags, 0640), 0);
    PT_REQUIRE(file != NULL);
    return file;
}

/* A stream of bytes that everybody can compute. */
static inline unsigned char byte_at(size_t at) {
    return (unsigned char)((at * 2654435761u) >> 13);
}

static inline unsigned char *bytes_from(size_t at, size_t size) {
    unsigned char *all = malloc(size);
    PT_REQUIRE(all != NULL);
    for (size_t i = 0; i < size; i++) {
        all[i] = byte_at(at + i);
    }
    return all;
}

static inline bool bytes_right(const unsigned char *data, size_t at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (data[i] != byte_at(at + i)) {
            return PT_FAIL("byte %zu is wrong", at + i);
        }
    }
    return true;
}

#endif
