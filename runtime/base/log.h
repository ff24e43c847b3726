/*
 * The log: short lines about what the user of the program should know. Levels are the public
 * PICA_LOG_*. Threshold and hook belong to the process. May be called from any thread and from a
 * task (it never suspends), not from a signal handler.
 */
#ifndef PICA__RUNTIME_BASE_LOG_H
#define PICA__RUNTIME_BASE_LOG_H

#include <pica/base.h>

#include "runtime/base/compiler.h"

/*
 * Writes one line, cut at about 1000 bytes, to the hook, or as "pica: LEVEL: text" to stderr by one
 * write(2). Needs about 2 KiB of stack. `fmt` without a newline at its end.
 */
void pica__log(int level, const char *fmt, ...) PICA__PRINTF(2, 3);

/* Lines above this level are dropped. The default is PICA_LOG_WARN. Any thread. */
void pica__log_set_level(int level);

/*
 * Lines go to `hook` instead of stderr; NULL puts stderr back. Any thread. The hook is called from
 * whatever thread logs, several at once if need be; one that was already entered may still be
 * running when this call returns. It must not suspend.
 */
void pica__log_set_hook(void (*hook)(void *ctx, int level, const char *text), void *ctx);

#endif
