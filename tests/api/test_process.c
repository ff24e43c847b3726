/* Child processes: starting, waiting, signals, pipes, and that nothing of them is left. */
#include <pica.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/machine.h"
#include "tests/support/procfs.h"
#include "tests/support/tasks.h"

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct pica_process_options with_pipes(void) {
    struct pica_process_options o = PICA_PROCESS_OPTIONS_INIT;
    o.in = o.out = o.err = PICA_PIPE;
    return o;
}

static pica_process *shell(const char *command, const struct pica_process_options *o) {
    pica_process *p = NULL;
    PT_REQUIRE(pica_create_subprocess_shell(&p, command, o) == 0);
    return p;
}

static int wait_code(pica_process *p) {
    int code = -1000;
    PT_EQ(pica_process_wait(p, &code), 0);
    return code;
}

/* No child at all, not even one that has ended. Out of line: errno does not follow a task. */
__attribute__((noinline)) static void check_no_child(void) {
    siginfo_t info;
    PT_EQ(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1);
    PT_EQ(errno, ECHILD);
}

/* Until background ends (a released handle's, say) have taken place; the case's time-out bounds it. */
static void wait_no_child(void) {
    siginfo_t info;
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && pica_sleep(0.001) == 0) {
    }
}

static void wait_fds(long fds) {
    while (procfs_fds() > fds && pica_sleep(0.001) == 0) {
    }
    PT_EQ(procfs_fds(), fds);
}

static void outputs(pica_process *p, const char *out, const char *err) {
    void *o = NULL, *e = NULL;
    size_t on = 0, en = 0;
    PT_EQ(pica_process_communicate(p, NULL, 0, &o, &on, &e, &en), 0);
    PT_STR_EQ(o == NULL ? "(none)" : (char *)o, out);
    PT_STR_EQ(e == NULL ? "(none)" : (char *)e, err);
    PT_EQ(on, o == NULL ? 0 : strlen(out));
    PT_EQ(en, e == NULL ? 0 : strlen(err));
    free(o);
    free(e);
}

/* --- results --- */

TASK_TEST(exit_codes) {
    static const int codes[] = {0, 1, 42, 255};
    long fds = procfs_fds();
    for (int i = 0; i < 4; i++) {
        char command[32];
        snprintf(command, sizeof command, "exit %d", codes[i]);
        pica_process *p = shell(command, NULL);
        PT_CHECK(pica_process_pid(p) > 0);
        PT_EQ(wait_code(p), codes[i]);
        PT_EQ(wait_code(p), codes[i]); /* any number of times */
        int code = -1000;
        PT_EQ(pica_process_returncode(p, &code), 1);
        PT_EQ(code, codes[i]);
        PT_EQ(pica_process_kill(p), -ESRCH);
        PT_CHECK(pica_process_stdin(p) == NULL && pica_process_stdout(p) == NULL);
        PT_EQ(procfs_fds(), fds);
        pica_process_release(p);
    }
    check_no_child();
    (void)arg;
    return 0;
}

TASK_TEST(signals) {
    pica_process *p = shell("exec sleep 1000", NULL);
    int code;
    PT_EQ(pica_process_returncode(p, &code), 0);
    PT_EQ(pica_process_send_signal(p, 0), 0);
    PT_EQ(pica_process_send_signal(p, 1000), -EINVAL);
    PT_EQ(pica_process_terminate(p), 0);
    PT_EQ(wait_code(p), -SIGTERM);
    PT_EQ(pica_process_terminate(p), -ESRCH);
    pica_process_release(p);
    p = shell("exec sleep 1000", NULL);
    PT_EQ(pica_process_send_signal(p, SIGSTOP), 0);
    PT_EQ(pica_process_kill(p), 0);
    PT_EQ(wait_code(p), -SIGKILL);
    pica_process_release(p);
    (void)arg;
    return 0;
}

TASK_TEST(errors_of_exec) {
    need_spawn_that_waits();
    pica_process *p = NULL;
    struct pica_process_options o = with_pipes();
    long fds = procfs_fds();
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("/no/such/program"), &o), -ENOENT);
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("pica-no-such-program"), NULL), -ENOENT);
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("/etc/passwd"), NULL), -EACCES);
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("/"), NULL), -EACCES);
    o.cwd = "/no/such/folder";
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("true"), &o), -ENOENT);
    PT_CHECK(p == NULL);
    check_no_child();
    wait_fds(fds);
    (void)arg;
    return 0;
}

