/*
 * A bzImage with nothing of Linux in it (Documentation/arch/x86/boot.rst): its payload
 * looks at boot_params, and says the command line and the initrd.
 */
#include "tests/guests/boot.h"

#define PAYLOAD   0x1000000 /* pref_address */
#define INIT_SIZE 0x100000

/* boot_params */
#define RSDP         0x070
#define E820_ENTRIES 0x1e8
#define LOADER       0x210
#define RAMDISK      0x218
#define RAMDISK_SIZE 0x21c
#define CMD_LINE_PTR 0x228
#define E820_TABLE   0x2d0

    .section .note.GNU-stack, "", @progbits
    .section .setup, "a"
    .org 0x1ef
    .byte 0xff                /* the sentinel, not to be copied */
    .org 0x1f1
    .byte 1                   /* setup_sects */
    .word 0
    .long syssize             /* as the linker script has it */
    .word 0, 0, 0
    .word 0xaa55
    .byte 0xeb, header_end - header_jumped
header_jumped:
    .ascii "HdrS"
    .word 0x20f
    .long 0
    .word 0, 0
    .byte 0, 1                /* type_of_loader; loadflags: LOADED_HIGH */
    .word 0
    .long 0x100000, 0, 0, 0
    .word 0
    .byte 0, 0
    .long 0, 0x7fffffff       /* cmd_line_ptr, initrd_addr_max */
    .long 0x200000            /* kernel_alignment */
    .byte 1, 21               /* relocatable_kernel, min_alignment */
    .word 1                   /* xloadflags: XLF_KERNEL_64 */
    .long 2047                /* cmdline_size */
    .long 0
    .quad 0
    .long 0, 0
    .quad 0
    .quad PAYLOAD
    .long INIT_SIZE
    .long 0, 0
header_end:
    .org 0x400

    .section .payload, "ax"
payload:
    .code32
    LEAVE 1                   /* the 32-bit entry */
    .org 0x200
    .code64
    mov %rsi, %rbp
    mov $stack, %esp
    SAY bzimage
    mov %cs, %eax
    cmp $0x10, %eax
    EXPECT e 2
    mov %ss, %eax
    cmp $0x18, %eax
    EXPECT e 3
    mov %eax, %ds
    pushq $0x10
    pushq $1f
    lretq
1:  cmpb $0, 0x1ef(%rbp)
    EXPECT e 4
    cmpb $0xff, LOADER(%rbp)
    EXPECT e 5
    cmpb $3, E820_ENTRIES(%rbp)
    EXPECT e 6
    cmpq $0x100000, E820_TABLE + 40(%rbp)
    EXPECT e 7
    mov RSDP(%rbp), %rax
    cmpl $0x20445352, (%rax)  /* "RSD " */
    EXPECT e 8
    mov CMD_LINE_PTR(%rbp), %esi
    PUTS
    mov RAMDISK(%rbp), %esi
    mov RAMDISK_SIZE(%rbp), %ecx
    PUT_BYTES
    LEAVE ALL_WELL

    .balign 16
    .skip 64
stack:
