/*
 * Files in memory. One that exists on the disk is copied at its first use; nothing is written back.
 */
#ifndef PICA__RUNTIME_BASE_SIM_DISK_H
#define PICA__RUNTIME_BASE_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct stat;
struct statx;
struct pica__sim_file;
typedef struct pica__sim_inode pica__sim_inode;

/* Results as of the system calls; *out is new. dir: AT_FDCWD or a simulated directory. */
int pica__sim_disk_open(struct pica__sim_file **out, int dir, const char *path, int flags, unsigned mode);
void pica__sim_disk_close(struct pica__sim_file *file);
/* offset -1: at the position. Faults: EIO, ENOSPC, less than asked for. */
ssize_t pica__sim_disk_read(struct pica__sim_file *file, const struct iovec *parts, int count, int64_t offset);
ssize_t pica__sim_disk_write(struct pica__sim_file *file, const struct iovec *parts, int count, int64_t offset);
int pica__sim_disk_truncate(struct pica__sim_file *file, int64_t size);
int64_t pica__sim_disk_seek(struct pica__sim_file *file, int64_t offset, int whence);
/* file: the directory of a relative path, or what is asked about (path is ""); NULL: AT_FDCWD. */
int pica__sim_disk_statx(struct pica__sim_file *file, const char *path, struct statx *st);
unsigned pica__sim_disk_mode(const struct pica__sim_file *file);
int pica__sim_disk_lstat(const char *path, struct stat *st);
int pica__sim_disk_unlink(const char *path);
int pica__sim_disk_chmod(const char *path);
/* Makes or replaces a file. */
int pica__sim_disk_put(const char *path, const void *data, size_t size);
void pica__sim_disk_end(void);

/* Processes: child.c. */
bool pica__sim_child_ended(const struct pica__sim_file *file);
void pica__sim_child_unwatch(struct pica__sim_file *file);

#endif
