/* Runs shell commands at the same time, a limited number at once, and prints what each of them wrote, in the
 * order of the commands, with how it ended.
 *
 *     pica-run-commands [--jobs N] COMMAND...
 *
 * One task for each of N jobs takes the next command from a queue. Ctrl-C cancels: commands that run are told
 * to end, those that wait never start. The exit code is 0 if all commands ended with 0. */
#include <pica.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *text;
    void *output;
    size_t size;
    int error;      /* why it could not be run, or was not */
    int returncode; /* minus the signal that ended it */
};

static struct command *commands;
static int count, jobs = 4;

static int run(struct command *c) {
    struct pica_process_options options = PICA_PROCESS_OPTIONS_INIT;
    pica_process *process;
    options.in = PICA_DEVNULL;
    options.out = PICA_PIPE;
    options.err = PICA_STDOUT;
    int rc = pica_create_subprocess_shell(&process, c->text, &options);
    if (rc < 0) {
        return rc;
    }
    rc = pica_process_communicate(process, NULL, 0, &c->output, &c->size, NULL, NULL);
    if (rc < 0) {
        (void)pica_process_terminate(process);
    } else {
        rc = pica_process_returncode(process, &c->returncode);
    }
    pica_process_release(process);
    return rc;
}

static int job(void *arg) {
    pica_queue *queue = arg;
    void *item;
    int rc;
    while ((rc = pica_queue_get(queue, &item)) == 0) {
        struct command *c = item;
        c->error = run(c);
        if (c->error == PICA_ECANCELED) {
            return c->error;
        }
    }
    return rc == PICA_ESHUTDOWN ? 0 : rc;
}

static int run_all(pica_task *task[]) {
    pica_queue queue;
    pica_future *future[64];
    int rc = 0, started = 0;
    pica_queue_init(&queue, 0);
    for (int i = 0; i < count && rc == 0; i++) {
        commands[i].error = PICA_ECANCELED; /* until it was run */
        rc = pica_queue_put_nowait(&queue, &commands[i]);
    }
    pica_queue_shutdown(&queue, 0, NULL);
    while (rc == 0 && started < jobs) {
        rc = pica_create_task(&task[started], job, &queue);
        if (rc == 0) {
            future[started] = PICA_FUTURE(task[started]);
            started++;
        }
    }
    /* Cancelled, it cancels the jobs and waits until they have ended. */
    int ended = pica_gather((size_t)started, future, PICA_RETURN_EXCEPTIONS);
    for (int i = 0; i < started; i++) {
        pica_task_unref(task[i]);
    }
    pica_queue_destroy(&queue, NULL);
    return rc < 0 ? rc : ended;
}

static int report(void) {
    int bad = 0;
    for (int i = 0; i < count; i++) {
        struct command *c = &commands[i];
        printf("=== %s\n%.*s", c->text, (int)c->size, c->output == NULL ? "" : (char *)c->output);
        if (c->error < 0) {
            printf("--- not run to its end: %s\n", pica_strerror(c->error));
        } else {
            printf("--- %s %d\n", c->returncode < 0 ? "signal" : "exit code", abs(c->returncode));
        }
        bad += c->error < 0 || c->returncode != 0;
        free(c->output);
    }
    return bad;
}

static int amain(void *arg) {
    pica_task *task[64];
    (void)arg;
    return run_all(task);
}

int main(int argc, char **argv) {
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--jobs") == 0) {
        jobs = atoi(argv[2]);
        first = 3;
    }
    count = argc - first;
    if (count <= 0 || jobs < 1 || jobs > 64) {
        fprintf(stderr, "usage: %s [--jobs 1..64] COMMAND...\n", argv[0]);
        return 2;
    }
    commands = calloc((size_t)count, sizeof *commands);
    if (commands == NULL) {
        return 1;
    }
    for (int i = 0; i < count; i++) {
        commands[i].text = argv[first + i];
    }
    struct pica_runtime_options options = PICA_RUNTIME_OPTIONS_INIT;
    options.handle_signals = 1;
    int rc = pica_run_opts(amain, NULL, &options);
    int bad = report();
    free(commands);
    if (rc < 0) {
        fprintf(stderr, "run_commands: %s\n", pica_strerror(rc));
    }
    return rc < 0 || bad != 0;
}
