/* Prints without end. */
#include "tests/guests/pvh.h"

PVH_KERNEL shout_start

shout_start:
1:  SAY shout
    jmp 1b
