/*
 * For guests that look at what they were handed by a boot protocol. They end through the
 * debug-exit port: status 43 if all was well, 2 N + 1 if the check N was not.
 */
#ifndef STRATA_TESTS_BOOT_H
#define STRATA_TESTS_BOOT_H

#include "tests/guests/pvh.h"

#define DEBUG_EXIT 0xf4
#define ALL_WELL   21

#ifdef __ASSEMBLER__
/* clang-format off */

/* The string at ESI and a newline on COM1. Uses EAX, EDX and ESI. */
.macro PUTS
    mov $ABI_SERIAL_PORT, %edx
8:  cmpb $0, (%esi)
    je 9f
    outsb
    jmp 8b
9:  mov $'\n', %al
    out %al, (%dx)
.endm

/* ECX bytes at ESI. Uses EDX. */
.macro PUT_BYTES
    mov $ABI_SERIAL_PORT, %edx
    rep outsb
.endm

.macro LEAVE number
    mov $\number, %eax
    out %eax, $DEBUG_EXIT
7:  hlt
    jmp 7b
.endm

/* Goes on if the condition holds, else ends with check `number` failed. */
.macro EXPECT condition number
    j\condition 6f
    LEAVE \number
6:
.endm
/* clang-format on */
#endif

#endif
