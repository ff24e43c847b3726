/* Error objects: a code, a message, a cause. Immutable once made, so only the count is atomic. */
#include "runtime/error.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "runtime/base/alloc.h"
#include "runtime/task.h"

struct pica_error {
    _Atomic uint32_t refs; /* added relaxed, dropped acq_rel by any holder */
    int code;
    pica_error *cause;     /* owned */
    size_t size;           /* of the allocation */
    char message[];
};

__attribute__((format(printf, 3, 0))) static pica_error *error_make(int code, pica_error *cause,
                                                                   const char *format,
                                                                   va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        return NULL;
    }
    size_t size = sizeof(pica_error) + (size_t)length + 1;
    pica_error *error = pica__alloc(size);
    if (error == NULL) {
        return NULL;
    }
    atomic_init(&error->refs, 1);
    error->code = code;
    error->cause = cause == NULL ? NULL : pica_error_ref(cause);
    error->size = size;
    (void)vsnprintf(error->message, (size_t)length + 1, format, args);
    return error;
}

pica_error *pica_error_new(int code, pica_error *cause, const char *format, ...) {
    va_list args;
    va_start(args, format);
    pica_error *error = error_make(code, cause, format, args);
    va_end(args);
    return error;
}

pica_error *pica_error_ref(pica_error *error) {
    atomic_fetch_add_explicit(&error->refs, 1, memory_order_relaxed);
    return error;
}

void pica_error_unref(pica_error *error) {
    /* A loop, not a recursion: a chain of causes can be long. */
    while (error != NULL &&
           atomic_fetch_sub_explicit(&error->refs, 1, memory_order_acq_rel) == 1) {
        pica_error *cause = error->cause;
        pica__free(error, error->size);
        error = cause;
    }
}

int pica_error_code(const pica_error *error) {
    return error->code;
}

const char *pica_error_message(const pica_error *error) {
    return error->message;
}

pica_error *pica_error_cause(const pica_error *error) {
    return error->cause;
}

void pica__task_carry_error(pica_task *task, pica_error *error) {
    pica_error *old = task->error;
    task->error = error == NULL ? NULL : pica_error_ref(error);
    pica_error_unref(old);
}

int pica_fail(int code, const char *format, ...) {
    pica_task *task = pica__current();
    if (task == NULL) {
        return code;
    }
    pica_error *cause = task->error != NULL && task->error->code == code ? task->error : NULL;
    va_list args;
    va_start(args, format);
    pica_error *error = error_make(code, cause, format, args);
    va_end(args);
    if (error != NULL) {
        pica_error_unref(task->error);
        task->error = error;
    }
    return code;
}

pica_error *pica_current_error(void) {
    pica_task *task = pica__current();
    return task == NULL ? NULL : task->error;
}
