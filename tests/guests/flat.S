/*
 * Plain code for --flat, in the mode of -DBITS: says so, and looks at the state that it
 * was started in. Its entry is not at its start.
 */
#include "tests/guests/boot.h"

#define LAPIC_VERSION 0xfee00030

    .section .note.GNU-stack, "", @progbits
    .text
    .ascii "not code"
    .globl flat_start
flat_start:
#if BITS == 16
    .code16
    mov %cs, %eax
    test %eax, %eax
    EXPECT e 1
    mov %ds, %eax
    test %eax, %eax
    EXPECT e 2
    SAY flat16
    LEAVE ALL_WELL
#elif BITS == 32
    .code32
    cmpl $0x336ec578, (%ebx)
    EXPECT e 1
    mov %ebx, %ebp
    SAY flat32
    mov 24(%ebp), %esi
    PUTS
    LEAVE ALL_WELL
#else
    .code64
    cmpl $0x336ec578, (%rbx)
    EXPECT e 1
    mov %rbx, %rbp
    mov $stack, %esp
    SAY flat64
    mov %cs, %eax
    cmp $0x10, %eax
    EXPECT e 2
    mov %ds, %eax
    cmp $0x18, %eax
    EXPECT e 3
    /* The descriptors are where GDTR says. */
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    pushq $0x10
    pushq $1f
    lretq
1:  /* Devices are mapped, up to the last of 4 GiB. */
    mov $LAPIC_VERSION, %esi
    movzbl (%rsi), %eax
    cmp $0x14, %eax
    EXPECT e 4
    mov 24(%rbp), %rsi
    PUTS
    LEAVE ALL_WELL
#endif

    .balign 16
    .skip 64
stack:
