/*
 * Files in memory: see disk.h. Names are compared as they are given, without looking at links or "..".
 */
#include "runtime/base/sim/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/sim/net.h"

enum { PATH_BYTES = 4096 };
#define SIZE_LIMIT ((int64_t)1 << 30)

struct pica__sim_inode {
    pica__link link;
    char *path;    /* NULL: unlinked */
    char *data;
    size_t size;
    size_t capacity;
    unsigned mode; /* with its type */
    unsigned refs; /* open files, and one for the path */
    uint64_t number;
};

static pica__link inodes;
static uint64_t last_number;

static void inodes_begin(void) {
    if (inodes.next == NULL) {
        pica__list_init(&inodes);
    }
}

static void inode_drop(pica__sim_inode *inode) {
    if (--inode->refs == 0) {
        pica__list_remove(&inode->link);
        free(inode->path);
        free(inode->data);
        free(inode);
    }
}

void pica__sim_disk_end(void) {
    inodes_begin();
    pica__link *l;
    while ((l = pica__list_first(&inodes)) != NULL) {
        pica__sim_inode *inode = PICA__CONTAINER_OF(l, pica__sim_inode, link);
        inode->refs = 1;
        inode_drop(inode);
    }
    last_number = 0;
}

static pica__sim_inode *inode_named(const char *path) {
    for (pica__link *l = inodes.next; l != &inodes; l = l->next) {
        pica__sim_inode *inode = PICA__CONTAINER_OF(l, pica__sim_inode, link);
        if (inode->path != NULL && strcmp(inode->path, path) == 0) {
            return inode;
        }
    }
    return NULL;
}

/* mode 0: remembers that the file was unlinked, so that it is not copied from the disk again. */
static pica__sim_inode *inode_make(const char *path, unsigned mode) {
    pica__sim_inode *gone = inode_named(path);
    if (gone != NULL) {
        gone->mode = mode;
        return gone;
    }
    pica__sim_inode *inode = calloc(1, sizeof *inode);
    if (inode == NULL || (inode->path = strdup(path)) == NULL) {
        free(inode);
        return NULL;
    }
    inode->mode = mode;
    inode->refs = 1;
    inode->number = ++last_number;
    pica__list_push_back(&inodes, &inode->link);
    return inode;
}

static int inode_grow(pica__sim_inode *inode, size_t size) {
    if (size > inode->capacity) {
        size_t capacity = size < 256 ? 256 : size * 2;
        char *data = realloc(inode->data, capacity);
        if (data == NULL) {
            return -ENOSPC;
        }
        memset(data + inode->capacity, 0, capacity - inode->capacity);
        inode->data = data;
        inode->capacity = capacity;
    }
    if (size > inode->size) {
        inode->size = size;
    }
    return 0;
}

/* A copy of what is on the disk; NULL: nothing, or nothing that can be copied. */
static pica__sim_inode *inode_copy(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
        return NULL;
    }
    pica__sim_inode *inode = inode_make(path, st.st_mode);
    if (inode == NULL || S_ISDIR(st.st_mode)) {
        return inode;
    }
    FILE *from = fopen(path, "rb");
    char buffer[4096];
    size_t n;
    while (from != NULL && (n = fread(buffer, 1, sizeof buffer, from)) > 0) {
        size_t at = inode->size;
        if (inode_grow(inode, at + n) < 0) {
            break;
        }
        memcpy(inode->data + at, buffer, n);
    }
    if (from != NULL) {
        (void)fclose(from);
    }
    return inode;
}

static pica__sim_inode *inode_at(const char *path) {
    inodes_begin();
    pica__sim_inode *inode = inode_named(path);
    if (inode != NULL) {
        return inode->mode != 0 ? inode : NULL;
    }
    return inode_copy(path);
}

static int full_path(char *out, const pica__sim_file *dir, const char *path) {
    const char *base = dir == NULL || path[0] == '/' ? "" : dir->inode->path;
    const char *slash = base[0] != 0 && path[0] != 0 ? "/" : "";
    int n = snprintf(out, PATH_BYTES, "%s%s%s", base, slash, path);
    return n >= PATH_BYTES ? -ENAMETOOLONG : 0;
}

int pica__sim_disk_open(pica__sim_file **out, int dir, const char *path, int flags, unsigned mode) {
    char full[PATH_BYTES];
    int rc = full_path(full, dir == AT_FDCWD ? NULL : pica__sim_file_of(dir), path);
    if (rc < 0) {
        return rc;
    }
    pica__sim_inode *inode = inode_at(full);
    if (inode == NULL && (flags & O_CREAT) == 0) {
        return -ENOENT;
    }
    if (inode != NULL && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
        return -EEXIST;
    }
    if (inode != NULL && S_ISDIR(inode->mode) && (flags & O_ACCMODE) != O_RDONLY) {
        return -EISDIR;
    }
    if (inode != NULL && !S_ISDIR(inode->mode) && (flags & O_DIRECTORY) != 0) {
        return -ENOTDIR;
    }
    if (pica__sim_fault(PICA_SIM_EIO)) {
        return -EIO;
    }
    if (inode == NULL && (inode = inode_make(full, S_IFREG | (mode & 07777))) == NULL) {
        return -ENOSPC;
    }
    rc = pica__sim_file_open(out, PICA__SIM_DISK);
    if (rc < 0) {
        return rc;
    }
    if ((flags & O_TRUNC) != 0 && S_ISREG(inode->mode)) {
        inode->size = 0;
    }
    inode->refs++;
    (*out)->inode = inode;
    (*out)->flags = flags;
    return rc;
}

void pica__sim_disk_close(pica__sim_file *file) {
    if (file->inode != NULL) {
        inode_drop(file->inode);
    }
}

static size_t parts_size(const struct iovec *parts, int count) {
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += parts[i].iov_len;
    }
    return total;
}

/* Where a transfer begins, and how much it moves, which may be less than asked for. */
static size_t transfer_size(size_t wanted, enum pica_sim_fault kind) {
    return wanted > 1 && pica__sim_fault(kind)
               ? 1 + pica__sim_draw(PICA__SIM_WORLD, (uint32_t)(wanted > 65536 ? 65535 : wanted - 1))
               : wanted;
}

ssize_t pica__sim_disk_read(pica__sim_file *file, const struct iovec *parts, int count,
                            int64_t offset) {
    pica__sim_inode *inode = file->inode;
    if (S_ISDIR(inode->mode)) {
        return -EISDIR;
    }
    if ((file->flags & O_ACCMODE) == O_WRONLY) {
        return -EBADF;
    }
    if (pica__sim_fault(PICA_SIM_EIO)) {
        return -EIO;
    }
    int64_t at = offset < 0 ? file->position : offset;
    size_t there = (uint64_t)at < inode->size ? inode->size - (size_t)at : 0;
    size_t wanted = parts_size(parts, count);
    wanted = transfer_size(wanted < there ? wanted : there, PICA_SIM_SHORT_READ);
    size_t done = 0;
    for (int i = 0; done < wanted; i++) {
        size_t n = parts[i].iov_len < wanted - done ? parts[i].iov_len : wanted - done;
        memcpy(parts[i].iov_base, inode->data + at + done, n);
        done += n;
    }
    file->position = offset < 0 ? at + (int64_t)done : file->position;
    return (ssize_t)done;
}

ssize_t pica__sim_disk_write(pica__sim_file *file, const struct iovec *parts, int count,
                             int64_t offset) {
    pica__sim_inode *inode = file->inode;
    if ((file->flags & O_ACCMODE) == O_RDONLY) {
        return -EBADF;
    }
    if (pica__sim_fault(PICA_SIM_EIO)) {
        return -EIO;
    }
    if (pica__sim_fault(PICA_SIM_ENOSPC)) {
        return -ENOSPC;
    }
    int64_t at = offset < 0 ? file->position : offset;
    at = (file->flags & O_APPEND) != 0 ? (int64_t)inode->size : at;
    size_t wanted = transfer_size(parts_size(parts, count), PICA_SIM_SHORT_WRITE);
    if (at > SIZE_LIMIT || wanted > (size_t)(SIZE_LIMIT - at)) {
        return -EFBIG;
    }
    if (wanted > 0 && inode_grow(inode, (size_t)at + wanted) < 0) {
        return -ENOSPC;
    }
    size_t done = 0;
    for (int i = 0; done < wanted; i++) {
        size_t n = parts[i].iov_len < wanted - done ? parts[i].iov_len : wanted - done;
        memcpy(inode->data + at + done, parts[i].iov_base, n);
        done += n;
    }
    file->position = offset < 0 ? at + (int64_t)done : file->position;
    return (ssize_t)done;
}

