/* A guest kernel that gives up. */
#include "tests/guests/pvh.h"

PVH_KERNEL panic_start

panic_start:
    SAY panic
    mov $(ABI_HYPERCALL_PORT + ABI_HYPERCALL_PANIC), %edx
    xor %eax, %eax
    out %eax, (%dx)
1:  hlt
    jmp 1b
