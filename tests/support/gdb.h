/* Steps a case of the test program through gdb, one instruction at a time, and judges the backtrace at
 * each: it must go through the case to the program's first function, or end at the first one of a
 * context, and never be cut short or corrupt. For x86-64; elsewhere, and where gdb cannot work, the case is skipped. */
#ifndef GDB_H
#define GDB_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/compiler.h"
#include "tests/support/pt.h"

#if defined(__x86_64__) && !PICA__TSAN && !PICA__ASAN
#define GDB_CAN_RUN_THIS true
#else
#define GDB_CAN_RUN_THIS false
#endif

struct gdb_steps {
    int steps;     /* backtraces that were taken */
    int on_thread; /* of them, those that ended at the program's first function */
    int on_fiber;  /* and those that ended at pica__context_entry */
};

/* Starts gdb on this program; the stream is to be closed with pclose. */
static inline FILE *gdb_start(const char *script, const char *function, const char *name,
                              int steps) {
    FILE *f = fopen(script, "w");
    PT_REQUIRE(f != NULL);
    fprintf(f,
            "set confirm off\n"
            "break *%s\n"
            "run --here %s\n"
            "delete\n"
            "set $i = 0\n"
            "while $i < %d\n"
            "  echo === step\\n\n"
            "  backtrace\n"
            "  stepi\n"
            "  set $i = $i + 1\n"
            "end\n"
            "echo === end\\n\n"
            "kill\n",
            function, name, steps);
    fclose(f);
    char exe[512];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    PT_REQUIRE(n > 0);
    exe[n] = '\0';
    char command[1200];
    snprintf(command, sizeof command, "gdb -nx -batch -x '%s' '%s' 2>&1 </dev/null", script, exe);
    FILE *out = popen(command, "r");
    PT_REQUIRE(out != NULL);
    return out;
}

/* Reads what gdb wrote of the case `name`. A line that is not as it should be is left in `bad`, of 1024
 * bytes. */
static inline struct gdb_steps gdb_judge(FILE *out, const char *name, char *bad) {
    struct gdb_steps seen = {0, 0, 0};
    char line[1024];
    char last[1024] = "";
    char function[128];
    bool through = false;
    snprintf(function, sizeof function, " pt_run_%s (", name);
    bad[0] = '\0';
    while (fgets(line, sizeof line, out) != NULL) {
        if (strstr(line, "Backtrace stopped") != NULL || strstr(line, "ptrace:") != NULL ||
            (line[0] == '#' && strstr(line, "?? (") != NULL)) {
            memcpy(bad, line, sizeof line);
        } else if (line[0] == '#') {
            memcpy(last, line, sizeof last);
            through = through || strstr(line, function) != NULL;
        } else if (strncmp(line, "=== ", 4) == 0 && last[0] != '\0') {
            bool first = strstr(last, " _start (") != NULL || strstr(last, "main (") != NULL;
            bool thread = through && first;
            bool fiber = strstr(last, "context_entry (") != NULL;
            if (!thread && !fiber) {
                memcpy(bad, last, sizeof last);
            }
            seen.on_thread += thread;
            seen.on_fiber += fiber;
            seen.steps++;
            last[0] = '\0';
            through = false;
        }
    }
    return seen;
}

/* Runs the case `name` up to the first instruction of `function` and takes `steps` steps from there. */
static inline struct gdb_steps gdb_step(const char *function, const char *name, int steps) {
    if (!GDB_CAN_RUN_THIS) {
        PT_SKIP("needs a native build without sanitizers");
    }
    if (system("gdb --version >/dev/null 2>&1") != 0) {
        PT_SKIP("gdb is not installed");
    }
    char script[] = "/tmp/pica-test-gdb-XXXXXX";
    int fd = mkstemp(script);
    PT_REQUIRE(fd >= 0);
    close(fd);
    char bad[1024];
    FILE *out = gdb_start(script, function, name, steps);
    struct gdb_steps seen = gdb_judge(out, name, bad);
    pclose(out);
    unlink(script);
    if (strstr(bad, "ptrace:") != NULL) {
        PT_SKIP("gdb may not trace here");
    }
    PT_STR_EQ(bad, "");
    PT_EQ(seen.steps, steps);
    return seen;
}

#endif
