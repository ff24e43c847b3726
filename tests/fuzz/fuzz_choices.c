/* The whole runtime, with the input as the simulator's choices: the first byte names a workload of tests/workloads, the
 * second says whether there are faults, and the rest is drawn from instead of the seed (options.choices of
 * <pica/testing.h>). The workload's own oracle, the simulator's and the sanitizers judge. What is reached by which
 * choices is what the fuzzer learns from, so it gets to rare orders sooner than chance does.
 *
 * PICA_FUZZ_WORKLOAD: the only one that is run, also a hidden one. */
#include <pica/testing.h>

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/workloads/workload.h"

static const struct workload *workload_of(unsigned which) {
    const char *name = getenv("PICA_FUZZ_WORKLOAD");
    unsigned shown = 0;
    for (const struct workload *w = workloads; w->name != NULL; w++) {
        if (name != NULL && strcmp(w->name, name) == 0) {
            return w;
        }
        shown += !w->hidden;
    }
    if (name != NULL) {
        FUZZ_FAIL("there is no workload %s", name);
    }
    return &workloads[which % shown]; /* the hidden ones come last */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct script s = {data, size};
    struct pica_sim_report report = {.size = sizeof report};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    fuzz_quiet();
    const struct workload *w = workload_of(script_byte(&s));
    wl_no_faults = script_below(&s, 4) == 0;
    options.faults = wl_no_faults ? -1 : 0;
    options.check =
        -1; /* that equal choices give equal runs is looked at by tests/api/test_sim.c */
    options.plain = w->plain;
    options.report = &report;
    options.choices = s.data;
    options.choices_size = s.size;
    int rc = pica_sim_run(1, &options, w->main, NULL);
    if (rc < 0) {
        FUZZ_FAIL("%s: %s, %s", w->name, pica_err_name(rc), report.failure);
    }
    return 0;
}
