/*
 * The way into windows_fuzz.c: long mode, the first 4 GiB mapped one to one, a stack. The
 * C code's result is the machine's exit status.
 */
#include "tests/guests/pvh.h"

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

    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $pointers, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    mov $EFER_LME, %eax
    xor %edx, %edx
    wrmsr
    mov %cr0, %eax
    or $CR0_PG, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $in_long_mode

    .code64
in_long_mode:
    xor %eax, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov $(stack + STACK_BYTES), %rsp
    mov %ebp, %edi
    call windows_fuzz
    mov $(ABI_DOORBELL_PORT + ABI_DOORBELL_EXIT), %edx
    out %eax, (%dx)
2:  hlt
    jmp 2b

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* code, 64 bits */
gdt_pointer:
    .word 15
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
    .skip STACK_BYTES
