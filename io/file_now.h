/* The operations of a pica__op_file as plain calls that wait: for threads of a pool, where the engine has none
 * of them. See file_now.c. */
#ifndef PICA__IO_FILE_NOW_H
#define PICA__IO_FILE_NOW_H

#include "io/engine/engine.h"

/* What the engine's completion would say. */
int pica__file_now(const pica__op_file *file);

#endif