TASK_TEST(bad_arguments) {
    pica_process *p = NULL;
    struct pica_process_options o = PICA_PROCESS_OPTIONS_INIT;
    PT_EQ(pica_create_subprocess_exec(NULL, ARGV("true"), NULL), -EINVAL);
    PT_EQ(pica_create_subprocess_exec(&p, NULL, NULL), -EINVAL);
    PT_EQ(pica_create_subprocess_exec(&p, ARGV(NULL), NULL), -EINVAL);
    PT_EQ(pica_create_subprocess_shell(&p, NULL, NULL), -EINVAL);
    o.size--;
    PT_EQ(pica_create_subprocess_shell(&p, "true", &o), -EINVAL);
    o.size++;
    o.out = PICA_STDOUT;
    PT_EQ(pica_create_subprocess_shell(&p, "true", &o), -EINVAL);
    o.out = -5;
    PT_EQ(pica_create_subprocess_shell(&p, "true", &o), -EINVAL);
    o.out = 1000; /* not open */
    PT_EQ(pica_create_subprocess_shell(&p, "true", &o), -EBADF);
    pica_process_release(NULL);
    (void)arg;
    return 0;
}

PT_TEST(outside_a_task) {
    pica_process *p = NULL;
    PT_EQ(pica_create_subprocess_shell(&p, "true", NULL), PICA_ENOTASK);
    PT_CHECK(p == NULL);
    check_no_child();
}

/* --- what the child gets --- */

TASK_TEST(options) {
    struct pica_process_options o = with_pipes();
    const char *const env[] = {"PICA_A=1", "PICA_B=two", NULL};
    o.cwd = "/usr";
    o.env = env;
    pica_process *p = NULL;
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("/bin/sh", "-c", "pwd; echo $PICA_A $PICA_B $0 $1 >&2",
                                               "x", "y z"), &o), 0);
    outputs(p, "/usr\n", "1 two x y z\n");
    pica_process_release(p);

    o = with_pipes();
    o.err = PICA_STDOUT;
    p = shell("echo a; echo b >&2; echo c", &o);
    PT_CHECK(pica_process_stderr(p) == NULL);
    outputs(p, "a\nb\nc\n", "(none)");
    pica_process_release(p);

    o = with_pipes();
    o.in = o.err = PICA_DEVNULL;
    p = shell("cat; echo lost >&2", &o);
    outputs(p, "", "(none)");
    PT_EQ(wait_code(p), 0);
    pica_process_release(p);
    (void)arg;
    return 0;
}

TASK_TEST(groups_and_sessions) {
    need_spawn_that_waits();
    struct pica_process_options o = with_pipes();
    for (int i = 0; i < 2; i++) {
        o.new_group = i == 0;
        o.new_session = i == 1;
        pica_process *p = shell("read x", &o);
        pid_t pid = pica_process_pid(p);
        PT_EQ(getpgid(pid), pid);
        PT_EQ(getsid(pid), i == 1 ? pid : getsid(0));
        PT_EQ(pica_process_kill(p), 0);
        PT_EQ(wait_code(p), -SIGKILL);
        pica_process_release(p);
    }
    (void)arg;
    return 0;
}

/* A descriptor each, also where the numbers are crossed: the child's stdin is our stdout, and so on. */
TASK_TEST(given_descriptors) {
    int a[2], b[2];
    PT_REQUIRE(pipe2(a, O_CLOEXEC) == 0 && pipe2(b, O_CLOEXEC) == 0);
    int saved[2] = {fcntl(0, F_DUPFD_CLOEXEC, 10), fcntl(1, F_DUPFD_CLOEXEC, 10)};
    PT_REQUIRE(saved[0] >= 0 && saved[1] >= 0);
    PT_REQUIRE(dup2(b[1], 0) == 0 && dup2(a[0], 1) == 1);
    struct pica_process_options o = PICA_PROCESS_OPTIONS_INIT;
    o.in = 1;
    o.out = 0;
    pica_process *p = shell("read x; echo got $x", &o);
    PT_REQUIRE(dup2(saved[0], 0) == 0 && dup2(saved[1], 1) == 1);
    PT_EQ(write(a[1], "it\n", 3), 3);
    PT_EQ(wait_code(p), 0);
    pica_process_release(p);
    char text[16] = "";
    PT_EQ(read(b[0], text, sizeof text - 1), 7);
    PT_STR_EQ(text, "got it\n");
    int all[] = {a[0], a[1], b[0], b[1], saved[0], saved[1]};
    for (int i = 0; i < 6; i++) {
        close(all[i]);
    }
    (void)arg;
    return 0;
}

