/* The explorer: runs small scenarios over the product's own sources in every order that matters.
 *
 * How it sees the code. The sources of the library and the scenarios are compiled with -fsanitize=thread, so
 * that the compiler itself turns each atomic operation and each plain access into a call that says where
 * and with which memory order; hooks.c answers those calls instead of the sanitizer's library. Nothing in the
 * sources is replaced or copied. Model threads are contexts on one thread (runtime/base/context.h). Each atomic
 * operation is a point where another model thread may go on; the code between two of them is one step. That
 * loses nothing, as plain accesses of two threads that are not ordered by happens-before are reported as races.
 *
 * Three memories:
 *   sc    one memory; each load reads the last store.
 *   tso   x86: each model thread has a FIFO of stores; read-modify-writes, seq_cst stores and seq_cst fences drain
 *         it. When a store gets out is a choice, made as late as somebody looks at its location.
 *   c11   views: a load may read any store that coherence, happens-before and the order of seq_cst operations
 *         leave it; release and acquire carry views, fences as in C11. Not covered: stores that
 *         take effect before ones that were executed earlier (load buffering, and reordered stores to one
 *         location); those need an external checker.
 * Races between plain accesses (and use after free) are found in all three, by vector clocks that follow the
 * memory orders of the sources, not those of the machine.
 *
 * Search: depth first over all choices, without a bound (then with sleep sets, one run for each class of equal
 * orders), or with a bound on preemptions and one on loads that do not read the last store, raised from 0.
 * A failure is printed with a line that --replay takes.
 *
 * Liveness: pica__relax() ends only when the location that was read last has been changed, and the load after it
 * reads the last store. So a loop that waits ends if it can, and a state in which nobody can go on is seen.
 */
#ifndef PICA__TESTS_EXPLORE_EXPLORE_H
#define PICA__TESTS_EXPLORE_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far one memory is searched. */
struct ex_bound {
    signed char preemptions; /* EX_ALL: no bound, with sleep sets (sc, c11); EX_SKIP: not at all */
    signed char stale;       /* loads that do not read the last store; EX_ALL: no bound */
};
enum { EX_ALL = -1, EX_SKIP = -2 };

struct ex_scenario {
    const char *name;
    const char *shows;
    void (*setup)(void);  /* before each execution: makes everything anew, and calls ex_thread */
    void (*finish)(void); /* after each: the oracle, with everything visible; may be NULL */
    /* When nobody can go on: true if it changed that (time passes). May be NULL. */
    bool (*idle)(void);
    struct ex_bound sc, tso, c11;
    /* After all executions in one memory ("sc", "tso", "c11"): what is wrong with them together, or NULL.
     * May be NULL. */
    const char *(*judge)(const char *memory);
};
extern const struct ex_scenario ex_scenarios[];
extern const unsigned ex_scenario_count;

/* In setup: a model thread. may_block: it is no failure if it cannot go on at the end. Returns its number. */
unsigned ex_thread(const char *name, void (*fn)(void *arg), void *arg, bool may_block);

/* Ends the execution as a failure. */
void ex_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define EX_CHECK(cond) ((cond) ? (void)0 : ex_fail("%s:%d: %s", __FILE__, __LINE__, #cond))

/* A step on something of the model itself, identified by its address, that orders no memory. What model threads
 * share besides atomics must be touched directly after one of these, or only by one thread. */
void ex_event(const void *what);
/* The same, which can be taken only when ready(arg). */
void ex_wait(const void *what, bool (*ready)(void *arg), void *arg);
/* One of 0 .. n-1: all are tried. */
unsigned ex_choose(unsigned n);

/* What one thread has seen, to be handed on by something that the scenario only models (a queue, the kernel). */
typedef struct ex_edge {
    _Alignas(8) unsigned char opaque[192];
} ex_edge;
void ex_edge_init(ex_edge *edge);
void ex_give(ex_edge *edge);       /* adds what the caller has seen */
void ex_take(const ex_edge *edge); /* the caller sees that, too */
/* The caller goes on elsewhere: it has seen that and nothing else, not even what it did itself before. */
void ex_become(const ex_edge *edge);
/* The caller goes on where the other model thread stands still: the same processor. */
void ex_inherit(unsigned thread);

/* Memory of one execution, zeroed; never given out twice, so that a use after ex_free is reported. */
void *ex_alloc(size_t size);
void ex_free(void *memory, size_t size);
bool ex_is_freed(const void *memory);
/* As if the caller wrote there. */
void ex_touch(const void *memory, size_t size);

/* What pica__now says; 0 at the beginning of the program, set by scenarios. */
extern int64_t ex_time;

/* In setup: a name for traces. Atomics in a quiet range are no steps (statistics). */
void ex_name(const void *address, const char *name);
void ex_quiet(const void *address, size_t size);
/* The number of the caller, and the memory that is being tried. */
unsigned ex_self(void);

#define EX_COUNT(array) (sizeof(array) / sizeof(array)[0])

#endif
