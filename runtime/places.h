/* Where suspended tasks stand: see places.c. */
#ifndef PICA__RUNTIME_PLACES_H
#define PICA__RUNTIME_PLACES_H

#include <pica/runtime.h>

/* Writes to stderr, for each task of rt that waits, the calls of the program that led there. Only where no other
 * thread can resume one meanwhile: in a deadlock of a simulation. */
void pica__places_tell(pica_runtime *rt);

#endif
