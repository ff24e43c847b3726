/*
 * The frame under a task's function, for x86-64: see barrier.h.
 *
 * The encoding 0x1b of the personality routine is "four bytes, relative to where they stand": it is
 * hidden and in the same image, so the way round a relocated pointer that compilers take is not needed.
 *
 * The note at the end promises landing pads (IBT), as the context switch does (context_x86_64.S):
 * the linker keeps only what every object promises.
 */
#if defined(__x86_64__)

    .hidden pica__barrier_personality

    .text

    .globl pica__barrier_call
    .hidden pica__barrier_call
    .type pica__barrier_call, @function
    .p2align 4
pica__barrier_call:
    .cfi_startproc
    .cfi_personality 0x1b, pica__barrier_personality
    endbr64
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    movq %rdi, %rax
    movq %rsi, %rdi
    callq *%rax
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size pica__barrier_call, . - pica__barrier_call

/* GNU_PROPERTY_X86_FEATURE_1_AND with IBT (1) and without SHSTK (2). */
    .section .note.gnu.property, "a", @note
    .p2align 3
    .long 4
    .long 16
    .long 5
    .asciz "GNU"
    .long 0xc0000002
    .long 4
    .long 1
    .long 0

#endif

    .section .note.GNU-stack, "", %progbits
