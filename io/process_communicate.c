/* Talking to a child until it ends: its input is written and its outputs are read by a task each, so that none has
 * to wait for another. They lie, with their results, in the frame of the caller, who leaves only when all of
 * them have ended: the first failure, or a cancellation, cancels the others.
 *
 * The results are the C library's memory, since it is the user who frees them.
 */
#include "io/process.h"

#include <pica/task.h>

#include <stdlib.h>
#include <string.h>

/* So much is handed to the writer at a time. */
#define FEED_BYTES ((size_t)64 * 1024)
#define GATHER_MIN ((size_t)16 * 1024)

struct feed {
    pica_writer *writer;
    const char *input;
    size_t size;
};

struct gathered {
    pica_reader *reader;
    bool keep;         /* else it is read and dropped */
    size_t limit;
    char *data;
    size_t size;
    size_t capacity;   /* one more than may be filled: the zero */
};

static int feeds(void *arg) {
    struct feed *f = arg;
    int rc = 0;
    for (size_t at = 0; at < f->size && rc >= 0;) {
        size_t n = f->size - at < FEED_BYTES ? f->size - at : FEED_BYTES;
        rc = pica_writer_write(f->writer, f->input + at, n);
        rc = rc < 0 ? rc : pica_writer_drain(f->writer);
        at += n;
    }
    if (rc != PICA_ECANCELED) {
        pica_writer_close(f->writer);
    }
    return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc; /* it did not want it all */
}

/* Makes room for at least one byte more, as long as there is to be more. */
static int grow(struct gathered *g) {
    if (g->size + 1 < g->capacity) {
        return 0;
    }
    size_t capacity = g->capacity == 0 ? GATHER_MIN : 2 * g->capacity;
    if (capacity - 1 > g->limit) {
        capacity = g->limit + 1;
    }
    char *data = realloc(g->data, capacity);
    if (data == NULL) {
        return -ENOMEM;
    }
    g->data = data;
    g->capacity = capacity;
    return 0;
}

static int gathers(void *arg) {
    struct gathered *g = arg;
    char over[4096];
    for (;;) {
        bool full = !g->keep || g->size == g->limit;
        int rc = full ? 0 : grow(g);
        if (rc < 0) {
            return rc;
        }
        ssize_t n = full ? pica_reader_read(g->reader, over, sizeof over)
                         : pica_reader_read(g->reader, g->data + g->size,
                                            g->capacity - 1 - g->size);
        if (n <= 0) {
            return (int)n;
        }
        if (g->keep && full) {
            return -EMSGSIZE;
        }
        g->size += g->keep ? (size_t)n : 0;
    }
}

/* Hands over what came, as an exact piece of memory. */
static int give(struct gathered *g, void **out, size_t *size) {
    int rc = 0;
    if (g->keep) {
        char *data = realloc(g->data, g->size + 1);
        data = data == NULL ? g->data : data; /* larger than it must be, or none at all */
        if (data != NULL) {
            data[g->size] = 0;
        } else {
            rc = -ENOMEM;
        }
        *out = data;
    }
    if (size != NULL) {
        *size = g->size;
    }
    return rc;
}

/* Runs the jobs until all have succeeded or one has failed; none runs any more then. */
static int run_jobs(size_t n, const pica_fn fns[], void *const args[]) {
    pica_task *tasks[3];
    pica_future *futures[3];
    size_t created = 0;
    int rc = 0;
    while (created < n && rc == 0) {
        rc = pica_create_task(&tasks[created], fns[created], args[created]);
        if (rc == 0) {
            futures[created] = pica_task_future(tasks[created]);
            created++;
        }
    }
    if (rc == 0) {
        rc = pica_gather(created, futures, 0);
    }
    if (rc < 0) {
        for (size_t i = 0; i < created; i++) {
            (void)pica_task_cancel(tasks[i]);
        }
    }
    /* Also if that has no memory for a wait: one after the other, without what a cancellation could cut short. */
    for (size_t i = 0; i < created; i++) {
        while (!pica_future_done(futures[i])) {
            int cut = pica_await(futures[i], NULL);
            rc = rc < 0 || cut != PICA_ECANCELED ? rc : cut;
            if (cut == -ENOMEM) {
                (void)pica_yield(); /* no stack to start it on just now */
            }
        }
        (void)pica_future_result(futures[i], NULL); /* it was looked at */
        pica_task_unref(tasks[i]);
    }
    return rc;
}

int pica_process_communicate(pica_process *p, const void *input, size_t size, void **out,
                             size_t *out_size, void **err, size_t *err_size) {
    struct feed feed = {p->in, input, size};
    struct gathered outs[2] = {
        {p->out, out != NULL && p->out != NULL, p->output_limit, NULL, 0, 0},
        {p->err, err != NULL && p->err != NULL, p->output_limit, NULL, 0, 0},
    };
    pica_fn fns[3];
    void *args[3];
    size_t n = 0;
    void **const results[2] = {out, err};
    size_t *const sizes[2] = {out_size, err_size};
    for (int i = 0; i < 2; i++) {
        if (results[i] != NULL) {
            *results[i] = NULL;
        }
        if (outs[i].reader != NULL) {
            fns[n] = gathers;
            args[n++] = &outs[i];
        }
    }
    if (size != 0 && (p->in == NULL || input == NULL)) {
        return -EINVAL;
    }
    if (p->in != NULL) {
        fns[n] = feeds;
        args[n++] = &feed;
    }
    int rc = pica_checkpoint();
    rc = rc < 0 ? rc : run_jobs(n, fns, args);
    rc = rc < 0 ? rc : pica_process_wait(p, NULL);
    for (int i = 0; i < 2; i++) {
        int given = give(&outs[i], results[i], sizes[i]);
        rc = rc < 0 ? rc : given;
    }
    return rc;
}
