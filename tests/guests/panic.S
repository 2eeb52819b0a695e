/* A guest kernel that gives up. */
#include "tests/guests/pvh.h"

PVH_KERNEL panic_start

panic_start:
    SAY panic
    mov $(ABI_DOORBELL_PORT + ABI_DOORBELL_PANIC), %edx
    xor %eax, %eax
    out %eax, (%dx)
1:  hlt
    jmp 1b
