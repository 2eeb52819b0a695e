/* Spins with interrupts off: nothing but an NMI can end that. */
#include "tests/guests/pvh.h"

PVH_KERNEL spin_off_start

spin_off_start:
    SAY spin-off
    cli
1:  pause
    jmp 1b
