/*
 * Never exits to the VMM again. Interrupts are on, though none comes: with IF clear,
 * Bochs holds back its host's interrupts too, and that host would stand still.
 */
#include "tests/guests/pvh.h"

PVH_KERNEL spin_start

spin_start:
    SAY spin
    sti
1:  jmp 1b
