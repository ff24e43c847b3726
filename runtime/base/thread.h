/*
 * Threads: a seam, so that a simulation can carry them all on one thread of the system. The names and results are
 * those of pthreads; a simulated thread is told by the same type, and is no thread to any other call of pthreads.
 */
#ifndef PICA__RUNTIME_BASE_THREAD_H
#define PICA__RUNTIME_BASE_THREAD_H

#include <pthread.h>

/* Starts a thread; attr may be NULL. 0, or a negative error as of pthread_create. */
int pica__thread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *arg), void *arg);
/* Names the calling thread (at most 15 bytes). By itself, first of all: whoever made it cannot know whether it still
 * exists, and others look for it by its name once it does something. */
void pica__thread_set_name(const char *name);
void pica__thread_join(pthread_t thread);
void pica__thread_detach(pthread_t thread);
pthread_t pica__thread_self(void);

#endif
