/* How threads that are no workers sleep and are woken: a futex on a 32-bit word. Workers sleep in
 * their engine. One of the seams that a simulator replaces.
 */
#ifndef PICA__RUNTIME_BASE_PARK_H
#define PICA__RUNTIME_BASE_PARK_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/base/compiler.h"

#if PICA__TSAN
#include <string.h>
#endif

/* Sleeps while *word == expected, until a wake, or until `deadline` (ns of pica__now; INT64_MAX: none).
 * May return early without reason: the caller looks at its condition in a loop. */
void pica__park_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);
/* ThreadSanitizer keeps a signal back until the context that it hit makes a call that it knows. By one that has slept
 * in a call that it does not know, or may never run again: makes one. */
static inline void pica__park_signals(void) {
#if PICA__TSAN
    size_t (*volatile known)(const char *) = strlen; /* so that it is called */
    (void)known("");
#endif
}
/* Wakes all that sleep on word. Async-signal-safe. */
void pica__park_wake(_Atomic uint32_t *word);

#endif
