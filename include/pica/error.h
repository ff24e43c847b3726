/* Error objects: a message and a cause beside a negative code. They are optional; the fast path
 * carries the bare code and allocates nothing. An error object travels with the task: pica_fail
 * stores it in the current task, and when the task ends with that code the object becomes the
 * exception of its future. */
#ifndef PICA_ERROR_H
#define PICA_ERROR_H

#include <pica/base.h>

PICA_BEGIN_DECLS

typedef struct pica_error pica_error;

/* Makes an error object with one reference. code: negative. cause: may be NULL; the new object
 * takes a reference of its own. Returns NULL if there is no memory. Any thread. */
PICA_API pica_error *pica_error_new(int code, pica_error *cause, const char *format, ...)
    PICA_PRINTF(3, 4);
PICA_API pica_error *pica_error_ref(pica_error *error);
/* NULL is allowed. */
PICA_API void pica_error_unref(pica_error *error);
PICA_API int pica_error_code(const pica_error *error);
/* Valid as long as the object. */
PICA_API const char *pica_error_message(const pica_error *error);
/* Borrowed; NULL if there is none. */
PICA_API pica_error *pica_error_cause(const pica_error *error);

/* Stores an error object in the current task and returns code, so that a coroutine can write
 * `return pica_fail(rc, "config %s", path);`. The error that the task carried before becomes the
 * cause if its code is the same, and is dropped otherwise. Without memory, or outside a task, only
 * the code is returned. Does not suspend. Any thread. */
PICA_API int pica_fail(int code, const char *format, ...) PICA_PRINTF(2, 3);
/* The error object that the current task carries, borrowed until the next pica_fail or await;
 * NULL if there is none. pica_await of a future that failed with an error object sets it. */
PICA_API pica_error *pica_current_error(void);

PICA_END_DECLS
#endif
