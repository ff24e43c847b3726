/*
 * The lock, the wait in front of it, and the invariant check.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/lock.h"
#include "runtime/base/random.h"
#include "runtime/base/relax.h"
#include "tests/support/pt.h"

PT_TEST(trylock) {
    pica__lock_t l = PICA__LOCK_INIT;
    PT_CHECK(pica__trylock(&l));
    PT_CHECK(!pica__trylock(&l));
    pica__unlock(&l);
    pica__lock(&l);
    PT_CHECK(!pica__trylock(&l));
    pica__unlock(&l);
    pica__lock_init(&l);
    PT_CHECK(pica__trylock(&l));
}

#define THREADS 4
#define ROUNDS 50000

static pica__lock_t lock = PICA__LOCK_INIT;
static unsigned long counter, inside; /* plain: only the lock protects them */

static void *count(void *arg) {
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pica__lock(&lock);
        PT_CHECK(inside++ == 0);
        counter++;
        inside--;
        pica__unlock(&lock);
    }
    return NULL;
}

PT_TEST(excludes_threads_from_each_other) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        PT_REQUIRE(pthread_create(&threads[i], NULL, count, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    PT_EQ(counter, (unsigned long)THREADS * ROUNDS);
}

/* Set by the waiter before it blocks on the lock, release; the holder reads it, acquire. */
static atomic_bool waiting;

static void *take_and_release(void *arg) {
    atomic_store_explicit(&waiting, true, memory_order_release);
    pica__lock(arg);
    counter++;
    pica__unlock(arg);
    return NULL;
}

PT_TEST(waits_for_the_holder) {
    pthread_t thread;
    pica__lock(&lock);
    PT_REQUIRE(pthread_create(&thread, NULL, take_and_release, &lock) == 0);
    pica__backoff backoff = PICA__BACKOFF_INIT;
    while (!atomic_load_explicit(&waiting, memory_order_acquire)) {
        pica__relax(&backoff);
    }
    for (int i = 0; i < 1000; i++) { /* past the pauses: yields give the waiter every chance */
        pica__relax(&backoff);
    }
    PT_EQ(counter, 0);
    pica__unlock(&lock);
    pthread_join(thread, NULL);
    PT_EQ(counter, 1);
}

PT_TEST(a_broken_invariant_names_itself_and_aborts) {
    int fds[2];
    PT_REQUIRE(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        PICA__CHECK(fds[0] >= 0); /* holds */
        PICA__CHECK(fds[0] == -7);
        _exit(0);
    }
    close(fds[1]);
    char text[512] = "";
    ssize_t n = read(fds[0], text, sizeof text - 1);
    PT_CHECK(n > 0);
    close(fds[0]);
    int status;
    waitpid(pid, &status, 0);
    PT_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    PT_CHECK(strstr(text, "pica: ") == text);
    PT_CHECK(strstr(text, "test_lock.c:") != NULL);
    PT_CHECK(strstr(text, ": broken invariant: fds[0] == -7\n") != NULL);
}

PT_TEST(random_numbers_differ_and_repeat) {
    pica__random a, b;
    pica__random_init(&a, 1);
    pica__random_init(&b, 1);
    unsigned seen[8] = {0};
    for (int i = 0; i < 8000; i++) {
        uint32_t x = pica__random_next(&a);
        PT_REQUIRE(x == pica__random_next(&b));
        seen[x >> 29]++;
    }
    for (int i = 0; i < 8; i++) { /* 1000 each, give or take five standard deviations */
        PT_CHECK(seen[i] > 850 && seen[i] < 1150);
    }
    pica__random_init(&b, 2);
    PT_CHECK(pica__random_next(&a) != pica__random_next(&b));
    for (uint32_t n = 1; n < 1000; n++) {
        PT_REQUIRE(pica__random_below(&a, n) < n);
    }
    PT_CHECK(pica__random_seed() != 0);
    PT_CHECK(pica__random_seed() != pica__random_seed());
}

PT_MAIN()
