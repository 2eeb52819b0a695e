/* The least a guest can do to be seen: a byte on COM1. Then it ends the machine. */
#include "guest/abi/machine.h"
#include "tests/guests/pvh.h"

PVH_KERNEL first_start

    .globl first_start, first_end
first_start:
    mov $ABI_SERIAL_PORT, %edx
    mov $'!', %al
    out %al, (%dx)
    mov $(ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT), %edx
    xor %eax, %eax
    out %eax, (%dx)
1:  hlt
    jmp 1b
first_end:
