/* Waits for an interrupt, as a kernel with nothing to do does: it is not dead. */
#include "tests/guests/pvh.h"

PVH_KERNEL sleep_start

sleep_start:
    SAY sleep
1:  sti
    hlt
    jmp 1b
