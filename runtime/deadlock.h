/* The deadlock detector of running programs (PICA_DEBUG=deadlock, and debug builds): see deadlock.c. */
#ifndef PICA__RUNTIME_DEADLOCK_H
#define PICA__RUNTIME_DEADLOCK_H

#include <stdbool.h>

struct pica__worker;

/* By a worker that is about to sleep and has said how (pica__worker.doze): whether it looks as if nothing could
 * ever wake this runtime. Then it sleeps for a second at most, and calls the other one if nothing came. */
bool pica__deadlock_suspected(struct pica__worker *worker);
/* Tells of it, once for each runtime, if it still looks like that. */
void pica__deadlock_check(struct pica__worker *worker);

#endif
