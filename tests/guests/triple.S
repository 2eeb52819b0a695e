/* A fault with no handler for it, nor for the fault that follows. */
#include "tests/guests/pvh.h"

PVH_KERNEL triple_start

triple_start:
    SAY triple
    lidt nothing
    ud2

    .balign 8
nothing:
    .quad 0
