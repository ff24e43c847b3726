/* The overflow report, and that every other fault behaves as if it were not there. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "runtime/base/context.h"
#include "runtime/base/namer.h"
#include "runtime/base/overflow.h"
#include "runtime/base/stack.h"
#include "tests/support/child.h"
#include "tests/support/pt.h"

#define KIB ((size_t)1024)

/* ---- overflowing ---- */

static void name_deep(char *buf, size_t cap) {
    const char name[] = "deep\x1b[1m";
    memcpy(buf, name, sizeof name < cap ? sizeof name : cap);
}

static PICA__NOINLINE int recurse(int depth) {
    volatile char frame[300];
    frame[depth % 300] = (char)depth;
    int below = depth > 100000000 ? 0 : recurse(depth + 1);
    return below + frame[depth % 300];
}

static void overflow_small_frames(void *arg) {
    (void)arg;
    _exit(recurse(0) == 5 ? 1 : 2);
}

/* Frames that together skip much of the guard; each below its size. */
static PICA__NOINLINE int recurse_large(int depth) {
    volatile char frame[50000];
    frame[0] = (char)depth;
    int below = depth > 100000000 ? 0 : recurse_large(depth + 1);
    return below + frame[0];
}

static void overflow_large_frames(void *arg) {
    (void)arg;
    _exit(recurse_large(0) == 5 ? 1 : 2);
}

static void enter_on(pica__stack stack, void (*entry)(void *)) {
    pica__context here;
    pica__context there;
    pica__context_make(&there, stack.lo, stack.hi, entry, NULL);
    pica__context_switch(&here, &there);
}

static void prepare(void) {
    void *alt;
    PT_REQUIRE(pica__overflow_install() == 0);
    PT_REQUIRE(pica__overflow_thread_enter(&alt) == 0);
}

static pica__stack pool_stack(unsigned disable) {
    static pica__stack_pool *pool; /* kept, so that it is no leak */
    struct pica__stack_config config = {.stack_size = 256 * KIB, .disable = disable};
    pica__stack stack;
    PT_REQUIRE(pica__stack_pool_create(&pool, &config) == 0);
    /* Not the first one, so that there is a stack below it. */
    PT_REQUIRE(pica__stack_get(pool, &stack) == 0);
    PT_REQUIRE(pica__stack_get(pool, &stack) == 0);
    return stack;
}

static void overflow_named(void) {
    prepare();
    pica__namer_set(name_deep);
    enter_on(pool_stack(0), overflow_small_frames);
}

PT_TEST(overflow_names_the_task_and_dies_by_sigsegv) {
    struct child c = run_child(overflow_named);
    check_died(c, SIGSEGV);
    check_text(c, "pica: stack overflow in task 'deep?[1m' (fault 0x");
    check_text(c, ", stack 256 KiB)\n");
}

static void overflow_unnamed(void) {
    prepare();
    enter_on(pool_stack(PICA__STACK_NO_GUARD_INSTALL), overflow_small_frames);
}

PT_TEST(overflow_by_mprotect_guard_without_namer) {
    struct child c = run_child(overflow_unnamed);
    check_died(c, SIGSEGV);
    check_text(c, "pica: stack overflow in task '?' (fault 0x");
}

static void overflow_alone(void) {
    prepare();
    pica__stack stack;
    PT_REQUIRE(pica__stack_map(1024 * KIB, 0, &stack) == 0);
    enter_on(stack, overflow_large_frames);
}

PT_TEST(overflow_of_a_stack_mapped_alone_by_large_frames) {
    struct child c = run_child(overflow_alone);
    check_died(c, SIGSEGV);
    check_text(c, "pica: stack overflow in task '?' (fault 0x");
    check_text(c, ", stack 1024 KiB)\n");
}

static void *overflow_on_thread(void *arg) {
    (void)arg;
    void *alt;
    PT_REQUIRE(pica__overflow_thread_enter(&alt) == 0);
    enter_on(pool_stack(0), overflow_small_frames);
    return NULL;
}

