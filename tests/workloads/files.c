/* Files: what was written is read back, by tasks that share a file and by offsets. */
#include "tests/workloads/workload.h"

#include <stdio.h>
#include <unistd.h>

enum { WRITERS = 8, PART = 100, ROUNDS = 4, TRIES = 8 };

struct job {
    pica_file *file;
    unsigned id;
    bool written;
};

/* All of it, in as many tries as it takes. */
static bool write_part(struct job *job) {
    char buffer[PART];
    size_t done = 0;
    wl_pattern(buffer, job->id, 0, PART);
    while (done < PART) {
        ssize_t n = pica_file_pwrite(job->file, buffer + done, PART - done,
                                     (int64_t)(job->id * PART + done));
        if (!WL_OK(n)) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

static int part(void *arg) {
    struct job *job = arg;
    char buffer[PART];
    for (int i = 0; i < ROUNDS; i++) {
        job->written = write_part(job) || job->written;
        if (job->written) {
            ssize_t n = pica_file_pread(job->file, buffer, PART, job->id * PART);
            if (WL_OK(n)) {
                WL_CHECK(n == PART || !wl_strict());
                WL_CHECK(wl_matches(buffer, job->id, 0, (size_t)n));
            }
        }
    }
    return 0;
}

static void use(pica_file *file) {
    struct job job[WRITERS];
    pica_task *task[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        job[i] = (struct job){file, i, false};
        task[i] = wl_task(part, &job[i], "part");
    }
    for (int i = 0; i < WRITERS; i++) {
        WL_EQ(wl_join(task[i]), 0);
    }
    (void)WL_OK(pica_file_fsync(file, 0));
    struct stat st;
    if (WL_OK(pica_file_stat(file, &st))) {
        WL_CHECK(st.st_size <= WRITERS * PART);
        WL_CHECK(st.st_size == WRITERS * PART || !job[WRITERS - 1].written);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        char buffer[PART];
        ssize_t n = pica_file_pread(file, buffer, PART, i * PART);
        if (WL_OK(n) && job[i].written) {
            WL_CHECK(wl_matches(buffer, i, 0, (size_t)n));
        }
    }
}

int wl_files(void *arg) {
    char path[64];
    pica_file *file;
    (void)arg;
    (void)snprintf(path, sizeof path, "/tmp/pica-workload-%d",
                   pica_simulated() ? 0 : (int)getpid());
    for (int i = 0; i < TRIES; i++) {
        if (WL_OK(pica_file_open(&file, path, O_RDWR | O_CREAT | O_TRUNC, 0600))) {
            use(file);
            (void)WL_OK(pica_file_close(file));
            break;
        }
    }
    if (!pica_simulated()) {
        (void)unlink(path);
    }
    wl_drain();
    return 0;
}
