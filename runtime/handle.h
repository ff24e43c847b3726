/* What a closing loop does with the user's calls that will not run any more: handle.c, async.c
 * and future.c. False, and nothing is done, for a call that is not theirs. */
#ifndef PICA__RUNTIME_HANDLE_H
#define PICA__RUNTIME_HANDLE_H

#include "runtime/loop.h"

bool pica__handle_drop(pica__call *call);
void pica__handle_drop_timer(pica__timer *timer);
bool pica__async_drop(pica__call *call);
bool pica__done_callback_drop(pica__call *call);

#endif
