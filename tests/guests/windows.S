/*
 * The way into windows_fuzz.c: long mode, the first 4 GiB mapped one to one, a stack for
 * each of two CPUs. The C code's result is the machine's exit status.
 */
#include "tests/guests/pvh.h"
#include "tests/guests/windows.h"

#define CR0_PE       (1 << 0)
#define CR0_CACHE_OFF (3 << 29)
#define CR0_PG       (1 << 31)
#define CR4_PAE      (1 << 5)
#define MSR_EFER     0xc0000080
#define EFER_LME     (1 << 8)
#define PRESENT      3    /* and writable */
#define LARGE        0x83 /* the same, a page of 2M */
#define STACK_BYTES  0x4000

PVH_KERNEL windows_start

windows_start:
    cld
    mov %ebx, %ebp
    movl $(directory + PRESENT), pointers
    movl $(pages + PRESENT), directory
    movl $(pages + 0x1000 + PRESENT), directory + 8
    movl $(pages + 0x2000 + PRESENT), directory + 16
    movl $(pages + 0x3000 + PRESENT), directory + 24
    mov $pages, %edi
    mov $LARGE, %eax
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 1b

    mov $(stack + STACK_BYTES), %esp
    call long_mode_on
    lgdt gdt_pointer
    ljmp $8, $in_long_mode

/* Loses eax, ecx, edx. */
long_mode_on:
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $pointers, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    mov $EFER_LME, %eax
    xor %edx, %edx
    wrmsr
    mov %cr0, %eax
    or $(CR0_PG | CR0_PE), %eax
    and $~CR0_CACHE_OFF, %eax
    mov %eax, %cr0
    ret

    .code64
in_long_mode:
    xor %eax, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov $(stack + STACK_BYTES), %rsp
    mov %ebp, %edi
    call windows_fuzz
    mov $(ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT), %edx
    out %eax, (%dx)
2:  hlt
    jmp 2b

/* The second CPU, from a start-up IPI: in real mode, in a copy of this at WINDOWS_AP. */
    .code16
    .globl windows_ap, windows_ap_end
windows_ap:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl WINDOWS_AP + (ap_gdt_pointer - windows_ap)
    mov %cr0, %eax
    or $CR0_PE, %eax
    mov %eax, %cr0
    ljmpl $0x18, $WINDOWS_AP + (ap_32 - windows_ap)
    .code32
ap_32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $(stack + 2 * STACK_BYTES), %esp
    mov $long_mode_on, %eax
    call *%eax
    ljmp $8, $ap_64
    .balign 4
ap_gdt_pointer:
    .word 31
    .long gdt
windows_ap_end:

    .code64
ap_64:
    mov $(stack + 2 * STACK_BYTES), %rsp
    call windows_second
3:  hlt
    jmp 3b

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 0x08: code, 64 bits */
    .quad 0x00cf93000000ffff /* 0x10: data */
    .quad 0x00cf9b000000ffff /* 0x18: code, 32 bits */
gdt_pointer:
    .word 31
    .long gdt

    .bss
    .balign 0x1000
pointers:
    .skip 0x1000
directory:
    .skip 0x1000
pages:
    .skip 0x4000
stack:
    .skip 2 * STACK_BYTES
