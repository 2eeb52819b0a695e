/* Waits for an interrupt that cannot come. */
#include "tests/guests/pvh.h"

PVH_KERNEL idle_start

idle_start:
    SAY idle
    cli
1:  hlt
    jmp 1b
