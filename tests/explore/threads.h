/* POSIX threads and parking as model threads: what pthread_create starts runs on one of those that were set
 * aside (the linker is told to take these functions instead). */
#ifndef PICA__TESTS_EXPLORE_THREADS_H
#define PICA__TESTS_EXPLORE_THREADS_H

/* In setup: how many threads can be created; more fail with EAGAIN. */
void ex_threads(unsigned n);
/* In finish: those that were created and have not ended. */
unsigned ex_threads_left(void);

#endif
