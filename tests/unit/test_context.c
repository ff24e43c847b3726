/* The context switch: registers, argument and alignment, many contexts, unwinding. */
#include <fenv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#include "runtime/base/compiler.h"
#include "runtime/base/context.h"
#include "tests/support/gdb.h"
#include "tests/support/pt.h"

enum { STACK = 16384 };

struct fiber {
    pica__context context;
    pica__context *back;
    long count;
    long seed;
    void *arg;
    char *memory;
};

static void make_fiber(struct fiber *f, void (*entry)(void *), pica__context *back) {
    *f = (struct fiber){.back = back};
    f->memory = aligned_alloc(16, STACK);
    PT_REQUIRE(f->memory != NULL);
    pica__context_make(&f->context, f->memory, f->memory + STACK, entry, f);
}

/* ---- entry ---- */

static void check_entry(void *arg) {
    struct fiber *f = arg;
    char on_stack;
    PT_CHECK(&on_stack >= f->memory && &on_stack < f->memory + STACK);
    /* The frame address is 16 bytes below the stack pointer before the call, on both ABIs. */
    PT_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    /* A vector register spilled to its aligned place faults if the stack is misaligned. */
    volatile _Alignas(16) char aligned[16] = {0};
    PT_EQ((uintptr_t)aligned % 16, 0);
    f->count = 1;
    pica__context_switch(&f->context, f->back);
    f->count = 2;
    pica__context_switch(&f->context, f->back);
    PT_FAIL("resumed once too often");
}

PT_TEST(entry_gets_argument_and_aligned_stack) {
    pica__context here;
    struct fiber f;
    make_fiber(&f, check_entry, &here);
    pica__context_switch(&here, &f.context);
    PT_EQ(f.count, 1);
    pica__context_switch(&here, &f.context);
    PT_EQ(f.count, 2);
    free(f.memory);
}

PT_TEST(make_writes_only_the_top) {
    _Alignas(16) char memory[1024];
    memset(memory, 0x5a, sizeof memory);
    pica__context c;
    pica__context_make(&c, memory, memory + 512, check_entry, NULL);
    PT_CHECK((char *)c.sp == memory + 512 - PICA__CONTEXT_BYTES);
    for (size_t i = 0; i < sizeof memory; i++) {
        bool inside = i >= 512 - PICA__CONTEXT_BYTES && i < 512;
        if (!inside && !PT_EQ(memory[i], 0x5a)) {
            break;
        }
    }
}

PT_TEST(switch_to_itself_returns) {
    pica__context c;
    for (int i = 0; i < 1000; i++) {
        pica__context_switch(&c, &c);
    }
    PT_CHECK(c.sp != NULL);
}

/* ---- registers ---- */

/*
 * unsigned long test_keep(from, to, seed): fills every callee-saved register with a value made from
 * the seed, switches, and returns a mask of the registers that came back changed.
 */
unsigned long test_keep(pica__context *from, const pica__context *to, long seed);

/* clang-format off */
#if defined(__x86_64__)
enum { KEPT = 6 };
__asm__(
    "    .text\n"
    "    .globl test_keep\n"
    "    .type test_keep, @function\n"
    "test_keep:\n"
    "    .cfi_startproc\n"
    "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n"
    "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    pushq %rdx\n"
    "    .cfi_adjust_cfa_offset 56\n"
    "    leaq 1(%rdx), %rbx\n    leaq 2(%rdx), %rbp\n    leaq 3(%rdx), %r12\n"
    "    leaq 4(%rdx), %r13\n    leaq 5(%rdx), %r14\n    leaq 6(%rdx), %r15\n"
    "    call pica__context_switch\n"
    "    popq %rdx\n"
    "    .cfi_adjust_cfa_offset -8\n"
    "    xorl %eax, %eax\n"
    ".macro compare reg, n\n"
    "    subq %rdx, \\reg\n"
    "    cmpq $\\n, \\reg\n"
    "    je 1f\n"
    "    orq $(1 << \\n), %rax\n"
    "1:\n"
    ".endm\n"
    "    compare %rbx, 1\n    compare %rbp, 2\n    compare %r12, 3\n"
    "    compare %r13, 4\n    compare %r14, 5\n    compare %r15, 6\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n    popq %rbx\n"
    "    .cfi_adjust_cfa_offset -48\n"
    "    ret\n"
    "    .cfi_endproc\n"
    "    .size test_keep, . - test_keep\n");
