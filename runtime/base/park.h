/* How threads that are no workers sleep and are woken: a futex on a 32-bit word. Workers sleep in
 * their engine. One of the seams that a simulator replaces.
 */
#ifndef PICA__RUNTIME_BASE_PARK_H
#define PICA__RUNTIME_BASE_PARK_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word == expected, until a wake, or until `deadline` (ns of pica__now; INT64_MAX: none).
 * May return early without reason: the caller looks at its condition in a loop. */
void pica__park_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);
/* Wakes all that sleep on word. Async-signal-safe. */
void pica__park_wake(_Atomic uint32_t *word);

#endif
