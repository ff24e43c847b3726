/*
 * Every choice of a simulation: the streams of numbers, which faults happen, and what a seed decides once for
 * the whole run. What was drawn goes into the hash, so that two runs that differ anywhere differ there.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/sim/core.h"

/* In 65536ths, how often a fault happens where it can, in a run that has it. */
static const struct {
    const char *name;
    uint16_t rate;
} faults[PICA_SIM_FAULTS] = {
    [PICA_SIM_STALL] = {"stall", 100},
    [PICA_SIM_WAIT_EINTR] = {"wait-eintr", 3000},
    [PICA_SIM_SPURIOUS] = {"spurious-wake", 6000},
    [PICA_SIM_SUBMIT_PARTIAL] = {"partial-submit", 8000},
    [PICA_SIM_SUBMIT_ENOMEM] = {"submit-enomem", 300},
    [PICA_SIM_OVERFLOW] = {"cq-overflow", 8000},
    [PICA_SIM_LATE] = {"late-success", 20000},
    [PICA_SIM_SLOW] = {"slow", 2000},
    [PICA_SIM_CALL_EINTR] = {"eintr", 4000},
    [PICA_SIM_SHORT_READ] = {"short-read", 12000},
    [PICA_SIM_SHORT_WRITE] = {"short-write", 12000},
    [PICA_SIM_RESET] = {"reset", 150},
    [PICA_SIM_ENOBUFS] = {"enobufs", 100},
    [PICA_SIM_EMFILE] = {"emfile", 3000},
    [PICA_SIM_ABORTED] = {"accept-aborted", 3000},
    [PICA_SIM_MULTISHOT] = {"multishot-end", 6000},
    [PICA_SIM_REFUSED] = {"refused", 2000},
    [PICA_SIM_TIMEDOUT] = {"timed-out", 1000},
    [PICA_SIM_EIO] = {"eio", 500},
    [PICA_SIM_ENOSPC] = {"enospc", 500},
    [PICA_SIM_NAMES] = {"names", 4000},
    [PICA_SIM_LOSS] = {"loss", 5000},
    [PICA_SIM_DUPLICATE] = {"duplicate", 4000},
    [PICA_SIM_REORDER] = {"reorder", 8000},
    [PICA_SIM_ENOMEM] = {"enomem", 0}, /* see pica__sim_enomem */
};

/* Whether a list as "3,7-9" has n. */
static bool listed(const char *list, uint64_t n) {
    while (list != NULL && *list != '\0') {
        char *end;
        uint64_t first = strtoull(list, &end, 10);
        uint64_t last = first;
        if (*end == '-') {
            last = strtoull(end + 1, &end, 10);
        }
        if (n >= first && n <= last) {
            return true;
        }
        list = *end == ',' ? end + 1 : NULL;
    }
    return false;
}

static void mix(uint64_t value) {
    uint64_t h = (pica__the_sim.hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    pica__the_sim.hash = h ^ (h >> 29);
}

/* As many bytes of options.choices as a choice takes, or NULL: none were given, or they have run out. */
static const uint8_t *chosen(pica__sim *sim, size_t size) {
    if (sim->options.choices_size - sim->chosen < size) {
        sim->chosen = sim->options.choices_size;
        return NULL;
    }
    const uint8_t *at = (const uint8_t *)sim->options.choices + sim->chosen;
    sim->chosen += size;
    return at;
}

static uint32_t below(pica__sim *sim, enum pica__sim_stream stream, uint32_t n) {
    size_t size = n <= 256 ? 1 : n <= 65536 ? 2 : 4;
    const uint8_t *at = chosen(sim, size);
    if (at == NULL) {
        return pica__random_below(&sim->stream[stream], n);
    }
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value = value << 8 | at[i];
    }
    return value % n;
}

/* One byte for each question, of which the highest values mean that it happens: zeros are a good world. */
static bool is_due(pica__sim *sim, uint32_t rate) {
    const uint8_t *at = chosen(sim, 1);
    if (at == NULL) {
        return pica__random_below(&sim->stream[PICA__SIM_FAULTS], 65536) < rate;
    }
    return *at >= 255u - rate / 256;
}

uint32_t pica__sim_draw(enum pica__sim_stream stream, uint32_t n) {
    if (n == 1) {
        return 0;
    }
    pica__sim *sim = &pica__the_sim;
    uint32_t value = below(sim, stream, n);
    sim->report.choices++;
    mix((uint64_t)value | (uint64_t)stream << 40);
    return value;
}

void pica__sim_note(uint64_t what) {
    mix(what ^ UINT64_C(0x5851f42d4c957f2d));
}

/* It does, unless it is to be left out. */
static bool happens(enum pica_sim_fault kind) {
    pica__sim *sim = &pica__the_sim;
    uint64_t number = sim->fault_number++;
    if (sim->options.skip != NULL && listed(sim->options.skip, number)) {
        return false;
    }
    sim->report.choices++;
    sim->report.faults++;
    sim->report.fault[kind]++;
    mix((uint64_t)kind | UINT64_C(0xfa) << 48);
    return true;
}

bool pica__sim_fault(enum pica_sim_fault kind) {
    pica__sim *sim = &pica__the_sim;
    if (sim->rate[kind] == 0 || sim->points >= sim->healed_at || sim->ending ||
        !is_due(sim, sim->rate[kind])) {
        return false;
    }
    return happens(kind);
}

/* Not each allocation is asked about, which would cost also those of real programs: alloc.c counts down to the one
 * that fails. */
static void enomem_arm(void) {
    enum { SELDOM = 300 };
    pica__alloc_fail_at(1 + pica__random_below(&pica__the_sim.stream[PICA__SIM_FAULTS], SELDOM));
}