#else
enum { KEPT = 19 };
__asm__(
    "    .text\n"
    "    .globl test_keep\n"
    "    .type test_keep, %function\n"
    "test_keep:\n"
    "    sub sp, sp, #176\n"
    "    stp x19, x20, [sp, #0]\n    stp x21, x22, [sp, #16]\n    stp x23, x24, [sp, #32]\n"
    "    stp x25, x26, [sp, #48]\n    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
    "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n    stp d12, d13, [sp, #128]\n"
    "    stp d14, d15, [sp, #144]\n    str x2, [sp, #160]\n"
    ".macro fill reg, n\n    add \\reg, x2, #\\n\n.endm\n"
    ".macro fillf reg, n\n    add x9, x2, #\\n\n    fmov \\reg, x9\n.endm\n"
    ".macro compare reg, n\n"
    "    sub x9, \\reg, x2\n    cmp x9, #\\n\n    cset x9, ne\n    orr x0, x0, x9, lsl #\\n\n"
    ".endm\n"
    ".macro comparef reg, n\n    fmov x10, \\reg\n    compare x10, \\n\n.endm\n"
    "    fill x19, 1\n    fill x20, 2\n    fill x21, 3\n    fill x22, 4\n    fill x23, 5\n"
    "    fill x24, 6\n    fill x25, 7\n    fill x26, 8\n    fill x27, 9\n    fill x28, 10\n"
    "    fill x29, 11\n"
    "    fillf d8, 12\n    fillf d9, 13\n    fillf d10, 14\n    fillf d11, 15\n"
    "    fillf d12, 16\n    fillf d13, 17\n    fillf d14, 18\n    fillf d15, 19\n"
    "    bl pica__context_switch\n"
    "    ldr x2, [sp, #160]\n"
    "    mov x0, #0\n"
    "    compare x19, 1\n    compare x20, 2\n    compare x21, 3\n    compare x22, 4\n"
    "    compare x23, 5\n    compare x24, 6\n    compare x25, 7\n    compare x26, 8\n"
    "    compare x27, 9\n    compare x28, 10\n    compare x29, 11\n"
    "    comparef d8, 12\n    comparef d9, 13\n    comparef d10, 14\n    comparef d11, 15\n"
    "    comparef d12, 16\n    comparef d13, 17\n    comparef d14, 18\n    comparef d15, 19\n"
    "    ldp x19, x20, [sp, #0]\n    ldp x21, x22, [sp, #16]\n    ldp x23, x24, [sp, #32]\n"
    "    ldp x25, x26, [sp, #48]\n    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
    "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n    ldp d12, d13, [sp, #128]\n"
    "    ldp d14, d15, [sp, #144]\n"
    "    add sp, sp, #176\n"
    "    ret\n"
    "    .size test_keep, . - test_keep\n");
#endif
/* clang-format on */

static void keep_loop(void *arg) {
    struct fiber *f = arg;
    for (;;) {
        f->count++;
        PT_EQ(test_keep(&f->context, f->back, f->seed), 0);
    }
}

PT_TEST(callee_saved_registers_survive) {
    pica__context here;
    struct fiber f[2];
    for (int i = 0; i < 2; i++) {
        make_fiber(&f[i], keep_loop, &here);
        f[i].seed = 0x1234567800000000 + 0x1000000 * (i + 1);
    }
    for (int i = 0; i < 1000; i++) {
        PT_EQ(test_keep(&here, &f[i % 2].context, -0x7654321000000000 + i * 64), 0);
    }
    PT_EQ(f[0].count + f[1].count, 1000);
    free(f[0].memory);
    free(f[1].memory);
}

static void overwrite_registers(void *arg) {
    struct fiber *f = arg;
    f->count = (long)test_keep(&f->context, f->back, 1);
    pica__context_switch(&f->context, f->back);
}

/* That the check above can fail: a saved register changed behind the context's back is reported. */
PT_TEST(register_check_notices_a_change) {
    pica__context here;
    struct fiber f;
    make_fiber(&f, overwrite_registers, &here);
    pica__context_switch(&here, &f.context);
    uint64_t *frame = f.context.sp;
    for (int i = 0; i < PICA__CONTEXT_BYTES / 8; i++) {
        bool is_return = i == (PICA__CONTEXT_BYTES == 56 ? 6 : 11);
        frame[i] += is_return ? 0 : 1000;
    }
    pica__context_switch(&here, &f.context);
    PT_EQ(__builtin_popcountl((unsigned long)f.count), KEPT);
    free(f.memory);
}

