/* Pica: a multithreaded, work-stealing async runtime for Linux. This header includes the whole
 * public interface; each header below can be included alone. All of it is C11 and C++17. */
#ifndef PICA_H
#define PICA_H

#include <pica/base.h>
#include <pica/error.h>
#include <pica/runtime.h>
#include <pica/future.h>
#include <pica/task.h>
#include <pica/timeout.h>
#include <pica/loop.h>
#include <pica/thread.h>
#include <pica/sync.h>
#include <pica/net.h>
#include <pica/stream.h>
#include <pica/executor.h>
#include <pica/names.h>
#include <pica/poll.h>
#include <pica/signal.h>
#include <pica/process.h>
#include <pica/datagram.h>
#include <pica/debug.h>
#include <pica/file.h>
#include <pica/testing.h>

#endif
