/*
 * Switching between stacks.
 *
 * A context is where an execution stands while it does not run: its stack pointer. Everything else
 * (the registers that a called function must preserve, and the place to go on) is on that stack.
 * Floating-point control (MXCSR, x87 control word, FPCR) and the signal mask are not part of it:
 * they belong to the thread, and saving them would cost several times the switch.
 *
 * Invariants: a context is resumed once per save; whoever resumes it has seen the save (the two
 * threads are ordered by whatever handed the context over). `hi` and everything above it is the
 * caller's: nothing here writes there.
 *
 * The code is one assembly file per architecture, with unwinding information that is right at every
 * instruction, so that a debugger or profiler that stops in the middle of a switch sees one of the
 * two executions, and an unwinder ends cleanly at a context's first function.
 */
#ifndef PICA__RUNTIME_BASE_CONTEXT_H
#define PICA__RUNTIME_BASE_CONTEXT_H

#include <stdint.h>

typedef struct pica__context {
    void *sp; /* written by the switch away, read by the switch back */
} pica__context;

/*
 * Prepares *c so that the first switch to it calls entry(arg) on the stack [lo, hi). `hi` must be a
 * multiple of 16. `entry` must never return; if it does, the process dies by a trap. Writes only to
 * the topmost PICA__CONTEXT_BYTES of the stack.
 */
void pica__context_make(pica__context *c, void *lo, void *hi, void (*entry)(void *), void *arg);

/*
 * Saves the callee-saved registers, notes in *from where they are, and resumes *to; returns when
 * somebody switches back to *from. *from is written before *to is read, so a switch from a context
 * to itself returns at once.
 */
void pica__context_switch(pica__context *from, const pica__context *to);

#if defined(__AVX512F__)
#define PICA__CONTEXT_AVX512                                                                         \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",      \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define PICA__CONTEXT_AVX512
#endif

/* The same for a function that runs at each switch. It must make a call besides, so that the compiler keeps
 * nothing below its stack pointer (the red zone). */
static inline __attribute__((always_inline)) void pica__context_pass(pica__context *from, const pica__context *to) {
#if defined(__x86_64__)
    /* Everything that a call may change. Why it is none: context_x86_64.S. */
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
                     "jmp pica__context_swap\n"
                     "1:"
                     : "+D"(from), "+S"(to)
                     :
                     : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory", "st", "st(1)", "st(2)",
                       "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
                       "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15" PICA__CONTEXT_AVX512);
#else
    pica__context_switch(from, to);
#endif
}

/* The first function of every context, for tests: the outermost frame of every backtrace. */
void pica__context_entry(void);

/* What a context that does not run occupies at the top of its used stack. */
#if defined(__x86_64__)
#define PICA__CONTEXT_BYTES 56
#elif defined(__aarch64__)
#define PICA__CONTEXT_BYTES 160
#else
#error "no context switch for this architecture"
#endif

/*
 * The floating-point control of this thread in one word: rounding, masks, flush-to-zero; without
 * the status bits that ordinary arithmetic sets. Debug builds compare it across a switch, since a
 * task that changes it and suspends would change it for the worker's other tasks. About 5 ns.
 */
static inline uint64_t pica__context_fp_control(void) {
#if defined(__x86_64__)
    uint32_t mxcsr;
    uint16_t cw;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(cw));
    return (uint64_t)(mxcsr & ~UINT32_C(0x3f)) | (uint64_t)cw << 32;
#else
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
#endif
}

#endif
