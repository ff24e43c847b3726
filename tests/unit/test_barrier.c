/* The barrier under a task's function: what passes, and what ends the process with a name. In C, with
 * the unwinder's own calls, so that it also runs where there is no C++ compiler. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#include "runtime/base/barrier.h"
#include "runtime/base/compiler.h"
#include "runtime/base/context.h"
#include "runtime/base/log.h"
#include "runtime/base/namer.h"
#include "tests/support/child.h"
#include "tests/support/gdb.h"
#include "tests/support/pt.h"

enum { STACK = 256 * 1024 };

static void name_magpie(char *buf, size_t cap) {
    const char name[] = "magpie";
    memcpy(buf, name, sizeof name < cap ? sizeof name : cap);
}

/* Runs barrier_call(fn, arg) on a stack of its own, as a task's first suspension leaves it there. */
struct away {
    int (*fn)(void *arg);
    int result;
    pica__context here;
    pica__context there;
};

static void away_entry(void *arg) {
    struct away *away = arg;
    away->result = pica__barrier_call(away->fn, away);
    pica__context_switch(&away->there, &away->here);
}

static int call_away(int (*fn)(void *arg)) {
    struct away away = {.fn = fn};
    char *stack = aligned_alloc(16, STACK);
    PT_REQUIRE(stack != NULL);
    pica__context_make(&away.there, stack, stack + STACK, away_entry, &away);
    pica__context_switch(&away.here, &away.there);
    free(stack);
    return away.result;
}

/* ---- what passes ---- */

static int check_call(void *arg) {
    PT_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    volatile _Alignas(16) char aligned[16] = {0};
    PT_EQ((uintptr_t)aligned % 16, 0);
    return arg == NULL ? -7 : *(int *)arg;
}

PT_TEST(argument_result_and_alignment) {
    int value = 1234567;
    PT_EQ(pica__barrier_call(check_call, &value), 1234567);
    PT_EQ(pica__barrier_call(check_call, NULL), -7);
}

struct trace {
    int frames;
    int barrier; /* the frame that was the barrier's, counted from 1 */
    bool in_entry;
};

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *uc, void *arg) {
    struct trace *t = arg;
    if (_Unwind_GetIP(uc) == 0) {
        return _URC_NO_REASON; /* libgcc shows the end as a frame of its own */
    }
    void *function = _Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(uc));
    t->frames++;
    if (function == (void *)(uintptr_t)pica__barrier_call) {
        t->barrier = t->frames;
    }
    t->in_entry = function == (void *)(uintptr_t)pica__context_entry;
    return t->frames < 100 ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static PICA__NOINLINE int take_backtrace(void *arg) {
    struct trace t = {0};
    (void)arg;
    PT_EQ(_Unwind_Backtrace(count_frame, &t), _URC_END_OF_STACK);
    /* This function, the barrier, away_entry, pica__context_entry; perhaps the unwinder itself. */
    PT_CHECK(t.frames == 4 || t.frames == 5);
    PT_EQ(t.barrier, t.frames - 2);
    PT_CHECK(t.in_entry);
    return 5;
}

PT_TEST(backtrace_passes) {
    PT_EQ(call_away(take_backtrace), 5);
}

/* For gdb. */
static int nothing(void *arg) {
    (void)arg;
    return 0;
}

PT_TEST_HIDDEN(stepped_by_gdb, 60) {
    PT_EQ(pica__barrier_call(nothing, NULL), 0);
}

PT_TEST_TIMEOUT(gdb_unwinds_at_every_instruction, 60) {
    struct gdb_steps seen = gdb_step("pica__barrier_call", "stepped_by_gdb", 12);
    PT_EQ(seen.on_thread, 12);
}

/* ---- what is stopped ---- */

static void drop_exception(_Unwind_Reason_Code reason, struct _Unwind_Exception *exception) {
    (void)reason;
    (void)exception;
}

/* "PICALANG": of a language that nobody knows. */
#define FOREIGN 0x504943414c414e47u
/* "GNUCC++\0", as libstdc++ throws it; "CLNGC++\1", as libc++ throws the same one again. */
#define GNU_CXX 0x474e5543432b2b00u
#define CLANG_CXX_AGAIN 0x434c4e47432b2b01u

static _Unwind_Reason_Code raise_kind(uint64_t kind) {
    static struct _Unwind_Exception exception; /* zero, apart from what is set here */
    exception.exception_class = kind;
    exception.exception_cleanup = drop_exception;
    return _Unwind_RaiseException(&exception);
}

