/* Loads the library at run time and runs a task: a plugin host knows it by its file only. */
#include <dlfcn.h>
#include <stdio.h>

static int (*sleep_for)(double seconds);

static int amain(void *arg) {
    int slept = sleep_for(0.001);
    return slept < 0 ? slept : *(int *)arg;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*run)(int (*fn)(void *), void *);
    *(void **)&run = dlsym(library, "pica_run");
    *(void **)&sleep_for = dlsym(library, "pica_sleep");
    if (run == NULL || sleep_for == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int answer = 42;
    int result = run(amain, &answer);
    if (result != answer) {
        fprintf(stderr, "the task gave %d\n", result);
        return 1;
    }
    return 0;
}
