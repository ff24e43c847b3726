/* Files whose pages are in the cache: reads and writes of 4 KiB at an offset, opening and closing. */
#include <stdio.h>
#include <unistd.h>

#include "bench/micro/cases.h"

enum { BATCH = 1000, BLOCK = 4096, BLOCKS = 256 };

static pica_file *open_blocks(char *path, size_t size) {
    static const char block[BLOCK];
    pica_file *file;
    (void)snprintf(path, size, "/tmp/pica-bench-file-%d", (int)getpid());
    BM_MUST(pica_file_open(&file, path, O_RDWR | O_CREAT | O_TRUNC, 0600));
    for (int i = 0; i < BLOCKS; i++) {
        BM_MUST((int)pica_file_write(file, block, BLOCK));
    }
    return file;
}

static int file_pread(bm_state *state) {
    char path[64], block[BLOCK];
    pica_file *file = open_blocks(path, sizeof path);
    int wrong = 0;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            wrong |= pica_file_pread(file, block, BLOCK, (int64_t)(i % BLOCKS) * BLOCK) != BLOCK;
        }
    }
    BM_MUST(pica_file_close(file));
    (void)unlink(path);
    return wrong ? BM_WRONG : 0;
}

static int file_pwrite(bm_state *state) {
    static const char block[BLOCK];
    char path[64];
    pica_file *file = open_blocks(path, sizeof path);
    int wrong = 0;
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            wrong |= pica_file_pwrite(file, block, BLOCK, (int64_t)(i % BLOCKS) * BLOCK) != BLOCK;
        }
    }
    BM_MUST(pica_file_close(file));
    (void)unlink(path);
    return wrong ? BM_WRONG : 0;
}

static int file_open_close(bm_state *state) {
    char path[64];
    BM_MUST(pica_file_close(open_blocks(path, sizeof path)));
    while (bm_next(state, BATCH)) {
        for (int i = 0; i < BATCH; i++) {
            pica_file *file;
            BM_MUST(pica_file_open(&file, path, O_RDONLY, 0));
            BM_MUST(pica_file_close(file));
        }
    }
    (void)unlink(path);
    return 0;
}

const struct bm_case file_cases[] = {
    {.name = "file_pread", .task = file_pread},
    {.name = "file_pwrite", .task = file_pwrite},
    {.name = "file_open_close", .task = file_open_close},
    {0},
};