bool pica__sim_enomem(void) {
    pica__sim *sim = &pica__the_sim;
    if (sim->points >= sim->healed_at || sim->settling) {
        return false; /* and no more */
    }
    enomem_arm();
    return !sim->in_hook && !sim->sheltered && happens(PICA_SIM_ENOMEM);
}

int64_t pica__sim_delay(void) {
    uint32_t r = pica__sim_draw(PICA__SIM_TIME, 8);
    int64_t delay = r < 3 ? 0 : (int64_t)pica__sim_draw(PICA__SIM_TIME, r < 6 ? 5000u : 200000u);
    return pica__sim_fault(PICA_SIM_SLOW) ? delay * 100 + 1000000 : delay;
}

uint64_t pica__sim_random_seed(void) {
    return (uint64_t)pica__sim_draw(PICA__SIM_USER, UINT32_MAX) + 1;
}

void pica__sim_count(unsigned workers, uint64_t tasks) {
    pica__sim *sim = &pica__the_sim;
    sim->report.workers = workers > sim->report.workers ? workers : sim->report.workers;
    sim->report.tasks += tasks;
}

bool pica__sim_migrate(void) {
    pica__sim_point();
    uint32_t often = pica__the_sim.migrate;
    return often != 0 && pica__sim_draw(PICA__SIM_SCHEDULE, often) == 0;
}

unsigned pica__sim_workers(void) {
    return pica__the_sim.workers;
}

int pica__sim_steal(void) {
    return pica__the_sim.steal;
}

/* --- what a seed decides once --- */

static void rates_begin(pica__sim *sim) {
    const struct pica_sim_options *o = &sim->options;
    bool storm = o->storm > 0 || (o->storm == 0 && pica__sim_draw(PICA__SIM_FAULTS, 4) == 0);
    sim->healed_at = storm ? 300 + pica__sim_draw(PICA__SIM_FAULTS, 4000) : UINT64_MAX;
    unsigned percent = o->faults == 0 ? 100 : o->faults < 0 ? 0 : (unsigned)o->faults;
    for (int kind = 0; kind < PICA_SIM_FAULTS; kind++) {
        /* Two thirds of the kinds, so that some runs have a kind to themselves. */
        bool active = pica__sim_draw(PICA__SIM_FAULTS, 3) != 0 || storm;
        unsigned rate = faults[kind].rate * (storm ? 3u : 1u) * percent / 100;
        sim->rate[kind] = (uint16_t)(!active ? 0 : rate > 30000 ? 30000 : rate);
    }
    if (sim->rate[PICA_SIM_WAIT_EINTR] == 0 && percent != 0) {
        /* Of the two that any program meets, without files and sockets, there is one. */
        sim->rate[PICA_SIM_SPURIOUS] = faults[PICA_SIM_SPURIOUS].rate;
    }
}

static void strategy_begin(pica__sim *sim) {
    const struct pica_sim_options *o = &sim->options;
    uint32_t r = pica__sim_draw(PICA__SIM_SCHEDULE, 8);
    int drawn = r < 5 ? PICA_SIM_UNIFORM : r < 7 ? PICA_SIM_PCT : PICA_SIM_STARVE;
    sim->report.strategy = o->strategy != 0 ? o->strategy : drawn;
    sim->changes = pica__sim_draw(PICA__SIM_SCHEDULE, 4);
    for (unsigned i = sim->changes; i-- > 0;) {
        /* Descending, so that the next one is the last. */
        uint64_t later = i + 1 < sim->changes ? sim->change[i + 1] : 0;
        sim->change[i] = later + 1 + pica__sim_draw(PICA__SIM_SCHEDULE, 3000);
    }
    sim->starved = pica__sim_draw(PICA__SIM_SCHEDULE, 4);
    r = pica__sim_draw(PICA__SIM_SCHEDULE, 8);
    sim->migrate = r < 5 ? 0 : r < 7 ? 8 : 1;
    r = pica__sim_draw(PICA__SIM_SCHEDULE, 6);
    sim->steal = o->steal != 0 ? o->steal : r == 0 ? PICA_SIM_STEAL_NEVER : r == 1;
}

void pica__sim_chance_begin(void) {
    static const uint32_t grains[] = {1, 100, 1000, 20000};
    pica__sim *sim = &pica__the_sim;
    for (unsigned i = 0; i < PICA__SIM_STREAMS; i++) {
        pica__random_init(&sim->stream[i], sim->seed * PICA__SIM_STREAMS + i);
    }
    sim->hash = sim->seed;
    if (sim->options.memory > 0) {
        enomem_arm();
    }
    sim->grain = grains[pica__sim_draw(PICA__SIM_TIME, 4)];
    rates_begin(sim);
    strategy_begin(sim);
    uint32_t r = pica__sim_draw(PICA__SIM_SCHEDULE, 32);
    sim->workers = sim->options.workers != 0 ? sim->options.workers
                   : r < 1                   ? 1
                   : r < 14                  ? 2
                   : r < 23                  ? 3
                   : r < 29                  ? 4
                                             : 8;
}

/* --- public --- */

const char *pica_sim_fault_name(int fault) {
    return fault >= 0 && fault < PICA_SIM_FAULTS ? faults[fault].name : "unknown";
}

int pica_simulated(void) {
    return pica__simulated();
}

uint32_t pica_sim_choose(uint32_t n) {
    return pica__simulated() ? pica__sim_draw(PICA__SIM_USER, n) : 0;
}

int pica_sim_keep(void) {
    if (!pica__simulated()) {
        return 1;
    }
    uint64_t number = pica__the_sim.keep_number++;
    return pica__the_sim.options.drop == NULL || !listed(pica__the_sim.options.drop, number);
}

void pica_sim_note(uint64_t what) {
    if (pica__simulated()) {
        pica__sim_note(what);
    }
}
