/*
 * For guests in assembler: PVH_KERNEL names the entry. There the CPU is in 32-bit
 * protected mode with flat segments, paging off, no stack, EBX = start info
 * (xen/include/public/arch-x86/hvm/start_info.h); the note is
 * XEN_ELFNOTE_PHYS32_ENTRY of xen/include/public/elfnote.h.
 */
#ifndef STRATA_TESTS_PVH_H
#define STRATA_TESTS_PVH_H

#include "guest/abi/machine.h"

#ifdef __ASSEMBLER__
/* clang-format off */
#define PVH_NOTE_ENTRY 18

.macro PVH_KERNEL entry
    .pushsection .note.pvh, "a", @note
    .balign 4
    .long 4, 4, PVH_NOTE_ENTRY
    .asciz "Xen"
    .long \entry
    .popsection
    .section .note.GNU-stack, "", @progbits
    .text
    .code32
.endm

/* A word and a newline on COM1. Uses EAX, EDX and ESI. */
.macro SAY word
    .pushsection .rodata
7:  .asciz "\word\n"
    .popsection
    mov $7b, %esi
    mov $ABI_SERIAL_PORT, %edx
8:  outsb
    cmpb $0, (%esi)
    jne 8b
.endm

/* Ends the machine. */
.macro END status
    mov $(ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT), %edx
    mov $\status, %eax
    out %eax, (%dx)
9:  hlt
    jmp 9b
.endm
/* clang-format on */
#endif

#endif
