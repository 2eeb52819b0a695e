/*
 * Breaks its own page tables while it runs on them, and spins with interrupts off. Where the
 * processor has forgotten the translation it faults, and has no handler for that.
 */
#include "tests/guests/pvh.h"

#define CR0_PG     0x80000000
#define CR4_PAE    0x20
#define EFER       0xc0000080
#define EFER_LME   0x100
#define PTE_PW     0x003
#define PTE_LARGE  0x083
#define FAR_OFF    0x7f00000003 /* far beyond the end of RAM, present and writable */

PVH_KERNEL broken_start

broken_start:
    SAY broken
    movl $(pdpt + PTE_PW), pml4
    movl $(pd + PTE_PW), pdpt
    movl $PTE_LARGE, pd
    mov $pml4, %eax
    mov %eax, %cr3
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov %cr0, %eax
    or $CR0_PG, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    cli
    mov $0x9000, %esp
    mov $FAR_OFF, %rax
    mov %rax, pdpt
1:  pause
    jmp 1b

    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff
gdt_pointer:
    .word 15
    .long gdt

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd:
    .skip 4096
