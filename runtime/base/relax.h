/*
 * Waiting for another thread's progress.
 *
 * Every place that can do nothing but wait for another worker (a held lock, a claim that is being
 * finished) calls pica__relax() in its loop, and nothing else in the tree spins or yields. That
 * makes it a seam: a simulator that runs all workers on one thread replaces this one function by
 * "let somebody else run", and no loop can hang it.
 */
#ifndef PICA__RUNTIME_BASE_RELAX_H
#define PICA__RUNTIME_BASE_RELAX_H

/* How often this wait has been through pica__relax(). Start it at {0} for each wait. */
typedef struct pica__backoff {
    unsigned n;
} pica__backoff;

#define PICA__BACKOFF_INIT \
    { 0 }

/* Waits a little: a few rounds of pause instructions that double, then the thread's time slice. */
void pica__relax(pica__backoff *b);

#endif
