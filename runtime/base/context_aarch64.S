/*
 * The context switch for aarch64, AAPCS64.
 *
 * Saved, on the stack that is left: x19-x30 and the low halves of v8-v15, 160 bytes. All other
 * registers are the caller's to save, since it made a call.
 *
 * The return is a `ret`, unlike on x86-64: where branch targets are checked (BTI), no other branch
 * may land on the instruction behind a call. Return addresses that their function signed (PAC) are
 * kept as they are; each is authenticated by the function that signed it, with its own stack
 * pointer.
 *
 * Unwinding: both stacks have the same layout at the instruction that exchanges the stack pointer,
 * so the description before it also holds behind it, and means the other execution from there on.
 * The saved copies stay described until the stack pointer leaves them.
 *
 * The note at the end promises landing pads (BTI) and no guarded control stack (GCS), which this
 * switch does not switch.
 */
#if defined(__aarch64__)

    /* The first of PICA__EACH's functions (compiler.h), which begin a page. */
    .section .text.sorted.pica.0, "ax", %progbits
    .p2align 12

    .globl pica__context_switch
    .hidden pica__context_switch
    .type pica__context_switch, %function
    .p2align 6
pica__context_switch:
    .cfi_startproc
    hint #34 /* bti c; the hint form is accepted by every assembler */
    sub sp, sp, #160
    .cfi_def_cfa_offset 160
    stp x19, x20, [sp, #0]
    .cfi_offset 19, -160
    .cfi_offset 20, -152
    stp x21, x22, [sp, #16]
    .cfi_offset 21, -144
    .cfi_offset 22, -136
    stp x23, x24, [sp, #32]
    .cfi_offset 23, -128
    .cfi_offset 24, -120
    stp x25, x26, [sp, #48]
    .cfi_offset 25, -112
    .cfi_offset 26, -104
    stp x27, x28, [sp, #64]
    .cfi_offset 27, -96
    .cfi_offset 28, -88
    stp x29, x30, [sp, #80]
    .cfi_offset 29, -80
    .cfi_offset 30, -72
    stp d8, d9, [sp, #96]
    .cfi_offset 72, -64
    .cfi_offset 73, -56
    stp d10, d11, [sp, #112]
    .cfi_offset 74, -48
    .cfi_offset 75, -40
    stp d12, d13, [sp, #128]
    .cfi_offset 76, -32
    .cfi_offset 77, -24
    stp d14, d15, [sp, #144]
    .cfi_offset 78, -16
    .cfi_offset 79, -8
    mov x9, sp
    str x9, [x0]
    ldr x9, [x1]
    mov sp, x9
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    .cfi_def_cfa_offset 0
    .cfi_restore 19
    .cfi_restore 20
    .cfi_restore 21
    .cfi_restore 22
    .cfi_restore 23
    .cfi_restore 24
    .cfi_restore 25
    .cfi_restore 26
    .cfi_restore 27
    .cfi_restore 28
    .cfi_restore 29
    .cfi_restore 30
    .cfi_restore 72
    .cfi_restore 73
    .cfi_restore 74
    .cfi_restore 75
    .cfi_restore 76
    .cfi_restore 77
    .cfi_restore 78
    .cfi_restore 79
    ret
    .cfi_endproc
    .size pica__context_switch, . - pica__context_switch

/*
 * The first frame of every context: x19 is the function, x20 its argument, the stack is empty. Its
 * return address is declared undefined, which is how an unwinder knows that it has reached the end.
 * The nop stands there because unwinders look up the address before a return address, and the place
 * to go on of a context that has not run yet is pica__context_start.
 */
    .globl pica__context_entry
    .hidden pica__context_entry
    .type pica__context_entry, %function
    .globl pica__context_start
    .hidden pica__context_start
    .type pica__context_start, %notype
    .p2align 4
pica__context_entry:
    .cfi_startproc
    .cfi_undefined 30
    nop
pica__context_start:
    mov x0, x20
    blr x19
    brk #1
    .cfi_endproc
    .size pica__context_entry, . - pica__context_entry

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
