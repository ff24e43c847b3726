/* The memory of the SPIN models: a store buffer for each process.
 *
 * A store waits in the buffer of its process, and gets out in the order of the program, at the
 * latest at a fence. A load sees what its own process stored last, else what is out. A read-
 * modify-write acts on what is out and does not empty the buffer (with -DX86 it does): so it is no
 * fence, as on ARM and in C11, and what a fence of the library's is for is not done by chance by
 * the lock next to it. A lock that is given back is a store like others, so what was done under it
 * is out before the lock is.
 *
 * A process that sleeps or ends has emptied its buffer before: to get out later is the same as to
 * fall asleep later.
 *
 * (The skips are there because SPIN lets no break lead to a d_step.)
 *
 * In each process: BUFFER; the variables are elements of mem, named by numbers; `defect` is what
 * is wrong, and `at_once` says that stores do not wait: where fences do not matter, that makes a
 * model of more parties small enough.
 */
#define DEPTH 6
byte mem[VARIABLES];

#define BUFFER byte bvar[DEPTH], bval[DEPTH], bn, bi

inline out_one() {
    d_step {
        mem[bvar[0]] = bval[0];
        bn--;
        bi = 0;
        do
        :: bi < bn -> bvar[bi] = bvar[bi + 1]; bval[bi] = bval[bi + 1]; bi++
        :: else -> bvar[bn] = 0; bval[bn] = 0; bi = 0; break
        od
    }
}

/* atomic_thread_fence(memory_order_seq_cst) */
inline fence() {
    do
    :: bn > 0 -> out_one()
    :: bn == 0 -> break
    od;
    skip
}

/* The same, unless the defect is that it is missing. */
inline fence_but(missing) {
    do
    :: bn > 0 && defect != missing -> out_one()
    :: bn == 0 || defect == missing -> break
    od;
    skip
}

/* In a d_step: nobody sees it yet. */
inline store(var, val) {
    if
    :: at_once -> mem[var] = val
    :: else -> bvar[bn] = var; bval[bn] = val; bn++
    fi
}

/* What waits may get out before it. */
inline load(var, to) {
    do
    :: bn > 0 -> out_one()
    :: d_step {
            to = mem[var];
            bi = 0;
            do
            :: bi < bn && bvar[bi] == var -> to = bval[bi]; bi++
            :: bi < bn && bvar[bi] != var -> bi++
            :: bi == bn -> bi = 0; break
            od
        };
        break
    od;
    skip
}

/* runtime/base/lock.h. Who waits for a lock gets its own stores out. What is done under it is one
 * step: of all that, others see nothing but the stores, and those later; so there mem is read
 * directly. */
inline lock(var) {
    do
    :: atomic { mem[var] == 0 -> mem[var] = 1; break }
    :: bn > 0 -> out_one()
    od;
    skip
}

/* In a d_step. */
inline unlock(var) {
    store(var, 0)
}
