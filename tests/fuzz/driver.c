/* A fuzz target without a fuzzer: runs the inputs that are kept, each file of the folders that are named, in the
 * order of their names. Exit status 0 if none aborted and there was one at all. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

enum { MAX_SIZE = 1 << 20 };

static int run_file(const char *path) {
    static uint8_t buffer[MAX_SIZE];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    size_t size = fread(buffer, 1, sizeof buffer, file);
    (void)fclose(file);
    /* As the fuzzer does: memory of exactly that size, so that reading over its end is seen. */
    uint8_t *data = malloc(size != 0 ? size : 1);
    if (data == NULL) {
        return -1;
    }
    memcpy(data, buffer, size);
    /* Only what does not end by itself is of interest: the last line names it. */
    (void)printf("%s\n", path);
    (void)fflush(stdout);
    int rc = LLVMFuzzerTestOneInput(data, size);
    free(data);
    return rc;
}

static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int run_folder(const char *folder) {
    struct dirent **entry = NULL;
    int n = scandir(folder, &entry, visible, alphasort);
    int rc = n > 0 ? 0 : -1;
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", folder, entry[i]->d_name);
        rc = length < (int)sizeof path && run_file(path) == 0 ? rc : -1;
        free(entry[i]);
    }
    free(entry);
    return rc;
}

int main(int argc, char **argv) {
    int rc = argc > 1 ? 0 : -1;
    for (int i = 1; i < argc; i++) {
        rc = run_folder(argv[i]) == 0 ? rc : -1;
    }
    return rc != 0;
}
