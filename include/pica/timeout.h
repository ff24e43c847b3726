/* Time-out scopes: a limit on everything that the current task does between enter and exit,
 * without a task or an allocation of its own.
 *
 *     pica_timeout t;
 *     int rc = pica_timeout_enter(&t, 5.0);
 *     if (rc == 0) {
 *         rc = read_request(...);
 *         rc = pica_timeout_exit(&t, rc);      // PICA_ETIMEDOUT if the limit cut it short
 *     }
 */
#ifndef PICA_TIMEOUT_H
#define PICA_TIMEOUT_H

#include <pica/base.h>

PICA_BEGIN_DECLS

/* Lies in the caller's frame. Its members are the library's. */
typedef struct pica_timeout {
    uint64_t opaque[12];
} pica_timeout;

/* Opens a scope that cancels the current task when limit seconds have passed. limit <= 0 cancels
 * at the next suspension; PICA_FOREVER never. It is never early; a limit of a second or more may be late by
 * 1/64 of it where many are entered and left one after the other (they share looks at the clock), not in fifo order
 * or simulated time. Scopes nest and must be left in reverse order, by the same task. Does not suspend. Task.
 * 0, or PICA_ENOTASK, -EINVAL (NaN), -ENOMEM. */
PICA_API int pica_timeout_enter(pica_timeout *timeout, double limit);
/* Leaves the scope. rc: the result of the body. Returns PICA_ETIMEDOUT if the scope expired, rc is
 * PICA_ECANCELED, and nobody else cancelled the task meanwhile; else rc. After this call no cancel
 * of this scope can arrive. Does not suspend. */
PICA_API int pica_timeout_exit(pica_timeout *timeout, int rc);
/* 1 if the limit has passed and the task was cancelled by it. */
PICA_API int pica_timeout_expired(const pica_timeout *timeout);
/* Moves the limit to limit seconds from now. 0; PICA_EINVALSTATE if it expired; -EINVAL;
 * -ENOMEM. */
PICA_API int pica_timeout_reschedule(pica_timeout *timeout, double limit);

PICA_END_DECLS
#endif
