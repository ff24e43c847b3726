/* See threads.h. This file is not instrumented: it is part of the model. */
#include "tests/explore/threads.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "runtime/base/park.h"
#include "tests/explore/model.h"

enum { THREADS = 2 };

struct thread {
    void *(*fn)(void *arg);
    void *arg;
    unsigned number; /* of the model thread */
    bool started, ended;
    ex_edge born, died;
};

struct parked {
    const void *word;
    bool waits;
};

static struct {
    struct thread thread[THREADS];
    unsigned threads, created;
    struct parked parked[EX_THREADS];
} model;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_join(pthread_t thread, void **value);
int __wrap_pthread_detach(pthread_t thread);
pthread_t __wrap_pthread_self(void);
int __wrap_pthread_setname_np(pthread_t thread, const char *name);
unsigned pica__fork_count(void);

unsigned pica__fork_count(void) {
    return 0;
}

static bool has_started(void *arg) {
    return ((struct thread *)arg)->started;
}

static bool has_ended(void *arg) {
    return ((struct thread *)arg)->ended;
}

static void thread_main(void *arg) {
    struct thread *t = arg;
    ex_wait(&t->started, has_started, t);
    ex_take(&t->born);
    (void)t->fn(t->arg);
    ex_event(&t->ended);
    ex_give(&t->died);
    t->ended = true;
}

void ex_threads(unsigned n) {
    memset(&model, 0, sizeof model);
    model.threads = n;
    for (unsigned i = 0; i < n; i++) {
        model.thread[i].number =
            ex_thread(i == 0 ? "thread 1" : "thread 2", thread_main, &model.thread[i], true);
    }
}

unsigned ex_threads_left(void) {
    unsigned n = 0;
    for (unsigned i = 0; i < model.created; i++) {
        n += !model.thread[i].ended;
    }
    return n;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
    (void)attr;
    ex_event(&model.created);
    if (model.created == model.threads) {
        return EAGAIN;
    }
    struct thread *t = &model.thread[model.created++];
    t->fn = fn;
    t->arg = arg;
    ex_edge_init(&t->born);
    ex_edge_init(&t->died);
    ex_give(&t->born);
    t->started = true;
    *thread = (pthread_t)t->number;
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **value) {
    (void)value;
    for (unsigned i = 0; i < model.created; i++) {
        struct thread *t = &model.thread[i];
        if (t->number == (unsigned)thread) {
            ex_wait(&t->ended, has_ended, t);
            ex_take(&t->died);
            return 0;
        }
    }
    ex_fail("a thread is joined that was never created");
}

int __wrap_pthread_detach(pthread_t thread) {
    (void)thread;
    return 0;
}

pthread_t __wrap_pthread_self(void) {
    return (pthread_t)ex_self();
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name) {
    (void)thread;
    (void)name;
    return 0;
}

/* --- parking: a futex --- */

static bool is_woken(void *arg) {
    return !((struct parked *)arg)->waits;
}

/* The kernel compares under its lock: what is there is the newest, and a wake that comes later finds us. */
void pica__park_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline) {
    (void)deadline;
    ex_event((const void *)word);
    ex_drain(ex_run.running); /* the kernel's lock is a full barrier */
    uint32_t now;
    memcpy(&now, (const void *)word, sizeof now);
    if (now != expected) {
        return;
    }
    struct parked *p = &model.parked[ex_self()];
    p->word = (const void *)word;
    p->waits = true;
    ex_wait((const void *)word, is_woken, p);
}

void pica__park_wake(_Atomic uint32_t *word) {
    ex_event((const void *)word);
    ex_drain(ex_run.running);
    for (unsigned i = 0; i < EX_THREADS; i++) {
        if (model.parked[i].word == (const void *)word) {
            model.parked[i].waits = false;
        }
    }
}