/* A program that runs without some of the three: the pipes' ends get these numbers, in any order. */
TASK_TEST(pipes_in_the_place_of_the_three) {
    struct pica_process_options o = with_pipes();
    int saved[3];
    for (int mask = 1; mask < 8; mask++) {
        for (int i = 0; i < 3; i++) {
            PT_REQUIRE((saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10)) >= 0);
            if ((mask & 1 << i) != 0) {
                close(i);
            }
        }
        pica_process *p = NULL;
        int rc = pica_create_subprocess_shell(&p, "cat; echo error >&2", &o);
        void *out = NULL, *err = NULL;
        if (rc == 0) {
            rc = pica_process_communicate(p, "input", 5, &out, NULL, &err, NULL);
            pica_process_release(p);
            for (int i = 0; i < 3; i++) { /* the loop closes the program's ends */
                while ((mask & 1 << i) != 0 && fcntl(i, F_GETFD) >= 0) {
                    PT_EQ(pica_sleep(0.001), 0);
                }
            }
        }
        for (int i = 0; i < 3; i++) {
            PT_REQUIRE(dup2(saved[i], i) == i);
            close(saved[i]);
        }
        PT_EQ(rc, 0);
        PT_STR_EQ(out == NULL ? "" : (char *)out, "input");
        PT_STR_EQ(err == NULL ? "" : (char *)err, "error\n");
        free(out);
        free(err);
    }
    (void)arg;
    return 0;
}

TASK_TEST(started_without_stdin) {
    int saved = fcntl(0, F_DUPFD_CLOEXEC, 10), given = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct pica_process_options o = with_pipes();
    pica_process *a = NULL, *b = NULL;
    close(0);
    o.in = PICA_INHERIT; /* there is none, whatever the number 0 becomes meanwhile */
    PT_EQ(pica_create_subprocess_shell(&a, "readlink /proc/self/fd/0 || echo none", &o), 0);
    outputs(a, "none\n", "");
    pica_process_release(a);
    while (fcntl(0, F_GETFD) >= 0) {
        PT_EQ(pica_sleep(0.001), 0);
    }
    o.in = given;
    o.out = PICA_DEVNULL; /* gets the number 0 */
    PT_EQ(pica_create_subprocess_shell(&b, "echo x || echo bad >&2", &o), 0);
    PT_REQUIRE(dup2(saved, 0) == 0);
    outputs(b, "(none)", "");
    pica_process_release(b);
    close(saved);
    close(given);
    (void)arg;
    return 0;
}

TASK_TEST(nothing_else_is_inherited) {
    struct pica_process_options o = with_pipes();
    const char *list = "ls /proc/self/fd | wc -l";
    int open_fd = open("/dev/null", O_RDONLY);
    /* 0, 1, 2, and the one that ls has for the folder */
    pica_process *p = shell(list, &o);
    outputs(p, "4\n", "");
    pica_process_release(p);
    o.inherit_fds = 1;
    p = shell(list, &o);
    void *out = NULL;
    PT_EQ(pica_process_communicate(p, NULL, 0, &out, NULL, NULL, NULL), 0);
    PT_CHECK(out != NULL && atoi(out) >= 5);
    free(out);
    pica_process_release(p);
    close(open_fd);
    (void)arg;
    return 0;
}

