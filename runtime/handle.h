/* What a closing loop does with the user's calls that will not run any more: handle.c, async.c
 * and future.c. Each does nothing with calls that are not its own. */
#ifndef PICA__RUNTIME_HANDLE_H
#define PICA__RUNTIME_HANDLE_H

#include "runtime/loop.h"

void pica__handle_drop(pica__call *call);
void pica__handle_drop_timer(pica__timer *timer);
void pica__async_drop(pica__call *call);
void pica__done_callback_drop(pica__call *call);

#endif
