/*
 * A small test harness whose checks work on any thread and on any stack.
 *
 *     PT_TEST(adds) {
 *         PT_EQ(1 + 1, 2);
 *     }
 *     PT_MAIN()
 *
 * Every case runs in a process of its own with a time-out; a case also fails when it leaves a file
 * descriptor open. A failed check writes a line, is counted in memory shared with the parent, and
 * lets the case go on: nothing is lost if it happens on a worker thread, on a coroutine's stack, in
 * a forked child, or just before the process dies. No check jumps out of its stack.
 *
 * The program's arguments: none runs every case; NAME... runs those; --list prints the names;
 * --verbose also says when a case starts and how long it took; --here NAME runs one case in this
 * very process without a time-out, for a debugger. PT_TIMEOUT_SCALE multiplies time-outs; under a
 * sanitizer they are four times as long anyway. Exit status: 0 all passed, 1 not, 77 all skipped.
 */
#ifndef PT_H
#define PT_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Seconds, if a case does not say otherwise. */
#define PT_DEFAULT_TIMEOUT 30.0

struct pt_case {
    const char *name;
    void (*run)(void);
    double timeout; /* seconds before scaling; 0: PT_DEFAULT_TIMEOUT */
    bool hidden;    /* runs only when named, and is not listed */
    int line;       /* cases run in the order of the file */
    struct pt_case *next;
};

#define PT__CASE(name_, timeout_, hidden_)                                                  \
    static void pt_run_##name_(void);                                                       \
    static struct pt_case pt_case_##name_ = {#name_,  pt_run_##name_, timeout_,             \
                                             hidden_, __LINE__,       (struct pt_case *)0}; \
    __attribute__((constructor)) static void pt_add_##name_(void) {                         \
        pt_add(&pt_case_##name_);                                                           \
    }                                                                                       \
    static void pt_run_##name_(void)

/* PT_TEST(name) { ... } defines a case; returning from it ends it. */
#define PT_TEST(name) PT__CASE(name, 0, false)
#define PT_TEST_TIMEOUT(name, seconds) PT__CASE(name, seconds, false)
/* A case that runs only when it is named: one meant to fail, or too big for every run. */
#define PT_TEST_HIDDEN(name, seconds) PT__CASE(name, seconds, true)

#define PT_MAIN()                     \
    int main(int argc, char **argv) { \
        return pt_main(argc, argv);   \
    }

/* Checks record a failure and go on. Each is an expression of type bool: true if it held. */
#define PT_CHECK(cond) pt_check((cond), __FILE__, __LINE__, #cond)
#define PT_EQ(a, b) pt_eq(__FILE__, __LINE__, #a, #b, (long long)(a), (long long)(b))
#define PT_STR_EQ(a, b) pt_str_eq(__FILE__, __LINE__, #a, #b, (a), (b))
#define PT_FAIL(...) pt_fail(__FILE__, __LINE__, __VA_ARGS__)

/* Records the failure and ends the process at once, from any thread and stack. */
#define PT_REQUIRE(cond) ((cond) ? (void)0 : pt_require_failed(__FILE__, __LINE__, #cond))

/* Ends the case as skipped (unless a check failed before), from any thread and stack. */
#define PT_SKIP(reason) pt_skip(reason)

void pt_add(struct pt_case *c);
int pt_main(int argc, char **argv);
bool pt_fail_check(const char *file, int line, const char *expr);
bool pt_eq(const char *file, int line, const char *a_expr, const char *b_expr, long long a,
           long long b);
bool pt_str_eq(const char *file, int line, const char *a_expr, const char *b_expr, const char *a,
               const char *b);
bool pt_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
__attribute__((noreturn)) void pt_require_failed(const char *file, int line, const char *expr);
__attribute__((noreturn)) void pt_skip(const char *reason);

static inline bool pt_check(bool held, const char *file, int line, const char *expr) {
    return held || pt_fail_check(file, line, expr);
}

/* Checks that failed so far, in this process and its relatives. */
unsigned pt_failures(void);
/* What a time limit inside a test should be multiplied by: PT_TIMEOUT_SCALE and sanitizers. */
double pt_time_scale(void);

#ifdef __cplusplus
}
#endif

#endif
