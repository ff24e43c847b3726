/*
 * Assertions of internal invariants. They stay on in release builds: a runtime that goes on after
 * its own state is wrong corrupts its user's data. Never use them on what a caller, a peer or the
 * system can cause; that is an error code.
 */
#ifndef PICA__RUNTIME_BASE_CHECK_H
#define PICA__RUNTIME_BASE_CHECK_H

#include "runtime/base/compiler.h"

/* Prints "pica: FILE:LINE: broken invariant: EXPR" to stderr and aborts. Needs little stack. */
PICA__NORETURN PICA__COLD void pica__check_failed(const char *expr, const char *file, int line);

#define PICA__CHECK(cond) \
    (PICA__LIKELY(cond) ? (void)0 : pica__check_failed(#cond, __FILE__, __LINE__))

/* A place that control never reaches; aborts like a failed check if it does. */
#define PICA__UNREACHABLE() pica__check_failed("unreachable", __FILE__, __LINE__)

#endif
