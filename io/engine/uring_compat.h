/* Constants of the io_uring interface that are newer than the packaged liburing 2.3, and nothing
 * else. All of them are optional: each is tried, or looked up, at run time.
 */
#ifndef PICA__IO_ENGINE_URING_COMPAT_H
#define PICA__IO_ENGINE_URING_COMPAT_H

#include <liburing.h>

#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif
/* Linux 6.15: a wait that does not count as waiting for I/O in the load figures. */
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif

/* IORING_OP_FTRUNCATE, Linux 6.9: an enumerator, so there is no telling whether the header has it. */
#define PICA__URING_OP_FTRUNCATE 55

#endif
