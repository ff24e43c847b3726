/* A user's program, in C: one task that sleeps. */
#include <pica.h>

static int amain(void *arg) {
    (void)arg;
    return pica_sleep(0.001);
}

int main(void) {
    return pica_run(amain, NULL);
}
