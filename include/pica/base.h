/* Version, export macros, result codes, and the types that every other header uses.
 *
 * Results. A fallible call returns an int (or a long count): zero or more is success, a negative
 * value is an error, either a negated errno value or one of the PICA_E... codes below, which lie
 * beyond the range of errno. No call reports through errno: a task may continue on another thread
 * after any suspension, and errno does not follow it.
 *
 * Words used in every comment:
 *   suspends      the call may let other tasks run, and the task may continue on another thread;
 *                 such a call made outside a task returns PICA_ENOTASK
 *   any thread    callable from every thread of the process, also ones that Pica did not make
 *   runtime       callable from tasks and from callbacks of a loop, not from other threads
 *   task          callable from tasks only
 */
#ifndef PICA_BASE_H
#define PICA_BASE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#define PICA_VERSION_MAJOR 0
#define PICA_VERSION_MINOR 1
#define PICA_VERSION_PATCH 0
#define PICA_VERSION_STRING "0.1.0"

#ifdef __cplusplus
#define PICA_BEGIN_DECLS extern "C" {
#define PICA_END_DECLS }
#else
#define PICA_BEGIN_DECLS
#define PICA_END_DECLS
#endif

/* Calls of the library go through the program's table of addresses, without a stub in between (gcc; clang has
 * -fno-plt). */
#if defined(__has_attribute)
#if __has_attribute(noplt)
#define PICA_API __attribute__((visibility("default"), noplt))
#endif
#endif
#ifndef PICA_API
#define PICA_API __attribute__((visibility("default")))
#endif
#define PICA_PRINTF(position, first) __attribute__((format(printf, position, first)))
/* Marks a call whose result must be looked at. */
#define PICA_MUST_CHECK __attribute__((warn_unused_result))

PICA_BEGIN_DECLS

/* The task or the future was cancelled. */
#define PICA_ECANCELED (-ECANCELED)
/* A time limit passed: pica_timeout_exit, pica_wait_for, or the system's own ETIMEDOUT. */
#define PICA_ETIMEDOUT (-ETIMEDOUT)

enum {
    PICA_EINVALSTATE = -4501, /* future: already done, or not done yet (InvalidStateError) */
    PICA_ECLOSED = -4502,     /* the object was closed, by the caller's side */
    PICA_ENOTASK = -4503,     /* a suspending call outside a task */
    PICA_EFORKED = -4504,     /* the runtime belongs to the parent of a fork */
    PICA_EINCOMPLETE = -4505, /* the stream ended before enough bytes came (IncompleteReadError) */
    PICA_ESHUTDOWN = -4506    /* the queue was shut down (QueueShutDown) */
};

/* A coroutine: a plain C function that may call whatever suspends. Negative results are errors;
 * zero or more is the result; a larger result goes through pica_return. C++: exceptions are caught
 * inside, also across suspensions; one that would leave the function ends the process, by
 * std::terminate, after a line in the log that names the task. pthread_exit, or pthread_cancel of the
 * thread, ends it too: the thread is the runtime's. */
typedef int (*pica_fn)(void *arg);
/* A callback of a loop: runs on the loop's own stack, must not suspend. */
typedef void (*pica_callback)(void *arg);
/* Releases a value that was handed over. */
typedef void (*pica_destroy)(void *value);

/* Infinite time limit. */
#define PICA_FOREVER (__builtin_inf())

/* The version of the library that runs, as "major.minor.patch". Any thread. */
PICA_API const char *pica_version(void);

/* A short English text for a result code, never NULL; static storage. Any thread. */
PICA_API const char *pica_strerror(int code);
/* The name of a code, as "ECANCELED" or "PICA_ECLOSED"; "unknown" otherwise. Any thread. */
PICA_API const char *pica_err_name(int code);

/* Memory functions to be used in place of the process's own. All three must be given; they are
 * called from several threads at once. alloc and realloc return NULL when there is no memory. */
struct pica_allocator {
    void *(*alloc)(void *ctx, size_t size);
    void *(*realloc)(void *ctx, void *p, size_t old_size, size_t size);
    void (*free)(void *ctx, void *p, size_t size);
    void *ctx;
};

enum { PICA_LOG_ERROR = 0, PICA_LOG_WARN = 1, PICA_LOG_INFO = 2, PICA_LOG_DEBUG = 3 };

/* True if addr lies in the guard below a stack of this library. For programs with a SIGSEGV
 * handler of their own: such a fault is a stack overflow. Any thread, async-signal-safe. */
PICA_API int pica_is_stack_guard(const void *addr);

PICA_END_DECLS
#endif
