/*
 * Pokes at everything: no access of a guest may end the VMM. Reads all ports up to
 * 0xfff in two widths (not one is absent for the CPU: what nobody claims reads as
 * ones), rings bad checkpoints, writes the hypercall port and COM1 in the wrong widths,
 * and touches memory where there is none. Ends with status 0 if it lived.
 */
#include "tests/guests/pvh.h"

PVH_KERNEL hostile_start

#define LAST_PORT 0xfff

hostile_start:
    SAY hostile
    xor %edx, %edx
1:  in (%dx), %al
    in (%dx), %eax
    inc %edx
    cmp $LAST_PORT, %edx
    jb 1b

    /* Frames outside RAM, unaligned to any record, and the largest number. */
    mov $ABI_HYPERCALL_PORT, %edx
    mov $0xffffffff, %eax
    out %eax, (%dx)
    mov $0x000fffff, %eax
    out %eax, (%dx)
    xor %eax, %eax
    out %eax, (%dx)
    /* In widths and at offsets that the hypercall port does not have. */
    out %al, (%dx)
    out %ax, (%dx)
    add $2, %edx
    out %eax, (%dx)
    add $11, %edx
    out %eax, (%dx)
    in (%dx), %ax

    /* COM1: four registers at once, then across its end. */
    mov $ABI_SERIAL_PORT, %edx
    mov $0x03000041, %eax
    out %eax, (%dx)
    add $7, %edx
    out %eax, (%dx)
    in (%dx), %eax

    /* Memory that is neither RAM nor a device. */
    mov $0xd0000ffd, %esi
    mov (%esi), %eax
    mov %eax, (%esi)
    movb $1, (%esi)
    mov $ABI_IOAPIC_GPA, %esi
    mov 0x7c(%esi), %eax

    END 0
