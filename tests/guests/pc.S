/*
 * What a PC has: does what the first letter of the boot arguments says.
 *   c  prints feature words of CPUID, as hexadecimal numbers
 *   t  prints the clock's century, year, month, day, hours, minutes, as they are in it
 *   p  has the interval timer count down, and says whether it did
 *   i  says whether the first PIC's inputs are masked
 *   o  powers off, r resets, v goes to the reset vector, x reports a panic
 * Ends with status 9 where it was still there afterwards.
 */
#include "tests/guests/pvh.h"

#define CMDLINE_PADDR 24 /* of hvm_start_info */
#define RTC_PORT      0x70
#define PIT_CHANNEL_2 0x42
#define PIT_CONTROL   0x43
#define PIT_GATE      0x61
#define PVPANIC_PORT  0x505
#define ACPI_SLEEP    0x600
#define ACPI_RESET    0x602
#define TRIES         3000000

PVH_KERNEL pc_start

pc_start:
    mov $stack_end, %esp
    mov CMDLINE_PADDR(%ebx), %eax
    mov (%eax), %al
    cmp $'c', %al
    je cpuid_words
    cmp $'t', %al
    je clock
    cmp $'p', %al
    je timer
    cmp $'i', %al
    je pic
    cmp $'o', %al
    je power_off
    cmp $'r', %al
    je reset
    cmp $'v', %al
    je vector
    cmp $'x', %al
    je panic
still_here:
    END 9

pic:
    in $0x21, %al
    cmp $0xff, %al
    jne still_here
    SAY masked
    END 0

power_off:
    SAY off
    mov $ACPI_SLEEP, %edx
    mov $(5 << 2), %al /* the type alone does nothing */
    out %al, (%dx)
    or $0x20, %al
    out %al, (%dx)
    jmp still_here

reset:
    SAY resetting
    mov $ACPI_RESET, %edx
    mov $0x51, %al
    out %al, (%dx)
    inc %al
    out %al, (%dx)
    jmp still_here

vector:
    SAY resetting
    mov $0xffff0, %eax
    jmp *%eax

panic:
    SAY panicking
    mov $PVPANIC_PORT, %edx
    mov $2, %al
    out %al, (%dx)
    in (%dx), %al
    out %al, (%dx)
    jmp still_here

/* One register of one leaf. */
.macro WORD leaf, subleaf, reg
    mov $\leaf, %eax
    mov $\subleaf, %ecx
    cpuid
    mov %\reg, %eax
    call print
.endm

cpuid_words:
    WORD 1, 0, ecx
    WORD 1, 0, edx
    WORD 7, 0, ebx
    WORD 0x80000001, 0, ecx
    WORD 0x80000001, 0, edx
    WORD 0xd, 0, eax
    WORD 0x40000010, 0, eax
    END 0

clock:
    mov $clock_registers, %ebx
1:  mov (%ebx), %al
    test %al, %al
    jz 2f
    mov $RTC_PORT, %edx
    out %al, (%dx)
    inc %edx
    xor %eax, %eax
    in (%dx), %al
    call print
    inc %ebx
    jmp 1b
2:  END 0

/* Channel 2, mode 0: its output rises when the count has come to zero. */
timer:
    mov $0xb0, %al
    out %al, $PIT_CONTROL
    in $PIT_GATE, %al
    and $0xfc, %al
    or $1, %al
    out %al, $PIT_GATE
    mov $0xff, %al
    out %al, $PIT_CHANNEL_2
    mov $0x0f, %al
    out %al, $PIT_CHANNEL_2
    in $PIT_GATE, %al
    test $0x20, %al
    jnz too_early
    mov $TRIES, %ecx
1:  in $PIT_GATE, %al
    test $0x20, %al
    jnz 2f
    loop 1b
    SAY never
    END 1
2:  SAY counted
    END 0
too_early:
    SAY early
    END 1

/* EAX in eight digits, and a newline. Keeps EBX. */
print:
    mov %eax, %edi
    mov $8, %ecx
    mov $ABI_SERIAL_PORT, %edx
1:  rol $4, %edi
    mov %edi, %eax
    and $0xf, %eax
    mov digits(%eax), %al
    out %al, (%dx)
    loop 1b
    mov $'\n', %al
    out %al, (%dx)
    ret

    .section .rodata
digits:
    .ascii "0123456789abcdef"
clock_registers:
    .byte 0x32, 9, 8, 7, 4, 2, 0

    .bss
    .balign 16
    .skip 4096
stack_end:
