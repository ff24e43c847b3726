/* Error objects inside the library: see <pica/error.h>. */
#ifndef PICA__RUNTIME_ERROR_H
#define PICA__RUNTIME_ERROR_H

#include <pica/error.h>
#include <pica/task.h>

/* Gives the task a reference to error (may be NULL), in place of the one it carried. */
void pica__task_carry_error(pica_task *task, pica_error *error);

#endif
