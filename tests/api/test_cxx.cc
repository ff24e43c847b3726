/* Tasks in C++: an exception that leaves a task ends the process and names it, wherever the task runs;
 * what is caught inside it behaves as on a thread of its own, also when the task suspends in a catch block
 * or in a destructor and goes on on another worker. */
#include <pica.h>

#include <sys/syscall.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#include <pthread.h>

#include "tests/support/child.h"
#include "tests/support/pt.h"

namespace {

/* ---- where a task runs ---- */

long thread_id() {
    return syscall(SYS_gettid);
}

__attribute__((noinline)) std::uintptr_t frame_address() {
    return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

/* Whether two frames are on one stack, a few calls apart. */
bool near(std::uintptr_t a, std::uintptr_t b) {
    return (a > b ? a - b : b - a) < 16384;
}

/* Suspends until the task is on another worker than before. In mode "migrate" that is soon. */
void move() {
    long before = thread_id();
    for (int i = 0; i < 1000; i++) {
        PT_EQ(pica_yield(), 0);
        if (thread_id() != before) {
            return;
        }
    }
    PT_FAIL("the task has not moved");
    std::_Exit(5);
}

pica_task *spawn(pica_fn fn, void *arg, const char *name, bool pinned) {
    pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = name;
    options.pinned = pinned;
    pica_task *task = nullptr;
    PT_REQUIRE(pica_create_task_opts(&task, fn, arg, &options) == 0);
    return task;
}

/* ---- what leaves a task ---- */

/* A task that ends its process, and how it is run. */
struct Culprit {
    pica_fn fn;
    bool own_stack; /* else in place, on the stack of its awaiter */
    bool moves;     /* suspends and goes on on another worker before it does it */
    std::uintptr_t awaiter;
};

Culprit culprit;

enum { WRONG_STACK = 1 };

int commit_crime(void *) {
    if (near(frame_address(), culprit.awaiter) == culprit.own_stack) {
        return WRONG_STACK; /* the other worker was faster */
    }
    if (culprit.moves) {
        move();
    }
    return culprit.fn(nullptr);
}

int await_culprit(void *) {
    culprit.awaiter = frame_address();
    try {
        int rc = WRONG_STACK;
        while (rc == WRONG_STACK) {
            pica_task *task = spawn(commit_crime, nullptr, "magpie", false);
            if (culprit.own_stack) {
                PT_EQ(pica_yield(), 0); /* it starts meanwhile */
            }
            rc = pica_join(task, nullptr);
        }
    } catch (...) {
        PT_FAIL("the exception came to the awaiter");
    }
    return 0;
}

void run_culprit() {
    pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = culprit.moves ? 2 : 1;
    if (culprit.moves) {
        PT_REQUIRE(setenv("PICA_DEBUG", "migrate", 1) == 0);
    }
    (void)pica_run_opts(await_culprit, nullptr, &options);
}

child run_as(pica_fn fn, bool own_stack, bool moves) {
    culprit = {fn, own_stack, moves, 0};
    return run_child(run_culprit);
}

const char *const exception_text =
    "pica: error: an exception left task 'magpie', and nobody could catch it\n";
const char *const forced_text =
    "pica: error: task 'magpie' ended its thread (by pthread_exit or pthread_cancel), which belongs to "
    "the runtime\n";

void check_everywhere(pica_fn fn, const char *text, const char *more) {
    for (int i = 0; i < 4; i++) {
        child c = run_as(fn, (i & 1) != 0, (i & 2) != 0);
        check_died(c, SIGABRT);
        check_text(c, text);
        check_text(c, more);
    }
}

int throw_error(void *) {
    throw std::runtime_error("shiny");
}

PT_TEST(exception_out_of_a_task_names_it_and_aborts) {
    check_everywhere(throw_error, exception_text, "shiny"); /* what() is told by std::terminate */
}

int throw_again(void *) {
    try {
        throw std::runtime_error("shiny");
    } catch (const std::exception &) {
        PT_EQ(pica_yield(), 0);
        throw;
    }
}

PT_TEST(rethrown_exception_out_of_a_task) {
    check_everywhere(throw_again, exception_text, "shiny");
}

int throw_through_c(void *) {
    pica_task *task = spawn(throw_error, nullptr, "inner", false);
    return pica_join(task, nullptr);
}

PT_TEST(the_task_that_threw_is_named_not_its_awaiter) {
    check_everywhere(throw_through_c, "an exception left task 'inner'", "shiny");
}

void run_throwing_main() {
    (void)pica_run(throw_error, nullptr);
}

PT_TEST(exception_out_of_the_main_task) {
    child c = run_child(run_throwing_main);
    check_died(c, SIGABRT);
    check_text(c, "an exception left task 'main'");
}

[[noreturn]] void own_terminate() {
    try {
        std::rethrow_exception(std::current_exception());
    } catch (const std::runtime_error &e) {
        std::fprintf(stderr, "terminated by %s\n", e.what());
    }
    std::_Exit(9);
}

void run_with_own_terminate() {
    std::set_terminate(own_terminate);
    culprit = {throw_error, true, false, 0};
    run_culprit();
}

PT_TEST(programs_terminate_handler_is_called) {
    child c = run_child(run_with_own_terminate);
    check_exited(c, 9);
    check_text(c, exception_text);
    check_text(c, "terminated by shiny\n");
}

/* Says that it was unwound: a forced unwinding has run what is above the task's entry. */
struct Witness {
    ~Witness() {
        std::fprintf(stderr, "unwound\n");
    }
};

int exit_thread(void *) {
    Witness witness;
    pthread_exit(nullptr);
}

int cancel_thread(void *) {
    Witness witness;
    PT_EQ(pthread_cancel(pthread_self()), 0);
    pthread_testcancel();
    return 0;
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZER_REFUSES_EXIT true /* its own check ends the process first: no exit from its fibers */
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define SANITIZER_REFUSES_EXIT true
#endif
#if !defined(SANITIZER_REFUSES_EXIT)
#define SANITIZER_REFUSES_EXIT false
#endif

PT_TEST(pthread_exit_in_a_task_names_it_and_aborts) {
    if (SANITIZER_REFUSES_EXIT) {
        PT_SKIP("ThreadSanitizer ends the process first");
    }
    check_everywhere(exit_thread, forced_text, "unwound\n");
}

PT_TEST(pthread_cancel_in_a_task_names_it_and_aborts) {
    check_everywhere(cancel_thread, forced_text, "unwound\n");
}

/* ---- what is caught inside a task ---- */

struct Error {
    int id;
};

enum { TASKS = 12, ROUNDS = 20 };

struct Seen {
    std::atomic<int> in_place{0};
    std::atomic<int> on_own_stack{0};
    std::atomic<int> moved{0};
} seen;

/* A suspension; counts whether it moved the task. */
void suspend() {
    long before = thread_id();
    PT_EQ(pica_yield(), 0);
    seen.moved += thread_id() != before;
}

void check_clean() {
    PT_EQ(std::uncaught_exceptions(), 0);
    PT_CHECK(std::current_exception() == nullptr);
}

/* While it is suspended other tasks of the worker throw and catch. */
struct SuspendsInDestructor {
    ~SuspendsInDestructor() {
        PT_EQ(std::uncaught_exceptions(), 1);
        suspend();
        PT_EQ(std::uncaught_exceptions(), 1);
        try {
            throw Error{-1};
        } catch (const Error &e) {
            PT_EQ(std::uncaught_exceptions(), 1);
            suspend();
            PT_EQ(e.id, -1);
        }
        PT_EQ(std::uncaught_exceptions(), 1);
    }
};

void catch_in_catch(const Error &outer) {
    std::exception_ptr before = std::current_exception();
    try {
        throw Error{outer.id + 1000};
    } catch (const Error &inner) {
        suspend();
        PT_EQ(inner.id, outer.id + 1000);
        PT_CHECK(std::current_exception() != before);
    }
    PT_CHECK(std::current_exception() == before);
}

void catch_and_rethrow(int id) {
    const Error *first = nullptr;
    try {
        SuspendsInDestructor object;
        try {
            throw Error{id};
        } catch (const Error &e) {
            first = &e;
            std::exception_ptr before = std::current_exception();
            suspend();
            PT_EQ(std::uncaught_exceptions(), 0);
            PT_CHECK(std::current_exception() == before);
            catch_in_catch(e);
            suspend();
            PT_EQ(e.id, id);
            throw;
        }
    } catch (const Error &e) {
        PT_CHECK(&e == first);
        PT_EQ(e.id, id);
        PT_EQ(std::uncaught_exceptions(), 0);
        suspend();
        PT_EQ(e.id, id);
    }
}

struct Inner {
    int id;
    std::uintptr_t awaiter;
};

/* Awaited from a catch block, perhaps on the stack of that. */
int inner_task(void *arg) {
    auto *inner = static_cast<Inner *>(arg);
    (near(frame_address(), inner->awaiter) ? seen.in_place : seen.on_own_stack)++;
    check_clean();
    catch_and_rethrow(inner->id);
    check_clean();
    return 0;
}

void await_inner(int id, bool pinned) {
    Inner inner = {id, frame_address()};
    PT_EQ(pica_join(spawn(inner_task, &inner, nullptr, pinned), nullptr), 0);
}

struct AwaitsInDestructor {
    int id;
    ~AwaitsInDestructor() {
        PT_EQ(std::uncaught_exceptions(), 1);
        await_inner(id, false);
        PT_EQ(std::uncaught_exceptions(), 1);
    }
};

void await_from_catch(int id, bool pinned) {
    try {
        AwaitsInDestructor object = {id + 2000};
        throw Error{id};
    } catch (const Error &e) {
        std::exception_ptr before = std::current_exception();
        await_inner(id + 3000, pinned);
        PT_EQ(e.id, id);
        PT_CHECK(std::current_exception() == before);
        PT_EQ(std::uncaught_exceptions(), 0);
    }
}

int catching_task(void *arg) {
    int id = static_cast<int>(reinterpret_cast<std::intptr_t>(arg));
    check_clean();
    for (int round = 0; round < ROUNDS; round++) {
        catch_and_rethrow(id * 10000 + round);
        await_from_catch(id * 10000 + round, round % 2 != 0);
        check_clean();
    }
    return 0;
}

int many_catching_tasks(void *) {
    pica_task *tasks[TASKS];
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = spawn(catching_task, reinterpret_cast<void *>(static_cast<std::intptr_t>(i)),
                         nullptr, i % 4 == 3);
    }
    for (pica_task *task : tasks) {
        PT_EQ(pica_join(task, nullptr), 0);
    }
    return 0;
}

void run_catching(const char *debug) {
    pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    const char *workers = std::getenv("PICA_WORKERS");
    bool migrate = std::string(debug) == "migrate";
    if (migrate && workers != nullptr && std::string(workers) == "1") {
        options.workers = 2;
    }
    PT_REQUIRE(setenv("PICA_DEBUG", debug, 1) == 0);
    PT_EQ(pica_run_opts(many_catching_tasks, nullptr, &options), 0);
    PT_CHECK(seen.in_place > 0);
    PT_CHECK(seen.on_own_stack > 0);
    PT_CHECK(seen.moved > 0 || !migrate);
}

PT_TEST(caught_exceptions_survive_suspensions) {
    run_catching("shuffle");
}

PT_TEST(caught_exceptions_survive_migrations) {
    run_catching("migrate");
}

} // namespace

PT_MAIN()
