/* The smallest program: one coroutine that waits without blocking its thread.
 *
 * A coroutine is a plain C function; every call that waits (here pica_sleep) suspends it, and the
 * worker thread runs other tasks meanwhile. pica_run starts the workers, runs the coroutine as the
 * main task, and ends everything when it returns.
 *
 *     pica-hello
 */
#include <pica.h>

#include <stdio.h>

static int greet(void *arg) {
    const char *name = arg;

    printf("hello, ");
    int rc = pica_sleep(0.1);
    if (rc < 0) {
        return rc;
    }
    printf("%s\n", name);
    return 0;
}

int main(void) {
    static char name[] = "world";

    int rc = pica_run(greet, name);
    if (rc < 0) {
        fprintf(stderr, "hello: %s\n", pica_strerror(rc));
        return 1;
    }
    return 0;
}