static void overflow_in_thread(void) {
    PT_REQUIRE(pica__overflow_install() == 0);
    pthread_t thread;
    PT_REQUIRE(pthread_create(&thread, NULL, overflow_on_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

PT_TEST(overflow_on_another_thread) {
    struct child c = run_child(overflow_in_thread);
    check_died(c, SIGSEGV);
    check_text(c, "pica: stack overflow in task");
}

/* Through a guard that is far from the running stack, wherever the system has put that. */
static void stray_pointer(void) {
    prepare();
    struct pica__stack_config config = {.stack_size = 256 * KIB};
    pica__stack_pool *pool;
    PT_REQUIRE(pica__stack_pool_create(&pool, &config) == 0);
    char here;
    uintptr_t best = 0;
    char *target = NULL;
    for (int i = 0; i < 400; i++) {
        pica__stack stack;
        PT_REQUIRE(pica__stack_get(pool, &stack) == 0);
        uintptr_t away = stack.lo > &here ? (uintptr_t)stack.lo - (uintptr_t)&here
                                          : (uintptr_t)&here - (uintptr_t)stack.lo;
        if (away > best) {
            best = away;
            target = stack.lo - 100;
        }
    }
    PT_REQUIRE(target != NULL && best > (uintptr_t)32 << 20);
    *(volatile char *)target = 1;
}

PT_TEST(stray_pointer_into_a_guard_is_called_that) {
    struct child c = run_child(stray_pointer);
    check_died(c, SIGSEGV);
    check_text(c, "pica: access to another stack's guard in task '?'");
}

/* ---- faults that are not ours ---- */

static char *forbidden; /* a page without access; the foreign fault */
static volatile sig_atomic_t calls;
static sigjmp_buf after;

static void set_handler(int sig, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    PT_REQUIRE(sigaction(sig, &action, NULL) == 0);
}

static void set_info_handler(int sig, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaddset(&action.sa_mask, SIGUSR1);
    PT_REQUIRE(sigaction(sig, &action, NULL) == 0);
}

static void make_forbidden(void) {
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PT_REQUIRE(forbidden != MAP_FAILED);
}

static void touch_forbidden(void) {
    *(volatile char *)(forbidden + 40) = 1;
}

static bool is_blocked(int sig) {
    sigset_t mask;
    PT_REQUIRE(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0);
    return sigismember(&mask, sig) == 1;
}

/* Repairs the fault, so that the instruction goes on. */
static void repair_info(int sig, siginfo_t *info, void *context) {
    calls++;
    PT_EQ(sig, SIGSEGV);
    PT_CHECK(info->si_addr == forbidden + 40);
    PT_CHECK(context != NULL);
    PT_CHECK(is_blocked(SIGUSR1));
    PT_CHECK(is_blocked(SIGSEGV));
    mprotect(forbidden, 4096, PROT_READ | PROT_WRITE);
    errno = errno == ENOENT ? EBADF : EDOM;
}

PT_TEST(previous_handler_with_siginfo_gets_its_fault) {
    make_forbidden();
    set_info_handler(SIGSEGV, repair_info, 0);
    prepare();
    errno = ENOENT;
    touch_forbidden();
    PT_CHECK(errno == EBADF || PICA__TSAN); /* its own wrapper of handlers restores errno */
    PT_EQ(calls, 1);
    PT_CHECK(!is_blocked(SIGUSR1) && !is_blocked(SIGSEGV));
    mprotect(forbidden, 4096, PROT_NONE);
    touch_forbidden();
    PT_EQ(calls, 2);
}

/* A page of a stack that the program itself has protected is not a guard. */
PT_TEST(fault_inside_a_stack_is_not_ours) {
    set_info_handler(SIGSEGV, repair_info, 0);
    prepare();
    pica__stack stack = pool_stack(0);
    forbidden = stack.lo;
    PT_REQUIRE(mprotect(forbidden, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE) == 0);
    touch_forbidden();
    PT_EQ(calls, 1);
}

static void jump_out(int sig) {
    (void)sig;
    calls++;
    siglongjmp(after, 1);
}

PT_TEST(previous_plain_handler_may_jump_out) {
    make_forbidden();
    set_handler(SIGSEGV, jump_out, 0);
    prepare();
    for (volatile int i = 0; i < 3; i++) {
        if (sigsetjmp(after, 1) == 0) {
            touch_forbidden();
        }
        PT_EQ(calls, i + 1);
    }
}

static void nodefer_info(int sig, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    PT_CHECK(!is_blocked(sig));
    PT_CHECK(is_blocked(SIGUSR1));
    calls++;
    mprotect(forbidden, 4096, PROT_READ | PROT_WRITE);
}

PT_TEST(previous_handler_with_nodefer_is_not_blocked) {
    make_forbidden();
    set_info_handler(SIGSEGV, nodefer_info, SA_NODEFER);
    prepare();
    touch_forbidden();
    PT_EQ(calls, 1);
}

static void count_call(int sig) {
    (void)sig;
    calls++;
}

static void once_then_default(void) {
    make_forbidden();
    set_handler(SIGSEGV, count_call, (int)SA_RESETHAND);
    prepare();
    raise(SIGSEGV);
    PT_EQ(calls, 1);
    touch_forbidden();
    PT_FAIL("a handler with SA_RESETHAND was called twice");
}

PT_TEST(previous_handler_with_resethand_is_called_once) {
    check_died(run_child(once_then_default), SIGSEGV);
}

static void default_fault(void) {
    make_forbidden();
    set_handler(SIGSEGV, SIG_DFL, 0);
    prepare();
    touch_forbidden();
}

static void default_sent(void) {
    set_handler(SIGSEGV, SIG_DFL, 0);
    prepare();
    kill(getpid(), SIGSEGV);
}

static void default_bus(void) {
    set_handler(SIGBUS, SIG_DFL, 0);
    prepare();
    raise(SIGBUS);
}

PT_TEST(default_action_stays_the_default) {
    struct child c = run_child(default_fault);
    check_died(c, SIGSEGV);
    PT_CHECK(strstr(c.text, "pica:") == NULL);
    check_died(run_child(default_sent), SIGSEGV);
    check_died(run_child(default_bus), SIGBUS);
}

static void ignored_sent(void) {
    set_handler(SIGSEGV, SIG_IGN, 0);
    prepare();
    kill(getpid(), SIGSEGV);
    _exit(7);
}

static void ignored_fault(void) {
    make_forbidden();
    set_handler(SIGSEGV, SIG_IGN, 0);
    prepare();
    touch_forbidden();
}

PT_TEST(ignored_is_ignored_unless_it_is_a_fault) {
    check_exited(run_child(ignored_sent), 7);
    check_died(run_child(ignored_fault), SIGSEGV);
}

/* ---- order of installing and removing ---- */

static void (*current_handler(int sig))(int) {
    struct sigaction action;
    PT_REQUIRE(sigaction(sig, NULL, &action) == 0);
    return action.sa_handler;
}

PT_TEST(remove_puts_the_previous_handler_back) {
    set_handler(SIGSEGV, count_call, 0);
    set_handler(SIGBUS, SIG_IGN, 0);
    for (int i = 0; i < 3; i++) {
        PT_EQ(pica__overflow_install(), 0);
        PT_EQ(pica__overflow_install(), 0);
        PT_CHECK(current_handler(SIGSEGV) != count_call);
        PT_CHECK(current_handler(SIGBUS) != SIG_IGN);
        pica__overflow_remove();
        PT_CHECK(current_handler(SIGSEGV) != count_call);
        pica__overflow_remove();
        PT_CHECK(current_handler(SIGSEGV) == count_call);
        PT_CHECK(current_handler(SIGBUS) == SIG_IGN);
    }
}

static void other_handler(int sig) {
    (void)sig;
}

PT_TEST(remove_leaves_a_later_handler_alone) {
    set_handler(SIGSEGV, count_call, 0);
    PT_EQ(pica__overflow_install(), 0);
    set_handler(SIGSEGV, other_handler, 0);
    pica__overflow_remove();
    PT_CHECK(current_handler(SIGSEGV) == other_handler);
    PT_EQ(pica__overflow_install(), 0);
    PT_CHECK(current_handler(SIGSEGV) == other_handler);
    pica__overflow_remove();
    PT_CHECK(current_handler(SIGSEGV) == other_handler);
}

static struct sigaction below;

/* What a crash reporter does: its own work, then whatever was there before. */
static void chaining_handler(int sig, siginfo_t *info, void *context) {
    calls++;
    below.sa_sigaction(sig, info, context);
}

static void chain_over_ours(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = chaining_handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    PT_REQUIRE(sigaction(SIGSEGV, &action, &below) == 0);
}

static void buried_overflow(void) {
    prepare();
    chain_over_ours();
    enter_on(pool_stack(0), overflow_small_frames);
}

PT_TEST(overflow_is_reported_through_a_handler_on_top) {
    struct child c = run_child(buried_overflow);
    check_died(c, SIGSEGV);
    check_text(c, "pica: stack overflow in task '?'");
}

/* Removed while another lay on top, then installed again: no circle, and the end is reached. */
static void buried_and_installed_again(void) {
    make_forbidden();
    set_info_handler(SIGSEGV, repair_info, 0);
    PT_REQUIRE(pica__overflow_install() == 0);
    chain_over_ours();
    pica__overflow_remove();
    PT_REQUIRE(pica__overflow_install() == 0);
    touch_forbidden();
    PT_EQ(calls, 2);
    /* The one on top goes; ours is uncovered, and taken out at last. */
    PT_REQUIRE(sigaction(SIGSEGV, &below, NULL) == 0);
    pica__overflow_remove();
    PT_CHECK(current_handler(SIGSEGV) == (void (*)(int))(uintptr_t)repair_info);
    _exit(7);
}

PT_TEST(installed_again_while_buried) {
    check_exited(run_child(buried_and_installed_again), 7);
}

/* ---- alternate stacks ---- */

PT_TEST(alternate_stack_is_restored) {
    static char mine[64 * 1024];
    stack_t set = {.ss_sp = mine, .ss_size = sizeof mine};
    stack_t before;
    stack_t now;
    PT_REQUIRE(sigaltstack(&set, &before) == 0);
    void *alt;
    PT_EQ(pica__overflow_thread_enter(&alt), 0);
    PT_REQUIRE(sigaltstack(NULL, &now) == 0);
    PT_CHECK(now.ss_sp != mine && now.ss_size >= 64 * KIB && (now.ss_flags & SS_DISABLE) == 0);
    pica__overflow_thread_leave(alt);
    PT_REQUIRE(sigaltstack(NULL, &now) == 0);
    PT_CHECK(now.ss_sp == mine && now.ss_size == sizeof mine);

    /* One that somebody set meanwhile is left alone. */
    static char other[64 * 1024];
    PT_EQ(pica__overflow_thread_enter(&alt), 0);
    set.ss_sp = other;
    PT_REQUIRE(sigaltstack(&set, NULL) == 0);
    pica__overflow_thread_leave(alt);
    PT_REQUIRE(sigaltstack(NULL, &now) == 0);
    PT_CHECK(now.ss_sp == other);

    set.ss_flags = SS_DISABLE;
    PT_REQUIRE(sigaltstack(&set, NULL) == 0);
    PT_EQ(pica__overflow_thread_enter(&alt), 0);
    pica__overflow_thread_leave(alt);
    PT_REQUIRE(sigaltstack(NULL, &now) == 0);
    PT_CHECK((now.ss_flags & SS_DISABLE) != 0);
    PT_REQUIRE(sigaltstack(&before, NULL) == 0);
}

PT_MAIN()