static int raise_foreign(void *arg) {
    (void)arg;
    return (int)raise_kind(FOREIGN);
}

static void foreign_here(void) {
    pica__namer_set(name_magpie);
    (void)pica__barrier_call(raise_foreign, NULL);
}

static void foreign_away(void) {
    pica__namer_set(name_magpie);
    (void)call_away(raise_foreign);
}

static void foreign_unnamed(void) {
    (void)call_away(raise_foreign);
}

PT_TEST(foreign_exception_aborts_and_names_the_task) {
    struct child c = run_child(foreign_here);
    check_died(c, SIGABRT);
    check_text(c, "pica: error: an exception left task 'magpie', and nobody could catch it\n");
    c = run_child(foreign_away);
    check_died(c, SIGABRT);
    check_text(c, "pica: error: an exception left task 'magpie', and nobody could catch it\n");
    c = run_child(foreign_unnamed);
    check_died(c, SIGABRT);
    check_text(c, "pica: error: an exception left task '?', and nobody could catch it\n");
}

static int lines;

static void count_line(void *ctx, int level, const char *text) {
    PT_CHECK(ctx == &lines);
    PT_EQ(level, PICA_LOG_ERROR);
    PT_STR_EQ(text, "an exception left task 'magpie', and nobody could catch it");
    lines++;
}

static void check_given_back(_Unwind_Reason_Code code) {
    (void)code;
#if !defined(__aarch64__) /* there gcc before 14 loses it (bug 114843); no thrower looks at it */
    PT_EQ(code, _URC_FATAL_PHASE1_ERROR);
#endif
}

static int raise_cxx(void *arg) {
    (void)arg;
    check_given_back(raise_kind(GNU_CXX));
    PT_EQ(lines, 1);
    check_given_back(raise_kind(CLANG_CXX_AGAIN));
    PT_EQ(lines, 2);
    return 3;
}

/* The thrower hears that nobody catches, and would call std::terminate. */
PT_TEST(cxx_exception_is_given_back_to_its_thrower) {
    pica__namer_set(name_magpie);
    pica__log_set_hook(count_line, &lines);
    PT_EQ(call_away(raise_cxx), 3);
    pica__log_set_hook(NULL, NULL);
}

static _Unwind_Reason_Code never_stop(int version, _Unwind_Action actions,
                                      _Unwind_Exception_Class kind,
                                      struct _Unwind_Exception *exception,
                                      struct _Unwind_Context *context, void *arg) {
    (void)version;
    (void)kind;
    (void)exception;
    (void)context;
    (void)arg;
    if ((actions & _UA_END_OF_STACK) != 0) {
        _exit(3);
    }
    return _URC_NO_REASON;
}

static int force_unwind(void *arg) {
    static struct _Unwind_Exception exception;
    (void)arg;
    exception.exception_class = GNU_CXX;
    return (int)_Unwind_ForcedUnwind(&exception, never_stop, NULL);
}

static void forced_away(void) {
    pica__namer_set(name_magpie);
    (void)call_away(force_unwind);
}

static int exit_thread(void *arg) {
    pthread_exit(arg);
}

static void *thread_that_exits(void *arg) {
    (void)arg;
    (void)call_away(exit_thread);
    return NULL;
}

static int cancel_thread(void *arg) {
    (void)arg;
    PT_EQ(pthread_cancel(pthread_self()), 0);
    pthread_testcancel();
    return 0;
}

static void *thread_that_is_cancelled(void *arg) {
    (void)arg;
    (void)pica__barrier_call(cancel_thread, NULL);
    return NULL;
}

static void run_thread(void *(*start)(void *arg)) {
    pica__namer_set(name_magpie);
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, start, NULL) == 0);
    pthread_join(thread, NULL);
}

static void exiting_thread(void) {
    run_thread(thread_that_exits);
}

static void cancelled_thread(void) {
    run_thread(thread_that_is_cancelled);
}

PT_TEST(forced_unwinding_aborts_and_names_the_task) {
    void (*const bodies[])(void) = {forced_away, exiting_thread, cancelled_thread};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct child c = run_child(bodies[i]);
        check_died(c, SIGABRT);
        check_text(c, "pica: error: task 'magpie' ended its thread (by pthread_exit or "
                      "pthread_cancel), which belongs to the runtime\n");
    }
}

PT_MAIN()