int pica__sim_disk_truncate(pica__sim_file *file, int64_t size) {
    if (size < 0 || (file->flags & O_ACCMODE) == O_RDONLY) {
        return -EINVAL;
    }
    if (size > SIZE_LIMIT) {
        return -EFBIG;
    }
    pica__sim_inode *inode = file->inode;
    if ((size_t)size < inode->size) {
        memset(inode->data + size, 0, inode->size - (size_t)size);
        inode->size = (size_t)size;
        return 0;
    }
    return inode_grow(inode, (size_t)size);
}

int64_t pica__sim_disk_seek(pica__sim_file *file, int64_t offset, int whence) {
    int64_t base = whence == SEEK_SET ? 0
                   : whence == SEEK_CUR ? file->position : (int64_t)file->inode->size;
    if (base + offset < 0) {
        return -EINVAL;
    }
    file->position = base + offset;
    return file->position;
}

static void fill_statx(const pica__sim_inode *inode, struct statx *st) {
    memset(st, 0, sizeof *st);
    st->stx_mask = STATX_BASIC_STATS;
    st->stx_mode = (uint16_t)inode->mode;
    st->stx_size = inode->size;
    st->stx_ino = inode->number;
    st->stx_nlink = inode->path != NULL;
    st->stx_blksize = 4096;
    st->stx_mtime.tv_sec = 1000000000; /* of all files: the simulated clock is no date */
    st->stx_atime = st->stx_ctime = st->stx_btime = st->stx_mtime;
}

int pica__sim_disk_statx(pica__sim_file *file, const char *path, struct statx *st) {
    if (file != NULL && path[0] == 0) {
        fill_statx(file->inode, st);
        return 0;
    }
    char full[PATH_BYTES];
    int rc = full_path(full, file, path);
    pica__sim_inode *inode = rc < 0 ? NULL : inode_at(full);
    if (inode == NULL) {
        return rc < 0 ? rc : -ENOENT;
    }
    fill_statx(inode, st);
    return 0;
}

unsigned pica__sim_disk_mode(const pica__sim_file *file) {
    return file->inode->mode & S_IFMT;
}

int pica__sim_disk_lstat(const char *path, struct stat *st) {
    pica__sim_inode *inode = inode_at(path);
    if (inode == NULL) {
        return -ENOENT;
    }
    memset(st, 0, sizeof *st);
    st->st_mode = inode->mode;
    st->st_size = (off_t)inode->size;
    st->st_ino = (ino_t)inode->number;
    st->st_nlink = 1;
    return 0;
}

int pica__sim_disk_unlink(const char *path) {
    pica__sim_inode *inode = inode_at(path);
    if (inode == NULL) {
        return -ENOENT;
    }
    if (S_ISDIR(inode->mode)) {
        return -EISDIR;
    }
    free(inode->path);
    inode->path = NULL;
    inode_drop(inode);
    return inode_make(path, 0) != NULL ? 0 : -ENOMEM;
}

int pica__sim_disk_chmod(const char *path) {
    return inode_at(path) != NULL ? 0 : -ENOENT;
}

int pica__sim_disk_put(const char *path, const void *data, size_t size) {
    inodes_begin();
    pica__sim_inode *inode = inode_at(path);
    if (inode == NULL) {
        inode = inode_make(path, S_IFREG | 0644);
    }
    if (inode == NULL) {
        return -ENOMEM;
    }
    inode->size = 0;
    if (size > 0) {
        if (inode_grow(inode, size) < 0) {
            return -ENOMEM;
        }
        memcpy(inode->data, data, size);
    }
    return 0;
}
