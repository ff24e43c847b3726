/*
 * The frame under a task's function, for aarch64: see barrier.h.
 *
 * The encoding 0x1b of the personality routine is "four bytes, relative to where they stand": it is
 * hidden and in the same image, so the way round a relocated pointer that compilers take is not needed.
 *
 * The note at the end promises landing pads (BTI), as the context switch does (context_aarch64.S):
 * the linker keeps only what every object promises.
 */
#if defined(__aarch64__)

    .hidden pica__barrier_personality

    .text

    .globl pica__barrier_call
    .hidden pica__barrier_call
    .type pica__barrier_call, %function
    .p2align 4
pica__barrier_call:
    .cfi_startproc
    .cfi_personality 0x1b, pica__barrier_personality
    hint #34 /* bti c */
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset 29, -16
    .cfi_offset 30, -8
    mov x29, sp
    mov x2, x0
    mov x0, x1
    blr x2
    ldp x29, x30, [sp], #16
    .cfi_def_cfa_offset 0
    .cfi_restore 29
    .cfi_restore 30
    ret
    .cfi_endproc
    .size pica__barrier_call, . - pica__barrier_call

/* GNU_PROPERTY_AARCH64_FEATURE_1_AND with BTI (1). */
    .section .note.gnu.property, "a", %note
    .p2align 3
    .long 4
    .long 16
    .long 5
    .asciz "GNU"
    .long 0xc0000000
    .long 4
    .long 1
    .long 0

#endif

    .section .note.GNU-stack, "", %progbits
