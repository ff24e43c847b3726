/* Files. A file is an opaque handle over a descriptor. What the kernel can do at once (a read from the page
 * cache, most writes into it) is done at once; what would wait for a disk goes through the ring, and
 * suspends the task and never its worker.
 *
 * Cancellation. It is delivered at the entry, before anything is done. A read or write that the kernel has
 * begun on a disk is waited for, and its result is returned; the cancellation stays pending. PICA_ECANCELED
 * means that nothing was read, written or opened.
 *
 * Closing. The calls on a file that are under way when it is closed end first: those that wait for their
 * turn, or for the other end of a FIFO, with PICA_ECLOSED. A call must not begin after the close. */
#ifndef PICA_FILE_H
#define PICA_FILE_H

#include <pica/base.h>
#include <pica/stream.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

PICA_BEGIN_DECLS

typedef struct pica_file pica_file;

/* Opens path; flags and mode (permission bits of a file that is made, less the umask) as of open(2);
 * O_CLOEXEC is always on. A relative path begins at the process's current directory. *out is ended by
 * pica_file_close or pica_file_release; a file that is still open when its runtime ends is closed by that,
 * and the handle then can only be released. Opening never waits for the other end of a
 * FIFO: it is as with O_NONBLOCK (-ENXIO without a reader; reads find the end as long as there is no writer), but
 * reads and writes then wait. Suspends. Task. Errors of open(2), -EINVAL (out or path NULL), -ENOMEM,
 * PICA_ENOTASK, PICA_ECANCELED (nothing is open; a file may have been made by O_CREAT). */
PICA_API int pica_file_open(pica_file **out, const char *path, int flags, unsigned mode);
/* The same for a path that begins at, and must not lead out of, an open directory: neither by "..", nor by
 * an absolute path, nor by a symbolic link (openat2(2) with RESOLVE_BENEATH). -EXDEV if it would. What
 * servers should use for the names that clients send. */
PICA_API int pica_file_open_beneath(pica_file **out, pica_file *directory, const char *path, int flags,
                                    unsigned mode);

/* Reads at the handle's own position and moves it. Calls of several tasks take their turns. From a regular
 * file size bytes, fewer only at its end (0: nothing left) or if an error came after some bytes, which the
 * next call then meets; from others (FIFOs, devices) what there is. size is at most SSIZE_MAX. Suspends.
 * Task. Errors of read(2) (-EISDIR, -EIO, -EBADF if not opened for it, ...), -EINVAL, PICA_ECLOSED,
 * PICA_ENOTASK, PICA_ECANCELED (nothing was read, the position has not moved). With O_NONBLOCK: -EAGAIN. */
PICA_API ssize_t pica_file_read(pica_file *file, void *buffer, size_t size);
/* Writes all of it at the handle's own position (with O_APPEND: at the end): size, or fewer if an error or a
 * cancellation came after some bytes were written, which then the next call meets, or a negative error,
 * with nothing written: those of write(2) (-ENOSPC, -EFBIG, -EDQUOT, -EIO, ...), and as pica_file_read.
 * Another handle's or process's writes may come between the pieces of one that the kernel splits.
 * Signals as of write(2): SIGXFSZ above RLIMIT_FSIZE, SIGPIPE for a FIFO without readers; ignore them. */
PICA_API ssize_t pica_file_write(pica_file *file, const void *buffer, size_t size);
/* The same at an offset (>= 0, else -EINVAL), without the position: calls of several tasks run at the same
 * time. -ESPIPE for what has no offsets. With O_APPEND a pwrite appends, whatever its offset (pwrite(2)). */
PICA_API ssize_t pica_file_pread(pica_file *file, void *buffer, size_t size, int64_t offset);
PICA_API ssize_t pica_file_pwrite(pica_file *file, const void *buffer, size_t size, int64_t offset);
/* The same for 1 to 64 buffers. */
PICA_API ssize_t pica_file_preadv(pica_file *file, const struct iovec *buffers, int count, int64_t offset);
PICA_API ssize_t pica_file_pwritev(pica_file *file, const struct iovec *buffers, int count, int64_t offset);
/* Moves the position (whence: SEEK_SET, SEEK_CUR, SEEK_END) and returns it. Waits for its turn like a read.
 * Suspends. Task. -EINVAL, -ESPIPE, PICA_ECLOSED, PICA_ENOTASK, PICA_ECANCELED. */
PICA_API int64_t pica_file_seek(pica_file *file, int64_t offset, int whence);

/* Returns when what was written is on the disk; data_only: without what is not needed to read it again, such
 * as times (fdatasync). Suspends. Task. 0, -EIO, -ENOSPC, -EDQUOT (what was written may be lost), -EINVAL
 * (a FIFO or the like), PICA_ECLOSED, PICA_ENOTASK, PICA_ECANCELED (it may be on the disk or not). */
PICA_API int pica_file_fsync(pica_file *file, int data_only);
/* Sets the size; what is new reads as zeros. Suspends. Task. Errors of ftruncate(2), as above. */
PICA_API int pica_file_truncate(pica_file *file, int64_t size);
/* What fstat(2), stat(2) and lstat(2) tell. Suspend. Task. 0, their errors, PICA_ECLOSED (a file's),
 * PICA_ENOTASK, PICA_ECANCELED. */
PICA_API int pica_file_stat(pica_file *file, struct stat *st);
PICA_API int pica_stat(const char *path, struct stat *st);
PICA_API int pica_lstat(const char *path, struct stat *st);

/* Closes the file, after the calls on it that are under way have ended, and frees the handle, whatever it
 * returns: 0 or an error of close(2) (-EIO, -ENOSPC, -EDQUOT: what was written before may be lost; local
 * file systems tell such things at pica_file_fsync only); PICA_ENOTASK outside a task (then nothing was
 * done). Not cut short by a cancellation, which stays pending. NULL is allowed. Suspends. Task. */
PICA_API int pica_file_close(pica_file *file);
/* The same without waiting and without a report: calls that are under way close it when they have ended,
 * else it is closed here. Fit to be a pica_destroy. NULL is allowed. Does not suspend. Any thread. */
PICA_API void pica_file_release(pica_file *file);

/* Sends count bytes of the file from offset on (SIZE_MAX: to its end) behind everything that was written to
 * the writer before; what is written meanwhile follows them. The bytes go from the page cache to the socket
 * without a copy (sendfile(2)); what is not in the page cache, or in a file that sendfile refuses, is read
 * through the ring and sent from a buffer, so that a slow disk holds up this task only. A fast peer gets
 * 256 KiB in a turn. Suspends until the kernel has taken all of it, which is its own back-pressure: no drain
 * is needed for it. A cork does not hold it back. pica_writer_close lets it end first; pica_writer_abort
 * ends it with PICA_ECLOSED. Task.
 *
 * Returns the number of bytes sent: count, or fewer if the file ended before. Else an error: -EINVAL (a
 * negative offset), PICA_ECLOSED (the file or the writer), the connection's error once it is lost, those of
 * reading the file (-EISDIR, -EIO), -EBUSY (somebody waits to send on the socket itself), -ENOMEM,
 * PICA_ENOTASK, PICA_ECANCELED. *sent (may be NULL) tells in every case how many bytes the connection has
 * taken: unless it is 0, a peer that was promised count bytes cannot make sense of what would follow an
 * error, so abort then. */
PICA_API ssize_t pica_writer_sendfile(pica_writer *writer, pica_file *file, int64_t offset, size_t count,
                                      size_t *sent);

PICA_END_DECLS
#endif
