/*
 * A Multiboot kernel (specification 0.6.96): says what it was told, and checks what it
 * can. Built as ELF of 64 and of 32 bits, and with -DFIELDS as plain code whose header
 * says where it goes.
 */
#include "tests/guests/boot.h"

#define MAGIC 0x1badb002
#ifdef FIELDS
#define FLAGS 0x10003
#else
#define FLAGS 0x3
#endif

/* multiboot_info */
#define LOWER        4
#define UPPER        8
#define CMDLINE      16
#define MODS_COUNT   20
#define MODS_ADDR    24
#define MMAP_LENGTH  44
#define MMAP_ADDR    48
#define LOADER       64
#define INFO_FLAGS   0x24d /* memory, command line, modules, memory map, loader */

    .section .note.GNU-stack, "", @progbits
    .section .multiboot, "a"
    .balign 4
header:
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
#ifdef FIELDS
    .long header, multiboot_load, multiboot_load_end, multiboot_bss_end, multiboot_start
#endif

    .text
    .code32
    .globl multiboot_start
multiboot_start:
    cmp $0x2badb002, %eax
    EXPECT e 1
    mov $stack, %esp
    mov %ebx, %ebp
    SAY multiboot
    mov (%ebp), %eax
    and $INFO_FLAGS, %eax
    cmp $INFO_FLAGS, %eax
    EXPECT e 2
    cmpl $639, LOWER(%ebp)
    EXPECT e 3
    /* Only what is not in the file can show that nobody filled it. */
    cmpl $0, zeroes
    EXPECT e 4
    cmpl $0, zeroes_end - 4
    EXPECT e 5
    mov LOADER(%ebp), %esi
    PUTS
    mov CMDLINE(%ebp), %esi
    PUTS

    /* The memory map's RAM from 1 MiB on is mem_upper. */
    mov MMAP_ADDR(%ebp), %edi
    mov MMAP_LENGTH(%ebp), %ecx
    add %edi, %ecx
1:  cmp %ecx, %edi
    EXPECT b 6
    cmpl $0x100000, 4(%edi)
    je 2f
    add (%edi), %edi
    add $4, %edi
    jmp 1b
2:  cmpl $1, 20(%edi)
    EXPECT e 7
    mov 12(%edi), %eax
    shr $10, %eax
    cmp UPPER(%ebp), %eax
    EXPECT e 8

    /* Each module: its string, and its bytes. */
    mov MODS_ADDR(%ebp), %edi
    mov MODS_COUNT(%ebp), %ebx
3:  test %ebx, %ebx
    jz 4f
    mov 8(%edi), %esi
    PUTS
    mov (%edi), %esi
    test $0xfff, %esi
    EXPECT z 9
    mov 4(%edi), %ecx
    sub %esi, %ecx
    PUT_BYTES
    add $16, %edi
    dec %ebx
    jmp 3b
4:  LEAVE ALL_WELL

    .bss
zeroes:
    .skip 0x10000
zeroes_end:
    .skip 0x1000
stack:
