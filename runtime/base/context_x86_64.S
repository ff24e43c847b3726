/*
 * The context switch for x86-64, System V ABI.
 *
 * Saved, on the stack that is left: rbp, rbx, r12-r15 and the return address, 56 bytes. All other
 * registers are the caller's to save, since it made a call.
 *
 * The return is a pop and an indirect jump. A `ret` would be predicted from the processor's stack
 * of return addresses, which belongs to the other execution, so it would be mispredicted at every
 * switch between two that stand in different places (8.6 against 2.4 ns). `notrack` because a return
 * address has no landing pad.
 *
 * pica__context_swap is the same, jumped to with the place to go on in rax (pica__context_pass): what a
 * call would leave on the stack of return addresses nobody would take from it, so that each return of
 * the other execution would be predicted from the place of the one above it. Without, tasks that wait
 * in the same place return as the one before them was called: 7 against 33 ns for three frames.
 *
 * Unwinding: both stacks have the same layout at the instruction that exchanges the stack pointer,
 * so the description before it also holds behind it, and means the other execution from there on.
 *
 * The note at the end promises landing pads (IBT) and, on purpose, no shadow stack (SHSTK): this
 * switch does not switch shadow stacks. The linker then turns it off for the whole program, where
 * otherwise the first switch would fault.
 */
#if defined(__x86_64__)

    /* The first of PICA__EACH's functions (compiler.h), which begin a page. */
    .section .text.sorted.pica.0, "ax", @progbits
    .p2align 12

    .globl pica__context_switch
    .hidden pica__context_switch
    .type pica__context_switch, @function
    .globl pica__context_swap
    .hidden pica__context_swap
    .type pica__context_swap, @function
    .p2align 6
pica__context_switch:
    .cfi_startproc
    endbr64
    popq %rax
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rax
pica__context_swap:
    pushq %rax
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rip, -8
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    notrack jmpq *%rcx
    .cfi_endproc
    .size pica__context_switch, . - pica__context_switch
    .size pica__context_swap, . - pica__context_swap

/*
 * The first frame of every context: rbx is the function, r12 its argument, the stack is empty. Its
 * return address is declared undefined, which is how an unwinder knows that it has reached the end.
 * The nop stands there because unwinders look up the address before a return address, and the place
 * to go on of a context that has not run yet is pica__context_start.
 */
    .globl pica__context_entry
    .hidden pica__context_entry
    .type pica__context_entry, @function
    .globl pica__context_start
    .hidden pica__context_start
    .type pica__context_start, @notype
    .p2align 4
pica__context_entry:
    .cfi_startproc
    .cfi_undefined %rip
    .cfi_def_cfa %rsp, 0
    nop
pica__context_start:
    endbr64
    movq %r12, %rdi
    callq *%rbx
    ud2
    .cfi_endproc
    .size pica__context_entry, . - pica__context_entry

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