PT_TEST(fp_control_shows_the_rounding_mode) {
    uint64_t before = pica__context_fp_control();
    volatile double inexact = 1.0;
    inexact = inexact / 3.0; /* sets a status bit, which is not control */
    PT_CHECK(inexact > 0.3);
    PT_CHECK(pica__context_fp_control() == before);
    PT_EQ(fesetround(FE_DOWNWARD), 0);
    PT_CHECK(pica__context_fp_control() != before);
    PT_EQ(fesetround(FE_TONEAREST), 0);
    PT_CHECK(pica__context_fp_control() == before);
}

/* ---- many contexts ---- */

static void ring_loop(void *arg) {
    struct fiber *f = arg;
    struct fiber *next = f->arg;
    long local = 0;
    for (;;) {
        local++;
        f->count = local;
        pica__context_switch(&f->context, next != NULL ? &next->context : f->back);
    }
}

PT_TEST(million_switches_between_1000_contexts) {
    enum { FIBERS = 1000, ROUNDS = 1000 };
    struct fiber *f = calloc(FIBERS, sizeof *f);
    PT_REQUIRE(f != NULL);
    pica__context here;
    for (int i = 0; i < FIBERS; i++) {
        make_fiber(&f[i], ring_loop, &here);
        f[i].arg = i + 1 < FIBERS ? &f[i + 1] : NULL;
    }
    for (int i = 0; i < ROUNDS; i++) {
        pica__context_switch(&here, &f[0].context);
    }
    for (int i = 0; i < FIBERS; i++) {
        PT_EQ(f[i].count, ROUNDS);
        free(f[i].memory);
    }
    free(f);
}

/* ---- unwinding ---- */

struct trace {
    int frames;
    bool in_entry; /* the last frame was pica__context_entry */
};

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *uc, void *arg) {
    struct trace *t = arg;
    if (_Unwind_GetIP(uc) == 0) {
        return _URC_NO_REASON; /* libgcc shows the end as a frame of its own */
    }
    t->frames++;
    t->in_entry = _Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(uc)) ==
                  (void *)(uintptr_t)pica__context_entry;
    return t->frames < 100 ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static PICA__NOINLINE int unwind_deep(int depth, struct trace *t) {
    int rc = 0;
    if (depth > 0) {
        rc = unwind_deep(depth - 1, t);
    } else {
        rc = (int)_Unwind_Backtrace(count_frame, t);
    }
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return rc;
}

static void unwind_entry(void *arg) {
    struct fiber *f = arg;
    struct trace t = {0};
    PT_EQ(unwind_deep(5, &t), _URC_END_OF_STACK);
    /* unwind_deep six times, this function, pica__context_entry; perhaps the unwinder itself. */
    PT_CHECK(t.frames >= 8 && t.frames <= 9);
    PT_CHECK(t.in_entry);
    pica__context_switch(&f->context, f->back);
}

PT_TEST(unwinding_ends_at_the_entry) {
    pica__context here;
    struct fiber f;
    make_fiber(&f, unwind_entry, &here);
    pica__context_switch(&here, &f.context);
    free(f.memory);
}

/* For gdb: a switch that enters a new context, one back, and one that resumes it. */
static void stepped_fiber(void *arg) {
    struct fiber *f = arg;
    pica__context_switch(&f->context, f->back);
    pica__context_switch(&f->context, f->back);
}

PT_TEST_HIDDEN(stepped_by_gdb, 60) {
    pica__context here;
    struct fiber f;
    make_fiber(&f, stepped_fiber, &here);
    pica__context_switch(&here, &f.context);
    pica__context_switch(&here, &f.context);
    free(f.memory);
}

enum { GDB_STEPS = 80 }; /* four switches of 18 instructions, and what lies between them */

/* Stops at every instruction of four switches. */
PT_TEST_TIMEOUT(gdb_unwinds_at_every_instruction, 60) {
    struct gdb_steps seen = gdb_step("pica__context_switch", "stepped_by_gdb", GDB_STEPS);
    PT_CHECK(seen.on_thread >= 20);
    PT_CHECK(seen.on_fiber >= 20);
}

PT_MAIN()
