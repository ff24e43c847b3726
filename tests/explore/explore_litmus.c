/* The explorer's own test: small programs of which it is known what each memory allows. What is found must be
 * exactly that: less, and the explorer would miss defects; more, and it would report what cannot be.
 * Each program runs with sleep sets and with a bound on preemptions. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/explore/explore.h"

static struct {
    _Atomic int x, y;
    int r[4];
} *m;

static unsigned seen; /* outcomes of all executions, as bits */

#define LOAD(v, order) atomic_load_explicit(&m->v, memory_order_##order)
#define STORE(v, value, order) atomic_store_explicit(&m->v, value, memory_order_##order)
#define FENCE(order) atomic_thread_fence(memory_order_##order)

#define THREAD(name, ...)            \
    static void name(void *arg) {    \
        (void)arg;                   \
        __VA_ARGS__                  \
    }

/* Store buffering. */
THREAD(sb_a, STORE(x, 1, relaxed); m->r[0] = LOAD(y, relaxed);)
THREAD(sb_b, STORE(y, 1, relaxed); m->r[1] = LOAD(x, relaxed);)
THREAD(sbf_a, STORE(x, 1, relaxed); FENCE(seq_cst); m->r[0] = LOAD(y, relaxed);)
THREAD(sbf_b, STORE(y, 1, relaxed); FENCE(seq_cst); m->r[1] = LOAD(x, relaxed);)
THREAD(sbs_a, STORE(x, 1, seq_cst); m->r[0] = LOAD(y, seq_cst);)
THREAD(sbs_b, STORE(y, 1, seq_cst); m->r[1] = LOAD(x, seq_cst);)
THREAD(sbr_a, atomic_fetch_add_explicit(&m->x, 1, memory_order_acq_rel); m->r[0] = LOAD(y, acquire);)
THREAD(sbr_b, atomic_fetch_add_explicit(&m->y, 1, memory_order_acq_rel); m->r[1] = LOAD(x, acquire);)
THREAD(sbar_a, STORE(x, 1, release); FENCE(acq_rel); m->r[0] = LOAD(y, acquire);)
THREAD(sbar_b, STORE(y, 1, release); FENCE(acq_rel); m->r[1] = LOAD(x, acquire);)

/* Message passing: x is the message, y the flag. */
THREAD(mp_a, STORE(x, 1, relaxed); STORE(y, 1, relaxed);)
THREAD(mp_b, m->r[0] = LOAD(y, relaxed); m->r[1] = LOAD(x, relaxed);)
THREAD(mpr_a, STORE(x, 1, relaxed); STORE(y, 1, release);)
THREAD(mpr_b, m->r[0] = LOAD(y, acquire); m->r[1] = LOAD(x, relaxed);)
THREAD(mpf_a, STORE(x, 1, relaxed); FENCE(release); STORE(y, 1, relaxed);)
THREAD(mpf_b, m->r[0] = LOAD(y, relaxed); FENCE(acquire); m->r[1] = LOAD(x, relaxed);)
/* A relaxed read-modify-write in between keeps the chain; only y == 2 is looked at. */
THREAD(mpc_c, int old = 1;
       (void)atomic_compare_exchange_strong_explicit(&m->y, &old, 2, memory_order_relaxed,
                                                     memory_order_relaxed);)
THREAD(mpc_b, m->r[0] = LOAD(y, acquire) == 2; m->r[1] = LOAD(x, relaxed);)

/* Independent reads of independent writes; outcome 1: the readers disagree. */
THREAD(iriw_w1, STORE(x, 1, release);)
THREAD(iriw_w2, STORE(y, 1, release);)
THREAD(iriw_r1, m->r[0] = LOAD(x, acquire); m->r[1] = LOAD(y, acquire);)
THREAD(iriw_r2, m->r[2] = LOAD(y, acquire); m->r[3] = LOAD(x, acquire);)
THREAD(iriws_w1, STORE(x, 1, seq_cst);)
THREAD(iriws_w2, STORE(y, 1, seq_cst);)
THREAD(iriws_r1, m->r[0] = LOAD(x, seq_cst); m->r[1] = LOAD(y, seq_cst);)
THREAD(iriws_r2, m->r[2] = LOAD(y, seq_cst); m->r[3] = LOAD(x, seq_cst);)

/* One location: two reads in order, and two increments. */
THREAD(co_a, STORE(x, 1, relaxed);)
THREAD(co_b, m->r[0] = LOAD(x, relaxed); m->r[1] = LOAD(x, relaxed);)
THREAD(inc, int old = LOAD(x, relaxed);
       while (!atomic_compare_exchange_weak_explicit(&m->x, &old, old + 1, memory_order_relaxed,
                                                     memory_order_relaxed)) {})

static void begin(void) {
    m = ex_alloc(sizeof *m);
    ex_name(&m->x, "x");
    ex_name(&m->y, "y");
}

static void add(void (*fn)(void *)) {
    ex_thread("thread", fn, NULL, false);
}

