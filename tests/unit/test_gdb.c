/* tools/gdb/pica.py, on a live process and on a core file that gdb makes of it: the tasks with their states, and
 * backtraces of suspended ones, which end at the first frame of their stacks. */
#include <pica.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "tests/support/machine.h"
#include "tests/support/pt.h"

/* --- the program that is looked at --- */

void stop_here(void);
__attribute__((noinline)) void stop_here(void) {
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static int sleeps_deep(int depth) {
    int rc = depth == 0 ? pica_sleep(1000) : sleeps_deep(depth - 1);
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return rc;
}

static int sleeper(void *arg) {
    (void)arg;
    int rc = sleeps_deep(3);
    __asm__ volatile("" ::: "memory");
    return rc;
}

__attribute__((noinline)) static int awaits_it(pica_task *child) {
    int rc = pica_join(child, NULL);
    __asm__ volatile("" ::: "memory");
    return rc;
}

static pica_task *named(const char *name, pica_fn fn, void *arg) {
    struct pica_task_options options = PICA_TASK_OPTIONS_INIT;
    options.name = name;
    pica_task *task = NULL;
    PT_REQUIRE(pica_create_task_opts(&task, fn, arg, &options) == 0);
    return task;
}

/* The child runs in place, on this task's stack, and suspends there. */
static int parent(void *arg) {
    (void)arg;
    pica_task *child = named("child", sleeper, NULL);
    int rc = awaits_it(child);
    __asm__ volatile("" ::: "memory");
    return rc;
}

static int nothing(void *arg) {
    (void)arg;
    return 0;
}

static int looked_at(void *arg) {
    (void)arg;
    pica_task *sleeping = named("sleeping", sleeper, NULL);
    pica_task *above = named("parent", parent, NULL);
    PT_EQ(pica_sleep(0.05), 0);
    pica_task *fresh = named("fresh", nothing, NULL);
    stop_here();
    pica_task_cancel(sleeping);
    pica_task_cancel(above);
    PT_EQ(pica_join(sleeping, NULL), PICA_ECANCELED);
    PT_EQ(pica_join(above, NULL), PICA_ECANCELED);
    PT_EQ(pica_join(fresh, NULL), 0);
    return 0;
}

PT_TEST_HIDDEN(subject, 60) {
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.workers = 1;
    PT_EQ(pica_run_opts(looked_at, NULL, &options), 0);
}

/* --- gdb --- */

enum { OUTPUT = 256 * 1024 };

static void tool_path(char *path, size_t size) {
    snprintf(path, size, "%s", __FILE__);
    char *end = strstr(path, "tests/unit/");
    PT_REQUIRE(end != NULL);
    snprintf(end, size - (size_t)(end - path), "tools/gdb/pica.py");
}

/* Runs gdb with arguments behind the program's name, and returns what it wrote. */
static char *gdb(const char *commands, const char *tail) {
    char tool[PATH_MAX], program[PATH_MAX];
    tool_path(tool, sizeof tool);
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    PT_REQUIRE(n > 0);
    program[n] = 0;
    static char command[3 * PATH_MAX];
    snprintf(command, sizeof command,
             "gdb -nx -batch -ex 'set confirm off' -ex 'set width 0' -ex 'source %s' %s '%s' %s 2>&1 </dev/null",
             tool, commands, program, tail);
    FILE *out = popen(command, "r");
    PT_REQUIRE(out != NULL);
    char *text = calloc(1, OUTPUT);
    PT_REQUIRE(text != NULL);
    (void)!fread(text, 1, OUTPUT - 1, out);
    pclose(out);
    if (strstr(text, "ptrace:") != NULL) {
        PT_SKIP("gdb may not trace here");
    }
    return text;
}

static void expect(const char *text, const char *expected) {
    if (strstr(text, expected) == NULL) {
        PT_FAIL("gdb did not say \"%s\":\n%s", expected, text);
    }
}

/* The part of the output between two marks, copied. */
static char *section(const char *text, const char *name) {
    char mark[64];
    snprintf(mark, sizeof mark, "=== %s\n", name);
    const char *at = strstr(text, mark);
    if (at == NULL) {
        PT_FAIL("no section %s in:\n%s", name, text);
        return strdup("");
    }
    at += strlen(mark);
    const char *end = strstr(at, "=== ");
    return strndup(at, end == NULL ? strlen(at) : (size_t)(end - at));
}

/* Numbers of tasks are given in the order of their creation: on one loop main 1, sleeping 2, parent 3, child 4. */
#define LOOK                                                                                       \
    "-ex 'echo === tasks\\n' -ex 'pica tasks' -ex 'echo === sleeping\\n' -ex 'pica bt 2' "         \
    "-ex 'echo === parent\\n' -ex 'pica bt 3' -ex 'echo === child\\n' -ex 'pica bt 1.4' "            \
    "-ex 'echo === after\\n' -ex 'backtrace' -ex 'echo === running\\n' -ex 'pica bt 1' "

static void judge(const char *text) {
    char *part = section(text, "tasks");
    expect(part, "runtime 1: 1 workers\n");
    expect(part, "    1 'main': running on worker 0\n");
    expect(part, "    2 'sleeping': waiting: sleep\n");
    expect(part, "    3 'parent': waiting: await, task 4\n");
    expect(part, "    4 'child': waiting: sleep\n");
    expect(part, "    5 'fresh': new\n");
    free(part);
    static const char *const names[] = {"sleeping", "parent", "child"};
    for (int i = 0; i < 3; i++) {
        part = section(text, names[i]);
        int deep = 0;
        for (const char *at = part; (at = strstr(at, " sleeps_deep (depth=")) != NULL; at++) {
            deep++;
        }
        PT_EQ(deep, 4);
        expect(part, " sleeper (");
        /* Without debug information gdb takes the name of an assembly function for one of Ada's. */
        PT_CHECK(strstr(part, " pica__context_") != NULL || strstr(part, " pica.context_") != NULL);
        if (i > 0) {
            expect(part, " awaits_it (");
            expect(part, " parent (");
        }
        PT_CHECK(strstr(part, "stop_here") == NULL);
        PT_CHECK(strstr(part, "Backtrace stopped") == NULL);
        PT_CHECK(strstr(part, "#0") != NULL);
        free(part);
    }
    part = section(text, "after"); /* nothing of it stays */
    expect(part, "#0  stop_here (");
    expect(part, " looked_at (");
    PT_CHECK(strstr(part, "sleeps_deep") == NULL);
    free(part);
    part = section(text, "running");
    expect(part, "task 1 runs on worker 0: look at the thread pica-w0000");
    free(part);
}

PT_TEST_TIMEOUT(live_and_core, 120) {
#if PICA__TSAN || PICA__ASAN
    PT_SKIP("needs a build without sanitizers");
#endif
    need_trace();
    if (system("gdb --version >/dev/null 2>&1") != 0) {
        PT_SKIP("gdb is not installed");
    }
    char core[] = "/tmp/pica-test-core-XXXXXX";
    int fd = mkstemp(core);
    PT_REQUIRE(fd >= 0);
    close(fd);
    char commands[1024];
    snprintf(commands, sizeof commands,
             /* gdb's own core files end a mapping where it finds a page that cannot be read, and guards
              * installed by MADV_GUARD_INSTALL lie inside a mapping; the kernel's own have no such gap. */
             "-ex 'set environment PICA_DEBUG without=guard-install' -ex 'break stop_here' -ex 'run --here subject' %s -ex 'echo === core\\n' "
             "-ex 'generate-core-file %s' -ex 'echo === goes on\\n' -ex 'delete' -ex 'continue'",
             LOOK, core);
    char *text = gdb(commands, "");
    judge(text);
    char *part = section(text, "goes on");
    expect(part, "exited normally]");
    free(part);
    free(text);
    text = gdb(LOOK, core);
    judge(text);
    free(text);
    unlink(core);
}

PT_TEST_TIMEOUT(without_the_library, 60) {
    if (system("gdb --version >/dev/null 2>&1") != 0) {
        PT_SKIP("gdb is not installed");
    }
    char tool[PATH_MAX], command[PATH_MAX + 200];
    tool_path(tool, sizeof tool);
    snprintf(command, sizeof command,
             "gdb -nx -batch -ex 'source %s' -ex 'pica tasks' -ex 'pica bt x' 2>&1 </dev/null", tool);
    FILE *out = popen(command, "r");
    PT_REQUIRE(out != NULL);
    char text[4096];
    text[fread(text, 1, sizeof text - 1, out)] = 0;
    pclose(out);
    expect(text, "no pica__runtimes");
    expect(text, "usage: pica bt ID");
    PT_CHECK(strstr(text, "Traceback") == NULL);
}

PT_MAIN()
