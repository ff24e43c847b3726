/* The simulator as a runtime that begins one knows it. */
#ifndef PICA__RUNTIME_SIMULATE_H
#define PICA__RUNTIME_SIMULATE_H

/* Tells the simulator of workers and of what to do in a deadlock. Before pica__sim_begin. */
void pica__sim_hooks_set(void);

#endif