#define SETUP2(name, a, b)          \
    static void setup_##name(void) { \
        begin();                    \
        add(a);                     \
        add(b);                     \
    }
SETUP2(sb, sb_a, sb_b)
SETUP2(sbf, sbf_a, sbf_b)
SETUP2(sbs, sbs_a, sbs_b)
SETUP2(sbr, sbr_a, sbr_b)
SETUP2(sbar, sbar_a, sbar_b)
SETUP2(mp, mp_a, mp_b)
SETUP2(mpr, mpr_a, mpr_b)
SETUP2(mpf, mpf_a, mpf_b)
SETUP2(co, co_a, co_b)
SETUP2(inc, inc, inc)

static void setup_mpc(void) {
    begin();
    add(mpr_a);
    add(mpc_c);
    add(mpc_b);
}

static void setup_iriw(void) {
    begin();
    add(iriw_w1);
    add(iriw_w2);
    add(iriw_r1);
    add(iriw_r2);
}

static void setup_iriws(void) {
    begin();
    add(iriws_w1);
    add(iriws_w2);
    add(iriws_r1);
    add(iriws_r2);
}

/* Outcome: r0 + 2 * r1. */
static void finish2(void) {
    seen |= 1u << (m->r[0] + 2 * m->r[1]);
}

static void finish_iriw(void) {
    seen |= 1u << (m->r[0] == 1 && m->r[1] == 0 && m->r[2] == 1 && m->r[3] == 0);
}

static void finish_inc(void) {
    seen |= 1u << LOAD(x, relaxed);
}

/* Bits 0 to 3: 00, 10, 01, 11 as r0 r1. */
enum { R00 = 1, R10 = 2, R01 = 4, R11 = 8 };

static const char *expect(unsigned wanted) {
    static char text[80];
    unsigned found = seen;
    seen = 0;
    if (found == wanted) {
        return NULL;
    }
    (void)snprintf(text, sizeof text, "outcomes %#x, not %#x", found, wanted);
    return text;
}

#define JUDGE(name, in_sc, in_tso, in_c11)                                                      \
    static const char *judge_##name(const char *memory) {                                       \
        return expect(strcmp(memory, "sc") == 0 ? (in_sc) : strcmp(memory, "tso") == 0 ? (in_tso) \
                                                                                       : (in_c11)); \
    }
JUDGE(sb, R10 | R01 | R11, R00 | R10 | R01 | R11, R00 | R10 | R01 | R11)
JUDGE(sbf, R10 | R01 | R11, R10 | R01 | R11, R10 | R01 | R11)
JUDGE(sbr, R10 | R01 | R11, R10 | R01 | R11, R00 | R10 | R01 | R11)
JUDGE(mp, R00 | R01 | R11, R00 | R01 | R11, R00 | R01 | R10 | R11)
JUDGE(mpr, R00 | R01 | R11, R00 | R01 | R11, R00 | R01 | R11)
JUDGE(iriw, 1, 1, 3)
JUDGE(iriws, 1, 1, 1)
JUDGE(inc, 4, 4, 4)

#define LITMUS(name, shows, setup, finish, judge)                                            \
    {"litmus." name, shows, setup, finish, NULL, {EX_ALL, 0}, {9, 9}, {EX_ALL, EX_ALL}, judge}, \
    {"litmus." name ".bound", shows, setup, finish, NULL, {9, 0}, {4, 9}, {9, 9}, judge}

const struct ex_scenario ex_scenarios[] = {
    LITMUS("sb", "relaxed store buffering", setup_sb, finish2, judge_sb),
    LITMUS("sb.fence", "with seq_cst fences", setup_sbf, finish2, judge_sbf),
    LITMUS("sb.seq_cst", "with seq_cst accesses", setup_sbs, finish2, judge_sbf),
    LITMUS("sb.rmw", "with acq_rel changes: x86 forbids, C11 allows", setup_sbr, finish2, judge_sbr),
    LITMUS("sb.acq_rel", "an acq_rel fence does not help", setup_sbar, finish2, judge_sb),
    LITMUS("mp", "relaxed message", setup_mp, finish2, judge_mp),
    LITMUS("mp.release", "release and acquire", setup_mpr, finish2, judge_mpr),
    LITMUS("mp.fences", "release and acquire fences", setup_mpf, finish2, judge_mpr),
    LITMUS("mp.chain", "through a relaxed change", setup_mpc, finish2, judge_mpr),
    LITMUS("iriw", "readers may disagree", setup_iriw, finish_iriw, judge_iriw),
    LITMUS("iriw.seq_cst", "readers agree", setup_iriws, finish_iriw, judge_iriws),
    LITMUS("coherence", "no reader goes back", setup_co, finish2, judge_mpr),
    LITMUS("increment", "no change is lost", setup_inc, finish_inc, judge_inc),
};
const unsigned ex_scenario_count = EX_COUNT(ex_scenarios);
