/* Prints every byte that the serial port receives as two hex digits in angle brackets. */
#include "tests/guests/pvh.h"

#define LSR      5
#define LSR_DATA 1

PVH_KERNEL echo_start

.macro PUT_DIGIT /* of AL; uses AL */
    and $0xf, %al
    movzbl %al, %esi
    mov digits(%esi), %al
    mov $ABI_SERIAL_PORT, %edx
    out %al, (%dx)
.endm

.macro PUT char
    mov $\char, %al
    mov $ABI_SERIAL_PORT, %edx
    out %al, (%dx)
.endm

echo_start:
    SAY echo
1:  mov $(ABI_SERIAL_PORT + LSR), %edx
    in (%dx), %al
    test $LSR_DATA, %al
    jz 1b
    mov $ABI_SERIAL_PORT, %edx
    in (%dx), %al
    mov %al, %bl
    PUT '<'
    mov %bl, %al
    shr $4, %al
    PUT_DIGIT
    mov %bl, %al
    PUT_DIGIT
    PUT '>'
    PUT '\n'
    jmp 1b

digits:
    .ascii "0123456789abcdef"
