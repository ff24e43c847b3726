/* The simulator as the runtimes in it know it. */
#ifndef PICA__RUNTIME_SIMULATE_H
#define PICA__RUNTIME_SIMULATE_H

#include "runtime/base/env.h"

/* Begins a simulation of this process, as PICA_ENGINE=sim asks for, on the calling thread. 0, -EINVAL (the
 * scenario; the log says why), -ENOMEM. */
int pica__simulate_process(const pica__config *config);
/* In a simulation: a runtime was made (1), not made (0), closed (-1). With the last one the process's simulation
 * ends; if it failed, the process does, too. */
void pica__simulate_runtimes(int change);

#endif