TASK_TEST(signals_are_reset) {
    struct pica_process_options o = with_pipes();
    sigset_t all, old;
    signal(SIGUSR1, SIG_IGN);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pica_process *p = NULL;
    PT_EQ(pica_create_subprocess_exec(&p, ARGV("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"), &o), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    void *out = NULL;
    PT_EQ(pica_process_communicate(p, NULL, 0, &out, NULL, NULL, NULL), 0);
    unsigned long long blocked = 1, ignored = 1;
    PT_EQ(sscanf(out, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
    PT_EQ(blocked, 0);
    /* The C library's own two are its own affair. An emulator gives those above 31 other numbers. */
    unsigned long long own = pt_emulator() == NULL ? 0x180000000ULL : ~0x7fffffffULL;
    PT_EQ(ignored & ~own, 0);
    free(out);
    pica_process_release(p);
    signal(SIGUSR1, SIG_DFL);
    (void)arg;
    return 0;
}

/* --- pipes --- */

TASK_TEST(talking_line_by_line) {
    struct pica_process_options o = with_pipes();
    long fds = procfs_fds();
    pica_process *p = shell("while read x; do echo \"<$x>\"; done; echo end >&2", &o);
    for (int i = 0; i < 20; i++) {
        const char *line = NULL;
        char expected[32];
        snprintf(expected, sizeof expected, "<%d>\n", i);
        PT_EQ(pica_writer_write(pica_process_stdin(p), expected + 1, strlen(expected) - 3), 0);
        PT_EQ(pica_writer_write(pica_process_stdin(p), "\n", 1), 0);
        ssize_t n = pica_reader_readline(pica_process_stdout(p), &line);
        PT_CHECK(n == (ssize_t)strlen(expected) && memcmp(line, expected, (size_t)n) == 0);
    }
    PT_EQ(pica_writer_write_eof(pica_process_stdin(p)), 0);
    outputs(p, "", "end\n");
    pica_process_release(p);
    wait_fds(fds);
    (void)arg;
    return 0;
}

/* Much more than pipes hold, both ways at once. */
static void big_communicate(size_t size) {
    struct pica_process_options o = with_pipes();
    char *input = malloc(size);
    PT_REQUIRE(input != NULL);
    for (size_t i = 0; i < size; i++) {
        input[i] = (char)((i * 2654435761u) >> 13);
    }
    pica_process *p = shell("tee /dev/stderr", &o);
    void *out = NULL, *err = NULL;
    size_t out_size = 0, err_size = 0;
    PT_EQ(pica_process_communicate(p, input, size, &out, &out_size, &err, &err_size), 0);
    PT_EQ(out_size, size);
    PT_EQ(err_size, size);
    PT_CHECK(out != NULL && memcmp(out, input, size) == 0);
    PT_CHECK(err != NULL && memcmp(err, input, size) == 0);
    PT_EQ(wait_code(p), 0);
    pica_process_release(p);
    free(out);
    free(err);
    free(input);
}

TASK_TEST(big_communicate_both_ways) {
    big_communicate((size_t)8 * 1024 * 1024);
    big_communicate(1);
    big_communicate(0);
    (void)arg;
    return 0;
}

TASK_TEST(child_that_does_not_read) {
    struct pica_process_options o = with_pipes();
    static char input[1 << 20];
    for (int i = 0; i < 2; i++) {
        /* It ends, or closes its stdin and goes on. */
        pica_process *p = shell(i == 0 ? "exec true" : "exec <&-; sleep 0.05; echo late", &o);
        void *out = NULL;
        PT_EQ(pica_process_communicate(p, input, sizeof input, &out, NULL, NULL, NULL), 0);
        PT_STR_EQ(out == NULL ? "" : (char *)out, i == 0 ? "" : "late\n");
        PT_EQ(wait_code(p), 0);
        free(out);
        pica_process_release(p);
    }
    /* A writer of one's own sees it as an error, not as a signal. */
    pica_process *p = shell("exec true", &o);
    PT_EQ(wait_code(p), 0);
    int rc = pica_writer_write(pica_process_stdin(p), "x", 1);
    PT_CHECK(rc == -EPIPE || rc == -ECONNRESET);
    pica_process_release(p);
    (void)arg;
    return 0;
}

TASK_TEST(endless_output) {
    struct pica_process_options o = with_pipes();
    o.output_limit = 100000;
    pica_process *p = shell("exec yes", &o);
    void *out = NULL, *err = NULL;
    size_t out_size = 0, err_size = 0;
    static char input[1 << 20];
    PT_EQ(pica_process_communicate(p, input, sizeof input, &out, &out_size, &err, &err_size), -EMSGSIZE);
    PT_EQ(out_size, 100000);
    PT_CHECK(out != NULL && strlen(out) == 100000 && memcmp(out, "y\ny\n", 4) == 0);
    PT_EQ(err_size, 0);
    free(out);
    free(err);
    PT_EQ(pica_process_returncode(p, NULL), 0);
    PT_EQ(pica_process_kill(p), 0);
    PT_EQ(wait_code(p), -SIGKILL);
    pica_process_release(p);
    /* Exactly the limit is no error. */
    p = shell("head -c 100000 /dev/zero", &o);
    PT_EQ(pica_process_communicate(p, NULL, 0, &out, &out_size, NULL, NULL), 0);
    PT_EQ(out_size, 100000);
    free(out);
    pica_process_release(p);
    /* What is not wanted is not limited. */
    p = shell("head -c 1000000 /dev/zero", &o);
    PT_EQ(pica_process_communicate(p, NULL, 0, NULL, NULL, NULL, NULL), 0);
    PT_EQ(pica_process_communicate(p, "x", 1, NULL, NULL, NULL, NULL), PICA_ECLOSED); /* stdin is closed */
    pica_process_release(p);
    p = shell("true", NULL);
    PT_EQ(pica_process_communicate(p, "x", 1, &out, &out_size, NULL, NULL), -EINVAL);
    pica_process_release(p);
    (void)arg;
    return 0;
}

/* --- waiting --- */

static int waits(void *arg) {
    int code = 0;
    int rc = pica_process_wait(arg, &code);
    return rc < 0 ? rc : code == -SIGKILL ? 1 : 2;
}

TASK_TEST(many_wait) {
    pica_process *p = shell("exec sleep 1000", NULL);
    pica_task *tasks[20];
    for (int i = 0; i < 20; i++) {
        tasks[i] = spawn(waits, p);
    }
    PT_EQ(pica_yield(), 0);
    for (int i = 0; i < 20; i += 4) {
        PT_EQ(pica_task_cancel(tasks[i]), 1);
        PT_EQ(pica_join(tasks[i], NULL), PICA_ECANCELED); /* the others, and the child, go on */
    }
    PT_EQ(pica_process_kill(p), 0);
    for (int i = 0; i < 20; i++) {
        if (i % 4 != 0) {
            PT_EQ(pica_join(tasks[i], NULL), 1);
        }
    }
    pica_timeout t;
    PT_EQ(pica_timeout_enter(&t, 5), 0);
    PT_EQ(pica_timeout_exit(&t, pica_process_wait(p, NULL)), 0);
    pica_process_release(p);
    (void)arg;
    return 0;
}

static int starts_nothing(void *arg) {
    pica_process *p = NULL;
    PT_EQ(pica_task_cancel(pica_current_task()), 1);
    PT_EQ(pica_create_subprocess_shell(&p, "true", NULL), PICA_ECANCELED);
    PT_CHECK(p == NULL);
    (void)arg;
    return 0;
}

struct talk {
    pica_process *p;
    void *out;
    size_t size;
    bool big;
};

static char big_input[4 << 20];

static int talks(void *arg) {
    struct talk *t = arg;
    return pica_process_communicate(t->p, big_input, t->big ? sizeof big_input : 4, &t->out, &t->size, NULL,
                                    NULL);
}

TASK_TEST(cancelled_everywhere) {
    struct pica_process_options o = with_pipes();
    pica_task *task = spawn(starts_nothing, NULL);
    PT_EQ(pica_join(task, NULL), 0);
    check_no_child();
    /* While it writes to a child that does not read; while it reads; while it waits for the end. */
    const char *commands[] = {"exec sleep 1000", "cat; exec sleep 1000",
                              "cat; exec >&- 2>&-; exec sleep 1000"};
    for (int i = 0; i < 30; i++) {
        struct talk t = {shell(commands[i % 3], &o), NULL, 0, i % 3 == 0};
        task = spawn(talks, &t);
        for (int k = 0; k < i / 3; k++) {
            PT_EQ(k % 2 == 0 ? pica_yield() : pica_sleep(0.001 * k), 0);
        }
        PT_EQ(pica_task_cancel(task), 1);
        PT_EQ(pica_join(task, NULL), PICA_ECANCELED);
        PT_EQ(pica_process_returncode(t.p, NULL), 0); /* alive */
        PT_CHECK(t.size == 0 || t.size == 4);
        free(t.out);
        PT_EQ(pica_process_kill(t.p), 0);
        PT_EQ(wait_code(t.p), -SIGKILL);
        pica_process_release(t.p);
    }
    check_no_child();
    (void)arg;
    return 0;
}

/* --- nothing is left --- */

enum {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    ROUNDS = 2
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    ROUNDS = 2
#else
    ROUNDS = 20
#endif
#else
    ROUNDS = 20
#endif
};

static int runs_true(void *arg) {
    pica_process *p = NULL;
    int code = -1;
    struct pica_process_options o = with_pipes();
    int rc = pica_create_subprocess_exec(&p, ARGV("/bin/true"), arg == NULL ? NULL : &o);
    rc = rc < 0 ? rc : pica_process_wait(p, &code);
    pica_process_release(p);
    return rc < 0 ? rc : code;
}

static int a_thousand(void *arg) {
    long fds = procfs_fds();
    for (int i = 0; i < ROUNDS; i++) {
        pica_task *tasks[50];
        for (int k = 0; k < 50; k++) {
            tasks[k] = spawn(runs_true, k % 2 == 0 ? NULL : tasks);
        }
        for (int k = 0; k < 50; k++) {
            PT_EQ(pica_join(tasks[k], NULL), 0);
        }
        check_no_child();
    }
    wait_fds(fds);
    (void)arg;
    return 0;
}

PT_TEST_TIMEOUT(a_thousand_fifty_at_a_time, 60) {
    PT_EQ(pica_run(a_thousand, NULL), 0);
}

TASK_TEST(released_while_it_runs) {
    struct pica_process_options o = with_pipes();
    long fds = procfs_fds();
    for (int i = 0; i < 10; i++) {
        pica_process_release(shell("read x; exit 3", &o)); /* sees the end of its stdin */
        pica_process_release(shell("exec sleep 0.02", NULL));
    }
    wait_no_child();
    check_no_child();
    wait_fds(fds);
    (void)arg;
    return 0;
}

static int child_pid;
static pica_process *not_released[10];

static int leaves_children(void *arg) {
    struct pica_process_options o = with_pipes();
    o.in = PICA_DEVNULL;
    pica_process *p = shell("exec sleep 1000", &o);
    *(pica_process **)arg = p;
    child_pid = pica_process_pid(p);
    pica_process_release(shell("exec true", NULL));
    return 0;
}

PT_TEST(runtime_ends_first) {
    for (int i = 0; i < 10; i++) {
        PT_EQ(pica_run(leaves_children, &not_released[i]), 0);
        PT_EQ(kill(child_pid, 0), 0); /* not killed, and ours to end */
        PT_EQ(kill(child_pid, SIGKILL), 0);
        PT_EQ(waitpid(child_pid, NULL, 0), child_pid);
        while (waitpid(-1, NULL, 0) > 0) { /* it may have ended too late to be reaped */
        }
    }
}

TASK_TEST(sigchld_ignored) {
    signal(SIGCHLD, SIG_IGN);
    struct pica_process_options o = with_pipes();
    for (int i = 0; i < 20; i++) {
        pica_process *p = shell("exit 3", &o);
        PT_EQ(wait_code(p), 255);
        pica_process_release(p);
    }
    signal(SIGCHLD, SIG_DFL);
    (void)arg;
    return 0;
}

/* --- no descriptors --- */

TASK_TEST(no_descriptors) {
    struct pica_process_options o = with_pipes();
    struct rlimit old, low;
    int spare[16];
    long fds = procfs_fds();
    pica_process *p = NULL;
    PT_REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    /* One descriptor more each time, until the call succeeds. */
    int rc = -EMFILE;
    int room = 0;
    for (; rc == -EMFILE && room < 16; room++) {
        int n = 0;
        while (n < room) {
            spare[n++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        }
        low = old;
        low.rlim_cur = (rlim_t)open("/dev/null", O_RDONLY | O_CLOEXEC);
        close((int)low.rlim_cur);
        for (int i = 0; i < n; i++) {
            close(spare[i]);
        }
        PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
        rc = pica_create_subprocess_shell(&p, "exit 4", &o);
        PT_REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
        if (rc < 0) {
            PT_EQ(rc, -EMFILE);
            PT_CHECK(p == NULL);
            check_no_child();
            wait_fds(fds);
        }
    }
    PT_EQ(rc, 0);
    PT_CHECK(room >= 7); /* three pairs and the process */
    if (rc == 0) {
        PT_EQ(wait_code(p), 4);
        pica_process_release(p);
    }
    wait_fds(fds);
    (void)arg;
    return 0;
}

PT_MAIN()
